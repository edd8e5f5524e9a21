"""Activations that kernels apply in passing: what is below zero is multiplied by a slope, 1 for none, 0 for the rectifier."""

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
