"""Constraints: functions that bring a weight back to where it may be, applied after each update."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core.errors import ConfigError
from lamina.core.registry import Configurable, getter, register
from lamina.core.state import Array

Axis = int | Sequence[int]
_EPSILON = 1e-7


class Constraint(Configurable):
    """The base of all constraints. One of your own defines ``__call__(self, w)``, which returns the new weight."""

    def __call__(self, w: Any) -> Array:
        """``w``, changed as little as it takes to fulfil the constraint."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(self, w)")


def _norms(w: Array, axis: Axis) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(w), axis=axis if isinstance(axis, int) else tuple(axis), keepdims=True))


@register("constraints")
class MaxNorm(Constraint):
    r"""No vector of weights has a norm above ``max_value``.

    Args:
        max_value: the largest norm.
        axis: the axes along which a vector runs: 0 for the weights into one unit of a Dense layer, ``[0, 1, 2]`` for
            those of one filter of a Conv2D.

    Raises:
        ConfigError: for a norm below zero.

    >>> MaxNorm(1.0)(jnp.array([[3.0], [4.0]])).round(3).tolist()
    [[0.6...], [0.8...]]
    """

    def __init__(self, max_value: float = 2, axis: Axis = 0) -> None:
        if max_value < 0:
            raise ConfigError(f"MaxNorm expects max_value of at least 0; received {max_value!r}")
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: Any) -> Array:
        w = jnp.asarray(w)
        norms = _norms(w, self.axis)
        return w * (jnp.minimum(norms, self.max_value) / (_EPSILON + norms))


@register("constraints")
class NonNeg(Constraint):
    """No weight is negative.

    >>> NonNeg()(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __call__(self, w: Any) -> Array:
        return jnp.maximum(jnp.asarray(w), 0)


@register("constraints")
class UnitNorm(Constraint):
    """Every vector of weights has norm 1.

    Args:
        axis: see :class:`MaxNorm`.
    """

    def __init__(self, axis: Axis = 0) -> None:
        self.axis = axis

    def __call__(self, w: Any) -> Array:
        w = jnp.asarray(w)
        return w / (_EPSILON + _norms(w, self.axis))


@register("constraints")
class MinMaxNorm(Constraint):
    """The norm of every vector of weights lies between two values.

    Args:
        min_value: the least norm.
        max_value: the largest norm.
        rate: how far the norm moves there at each update: 1 all the way.
        axis: see :class:`MaxNorm`.

    Raises:
        ConfigError: unless ``0 <= min_value <= max_value`` and ``0 < rate <= 1``.
    """

    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: Axis = 0) -> None:
        if not 0 <= min_value <= max_value:
            raise ConfigError(f"MinMaxNorm expects 0 <= min_value <= max_value; received {min_value!r}, {max_value!r}")
        if not 0 < rate <= 1:
            raise ConfigError(f"MinMaxNorm expects a rate above 0 and up to 1; received {rate!r}")
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: Any) -> Array:
        w = jnp.asarray(w)
        norms = _norms(w, self.axis)
        wanted = self.rate * jnp.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms
        return w * (wanted / (_EPSILON + norms))


#: the names by which Keras programs call them too
max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm
get = getter("constraints")
