"""Shapes in signatures, in jaxtyping's notation: ``Float[Array, "batch queries heads dim"]``.

The tests check them at every call (``conftest.py``). Elsewhere jaxtyping, slow to import, stays out, and they are arrays.
"""

import sys
from typing import TYPE_CHECKING, Any

from jax import Array

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Integer, Real, Shaped
else:

    class Shaped:
        """An array, whatever its shape and dtype."""

        def __class_getitem__(cls, shape: Any) -> type[Array]:
            return Array

    Bool = Float = Integer = Real = Shaped

__all__ = ["Array", "Bool", "Float", "Integer", "Real", "Shaped"]
