"""Writing with a causal transformer: tokens through its blocks, after those that are there, and one drawn that follows them.

Each token costs no more than reading the weights once, if nothing is in between: neither the start of dozens of small
programs nor the waking of threads for each. So the native form writes many tokens in one call.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.typing import Array, Bool, Float, Integer
from lamina.kernels.attention import dot_product_attention
from lamina.kernels.dense import dense, dense_transposed
from lamina.kernels.drawing import Number, draw, one_by_one, optional
from lamina.kernels.normalization import layer_norm
from lamina.kernels.operation import Operation, call
from lamina.kernels.slopes import gelu_tanh

#: keys and values of every position so far, ``(batch, context, heads, size)`` each, of one block
Cache = tuple[Array, Array]


class BlockWeights(NamedTuple):
    """The weights of a block: a kernel with its bias, a factor with its offset, in the order in which they are used."""

    attention_gamma: Array
    attention_beta: Array
    project: Array
    project_bias: Array
    merge: Array
    merge_bias: Array
    gamma: Array
    beta: Array
    up: Array
    up_bias: Array
    down: Array
    down_bias: Array


class Ends(NamedTuple):
    """The weights before the first block and after the last: embeddings of tokens and places, and a factor with its offset."""

    tokens: Array
    places: Array
    gamma: Array
    beta: Array


#: how many arrays there are for each block
PER_BLOCK = len(BlockWeights._fields) + 2
#: the place of chances among the arrays of the operation, and how many arrays there are before those of blocks
CHANCES, BEFORE = 4, 13
#: the most tokens that are read natively, and what the sizes of heads and hidden units are multiples of there
FEW, LANES = 64, 16


def write(
    tokens: Integer[Array, " length"],
    chances: Float[Array, " most"],
    ends: Ends,
    blocks: Sequence[BlockWeights],
    caches: Sequence[Cache],
    *,
    heads: int,
    activation: Callable[[Array], Array],
    length: Number = 1,
    position: Number = 0,
    count: Number = 1,
    temperature: Number = 1.0,
    top_k: Number | None = None,
    top_p: Number | None = None,
    allowed: Bool[Array, " vocabulary"] | None = None,
    stop: int | None = None,
    normalize_first: bool = True,
    epsilon: float = 1e-5,
) -> tuple[Integer[Array, " most"], list[Cache]]:
    """Up to ``count`` tokens, each drawn from what the network expects after those before.

    Args:
        tokens: the tokens that no cache knows; a single one if there are several chances.
        chances: a number from 0 to 1 to draw each token with; at least ``count``.
        ends: embeddings, by which tokens are scored too, and the last normalization.
        blocks: the weights of each block.
        caches: keys and values of the tokens before, ``(1, context, heads, size)`` each, for each block.
        heads: heads of attention, a divisor of the width.
        activation: the activation of the hidden units.
        length: how many of ``tokens`` count.
        position: how many tokens are before; with all others, no more than the caches have place for.
        count: how many tokens to write, at least one.
        temperature: as for :func:`~lamina.kernels.drawing.draw`, with ``top_k`` and ``top_p``.
        top_k: how many tokens are drawn from.
        top_p: the probability that those drawn from have together.
        allowed: which tokens may be drawn; all if none are given.
        stop: the token after which to stop.
        normalize_first: whether each part of a block normalizes its input rather than the sum.
        epsilon: added to variances.

    Returns:
        The tokens, of which the first ``count`` up to ``stop`` mean something; and the caches.

    Radford et al. (2019), *Language models are unsupervised multitask learners*

    >>> shapes = [(4,), (4,), (4, 12), (12,), (4, 4), (4,), (4,), (4,), (4, 8), (8,), (8, 4), (4,)]
    >>> block, empty = BlockWeights(*map(jnp.ones, shapes)), jnp.zeros((1, 5, 2, 2))
    >>> ends = Ends(jnp.eye(3, 4), jnp.zeros((5, 4)), jnp.ones(4), jnp.arange(4.0))
    >>> settings = {"heads": 2, "activation": gelu_tanh, "temperature": 0.0}
    >>> found, caches = write(jnp.array([0, 1]), jnp.ones(1), ends, [block], [(empty, empty)], length=2, **settings)
    >>> found.tolist(), bool(jnp.any(caches[0][0][:, 1])), bool(jnp.any(caches[0][0][:, 2]))
    ([1], True, False)
    """
    arrays = [array for block, cache in zip(blocks, caches, strict=True) for array in (*block, *cache)]
    allowed = jnp.ones(len(ends.tokens), bool) if allowed is None else allowed
    numbers = [jnp.asarray(number, "int32") for number in (length, position, count)]
    drawing = [jnp.asarray(temperature, "float32"), optional(top_k, "int32"), optional(top_p, "float32"), allowed]
    found, *after = WRITE(
        *(tokens, *numbers, chances, *drawing, *ends, *arrays),
        heads=heads,
        activation=activation,
        stop=stop,
        normalize_first=normalize_first,
        epsilon=float(epsilon),
    )
    return found, list(zip(after[::2], after[1::2], strict=True))


def _portable(
    tokens: Array,
    length: Array,
    position: Array,
    count: Array,
    chances: Array,
    temperature: Array,
    top_k: Array,
    top_p: Array,
    allowed: Array,
    embeddings: Array,
    places: Array,
    gamma: Array,
    beta: Array,
    *arrays: Array,
    stop: int | None,
    normalize_first: bool,
    epsilon: float,
    **settings: Any,
) -> Any:
    blocks, caches = map(list, zip(*_by_block(arrays), strict=True))
    settings |= {"normalize_first": normalize_first, "epsilon": epsilon}
    dtype = blocks[0].project.dtype
    most, share = (number if number.size else None for number in (top_k, top_p))

    def follow(tokens: Array, length: Any, position: Any, caches: Any, chance: Array) -> tuple[Array, Any]:
        rows = embeddings[jnp.maximum(tokens, 0)].astype(dtype) + places[position + jnp.arange(len(tokens))].astype(
            dtype
        )
        x = rows[None] if normalize_first else layer_norm(rows[None], gamma, beta, epsilon=epsilon)
        x, caches = decode(x, blocks, caches, position, **settings)
        x = jax.lax.dynamic_slice_in_dim(x, length - 1, 1, axis=1)
        x = layer_norm(x, gamma, beta, epsilon=epsilon) if normalize_first else x
        scores = jnp.where(allowed, dense_transposed(x, embeddings)[0, 0], -jnp.inf)
        return draw(scores, chance, temperature, most, share), caches

    def step(token: Array, caches: Any, done: Array, chance: Array) -> tuple[Array, Any]:
        return follow(token[None], 1, position + done, caches, chance)

    if len(chances) == 1:
        token, caches = follow(tokens, length, position, caches, chances[0])
        return token[None], *jax.tree.leaves(caches)
    found, caches = one_by_one(step, tokens[0], caches, count, chances, stop)
    return found, *jax.tree.leaves(caches)


def decode(
    x: Float[Array, "batch length width"],
    blocks: Sequence[BlockWeights],
    caches: Sequence[Cache],
    position: Integer[Array, ""] | int,
    *,
    heads: int,
    activation: Callable[[Array], Array],
    normalize_first: bool = True,
    epsilon: float = 1e-5,
) -> tuple[Float[Array, "batch length width"], list[Cache]]:
    """Vectors of tokens through all blocks; each token sees those before it, and itself.

    Args:
        x: shape ``(batch, length, width)``.
        blocks: the weights of each block.
        caches: keys and values of the tokens before, for each block.
        position: how many tokens are before; with those of ``x``, no more than the caches have place for.
        heads: heads of attention, a divisor of the width.
        activation: the activation of the hidden units.
        normalize_first: whether each part normalizes its input rather than the sum.
        epsilon: added to variances.

    Returns:
        Vectors of the shape of ``x``, and the caches with the new tokens.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762

    >>> shapes = [(4,), (4,), (4, 12), (12,), (4, 4), (4,), (4,), (4,), (4, 8), (8,), (8, 4), (4,)]
    >>> block, empty = BlockWeights(*map(jnp.ones, shapes)), jnp.zeros((1, 5, 2, 2))
    >>> x, caches = decode(jnp.ones((1, 3, 4)), [block], [(empty, empty)], 0, heads=2, activation=gelu_tanh)
    >>> x.shape, bool(jnp.any(caches[0][0][:, 2])), bool(jnp.any(caches[0][0][:, 3]))
    ((1, 3, 4), True, False)
    """
    found: list[Cache] = []
    for block, cache in zip(blocks, caches, strict=True):
        first, second = block[:2], (block.gamma, block.beta)
        given = layer_norm(x, *first, epsilon=epsilon) if normalize_first else x
        taken, following = _attended(given, block, cache, position, heads)
        x = x + taken if normalize_first else layer_norm(x + taken, *first, epsilon=epsilon)
        given = layer_norm(x, *second, epsilon=epsilon) if normalize_first else x
        change = dense(activation(dense(given, block.up, block.up_bias)), block.down, block.down_bias)
        x = x + change if normalize_first else layer_norm(x + change, *second, epsilon=epsilon)
        found.append(following)
    return x, found


def _attended(x: Array, block: BlockWeights, cache: Cache, position: Any, heads: int) -> tuple[Array, Cache]:
    batch, length, width = x.shape
    projected = dense(x, block.project, block.project_bias).reshape(batch, length, 3 * heads, -1)
    query, *new = jnp.split(projected, 3, axis=2)
    keys, values = (
        jax.lax.dynamic_update_slice_in_dim(old, added.astype(old.dtype), position, axis=1)
        for old, added in zip(cache, new, strict=True)
    )
    seen = jnp.arange(keys.shape[1]) <= position + jnp.arange(length)[:, None]
    taken = dot_product_attention(query, keys.astype(x.dtype), values.astype(x.dtype), mask=seen)
    return dense(taken.reshape(batch, length, width), block.merge, block.merge_bias), (keys, values)


def _by_block(arrays: Sequence[Any]) -> list[tuple[BlockWeights, Any]]:
    each = [arrays[at : at + PER_BLOCK] for at in range(0, len(arrays), PER_BLOCK)]
    return [(BlockWeights(*some[:-2]), (some[-2], some[-1])) for some in each]


def _native(*arrays: Array, heads: int, stop: int | None, epsilon: float, **settings: Any) -> Any:
    places = [at + i for at in range(BEFORE + PER_BLOCK - 2, len(arrays), PER_BLOCK) for i in (0, 1)]
    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (arrays[place] for place in places)]
    return call(
        "write",
        [jax.ShapeDtypeStruct(arrays[CHANCES].shape, "int32"), *shapes],
        *arrays,
        in_place={place: 1 + number for number, place in enumerate(places)},
        heads=np.int64(heads),
        epsilon=np.float32(epsilon),
        stop=np.int64(-1 if stop is None else stop),
    )


def _supports(*arrays: Any, heads: int, activation: Any, normalize_first: bool, **settings: Any) -> bool:
    (tokens, *_), (embeddings, *weights) = arrays[:BEFORE], arrays[CHANCES + 5 :]
    block, _ = _by_block(arrays[BEFORE:])[0]
    whole = all(size % LANES == 0 for size in (embeddings.shape[1] // heads, block.up.shape[1]))
    plain = activation is gelu_tanh and normalize_first and tokens.size <= FEW
    return plain and whole and all(a.dtype == "float32" and a.size > 0 for a in (embeddings, *weights))


WRITE = Operation("write", _portable, multiple=True, native=_native, targets=["write"], supports=_supports)
