"""Cross-entropies: the losses of classification.

Each takes probabilities, or with ``from_logits=True`` the scores before the sigmoid or softmax, which lose no precision.
Probabilities that come straight from Lamina's own sigmoid or softmax are traced back to their scores; others are cut off
at 1e-7 and 1 - 1e-7.
"""

from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.registry import register
from lamina.core.scores import get_scores
from lamina.core.state import Array
from lamina.kernels import crossentropy as kernels
from lamina.losses.base import EPSILON, Loss, aligned, float_array, paired

__all__ = [
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "SparseCategoricalCrossentropy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "sparse_categorical_crossentropy",
]


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    r"""The mean of :math:`-y \log p - (1 - y) \log(1 - p)` over ``axis``.

    Args:
        y_true: labels :math:`y`, 0 or 1 or between, shape ``(..., n)``.
        y_pred: probabilities :math:`p`, or scores, shape ``(..., n)``.
        from_logits: whether predictions are scores :math:`x`, with :math:`p = \sigma(x)`.
        label_smoothing: how far labels are moved towards 1/2: 0 not at all, 1 all the way.
        axis: the axis of the mean.

    Raises:
        ShapeError: if the shapes differ.

    >>> binary_crossentropy([[1.0]], [[0.5]]).round(4).tolist()
    [0.693...]
    """
    y_pred, from_logits = _scored(y_pred, from_logits, "sigmoid")
    y_true, y_pred = paired(y_true, y_pred, "binary_crossentropy")
    return jnp.mean(_binary(_smoothed(y_true, label_smoothing, 2), y_pred, from_logits), axis=axis)


def binary_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    r"""Binary cross-entropy times :math:`(1 - q)^\gamma`, for the probability :math:`q` given to the true label.

    Lin et al. (2017), https://arxiv.org/abs/1708.02002

    Args:
        y_true: see :func:`binary_crossentropy`, as for the arguments not named here.
        y_pred: likewise.
        apply_class_balancing: whether to multiply by ``alpha`` for label 1 and by ``1 - alpha`` for label 0.
        alpha: that factor.
        gamma: how much what is easy counts less.
        from_logits: whether predictions are scores.
        label_smoothing: how far labels are moved towards 1/2.
        axis: the axis of the mean.
    """
    y_pred, from_logits = _scored(y_pred, from_logits, "sigmoid")
    y_true, y_pred = paired(y_true, y_pred, "binary_focal_crossentropy")
    y_true = _smoothed(y_true, label_smoothing, 2)
    p = jax.nn.sigmoid(y_pred) if from_logits else y_pred
    losses = _binary(y_true, y_pred, from_logits) * (y_true * (1 - p) + (1 - y_true) * p) ** gamma
    if apply_class_balancing:
        losses = losses * (y_true * alpha + (1 - y_true) * (1 - alpha))
    return jnp.mean(losses, axis=axis)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Array:
    r""":math:`-\sum_c y_c \log p_c` over the classes.

    Args:
        y_true: probabilities :math:`y`, as a rule one-hot, shape ``(..., classes)``.
        y_pred: probabilities :math:`p`, which are made to sum to 1, or scores; same shape.
        from_logits: whether predictions are scores :math:`x`, with :math:`p = \mathrm{softmax}(x)`.
        label_smoothing: how far targets are moved towards equal probabilities: 0 not at all, 1 all the way.
        axis: the axis of the classes.

    Raises:
        ShapeError: if the shapes differ, or there is but one class.

    >>> categorical_crossentropy([[0.0, 1.0]], [[0.5, 0.5]]).round(4).tolist()
    [0.693...]
    """
    y_pred, from_logits = _scored(y_pred, from_logits, "softmax", axis)
    y_true, y_pred = _classes(y_true, y_pred, axis, "categorical_crossentropy")
    y_true = _smoothed(y_true, label_smoothing, y_true.shape[axis])
    return -jnp.sum(y_true * _log_probabilities(y_pred, from_logits, axis), axis=axis)


