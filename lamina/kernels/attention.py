"""Attention: how much each query takes from each value, by the likeness of query and key.

The kernel in ``lamina/native/attention.cc``, for CPUs, never writes out the weights; nor does cuDNN's, for half precision on
GPUs. Where they are wanted, or where a bias is added to the scores, :func:`attention_weights` and :func:`weighted_sum` work
with them in full.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.errors import ShapeError
from lamina.core.typing import Array, Bool, Float, Real, Shaped
from lamina.kernels.operation import Operation, all_half, call, of_dtype

Arrays = Sequence[Any]
#: how many heads of queries and of keys lie in one array; None where queries, keys and values are three arrays
Joined = tuple[int, int] | None

#: farther than any two positions
FAR = 2**30
#: so many queries and keys fill tiles of bfloat16
MANY = 32


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
    return masked_softmax(*_scores(query, key, mask, bias, causal, window, scale)).astype(query.dtype)


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
    if bias is not None:
        weights = attention_weights(query, key, mask=mask, bias=bias, causal=causal, window=window, scale=scale)
        return weighted_sum(weights, value)
    _check_heads(query.shape[2], key.shape[2])
    return _attention(query, key, value, mask=mask, joined=None, causal=causal, window=window, scale=scale)


def self_attention(
    projected: Float[Array, "batch length all_heads dim"],
    *,
    key_heads: int | None = None,
    mask: Shaped[Array, "*#batch_and_heads #length #length"] | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    padded: bool = False,
) -> Float[Array, "batch length heads dim"]:
    """:func:`dot_product_attention` of queries, keys and values that lie beside each other, as one product gives them.

    On CPUs this spares taking them apart, and putting their gradients together.

    Args:
        projected: shape ``(batch, length, heads + 2 * key_heads, dim)``: the heads of queries, of keys, of values.
        key_heads: how many heads of keys, and of values, there are; as many as of queries if none is given.
        mask: see :func:`dot_product_attention`, as for the rest.
        padded: whether what ``mask``, of shape ``(batch, 1, 1, length)``, hides at the end of an example is padding: queries
            from there on get zeros, which costs nothing.

    Returns:
        Shape ``(batch, length, heads, dim)``.

    Raises:
        ShapeError: if the heads do not make up queries, keys and values, or a padded mask differs from query to query.

    >>> self_attention(jnp.ones((2, 5, 12, 8)), causal=True).shape
    (2, 5, 4, 8)
    """
    count = projected.shape[2]
    if key_heads is None and count % 3:
        raise ShapeError(f"{count} heads cannot be as many of queries as of keys and of values")
    key_heads = count // 3 if key_heads is None else key_heads
    heads = count - 2 * key_heads
    if heads < 1:
        raise ShapeError(f"{count} heads cannot hold {key_heads} of keys, as many of values, and some of queries")
    _check_heads(heads, key_heads)
    if padded and mask is not None and mask.shape[-2:-1] != (1,):
        raise ShapeError(f"padded needs a mask of shape (batch, 1, 1, length), and got one of shape {mask.shape}")
    settings = {"causal": causal, "window": window, "scale": scale, "padded": padded and mask is not None}
    return _attention(projected, mask=mask, joined=(heads, key_heads), **settings)


def _attention(*arrays: Array, mask: Array | None, scale: Any, **settings: Any) -> Array:
    if mask is None:
        mask = jnp.zeros((0, 0, 0, 0), bool)
    mask = mask.astype(bool).reshape((1,) * (4 - mask.ndim) + mask.shape)
    scale = 1 / math.sqrt(arrays[0].shape[-1]) if scale is None else float(scale)
    return ATTENTION(*arrays, mask, scale=scale, **settings)


def _scores(
    query: Array,
    key: Array,
    mask: Array | None,
    bias: Array | None,
    causal: bool,
    window: int | None,
    scale: float | None,
) -> tuple[Array, Array | None]:
    """Scores, ``(batch, heads, queries, keys)``, and which of them count."""
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
    return scores, band


def _check_heads(heads: int, key_heads: int) -> None:
    if heads % key_heads:
        raise ShapeError(f"{heads} heads of queries cannot share {key_heads} heads of keys and values evenly")


def _parts(arrays: Arrays, joined: Joined) -> Arrays:
    """Query, key and value."""
    return arrays if joined is None else jnp.split(arrays[0], [joined[0], sum(joined)], axis=2)


def _answered(result: Array, mask: Array, padded: bool) -> Array:
    """A result, (batch, queries, heads, ...), with zeros for the queries of padding."""
    if not padded:
        return result
    end = jnp.max(jnp.where(mask, jnp.arange(1, mask.shape[-1] + 1), 0), axis=-1)  # (batch, heads, 1)
    there = jnp.moveaxis(jnp.arange(result.shape[1]) < end, 1, 2)
    return jnp.where(there.reshape(*there.shape, *(1,) * (result.ndim - 3)), result, 0)


def _portable(*arrays: Any, joined: Joined, padded: bool = False, **settings: Any) -> Any:
    *given, mask = arrays
    query, key, value = _parts(given, joined)
    out = weighted_sum(attention_weights(query, key, mask=mask if mask.size else None, **settings), value)
    return _answered(out, mask, padded)


def _forward_portable(*arrays: Any, joined: Joined, padded: bool = False, **settings: Any) -> Any:
    *given, mask = arrays
    query, key, _ = _parts(given, joined)
    scores, seen = _scores(query, key, mask if mask.size else None, None, **settings)
    logarithms = jax.nn.logsumexp(scores, axis=-1)
    if seen is not None:
        logarithms = jax.nn.logsumexp(jnp.where(seen, scores, jnp.finfo(scores.dtype).min / 2), axis=-1)
        logarithms = jnp.where(jnp.any(seen, axis=-1), logarithms, 0)
    logarithms = jnp.moveaxis(_answered(jnp.moveaxis(logarithms, 1, 2), mask, padded), 1, 2)
    return _portable(*arrays, joined=joined, padded=padded, **settings), logarithms


def _backward_portable(*arrays: Any, **settings: Any) -> Any:
    *given, mask, _, _, gradient = arrays
    return jax.vjp(lambda *given: _portable(*given, mask, **settings), *given)[1](gradient)


def _forward(*arrays: Any, **settings: Any) -> Any:
    out, logarithms = FORWARD(*arrays, **settings)
    return out, (out, logarithms)


def _gradients(primals: Arrays, residuals: Arrays, gradients: Arrays, wanted: Any, **settings: Any) -> Arrays:
    return [*BACKWARD(*primals, *residuals, *gradients, **settings), None]


def _supports(*arrays: Any, joined: Joined, **settings: Any) -> bool:
    count = 3 if joined is None else 1
    given, mask = arrays[:count], arrays[count]  # what may follow has the shapes of these
    query, key, value = (a.shape for a in (given if joined is None else given * 3))
    heads = query[2] if joined is None else joined[0]
    belong = query[0] == key[0] and query[3] == key[3] and key[:3] == value[:3]
    seen = zip(mask.shape, (query[0], heads, query[1], key[1]), strict=True)
    fits = not mask.size or all(m in (1, n) for m, n in seen)
    return belong and fits and all(a.dtype == "float32" and a.size > 0 for a in given)


def _half_supports(query: Any, *others: Any, joined: Joined, scale: float, **settings: Any) -> bool:
    keys = others[0] if joined is None else query
    return query.shape[1] >= MANY and keys.shape[1] >= MANY and scale > 0


def _backward_half_takes(*arrays: Any) -> bool:
    *halves, logarithms, gradient = arrays
    return logarithms.dtype == "float32" and all_half(*halves, gradient)


def _arguments(
    given: Arrays, joined: Joined, causal: bool, window: int | None, scale: float, padded: bool = False
) -> tuple[Arrays, dict[str, Any]]:
    """Query, key and value, and the settings, as the kernels take them."""
    first = [0, 0, 0] if joined is None else [0, joined[0], sum(joined)]
    heads = [a.shape[2] for a in given[:2]] if joined is None else joined
    farthest = FAR if window is None else window - 1
    numbers = {"first": first, "heads": heads, "band": [0 if causal else -farthest, farthest]}
    attributes = {name: np.array(value, "int64") for name, value in numbers.items()}
    return given if joined is None else [*given] * 3, {
        **attributes,
        "scale": np.float32(scale),
        "padded": np.bool_(padded),
    }


def _native(*arrays: Any, **settings: Any) -> Any:
    return _forward_native(*arrays, wants_logarithms=False, **settings)[0]


def _forward_native(*arrays: Any, wants_logarithms: bool = True, **settings: Any) -> Any:
    *given, mask = arrays
    (query, key, value), attributes = _arguments(given, **settings)
    (batch, length), heads = query.shape[:2], int(attributes["heads"][0])
    shapes = [(batch, length, heads, value.shape[3]), (batch, heads, length) if wants_logarithms else (0,)]
    results = [
        jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in zip(shapes, (query.dtype, "float32"), strict=True)
    ]
    return call(of_dtype("attention", query), results, query, key, value, mask, **attributes)


def _backward_native(*arrays: Any, **settings: Any) -> Any:
    *given, mask, out, logarithms, gradient = arrays
    parts, attributes = _arguments(given, **settings)
    shapes = [*(a.shape for a in given), (0,), (0,)][:3]
    results = [jax.ShapeDtypeStruct(shape, out.dtype) for shape in shapes]
    found = call(of_dtype("attention_backward", out), results, *parts, mask, out, logarithms, gradient, **attributes)
    return found[: len(given)]


def _cudnn(*arrays: Any, joined: Joined, causal: bool, window: int | None, scale: float, padded: bool = False) -> Any:
    *given, mask = arrays
    query, key, value = _parts(given, joined)
    seen = jnp.broadcast_to(mask, (*mask.shape[:2], query.shape[1], key.shape[1])) if mask.size else None
    out = jax.nn.dot_product_attention(
        query, key, value, mask=seen, is_causal=causal, scale=scale, implementation="cudnn"
    )
    if mask.size:  # a query that may see no key
        out = jnp.where(jnp.moveaxis(jnp.any(mask, -1, keepdims=True), 1, 2), out, 0)
    return _answered(out, mask, padded)


def _forward_cudnn(*arrays: Any, **settings: Any) -> Any:
    out = _cudnn(*arrays, **settings)
    batch, length, heads, _ = out.shape
    # on GPUs the gradients work the logarithms out again
    return out, jnp.zeros((batch, heads, length), "float32")


def _backward_cudnn(*arrays: Any, **settings: Any) -> Any:
    *given, mask, _, _, gradient = arrays
    return jax.vjp(lambda *given: _cudnn(*given, mask, **settings), *given)[1](gradient)


def _cudnn_supports(
    *arrays: Any, joined: Joined, causal: bool, window: int | None, scale: float, padded: bool = False
) -> bool:
    count = 3 if joined is None else 1
    given, mask = arrays[:count], arrays[count]
    half = all(a.dtype in ("bfloat16", "float16") and a.size > 0 for a in given)
    fits = all(a.shape[-1] <= 128 and a.shape[-1] % 8 == 0 and a.shape[1] % 2 == 0 for a in given)
    return half and fits and window is None and not (causal and mask.size) and _has_cudnn()


@functools.cache
def _has_cudnn() -> bool:
    """Whether the GPU is one that cuDNN has such a kernel for."""
    try:
        return all(float(device.compute_capability) >= 8 for device in jax.local_devices(backend="cuda"))
    except RuntimeError:  # there is none here: the program is for elsewhere
        return False


TARGETS, HALF_TARGETS = ["attention", "attention_backward"], ["half_attention", "half_attention_backward"]
ATTENTION = Operation(
    "attention",
    _portable,
    native=_native,
    targets=TARGETS,
    half=_native,
    half_targets=HALF_TARGETS,
    half_supports=_half_supports,
    supports=_supports,
    cuda=_cudnn,
    cuda_supports=_cudnn_supports,
    forward=_forward,
    backward=_gradients,
)
FORWARD = Operation(
    "attention_forward",
    _forward_portable,
    multiple=True,
    native=_forward_native,
    targets=TARGETS,
    half=_forward_native,
    half_targets=HALF_TARGETS,
    half_supports=_half_supports,
    supports=_supports,
    cuda=_forward_cudnn,
    cuda_supports=_cudnn_supports,
)
BACKWARD = Operation(
    "attention_backward",
    _backward_portable,
    multiple=True,
    native=_backward_native,
    targets=TARGETS,
    half=_backward_native,
    half_takes=_backward_half_takes,
    half_targets=HALF_TARGETS,
    half_supports=_half_supports,
    supports=_supports,
    cuda=_backward_cudnn,
    cuda_supports=_cudnn_supports,
)
