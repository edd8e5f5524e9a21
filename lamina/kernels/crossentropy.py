"""Cross-entropy of one class among several, from scores."""

from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.typing import Array, Float, Integer
from lamina.kernels.operation import Operation, call

#: scores from which on the native form is faster
MANY = 1 << 10


def sparse_crossentropy(
    scores: Float[Array, "*batch classes"], labels: Integer[Array, "*batch"]
) -> Float[Array, "*batch"]:
    r""":math:`\log \sum_c e^{x_c} - x_y`, for scores :math:`x` and the index :math:`y` of the true class.

    Args:
        scores: shape ``(..., classes)``.
        labels: shape ``(...)``, int32.

    Returns:
        Shape ``(...)``; NaN for a label that is no class.

    >>> sparse_crossentropy(jnp.array([[0.0, 0.0], [0.0, 9.0]]), jnp.array([1, 2])).tolist()
    [0.693..., nan]
    """
    losses, _ = CROSSENTROPY(scores.reshape(-1, scores.shape[-1]), labels.reshape(-1))
    return losses.reshape(labels.shape)


def _portable(scores: Array, labels: Array) -> tuple[Array, Array]:
    classes = jnp.arange(scores.shape[1])
    # A comparison with every class rather than a look-up, whose gradient is a slow scatter.
    picked = jnp.sum(jnp.where(labels[:, None] == classes, scores, 0), axis=1)
    logarithms = jax.nn.logsumexp(scores, axis=1)
    is_class = (labels >= 0) & (labels < len(classes))
    return jnp.where(is_class, logarithms - picked, jnp.nan), logarithms


def _gradients(primals: Any, results: Any, gradients: Any, wanted: Any) -> list[Any]:
    (scores, labels), (_, logarithms), (of_loss, _) = primals, results, gradients
    return [GRADIENT(scores, labels, logarithms, of_loss), None]


def _gradient_portable(scores: Array, labels: Array, logarithms: Array, gradient: Array) -> Array:
    chosen = labels[:, None] == jnp.arange(scores.shape[1])
    return gradient[:, None] * (jnp.exp(scores - logarithms[:, None]) - chosen)


def _native(scores: Array, labels: Array) -> Any:
    shape = jax.ShapeDtypeStruct(labels.shape, "float32")
    return call("crossentropy", [shape, shape], scores, labels)


def _gradient_native(scores: Array, labels: Array, logarithms: Array, gradient: Array) -> Any:
    shape = jax.ShapeDtypeStruct(scores.shape, "float32")
    return call("crossentropy_gradient", shape, scores, labels, logarithms, gradient)


def _supports(scores: Any, labels: Any, *others: Any) -> bool:
    floats = all(array.dtype == "float32" for array in (scores, *others))
    return floats and labels.dtype == "int32" and scores.size >= MANY


GRADIENT = Operation(
    "crossentropy_gradient",
    _gradient_portable,
    native=_gradient_native,
    targets=["crossentropy_gradient"],
    supports=_supports,
)
CROSSENTROPY = Operation(
    "crossentropy",
    _portable,
    multiple=True,
    native=_native,
    targets=["crossentropy"],
    supports=_supports,
    backward=_gradients,
)
