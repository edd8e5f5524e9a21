"""Drawing one of several by their scores: in one look at them, natively; and one after the other."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.typing import Array, Float, Integer
from lamina.kernels.operation import Operation, call

Number = Array | float


def draw(
    scores: Float[Array, " size"],
    chance: Float[Array, ""] | float,
    temperature: Float[Array, ""] | float = 1.0,
    top_k: Integer[Array, ""] | int | None = None,
    top_p: Float[Array, ""] | float | None = None,
) -> Integer[Array, ""]:
    r"""A number drawn from :math:`p = \mathrm{softmax}(s / t)`: the first one for which :math:`p_0 + \dots + p_i > c`.

    Only the ``top_k`` likeliest numbers are drawn from, and of these only the likeliest that together have probability
    ``top_p``, if these are given.

    Args:
        scores: :math:`s`, of shape ``(size,)``; minus infinity for what is never drawn.
        chance: :math:`c`, drawn evenly from 0 to 1.
        temperature: :math:`t`; 0 for the number with the highest score.
        top_k: how many are drawn from.
        top_p: the probability that those drawn from have together.

    Holtzman et al. (2019), https://arxiv.org/abs/1904.09751

    >>> scores = jnp.log(jnp.array([0.2, 0.5, 0.3]))
    >>> [int(draw(scores, chance)) for chance in (0.1, 0.3, 0.6, 0.8)], int(draw(scores, 0.9, temperature=0.0))
    ([0, 1, 1, 2], 1)
    >>> int(draw(scores, 0.9, top_k=1)), int(draw(scores, 0.1, top_p=0.8))
    (1, 1)
    """
    chance, temperature = jnp.asarray(chance, "float32"), jnp.asarray(temperature, "float32")
    return DRAW(scores, chance, temperature, optional(top_k, "int32"), optional(top_p, "float32"))


def optional(number: Any, dtype: str) -> Array:
    """A number as an array, one of size 0 for none."""
    return jnp.zeros(0, dtype) if number is None else jnp.asarray(number, dtype)


def one_by_one(
    step: Callable[..., tuple[Array, Any]],
    token: Array,
    state: Any,
    count: Any,
    chances: Array,
    end: int | None = None,
) -> tuple[Array, Any]:
    """Tokens of which each follows from the one before, in one compiled loop.

    Args:
        step: from a token, the state, how many tokens were written before, and chance, the next token and state.
        token: the token before the first.
        state: the state before the first.
        count: how many tokens to write.
        chances: what each is drawn with, at least ``count``.
        end: the token after which to stop.

    Returns:
        As many tokens as there are chances, of which the first ``count`` up to ``end`` mean something; and the state.
    """

    def goes_on(carry: Any) -> Array:
        done, last, *_ = carry
        return done < count if end is None else (done < count) & ((done == 0) | (last != end))

    def write(carry: Any) -> Any:
        done, last, state, tokens = carry
        token, state = step(last, state, done, chances[done])
        return done + 1, token, state, tokens.at[done].set(token)

    first = (jnp.int32(0), jnp.asarray(token, "int32"), state, jnp.zeros(len(chances), "int32"))
    *_, state, tokens = jax.lax.while_loop(goes_on, write, first)
    return tokens, state


def _portable(scores: Array, chance: Array, temperature: Array, top_k: Array, top_p: Array) -> Array:
    scores = scores.astype(jnp.promote_types(scores.dtype, "float32"))
    heat = jnp.maximum(temperature, 1e-6)
    if top_k.size or top_p.size:
        order = jnp.argsort(-scores)
        ranked = scores[order]
        if top_k.size:
            ranked = jnp.where(jnp.arange(len(scores)) < top_k, ranked, -jnp.inf)
        if top_p.size:
            shares = jax.nn.softmax(ranked / heat)
            ranked = jnp.where(jnp.cumsum(shares) - shares < top_p, ranked, -jnp.inf)
        scores = jnp.zeros_like(scores).at[order].set(ranked)
    sums = jnp.cumsum(jnp.exp((scores - jnp.max(scores)) / heat))
    found = jnp.argmax(sums > chance * sums[-1])
    return jnp.where(temperature > 0, found, jnp.argmax(scores)).astype("int32")


def _native(*arrays: Array) -> Any:
    return call("draw", jax.ShapeDtypeStruct((), "int32"), *arrays)


def _supports(scores: Any, *others: Any) -> bool:
    return scores.dtype == "float32" and scores.size > 0


DRAW = Operation("draw", _portable, native=_native, targets=["draw"], supports=_supports)
