"""Intersection over union, for segmentation."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core import allowance
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.losses.base import aligned
from lamina.metrics.base import EPSILON, Metric


@register("metrics", "iou")
class IoU(Metric):
    r"""The mean over some classes of :math:`\frac{t}{t + p + n}`: true positives, false positives, false negatives.

    Args:
        num_classes: the number of classes.
        target_class_ids: the classes whose mean is taken; those that never occur are left out.
        name: its name in logs.
        dtype: the dtype it computes in.
        ignore_class: a class index in the targets that is not counted, as -1 or 255.
        sparse_y_true: whether targets are class indices, rather than one-hot.
        sparse_y_pred: whether predictions are class indices, rather than scores.
        axis: the axis of the classes, where there is one.

    >>> round(float(IoU(2, [0])([0, 0, 1, 1], [0, 1, 0, 1])), 4)
    0.3333
    """

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(name, dtype)
        allowance.spend(f"{type(self).__name__}(num_classes=...)", numbers=9 * num_classes)
        if num_classes < 1 or not all(0 <= i < num_classes for i in target_class_ids):
            raise ConfigError(
                f"{type(self).__name__} expects target_class_ids from 0 to num_classes - 1 = {num_classes - 1}; "
                f"received {list(target_class_ids)!r}"
            )
        self.num_classes, self.target_class_ids = num_classes, list(target_class_ids)
        self.ignore_class, self.axis = ignore_class, axis
        self.sparse_y_true, self.sparse_y_pred = sparse_y_true, sparse_y_pred
        self.total_confusion_matrix = self.add_total((num_classes, num_classes))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        y_true, y_pred = jnp.asarray(y_true), jnp.asarray(y_pred)
        y_true = y_true if self.sparse_y_true else jnp.argmax(y_true, self.axis)
        y_pred = y_pred if self.sparse_y_pred else jnp.argmax(y_pred, self.axis)
        if y_true.shape in ((*y_pred.shape, 1), y_pred.shape[:-1]) and y_true.size == y_pred.size:
            y_true = y_true.reshape(y_pred.shape)
        if y_true.shape != y_pred.shape:
            raise ShapeError(
                f"{type(self).__name__} compares class indices of the same shape; received y_true of shape "
                f"{y_true.shape} and y_pred of shape {y_pred.shape}.\n"
                "Write:  sparse_y_pred=False, for predictions with a score for each class."
            )
        y_true, y_pred = y_true.astype("int32"), y_pred.astype("int32")
        weights = jnp.ones(y_true.shape, self.dtype)
        if sample_weight is not None:
            weights = weights * aligned(jnp.asarray(sample_weight, self.dtype), y_true.shape, "sample_weight")
        known = (y_true >= 0) & (y_true < self.num_classes) & (y_pred >= 0) & (y_pred < self.num_classes)
        if self.ignore_class is not None:
            known &= y_true != self.ignore_class
        place = jnp.where(known, y_true * self.num_classes + y_pred, 0).reshape(-1)
        matrix = jnp.zeros(self.num_classes**2, self.dtype).at[place].add(jnp.where(known, weights, 0).reshape(-1))
        self.total_confusion_matrix.add(matrix.reshape(self.num_classes, self.num_classes))

    def result(self) -> Array:
        matrix = self.total_confusion_matrix.value
        hits = jnp.diag(matrix)
        union = matrix.sum(0) + matrix.sum(1) - hits
        chosen = jnp.asarray(self.target_class_ids)
        hits, union = hits[chosen], union[chosen]
        occurs = union > 1e-9
        return jnp.sum(jnp.where(occurs, hits / (union + EPSILON), 0)) / (jnp.sum(occurs) + EPSILON)


@register("metrics", "binary_iou")
class BinaryIoU(IoU):
    """Intersection over union for yes-or-no predictions.

    Args:
        target_class_ids: ``[1]`` for that of the yeses, ``[0]`` for that of the noes, both for their mean.
        threshold: what a prediction has to reach to count as yes.
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    def __init__(
        self,
        target_class_ids: Sequence[int] = (0, 1),
        threshold: float = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(y_true, jnp.asarray(y_pred) >= self.threshold, sample_weight)


@register("metrics", "mean_iou")
class MeanIoU(IoU):
    """The mean intersection over union of all classes.

    Args:
        num_classes: the number of classes.
        name: its name in logs.
        dtype: the dtype it computes in.
        ignore_class: a class index in the targets that is not counted.
        sparse_y_true: whether targets are class indices, rather than one-hot.
        sparse_y_pred: whether predictions are class indices, rather than scores.
        axis: the axis of the classes, where there is one.
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        ids = range(num_classes)
        super().__init__(num_classes, ids, name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)


@register("metrics", "one_hot_iou")
class OneHotIoU(IoU):
    """:class:`IoU` for one-hot targets, and predictions with a score for each class.

    Args:
        num_classes: the number of classes.
        target_class_ids: the classes whose mean is taken.
        name: its name in logs.
        dtype: the dtype it computes in.
        ignore_class: a class index in the targets that is not counted.
        sparse_y_pred: whether predictions are class indices after all.
        axis: the axis of the classes.
    """

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Sequence[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)


@register("metrics", "one_hot_mean_iou")
class OneHotMeanIoU(MeanIoU):
    """:class:`MeanIoU` for one-hot targets, and predictions with a score for each class.

    Args:
        num_classes: the number of classes.
        name: its name in logs.
        dtype: the dtype it computes in.
        ignore_class: a class index in the targets that is not counted.
        sparse_y_pred: whether predictions are class indices after all.
        axis: the axis of the classes.
    """

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)
