"""Standard random draws of any number by one small program for each distribution, so that no shape has to be compiled.

Even ones are drawn without any, as long as there are few: a new process takes 16 MB less for it.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np

from lamina.core.keys import depends_on_places, uniform
from lamina.core.state import Array

#: a call draws a square of numbers with this side
_SIDE = 1 << 8
_LENGTH = _SIDE**2
#: up to so many even numbers are drawn by NumPy, which takes 40 ns for each
_FEW = 1 << 20


def standard(sample: Callable[..., Array], shape: tuple[int, ...], dtype: Any, key: Array) -> Any:
    """``sample(key, shape, dtype)``: an array of JAX's for a key that is traced, otherwise one of NumPy's, of the same draws.

    A sample that JAX puts together of several programs may be rounded in other places here, where it is one.

    Args:
        sample: a function of ``jax.random``, or one made of those.
        shape: how many numbers.
        dtype: their dtype.
        key: what they depend on, beside their places.

    >>> key = jax.random.key(0)
    >>> bool((standard(jax.random.normal, (2, 3), "float32", key) == jax.random.normal(key, (2, 3))).all())
    True
    """
    if isinstance(key, jax.core.Tracer) or not depends_on_places(key):
        return sample(key, shape, dtype)
    flat = np.empty(math.prod(shape), dtype)
    by_numpy = sample is jax.random.uniform and flat.dtype == "float32" and flat.size <= _FEW
    for first in range(0, flat.size, _LENGTH):
        part = flat[first : first + _LENGTH]
        if by_numpy:
            part[:] = uniform(key, first, part.size)
        else:
            place = np.array([first >> 32, first % (1 << 32)], "uint32")
            part[:] = np.asarray(_drawn(sample, key, place, dtype))[: part.size]
    return flat.reshape(shape)


@partial(jax.jit, static_argnums=(0, 3))
def _drawn(sample: Callable[..., Array], key: Array, place: Array, dtype: Any) -> Array:
    words = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return sample(jax.random.wrap_key_data(jnp.concatenate([words, place]), impl=_PLACED), (_LENGTH,), dtype)


def _bits(key_and_place: Array, width: int, shape: tuple[int, ...]) -> Array:
    """The bits that a key of JAX's gives from a place on, a multiple of ``_LENGTH``."""
    key, (high, low) = key_and_place[:2], key_and_place[2:]
    # of one side, since where weights are drawn, what depends on no argument is worked out before and stands in the program
    side = np.arange(_SIDE, dtype="uint32")
    places = jnp.ravel(low + _SIDE * side[:, None] + side)
    high, low = jnp.split(
        jax.extend.random.threefry_2x32(key, jnp.concatenate([jnp.full_like(places, high), places])), 2
    )
    bits = high.astype("uint64") << 32 | low if width == 64 else (high ^ low).astype(f"uint{width}")
    return bits.reshape(shape)


def _refuse(*_: Any) -> Array:
    raise NotImplementedError("a key with a place is for one draw only")


#: keys of JAX's that are told at which place to begin
_PLACED = jax.extend.random.define_prng_impl(
    key_shape=(4,), seed=_refuse, split=_refuse, random_bits=_bits, fold_in=_refuse, name="threefry2x32 from a place"
)
