"""Metrics for numbers: errors, similarity, correlation and the coefficient of determination."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina import losses
from lamina.core.errors import ConfigError, ShapeError, nearest
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.losses.base import paired
from lamina.metrics.base import EPSILON, Metric
from lamina.metrics.reduction import FunctionMean, weighted


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """The cosine of the angle between targets and predictions along ``axis``."""
    return -losses.cosine_similarity(y_true, y_pred, axis)


def pearson_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """The covariance of targets and predictions along ``axis``, divided by both standard deviations."""
    y_true, y_pred = (_centred(y, axis) for y in paired(y_true, y_pred, "pearson_correlation"))
    deviations = jnp.std(y_true, axis=axis) * jnp.std(y_pred, axis=axis)
    return jnp.mean(y_true * y_pred, axis=axis) / deviations


def concordance_correlation(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    r"""Lin's coefficient, :math:`2\, \mathrm{cov}(y, z) / (\sigma_y^2 + \sigma_z^2 + (\bar y - \bar z)^2)`."""
    y_true, y_pred = paired(y_true, y_pred, "concordance_correlation")
    apart = jnp.square(jnp.mean(y_true, axis=axis) - jnp.mean(y_pred, axis=axis))
    variances = jnp.var(y_true, axis=axis) + jnp.var(y_pred, axis=axis)
    covariance = jnp.mean(_centred(y_true, axis) * _centred(y_pred, axis), axis=axis)
    return 2 * covariance / (variances + apart + EPSILON)


def _centred(y: Array, axis: int) -> Array:
    return y - jnp.mean(y, axis=axis, keepdims=True)


@register("metrics", "mse")
class MeanSquaredError(FunctionMean):
    r"""The mean of :math:`(y - \hat y)^2`.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.

    >>> metric = MeanSquaredError()
    >>> metric.update_state([[0.0], [1.0]], [[1.0], [1.0]]); float(metric([[0.0]], [[3.0]], sample_weight=[2.0]))
    4.75
    """

    elementwise = True

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return losses.mean_squared_error(y_true, y_pred)


@register("metrics", "rmse")
class RootMeanSquaredError(MeanSquaredError):
    r"""The root of the mean of :math:`(y - \hat y)^2`.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    def result(self) -> Array:
        return jnp.sqrt(super().result())


@register("metrics", "mae")
class MeanAbsoluteError(FunctionMean):
    r"""The mean of :math:`|y - \hat y|`.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    elementwise = True

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return losses.mean_absolute_error(y_true, y_pred)


@register("metrics", "mape")
class MeanAbsolutePercentageError(FunctionMean):
    r"""The mean of :math:`100 |y - \hat y| / |y|`.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    elementwise = True

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return losses.mean_absolute_percentage_error(y_true, y_pred)


@register("metrics", "msle")
class MeanSquaredLogarithmicError(FunctionMean):
    r"""The mean of :math:`(\log(1 + y) - \log(1 + \hat y))^2`.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    elementwise = True

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return losses.mean_squared_logarithmic_error(y_true, y_pred)


