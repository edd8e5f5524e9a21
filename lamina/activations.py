r"""Activation functions: plain functions of an array, which keep its shape and its floating dtype.

A layer takes each by name, ``Dense(8, activation="relu")``, or as the function itself.
"""

from typing import Any

import jax
import jax.numpy as jnp

from lamina.core import registry
from lamina.core.errors import ShapeError
from lamina.core.registry import register
from lamina.core.scores import set_scores
from lamina.core.state import Array
from lamina.kernels.batch_normalization import rectified


def _exact(x: Array) -> Array:
    """``x`` in at least single precision, for sums over an axis."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _kept(x: Array) -> Any:
    """The floating dtype in which the result for ``x`` is given."""
    return x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.result_type(float)


@register("activations")
def relu(x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Array:
    r"""Rectified linear unit, :math:`f(x) = \max(x, 0)`.

    In general, :math:`f(x) = \min(x, m)` where :math:`x > t`, and :math:`a (x - t)` elsewhere.

    Args:
        x: any shape.
        negative_slope: the slope :math:`a` below the threshold.
        max_value: the ceiling :math:`m`; ``None`` for no ceiling.
        threshold: the threshold :math:`t`.

    >>> relu([-2.0, 3.0, 9.0], max_value=6.0).tolist()
    [0.0, 3.0, 6.0]
    """
    x = jnp.asarray(x)
    if not negative_slope and max_value is None and not threshold:
        return rectified(x)
    below = negative_slope * (x - threshold) if negative_slope else jnp.zeros_like(x)
    above = x if max_value is None else jnp.minimum(x, max_value)
    return jnp.where(x > threshold, above, below)


@register("activations")
def leaky_relu(x: Any, negative_slope: float = 0.2) -> Array:
    """Leaky rectified linear unit: ``x`` above zero, ``negative_slope * x`` below.

    >>> leaky_relu([-2.0, 3.0], negative_slope=0.5).tolist()
    [-1.0, 3.0]
    """
    return rectified(jnp.asarray(x), negative_slope)


@register("activations")
def relu6(x: Any) -> Array:
    r"""Rectified linear unit with a ceiling, :math:`\min(\max(x, 0), 6)`.

    >>> relu6([-2.0, 3.0, 9.0]).tolist()
    [0.0, 3.0, 6.0]
    """
    return jax.nn.relu6(jnp.asarray(x))


@register("activations")
def softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Array:
    r"""Probabilities, :math:`f(x)_i = e^{x_i} / \sum_j e^{x_j}`; computed in at least single precision.

    Args:
        x: any shape with at least one axis.
        axis: the axis, or axes together, that sum to 1.

    >>> softmax([0.0, 0.0]).tolist()
    [0.5, 0.5]
    """
    x = jnp.asarray(x)
    p = jax.nn.softmax(_exact(x), axis).astype(_kept(x))
    return set_scores(p, "softmax", x, axis) if isinstance(axis, int) else p


@register("activations")
def log_softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Array:
    r"""Logarithm of the softmax, :math:`f(x)_i = x_i - \log \sum_j e^{x_j}`.

    >>> log_softmax([1000.0, 0.0]).tolist()
    [0.0, -1000.0]
    """
    x = jnp.asarray(x)
    return jax.nn.log_softmax(_exact(x), axis).astype(_kept(x))


@register("activations")
def sparsemax(x: Any, axis: int = -1) -> Array:
    r"""The probabilities nearest to ``x``, :math:`f(x)_i = \max(x_i - \tau, 0)` with the :math:`\tau` that sums to 1.

    Martins and Astudillo (2016), "From Softmax to Sparsemax", https://arxiv.org/abs/1602.02068

    >>> sparsemax([2.0, 1.5, -1.0]).tolist()
    [0.75, 0.25, 0.0]
    """
    x = jnp.asarray(x)
    z = jnp.moveaxis(_exact(x), axis, -1)
    ordered = -jnp.sort(-z, axis=-1)
    count = jnp.arange(1, z.shape[-1] + 1, dtype=ordered.dtype)
    total = jnp.cumsum(ordered, axis=-1)
    support = 1 + count * ordered > total  # a prefix: the entries that stay above zero
    size = jnp.sum(support, axis=-1, keepdims=True)
    tau = (jnp.take_along_axis(total, size - 1, axis=-1) - 1) / size.astype(z.dtype)
    return jnp.moveaxis(jnp.maximum(z - tau, 0), -1, axis).astype(_kept(x))


@register("activations")
def elu(x: Any, alpha: float = 1.0) -> Array:
    r"""Exponential linear unit: :math:`x` above zero, :math:`\alpha (e^x - 1)` below.

    Clevert et al. (2015), https://arxiv.org/abs/1511.07289
    """
    return jax.nn.elu(jnp.asarray(x), alpha)


@register("activations")
def selu(x: Any) -> Array:
    r"""Scaled exponential linear unit, :math:`1.0507 \, \mathrm{elu}(x, 1.6733)`; use with ``"lecun_normal"``.

    Klambauer et al. (2017), https://arxiv.org/abs/1706.02515
    """
    return jax.nn.selu(jnp.asarray(x))


@register("activations")
def celu(x: Any, alpha: float = 1.0) -> Array:
    r"""Continuously differentiable ELU, :math:`\max(x, 0) + \min(\alpha (e^{x / \alpha} - 1), 0)`.

    Barron (2017), https://arxiv.org/abs/1704.07483
    """
    return jax.nn.celu(jnp.asarray(x), alpha)


@register("activations")
def glu(x: Any, axis: int = -1) -> Array:
    r"""Gated linear unit, :math:`f(x) = a \, \sigma(b)` for the two halves of ``x`` along ``axis``.

    Dauphin et al. (2016), https://arxiv.org/abs/1612.08083

    Raises:
        ShapeError: if the axis has an odd length.

    >>> glu([3.0, 0.0]).tolist()
    [1.5]
    """
    x = jnp.asarray(x)
    if x.shape[axis] % 2:
        raise ShapeError(
            f"glu expects an even length along axis {axis}, to split it in halves; received shape {x.shape}"
        )
    return jax.nn.glu(x, axis)


@register("activations")
def softplus(x: Any) -> Array:
    r"""A smooth ReLU, :math:`\log(1 + e^x)`."""
    return jax.nn.softplus(jnp.asarray(x))


@register("activations")
def softsign(x: Any) -> Array:
    r"""A slow sigmoid, :math:`x / (1 + |x|)`."""
    return jax.nn.soft_sign(jnp.asarray(x))


@register("activations")
def squareplus(x: Any, b: float = 4) -> Array:
    r"""A smooth ReLU without exponentials, :math:`(x + \sqrt{x^2 + b}) / 2`.

    >>> squareplus([0.0], b=4).tolist()
    [1.0]
    """
    return jax.nn.squareplus(jnp.asarray(x), b)


@register("activations")
def sparse_plus(x: Any) -> Array:
    r"""Zero up to -1, :math:`(x + 1)^2 / 4` between, :math:`x` from 1 on."""
    return jax.nn.sparse_plus(jnp.asarray(x))


@register("activations")
def sparse_sigmoid(x: Any) -> Array:
    r"""Zero up to -1, :math:`(x + 1) / 2` between, one from 1 on."""
    return jax.nn.sparse_sigmoid(jnp.asarray(x))


@register("activations", "swish")
def silu(x: Any) -> Array:
    r"""Sigmoid linear unit, also called swish, :math:`x \, \sigma(x)`.

    Ramachandran et al. (2017), https://arxiv.org/abs/1710.05941
    """
    return jax.nn.silu(jnp.asarray(x))


@register("activations")
def gelu(x: Any, approximate: bool = False) -> Array:
    r"""Gaussian error linear unit, :math:`x \, \Phi(x)` with the normal distribution function :math:`\Phi`.

    Hendrycks and Gimpel (2016), https://arxiv.org/abs/1606.08415

    Args:
        x: any shape.
        approximate: use :math:`\frac{x}{2} (1 + \tanh(\sqrt{2 / \pi} (x + 0.044715 x^3)))`.
    """
    return jax.nn.gelu(jnp.asarray(x), approximate)


@register("activations")
def mish(x: Any) -> Array:
    r""":math:`x \tanh(\log(1 + e^x))`.

    Misra (2019), https://arxiv.org/abs/1908.08681
    """
    return jax.nn.mish(jnp.asarray(x))


@register("activations")
def tanh(x: Any) -> Array:
    """Hyperbolic tangent."""
    return jnp.tanh(jnp.asarray(x))


@register("activations")
def tanh_shrink(x: Any) -> Array:
    r""":math:`x - \tanh(x)`."""
    x = jnp.asarray(x)
    return x - jnp.tanh(x)


@register("activations")
def soft_shrink(x: Any, threshold: float = 0.5) -> Array:
    r""":math:`\mathrm{sign}(x) \max(|x| - t, 0)` with the threshold :math:`t`.

    >>> soft_shrink([-2.0, 0.25]).tolist()
    [-1.5, 0.0]
    """
    x = jnp.asarray(x)
    return jnp.where(x > threshold, x - threshold, jnp.where(x < -threshold, x + threshold, jnp.zeros_like(x)))


@register("activations")
def hard_shrink(x: Any, threshold: float = 0.5) -> Array:
    r"""``x`` where :math:`|x| > t`, zero elsewhere.

    >>> hard_shrink([-2.0, 0.25]).tolist()
    [-2.0, 0.0]
    """
    x = jnp.asarray(x)
    return jnp.where(jnp.abs(x) > threshold, x, jnp.zeros_like(x))


@register("activations")
def threshold(x: Any, threshold: float, default_value: float) -> Array:
    """``x`` above the threshold, ``default_value`` elsewhere.

    >>> threshold([-2.0, 3.0], 0.0, -1.0).tolist()
    [-1.0, 3.0]
    """
    x = jnp.asarray(x)
    return jnp.where(x > threshold, x, jnp.asarray(default_value, x.dtype))


@register("activations")
def sigmoid(x: Any) -> Array:
    r"""Logistic function, :math:`\sigma(x) = 1 / (1 + e^{-x})`.

    >>> sigmoid([0.0]).tolist()
    [0.5]
    """
    x = jnp.asarray(x)
    return set_scores(jax.nn.sigmoid(x), "sigmoid", x)


@register("activations")
def log_sigmoid(x: Any) -> Array:
    r"""Logarithm of the sigmoid, :math:`-\log(1 + e^{-x})`."""
    return jax.nn.log_sigmoid(jnp.asarray(x))


@register("activations")
def hard_sigmoid(x: Any) -> Array:
    r"""The sigmoid in three straight pieces, :math:`\min(\max(x + 3, 0), 6) / 6`."""
    return jax.nn.hard_sigmoid(jnp.asarray(x))


@register("activations", "hard_swish")
def hard_silu(x: Any) -> Array:
    r""":math:`x \min(\max(x + 3, 0), 6) / 6`, also called hard swish.

    Howard et al. (2019), https://arxiv.org/abs/1905.02244
    """
    return jax.nn.hard_silu(jnp.asarray(x))


@register("activations")
def hard_tanh(x: Any) -> Array:
    r"""``x`` cut off at -1 and 1."""
    return jax.nn.hard_tanh(jnp.asarray(x))


@register("activations")
def exponential(x: Any) -> Array:
    """The exponential function."""
    return jnp.exp(jnp.asarray(x))


@register("activations")
def linear(x: Any) -> Any:
    """``x`` itself."""
    return x


swish = silu
hard_swish = hard_silu


def get(identifier: Any) -> Any:
    """The activation that a name or function stands for; ``linear`` for ``None``.

    >>> get("relu") is relu, get(None) is linear
    (True, True)
    """
    return linear if identifier is None else registry.get("activations", identifier)


def slope_of(activation: Any) -> float | None:
    """What an activation multiplies negative numbers by, if that is all it does: kernels then do it in passing.

    >>> slope_of(relu), slope_of(None), slope_of(tanh)
    (0.0, 1.0, None)
    """
    return next((slope for known, slope in _SLOPES if activation is known), None)


_SLOPES: tuple[tuple[Any, float], ...] = ((None, 1.0), (linear, 1.0), (relu, 0.0), (leaky_relu, 0.2))
