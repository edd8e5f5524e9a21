"""Losses between numbers, vectors and distributions."""

from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.errors import ConfigError
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.losses.base import EPSILON, Loss, paired

__all__ = [
    "CosineSimilarity",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "cosine_similarity",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
]


def mean_squared_error(y_true: Any, y_pred: Any) -> Array:
    r""":math:`\frac{1}{n} \sum (y - \hat y)^2` over the last axis.

    Args:
        y_true: targets :math:`y`, shape ``(..., n)``.
        y_pred: predictions :math:`\hat y`, shape ``(..., n)``.

    Raises:
        ShapeError: if the shapes differ.

    >>> mean_squared_error([[1.0, 2.0]], [[1.0, 4.0]]).tolist()
    [2.0]
    """
    y_true, y_pred = paired(y_true, y_pred, "mean_squared_error")
    return jnp.mean(jnp.square(y_true - y_pred), axis=-1)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Array:
    r""":math:`\frac{1}{n} \sum |y - \hat y|` over the last axis; arguments as in :func:`mean_squared_error`."""
    y_true, y_pred = paired(y_true, y_pred, "mean_absolute_error")
    return jnp.mean(jnp.abs(y_true - y_pred), axis=-1)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Array:
    r""":math:`\frac{100}{n} \sum |y - \hat y| / |y|` over the last axis; arguments as in :func:`mean_squared_error`."""
    y_true, y_pred = paired(y_true, y_pred, "mean_absolute_percentage_error")
    return 100 * jnp.mean(jnp.abs(y_true - y_pred) / jnp.maximum(jnp.abs(y_true), EPSILON), axis=-1)


def mean_squared_logarithmic_error(y_true: Any, y_pred: Any) -> Array:
    r""":math:`\frac{1}{n} \sum (\log(1 + y) - \log(1 + \hat y))^2` over the last axis, negative values taken as zero.

    Arguments as in :func:`mean_squared_error`.
    """
    y_true, y_pred = paired(y_true, y_pred, "mean_squared_logarithmic_error")
    logs = [jnp.log1p(jnp.maximum(y, EPSILON)) for y in (y_true, y_pred)]
    return jnp.mean(jnp.square(logs[0] - logs[1]), axis=-1)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Array:
    r"""The mean of :math:`e^2 / 2` where :math:`|e| \le \delta`, and of :math:`\delta |e| - \delta^2 / 2` elsewhere.

    Arguments as in :func:`mean_squared_error`, with :math:`e = y - \hat y`; Huber (1964), "Robust Estimation of a
    Location Parameter".
    """
    y_true, y_pred = paired(y_true, y_pred, "huber")
    error = jnp.abs(y_true - y_pred)
    small = jnp.minimum(error, delta)  # so that squares of large errors are not even computed
    return jnp.mean(jnp.where(error <= delta, 0.5 * small**2, delta * error - 0.5 * delta**2), axis=-1)


def log_cosh(y_true: Any, y_pred: Any) -> Array:
    r""":math:`\frac{1}{n} \sum \log \cosh(\hat y - y)` over the last axis.

    Arguments as in :func:`mean_squared_error`.
    """
    y_true, y_pred = paired(y_true, y_pred, "log_cosh")
    error = y_pred - y_true
    return jnp.mean(error + jax.nn.softplus(-2 * error) - jnp.log(jnp.asarray(2, error.dtype)), axis=-1)


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    r"""The negative cosine of the angle, :math:`-\sum \frac{y}{|y|} \frac{\hat y}{|\hat y|}` over ``axis``.

    >>> cosine_similarity([[0.0, 2.0]], [[0.0, 5.0]]).tolist()
    [-1.0]
    """
    y_true, y_pred = paired(y_true, y_pred, "cosine_similarity")

    def unit(y: Array) -> Array:
        squares = jnp.sum(jnp.square(y), axis=axis, keepdims=True)
        return y * jax.lax.rsqrt(jnp.maximum(squares, EPSILON**2))

    return -jnp.sum(unit(y_true) * unit(y_pred), axis=axis)


