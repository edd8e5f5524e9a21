"""Reshaping by pattern."""

import math
import re
from typing import Any

import jax.numpy as jnp

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import Array
from lamina.ops.dispatch import op, public


@op
def rearrange(tensor: Any, pattern: str, **axes_lengths: int) -> Array:
    """Split, order and join axes by their names.

    Args:
        tensor: any shape.
        pattern: the axes before and after, as ``"b (h p) c -> b h (p c)"``; those in brackets make one axis together.
        axes_lengths: the lengths of axes in brackets on the left, all but one of each bracket.

    Raises:
        ConfigError: if the pattern is not one.
        ShapeError: if it does not fit.

    >>> rearrange(jnp.zeros((2, 6, 5)), "b (h p) c -> b h (p c)", p=3).shape
    (2, 2, 15)
    """
    x = jnp.asarray(tensor)
    left, arrow, right = pattern.partition("->")
    before, after = _groups(left), _groups(right)
    names = [name for group in before for name in group]
    order = [name for group in after for name in group]
    if not arrow or len(set(names)) < len(names) or sorted(names) != sorted(order):
        raise ConfigError(f"a pattern names the same axes, each once, on both sides of '->'; received {pattern!r}")
    if len(before) != x.ndim:
        raise ShapeError(f"{pattern!r} is for {len(before)} axes; received shape {x.shape}")
    lengths = dict(axes_lengths)
    for group, total in zip(before, x.shape, strict=True):
        unknown = [name for name in group if name not in lengths]
        known = math.prod(lengths[name] for name in group if name in lengths)
        if len(unknown) > 1 or known == 0 or total % known or (not unknown and known != total):
            raise ShapeError(f"{pattern!r} with {axes_lengths} does not fit an array of shape {x.shape}")
        lengths |= dict.fromkeys(unknown, total // known)
    x = x.reshape([lengths[name] for name in names]).transpose([names.index(name) for name in order])
    return x.reshape([math.prod(lengths[name] for name in group) for group in after])


def _groups(side: str) -> list[list[str]]:
    return [re.findall(r"\w+", part) for part in re.findall(r"\w+|\([^)]*\)", side)]


__all__ = public(__name__)
