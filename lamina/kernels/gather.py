"""Rows picked out of several arrays at once: the batches of arrays that lie on the device."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from lamina.core.typing import Array
from lamina.kernels.operation import Operation, call


def gather_rows(index: Array | np.ndarray, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """``array[index]`` for each of the arrays.

    Args:
        index: int32, of one axis; from 0 to the arrays' length less 1.
        arrays: of the same length.

    >>> [part.tolist() for part in gather_rows(jax.numpy.array([2, 0]), [jax.numpy.arange(3), jax.numpy.eye(3)[:, :2]])]
    [[2, 0], [[0.0, 0.0], [1.0, 0.0]]]
    """
    return GATHER_ROWS(index, *arrays)


def _portable(index: Array, *arrays: Array) -> tuple[Array, ...]:
    return tuple(array[index] for array in arrays)


def _native(index: Array, *arrays: Array) -> Any:
    shapes = [jax.ShapeDtypeStruct((*index.shape, *array.shape[1:]), array.dtype) for array in arrays]
    return call("gather_rows", shapes, index, *arrays)


def _supports(index: Any, *arrays: Any) -> bool:
    return index.dtype == "int32" and index.ndim == 1 and all(array.size > 0 for array in arrays)


GATHER_ROWS = Operation(
    "gather_rows", _portable, multiple=True, native=_native, targets=["gather_rows"], supports=_supports
)
