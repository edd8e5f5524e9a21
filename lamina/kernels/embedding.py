"""Rows picked from a table by their numbers; the gradient of the table is native."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.typing import Array, Integer, Real
from lamina.kernels.operation import Operation, call


def take_rows(table: Real[Array, "rows features"], numbers: Integer[Array, "*batch"]) -> Real[Array, "*batch features"]:
    """The rows of ``table`` with these numbers; NaN for a number that no row has. Negative ones count from the end.

    Args:
        table: shape ``(rows, features)``.
        numbers: shape ``(...)``.

    Returns:
        Shape ``(..., features)``.

    >>> take_rows(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([1, 1, 0])).tolist()
    [[3.0, 4.0], [3.0, 4.0], [1.0, 2.0]]
    """
    return EMBEDDING(table, numbers)


def _portable(table: Array, numbers: Array) -> Array:
    return jnp.take(table, numbers, axis=0, mode="fill")


def _gradients(primals: Any, results: Any, gradients: Any, wanted: Any) -> list[Any]:
    (table, numbers), (g,) = primals, gradients
    return [EMBEDDING_GRADIENT(numbers, g, rows=len(table)), None]


def _gradient_portable(numbers: Array, gradient: Array, *, rows: int) -> Array:
    shape = jax.ShapeDtypeStruct((rows, gradient.shape[-1]), gradient.dtype)
    (table,) = jax.linear_transpose(functools.partial(_portable, numbers=numbers), shape)(gradient)
    return table


def _gradient_native(numbers: Array, gradient: Array, *, rows: int) -> Array:
    features = gradient.shape[-1]
    shape, count = jax.ShapeDtypeStruct((rows, features), "float32"), math.prod(numbers.shape)
    return call("embedding_gradient", shape, numbers.reshape(count), gradient.reshape(count, features))


def _gradient_supports(numbers: Any, gradient: Any, *, rows: int) -> bool:
    return numbers.dtype == "int32" and gradient.dtype == "float32" and gradient.size > 0 and rows > 0


EMBEDDING_GRADIENT = Operation(
    "embedding_gradient",
    _gradient_portable,
    native=_gradient_native,
    targets=["embedding_gradient"],
    supports=_gradient_supports,
)
EMBEDDING = Operation("embedding", _portable, backward=_gradients)
