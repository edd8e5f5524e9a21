"""What the functions on pictures share: their format, checks, and filters."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from lamina.core.errors import ConfigError, ShapeError, nearest
from lamina.core.state import Array


def channels_last(fn: Callable[[Array], Array], images: Any, data_format: str | None) -> Array:
    """``fn`` of the pictures with channels last, put back into their format."""
    images = jnp.asarray(images)
    if images.ndim not in (3, 4):
        raise ShapeError(
            "expected one picture, (height, width, channels), or a batch of them; "
            f"received an array of shape {images.shape}"
        )
    if data_format in (None, "channels_last"):
        return fn(images)
    if data_format != "channels_first":
        raise ConfigError(f"data_format is 'channels_last' or 'channels_first'; received {data_format!r}")
    return jnp.moveaxis(fn(jnp.moveaxis(images, -3, -1)), -1, -3)


def choice(name: str, value: Any, choices: Any) -> None:
    """Refuse a value that is not among the choices of the argument ``name``."""
    if value not in choices:
        raise ConfigError(f"{value!r} is not a choice of {name}. {nearest(str(value), choices)}")


def floats(x: Array) -> Array:
    """``x`` in a floating dtype, its own if it is one."""
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))


def bell(size: int, sigma: Any, dtype: Any) -> Array:
    """A normal density at ``size`` places around its middle, with sum 1."""
    weights = jnp.exp(-0.5 * jnp.square((jnp.arange(size, dtype=dtype) - (size - 1) / 2) / sigma))
    return weights / jnp.sum(weights)


def each_channel(x: Array, kernel: Array, padding: str) -> Array:
    """Each channel of ``(batch, height, width, channels)`` with the same kernel ``(height, width)``."""
    weights = jnp.tile(kernel.astype(x.dtype)[:, :, None, None], (1, 1, 1, x.shape[-1]))
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, weights, (1, 1), padding, dimension_numbers=numbers, feature_group_count=x.shape[-1]
    )


def batched(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """``fn`` of batches of pictures, for a single picture too."""
    return lambda x: fn(x[None])[0] if x.ndim == 3 else fn(x)
