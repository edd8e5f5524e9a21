"""Counts of right and wrong yes-or-no predictions at one or many thresholds, and the ratios made from them."""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.losses.base import aligned, paired
from lamina.metrics.base import Metric, quotient

#: below every prediction: what the entries outside the top k are set to, and the threshold that they do not exceed
LOWEST = -1e10
#: up to how many thresholds predictions are compared with each one, rather than sorted in between
FEW = 32


class Counts(NamedTuple):
    """Weighted counts, each of shape ``(thresholds,)``, or ``(thresholds, labels)`` where labels are counted apart."""

    true_positives: Array
    false_positives: Array
    true_negatives: Array
    false_negatives: Array


def confusion(
    y_true: Any,
    y_pred: Any,
    thresholds: Sequence[float] | np.ndarray,
    sample_weight: Any = None,
    *,
    top_k: int | None = None,
    class_id: int | None = None,
    label_weights: Any = None,
    per_label: bool = False,
) -> Counts:
    """How many predictions exceed each threshold or do not, for targets that are 1 and 0.

    Args:
        y_true: targets, 0 or 1.
        y_pred: predictions, of the same shape.
        thresholds: what predictions have to exceed to count as yes.
        sample_weight: a factor for each example.
        top_k: count only the ``k`` largest predictions of each example as yes.
        class_id: look at this entry of the last axis only.
        label_weights: a factor for each entry of the last axis.
        per_label: count each entry of the last axis apart.

    Raises:
        ShapeError: if shapes do not fit together.

    >>> confusion([1, 0, 1, 1], [0.9, 0.8, 0.2, 0.7], [0.5]).true_positives.tolist()
    [2.0]
    """
    y_true, y_pred = paired(y_true, y_pred, "the confusion matrix")
    weights = jnp.ones_like(y_pred)
    if sample_weight is not None:
        weights = weights * aligned(jnp.asarray(sample_weight, y_pred.dtype), y_pred.shape, "sample_weight")
    if label_weights is not None:
        weights = weights * jnp.asarray(label_weights, y_pred.dtype)
    if (class_id is not None or top_k is not None or per_label) and y_pred.ndim < 2:
        raise ShapeError(
            "top_k, class_id and multi_label need predictions of shape (batch, classes); received shape "
            f"{y_pred.shape}.\nWrite:  Dense(classes) as the last layer."
        )
    if top_k is not None:
        kept = jax.nn.one_hot(jax.lax.top_k(y_pred, top_k)[1], y_pred.shape[-1], dtype=bool).any(-2)
        y_pred = jnp.where(kept, y_pred, LOWEST)
    if class_id is not None:
        y_true, y_pred, weights = (x[..., class_id, None] for x in (y_true, y_pred, weights))
    labels = y_pred.shape[-1] if per_label else 1
    y_pred, weights = y_pred.reshape(-1, labels), weights.reshape(-1, labels)
    is_true = y_true.reshape(-1, labels) != 0
    both = jnp.stack([jnp.where(is_true, weights, 0), jnp.where(is_true, 0, weights)])
    yes = _exceeding(y_pred, both, np.asarray(thresholds, np.float64))
    no = both.sum(1)[:, None] - yes
    if not per_label:
        yes, no = yes[..., 0], no[..., 0]
    return Counts(yes[0], yes[1], no[1], no[0])


def _exceeding(values: Array, weights: Array, thresholds: np.ndarray) -> Array:
    """The weights of the values above each threshold.

    Args:
        values: shape ``(n, labels)``.
        weights: shape ``(kinds, n, labels)``.
        thresholds: shape ``(thresholds,)``.

    Returns:
        Shape ``(kinds, thresholds, labels)``.
    """
    if len(thresholds) <= FEW:
        above = (values > jnp.asarray(thresholds, values.dtype)[:, None, None]).astype(values.dtype)
        return jnp.einsum("tnl,knl->ktl", above, weights, precision="highest")
    order = np.argsort(thresholds)
    values = jnp.where(jnp.isnan(values), -jnp.inf, values)
    below = jnp.searchsorted(jnp.asarray(thresholds[order], values.dtype), values, side="left")
    histogram = jnp.zeros((len(weights), len(thresholds) + 1, values.shape[1]), values.dtype)
    histogram = histogram.at[:, below, jnp.arange(values.shape[1])].add(weights)
    return jnp.cumsum(histogram[:, :0:-1], axis=1)[:, ::-1][:, np.argsort(order)]


class ConfusionMetric(Metric):
    """The base of metrics made from confusion counts; a subclass says which ones it keeps.

    Args:
        thresholds: what predictions have to exceed, a number or several.
        top_k: see :func:`confusion`.
        class_id: see :func:`confusion`.
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    kept: ClassVar[tuple[str, ...]] = Counts._fields

    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name, dtype)
        self.thresholds, self.top_k, self.class_id = thresholds, top_k, class_id
        self._edges = np.atleast_1d(
            np.asarray((0.5 if top_k is None else LOWEST) if thresholds is None else thresholds)
        )
        if thresholds is not None and not np.all((self._edges >= 0) & (self._edges <= 1)):
            raise ConfigError(f"{type(self).__name__} expects thresholds from 0 to 1; received {thresholds!r}")
        if top_k is not None and top_k < 1:
            raise ConfigError(f"{type(self).__name__} expects top_k of at least 1; received {top_k!r}")
        for kind in self.kept:
            setattr(self, kind, self.add_total((len(self._edges),)))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_pred = jnp.asarray(y_pred, self.dtype)
        found = confusion(y_true, y_pred, self._edges, sample_weight, top_k=self.top_k, class_id=self.class_id)
        for kind in self.kept:
            getattr(self, kind).add(getattr(found, kind))

    def counts(self, kind: str) -> Array:
        """The counts of one kind at each threshold."""
        return getattr(self, kind).value

    def ratio(self, kind: str, other: str) -> Array:
        """``kind / (kind + other)`` at each threshold."""
        return quotient(self.counts(kind), self.counts(kind) + self.counts(other))

    def single(self, values: Array) -> Array:
        """``values``, as one number if there is one threshold."""
        return values[0] if len(self._edges) == 1 else values


class _Count(ConfusionMetric):
    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(thresholds, name=name, dtype=dtype)

    def result(self) -> Array:
        return self.single(self.counts(self.kept[0]))


@register("metrics")
class TruePositives(_Count):
    """How many predictions exceed the threshold and have target 1.

    Args:
        thresholds: a number or several, 0.5 by default.
        name: its name in logs.
        dtype: the dtype it computes in.

    >>> float(TruePositives()([0, 1, 1], [0.9, 0.8, 0.1]))
    1.0
    """

    kept = ("true_positives",)


@register("metrics")
class FalsePositives(_Count):
    """How many predictions exceed the threshold and have target 0.

    Args:
        thresholds: a number or several, 0.5 by default.
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    kept = ("false_positives",)


