"""Losses that look at more than one entry at a time: margins, overlaps of areas, pairs of samples, alignments."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.errors import ShapeError
from lamina.core.masks import get_mask
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.losses.base import EPSILON, Loss, aligned, float_array, paired

__all__ = [
    "CTC",
    "CategoricalHinge",
    "Circle",
    "Dice",
    "Hinge",
    "SquaredHinge",
    "Tversky",
    "categorical_hinge",
    "circle",
    "ctc",
    "dice",
    "hinge",
    "squared_hinge",
    "tversky",
]

Axes = int | Sequence[int] | None


def hinge(y_true: Any, y_pred: Any) -> Array:
    r""":math:`\frac{1}{n} \sum \max(1 - y \hat y, 0)` over the last axis.

    Args:
        y_true: labels :math:`y`, -1 or 1; 0 is taken as -1. Shape ``(..., n)``.
        y_pred: scores :math:`\hat y`, shape ``(..., n)``.

    Raises:
        ShapeError: if the shapes differ.

    >>> hinge([[1.0, 0.0]], [[0.5, -2.0]]).tolist()
    [0.25]
    """
    return jnp.mean(_margins(y_true, y_pred, "hinge"), axis=-1)


def squared_hinge(y_true: Any, y_pred: Any) -> Array:
    r""":math:`\frac{1}{n} \sum \max(1 - y \hat y, 0)^2` over the last axis; arguments as in :func:`hinge`."""
    return jnp.mean(jnp.square(_margins(y_true, y_pred, "squared_hinge")), axis=-1)


def _margins(y_true: Any, y_pred: Any, name: str) -> Array:
    y_true, y_pred = paired(y_true, y_pred, name)
    return jnp.maximum(1 - jnp.where(y_true == 0, -1, y_true) * y_pred, 0)


def categorical_hinge(y_true: Any, y_pred: Any) -> Array:
    r""":math:`\max(1 + n - p, 0)`, for the score :math:`p` of the true class and the best other score :math:`n`.

    Args:
        y_true: one-hot, shape ``(..., classes)``.
        y_pred: scores, same shape.
    """
    y_true, y_pred = paired(y_true, y_pred, "categorical_hinge")
    positive = jnp.sum(y_true * y_pred, axis=-1)
    return jnp.maximum(jnp.max((1 - y_true) * y_pred, axis=-1) - positive + 1, 0)


def dice(y_true: Any, y_pred: Any, axis: Axes = None) -> Array:
    r""":math:`1 - 2 \sum y \hat y / (\sum y + \sum \hat y)`, for the overlap of areas.

    Args:
        y_true: 0 or 1 at each place :math:`y`.
        y_pred: probabilities :math:`\hat y`, same shape.
        axis: the axes of the sums; all of them, the batch too, if ``None``.

    >>> float(dice([[1.0, 0.0]], [[1.0, 1.0]]).round(3))
    0.333...
    """
    y_true, y_pred = paired(y_true, y_pred, "dice")
    axes = _axes(axis)
    both = jnp.sum(y_true * y_pred, axis=axes)
    return 1 - 2 * both / (jnp.sum(y_true, axis=axes) + jnp.sum(y_pred, axis=axes) + EPSILON)


def tversky(y_true: Any, y_pred: Any, alpha: float = 0.5, beta: float = 0.5, axis: Axes = None) -> Array:
    r""":math:`1 - t / (t + \alpha \sum y (1 - \hat y) + \beta \sum \hat y (1 - y))` with :math:`t = \sum y \hat y`.

    Salehi et al. (2017), https://arxiv.org/abs/1706.05721

    Args:
        y_true: see :func:`dice`, as for ``y_pred`` and ``axis``.
        y_pred: likewise.
        alpha: the factor of what was missed.
        beta: the factor of what was found in vain.
        axis: likewise.
    """
    y_true, y_pred = paired(y_true, y_pred, "tversky")
    axes = _axes(axis)
    both = jnp.sum(y_true * y_pred, axis=axes)
    missed, vain = jnp.sum(y_true * (1 - y_pred), axis=axes), jnp.sum(y_pred * (1 - y_true), axis=axes)
    return 1 - both / (both + alpha * missed + beta * vain + EPSILON)


def _axes(axis: Axes) -> Any:
    return axis if axis is None or isinstance(axis, int) else tuple(axis)


def circle(
    y_true: Any,
    y_pred: Any,
    ref_labels: Any = None,
    ref_embeddings: Any = None,
    remove_diagonal: bool = True,
    gamma: float = 80.0,
    margin: float = 0.4,
    mask: Any = None,
) -> Array:
    r"""Pulls embeddings of one class together and others apart: one loss for each, zero if it lacks either.

    :math:`\log(1 + \sum_p e^{\gamma (m + d_p)(d_p - m)} \sum_n e^{\gamma (1 + m - d_n)(1 - m - d_n)})`, for the cosine
    distances :math:`d` to others of the same class :math:`p` and of other classes :math:`n`, with margin :math:`m`.

    Sun et al. (2020), https://arxiv.org/abs/2002.10857

    Args:
        y_true: class indices, shape ``(batch,)`` or ``(batch, 1)``.
        y_pred: embeddings of length 1, shape ``(batch, n)``.
        ref_labels: the classes of the embeddings to compare with; ``y_true`` if none are given.
        ref_embeddings: the embeddings to compare with; ``y_pred`` if none are given.
        remove_diagonal: whether the i-th embedding is not compared with the i-th reference.
        gamma: the factor :math:`\gamma`.
        margin: the margin :math:`m`.
        mask: which of the references count, shape ``(references,)``.

    Raises:
        ShapeError: if labels and embeddings are not as many.
    """
    y_pred = float_array(y_pred)
    embeddings = y_pred if ref_embeddings is None else jnp.asarray(ref_embeddings, y_pred.dtype)
    labels = _labels(y_true, y_pred)
    others = labels if ref_labels is None and ref_embeddings is None else _labels(ref_labels, embeddings)
    distance = jnp.maximum(1 - y_pred @ embeddings.T, 0)
    same = labels[:, None] == others
    counts = jnp.ones(same.shape, bool) if mask is None else jnp.broadcast_to(jnp.asarray(mask, bool), same.shape)
    not_itself = ~jnp.eye(same.shape[0], same.shape[1], dtype=bool) if remove_diagonal else True
    pull = gamma * (margin + distance) * (distance - margin)
    push = gamma * jnp.maximum(1 + margin - distance, 0) * (1 - margin - distance)
    pulls, pushes = (_logsumexp(pull, same & counts & not_itself), _logsumexp(push, ~same & counts))
    losses = jax.nn.softplus(pulls[0] + pushes[0])
    return jnp.where(pulls[1] & pushes[1], losses, 0)


def _labels(labels: Any, embeddings: Array) -> Array:
    labels = jnp.asarray(labels)
    if embeddings.ndim != 2 or labels.shape not in ((len(embeddings),), (len(embeddings), 1)):
        raise ShapeError(
            "circle expects embeddings of shape (batch, n) and as many class indices, of shape (batch,); received "
            f"shapes {embeddings.shape} and {labels.shape}"
        )
    return labels.reshape(-1)


def _logsumexp(x: Array, where: Array) -> tuple[Array, Array]:
    """The logarithm of the sum of exponentials over the last axis, and whether there is anything to sum."""
    some = jnp.any(where, axis=-1)
    where = where | ~some[:, None]  # a row without any has a finite gradient all the same
    return jax.nn.logsumexp(jnp.where(where, x, -jnp.inf), axis=-1), some


def ctc(y_true: Any, y_pred: Any, mask: Any = None) -> Array:
    """Connectionist temporal classification: the negative log-likelihood of a sequence of labels without its timing.

    Graves et al. (2006), https://www.cs.toronto.edu/~graves/icml_2006.pdf

    Args:
        y_true: class indices, shape ``(batch, labels)``; shorter ones end in zeros. Class 0 is the blank.
        y_pred: scores, shape ``(batch, steps, classes)``.
        mask: which steps there are, shape ``(batch, steps)``, if not all: the first ones of each sample.

    Raises:
        ShapeError: for other shapes.
    """
    import optax

    y_true, y_pred = jnp.asarray(y_true).astype("int32"), float_array(y_pred)
    if y_true.ndim != 2 or y_pred.ndim != 3 or len(y_true) != len(y_pred):
        raise ShapeError(
            "ctc expects class indices of shape (batch, labels) and scores of shape (batch, steps, classes); received "
            f"shapes {y_true.shape} and {y_pred.shape}"
        )
    lengths = jnp.sum(y_true != 0, axis=-1, keepdims=True)
    label_paddings = (jnp.arange(y_true.shape[1]) >= lengths).astype(y_pred.dtype)
    steps = jnp.ones(y_pred.shape[:2], bool) if mask is None else aligned(mask, y_pred.shape[:2], "mask")
    paddings = jnp.broadcast_to(1 - steps.astype(y_pred.dtype), y_pred.shape[:2])
    return optax.ctc_loss(y_pred, paddings, y_true, label_paddings)


@register("losses")
class Hinge(Loss):
    """The distance by which scores of labels -1 and 1 miss a margin; see :func:`hinge` and :class:`Loss`."""

    targets = "binary"
    elementwise = True

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return hinge(y_true, y_pred)


@register("losses")
class SquaredHinge(Loss):
    """The squares of those distances; see :func:`squared_hinge` and :class:`Loss`."""

    targets = "binary"
    elementwise = True

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return squared_hinge(y_true, y_pred)


@register("losses")
class CategoricalHinge(Loss):
    """How far the true class's score is from leading by 1; see :func:`categorical_hinge` and :class:`Loss`."""

    targets = "categorical"

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return categorical_hinge(y_true, y_pred)


