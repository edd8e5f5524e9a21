"""How tokens are drawn from what a network expects, one after the other in a compiled loop."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.state import Array, bind
from lamina.models import Model

#: the most tokens that are written before the host looks at them
STRETCH = 32


def noise(key: Array, number: Any, size: int) -> Array:
    """What :func:`drawn` draws a token with, out of ``size``: that number ``number`` of those drawn with ``key``."""
    return jax.random.gumbel(jax.random.fold_in(key, number), (size,))


def drawn(scores: Array, noise: Array, temperature: Any, top_k: Any = None, top_p: Any = None) -> Array:
    """A token drawn from ``softmax(scores / temperature)``: the one of which score and noise have the largest sum.

    Only the ``top_k`` likeliest tokens are drawn from, and of these only the likeliest that together have probability
    ``top_p``, if these are given; at temperature 0 only the likeliest one.

    Holtzman et al. (2019), https://arxiv.org/abs/1904.09751

    >>> int(drawn(jnp.array([1.0, 3.0, 2.0]), noise(jax.random.key(0), 0, 3), 1.0, top_k=1))
    1
    """
    scaled = scores / jnp.maximum(temperature, 1e-6)
    if top_k is not None or top_p is not None:
        order = jnp.argsort(-scores)
        ranked = scaled[order]
        if top_k is not None:
            ranked = jnp.where(jnp.arange(len(scores)) < top_k, ranked, -jnp.inf)
        if top_p is not None:
            shares = jax.nn.softmax(ranked)
            ranked = jnp.where(jnp.cumsum(shares) - shares < top_p, ranked, -jnp.inf)
        scaled = jnp.zeros_like(scaled).at[order].set(ranked)
    return jnp.where(temperature > 0, jnp.argmax(scaled + noise), jnp.argmax(scores))


def written(
    step: Callable[..., Any],
    token: Array,
    state: Any,
    count: Any,
    key: Array,
    number: Any,
    size: int,
    end: int | None = None,
) -> tuple[Array, Any]:
    """Up to ``STRETCH`` tokens, each following from the one before, in one compiled loop.

    Args:
        step: from a token, the state, how many tokens were written before, and noise, the next token and state.
        token: the token before the first.
        state: the state before the first.
        count: how many tokens to write.
        key: where the noise comes from.
        number: how many tokens were drawn with the key before.
        size: how many tokens there are to choose from.
        end: the token after which to stop.

    Returns:
        The tokens, of shape ``(STRETCH,)``, of which the first ``count`` up to ``end`` mean something; and the state.
    """

    # all at once: one by one, it takes a tenth of a small network's time
    noises = jax.vmap(lambda i: noise(key, number + i, size))(jnp.arange(STRETCH))

    def goes_on(carry: Any) -> Array:
        done, last, *_ = carry
        return done < count if end is None else (done < count) & ((done == 0) | (last != end))

    def write(carry: Any) -> Any:
        done, last, state, tokens = carry
        token, state = step(last, state, done, noises[done])
        token = token.astype("int32")
        return done + 1, token, state, tokens.at[done].set(token)

    first = (jnp.int32(0), jnp.asarray(token, "int32"), state, jnp.zeros(STRETCH, "int32"))
    *_, state, tokens = jax.lax.while_loop(goes_on, write, first)
    return tokens, state


def stretches(count: int, size: int = STRETCH) -> Iterator[int]:
    """How many of ``count`` tokens to write at a time: ``size`` at first, then more.

    >>> list(stretches(80, 4))
    [4, 8, 16, 32, 20]
    """
    while count > 0:
        yield min(size, count)
        count, size = count - size, min(2 * size, STRETCH)


def compiled(model: Model, step: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """``step`` compiled, with the variables of ``model`` as its first argument, which is filled in."""
    variables = model.named_variables()

    @functools.partial(jax.jit, **options)
    def run(values: dict[str, Array], *args: Any) -> Any:
        with bind({variables[path]: value for path, value in values.items()}, training=False):
            return step(*args)

    return lambda *args: run({path: variable.stored for path, variable in variables.items()}, *args)