def kl_divergence(y_true: Any, y_pred: Any) -> Array:
    r"""The Kullback-Leibler divergence :math:`\sum y \log(y / \hat y)` of probabilities over the last axis.

    Arguments as in :func:`mean_squared_error`.
    """
    y_true, y_pred = paired(y_true, y_pred, "kl_divergence")
    y_true, y_pred = jnp.clip(y_true, EPSILON, 1), jnp.clip(y_pred, EPSILON, 1)
    return jnp.sum(y_true * jnp.log(y_true / y_pred), axis=-1)


def poisson(y_true: Any, y_pred: Any) -> Array:
    r""":math:`\frac{1}{n} \sum (\hat y - y \log \hat y)` over the last axis, for counts and their rates.

    Arguments as in :func:`mean_squared_error`.
    """
    y_true, y_pred = paired(y_true, y_pred, "poisson")
    return jnp.mean(y_pred - y_true * jnp.log(y_pred + EPSILON), axis=-1)


@register("losses", "mse")
class MeanSquaredError(Loss):
    """The mean squared difference, for regression; see :func:`mean_squared_error` and, for arguments, :class:`Loss`.

    >>> float(MeanSquaredError()([[0.0], [2.0]], [[0.0], [0.0]]))
    2.0
    """

    elementwise = True

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return mean_squared_error(y_true, y_pred)


@register("losses", "mae")
class MeanAbsoluteError(Loss):
    """The mean absolute difference; see :func:`mean_absolute_error` and, for arguments, :class:`Loss`."""

    elementwise = True

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return mean_absolute_error(y_true, y_pred)


@register("losses", "mape")
class MeanAbsolutePercentageError(Loss):
    """The mean difference in percent; see :func:`mean_absolute_percentage_error` and :class:`Loss`."""

    elementwise = True

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return mean_absolute_percentage_error(y_true, y_pred)


@register("losses", "msle")
class MeanSquaredLogarithmicError(Loss):
    """The mean squared difference of logarithms; see :func:`mean_squared_logarithmic_error` and :class:`Loss`."""

    elementwise = True

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return mean_squared_logarithmic_error(y_true, y_pred)


@register("losses", "huber_loss")
class Huber(Loss):
    r"""Squared for small errors and straight for large ones, so that outliers pull less; see :func:`huber`.

    Args:
        delta: the error :math:`\delta` at which the one becomes the other.
        kwargs: see :class:`Loss`.

    Raises:
        ConfigError: for a ``delta`` that is not above zero.
    """

    elementwise = True

    def __init__(self, delta: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not delta > 0:
            raise ConfigError(f"Huber expects a delta above 0; received {delta!r}")
        self.delta = delta

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return huber(y_true, y_pred, self.delta)


@register("losses", "logcosh")
class LogCosh(Loss):
    """A smooth relative of the absolute difference; see :func:`log_cosh` and, for arguments, :class:`Loss`."""

    elementwise = True

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return log_cosh(y_true, y_pred)


@register("losses")
class CosineSimilarity(Loss):
    """The negative cosine of the angle between vectors: -1 for the same direction; see :func:`cosine_similarity`.

    Args:
        axis: the axis along which vectors run.
        kwargs: see :class:`Loss`.
    """

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return cosine_similarity(y_true, y_pred, self.axis)


@register("losses", "kld", "kullback_leibler_divergence")
class KLDivergence(Loss):
    """The divergence of predicted from true probabilities; see :func:`kl_divergence` and :class:`Loss`."""

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return kl_divergence(y_true, y_pred)


@register("losses")
class Poisson(Loss):
    """The negative log-likelihood of counts, less a constant; see :func:`poisson` and :class:`Loss`."""

    elementwise = True

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return poisson(y_true, y_pred)
