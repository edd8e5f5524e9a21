"""Pictures as arrays: resizing, cropping, resampling under an affine map, and colour spaces. Channels come last."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from lamina.core.typing import Array, Float, Real, Shaped

#: Keras's names of interpolations -> those of ``jax.image``
INTERPOLATIONS = {
    "nearest": "nearest",
    "bilinear": "linear",
    "bicubic": "cubic",
    "lanczos3": "lanczos3",
    "lanczos5": "lanczos5",
}


def _wrap(index: Array, length: int) -> Array:
    return index - length * jnp.floor(index / length)  # whole numbers as floats: integer remainders are slow on CPUs


def _reflect(index: Array, length: int) -> Array:
    index = _wrap(index, 2 * length)
    return jnp.minimum(index, 2 * length - 1 - index)


#: what stands beyond the edge of a picture -> from any index to one inside
FILLS: dict[str, Callable[[Array, int], Array]] = {
    "constant": lambda index, length: index,
    "nearest": lambda index, length: index,
    "wrap": _wrap,
    "reflect": _reflect,
}


def resize(
    images: Shaped[Array, "*batch height width channels"],
    size: tuple[int, int],
    interpolation: str = "bilinear",
    antialias: bool = False,
) -> Shaped[Array, "*batch {size[0]} {size[1]} channels"]:
    """Pictures ``(..., height, width, channels)`` in another size; whole-number pixels are rounded.

    >>> resize(jnp.array([[[0.0], [1.0]]]), (1, 4))[0, :, 0].tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    shape = (*images.shape[:-3], *size, images.shape[-1])
    x = images if jnp.issubdtype(images.dtype, jnp.inexact) else images.astype("float32")
    x = jax.image.resize(x, shape, INTERPOLATIONS[interpolation], antialias=antialias)
    return saturate(x, images.dtype)


def saturate(x: Real[Array, "*shape"], dtype: Any) -> Shaped[Array, "*shape"]:
    """``x`` in ``dtype``: rounded and clipped to the range of whole numbers where ``dtype`` is one of those."""
    if jnp.issubdtype(dtype, jnp.integer):
        limits = jnp.iinfo(dtype)
        x = jnp.clip(jnp.round(x), limits.min, limits.max)
    return x.astype(dtype)


