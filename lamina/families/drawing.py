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


def drawn(scores: Array, key: Array, temperature: Any, top_k: Any = None, top_p: Any = None) -> Array:
    """A token drawn from ``softmax(scores / temperature)``.

    Only the ``top_k`` likeliest tokens are drawn from, and of these only the likeliest that together have probability
    ``top_p``, if these are given; at temperature 0 only the likeliest one.

    Holtzman et al. (2019), https://arxiv.org/abs/1904.09751

    >>> int(drawn(jnp.array([1.0, 3.0, 2.0]), jax.random.key(0), 1.0, top_k=1))
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
    return jnp.where(temperature > 0, jax.random.categorical(key, scaled), jnp.argmax(scores))


def written(
    step: Callable[..., Any], token: Array, state: Any, count: Any, end: int | None = None
) -> tuple[Array, Any]:
    """Up to ``STRETCH`` tokens, each following from the one before, in one compiled loop.

    Args:
        step: from a token, the state and how many tokens were written before, the next token and state.
        token: the token before the first.
        state: the state before the first.
        count: how many tokens to write.
        end: the token after which to stop.

    Returns:
        The tokens, of shape ``(STRETCH,)``, of which the first ``count`` up to ``end`` mean something; and the state.
    """

    def goes_on(carry: Any) -> Array:
        number, last, *_ = carry
        return number < count if end is None else (number < count) & ((number == 0) | (last != end))

    def write(carry: Any) -> Any:
        number, last, state, tokens = carry
        token, state = step(last, state, number)
        token = token.astype("int32")
        return number + 1, token, state, tokens.at[number].set(token)

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
