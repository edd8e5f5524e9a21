"""The product of a dense layer. XLA's own is fast, except for the kernel's gradient, which has a native form."""

from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.typing import Array, Real
from lamina.kernels.operation import Operation, call

#: rows from which on the native gradient is faster than XLA's
ENOUGH_ROWS = 8


def dense(
    x: Real[Array, "*batch inputs"],
    kernel: Real[Array, "inputs outputs"],
    bias: Real[Array, " outputs"] | None = None,
) -> Real[Array, "*batch outputs"]:
    """``x @ kernel + bias``.

    Args:
        x: shape ``(..., inputs)``.
        kernel: shape ``(inputs, outputs)``.
        bias: shape ``(outputs,)``.

    Returns:
        Shape ``(..., outputs)``.

    >>> dense(jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]]), jnp.array([0.5])).tolist()
    [[11.5]]
    """
    return DENSE(x, kernel, jnp.zeros(0, kernel.dtype) if bias is None else bias)


def _portable(x: Array, kernel: Array, bias: Array) -> Array:
    y = jnp.matmul(x, kernel)
    return y + bias if bias.size else y


def _gradients(primals: Any, results: Any, gradients: Any, wanted: Any) -> list[Any]:
    (x, kernel, bias), (g,) = primals, gradients
    found: list[Any] = [None, None, bias]
    if wanted[0]:
        found[0] = jnp.matmul(g, kernel.T).astype(x.dtype)
    if wanted[1] or wanted[2]:
        rows = (a.reshape(-1, a.shape[-1]) for a in (x, g))
        found[1], total = DENSE_GRADIENT(*rows)
        found[1] = found[1].astype(kernel.dtype)
        found[2] = total.astype(bias.dtype) if bias.size else bias
    return found


def _gradient_portable(x: Array, gradient: Array) -> tuple[Array, Array]:
    return jnp.matmul(x.T, gradient), jnp.sum(gradient, 0)


def _gradient_native(x: Array, gradient: Array) -> Any:
    shapes = [(x.shape[1], gradient.shape[1]), (gradient.shape[1],)]
    return call("dense_gradient", [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes], x, gradient)


def _gradient_supports(x: Any, gradient: Any) -> bool:
    return x.dtype == gradient.dtype == "float32" and x.shape[0] >= ENOUGH_ROWS and x.size > 0 and gradient.size > 0


DENSE = Operation("dense", _portable, backward=_gradients)
DENSE_GRADIENT = Operation(
    "dense_gradient",
    _gradient_portable,
    multiple=True,
    native=_gradient_native,
    targets=["dense_gradient"],
    supports=_gradient_supports,
)
