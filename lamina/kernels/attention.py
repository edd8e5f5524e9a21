"""Attention: how much each query takes from each value, by the likeness of query and key."""

import math

import jax
import jax.numpy as jnp

from lamina.core.errors import ShapeError
from lamina.core.typing import Array, Bool, Float, Real, Shaped


def masked_softmax(
    scores: Float[Array, "*shape"], mask: Shaped[Array, "*#shape"] | None = None, axis: int | tuple[int, ...] = -1
) -> Float[Array, "*shape"]:
    """Softmax over the entries where ``mask`` is True; the others, and rows without any, are zero.

    Args:
        scores: any shape, computed in at least single precision.
        mask: broadcast to the shape of ``scores``.
        axis: the axes that sum to one.

    >>> masked_softmax(jnp.zeros((2, 2)), jnp.array([[True, False], [False, False]])).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    exact = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    if mask is None:
        return jax.nn.softmax(exact, axis).astype(scores.dtype)
    mask = mask.astype(bool)
    # a large finite number: with minus infinity a row that is masked whole, and its gradient, would be NaN
    weights = jax.nn.softmax(jnp.where(mask, exact, jnp.finfo(exact.dtype).min / 2), axis)
    return jnp.where(mask, weights, 0).astype(scores.dtype)


def band_mask(
    queries: int, keys: int, causal: bool = False, window: int | None = None
) -> Bool[Array, "{queries} {keys}"] | None:
    """Which keys each query may see by position: shape ``(queries, keys)``, or ``None`` for all.

    Args:
        queries: the number of queries.
        keys: the number of keys.
        causal: whether only keys up to the query's own position are seen.
        window: how near a key must be: less than this many positions before or after.

    >>> band_mask(3, 3, causal=True, window=2).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    if not causal and window is None:
        return None
    distance = jnp.arange(queries)[:, None] - jnp.arange(keys)[None, :]
    near = jnp.abs(distance) < window if window is not None else True
    return jnp.logical_and(near, distance >= 0) if causal else near  # type: ignore[return-value]


def attention_weights(
    query: Float[Array, "batch queries heads dim"],
    key: Float[Array, "batch keys key_heads dim"],
    *,
    mask: Shaped[Array, "*#batch_and_heads #queries #keys"] | None = None,
    bias: Real[Array, "*#batch_and_heads #queries #keys"] | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
) -> Float[Array, "batch heads queries keys"]:
    r"""Attention weights, :math:`\mathrm{softmax}(s \, Q K^T + b)`.

    Args:
        query: shape ``(batch, queries, heads, dim)``.
        key: shape ``(batch, keys, key_heads, dim)``; each key head serves ``heads / key_heads`` neighbouring heads.
        mask: broadcast to ``(batch, heads, queries, keys)`` from two axes or more; True where a query may see a key.
        bias: added to the scores, broadcast likewise.
        causal: whether a query sees only keys up to its own position.
        window: if given, a query sees only keys less than this many positions away.
        scale: :math:`s`; :math:`1 / \sqrt{dim}` if none is given.

    Returns:
        Shape ``(batch, heads, queries, keys)``, in the dtype of ``query``. Rows that may see no key are zero.
    """
    batch, queries, heads, dim = query.shape
    keys, key_heads = key.shape[1:3]
    _check_heads(heads, key_heads)
    scale = 1 / math.sqrt(dim) if scale is None else scale
    # a half-precision product is accumulated and kept in single precision up to the softmax
    exact = jnp.promote_types(query.dtype, jnp.float32)
    query = query * jnp.asarray(scale, query.dtype)
    if heads == key_heads:
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=exact)
    else:
        grouped = query.reshape(batch, queries, key_heads, heads // key_heads, dim)
        scores = jnp.einsum("bqhgd,bkhd->bhgqk", grouped, key, preferred_element_type=exact)
        scores = scores.reshape(batch, heads, queries, keys)
    if bias is not None:
        scores = scores + bias.astype(exact)
    band = band_mask(queries, keys, causal, window)
    if mask is not None:
        band = mask.astype(bool) if band is None else jnp.logical_and(mask, band)
    return masked_softmax(scores, band).astype(query.dtype)


def weighted_sum(
    weights: Float[Array, "batch heads queries keys"], value: Float[Array, "batch keys key_heads value_dim"]
) -> Float[Array, "batch queries heads value_dim"]:
    """What the queries take from the values.

    Args:
        weights: shape ``(batch, heads, queries, keys)``.
        value: shape ``(batch, keys, key_heads, value_dim)``.

    Returns:
        Shape ``(batch, queries, heads, value_dim)``.
    """
    batch, heads, queries, keys = weights.shape
    key_heads = value.shape[2]
    _check_heads(heads, key_heads)
    if heads == key_heads:
        return jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    grouped = weights.reshape(batch, key_heads, heads // key_heads, queries, keys)
    taken = jnp.einsum("bhgqk,bkhd->bqhgd", grouped, value)
    return taken.reshape(batch, queries, heads, value.shape[-1])


def dot_product_attention(
    query: Float[Array, "batch queries heads dim"],
    key: Float[Array, "batch keys key_heads dim"],
    value: Float[Array, "batch keys key_heads value_dim"],
    *,
    mask: Shaped[Array, "*#batch_and_heads #queries #keys"] | None = None,
    bias: Real[Array, "*#batch_and_heads #queries #keys"] | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
) -> Float[Array, "batch queries heads value_dim"]:
    r"""Scaled dot-product attention, :math:`\mathrm{softmax}(s \, Q K^T + b) V`.

    The softmax is computed in at least single precision. A query that may see no key gets zeros.

    Args:
        query: shape ``(batch, queries, heads, dim)``.
        key: shape ``(batch, keys, key_heads, dim)``, with ``heads`` a multiple of ``key_heads``.
        value: shape ``(batch, keys, key_heads, value_dim)``.
        mask: broadcast to ``(batch, heads, queries, keys)`` from two axes or more; True where a query may see a key.
        bias: added to the scores, broadcast likewise.
        causal: whether a query sees only keys up to its own position.
        window: if given, a query sees only keys less than this many positions away.
        scale: :math:`s`; :math:`1 / \sqrt{dim}` if none is given.

    Returns:
        Shape ``(batch, queries, heads, value_dim)``.

    Raises:
        ShapeError: if ``heads`` is not a multiple of ``key_heads``.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762

    >>> x = jnp.ones((2, 5, 4, 8))
    >>> dot_product_attention(x, x, x, causal=True).shape
    (2, 5, 4, 8)
    """
    weights = attention_weights(query, key, mask=mask, bias=bias, causal=causal, window=window, scale=scale)
    return weighted_sum(weights, value)


def _check_heads(heads: int, key_heads: int) -> None:
    if heads % key_heads:
        raise ShapeError(f"{heads} heads of queries cannot share {key_heads} heads of keys and values evenly")
