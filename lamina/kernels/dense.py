"""Dense layers, with what is added to them."""

from typing import Any

import jax

from lamina.core.notes import Notes
from lamina.core.typing import Array, Bool, Real, Shaped
from lamina.kernels.dense_operations import DENSE, DENSE_GELU, DENSE_TRANSPOSED, nothing
from lamina.kernels.feed_forward import FEED_FORWARD, fits

#: by what layers without an activation gave, as long as a program is traced: how that is worked out with something added to it
_plus = Notes()
#: by what layers with GELU gave: what they were given, and which rows were present
_given_to_gelu = Notes()


def dense(
    x: Real[Array, "*batch inputs"],
    kernel: Real[Array, "inputs outputs"],
    bias: Real[Array, " outputs"] | None = None,
    slope: float = 1.0,
    present: Bool[Array, "*batch"] | None = None,
) -> Real[Array, "*batch outputs"]:
    r""":math:`\sigma(x W + b)`.

    Args:
        x: shape ``(..., inputs)``.
        kernel: :math:`W`, of shape ``(inputs, outputs)``.
        bias: :math:`b`, of shape ``(outputs,)``.
        slope: what :math:`\sigma` multiplies negative numbers by: 0 makes it the rectified linear unit.
        present: shape ``(...)``: False for rows, as of padding, that are left out, and give zeros; all count if it is not
            given.

    Returns:
        Shape ``(..., outputs)``.

    >>> import jax.numpy as jnp
    >>> dense(jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]]), jnp.array([0.5])).tolist()
    [[11.5]]
    """
    bias = nothing(kernel) if bias is None else bias
    rows = [] if present is None else [present]
    if slope != 1:
        return DENSE(x, kernel, bias, nothing(kernel), *rows, slope=float(slope))
    given, given_present = _given_to_gelu.read(x) or (None, None)

    def plus(more: Array) -> Array:
        if given is not None and given_present is present and fits(*given, kernel, bias):
            return FEED_FORWARD(*given, kernel, bias, more, *rows)
        return DENSE(x, kernel, bias, more, *rows, slope=1.0)

    return _noted(_plus, plus, plus(nothing(kernel)))


def with_dense(x: Shaped[Array, "*others"], change: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"] | None:
    """``x + change`` where ``change`` is what a dense layer gives: worked out in one. Else ``None``."""
    plus = _plus.read(change)
    if plus is None or (x.shape, x.dtype) != (change.shape, change.dtype):
        return None
    found: Array = plus(x)
    return found


def dense_gelu(
    x: Real[Array, "*batch inputs"],
    kernel: Real[Array, "inputs outputs"],
    bias: Real[Array, " outputs"] | None = None,
    present: Bool[Array, "*batch"] | None = None,
) -> Real[Array, "*batch outputs"]:
    r"""GELU, in the form with :math:`\tanh`, of :math:`x W + b`, for arrays as in :func:`dense`.

    >>> import jax.numpy as jnp
    >>> dense_gelu(jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [4.0]])).tolist()
    [[11.0]]
    """
    given = x, kernel, nothing(kernel) if bias is None else bias
    rows = [] if present is None else [present]
    return _noted(_given_to_gelu, (given, present), DENSE_GELU(*given, *rows))


def dense_transposed(
    x: Real[Array, "*batch inputs"], kernel: Real[Array, "outputs inputs"]
) -> Real[Array, "*batch outputs"]:
    r""":math:`x W^T`: by how much vectors resemble the rows of a table, as of embeddings.

    Args:
        x: shape ``(..., inputs)``.
        kernel: :math:`W`, of shape ``(outputs, inputs)``.

    Returns:
        Shape ``(..., outputs)``.

    >>> import jax.numpy as jnp
    >>> dense_transposed(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0], [1.0, 0.0]])).tolist()
    [[11.0, 1.0]]
    """
    return DENSE_TRANSPOSED(x, kernel)


def _noted(notes: Notes, note: Any, result: Array) -> Array:
    # not outside compiled code, which computes what is not used, and where arrays would live as long as the result does
    if isinstance(result, jax.core.Tracer):
        notes.write(result, note)
    return result
