"""What ``adapt`` of a preprocessing layer may be given: one array of any kind, or batches of them."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from lamina.core.errors import DataError
from lamina.data.batches import to_array


def batches(data: Any, steps: int | None = None) -> Iterator[np.ndarray]:
    """The arrays in ``data``: itself as one, or those that it yields.

    Args:
        data: an array, a column or table of pandas or polars, a list of numbers or strings; or an iterable of batches,
            each an array or a tuple whose first part is one (``(x, y)``).
        steps: how many batches to take; all by default.

    Raises:
        DataError: if there is nothing in it.

    >>> [batch.tolist() for batch in batches([1.0, 2.0])], [b.tolist() for b in batches([np.ones(1), np.zeros(2)])]
    ([[1.0, 2.0]], [[1.0], [0.0, 0.0]])
    """
    found = False
    for batch in islice(_parts(data), steps):
        array = np.asarray(to_array(_first(batch), "the data of adapt"))
        if array.size:
            found = True
            yield array
    if not found:
        raise DataError("adapt received no data. Give it an array, or an iterable of batches with at least one.")


def _first(batch: Any) -> Any:
    return batch[0] if isinstance(batch, tuple) and batch and hasattr(batch[0], "ndim") else batch


def _is_array(batch: Any) -> bool:
    return getattr(_first(batch), "ndim", 0) != 0


def _parts(data: Any) -> Iterable[Any]:
    if hasattr(data, "__array__") or isinstance(data, str | bytes) or not isinstance(data, Iterable):
        return [data]
    if isinstance(data, list | tuple) and not all(map(_is_array, data)):
        return [data]
    return data
