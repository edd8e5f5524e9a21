"""F-scores: precision and recall of each class in one number."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.losses.base import paired
from lamina.metrics.base import EPSILON, Metric
from lamina.metrics.reduction import weighted


@register("metrics", "fbeta_score")
class FBetaScore(Metric):
    r""":math:`(1 + \beta^2) \frac{\text{precision} \cdot \text{recall}}{\beta^2\, \text{precision} + \text{recall}}`.

    Args:
        average: ``None`` for one score for each class; ``"micro"`` counts all classes together; ``"macro"`` is the
            mean of the scores; ``"weighted"`` their mean weighted by how often each class occurs.
        beta: :math:`\beta`, how much more recall matters than precision.
        threshold: what a prediction has to exceed to count as yes; ``None`` for the largest one of each example.
        name: its name in logs.
        dtype: the dtype it computes in.

    Targets (one-hot, or several labels at once) and predictions of shape ``(batch, classes)``.

    >>> FBetaScore(beta=1.0)([[1, 0], [0, 1]], [[0.9, 0.1], [0.8, 0.2]]).round(3).tolist()
    [0.667..., 0.0]
    """

    default_name = "fbeta_score"
    built = False

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name, dtype)
        if average not in (None, "micro", "macro", "weighted"):
            raise ConfigError(f"average is None, 'micro', 'macro' or 'weighted', not {average!r}")
        if isinstance(beta, bool) or not isinstance(beta, int | float) or beta <= 0:
            raise ConfigError(f"{type(self).__name__} expects beta as a number above 0; received {beta!r}")
        if threshold is not None and not 0 < threshold <= 1:
            raise ConfigError(f"{type(self).__name__} expects a threshold above 0 and up to 1; received {threshold!r}")
        self.average, self.beta, self.threshold = average, beta, threshold

    def build(self, y_true_shape: Sequence[int], y_pred_shape: Sequence[int]) -> None:
        if len(y_pred_shape) != 2:
            raise ShapeError(
                f"{type(self).__name__} expects targets and predictions of shape (batch, classes); received "
                f"{tuple(y_pred_shape)}"
            )
        shape = () if self.average == "micro" else (y_pred_shape[-1],)
        self.true_positives, self.false_positives = self.add_total(shape), self.add_total(shape)
        self.false_negatives, self.support = self.add_total(shape), self.add_total(shape)
        self.built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, y_pred = paired(y_true, jnp.asarray(y_pred, self.dtype), type(self).__name__)
        if not self.built:
            self.build(y_true.shape, y_pred.shape)
        if self.threshold is None:
            yes = (y_pred >= jnp.max(y_pred, axis=-1, keepdims=True)) & (jnp.abs(y_pred) > 1e-9)
        else:
            yes = y_pred > self.threshold
        yes = yes.astype(y_true.dtype)
        for total, values in (
            (self.true_positives, yes * y_true),
            (self.false_positives, yes * (1 - y_true)),
            (self.false_negatives, (1 - yes) * y_true),
            (self.support, y_true),
        ):
            total.add(jnp.sum(weighted(values, sample_weight)[0], axis=None if self.average == "micro" else 0))

    def result(self) -> Array:
        if not self.built:
            return jnp.zeros((), self.dtype)
        hits = self.true_positives.value
        precision = hits / (hits + self.false_positives.value + EPSILON)
        recall = hits / (hits + self.false_negatives.value + EPSILON)
        square = self.beta**2
        scores = (1 + square) * precision * recall / (square * precision + recall + EPSILON)
        if self.average == "weighted":
            support = self.support.value
            return jnp.sum(scores * support / (jnp.sum(support) + EPSILON))
        return scores if self.average is None else jnp.mean(scores)


@register("metrics", "f1")
class F1Score(FBetaScore):
    """The harmonic mean of precision and recall.

    Args:
        average: see :class:`FBetaScore`.
        threshold: see :class:`FBetaScore`.
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    default_name = "f1_score"

    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(average, 1.0, threshold, name, dtype)