@register("metrics", "logcosh", "log_cosh")
class LogCoshError(FunctionMean):
    r"""The mean of :math:`\log \cosh(\hat y - y)`.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    default_name = "logcosh"
    elementwise = True

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return losses.log_cosh(y_true, y_pred)


class _AlongAxis(FunctionMean):
    def __init__(self, name: str | None = None, dtype: Any = None, axis: int = -1) -> None:
        super().__init__(name, dtype)
        self.axis = axis


@register("metrics")
class CosineSimilarity(_AlongAxis):
    r"""The mean of :math:`\frac{y \cdot \hat y}{|y| |\hat y|}`: 1 for the same direction, -1 for the opposite one.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
        axis: the axis of the vectors.
    """

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return cosine_similarity(y_true, y_pred, self.axis)


@register("metrics")
class PearsonCorrelation(_AlongAxis):
    """The mean of the correlation coefficient of each example's targets and predictions.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
        axis: the axis along which they are correlated; 0 for that of the examples, batch by batch.
    """

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return pearson_correlation(y_true, y_pred, self.axis)


@register("metrics")
class ConcordanceCorrelation(_AlongAxis):
    """The mean of Lin's concordance of each example's targets and predictions, which a shift or a factor lowers.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
        axis: the axis along which they are correlated; 0 for that of the examples, batch by batch.

    Reference: Lin, "A concordance correlation coefficient to evaluate reproducibility", 1989.
    """

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return concordance_correlation(y_true, y_pred, self.axis)


@register("metrics", "r2")
class R2Score(Metric):
    r"""The share of the targets' variance that is explained, :math:`1 - \sum (y - \hat y)^2 / \sum (y - \bar y)^2`.

    The variance is accumulated around the running mean, so that it stays exact for targets far from zero.

    Args:
        class_aggregation: how the scores of several outputs become one: ``"uniform_average"``,
            ``"variance_weighted_average"``, or ``None`` for one score each.
        num_regressors: the number of inputs, for the adjusted score; 0 for the plain one.
        name: its name in logs.
        dtype: the dtype it computes in.

    Targets and predictions of shape ``(batch, outputs)``.

    >>> float(R2Score()([[1.0], [2.0], [3.0]], [[1.0], [2.0], [2.0]]))
    0.5
    """

    built = False

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name, dtype)
        known = ("uniform_average", "variance_weighted_average")
        if class_aggregation is not None and class_aggregation not in known:
            raise ConfigError(f"{class_aggregation!r} is not a class_aggregation. {nearest(class_aggregation, known)}")
        if num_regressors < 0:
            raise ConfigError(f"R2Score expects num_regressors of at least 0; received {num_regressors!r}")
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors

    def build(self, y_true_shape: Sequence[int], y_pred_shape: Sequence[int]) -> None:
        if len(y_pred_shape) != 2:
            raise ShapeError(
                f"R2Score expects targets and predictions of shape (batch, outputs); received {tuple(y_pred_shape)}"
            )
        outputs = (y_pred_shape[-1],)
        self.num_samples = self.add_total()
        self.count, self.residual = self.add_total(outputs), self.add_total(outputs)
        self.mean = self.add_variable(outputs, name="mean")
        self.spread = self.add_variable(outputs, name="spread")
        self.built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, y_pred = paired(y_true, jnp.asarray(y_pred, self.dtype), "R2Score")
        if y_pred.ndim == 1:
            y_true, y_pred = y_true[:, None], y_pred[:, None]
        if not self.built:
            self.build(y_true.shape, y_pred.shape)
        squares, weights = weighted(jnp.square(y_true - y_pred), sample_weight)
        weights = jnp.ones_like(y_true) if weights is None else weights
        y_true = jnp.where(weights == 0, 0, y_true)
        # Two sets of examples have the sum of their spreads, and that of their means around the common one (Chan 1979).
        before, added = self.count.value, jnp.sum(weights, axis=0)
        share = added / jnp.where(before + added == 0, 1, before + added)
        mean = jnp.sum(weights * y_true, axis=0) / jnp.where(added == 0, 1, added)
        apart = mean - self.mean.raw
        spread = jnp.sum(weights * jnp.square(y_true - mean), axis=0)
        self.spread.assign_add(spread + jnp.square(apart) * before * share)
        self.mean.assign_add(apart * share)
        self.count.add(added)
        self.residual.add(jnp.sum(squares, axis=0))
        self.num_samples.add(y_true.size)

    def result(self) -> Array:
        if not self.built:
            return jnp.zeros((), self.dtype)
        spread = self.spread.raw
        scores = 1 - self.residual.value / spread
        scores = jnp.where(jnp.isinf(scores), 0, scores)
        if self.class_aggregation == "uniform_average":
            scores = jnp.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = jnp.sum(spread * scores) / jnp.sum(spread)
        if self.num_regressors:
            samples = self.num_samples.value
            free = samples - self.num_regressors - 1
            scores = jnp.where(free > 0, 1 - (1 - scores) * (samples - 1) / jnp.where(free > 0, free, 1), scores)
        return scores
