"""Regularizers: functions of a weight, or of a layer's output, that are added to the loss."""

import math
from typing import Any

import jax.numpy as jnp

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.registry import Configurable, getter, register
from lamina.core.state import Array


class Regularizer(Configurable):
    """The base of all regularizers. One of your own defines ``__call__(self, x)``, which returns a number."""

    def __call__(self, x: Any) -> Array:
        """The penalty on ``x``, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(self, x)")

    def _factor(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ConfigError(
                f"{type(self).__name__} expects {name} as a finite number of at least 0; received {value!r}"
            )
        return float(value)


def _exact(x: Any) -> Array:
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))  # sums of half types overflow


@register("regularizers", "l1_l2")
class L1L2(Regularizer):
    r"""The penalty :math:`l_1 \sum |x| + l_2 \sum x^2`.

    Args:
        l1: the factor :math:`l_1`.
        l2: the factor :math:`l_2`.

    Raises:
        ConfigError: for a factor that is negative or not finite.

    >>> float(L1L2(l1=1.0, l2=10.0)([1.0, -2.0]))
    53.0
    """

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        self.l1 = self._factor("l1", 0.0 if l1 is None else l1)
        self.l2 = self._factor("l2", 0.0 if l2 is None else l2)

    def __call__(self, x: Any) -> Array:
        x = _exact(x)
        total = jnp.zeros((), x.dtype)
        if self.l1:
            total = total + self.l1 * jnp.sum(jnp.abs(x))
        if self.l2:
            total = total + self.l2 * jnp.sum(jnp.square(x))
        return total


@register("regularizers")
class L1(Regularizer):
    r"""The penalty :math:`l_1 \sum |x|`, which drives small weights to zero.

    Args:
        l1: the factor.

    >>> float(L1(1.0)([1.0, -2.0]))
    3.0
    """

    def __init__(self, l1: float = 0.01) -> None:
        self.l1 = self._factor("l1", 0.01 if l1 is None else l1)

    def __call__(self, x: Any) -> Array:
        return self.l1 * jnp.sum(jnp.abs(_exact(x)))


@register("regularizers")
class L2(Regularizer):
    r"""The penalty :math:`l_2 \sum x^2`, which keeps weights small.

    Args:
        l2: the factor.

    >>> float(L2(1.0)([1.0, -2.0]))
    5.0
    """

    def __init__(self, l2: float = 0.01) -> None:
        self.l2 = self._factor("l2", 0.01 if l2 is None else l2)

    def __call__(self, x: Any) -> Array:
        return self.l2 * jnp.sum(jnp.square(_exact(x)))


@register("regularizers", "orthogonal")
class OrthogonalRegularizer(Regularizer):
    """The mean absolute cosine between different rows, or columns, of a matrix, times a factor.

    Args:
        factor: the factor.
        mode: ``"rows"`` or ``"columns"``: what is to become orthogonal.

    Raises:
        ConfigError: for a factor that is negative or not finite, or another mode.
        ShapeError: when called on something that is not a matrix.

    >>> float(OrthogonalRegularizer(1.0)([[1.0, 0.0], [0.0, 2.0]]))
    0.0
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        self.factor = self._factor("factor", factor)
        if mode not in ("rows", "columns"):
            raise ConfigError(f"OrthogonalRegularizer expects mode as 'rows' or 'columns'; received {mode!r}")
        self.mode = mode

    def __call__(self, x: Any) -> Array:
        x = _exact(x)
        if x.ndim != 2:
            raise ShapeError(f"OrthogonalRegularizer expects a matrix; received shape {x.shape}")
        x = x if self.mode == "rows" else x.T
        count = x.shape[0]
        if count < 2:
            return jnp.zeros((), x.dtype)  # nothing to be orthogonal to
        squares = jnp.sum(jnp.square(x), axis=1, keepdims=True)
        x = x / jnp.sqrt(jnp.maximum(squares, 1e-14))
        cosines = jnp.abs(x @ x.T) * (1 - jnp.eye(count, dtype=x.dtype))
        return self.factor * jnp.sum(cosines) / (count * (count - 1))


#: the names by which Keras programs call them too
l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer
get = getter("regularizers")