class _Overlap(Loss):
    """A loss in which samples are summed up; those that do not count are zero in both areas."""

    axis: Axes

    def measure(self, y_true: Any, y_pred: Any, mask: Any) -> tuple[Array, Any]:
        if mask is not None:
            y_true, y_pred = paired(y_true, y_pred, self.name)
            counts = aligned(mask, y_pred.shape, "mask").astype(bool)
            y_true, y_pred = jnp.where(counts, y_true, 0), jnp.where(counts, y_pred, 0)
        losses = self.call(y_true, y_pred)
        by_sample = losses.ndim > 0 and mask is not None and losses.shape[: jnp.ndim(mask)] == jnp.shape(mask)
        return losses, mask if by_sample else None


@register("losses")
class Dice(_Overlap):
    """How far areas are from covering each other, for segmentation; see :func:`dice`.

    Args:
        reduction: see :class:`Loss`, as for ``name`` and ``dtype``.
        name: likewise.
        axis: the axes of the sums; all of them, the batch too, if ``None``.
        dtype: likewise.
    """

    from_logits = False

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        axis: Axes = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.axis = axis

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return dice(y_true, y_pred, self.axis)


@register("losses")
class Tversky(_Overlap):
    """As :class:`Dice`, with different factors for what is missed and what is found in vain; see :func:`tversky`.

    Args:
        alpha: the factor of what was missed.
        beta: the factor of what was found in vain.
        reduction: see :class:`Loss`, as for ``name`` and ``dtype``.
        name: likewise.
        axis: the axes of the sums; all of them, the batch too, if ``None``.
        dtype: likewise.
    """

    from_logits = False

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        axis: Axes = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.alpha, self.beta, self.axis = alpha, beta, axis

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return tversky(y_true, y_pred, self.alpha, self.beta, self.axis)


