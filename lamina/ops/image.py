"""The functions of ``keras.ops.image``: pictures of shape ``(height, width, channels)``, one or a batch.

``data_format="channels_first"`` says that they are of shape ``(channels, height, width)``.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import Array
from lamina.kernels import image as kernels
from lamina.ops import warp
from lamina.ops.dispatch import like, op, public
from lamina.ops.pictures import batched, bell, channels_last, choice, each_channel, floats
from lamina.ops.warp import *  # noqa: F403

scale_and_translate = like(
    lambda images, output_shape, scale, translation, spatial_dims, method, antialias: jax.image.scale_and_translate(
        jnp.asarray(images),
        output_shape,
        spatial_dims,
        jnp.asarray(scale),
        jnp.asarray(translation),
        method,
        antialias,
    ),
    "scale_and_translate(images, output_shape, scale, translation, spatial_dims, method, antialias=True)",
)


@op
def rgb_to_grayscale(images: Any, data_format: str | None = None) -> Array:
    """The luminance of red, green and blue, as one channel."""

    def gray(x: Array) -> Array:
        if x.shape[-1] not in (1, 3):
            raise ShapeError(f"expected 3 channels, red, green and blue; received {x.shape[-1]}")
        return kernels.grayscale(floats(x)).astype(x.dtype)

    return channels_last(gray, images, data_format)


@op
def rgb_to_hsv(images: Any, data_format: str | None = None) -> Array:
    """Hue, saturation and value of red, green and blue, all from 0 to 1."""
    return channels_last(lambda x: kernels.rgb_to_hsv(_colours(x)), images, data_format)


@op
def hsv_to_rgb(images: Any, data_format: str | None = None) -> Array:
    """Red, green and blue of hue, saturation and value, all from 0 to 1."""
    return channels_last(lambda x: kernels.hsv_to_rgb(_colours(x)), images, data_format)


def _colours(x: Array) -> Array:
    if x.shape[-1] != 3 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ShapeError(f"expected 3 channels of floats from 0 to 1; received shape {x.shape}, {x.dtype.name}")
    return x


@op
def resize(
    images: Any,
    size: Sequence[int],
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> Array:
    """Pictures in another size.

    Args:
        images: one picture or a batch.
        size: the new height and width.
        interpolation: ``"nearest"``, ``"bilinear"``, ``"bicubic"``, ``"lanczos3"`` or ``"lanczos5"``.
        antialias: average over pixels where the picture gets smaller.
        crop_to_aspect_ratio: keep the proportions; cut off what is too much.
        pad_to_aspect_ratio: keep the proportions; fill up what is missing.
        fill_mode: must be ``"constant"``.
        fill_value: what to fill up with.
        data_format: see above.

    >>> resize(jnp.ones((4, 6, 3)), (2, 3)).shape
    (2, 3, 3)
    """
    choice("interpolation", interpolation, kernels.INTERPOLATIONS)
    choice("fill_mode", fill_mode, ("constant",))
    if crop_to_aspect_ratio and pad_to_aspect_ratio:
        raise ConfigError("resize can crop or pad to keep the proportions, not both")
    if len(size) != 2:
        raise ConfigError(f"size is (height, width); received {size!r}")
    height, width = size

    def apply(x: Array) -> Array:
        if crop_to_aspect_ratio:
            x = kernels.crop_to_aspect(x, (height, width))
        if pad_to_aspect_ratio:
            x = kernels.pad_to_aspect(x, (height, width), fill_value)
        return kernels.resize(x, (height, width), interpolation, antialias)

    return channels_last(apply, images, data_format)


def _borders(name: str, length: int, before: int | None, after: int | None, target: int | None) -> tuple[int, int]:
    """The two of ``before``, ``after`` and ``target`` that are given decide: the first two, from a change in length."""
    if [before, after, target].count(None) != 1:
        raise ConfigError(f"{name} expects two of three for each direction: before, after, and the target length")
    change = None if target is None else abs(target - length)
    before = change - after if before is None else before  # type: ignore[operator]
    after = change - before if after is None else after  # type: ignore[operator]
    if before < 0 or after < 0:
        raise ConfigError(f"{name} would change a length of {length} by {before} before and {after} after it")
    return before, after


@op
def pad_images(
    images: Any,
    top_padding: int | None = None,
    left_padding: int | None = None,
    bottom_padding: int | None = None,
    right_padding: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Array:
    """Pictures with zeros around. Give two of top, bottom and target height, and two of left, right, target width.

    >>> pad_images(jnp.ones((2, 2, 1)), top_padding=1, left_padding=0, target_height=4, target_width=2).shape
    (4, 2, 1)
    """

    def apply(x: Array) -> Array:
        height, width = x.shape[-3:-1]
        if (target_height or height) < height or (target_width or width) < width:
            raise ConfigError(f"pad_images cannot make {height} by {width} as small as its target; use crop_images")
        rows = _borders("pad_images", height, top_padding, bottom_padding, target_height)
        columns = _borders("pad_images", width, left_padding, right_padding, target_width)
        return jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [rows, columns, (0, 0)])

    return channels_last(apply, images, data_format)


@op
def crop_images(
    images: Any,
    top_cropping: int | None = None,
    left_cropping: int | None = None,
    bottom_cropping: int | None = None,
    right_cropping: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Array:
    """A window of pictures. Give two of top, bottom and target height, and two of left, right and target width.

    >>> crop_images(jnp.ones((4, 4, 1)), top_cropping=1, bottom_cropping=1, left_cropping=0, target_width=3).shape
    (2, 3, 1)
    """

    def apply(x: Array) -> Array:
        height, width = x.shape[-3:-1]
        if (target_height or 0) > height or (target_width or 0) > width:
            raise ConfigError(f"crop_images cannot make {height} by {width} as large as its target; use pad_images")
        top, bottom = _borders("crop_images", height, top_cropping, bottom_cropping, target_height)
        left, right = _borders("crop_images", width, left_cropping, right_cropping, target_width)
        return x[..., top : height - bottom, left : width - right, :]

    return channels_last(apply, images, data_format)


@op
def extract_patches(
    images: Any,
    size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    dilation_rate: int | Sequence[int] = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Array:
    """Windows of pictures, the pixels of each in the last axis; three sizes take windows of volumes.

    Args:
        images: shape ``(batch, height, width, channels)``, or without the batch.
        size: height and width of a window, or one number for both.
        strides: the step between windows; ``size`` by default.
        dilation_rate: the distance between pixels of a window.
        padding: ``"valid"`` for windows inside only, ``"same"`` for zeros around.
        data_format: see above.

    Returns:
        Shape ``(batch, rows, columns, height * width * channels)``, these of the window.

    >>> extract_patches(jnp.arange(16.0).reshape(4, 4, 1), 2)[0].tolist()
    [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]
    """
    rank = 3 if not isinstance(size, int) and len(size) == 3 else 2
    return _patches(jnp.asarray(images), rank, size, strides, dilation_rate, padding, data_format)


@op
def extract_patches_3d(
    volumes: Any,
    size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    dilation_rate: int | Sequence[int] = 1,
    padding: str = "valid",
    data_format: str | None = None,
) -> Array:
    """Windows of volumes ``(batch, depth, height, width, channels)``; see :func:`extract_patches`."""
    return _patches(jnp.asarray(volumes), 3, size, strides, dilation_rate, padding, data_format)


def _patches(x: Array, rank: int, size: Any, strides: Any, dilation: Any, padding: str, data_format: Any) -> Array:
    choice("padding", padding, ("valid", "same"))
    choice("data_format", data_format or "channels_last", ("channels_last", "channels_first"))
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(f"expected {rank} axes of space, channels, and perhaps a batch; received shape {x.shape}")
    if data_format == "channels_first":
        x = jnp.moveaxis(x, -rank - 1, -1)
    sizes, steps, gaps = (
        (v,) * rank if isinstance(v, int) else tuple(v) for v in (size, size if strides is None else strides, dilation)
    )
    batch, space = x.shape[: -rank - 1], x.shape[-rank - 1 : -1]
    spans = [(k - 1) * gap + 1 for k, gap in zip(sizes, gaps, strict=True)]
    if padding == "same":
        missing = [max((-(-n // s) - 1) * s + span - n, 0) for n, s, span in zip(space, steps, spans, strict=True)]
        x = jnp.pad(x, [(0, 0)] * len(batch) + [(m // 2, m - m // 2) for m in missing] + [(0, 0)])
        space = x.shape[-rank - 1 : -1]
    if any(n < span for n, span in zip(space, spans, strict=True)):
        raise ShapeError(f"a window of {sizes} does not fit into {space}: nothing would be left")
    axes = [
        [slice(i * gap, i * gap + n - span + 1, s) for i in range(k)]
        for n, k, s, gap, span in zip(space, sizes, steps, gaps, spans, strict=True)
    ]
    parts = [x[(..., *at, slice(None))] for at in itertools.product(*axes)]
    patches = jnp.concatenate(parts, -1)
    return jnp.moveaxis(patches, -1, -rank - 1) if data_format == "channels_first" else patches


@op
def gaussian_blur(
    images: Any,
    kernel_size: Sequence[int] = (3, 3),
    sigma: Sequence[float] = (1.0, 1.0),
    data_format: str | None = None,
) -> Array:
    """Pictures blurred by a bell-shaped window; outside is zero.

    Args:
        images: one picture or a batch.
        kernel_size: width and height of the window.
        sigma: the standard deviations of the bell along the width and the height.
        data_format: see above.
    """

    def blur(x: Array) -> Array:
        across, down = (bell(n, s, x.dtype) for n, s in zip(kernel_size, sigma, strict=True))
        return each_channel(each_channel(x, across[None, :], "SAME"), down[:, None], "SAME")

    return channels_last(lambda x: batched(blur)(floats(x)).astype(x.dtype), images, data_format)


@op
def sobel_edges(images: Any, data_format: str | None = None) -> Array:
    """How fast pictures change: downwards and to the right, as a new last axis of length 2; outside is zero.

    >>> sobel_edges(jnp.ones((1, 5, 5, 3))).shape
    (1, 5, 5, 3, 2)
    """
    right = jnp.asarray([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])

    def edges(kernel: Array) -> Array:
        return channels_last(batched(lambda x: each_channel(x, kernel, "SAME")), images, data_format)

    return jnp.stack([edges(right.T), edges(right)], -1)


@op
def ssim(
    image1: Any,
    image2: Any,
    max_val: float = 1.0,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_format: str | None = None,
) -> Array:
    """Structural similarity: 1 for equal pictures.

    Args:
        image1: one picture or a batch.
        image2: as many pictures of the same shape.
        max_val: the greatest value that there can be.
        filter_size: the side of the bell-shaped window in which means and variances are taken.
        filter_sigma: its standard deviation.
        k1: how much the means must exceed, as a share of ``max_val``, to count.
        k2: how much the deviations must exceed.
        data_format: see above.

    Returns:
        One number for each picture.

    Wang et al. (2004), https://doi.org/10.1109/TIP.2003.819861
    """
    a, b = jnp.asarray(image1), jnp.asarray(image2)
    if a.shape != b.shape or a.ndim not in (3, 4):
        raise ShapeError(f"ssim expects pictures of the same shape; received {a.shape} and {b.shape}")
    kept, a, b = a.dtype, floats(a), floats(b)
    if data_format == "channels_first":
        a, b = jnp.moveaxis(a, -3, -1), jnp.moveaxis(b, -3, -1)
    weights = bell(filter_size, filter_sigma, a.dtype)

    def local(x: Array) -> Array:
        return batched(lambda x: each_channel(each_channel(x, weights[None, :], "VALID"), weights[:, None], "VALID"))(x)

    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    mean_a, mean_b = local(a), local(b)
    spread = local(a * a) + local(b * b) - mean_a**2 - mean_b**2
    both = local(a * b) - mean_a * mean_b
    alike = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (spread + c2))
    return jnp.mean(alike, (-3, -2, -1)).astype(kept)


__all__ = [*public(__name__), *warp.__all__]
