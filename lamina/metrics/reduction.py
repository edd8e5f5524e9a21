"""Mean and Sum of values, and the mean of a function of targets and predictions."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from lamina.core import registry
from lamina.core.masks import get_mask
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.losses.base import aligned
from lamina.metrics.base import Metric, quotient


@register("metrics")
class Sum(Metric):
    """The weighted sum of all values.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.

    >>> metric = Sum()
    >>> metric.update_state(jnp.array([1.0, 2.0])); float(metric(jnp.array([3.0])))
    6.0
    """

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self.total = self.add_total()

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        self.total.add(jnp.sum(weighted(jnp.asarray(values, self.dtype), sample_weight)[0]))

    def result(self) -> Array:
        return self.total.value


@register("metrics")
class Mean(Metric):
    """The weighted mean of all values; each example counts once, however many values it has.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.

    >>> metric = Mean()
    >>> metric.update_state(jnp.array([1.0, 2.0])); float(metric(jnp.array([3.0])))
    2.0
    """

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self.total = self.add_total()
        self.count = self.add_total()

    def update_state(self, values: Any, sample_weight: Any = None) -> None:
        values, weights = weighted(jnp.asarray(values, self.dtype), sample_weight)
        examples = values.shape[0] if values.ndim else 1
        each = max(values.size // max(examples, 1), 1)
        self.total.add(jnp.sum(values) / each)
        self.count.add(examples if weights is None else jnp.sum(weights) / each)

    def result(self) -> Array:
        return quotient(self.total.value, self.count.value)


@register("metrics")
class MeanMetricWrapper(Mean):
    """The mean of a function of targets and predictions.

    Args:
        fn: ``fn(y_true, y_pred, **kwargs)`` gives a value for each example.
        name: its name in logs; that of the function if none is given.
        dtype: the dtype it computes in.
        kwargs: further arguments of ``fn``.

    >>> metric = MeanMetricWrapper(lambda y, p: jnp.abs(y - p), name="error")
    >>> float(metric(jnp.array([1.0, 2.0]), jnp.array([2.0, 4.0])))
    1.5
    """

    def __init__(self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(name or getattr(fn, "__name__", None), dtype)
        self.fn, self.fn_kwargs = fn, kwargs

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {name: registry.serialize(value) for name, value in self.fn_kwargs.items()}

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        values = jnp.asarray(self.fn(y_true, y_pred, **self.fn_kwargs), self.dtype)
        super().update_state(values, masked(values, get_mask(y_pred), sample_weight))


class FunctionMean(Mean):
    """The base of metrics that are the mean of a function: a subclass says which one."""

    #: whether predictions of shape ``(batch,)`` are one value for each example, as ``(batch, 1)``
    elementwise = False

    def values(self, y_true: Any, y_pred: Any) -> Array:
        """A value for each example, or for each step of each example."""
        raise NotImplementedError

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        mask, y_true, y_pred = get_mask(y_pred), jnp.asarray(y_true), jnp.asarray(y_pred)
        if self.elementwise and y_pred.ndim == 1:
            y_true, y_pred = (y_true[:, None] if y_true.ndim == 1 else y_true), y_pred[:, None]
        values = self.values(y_true, y_pred)
        super().update_state(values, masked(values, mask, sample_weight))


def weighted(values: Array, sample_weight: Any) -> tuple[Array, Array | None]:
    """Values times weights, and the weights in the same shape; what weighs nothing may be anything, even NaN."""
    if sample_weight is None:
        return values, None
    weights = jnp.asarray(sample_weight, values.dtype)
    if values.ndim == 0:
        values = jnp.broadcast_to(values, weights.shape)
    weights = jnp.broadcast_to(aligned(weights, values.shape, "sample_weight"), values.shape)
    return jnp.where(weights == 0, 0, values * weights), weights


def masked(values: Array, mask: Array | None, sample_weight: Any) -> Any:
    """The sample weights, zero where a mask that travels with the predictions is False."""
    if mask is None or mask.shape != values.shape[: mask.ndim]:
        return sample_weight
    mask = aligned(mask, values.shape, "mask").astype(values.dtype)
    return mask if sample_weight is None else mask * aligned(sample_weight, values.shape, "sample_weight")