@register("losses")
class Circle(Loss):
    """Makes embeddings of one class similar and of others different; see :func:`circle`. Zero losses do not count.

    Args:
        gamma: see :func:`circle`, as for ``margin`` and ``remove_diagonal``.
        margin: likewise.
        remove_diagonal: likewise.
        kwargs: see :class:`Loss`.
    """

    def __init__(self, gamma: float = 80.0, margin: float = 0.4, remove_diagonal: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gamma, self.margin, self.remove_diagonal = gamma, margin, remove_diagonal

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return self.measure(y_true, y_pred, None)[0]

    def measure(self, y_true: Any, y_pred: Any, mask: Any) -> tuple[Array, Any]:
        mask = None if mask is None else aligned(mask, (len(y_pred),), "mask")
        losses = circle(
            y_true,
            y_pred,
            remove_diagonal=self.remove_diagonal,
            gamma=self.gamma,
            margin=self.margin,
            mask=mask,
        )
        return losses, losses > 0 if mask is None else (losses > 0) & mask.astype(bool)


@register("losses")
class CTC(Loss):
    """For sequences whose labels have no timing, as in speech; see :func:`ctc` and, for arguments, :class:`Loss`.

    A mask of the steps that travels with the predictions says how long each sample is.
    """

    targets = "sparse"
    from_logits = True

    def call(self, y_true: Any, y_pred: Any) -> Array:
        return ctc(y_true, y_pred, get_mask(y_pred))