@register("metrics")
class TrueNegatives(_Count):
    """How many predictions do not exceed the threshold and have target 0.

    Args:
        thresholds: a number or several, 0.5 by default.
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    kept = ("true_negatives",)


@register("metrics")
class FalseNegatives(_Count):
    """How many predictions do not exceed the threshold and have target 1.

    Args:
        thresholds: a number or several, 0.5 by default.
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    kept = ("false_negatives",)


@register("metrics")
class Precision(ConfusionMetric):
    """The share of the predictions above the threshold whose target is 1.

    Args:
        thresholds: a number or several, 0.5 by default; with ``top_k`` none by default.
        top_k: count only the ``k`` largest predictions of each example.
        class_id: look at this class only.
        name: its name in logs.
        dtype: the dtype it computes in.

    >>> float(Precision()([0, 1, 1, 1], [0.9, 0.8, 0.7, 0.1]).round(4))
    0.666...
    """

    kept = ("true_positives", "false_positives")

    def result(self) -> Array:
        return self.single(self.ratio("true_positives", "false_positives"))


@register("metrics")
class Recall(ConfusionMetric):
    """The share of the examples with target 1 whose prediction is above the threshold.

    Args:
        thresholds: a number or several, 0.5 by default; with ``top_k`` none by default.
        top_k: count only the ``k`` largest predictions of each example.
        class_id: look at this class only.
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    kept = ("true_positives", "false_negatives")

    def result(self) -> Array:
        return self.single(self.ratio("true_positives", "false_negatives"))


class _AtConstraint(ConfusionMetric):
    """The best value of one ratio at the thresholds where another one is large enough."""

    #: the ratio that is constrained, and the one whose best value is the result
    ratios: ClassVar[tuple[tuple[str, str], tuple[str, str]]]

    def __init__(self, least: float, num_thresholds: int, class_id: int | None, name: str | None, dtype: Any) -> None:
        if not 0 <= least <= 1:
            raise ConfigError(f"{type(self).__name__} expects a value from 0 to 1; received {least!r}")
        if num_thresholds < 1:
            raise ConfigError(
                f"{type(self).__name__} expects num_thresholds of at least 1; received {num_thresholds!r}"
            )
        edges = np.linspace(0, 1, num_thresholds) if num_thresholds > 1 else 0.5
        super().__init__(edges, class_id=class_id, name=name, dtype=dtype)
        self.num_thresholds, self._least = num_thresholds, least

    def result(self) -> Array:
        constrained, wanted = (self.ratio(*names) for names in self.ratios)
        return jnp.max(jnp.where(constrained >= self._least, wanted, 0), initial=0)


_SENSITIVITY = ("true_positives", "false_negatives")
_SPECIFICITY = ("true_negatives", "false_positives")
_PRECISION = ("true_positives", "false_positives")


@register("metrics")
class SensitivityAtSpecificity(_AtConstraint):
    """The best share of true positives found, at a threshold that keeps ``specificity`` of the negatives out.

    Args:
        specificity: the least specificity, from 0 to 1.
        num_thresholds: how many thresholds are tried.
        class_id: look at this class only.
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    ratios = (_SPECIFICITY, _SENSITIVITY)

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(specificity, num_thresholds, class_id, name, dtype)
        self.specificity = specificity


@register("metrics")
class SpecificityAtSensitivity(_AtConstraint):
    """The best share of negatives kept out, at a threshold that finds ``sensitivity`` of the positives.

    Args:
        sensitivity: the least sensitivity, from 0 to 1.
        num_thresholds: how many thresholds are tried.
        class_id: look at this class only.
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    ratios = (_SENSITIVITY, _SPECIFICITY)

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)
        self.sensitivity = sensitivity


@register("metrics")
class PrecisionAtRecall(_AtConstraint):
    """The best precision at a threshold with at least this recall.

    Args:
        recall: the least recall, from 0 to 1.
        num_thresholds: how many thresholds are tried.
        class_id: look at this class only.
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    ratios = (_SENSITIVITY, _PRECISION)

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(recall, num_thresholds, class_id, name, dtype)
        self.recall = recall


@register("metrics")
class RecallAtPrecision(_AtConstraint):
    """The best recall at a threshold with at least this precision.

    Args:
        precision: the least precision, from 0 to 1.
        num_thresholds: how many thresholds are tried.
        class_id: look at this class only.
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    ratios = (_PRECISION, _SENSITIVITY)

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(precision, num_thresholds, class_id, name, dtype)
        self.precision = precision
