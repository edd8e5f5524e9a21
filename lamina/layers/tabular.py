"""Layers for tables."""

from typing import Any

import jax.numpy as jnp

from lamina.core.state import Array
from lamina.layers.base import Layer, layer

__all__ = ["FillMissing"]


@layer
class FillMissing(Layer):
    """A value for numbers that are missing (NaN), and columns that say which ones were.

    After ``Normalization`` a missing number becomes 0, the mean of its column.

    Args:
        value: what a missing number becomes.
        indicate: whether to append, for each column, a column of 1 where its number is missing and 0 elsewhere.

    Input ``(batch, columns)``, output ``(batch, 2 * columns)``, or ``(batch, columns)`` without ``indicate``.

    >>> FillMissing()(jnp.array([[1.0, jnp.nan]])).tolist()
    [[1.0, 0.0, 0.0, 1.0]]
    """

    #: tells a model that NaN among its inputs is not a mistake
    takes_missing = True

    def __init__(self, value: float = 0.0, indicate: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value, self.indicate = value, indicate

    def call(self, inputs: Array) -> Array:
        missing = jnp.isnan(inputs)
        filled = jnp.where(missing, jnp.asarray(self.value, inputs.dtype), inputs)
        if not self.indicate:
            return filled
        return jnp.concatenate([filled, missing.astype(inputs.dtype)], axis=-1)
