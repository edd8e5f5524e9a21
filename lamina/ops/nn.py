"""The functions of ``keras.ops.nn``: activations, normalization, encodings, cross-entropies, attention.

Those that slide a window over space are written in ``lamina.ops.spatial``, those on alignments in ``lamina.ops.ctc``.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina import activations
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import Array
from lamina.kernels import attention, normalization
from lamina.ops import ctc, spatial
from lamina.ops.ctc import *  # noqa: F403
from lamina.ops.dispatch import like, op, public
from lamina.ops.spatial import *  # noqa: F403

#: the least divisor, and the distance that probabilities keep from 0 and 1
EPSILON = 1e-7

celu = like(activations.celu, "celu(x, alpha=1.0)")
elu = like(activations.elu, "elu(x, alpha=1.0)")
gelu = like(activations.gelu, "gelu(x, approximate=True)")
glu = like(activations.glu, "glu(x, axis=-1)")
hard_shrink = like(activations.hard_shrink, "hard_shrink(x, threshold=0.5)")
hard_sigmoid = like(activations.hard_sigmoid, "hard_sigmoid(x)")
hard_silu = like(activations.hard_silu, "hard_silu(x)")
hard_swish = like(activations.hard_silu, "hard_swish(x)")
hard_tanh = like(activations.hard_tanh, "hard_tanh(x)")
leaky_relu = like(activations.leaky_relu, "leaky_relu(x, negative_slope=0.2)")
log_sigmoid = like(activations.log_sigmoid, "log_sigmoid(x)")
log_softmax = like(activations.log_softmax, "log_softmax(x, axis=-1)")
mish = like(activations.mish, "mish(x)")
relu = like(activations.relu, "relu(x)")
relu6 = like(activations.relu6, "relu6(x)")
selu = like(activations.selu, "selu(x)")
sigmoid = like(activations.sigmoid, "sigmoid(x)")
silu = like(activations.silu, "silu(x)")
soft_shrink = like(activations.soft_shrink, "soft_shrink(x, threshold=0.5)")
softmax = like(activations.softmax, "softmax(x, axis=-1)")
softplus = like(activations.softplus, "softplus(x)")
softsign = like(activations.softsign, "softsign(x)")
sparse_plus = like(activations.sparse_plus, "sparse_plus(x)")
sparse_sigmoid = like(activations.sparse_sigmoid, "sparse_sigmoid(x)")
sparsemax = like(activations.sparsemax, "sparsemax(x, axis=-1)")
squareplus = like(activations.squareplus, "squareplus(x, b=4)")
swish = like(activations.silu, "swish(x)")
tanh_shrink = like(activations.tanh_shrink, "tanh_shrink(x)")
threshold = like(activations.threshold, "threshold(x, threshold, default_value)")


def _floats(x: Any) -> Array:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))


def _vector(v: Any, x: Array, axis: int | Sequence[int], name: str) -> Array | None:
    """``v`` as an array that has the lengths of ``x`` along ``axis``.

    Raises:
        ShapeError: if it has others.
    """
    if v is None:
        return None
    v, wanted = jnp.asarray(v), tuple(x.shape[a] for a in normalization.positive_axes(axis, x.ndim))
    if v.shape != wanted:
        raise ShapeError(f"{name} is expected to have shape {wanted}, as x has along axis {axis}; received {v.shape}")
    return v


@op
def moments(
    x: Any, axes: int | Sequence[int], keepdims: bool = False, synchronized: bool = False
) -> tuple[Array, Array]:
    """Mean and variance, computed in at least single precision and given in the dtype of ``x``.

    Args:
        x: any shape.
        axes: the axes to average over.
        keepdims: whether they stay, with length 1.
        synchronized: must be False: arrays that are spread over devices are averaged as a whole anyway.

    >>> [float(m) for m in moments([1.0, 3.0], 0)]
    [2.0, 1.0]
    """
    if synchronized:
        raise ConfigError("moments averages over all devices as it is.\nWrite:  moments(x, axes)")
    x, axes = _floats(x), (axes,) if isinstance(axes, int) else tuple(axes)
    mean, variance = normalization.moments(x, axes)
    if not keepdims:
        mean, variance = jnp.squeeze(mean, axes), jnp.squeeze(variance, axes)
    return mean.astype(x.dtype), variance.astype(x.dtype)


@op
def normalize(x: Any, axis: int | Sequence[int] = -1, order: int = 2, epsilon: float | None = None) -> Array:
    """``x`` divided by its norm along ``axis``, or by ``epsilon`` where that is more.

    Args:
        x: any shape.
        axis: the axis or axes to take the norm along.
        order: 2 for the Euclidean norm, 1 for the sum of absolute values, ...
        epsilon: 1e-7 by default.

    >>> normalize([[3.0, 4.0]], order=1).round(4).tolist()
    [[0.428..., 0.571...]]
    """
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ConfigError(f"normalize expects order as a whole number of at least 1; received {order!r}")
    x, epsilon = jnp.atleast_1d(_floats(x)), EPSILON if epsilon is None else epsilon
    if order == 2:
        return normalization.unit_norm(x, axis, epsilon)
    return x / jnp.maximum(jnp.linalg.norm(x, order, axis, keepdims=True), epsilon)


@op
def batch_normalization(
    x: Any,
    mean: Any,
    variance: Any,
    axis: int | Sequence[int],
    offset: Any = None,
    scale: Any = None,
    epsilon: float = 1e-3,
) -> Array:
    r""":math:`\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta` with one number for each channel.

    Args:
        x: any shape.
        mean: :math:`\mu`, shape ``(channels,)``.
        variance: :math:`\sigma^2`, like the next two of the same shape.
        axis: the axis of channels.
        offset: :math:`\beta`; zero by default.
        scale: :math:`\gamma`; one by default.
        epsilon: :math:`\epsilon`.
    """
    x = _floats(x)
    axes = normalization.positive_axes(axis, x.ndim)
    given = {"mean": mean, "variance": variance, "scale": scale, "offset": offset}
    vectors = [_vector(v, x, axis, name) for name, v in given.items()]
    centre, spread, gamma, beta = (normalization.along(v, axes, x.ndim) for v in vectors)
    assert centre is not None
    assert spread is not None
    return normalization.standardize(x, centre, spread, gamma, beta, epsilon)


@op
def layer_normalization(
    x: Any, gamma: Any = None, beta: Any = None, axis: int | Sequence[int] = -1, epsilon: float | None = None
) -> Array:
    """``x`` with mean 0 and variance 1 along ``axis``, then times ``gamma`` and plus ``beta``.

    Args:
        x: any shape.
        gamma: one axis for each of ``axis``; one by default.
        beta: likewise; zero by default.
        axis: the axes that share mean and variance.
        epsilon: added to the variance; 1e-7 by default.
    """
    x = _floats(x)
    gamma, beta = (_vector(v, x, axis, name) for name, v in {"gamma": gamma, "beta": beta}.items())
    return normalization.layer_norm(x, gamma, beta, axis, EPSILON if epsilon is None else epsilon)


@op
def rms_normalization(x: Any, scale: Any = None, axis: int | Sequence[int] = -1, epsilon: float | None = None) -> Array:
    """``x`` divided by the root of its mean square along ``axis``, then times ``scale``.

    Args:
        x: any shape.
        scale: one axis for each of ``axis``; one by default.
        axis: the axes to average over.
        epsilon: added to the mean square; 1e-7 by default.
    """
    x = _floats(x)
    return normalization.rms_norm(x, _vector(scale, x, axis, "scale"), axis, EPSILON if epsilon is None else epsilon)


@op
def one_hot(x: Any, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False) -> Array:
    """Vectors with 1 at the index and 0 elsewhere; zeros for an index outside ``0 <= x < num_classes``.

    Args:
        x: whole numbers of any shape.
        num_classes: the length of the new axis.
        axis: where the new axis stands.
        dtype: the floating dtype by default.
        sparse: must be False.

    >>> one_hot([0, 2], 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    _refuse_sparse("one_hot", sparse)
    return jax.nn.one_hot(jnp.asarray(x), num_classes, axis=axis, dtype=dtype or jnp.result_type(float))


@op
def multi_hot(
    inputs: Any, num_classes: int | None = None, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Array:
    """Vectors with 1 at each of several indices and 0 elsewhere.

    Args:
        inputs: whole numbers, shape ``(n,)`` or ``(batch, n, ...)``; an index outside leaves no trace.
        num_classes: the length of the vectors.
        axis: where the axis of classes stands before axis 1 of the indices (axis 0, without a batch) is left out.
        dtype: the floating dtype by default.
        sparse: must be False.

    >>> multi_hot([[0, 2]], 4).tolist()
    [[1.0, 0.0, 1.0, 0.0]]
    """
    _refuse_sparse("multi_hot", sparse)
    if num_classes is None:
        raise ConfigError("multi_hot needs the number of classes.\nWrite:  multi_hot(inputs, num_classes)")
    x = jnp.asarray(inputs)
    hot = jax.nn.one_hot(x, num_classes, axis=axis, dtype=dtype or jnp.result_type(float))
    return jnp.max(hot, axis=1 if x.ndim > 1 else 0)


def _refuse_sparse(name: str, sparse: bool) -> None:
    if sparse:
        raise ConfigError(f"{name} gives dense arrays only.\nWrite:  {name}(..., sparse=False)")


@op
def binary_crossentropy(target: Any, output: Any, from_logits: bool = False) -> Array:
    r"""For each entry, :math:`-t \log p - (1 - t) \log(1 - p)`.

    Args:
        target: :math:`t`, from 0 to 1, any shape.
        output: :math:`p`, or its logit with ``from_logits``; the shape of ``target``.
        from_logits: whether ``output`` comes before the sigmoid.

    Raises:
        ShapeError: if the shapes differ.

    >>> binary_crossentropy([1.0, 0.0], [0.5, 0.5]).round(4).tolist()
    [0.693..., 0.693...]
    """
    target, output = jnp.asarray(target), jnp.asarray(output)
    _same_shape("binary_crossentropy", target.shape, output.shape)
    target = target.astype(output.dtype)
    if from_logits:
        return -target * jax.nn.log_sigmoid(output) - (1 - target) * jax.nn.log_sigmoid(-output)
    p = jnp.clip(output, EPSILON, 1 - EPSILON)
    return -target * jnp.log(p) - (1 - target) * jnp.log(1 - p)


@op
def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Array:
    r""":math:`-\sum_i t_i \log p_i` along ``axis``.

    Args:
        target: :math:`t`, probabilities of any shape with at least one axis.
        output: :math:`p`, scaled to sum to 1, or logits with ``from_logits``; the shape of ``target``.
        from_logits: whether ``output`` comes before the softmax.
        axis: the axis of classes.

    Raises:
        ShapeError: if the shapes differ.
    """
    target, output = jnp.asarray(target), jnp.asarray(output)
    _same_shape("categorical_crossentropy", target.shape, output.shape)
    return -jnp.sum(target.astype(output.dtype) * _log_probabilities(output, from_logits, axis), axis)


@op
def sparse_categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> Array:
    r""":math:`-\log p_t` for the true class :math:`t`; zero for a class that is not there.

    Args:
        target: whole numbers: the shape of ``output`` without ``axis``, or with length 1 there.
        output: :math:`p`, scaled to sum to 1, or logits with ``from_logits``.
        from_logits: whether ``output`` comes before the softmax.
        axis: the axis of classes.

    Raises:
        ShapeError: if the shapes do not fit.

    >>> sparse_categorical_crossentropy([1], [[0.5, 0.5]]).round(4).tolist()
    [0.693...]
    """
    target, output = jnp.asarray(target), jnp.asarray(output)
    if target.ndim == output.ndim and target.ndim and target.shape[axis] == 1:
        target = jnp.squeeze(target, axis)
    expected = output.shape[: axis % output.ndim] + output.shape[axis % output.ndim + 1 :] if output.ndim else None
    _same_shape("sparse_categorical_crossentropy", target.shape, expected)
    chosen = jax.nn.one_hot(target.astype(jnp.int32), output.shape[axis], axis=axis, dtype=output.dtype)
    return -jnp.sum(chosen * _log_probabilities(output, from_logits, axis), axis)


def _log_probabilities(output: Array, from_logits: bool, axis: int) -> Array:
    if from_logits:
        return activations.log_softmax(output, axis)
    output = output / jnp.sum(output, axis, keepdims=True)
    return jnp.log(jnp.clip(output, EPSILON, 1 - EPSILON))


def _same_shape(name: str, received: Any, expected: Any) -> None:
    if received != expected:
        raise ShapeError(f"{name} expects targets of shape {expected} for these outputs; received {received}")


@op
def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
) -> Array:
    r"""Scaled dot-product attention, :math:`\mathrm{softmax}(s \, Q K^T + b) V`.

    Args:
        query: shape ``(batch, queries, heads, dim)``.
        key: shape ``(batch, keys, heads, dim)``; fewer heads, if they divide those of the query, are shared.
        value: shape ``(batch, keys, heads, value_dim)``.
        bias: added to the scores, broadcast to ``(batch, heads, queries, keys)``.
        mask: True where a query may see a key, broadcast likewise. A query that may see none gets zeros.
        scale: :math:`s`; :math:`1 / \sqrt{dim}` by default.
        is_causal: whether a query sees only keys up to its own position.
        flash_attention: accepted for Keras's sake; the fastest form is chosen anyway.
        attn_logits_soft_cap: a number :math:`c` that bounds the scores, as :math:`z / (1 + |z| / c)`.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762
    """
    arrays = [_floats(x) for x in (query, key, value)]
    if any(x.ndim != 4 for x in arrays):
        raise ShapeError(
            "dot_product_attention expects query, key and value of shape (batch, steps, heads, dim); "
            f"received {', '.join(str(x.shape) for x in arrays)}"
        )
    dtype = jnp.result_type(*arrays)
    q, k, v = (x.astype(dtype) for x in arrays)
    if not q.shape[0] == k.shape[0] == v.shape[0] or k.shape[1:3] != v.shape[1:3] or q.shape[3] != k.shape[3]:
        raise ShapeError(
            "dot_product_attention expects keys as long as queries, and as many values as keys; received query "
            f"{q.shape}, key {k.shape} and value {v.shape}"
        )
    bias, mask = (None if x is None else jnp.atleast_2d(x) for x in (bias, mask))
    wanted = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    for name, x in {"mask": mask, "bias": bias}.items():
        if x is not None and (
            x.ndim > 4 or any(n not in (1, w) for n, w in zip(x.shape[::-1], wanted[::-1], strict=False))
        ):
            raise ShapeError(
                f"{name} is expected to broadcast to (batch, heads, queries, keys) = {wanted}; received {x.shape}"
            )
    if attn_logits_soft_cap is None:
        return attention.dot_product_attention(q, k, v, mask=mask, bias=bias, causal=is_causal, scale=scale)
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = scores / (1 + jnp.abs(scores) / attn_logits_soft_cap)
    scores = scores if bias is None else scores + bias
    band = attention.band_mask(q.shape[1], k.shape[1], is_causal)
    seen = band if mask is None else mask.astype(bool) if band is None else mask.astype(bool) & band
    return attention.weighted_sum(attention.masked_softmax(scores, seen), v)


@op
def polar(abs_: Any, angle: Any) -> Array:
    """The complex numbers with these absolute values and angles."""
    abs_, angle = jnp.asarray(abs_), jnp.asarray(angle)
    return jax.lax.complex(abs_ * jnp.cos(angle), abs_ * jnp.sin(angle))


@op
def psnr(x1: Any, x2: Any, max_val: Any) -> Array:
    r"""Peak signal-to-noise ratio in decibels, :math:`10 \log_{10}(m^2 / \mathrm{mean}((x_1 - x_2)^2))`.

    Args:
        x1: any shape.
        x2: the same shape.
        max_val: :math:`m`, the greatest value that there can be.
    """
    x1, x2 = jnp.asarray(x1), jnp.asarray(x2)
    _same_shape("psnr", x1.shape, x2.shape)
    return 20 * jnp.log10(jnp.asarray(max_val, x2.dtype)) - 10 * jnp.log10(jnp.mean(jnp.square(x1 - x2)))


__all__ = [*public(__name__), *ctc.__all__, *spatial.__all__]
