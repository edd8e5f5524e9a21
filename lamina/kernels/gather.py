"""Rows of arrays that lie in the host's memory, read there by programs that run on a CPU."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina import native
from lamina.core.typing import Array
from lamina.kernels.operation import call

#: where an array of NumPy begins that JAX takes as it is
ALIGNED = 64


def can_gather_rows() -> bool:
    """Whether programs can read the host's memory: they run on a CPU, and the kernel for it was built."""
    return jax.default_backend() == "cpu" and "gather_rows" in native.load().names


class _Memory(bytearray):
    """Memory for numbers that keeps arrays."""

    kept: Sequence[np.ndarray]


def places_of(arrays: Sequence[np.ndarray]) -> Array:
    """Where arrays lie, for :func:`gather_rows`.

    Args:
        arrays: whose rows follow each other in memory.

    Returns:
        uint32, of shape ``(arrays, 3)``: the lower and the upper half of the address, and the number of rows. It keeps the
        arrays, and is itself kept by the programs that are given it, until they have run.
    """
    if not all(array.flags.c_contiguous for array in arrays):
        raise ValueError("the rows of the arrays do not follow each other")
    memory = _Memory(ALIGNED + 12 * len(arrays))
    memory.kept = arrays
    whole = np.frombuffer(memory, "uint8")
    places = whole[-whole.ctypes.data % ALIGNED :][: 12 * len(arrays)].view("uint32").reshape(-1, 3)
    for place, array in zip(places, arrays, strict=True):
        place[:] = array.ctypes.data & 0xFFFFFFFF, array.ctypes.data >> 32, len(array)
    return jax.device_put(places, may_alias=True)  # it is aligned, so it is not copied


def gather_rows(index: Any, step: Any, places: Any, rows: Sequence[jax.ShapeDtypeStruct]) -> tuple[Array, ...]:
    """``array[index[step]]`` for each of the arrays.

    Args:
        index: int32, of shape ``(steps, batch)``; from 0 to the arrays' length less 1.
        step: which of the steps.
        places: where the arrays lie.
        rows: the shape and dtype of a row of each.
    """
    shapes = [jax.ShapeDtypeStruct((index.shape[1], *row.shape), row.dtype) for row in rows]
    return tuple(call("gather_rows", shapes, jnp.asarray(index), jnp.asarray(step, "int32"), jnp.asarray(places)))
