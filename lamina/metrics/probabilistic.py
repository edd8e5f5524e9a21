"""Cross-entropies, divergences and hinges as metrics."""

from typing import Any

from lamina import losses
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.metrics.reduction import FunctionMean


@register("metrics", "bce")
class BinaryCrossentropy(FunctionMean):
    r"""The mean of :math:`-y \log p - (1 - y) \log(1 - p)`.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
        from_logits: whether predictions are scores rather than probabilities.
        label_smoothing: how far labels are moved towards 1/2.
    """

    elementwise = True

    def __init__(
        self, name: str | None = None, dtype: Any = None, from_logits: bool = False, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(name, dtype)
        self.from_logits, self.label_smoothing = from_logits, label_smoothing

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return losses.binary_crossentropy(y_true, y_pred, self.from_logits, self.label_smoothing)


@register("metrics")
class CategoricalCrossentropy(FunctionMean):
    r"""The mean of :math:`-\sum y \log p` over the classes; one-hot targets.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
        from_logits: whether predictions are scores rather than probabilities.
        label_smoothing: how far labels are moved towards equal probabilities.
        axis: the axis of the classes.
    """

    def __init__(
        self,
        name: str | None = None,
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
    ) -> None:
        super().__init__(name, dtype)
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return losses.categorical_crossentropy(y_true, y_pred, self.from_logits, self.label_smoothing, self.axis)


@register("metrics")
class SparseCategoricalCrossentropy(FunctionMean):
    r"""The mean of :math:`-\log p_y`; class indices as targets.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
        from_logits: whether predictions are scores rather than probabilities.
        ignore_class: a class index whose loss is taken as zero.
        axis: the axis of the classes.
    """

    def __init__(
        self,
        name: str | None = None,
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ) -> None:
        super().__init__(name, dtype)
        self.from_logits, self.ignore_class, self.axis = from_logits, ignore_class, axis

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return losses.sparse_categorical_crossentropy(y_true, y_pred, self.from_logits, self.ignore_class, self.axis)


@register("metrics", "kld", "kullback_leibler_divergence")
class KLDivergence(FunctionMean):
    r"""The mean of :math:`\sum y \log(y / p)` over the classes.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return losses.kl_divergence(y_true, y_pred)


@register("metrics")
class Poisson(FunctionMean):
    r"""The mean of :math:`\hat y - y \log \hat y`.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    elementwise = True

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return losses.poisson(y_true, y_pred)


@register("metrics")
class Hinge(FunctionMean):
    r"""The mean of :math:`\max(0, 1 - y \hat y)`, for targets -1 and 1 (or 0 and 1).

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    elementwise = True

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return losses.hinge(y_true, y_pred)


@register("metrics")
class SquaredHinge(FunctionMean):
    r"""The mean of :math:`\max(0, 1 - y \hat y)^2`, for targets -1 and 1 (or 0 and 1).

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    elementwise = True

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return losses.squared_hinge(y_true, y_pred)


@register("metrics")
class CategoricalHinge(FunctionMean):
    r"""The mean of :math:`\max(0, 1 + \max_{c \ne y} \hat y_c - \hat y_y)`; one-hot targets.

    Args:
        name: its name in logs.
        dtype: the dtype it computes in.
    """

    def values(self, y_true: Any, y_pred: Any) -> Array:
        return losses.categorical_hinge(y_true, y_pred)
