"""The Loss: how losses per sample become one number, and what targets and predictions have to look like."""

from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.errors import ConfigError, ShapeError, nearest
from lamina.core.masks import get_mask
from lamina.core.registry import Configurable, snake_case
from lamina.core.state import Array

#: what keeps logarithms and quotients finite
EPSILON = 1e-7
REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none")


class Loss(Configurable):
    """The base of all losses. One of your own defines ``call(self, y_true, y_pred)``, which gives losses per sample.

    Args:
        reduction: how they become one number. ``"sum_over_batch_size"``, also called ``"mean"``, divides their weighted
            sum by how many there are; ``"mean_with_sample_weight"`` by the sum of the weights; ``"sum"`` by nothing;
            ``"none"`` or ``None`` leaves them as they are.
        name: its name; made from the class's name if none is given.
        dtype: the dtype it computes in; that of the predictions, but at least single precision, if none is given.

    Raises:
        ConfigError: for an unknown reduction.

    >>> class Quartic(Loss):
    ...     def call(self, y_true, y_pred):
    ...         return jnp.mean((y_true - y_pred) ** 4, axis=-1)
    >>> float(Quartic()(jnp.zeros((2, 3)), jnp.full((2, 3), 2.0)))
    16.0
    """

    #: whether predictions are scores rather than probabilities; ``None`` where it is neither
    from_logits: bool | None = None
    #: what targets are: ``"binary"`` labels, ``"categorical"`` (one-hot) or ``"sparse"`` (class indices); else ``None``
    targets: str | None = None
    #: whether each entry of the targets has its own prediction, so that shape ``(batch,)`` can stand for ``(batch, 1)``
    elementwise = False

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str | None = None, dtype: Any = None
    ) -> None:
        if reduction is not None and reduction not in REDUCTIONS:
            raise ConfigError(f"{reduction!r} is not a reduction. {nearest(str(reduction), REDUCTIONS)}")
        self.reduction = reduction or "none"
        self.name = name or snake_case(type(self).__name__)
        self.dtype = None if dtype is None else jnp.dtype(dtype).name

    def call(self, y_true: Any, y_pred: Any) -> Array:
        """The losses, one for each sample (or for each step of each sample), without weights."""
        raise NotImplementedError(f"{type(self).__name__} has no call. Write:  def call(self, y_true, y_pred): ...")

    def measure(self, y_true: Any, y_pred: Any, mask: Any) -> tuple[Array, Any]:
        """The losses, and which of them count (``None`` for all); for losses where samples influence each other."""
        return self.call(y_true, y_pred), mask

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None, mask: Any = None) -> Array:
        """The loss of a batch.

        Args:
            y_true: the targets.
            y_pred: the predictions.
            sample_weight: a factor for each loss; its axes are the first ones of the losses' shape.
            mask: True for the losses that count; its axes likewise. The others are neither added nor counted. A mask
                that travels with the predictions is taken into account too.

        Raises:
            ShapeError: if shapes do not fit together; nothing is stretched silently.
        """
        carried = get_mask(y_pred)
        y_true = jnp.asarray(y_true)
        if self.dtype is not None or not isinstance(y_pred, jax.Array):  # else this very array, for the scores under it
            y_pred = jnp.asarray(y_pred, self.dtype)
        if self.elementwise and y_pred.ndim == 1:
            y_pred = y_pred[:, None]
            y_true = y_true[:, None] if y_true.ndim == 1 else y_true
        values, mask = self.measure(y_true, y_pred, mask)
        values = float_array(values)
        if carried is not None and carried.shape == values.shape[: carried.ndim]:
            mask = aligned(carried, values.shape, "mask") & (mask is None or aligned(mask, values.shape, "mask"))
        return reduce_losses(values, sample_weight, mask, self.reduction)


