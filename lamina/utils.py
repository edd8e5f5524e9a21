"""Small helpers that Keras programs call: ``lm.utils.to_categorical`` and its neighbours."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lamina.core.config import set_random_seed
from lamina.core.errors import DataError
from lamina.core.registry import register_keras_serializable

__all__ = ["PyDataset", "pad_sequences", "register_keras_serializable", "set_random_seed", "to_categorical"]


class PyDataset:
    """The base of data of one's own whose batches are got by their number, as in Keras; ``fit`` takes it for ``x``.

    Args:
        workers: accepted; one thread makes the batches, ahead of their use.
        use_multiprocessing: accepted.
        max_queue_size: accepted.

    >>> class Squares(PyDataset):
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, index):
    ...         x = np.full((2, 1), index, "float32")
    ...         return x, x**2
    >>> len(Squares()), Squares()[2][1].tolist()
    (3, [[4.0], [4.0]])
    """

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10) -> None:
        self.workers, self.use_multiprocessing, self.max_queue_size = workers, use_multiprocessing, max_queue_size

    def __len__(self) -> int:
        """How many batches there are."""
        raise NotImplementedError(f"{type(self).__name__} has no __len__(self), the number of its batches")

    def __getitem__(self, index: int) -> Any:
        """The batch of that number: ``(x, y)`` or ``(x, y, sample_weight)``."""
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__(self, index)")

    def on_epoch_end(self) -> None:
        """Called when all batches have been taken, to shuffle for example."""


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """Class numbers as one-hot rows.

    Args:
        x: whole numbers from 0, of any shape; a last axis of length 1 is dropped.
        num_classes: how many classes there are; one more than the highest number by default.

    Returns:
        float32, with an axis of ``num_classes`` at the end.

    Raises:
        DataError: for a number outside ``0..num_classes-1``.

    >>> to_categorical([0, 2]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    x = np.asarray(x).astype("int64")
    if x.ndim > 1 and x.shape[-1] == 1:
        x = x[..., 0]
    count = num_classes or int(x.max(initial=-1)) + 1
    if x.size and (x.min() < 0 or x.max() >= count):
        raise DataError(f"to_categorical expects classes 0 to {count - 1}; received {x.min()} to {x.max()}")
    return np.eye(count, dtype="float32")[x]


def pad_sequences(
    sequences: Sequence[Sequence[Any]],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0,
) -> np.ndarray:
    """Sequences of unequal lengths as one array.

    Args:
        sequences: lists of numbers.
        maxlen: the length of every row; that of the longest by default.
        dtype: the dtype of the array.
        padding: ``"pre"`` or ``"post"``: where ``value`` is put.
        truncating: ``"pre"`` or ``"post"``: where longer ones are cut.
        value: what fills the rest.

    >>> pad_sequences([[1, 2, 3], [4]], maxlen=2).tolist()
    [[2, 3], [0, 4]]
    """
    length = max((len(row) for row in sequences), default=0) if maxlen is None else maxlen
    out = np.full((len(sequences), length), value, dtype)
    for target, row in zip(out, sequences, strict=True):
        kept = list(row[max(len(row) - length, 0) :] if truncating == "pre" else row[:length])
        if kept:
            place = slice(length - len(kept), None) if padding == "pre" else slice(0, len(kept))
            target[place] = kept
    return out
