"""The gradient of a dense layer's kernel; and Adam's update by it, natively in one, which never writes the gradient."""

from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.notes import Notes
from lamina.core.typing import Array, Float
from lamina.kernels.operation import Operation, call

#: what gradients of kernels are the products of, by the gradient, as long as a program is traced
_factors = Notes()


def kernel_gradient(x: Float[Array, "rows inputs"], gradient: Float[Array, "rows outputs"]) -> Array:
    r""":math:`x^T g`: the gradient of a kernel, from the layer's input and the gradient of what it gave.

    Args:
        x: shape ``(rows, inputs)``.
        gradient: :math:`g`, of shape ``(rows, outputs)``.

    Returns:
        Shape ``(inputs, outputs)``.

    >>> kernel_gradient(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0]])).tolist()
    [[3.0, 4.0], [6.0, 8.0]]
    """
    result = KERNEL_GRADIENT(x, gradient)
    if isinstance(result, jax.core.Tracer):
        _factors.write(result, (x, gradient))
    return result


def factors(gradient: Any) -> tuple[Array, Array] | None:
    """What :func:`kernel_gradient` was given when it gave this very array; else ``None``."""
    found: tuple[Array, Array] | None = _factors.read(gradient)
    return found


def _portable(x: Array, gradient: Array) -> Array:
    return jnp.matmul(x.T, gradient)


def _native(x: Array, gradient: Array) -> Any:
    return call("kernel_gradient", jax.ShapeDtypeStruct((x.shape[1], gradient.shape[1]), "float32"), x, gradient)


def _floats(*arrays: Any) -> bool:
    return all(array.dtype == "float32" and array.size > 0 for array in arrays)


KERNEL_GRADIENT = Operation("kernel_gradient", _portable, native=_native, targets=["kernel_gradient"], supports=_floats)