def categorical_focal_crossentropy(
    y_true: Any,
    y_pred: Any,
    alpha: Any = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Array:
    r""":math:`-\sum_c \alpha_c (1 - p_c)^\gamma y_c \log p_c` over the classes.

    Lin et al. (2017), https://arxiv.org/abs/1708.02002

    Args:
        y_true: see :func:`categorical_crossentropy`, as for the arguments not named here.
        y_pred: likewise.
        alpha: a factor, or one for each class.
        gamma: how much what is easy counts less.
        from_logits: whether predictions are scores.
        label_smoothing: how far targets are moved towards equal probabilities.
        axis: the axis of the classes.
    """
    y_pred, from_logits = _scored(y_pred, from_logits, "softmax", axis)
    y_true, y_pred = _classes(y_true, y_pred, axis, "categorical_focal_crossentropy")
    y_true = _smoothed(y_true, label_smoothing, y_true.shape[axis])
    log_p = _log_probabilities(y_pred, from_logits, axis)
    focus = jnp.asarray(alpha, y_pred.dtype) * (1 - jnp.exp(log_p)) ** gamma
    return -jnp.sum(focus * y_true * log_p, axis=axis)


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Array:
    r""":math:`-\log p_y`, for the index :math:`y` of the true class. NaN for an index that is no class.

    Args:
        y_true: class indices :math:`y`, shape ``(...)`` or ``(..., 1)``.
        y_pred: probabilities :math:`p`, which are made to sum to 1, or scores; shape ``(..., classes)``.
        from_logits: whether predictions are scores :math:`x`, with :math:`p = \mathrm{softmax}(x)`.
        ignore_class: an index whose loss is zero.
        axis: the axis of the classes.

    Raises:
        ShapeError: if the shapes do not match, or there is but one class.

    >>> sparse_categorical_crossentropy([1], [[0.5, 0.5]]).round(4).tolist()
    [0.693...]
    """
    y_pred, from_logits = _scored(y_pred, from_logits, "softmax", axis)
    labels, y_pred = _indices(y_true, y_pred, axis, "sparse_categorical_crossentropy")
    if from_logits and axis in (-1, y_pred.ndim - 1):
        losses = kernels.sparse_crossentropy(y_pred, labels)
    else:
        losses = -_picked(_log_probabilities(y_pred, from_logits, axis), labels, axis)
    return losses if ignore_class is None else jnp.where(labels == ignore_class, 0, losses)


def categorical_generalized_cross_entropy(y_true: Any, y_pred: Any, q: float = 0.5) -> Array:
    r""":math:`(1 - p_y^q) / q`, for the index :math:`y` of the true class; withstands wrong labels.

    Zhang and Sabuncu (2018), https://arxiv.org/abs/1805.07836

    Args:
        y_true: class indices, shape ``(...)`` or ``(..., 1)``.
        y_pred: probabilities :math:`p`, shape ``(..., classes)``.
        q: between 0, near cross-entropy, and 1, mean absolute error.
    """
    labels, y_pred = _indices(y_true, y_pred, -1, "categorical_generalized_cross_entropy")
    return (1 - jnp.clip(_picked(y_pred, labels, -1), EPSILON, 1) ** q) / q


def _scored(y_pred: Any, from_logits: bool, function: str, axis: int = -1) -> tuple[Any, bool]:
    """Predictions as scores where these are known, and whether they are scores."""
    scores = None if from_logits else get_scores(y_pred, function, axis)
    return (y_pred, from_logits) if scores is None else (scores, True)


def _binary(y_true: Array, y_pred: Array, from_logits: bool) -> Array:
    if from_logits:
        return -y_true * jax.nn.log_sigmoid(y_pred) - (1 - y_true) * jax.nn.log_sigmoid(-y_pred)
    p = jnp.clip(y_pred, EPSILON, 1 - EPSILON)
    return -y_true * jnp.log(p) - (1 - y_true) * jnp.log1p(-p)


def _log_probabilities(y_pred: Array, from_logits: bool, axis: int) -> Array:
    if from_logits:
        return jax.nn.log_softmax(y_pred, axis)
    p = y_pred / jnp.sum(y_pred, axis, keepdims=True)
    return jnp.log(jnp.clip(p, EPSILON, 1 - EPSILON))


def _picked(values: Array, labels: Array, axis: int) -> Array:
    """The value of each label along the axis of the classes; NaN for a label that is no class."""
    classes = jnp.expand_dims(
        jnp.arange(values.shape[axis]), [i for i in range(values.ndim) if i != axis % values.ndim]
    )
    # A comparison with every class rather than a look-up, whose gradient is a slow scatter.
    chosen = jnp.expand_dims(labels, axis) == classes
    picked = jnp.sum(jnp.where(chosen, values, 0), axis)
    return jnp.where((labels >= 0) & (labels < values.shape[axis]), picked, jnp.nan)


def _smoothed(y_true: Array, label_smoothing: float, classes: int) -> Array:
    return y_true * (1 - label_smoothing) + label_smoothing / classes if label_smoothing else y_true


def _several(shape: tuple[int, ...], axis: int, name: str) -> None:
    if not shape or shape[axis] < 2:
        raise ShapeError(
            f"{name} compares classes; received y_pred of shape {shape}, without two of them along axis {axis}.\n"
            "Write:  loss='binary_crossentropy', for one output that says yes or no."
        )


def _classes(y_true: Any, y_pred: Any, axis: int, name: str) -> tuple[Array, Array]:
    """One-hot targets and predictions in one dtype and shape."""
    y_true, y_pred = jnp.asarray(y_true), jnp.asarray(y_pred)
    true, pred = y_true.shape, y_pred.shape
    _several(pred, axis, name)
    if true != pred and len(true) in (len(pred), len(pred) - 1) and true in (pred[:-1], (*pred[:-1], 1)):
        raise ShapeError(
            f"{name} expects one-hot targets of shape {pred}, as the predictions have; received shape {true}, which "
            "looks like class indices.\nWrite:  loss='sparse_categorical_crossentropy'."
        )
    return paired(y_true, y_pred, name)


def _indices(y_true: Any, y_pred: Any, axis: int, name: str) -> tuple[Array, Array]:
    """Targets as whole numbers, of the shape that predictions have without their axis of classes."""
    y_true, y_pred = jnp.asarray(y_true), float_array(y_pred)
    true, pred = y_true.shape, y_pred.shape
    _several(pred, axis, name)
    if y_true.ndim == y_pred.ndim and true[axis] == 1:
        y_true = jnp.squeeze(y_true, axis)
    wanted = tuple(n for i, n in enumerate(pred) if i != axis % len(pred))
    if y_true.shape != wanted:
        advice = (
            "Write:  loss='categorical_crossentropy', for one-hot targets."
            if true == pred
            else f"Give class indices of shape {wanted}."
        )
        raise ShapeError(
            f"{name} expects one class index for each prediction; received y_true of shape {true} and y_pred of shape "
            f"{pred}.\n{advice}"
        )
    return y_true.astype("int32"), y_pred


class _Crossentropy(Loss):
    """What cross-entropies have in common.

    Args:
        from_logits: whether predictions are scores rather than probabilities.
        label_smoothing: how far targets are moved towards equal probabilities, from 0 to 1.
        axis: the axis of the classes.
        reduction: see :class:`Loss`.
        name: see :class:`Loss`.
        dtype: see :class:`Loss`.

    Raises:
        ConfigError: for a ``label_smoothing`` outside 0 to 1, or an axis that is no whole number.
    """

    from_logits: bool

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise ConfigError(f"{type(self).__name__} expects axis as a whole number; received {axis!r}")
        if not 0 <= label_smoothing <= 1:
            raise ConfigError(
                f"{type(self).__name__} expects label_smoothing from 0 to 1; received {label_smoothing!r}"
            )
        self.from_logits, self.label_smoothing, self.axis = bool(from_logits), label_smoothing, axis


@register("losses", "bce")
class BinaryCrossentropy(_Crossentropy):
    """For yes-or-no outputs, one or several; see :func:`binary_crossentropy` and, for ``reduction``, :class:`Loss`.

    Args:
        from_logits: whether predictions are scores rather than probabilities.
        label_smoothing: how far labels are moved towards 1/2.
        axis: the axis of the mean.
        reduction: see :class:`Loss`, as for ``name`` and ``dtype``.

    >>> float(BinaryCrossentropy(from_logits=True)([[1.0], [0.0]], [[0.0], [0.0]]).round(4))
    0.693...
    """

    targets = "binary"
    elementwise = True

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return binary_crossentropy(y_true, y_pred, self.from_logits, self.label_smoothing, self.axis)


@register("losses")
class BinaryFocalCrossentropy(_Crossentropy):
    """Binary cross-entropy in which what is easy counts less; see :func:`binary_focal_crossentropy`.

    Args:
        apply_class_balancing: whether ``alpha`` is used.
        alpha: the factor for label 1; label 0 has ``1 - alpha``.
        gamma: how much what is easy counts less.
        from_logits: see :class:`BinaryCrossentropy`, as for ``label_smoothing`` and ``axis``.
        kwargs: see :class:`BinaryCrossentropy`.
    """

    targets = "binary"
    elementwise = True

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(from_logits, **kwargs)
        self.apply_class_balancing, self.alpha, self.gamma = apply_class_balancing, alpha, gamma

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return binary_focal_crossentropy(
            y_true,
            y_pred,
            self.apply_class_balancing,
            self.alpha,
            self.gamma,
            self.from_logits,
            self.label_smoothing,
            self.axis,
        )


@register("losses", "cce")
class CategoricalCrossentropy(_Crossentropy):
    """For one of several classes, targets one-hot; see :func:`categorical_crossentropy` and :class:`Loss`.

    Args:
        from_logits: whether predictions are scores rather than probabilities.
        label_smoothing: how far targets are moved towards equal probabilities.
        axis: the axis of the classes.
        reduction: see :class:`Loss`, as for ``name`` and ``dtype``.
    """

    targets = "categorical"

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return categorical_crossentropy(y_true, y_pred, self.from_logits, self.label_smoothing, self.axis)


@register("losses")
class CategoricalFocalCrossentropy(_Crossentropy):
    """Categorical cross-entropy in which what is easy counts less; see :func:`categorical_focal_crossentropy`.

    Args:
        alpha: a factor, or one for each class.
        gamma: how much what is easy counts less.
        from_logits: see :class:`CategoricalCrossentropy`, as for ``label_smoothing`` and ``axis``.
        kwargs: see :class:`CategoricalCrossentropy`.
    """

    targets = "categorical"

    def __init__(self, alpha: Any = 0.25, gamma: float = 2.0, from_logits: bool = False, **kwargs: Any) -> None:
        super().__init__(from_logits, **kwargs)
        self.alpha, self.gamma = alpha, gamma

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return categorical_focal_crossentropy(
            y_true, y_pred, self.alpha, self.gamma, self.from_logits, self.label_smoothing, self.axis
        )


@register("losses", "scce")
class SparseCategoricalCrossentropy(Loss):
    """For one of several classes, targets as class indices; see :func:`sparse_categorical_crossentropy`.

    Args:
        from_logits: whether predictions are scores rather than probabilities.
        ignore_class: an index that marks what does not count.
        reduction: see :class:`Loss`, as for ``name`` and ``dtype``.
        axis: the axis of the classes.

    >>> loss = SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    >>> float(loss([1, -1], [[0.0, 0.0], [9.0, 0.0]]).round(4))
    0.693...
    """

    targets = "sparse"
    from_logits: bool

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.from_logits, self.ignore_class, self.axis = bool(from_logits), ignore_class, axis

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return sparse_categorical_crossentropy(y_true, y_pred, self.from_logits, self.ignore_class, self.axis)

    def measure(self, y_true: Any, y_pred: Any, mask: Any) -> tuple[Array, Any]:
        losses = self.call(y_true, y_pred)
        if self.ignore_class is None:
            return losses, mask
        counts = (jnp.asarray(y_true) != self.ignore_class).reshape(losses.shape)
        return losses, counts if mask is None else counts & aligned(mask, losses.shape, "mask")


@register("losses")
class CategoricalGeneralizedCrossEntropy(Loss):
    """A cross-entropy that withstands wrong labels, targets as class indices.

    Args:
        q: see :func:`categorical_generalized_cross_entropy`.
        kwargs: see :class:`Loss`.

    Raises:
        ConfigError: unless ``0 < q < 1``.
    """

    targets = "sparse"
    from_logits = False

    def __init__(self, q: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < q < 1:
            raise ConfigError(f"CategoricalGeneralizedCrossEntropy expects q between 0 and 1; received {q!r}")
        self.q = q

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return categorical_generalized_cross_entropy(y_true, y_pred, self.q)
