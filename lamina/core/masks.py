"""Masks: which steps of a sequence count. A mask travels with the array it belongs to, from layer to layer."""

from typing import Any

import jax

from lamina.core.notes import Notes
from lamina.core.state import Array

_masks = Notes()


def get_mask(x: Any) -> Array | None:
    """The mask that travels with ``x``: True where a step counts; ``None`` if all do."""
    mask: Array | None = _masks.read(x)
    return mask


def set_mask(x: Any, mask: Any) -> Any:
    """``x``, with ``mask`` travelling with it."""
    if mask is not None:
        _masks.write(x, mask)
    return x


def masks_of(tree: Any) -> Any:
    """The masks of one array, or of a list or dictionary of arrays in the same structure."""
    if isinstance(tree, dict):
        return {name: masks_of(item) for name, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [masks_of(item) for item in tree]
    return get_mask(tree)


def set_masks(tree: Any, masks: Any) -> None:
    """Let each mask travel with the array in its place."""
    if isinstance(tree, dict):
        for name, item in tree.items():
            set_masks(item, masks.get(name) if isinstance(masks, dict) else masks)
    elif isinstance(tree, list | tuple):
        for index, item in enumerate(tree):
            set_masks(item, masks[index] if isinstance(masks, list | tuple) else masks)
    elif isinstance(tree, jax.Array):
        set_mask(tree, masks)
