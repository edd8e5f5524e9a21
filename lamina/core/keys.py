"""Keys of JAX's, and numbers drawn one by one, worked out by NumPy where JAX would compile a program for a few bytes.

They have the bytes of JAX's own. Salmon et al. (2011), https://doi.org/10.1145/2063384.2063405
"""

from functools import partial
from typing import Any

import jax
import numpy as np

Array = jax.Array
_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)


def key_of(seed: int) -> Array:
    """The key that ``jax.random.key`` makes of a seed.

    >>> bool((jax.random.key_data(key_of(7)) == jax.random.key_data(jax.random.key(7))).all())
    True
    """
    if jax.config.values["jax_default_prng_impl"] != "threefry2x32":
        return jax.random.key(seed)
    bits = int(np.int64(seed))
    high = bits >> 32 if jax.config.values["jax_enable_x64"] else 0
    return _key(np.array([high & 0xFFFFFFFF, bits & 0xFFFFFFFF], "uint32"))


def fold_in(key: Array, number: int) -> Array:
    """The key that ``jax.random.fold_in`` makes of a key and a number from 0 to 2**32 - 1.

    >>> key = jax.random.key(7)
    >>> bool((jax.random.key_data(fold_in(key, 3)) == jax.random.key_data(jax.random.fold_in(key, 3))).all())
    True
    """
    if isinstance(key, jax.core.Tracer) or str(jax.random.key_impl(key)) != "threefry2x32":
        return jax.random.fold_in(key, number)
    with jax.ensure_compile_time_eval():
        return _key(_threefry(_words(key), np.array([[0], [number]], "uint32"))[:, 0])


def chances(key: Array, first: int, count: int) -> np.ndarray:
    """Numbers from 0 to 1, ``(count,)``: the first of every key that ``key`` gives by a number from ``first`` on.

    >>> float(chances(jax.random.key(7), 3, 2)[1]) == float(jax.random.uniform(jax.random.fold_in(jax.random.key(7), 4)))
    True
    """
    if not depends_on_places(key):
        return np.asarray(_chances(key, np.uint32(first), count))
    keys = _threefry(_words(key), _places(first, count))
    return _unit(_threefry(keys, np.zeros((2, count), "uint32")))


def uniform(key: Array, first: int, count: int) -> np.ndarray:
    """Numbers from 0 to 1, ``(count,)``: those of ``jax.random.uniform`` from place ``first`` on.

    Only for keys for which :func:`depends_on_places` holds.

    >>> bool((uniform(jax.random.key(7), 3, 2) == jax.random.uniform(jax.random.key(7), 5)[3:]).all())
    True
    """
    return _unit(_threefry(_words(key), _places(first, count)))


def depends_on_places(key: Array) -> bool:
    """Whether a draw depends on the key and its place alone, and not on how many there are."""
    return str(jax.random.key_impl(key)) == "threefry2x32" and jax.config.values["jax_threefry_partitionable"]


@partial(jax.jit, static_argnums=2)
def _chances(key: Array, first: Any, count: int) -> Array:
    keys = jax.vmap(partial(jax.random.fold_in, key))(first + np.arange(count, dtype="uint32"))
    return jax.vmap(jax.random.uniform)(keys)


def _key(words: np.ndarray) -> Array:
    return jax.random.wrap_key_data(jax.device_put(words))


def _words(key: Array) -> np.ndarray:
    typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(key) if typed else key)[:, None]


def _places(first: int, count: int) -> np.ndarray:
    return np.stack([np.zeros(count, "uint32"), np.arange(first, first + count, dtype="uint32")])


def _unit(words: np.ndarray) -> np.ndarray:
    """Numbers from 0 to 1 made of random words, two for each."""
    bits = (words[0] ^ words[1]) >> 9 | np.float32(1).view("uint32")
    return bits.view("float32") - np.float32(1)


def _threefry(key: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Random words of keys and counters, two for each, along the first axis."""
    parts = key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA)
    left, right = counters + key
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            left = left + right
            right = (right << rotation | right >> 32 - rotation) ^ left
        left, right = left + parts[(i + 1) % 3], right + parts[(i + 2) % 3] + np.uint32(i + 1)
    return np.stack([left, right])