def crop_to_aspect(
    images: Shaped[Array, "*batch height width channels"], size: tuple[int, int]
) -> Shaped[Array, "*batch cropped_height cropped_width channels"]:
    """The largest window in the middle of ``(..., height, width, channels)`` with the proportions of ``size``."""
    height, width = images.shape[-3:-1]
    window = (
        max(min(height, width * size[0] // size[1]), 1),
        max(min(width, height * size[1] // size[0]), 1),
    )
    return center_crop(images, window)


def center_crop(
    images: Shaped[Array, "*batch height width channels"], size: tuple[int, int]
) -> Shaped[Array, "*batch {size[0]} {size[1]} channels"]:
    """The window of ``size`` in the middle of ``(..., height, width, channels)``."""
    top, left = (images.shape[-3] - size[0]) // 2, (images.shape[-2] - size[1]) // 2
    return images[..., top : top + size[0], left : left + size[1], :]


def pad_to_aspect(
    images: Shaped[Array, "*batch height width channels"], size: tuple[int, int], fill_value: float = 0.0
) -> Shaped[Array, "*batch padded_height padded_width channels"]:
    """``(..., height, width, channels)`` with borders that give it the proportions of ``size``."""
    height, width = images.shape[-3:-1]
    top = (max(height, width * size[0] // size[1]) - height) // 2
    left = (max(width, height * size[1] // size[0]) - width) // 2
    borders = [(0, 0)] * (images.ndim - 3) + [(top, top), (left, left), (0, 0)]
    return jnp.pad(images, borders, constant_values=jnp.asarray(fill_value).astype(images.dtype))


def affine(
    image: Shaped[Array, "height width channels"],
    matrix: Float[Array, "2 3"],
    interpolation: str = "bilinear",
    fill_mode: str = "reflect",
    fill_value: float = 0.0,
) -> Shaped[Array, "height width channels"]:
    r"""One picture resampled: the pixel at :math:`(y, x)` is read at :math:`M \, (y, x, 1)^T` in the input.

    Args:
        image: shape ``(height, width, channels)``.
        matrix: :math:`M`, shape ``(2, 3)``, in at least single precision.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        fill_mode: what stands beyond the edges: ``"reflect"`` (``d c b a | a b c d``), ``"wrap"``, ``"nearest"`` or
            ``"constant"``.
        fill_value: the constant.

    >>> shift = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, -1.0]])
    >>> affine(jnp.arange(3.0).reshape(1, 3, 1), shift, fill_mode="constant", fill_value=9.0)[0, :, 0].tolist()
    [9.0, 0.0, 1.0]
    """
    height, width, channels = image.shape
    y = jnp.arange(height, dtype=matrix.dtype)[:, None]
    x = jnp.arange(width, dtype=matrix.dtype)[None, :]
    rows, columns = (m[0] * y + m[1] * x + m[2] for m in matrix)
    pixels = image.reshape(-1, channels)
    inside, fill = FILLS[fill_mode], jnp.asarray(fill_value).astype(image.dtype)

    def read(i: Array, j: Array) -> Array:
        row = jnp.clip(inside(i, height), 0, height - 1).astype("int32")
        column = jnp.clip(inside(j, width), 0, width - 1).astype("int32")
        found = pixels.at[row * width + column].get(mode="promise_in_bounds")
        if fill_mode == "constant":
            known = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            found = jnp.where(known[..., None], found, fill)
        return found

    if interpolation == "nearest":
        return read(lax.round(rows), lax.round(columns))
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = (rows - top)[..., None].astype(image.dtype), (columns - left)[..., None].astype(image.dtype)
    above = (1 - right) * read(top, left) + right * read(top, left + 1)
    below = (1 - right) * read(top + 1, left) + right * read(top + 1, left + 1)
    return (1 - down) * above + down * below


def grayscale(images: Real[Array, "*shape channels"]) -> Real[Array, "*shape 1"]:
    """The luminance of red, green and blue (ITU-R 601), shape ``(..., 3)`` to ``(..., 1)``; one channel stays."""
    if images.shape[-1] == 1:
        return images
    return jnp.matmul(images, jnp.asarray([[0.2989], [0.5870], [0.1140]], images.dtype))


def rgb_to_hsv(images: Float[Array, "*shape 3"]) -> Float[Array, "*shape 3"]:
    """Hue, saturation and value of red, green and blue, all from 0 to 1, shape ``(..., 3)``."""
    red, green, blue = images[..., 0], images[..., 1], images[..., 2]
    value = images.max(-1)
    spread = value - images.min(-1)
    divisor = jnp.where(spread > 0, spread, 1)
    sector = jnp.where(
        value == red,
        (green - blue) / divisor,
        jnp.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = jnp.where(spread > 0, jnp.mod(sector / 6, 1), 0)
    saturation = jnp.where(value > 0, spread / jnp.where(value > 0, value, 1), 0)
    return jnp.stack([hue, saturation, value], -1)


def hsv_to_rgb(images: Float[Array, "*shape 3"]) -> Float[Array, "*shape 3"]:
    """The opposite of :func:`rgb_to_hsv`.

    >>> hsv_to_rgb(jnp.array([0.0, 1.0, 1.0])).tolist()
    [1.0, 0.0, 0.0]
    """
    hue, saturation, value = images[..., 0], images[..., 1], images[..., 2]

    def channel(offset: int) -> Array:
        k = jnp.mod(offset + 6 * hue, 6)
        return value * (1 - saturation * jnp.clip(jnp.minimum(k, 4 - k), 0, 1))

    return jnp.stack([channel(5), channel(3), channel(1)], -1)
