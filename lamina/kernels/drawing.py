"""Drawing one of several by their scores: in one look at them, natively."""

from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.typing import Array, Float, Integer
from lamina.kernels.operation import Operation, call


def draw(
    scores: Float[Array, " size"], chance: Float[Array, ""] | float, temperature: Float[Array, ""] | float = 1.0
) -> Integer[Array, ""]:
    r"""A number drawn from :math:`p = \mathrm{softmax}(s / t)`: the first one for which :math:`p_0 + \dots + p_i > c`.

    Args:
        scores: :math:`s`, of shape ``(size,)``; minus infinity for what is never drawn.
        chance: :math:`c`, drawn evenly from 0 to 1.
        temperature: :math:`t`; 0 for the number with the highest score.

    >>> scores = jnp.log(jnp.array([0.2, 0.5, 0.3]))
    >>> [int(draw(scores, chance)) for chance in (0.1, 0.3, 0.6, 0.8)], int(draw(scores, 0.9, temperature=0.0))
    ([0, 1, 1, 2], 1)
    """
    return DRAW(scores, jnp.asarray(chance, "float32"), jnp.asarray(temperature, "float32"))


def _portable(scores: Array, chance: Array, temperature: Array) -> Array:
    scores = scores.astype(jnp.promote_types(scores.dtype, "float32"))
    sums = jnp.cumsum(jnp.exp((scores - jnp.max(scores)) / jnp.maximum(temperature, 1e-6)))
    found = jnp.argmax(sums > chance * sums[-1])
    return jnp.where(temperature > 0, found, jnp.argmax(scores)).astype("int32")


def _native(scores: Array, chance: Array, temperature: Array) -> Any:
    return call("draw", jax.ShapeDtypeStruct((), "int32"), scores, chance, temperature)


def _supports(scores: Any, *others: Any) -> bool:
    return scores.dtype == "float32" and scores.size > 0


DRAW = Operation("draw", _portable, native=_native, targets=["draw"], supports=_supports)
