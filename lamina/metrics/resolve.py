"""The metric that a name stands for, given what the outputs and targets look like."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core import registry
from lamina.core.errors import ConfigError
from lamina.metrics.base import Metric
from lamina.metrics.reduction import MeanMetricWrapper

#: names that stand for one metric or another, and the common part of the names of these
_BY_SHAPE = {"accuracy": "accuracy", "acc": "accuracy", "crossentropy": "crossentropy", "ce": "crossentropy"}


def for_outputs(
    identifier: Any,
    y_shape: Sequence[int],
    y_dtype: Any,
    pred_shape: Sequence[int],
    loss: str | None = None,
) -> Metric:
    """The metric that ``identifier`` means for one output of a model.

    ``"accuracy"`` (or ``"acc"``) and ``"crossentropy"`` (or ``"ce"``) become the binary, the categorical or the sparse
    categorical metric of that name, as the shapes say.

    Args:
        identifier: a name, a function of targets and predictions, or a metric.
        y_shape: the shape of the targets, batch included.
        y_dtype: their dtype.
        pred_shape: the shape of the predictions.
        loss: the name of the loss, which tells several yes-or-no outputs (``"binary_crossentropy"``) from classes.

    >>> for_outputs("accuracy", (32,), "int32", (32, 10))
    <SparseCategoricalAccuracy 'accuracy'>
    >>> for_outputs("accuracy", (32, 1), "int32", (32, 1))
    <BinaryAccuracy 'accuracy'>
    """
    if isinstance(identifier, str) and identifier.lower() in _BY_SHAPE:
        kind = _kind(tuple(y_shape), y_dtype, tuple(pred_shape), loss)
        return registry.get("metrics", f"{kind}_{_BY_SHAPE[identifier.lower()]}", name=identifier)
    check(identifier)
    if isinstance(identifier, str):
        return registry.get("metrics", identifier, name=identifier)
    metric = registry.get("metrics", identifier)
    return metric if isinstance(metric, Metric) else MeanMetricWrapper(metric)


def check(identifier: Any) -> None:
    """Refuse what :func:`for_outputs` could make no metric of.

    Raises:
        ConfigError: for an unknown name, or something that is no metric.
    """
    if isinstance(identifier, str):
        if identifier.lower() not in _BY_SHAPE:
            registry.lookup("metrics", identifier)
    elif not callable(identifier) and "class" not in (identifier if isinstance(identifier, Mapping) else ()):
        raise ConfigError(f"a metric is a name, a function of targets and predictions or a Metric, not {identifier!r}")


def _kind(y_shape: tuple[int, ...], y_dtype: Any, pred_shape: tuple[int, ...], loss: str | None) -> str:
    several = len(pred_shape) > 1 and pred_shape[-1] != 1
    if not several:
        return "binary"
    if y_shape == pred_shape[:-1] or y_shape == (*pred_shape[:-1], 1):
        return "sparse_categorical"
    if (loss and "binary" in registry.snake_case(loss)) or jnp.issubdtype(y_dtype, jnp.bool_):
        return "binary"
    return "categorical"
