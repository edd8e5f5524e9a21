"""The functions of ``keras.ops.image`` that read pictures between their pixels."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy import ndimage

from lamina.core import random
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import Array
from lamina.ops.dispatch import op, public
from lamina.ops.pictures import batched, bell, channels_last, choice, each_channel, floats

ORDERS = {"nearest": 0, "bilinear": 1}
FILL_MODES = ("constant", "nearest", "wrap", "mirror", "reflect")


@op
def map_coordinates(
    inputs: Any, coordinates: Any, order: int, fill_mode: str = "constant", fill_value: float = 0.0
) -> Array:
    """An array read between its entries.

    Args:
        inputs: any shape.
        coordinates: one index, not necessarily whole, for each axis of ``inputs``, shape ``(axes, ...)``.
        order: 0 for the nearest entry, 1 for linear interpolation.
        fill_mode: what stands outside: ``"constant"``, ``"nearest"``, ``"wrap"``, ``"mirror"`` or ``"reflect"``.
        fill_value: the constant.

    >>> map_coordinates([0.0, 10.0], [[0.5, 1.0]], order=1).tolist()
    [5.0, 10.0]
    """
    inputs, coordinates = jnp.asarray(inputs), jnp.asarray(coordinates)
    if coordinates.ndim < 2 or coordinates.shape[0] != inputs.ndim:
        raise ShapeError(f"coordinates must have shape ({inputs.ndim}, ...); received {coordinates.shape}")
    if order not in (0, 1):
        raise ConfigError(f"order is 0 or 1; received {order!r}")
    choice("fill_mode", fill_mode, FILL_MODES)
    return ndimage.map_coordinates(inputs, list(coordinates), order, fill_mode, fill_value)


def _sample(image: Array, rows: Array, columns: Array, interpolation: str, fill_mode: str, fill_value: Any) -> Array:
    """The picture ``(height, width, channels)`` read at these places."""
    return jax.vmap(
        lambda channel: ndimage.map_coordinates(channel, [rows, columns], ORDERS[interpolation], fill_mode, fill_value),
        in_axes=-1,
        out_axes=-1,
    )(image)


def _grid(x: Array) -> tuple[Array, Array]:
    dtype = jnp.promote_types(x.dtype, jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
    return jnp.arange(x.shape[-3], dtype=dtype)[:, None], jnp.arange(x.shape[-2], dtype=dtype)[None, :]


@op
def affine_transform(
    images: Any,
    transform: Any,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Array:
    r"""Pictures turned, sheared, scaled and moved.

    The pixel at :math:`(x, y)` is read at
    :math:`((a_0 x + a_1 y + a_2) / k, (b_0 x + b_1 y + b_2) / k)`, :math:`k = c_0 x + c_1 y + 1`.

    Args:
        images: one picture or a batch.
        transform: :math:`a_0, a_1, a_2, b_0, b_1, b_2, c_0, c_1`, shape ``(8,)``, or ``(batch, 8)``.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        fill_mode: what stands outside: ``"constant"``, ``"nearest"``, ``"wrap"``, ``"mirror"`` or ``"reflect"``.
        fill_value: the constant.
        data_format: see above.

    >>> affine_transform(jnp.arange(3.0).reshape(1, 3, 1), [1, 0, 1, 0, 1, 0, 0, 0])[0, :, 0].tolist()
    [1.0, 2.0, 0.0]
    """
    choice("interpolation", interpolation, ORDERS)
    choice("fill_mode", fill_mode, FILL_MODES)
    transform = jnp.asarray(transform)
    if transform.ndim not in (1, 2) or transform.shape[-1] != 8:
        raise ShapeError(f"transform must have shape (8,) or (batch, 8); received {transform.shape}")

    def warp(image: Array, numbers: Array) -> Array:
        y, x = _grid(image)
        a0, a1, a2, b0, b1, b2, c0, c1 = numbers.astype(x.dtype)
        k = c0 * x + c1 * y + 1
        rows, columns = (b0 * x + b1 * y + b2) / k, (a0 * x + a1 * y + a2) / k
        return _sample(image, rows, columns, interpolation, fill_mode, fill_value)

    def apply(x: Array) -> Array:
        if x.ndim == 3:
            return warp(x, transform.reshape(8))
        return jax.vmap(warp)(x, jnp.broadcast_to(transform, (x.shape[0], 8)))

    return channels_last(apply, images, data_format)


@op
def perspective_transform(
    images: Any,
    start_points: Any,
    end_points: Any,
    interpolation: str = "bilinear",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Array:
    """Pictures distorted so that four points move to four others.

    Args:
        images: one picture or a batch.
        start_points: ``x`` and ``y`` of the four points, shape ``(4, 2)``, or ``(batch, 4, 2)``.
        end_points: where they go, of the same shape.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        fill_value: what stands outside.
        data_format: see above.
    """
    start, end = (floats(jnp.asarray(points)) for points in (start_points, end_points))
    if start.shape != end.shape or start.ndim not in (2, 3) or start.shape[-2:] != (4, 2):
        raise ShapeError(f"the points must have shape (4, 2) or (batch, 4, 2); received {start.shape} and {end.shape}")
    (u, v), (x, y) = (jnp.moveaxis(points, -1, 0) for points in (start, end))
    zero, one = jnp.zeros_like(x), jnp.ones_like(x)
    # two equations for each point: a . (x, y, 1) = u (c . (x, y) + 1), and b likewise for v
    upper = jnp.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1)
    lower = jnp.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1)
    equations, values = jnp.concatenate([upper, lower], -2), jnp.concatenate([u, v], -1)
    transform = jnp.linalg.solve(equations, values[..., None])[..., 0]
    return affine_transform(images, transform, interpolation, "constant", fill_value, data_format)


@op
def elastic_transform(
    images: Any,
    alpha: float = 20.0,
    sigma: float = 5.0,
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
    seed: int | None = None,
    data_format: str | None = None,
) -> Array:
    """Pictures whose pixels are moved at random, neighbours alike.

    Args:
        images: one picture or a batch.
        alpha: how far.
        sigma: how alike: the standard deviation, in pixels, of the blur that the moves undergo.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        fill_mode: what stands outside, as in :func:`affine_transform`.
        fill_value: the constant.
        seed: a number to make this call's draws differ from another's.
        data_format: see above.

    Simard et al. (2003), "Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis"
    """
    choice("interpolation", interpolation, ORDERS)
    choice("fill_mode", fill_mode, FILL_MODES)
    key = random.next_key()
    key = key if seed is None else jax.random.fold_in(key, seed)

    def move(x: Array) -> Array:
        y_grid, x_grid = _grid(x)
        noise = sigma * jax.random.normal(key, (*x.shape[:3], 2), x_grid.dtype)
        weights = bell(int(6 * sigma) | 1, sigma, noise.dtype)
        moves = alpha * each_channel(each_channel(noise, weights[None, :], "SAME"), weights[:, None], "SAME")

        def warp(image: Array, by: Array) -> Array:
            return _sample(image, y_grid + by[..., 0], x_grid + by[..., 1], interpolation, fill_mode, fill_value)

        return jax.vmap(warp)(x, moves)

    return channels_last(batched(move), images, data_format)


__all__ = public(__name__)
