"""Accuracies: how often predictions are right."""

from typing import Any

import jax.numpy as jnp

from lamina.core.errors import ShapeError
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.losses.base import paired
from lamina.metrics.reduction import FunctionMean


def accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where prediction and target are equal, 0 elsewhere; both of the same shape."""
    y_true, y_pred = paired(y_true, y_pred, "accuracy")
    return (y_true == y_pred).astype("float32")


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """1 where a prediction is above ``threshold`` and its target 1, or neither; both of the same shape."""
    y_true, y_pred = paired(y_true, y_pred, "binary_accuracy")
    return ((y_pred > threshold).astype(y_true.dtype) == y_true).astype("float32")


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the largest prediction is that of the target's class.

    Args:
        y_true: one-hot targets, shape ``(..., classes)``.
        y_pred: shape ``(..., classes)``.

    Returns:
        Shape ``(...)``.

    >>> categorical_accuracy([[0, 1], [1, 0]], [[0.1, 0.9], [0.2, 0.8]]).tolist()
    [1.0, 0.0]
    """
    return sparse_categorical_accuracy(_class_of(y_true, y_pred, "categorical_accuracy"), y_pred)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """As :func:`categorical_accuracy`, for class indices of shape ``(...)`` or ``(..., 1)``."""
    y_true, y_pred = _indexed(y_true, y_pred, "sparse_categorical_accuracy")
    return (y_true == jnp.argmax(y_pred, axis=-1)).astype("float32")


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 where the prediction for the target's class is among the ``k`` largest; one-hot targets."""
    return sparse_top_k_categorical_accuracy(_class_of(y_true, y_pred, "top_k_categorical_accuracy"), y_pred, k)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5, from_sorted_ids: bool = False) -> Array:
    """As :func:`top_k_categorical_accuracy`, for class indices.

    Args:
        y_true: shape ``(...)`` or ``(..., 1)``.
        y_pred: shape ``(..., classes)``; with ``from_sorted_ids``, class indices, the likeliest first.
        k: how many predictions count.
        from_sorted_ids: whether predictions are class indices.
    """
    y_true, y_pred = _indexed(y_true, y_pred, "sparse_top_k_categorical_accuracy")
    if from_sorted_ids:
        return jnp.any(y_true[..., None] == y_pred[..., :k], axis=-1).astype("float32")
    inside = (y_true >= 0) & (y_true < y_pred.shape[-1])
    index = jnp.where(inside, y_true, 0)[..., None]
    own = jnp.take_along_axis(y_pred, index, axis=-1)
    above = jnp.sum(y_pred > own, axis=-1)
    return (inside & (above < k) & ~jnp.isnan(own[..., 0])).astype("float32")


def _class_of(y_true: Any, y_pred: Any, name: str) -> Array:
    y_true, y_pred = jnp.asarray(y_true), jnp.asarray(y_pred)
    if y_true.shape != y_pred.shape or y_true.ndim < 1:
        raise ShapeError(
            f"{name} expects one-hot targets of the predictions' shape {y_pred.shape}; received {y_true.shape}.\n"
            f"Write:  metrics=['sparse_{name}'], for class indices."
        )
    return jnp.argmax(y_true, axis=-1)


def _indexed(y_true: Any, y_pred: Any, name: str) -> tuple[Array, Array]:
    y_true, y_pred = jnp.asarray(y_true), jnp.asarray(y_pred)
    if y_true.shape == (*y_pred.shape[:-1], 1):
        y_true = y_true[..., 0]
    if y_pred.ndim < 1 or y_true.shape != y_pred.shape[:-1]:
        raise ShapeError(
            f"{name} expects one class index for each prediction of shape {y_pred.shape}; received y_true of shape "
            f"{y_true.shape}.\nWrite:  metrics=[{name.removeprefix('sparse_')!r}], for one-hot targets."
        )
    return y_true.astype("int32"), y_pred


@register("metrics", "acc")
class Accuracy(FunctionMean):
    """How often predictions equal targets. In ``compile``, the name "accuracy" picks the kind that the outputs need.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.

    >>> round(float(Accuracy()([1, 2, 3], [1, 2, 4])), 4)
    0.6667
    """

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return accuracy(y_true, y_pred)


@register("metrics")
class BinaryAccuracy(FunctionMean):
    """How often a prediction above ``threshold`` has target 1, and another one 0.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
        threshold: what a prediction has to exceed.
    """

    def __init__(self, name: str | None = None, dtype: Any = None, threshold: float = 0.5) -> None:
        super().__init__(name, dtype)
        self.threshold = threshold

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return binary_accuracy(y_true, y_pred, self.threshold)


@register("metrics")
class CategoricalAccuracy(FunctionMean):
    """How often the largest prediction is that of the target's class; one-hot targets.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return categorical_accuracy(y_true, y_pred)


@register("metrics")
class SparseCategoricalAccuracy(FunctionMean):
    """How often the largest prediction is that of the target's class; class indices as targets.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return sparse_categorical_accuracy(y_true, y_pred)


@register("metrics")
class TopKCategoricalAccuracy(FunctionMean):
    """How often the target's class is among the ``k`` likeliest; one-hot targets.

    Args:
        k: how many predictions count.
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    def __init__(self, k: int = 5, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self.k = k

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return top_k_categorical_accuracy(y_true, y_pred, self.k)


@register("metrics")
class SparseTopKCategoricalAccuracy(FunctionMean):
    """How often the target's class is among the ``k`` likeliest; class indices as targets.

    Args:
        k: how many predictions count.
        name: its name in logs.
        dtype: the dtype it computes in.
        from_sorted_ids: whether predictions are class indices, the likeliest first.
    """

    def __init__(self, k: int = 5, name: str | None = None, dtype: Any = None, from_sorted_ids: bool = False) -> None:
        super().__init__(name, dtype)
        self.k, self.from_sorted_ids = k, from_sorted_ids

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return sparse_top_k_categorical_accuracy(y_true, y_pred, self.k, self.from_sorted_ids)
