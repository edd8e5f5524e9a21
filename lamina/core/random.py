"""Random numbers from explicit keys.

Inside a training step a key depends on the model's seed, the step, the path of the calling layer and how often it has
drawn; outside, on the process's seed and how many keys were drawn before. ``key=`` takes one's own; ``seed=`` a number,
for the same draws every time, or a :class:`SeedGenerator`.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.config import config
from lamina.core.errors import ConfigError, shown
from lamina.core.keys import key_of
from lamina.core.state import Array, current_scope, derive

#: the path of the module whose code is running
_path: contextvars.ContextVar[str] = contextvars.ContextVar("path", default="")


@contextlib.contextmanager
def drawing_for(path: str) -> Iterator[None]:
    """Inside, keys are drawn on behalf of ``path``."""
    token = _path.set(path)
    try:
        yield
    finally:
        _path.reset(token)


def next_key() -> Array:
    """A key that was not used before.

    >>> a, b = next_key(), next_key()
    >>> bool((jax.random.key_data(a) == jax.random.key_data(b)).all())
    False
    """
    scope = current_scope()
    if scope is not None and scope.key is not None:
        return scope.draw(_path.get())
    config.draws += 1
    with jax.ensure_compile_time_eval():
        return derive(key_of(config.seed), "lamina.random", config.draws)


def checked(key: Any) -> Array:
    """``key``, if it is one.

    Raises:
        ConfigError: if it is none, or several.

    >>> checked(3)
    Traceback (most recent call last):
    lamina.core.errors.ConfigError: key is one key of jax.random; received 3.
    Write:  key=jax.random.key(0)
    """
    dtype, dimensions = getattr(key, "dtype", None), getattr(key, "ndim", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if dimensions != (0 if typed else 1) or not (typed or dtype == "uint32"):
        raise ConfigError(f"key is one key of jax.random; received {shown(key)}.\nWrite:  key=jax.random.key(0)")
    return key


class SeedGenerator:
    """What ``seed`` of the functions below may be: another number in every draw, as in Keras.

    Args:
        seed: mixed into every key, so that generators differ; the keys themselves come from the step, or the process.

    >>> seed = SeedGenerator(3)
    >>> bool((normal((2,), seed=seed) == normal((2,), seed=seed)).any())
    False
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def next(self) -> Array:
        """The next key."""
        return jax.random.fold_in(next_key(), self.seed or 0)


def _key(seed: int | SeedGenerator | None, key: Array | None) -> Array:
    """The key to draw from: ``key``; one made from a number, always the same; that of a generator; or a new one."""
    if key is not None:
        return checked(key)
    if isinstance(seed, SeedGenerator):
        return seed.next()
    return next_key() if seed is None else derive(key_of(seed), "lamina.random")


def _floating(dtype: Any) -> Any:
    return jnp.dtype(dtype or config.dtype_policy.compute_dtype)


def normal(
    shape: Sequence[int] = (),
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = None,
    seed: Any = None,
    *,
    key: Array | None = None,
) -> Array:
    """Draws from a normal distribution.

    >>> normal((2, 3)).shape
    (2, 3)
    """
    return mean + stddev * jax.random.normal(_key(seed, key), tuple(shape), _floating(dtype))


def truncated_normal(
    shape: Sequence[int] = (),
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: Any = None,
    seed: Any = None,
    *,
    key: Array | None = None,
) -> Array:
    """Draws from a normal distribution; what lies beyond two standard deviations is drawn again."""
    key = _key(seed, key)
    return mean + stddev * jax.random.truncated_normal(key, -2.0, 2.0, tuple(shape), _floating(dtype))


def uniform(
    shape: Sequence[int] = (),
    minval: Any = 0.0,
    maxval: Any = 1.0,
    dtype: Any = None,
    seed: Any = None,
    *,
    key: Array | None = None,
) -> Array:
    """Draws from ``[minval, maxval)``, each value equally likely."""
    key = _key(seed, key)
    return jax.random.uniform(key, tuple(shape), _floating(dtype), minval, maxval)


def randint(
    shape: Sequence[int], minval: Any, maxval: Any, dtype: Any = "int32", seed: Any = None, *, key: Array | None = None
) -> Array:
    """Whole numbers from ``minval`` up to and without ``maxval``."""
    return jax.random.randint(_key(seed, key), tuple(shape), minval, maxval, dtype)


def bernoulli(p: Any = 0.5, shape: Sequence[int] | None = None, *, key: Array | None = None) -> Array:
    """True with probability ``p``."""
    return jax.random.bernoulli(next_key() if key is None else key, p, None if shape is None else tuple(shape))


def categorical(logits: Any, num_samples: int | None = None, seed: Any = None, *, key: Array | None = None) -> Array:
    """Class indices drawn from ``softmax(logits)`` along the last axis.

    Args:
        logits: shape ``(..., classes)``.
        num_samples: draws per row, which become a last axis; ``None`` for one draw and no such axis.
    """
    logits, key = jnp.asarray(logits), _key(seed, key)
    if num_samples is None:
        return jax.random.categorical(key, logits)
    drawn = jax.random.categorical(key, logits, shape=(num_samples, *logits.shape[:-1]))
    return jnp.moveaxis(drawn, 0, -1)


def shuffle(x: Any, axis: int = 0, seed: Any = None, *, key: Array | None = None) -> Array:
    """``x`` in random order along ``axis``."""
    return jax.random.permutation(_key(seed, key), jnp.asarray(x), axis)


def gamma(shape: Sequence[int], alpha: Any, dtype: Any = None, seed: Any = None, *, key: Array | None = None) -> Array:
    """Draws from a gamma distribution of shape ``alpha`` and rate 1."""
    return jax.random.gamma(_key(seed, key), alpha, tuple(shape), _floating(dtype))


def beta(
    shape: Sequence[int], alpha: Any, beta: Any, dtype: Any = None, seed: Any = None, *, key: Array | None = None
) -> Array:
    """Draws from a beta distribution."""
    return jax.random.beta(_key(seed, key), alpha, beta, tuple(shape), _floating(dtype))


def dropout(
    x: Any, rate: float, noise_shape: Sequence[int | None] | None = None, seed: Any = None, *, key: Array | None = None
) -> Array:
    """``x`` with each entry zero with probability ``rate``, the others divided by ``1 - rate``.

    Args:
        x: any shape.
        rate: from 0 to below 1.
        noise_shape: the shape of the mask, broadcast to that of ``x``; ``None`` in it stands for that axis of ``x``.
        key: a key of one's own.
    """
    x = jnp.asarray(x)
    shape = (
        x.shape
        if noise_shape is None
        else tuple(have if want is None else want for have, want in zip(x.shape, noise_shape, strict=True))
    )
    keep = jax.random.bernoulli(_key(seed, key), 1.0 - rate, shape)
    return jnp.where(keep, x / jnp.asarray(1.0 - rate, x.dtype), jnp.zeros((), x.dtype))
