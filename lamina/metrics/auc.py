"""The area under the ROC curve, or under the precision-recall curve."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import allowance
from lamina.core.errors import ConfigError, ShapeError, nearest
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.metrics.base import EPSILON, Metric, quotient
from lamina.metrics.confusion import Counts, confusion


@register("metrics")
class AUC(Metric):
    """The area under a curve of two ratios, from confusion counts at many thresholds.

    Args:
        num_thresholds: how many thresholds; more are closer to the exact area.
        curve: ``"ROC"``, ``"PR"`` (precision over recall) or ``"PRGAIN"``.
        summation_method: how the area between two thresholds is taken: ``"interpolation"``, ``"minoring"`` (from
            below) or ``"majoring"`` (from above).
        name: its name in logs.
        dtype: the dtype it computes in.
        thresholds: the thresholds between 0 and 1 themselves, in place of ``num_thresholds``.
        multi_label: whether each entry of the last axis is a label with a curve of its own; the mean area is the
            result.
        num_labels: the number of labels, if known.
        label_weights: a factor for each label.
        from_logits: whether predictions are scores rather than probabilities.

    References: Fawcett, "An introduction to ROC analysis", 2006; Davis and Goadrich, "The relationship between
    precision-recall and ROC curves", 2006; Flach and Kull, "Precision-recall-gain curves", 2015.

    >>> float(AUC(num_thresholds=3)([0, 0, 1, 1], [0.0, 0.5, 0.3, 0.9]))
    0.75
    """

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Sequence[float] | None = None,
        from_logits: bool = False,
    ) -> None:
        super().__init__(name, dtype)
        self.curve = _one_of(curve, ("ROC", "PR", "PRGAIN"), "curve")
        self.summation_method = _one_of(summation_method, ("interpolation", "minoring", "majoring"), "summation_method")
        if thresholds is None:
            if num_thresholds < 2:
                raise ConfigError(f"AUC expects num_thresholds of at least 2; received {num_thresholds!r}")
            allowance.spend("AUC(num_thresholds=...)", numbers=8 * num_thresholds)
            inner = np.linspace(0, 1, num_thresholds)[1:-1]
        else:
            inner = np.sort(np.asarray(thresholds, np.float64))
            if np.any((inner < 0) | (inner > 1)):
                raise ConfigError(f"AUC expects thresholds from 0 to 1; received {list(thresholds)!r}")
        if num_labels and not multi_label:
            raise ConfigError("AUC takes num_labels only with multi_label=True")
        self.num_thresholds, self.thresholds = len(inner) + 2, thresholds
        self.multi_label, self.num_labels, self.label_weights = multi_label, num_labels, label_weights
        self.from_logits = from_logits
        # Beyond both ends, so that predictions of exactly 0 and 1 are counted too.
        self._edges = np.concatenate([[-EPSILON], inner, [1 + EPSILON]])
        self.built = False
        if not multi_label or num_labels:
            self.build((), (0, num_labels or 0))

    def build(self, y_true_shape: Sequence[int], y_pred_shape: Sequence[int]) -> None:
        if self.multi_label and len(y_pred_shape) != 2:
            raise ShapeError(
                f"AUC with multi_label expects predictions of shape (batch, labels); received {tuple(y_pred_shape)}"
            )
        shape = (len(self._edges), *([y_pred_shape[-1]] if self.multi_label else []))
        for kind in Counts._fields:
            setattr(self, kind, self.add_total(shape))
        self.built = True

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_pred = jnp.asarray(y_pred, self.dtype)
        y_pred = jax.nn.sigmoid(y_pred) if self.from_logits else jnp.clip(y_pred, 0, 1)
        if not self.built:
            self.build(jnp.shape(y_true), y_pred.shape)
        weights = None if self.multi_label else self.label_weights
        found = confusion(y_true, y_pred, self._edges, sample_weight, label_weights=weights, per_label=self.multi_label)
        for kind, counts in zip(Counts._fields, found, strict=True):
            getattr(self, kind).add(counts)

    def result(self) -> Array:
        if not self.built:
            return jnp.zeros((), self.dtype)
        tp, fp, tn, fn = (getattr(self, kind).value for kind in Counts._fields)
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._mean(jnp.sum(_pieces_of_precision(tp, fp, fn), axis=0))
        if self.curve == "ROC":
            x, y = quotient(fp, fp + tn), quotient(tp, tp + fn)
        elif self.curve == "PR":
            x, y = quotient(tp, tp + fn), quotient(tp, tp + fp)
        else:
            odds = quotient(tp + fn, tn + fp)
            x = jnp.maximum(jnp.where(tp == 0, 0, 1 - odds * quotient(fn, tp)), 0)
            y = jnp.where(tp == 0, 1, 1 - odds * quotient(fp, tp))
        low, high = jnp.minimum(y[:-1], y[1:]), jnp.maximum(y[:-1], y[1:])
        heights = {"interpolation": (low + high) / 2, "minoring": low, "majoring": high}[self.summation_method]
        return self._mean(jnp.sum((x[:-1] - x[1:]) * heights, axis=0))

    def _mean(self, areas: Array) -> Array:
        if not self.multi_label or self.label_weights is None:
            return jnp.mean(areas)
        weights = jnp.asarray(self.label_weights, areas.dtype)
        return quotient(jnp.sum(areas * weights), jnp.sum(weights))


def _pieces_of_precision(tp: Array, fp: Array, fn: Array) -> Array:
    """The area between thresholds under precision over recall, true positives being linear in all positives there."""
    positives = tp + fp
    slope = quotient(tp[:-1] - tp[1:], jnp.maximum(positives[:-1] - positives[1:], 0))
    intercept = tp[1:] - slope * positives[1:]
    both = (positives[:-1] > 0) & (positives[1:] > 0)
    ratio = jnp.where(both, quotient(positives[:-1], positives[1:]), 1)
    return quotient(slope * (tp[:-1] - tp[1:] + intercept * jnp.log(ratio)), jnp.maximum(tp[1:] + fn[1:], 0))


def _one_of(value: str, choices: tuple[str, ...], what: str) -> str:
    for choice in choices:
        if str(value).lower() == choice.lower():
            return choice
    raise ConfigError(f"{value!r} is not a {what} of AUC. {nearest(str(value), choices)}")