def reduce_losses(values: Array, sample_weight: Any = None, mask: Any = None, reduction: str = "mean") -> Array:
    """Losses per sample as one number; see :class:`Loss`.

    Args:
        values: the losses, of any shape.
        sample_weight: a factor for each.
        mask: which of them count.
        reduction: one of ``REDUCTIONS``.

    >>> losses = jnp.array([1.0, 2.0, 9.0])
    >>> float(reduce_losses(losses, mask=jnp.array([True, True, False])))
    1.5
    """
    weights = None
    if sample_weight is not None:
        sample_weight = jnp.asarray(sample_weight, values.dtype)
        if values.ndim == 0:  # one loss for the whole batch, which then counts once for each weight
            values = jnp.broadcast_to(values, sample_weight.shape)
        weights = jnp.broadcast_to(aligned(sample_weight, values.shape, "sample_weight"), values.shape)
        values = values * weights
    count = jnp.asarray(values.size, values.dtype)
    if mask is not None:
        mask = jnp.broadcast_to(aligned(mask, values.shape, "mask"), values.shape).astype(bool)
        values = jnp.where(mask, values, 0)
        weights = None if weights is None else jnp.where(mask, weights, 0)
        count = jnp.sum(mask, dtype=values.dtype)
    if reduction == "none":
        return values
    total = jnp.sum(values)
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and weights is not None:
        count = jnp.sum(weights)
    return jnp.where(count == 0, 0, total / jnp.where(count == 0, 1, count))


def aligned(x: Any, shape: tuple[int, ...], what: str) -> Array:
    """``x`` with as many axes as ``shape``, its own ones first.

    Raises:
        ShapeError: if these are neither of the length that ``shape`` has there nor of length 1.
    """
    x = given = jnp.asarray(x)
    while x.ndim > len(shape) and x.shape[-1] == 1:
        x = x[..., 0]
    x = x.reshape(x.shape + (1,) * (len(shape) - x.ndim))
    if x.ndim > len(shape) or any(have not in (1, want) for have, want in zip(x.shape, shape, strict=True)):
        raise ShapeError(
            f"the losses of this batch have shape {shape}; received a {what} of shape {given.shape}.\n"
            f"Give one of shape {shape}" + (f" or {shape[:1]}." if len(shape) > 1 else ".")
        )
    return x


def float_array(x: Any) -> Array:
    """``x`` as an array of floating dtype, of at least single precision."""
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def paired(y_true: Any, y_pred: Any, name: str) -> tuple[Array, Array]:
    """Targets and predictions in one floating dtype and one shape.

    Where the one has a last axis of length 1 that the other lacks, the other gets it too.

    Raises:
        ShapeError: if the shapes still differ.
    """
    y_pred = float_array(y_pred)
    y_true = jnp.asarray(y_true, y_pred.dtype)
    true, pred = y_true.shape, y_pred.shape
    if pred == (*true, 1):
        y_true = y_true[..., None]
    elif true == (*pred, 1):
        y_pred = y_pred[..., None]
    elif true != pred:
        raise ShapeError(
            f"{name} compares targets with predictions of the same shape; received y_true of shape {true} and y_pred "
            f"of shape {pred}.\n{_advice(true, pred)}"
        )
    return y_true, y_pred


def _advice(true: tuple[int, ...], pred: tuple[int, ...]) -> str:
    """The line to write where targets and predictions do not match."""
    if true[:1] != pred[:1]:
        return "Give as many targets as there are examples in the batch."
    per_row = true[:-1] if true and true[-1] == 1 else true
    if pred and per_row == pred[:-1]:
        return (
            "Write:  Dense(1) as the last layer, for one number each;"
            " or loss='sparse_categorical_crossentropy', for class indices."
        )
    if true and pred and len(true) == len(pred) and true[:-1] == pred[:-1]:
        return f"Write:  Dense({true[-1]}) as the last layer."
    return f"Change the last layer so that it gives shape {true}, or the targets so that they have shape {pred}."
