"""Activations that kernels apply in passing: those that multiply what is below zero by a slope, and GELU.

A slope of 1 is none, one of 0 the rectifier.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.typing import Array


def activate(x: Array, bias: Array, slope: float) -> Array:
    """``x + bias``, activated; an empty bias is none. A NaN stays one."""
    x = x + bias if bias.size else x
    if slope == 1:
        return x
    return jnp.where(x > 0, x, 0) + jnp.where(x != x, x, 0) if slope == 0 else jnp.where(x < 0, slope * x, x)


def undo(gradient: Array, result: Array, slope: float) -> Array:
    """The gradient in front of the activation, which is told from its result."""
    if slope == 1:
        return gradient
    if slope == 0:
        return jnp.where(result > 0, gradient, 0)
    return jnp.where(result < 0, slope * gradient, gradient)


def gelu_tanh(x: Any) -> Array:
    r"""The Gaussian error linear unit with :math:`\tanh` in place of the error function, as in GPT-2."""
    # Worked out again in the backward pass, which takes less time than reading what would be kept.
    return jax.checkpoint(lambda x: jax.nn.gelu(x, approximate=True))(jnp.asarray(x))


def gelu_tanh_slope(x: Array) -> Array:
    r"""The derivative of :func:`gelu_tanh`: of :math:`x s(z)` with the sigmoid :math:`s`, it is :math:`s(z) + x s(z) s(-z) z'`.

    >>> gelu_tanh_slope(jnp.array([0.0, 30.0])).tolist()
    [0.5, 1.0]
    """
    near = jnp.clip(x, -9, 9)  # where it is 0 or 1, as it is beyond
    square, factor, cube = near * near, math.sqrt(8 / math.pi), 0.044715
    z = near * (factor + factor * cube * square)
    share = jax.nn.sigmoid(z)
    return share + share * jax.nn.sigmoid(-z) * near * (factor + 3 * factor * cube * square)
