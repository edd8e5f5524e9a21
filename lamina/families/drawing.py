"""How tokens are drawn from what a network expects, one after the other in a compiled loop."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.state import Array, bind
from lamina.kernels.drawing import draw
from lamina.models import Model

#: the most tokens that are written before the host looks at them, and the most where somebody waits to read them
STRETCH, SHORT_STRETCH = 64, 32


def chance(key: Array, number: Any) -> Array:
    """What :func:`drawn` draws a token with, from 0 to 1: that number ``number`` of those drawn with ``key``."""
    return jax.random.uniform(jax.random.fold_in(key, number))


def drawn(scores: Array, chance: Any, temperature: Any, top_k: Any = None, top_p: Any = None) -> Array:
    """A token drawn from ``softmax(scores / temperature)``: as :func:`~lamina.kernels.drawing.draw` does by ``chance``.

    Only the ``top_k`` likeliest tokens are drawn from, and of these only the likeliest that together have probability
    ``top_p``, if these are given; at temperature 0 only the likeliest one.

    Holtzman et al. (2019), https://arxiv.org/abs/1904.09751

    >>> int(drawn(jnp.array([1.0, 3.0, 2.0]), 0.9, 1.0, top_k=1))
    1
    """
    if top_k is not None or top_p is not None:
        order = jnp.argsort(-scores)
        ranked = scores[order]
        if top_k is not None:
            ranked = jnp.where(jnp.arange(len(scores)) < top_k, ranked, -jnp.inf)
        if top_p is not None:
            shares = jax.nn.softmax(ranked / jnp.maximum(temperature, 1e-6))
            ranked = jnp.where(jnp.cumsum(shares) - shares < top_p, ranked, -jnp.inf)
        scores = jnp.zeros_like(scores).at[order].set(ranked)
    return draw(scores, chance, temperature)


def written(
    step: Callable[..., Any],
    token: Array,
    state: Any,
    count: Any,
    key: Array,
    number: Any,
    end: int | None = None,
) -> tuple[Array, Any]:
    """Up to ``STRETCH`` tokens, each following from the one before, in one compiled loop.

    Args:
        step: from a token, the state, how many tokens were written before, and chance, the next token and state.
        token: the token before the first.
        state: the state before the first.
        count: how many tokens to write.
        key: where chance comes from.
        number: how many tokens were drawn with the key before.
        end: the token after which to stop.

    Returns:
        The tokens, of shape ``(STRETCH,)``, of which the first ``count`` up to ``end`` mean something; and the state.
    """

    # all at once: one by one, it takes a tenth of a small network's time
    chances = jax.vmap(lambda i: chance(key, number + i))(jnp.arange(STRETCH))

    def goes_on(carry: Any) -> Array:
        done, last, *_ = carry
        return done < count if end is None else (done < count) & ((done == 0) | (last != end))

    def write(carry: Any) -> Any:
        done, last, state, tokens = carry
        token, state = step(last, state, done, chances[done])
        token = token.astype("int32")
        return done + 1, token, state, tokens.at[done].set(token)

    first = (jnp.int32(0), jnp.asarray(token, "int32"), state, jnp.zeros(STRETCH, "int32"))
    *_, state, tokens = jax.lax.while_loop(goes_on, write, first)
    return tokens, state


def stretches(count: int, waited_for: bool = False) -> Iterator[int]:
    """How many of ``count`` tokens to write at a time: few at first, then more, where somebody waits to read them.

    >>> list(stretches(80)), list(stretches(80, waited_for=True))
    ([64, 16], [4, 8, 16, 32, 20])
    """
    size, most = (4, SHORT_STRETCH) if waited_for else (STRETCH, STRETCH)
    while count > 0:
        yield min(size, count)
        count, size = count - size, min(2 * size, most)


def compiled(model: Model, step: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """``step`` compiled, with the variables of ``model`` as its first argument, which is filled in."""
    variables = {variable.path: variable for variable in model.weights}

    @functools.partial(jax.jit, **options)
    def run(values: dict[str, Array], *args: Any) -> Any:
        with bind({variables[path]: value for path, value in values.items()}, training=False):
            return step(*args)

    return lambda *args: run({path: variable.stored for path, variable in variables.items()}, *args)
