"""Tokens through the blocks of a causal transformer, after those that are already there; a single one natively, in one call.

A language model writes one token after the other, and each costs no more than reading the weights once, if nothing is in
between: neither the start of dozens of small programs nor the waking of threads for each.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.typing import Array, Float, Integer
from lamina.kernels.attention import dot_product_attention
from lamina.kernels.dense import dense
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


#: how many arrays there are for each block
PER_BLOCK = len(BlockWeights._fields) + 2
#: the most tokens that are taken through natively, and what the sizes of heads and hidden units are multiples of there
FEW, LANES = 64, 16


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
    arrays = [array for block, cache in zip(blocks, caches, strict=True) for array in (*block, *cache)]
    settings = {"heads": heads, "activation": activation, "normalize_first": normalize_first, "epsilon": float(epsilon)}
    x, *found = DECODE(x, jnp.asarray(position, "int32"), *arrays, **settings)
    return x, list(zip(found[::2], found[1::2], strict=True))


def _portable(x: Array, position: Array, *arrays: Array, normalize_first: bool, epsilon: float, **settings: Any) -> Any:
    found: list[Array] = []
    for block, cache in _by_block(arrays):
        first, second = block[:2], (block.gamma, block.beta)
        given = layer_norm(x, *first, epsilon=epsilon) if normalize_first else x
        taken, following = _attended(given, block, cache, position, settings["heads"])
        x = x + taken if normalize_first else layer_norm(x + taken, *first, epsilon=epsilon)
        given = layer_norm(x, *second, epsilon=epsilon) if normalize_first else x
        change = dense(settings["activation"](dense(given, block.up, block.up_bias)), block.down, block.down_bias)
        x = x + change if normalize_first else layer_norm(x + change, *second, epsilon=epsilon)
        found += following
    return x, *found


def _attended(x: Array, block: BlockWeights, cache: Cache, position: Array, heads: int) -> tuple[Array, Cache]:
    batch, length, width = x.shape
    projected = dense(x, block.project, block.project_bias).reshape(batch, length, 3 * heads, -1)
    query, *new = jnp.split(projected, 3, axis=2)
    keys, values = (
        jax.lax.dynamic_update_slice_in_dim(*pair, position, axis=1) for pair in zip(cache, new, strict=True)
    )
    seen = jnp.arange(keys.shape[1]) <= position + jnp.arange(length)[:, None]
    taken = dot_product_attention(query, keys, values, mask=seen)
    return dense(taken.reshape(batch, length, width), block.merge, block.merge_bias), (keys, values)


def _by_block(arrays: Sequence[Any]) -> list[tuple[BlockWeights, Any]]:
    each = [arrays[at : at + PER_BLOCK] for at in range(0, len(arrays), PER_BLOCK)]
    return [(BlockWeights(*some[:-2]), (some[-2], some[-1])) for some in each]


def _native(x: Array, position: Array, *arrays: Array, heads: int, epsilon: float, **settings: Any) -> Any:
    places = [at + i for at in range(PER_BLOCK - 2, len(arrays), PER_BLOCK) for i in (0, 1)]
    shapes = [jax.ShapeDtypeStruct(a.shape, "float32") for a in (x, *(arrays[place] for place in places))]
    in_place = {2 + place: 1 + number for number, place in enumerate(places)}
    return call(
        "decode", shapes, x, position, *arrays, in_place=in_place, heads=np.int64(heads), epsilon=np.float32(epsilon)
    )


def _supports(
    x: Any, position: Any, *arrays: Any, heads: int, activation: Any, normalize_first: bool, epsilon: float
) -> bool:
    plain = activation is gelu_tanh and normalize_first and x.shape[0] == 1 and x.shape[1] <= FEW
    whole = all(size % LANES == 0 for size in (x.shape[2] // heads, _by_block(arrays)[0][0].up.shape[1]))
    return plain and whole and all(a.dtype == "float32" and a.size > 0 for a in (x, *arrays))


DECODE = Operation("decode", _portable, multiple=True, native=_native, targets=["decode"], supports=_supports)
