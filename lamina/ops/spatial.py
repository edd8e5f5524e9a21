"""The functions of ``keras.ops.nn`` that slide a window over space: convolution, pooling, folding.

``data_format`` is ``"channels_last"``, ``(batch, *space, channels)``, unless it is ``"channels_first"``,
``(batch, channels, *space)``; where it says nothing, shapes below are the former.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import Array
from lamina.kernels import convolution, pooling
from lamina.ops.dispatch import op, public

Window = int | Sequence[int]


def _each(value: Window, rank: int) -> tuple[int, ...]:
    """One number for each of ``rank`` axes."""
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank:
        raise ConfigError(f"expected one number, or {rank} numbers, one for each axis of space; received {value!r}")
    return values


def _channels_last(fn: Callable[[Array], Array], x: Any, data_format: str | None) -> Array:
    """``fn`` of ``x`` with channels last, put back into its format."""
    x = jnp.asarray(x)
    if x.ndim not in (3, 4, 5):
        raise ShapeError(f"expected 1 to 3 axes of space, shape (batch, *space, channels); received shape {x.shape}")
    if data_format in (None, "channels_last"):
        return fn(x)
    if data_format != "channels_first":
        raise ConfigError(f"data_format is 'channels_last' or 'channels_first'; received {data_format!r}")
    return jnp.moveaxis(fn(jnp.moveaxis(x, 1, -1)), -1, 1)


def _padding(padding: str) -> str:
    if str(padding).lower() not in ("valid", "same"):
        raise ConfigError(f"padding is 'valid' or 'same'; received {padding!r}")
    return padding.lower()


def _must_fit(x: Array, size: Sequence[int], padding: str, dilation: Sequence[int]) -> None:
    for length, count, gap in zip(x.shape[1:-1], size, dilation, strict=True):
        if padding == "valid" and (count - 1) * gap >= length:
            raise ShapeError(f"a window of {tuple(size)} does not fit into {x.shape[1:-1]}: nothing would be left")


def _convolve(x: Array, kernel: Array, strides: Window, padding: str, dilation_rate: Window, groups: int) -> Array:
    rank, padding = x.ndim - 2, _padding(padding)
    if kernel.ndim != x.ndim:
        raise ShapeError(f"an input of shape {x.shape} needs a kernel of {x.ndim} axes; received {kernel.shape}")
    steps, gaps = _each(strides, rank), _each(dilation_rate, rank)
    _must_fit(x, kernel.shape[:-2], padding, gaps)
    return convolution.conv(x, kernel, steps, padding, gaps, groups)


@op
def conv(
    inputs: Any,
    kernel: Any,
    strides: Window = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Window = 1,
) -> Array:
    """Convolution over 1 to 3 axes of space.

    Args:
        inputs: shape ``(batch, *space, channels)``.
        kernel: shape ``(*window, channels, filters)``; with fewer channels, a divisor, channels are in groups.
        strides: the step between windows, one number or one for each axis.
        padding: ``"valid"`` for windows inside only, ``"same"`` for zeros around.
        data_format: see above.
        dilation_rate: the distance between entries of a window.

    Returns:
        Shape ``(batch, *windows, filters)``.
    """
    kernel = jnp.asarray(kernel)

    def apply(x: Array) -> Array:
        if x.shape[-1] % kernel.shape[-2]:
            raise ShapeError(f"{x.shape[-1]} channels cannot be split into groups of {kernel.shape[-2]}, the kernel's")
        return _convolve(x, kernel, strides, padding, dilation_rate, x.shape[-1] // kernel.shape[-2])

    return _channels_last(apply, inputs, data_format)


@op
def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: Window = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Window = 1,
) -> Array:
    """Convolution of each channel by itself.

    Args:
        inputs: shape ``(batch, *space, channels)``.
        kernel: shape ``(*window, channels, multiplier)``.
        strides: as in :func:`conv`, like the rest.
        padding: see there.
        data_format: see there.
        dilation_rate: see there.

    Returns:
        Shape ``(batch, *windows, channels * multiplier)``.
    """
    kernel = jnp.asarray(kernel)

    def apply(x: Array) -> Array:
        if x.shape[-1] != kernel.shape[-2]:
            raise ShapeError(f"a depthwise kernel for {kernel.shape[-2]} channels received {x.shape[-1]} channels")
        flat = kernel.reshape(*kernel.shape[:-2], 1, -1)
        return _convolve(x, flat, strides, padding, dilation_rate, x.shape[-1])

    return _channels_last(apply, inputs, data_format)


@op
def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Window = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Window = 1,
) -> Array:
    """Convolution of each channel by itself, then of all channels with a window of one.

    Args:
        inputs: shape ``(batch, *space, channels)``.
        depthwise_kernel: shape ``(*window, channels, multiplier)``.
        pointwise_kernel: shape ``(1, ..., channels * multiplier, filters)``.
        strides: as in :func:`conv`, like the rest.
        padding: see there.
        data_format: see there.
        dilation_rate: see there.
    """
    x = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(x, pointwise_kernel, data_format=data_format)


@op
def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: Window = 1,
    padding: str = "valid",
    output_padding: Window | None = None,
    data_format: str | None = None,
    dilation_rate: Window = 1,
) -> Array:
    """The transpose of a convolution: it takes the windows of :func:`conv` back to space.

    Args:
        inputs: shape ``(batch, *windows, channels)``.
        kernel: shape ``(*window, filters, channels)``.
        strides: as in :func:`conv`.
        padding: as in :func:`conv`; with ``"same"``, the result is ``strides`` times as long as the input.
        output_padding: how much longer the result is than it needs to be, in place of the above.
        data_format: see above.
        dilation_rate: as in :func:`conv`.

    Returns:
        Shape ``(batch, *space, filters)``.
    """
    kernel, way = jnp.asarray(kernel), _padding(padding)

    def apply(x: Array) -> Array:
        if x.ndim != kernel.ndim or x.shape[-1] != kernel.shape[-1]:
            raise ShapeError(
                f"a transposed kernel of shape {kernel.shape} is for inputs of {kernel.ndim} axes and "
                f"{kernel.shape[-1]} channels; received {x.shape}"
            )
        rank = x.ndim - 2
        extra = None if output_padding is None else _each(output_padding, rank)
        return convolution.conv_transpose(x, kernel, _each(strides, rank), way, extra, _each(dilation_rate, rank))

    return _channels_last(apply, inputs, data_format)


@op
def max_pool(
    inputs: Any,
    pool_size: Window,
    strides: Window | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Array:
    """The greatest value in each window.

    Args:
        inputs: shape ``(batch, *space, channels)``.
        pool_size: the size of a window, one number or one for each axis.
        strides: the step between windows; ``pool_size`` by default.
        padding: ``"valid"`` or ``"same"``.
        data_format: see above.

    >>> max_pool(jnp.arange(4.0).reshape(1, 4, 1), 2)[0, :, 0].tolist()
    [1.0, 3.0]
    """

    return _pool(pooling.max_pool, inputs, pool_size, strides, padding, data_format)


@op
def average_pool(
    inputs: Any,
    pool_size: Window,
    strides: Window | None = None,
    padding: str = "valid",
    data_format: str | None = None,
) -> Array:
    """The mean of each window; what ``"same"`` puts around is not counted. Arguments as in :func:`max_pool`."""

    return _pool(pooling.average_pool, inputs, pool_size, strides, padding, data_format)


def _pool(fn: Any, inputs: Any, size: Window, strides: Window | None, padding: str, data_format: str | None) -> Array:
    def apply(x: Array) -> Array:
        rank, way = x.ndim - 2, _padding(padding)
        _must_fit(x, _each(size, rank), way, (1,) * rank)
        return fn(x, _each(size, rank), _each(size if strides is None else strides, rank), way)

    return _channels_last(apply, inputs, data_format)


@op
def adaptive_max_pool(inputs: Any, output_size: Window, data_format: str | None = None) -> Array:
    """The greatest value in each of ``output_size`` windows of nearly the same size, which cover the input.

    Args:
        inputs: shape ``(batch, *space, channels)``.
        output_size: the number of windows, one number or one for each axis.
        data_format: see above.
    """
    return _channels_last(lambda x: pooling.adaptive_max_pool(x, _each(output_size, x.ndim - 2)), inputs, data_format)


@op
def adaptive_average_pool(inputs: Any, output_size: Window, data_format: str | None = None) -> Array:
    """The mean of each of ``output_size`` windows; see :func:`adaptive_max_pool`."""
    return _channels_last(
        lambda x: pooling.adaptive_average_pool(x, _each(output_size, x.ndim - 2)), inputs, data_format
    )


@op
def depth_to_space(x: Any, block_size: int, data_format: str = "channels_last") -> Array:
    """Channels become blocks of ``block_size`` by ``block_size`` pixels.

    Args:
        x: shape ``(batch, height, width, channels)``.
        block_size: the side :math:`b` of a block; ``channels`` is a multiple of its square.
        data_format: see above. With ``"channels_first"`` the block's place is the minor part of the channel, with
            ``"channels_last"`` the major.

    Returns:
        Shape ``(batch, b * height, b * width, channels / b**2)``.
    """
    x, b = jnp.asarray(x), block_size
    if data_format == "channels_first":
        n, c, h, w = x.shape
        x = x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        return x.reshape(n, c // b**2, h * b, w * b)
    n, h, w, c = x.shape
    return x.reshape(n, h, w, b, b, c // b**2).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * b, w * b, c // b**2)


@op
def space_to_depth(x: Any, block_size: int, data_format: str = "channels_last") -> Array:
    """Blocks of ``block_size`` by ``block_size`` pixels become channels; the opposite of :func:`depth_to_space`."""
    x, b = jnp.asarray(x), block_size
    if data_format == "channels_first":
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // b, b, w // b, b).transpose(0, 1, 3, 5, 2, 4)
        return x.reshape(n, c * b**2, h // b, w // b)
    n, h, w, c = x.shape
    return x.reshape(n, h // b, b, w // b, b, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // b, w // b, c * b**2)


@op
def unfold(x: Any, kernel_size: Window, dilation: Window = 1, padding: Window = 0, stride: Window = 1) -> Array:
    """All windows of a picture, each as one column.

    Args:
        x: shape ``(batch, channels, height, width)``.
        kernel_size: the size of a window, one number or two.
        dilation: the distance between entries of a window.
        padding: how many zeros are put around.
        stride: the step between windows.

    Returns:
        Shape ``(batch, channels * window, windows)``, where ``window`` is the number of pixels in a window.
    """
    (top, left) = _each(padding, 2)
    x = jnp.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
    parts = [x[at] for at in _windows(x.shape[2:], kernel_size, dilation, stride)]
    return jnp.stack(parts, 2).reshape(x.shape[0], x.shape[1] * len(parts), -1)


@op
def fold(
    x: Any,
    output_size: Window,
    kernel_size: Window,
    dilation: Window = 1,
    padding: Window = 0,
    stride: Window = 1,
) -> Array:
    """A picture from its windows, which are added where they overlap.

    Args:
        x: what :func:`unfold` returns, shape ``(batch, channels * window, windows)``.
        output_size: height and width of the picture.
        kernel_size: as in :func:`unfold`, like the rest.
        dilation: see there.
        padding: see there.
        stride: see there.

    Returns:
        Shape ``(batch, channels, height, width)``.
    """
    x = jnp.asarray(x)
    (height, width), (top, left) = _each(output_size, 2), _each(padding, 2)
    places = _windows((height + 2 * top, width + 2 * left), kernel_size, dilation, stride)
    channels = x.shape[1] // len(places)
    picture = jnp.zeros((x.shape[0], channels, height + 2 * top, width + 2 * left), x.dtype)
    rows, columns = (len(range(picture.shape[axis])[places[0][axis]]) for axis in (2, 3))
    parts = x.reshape(x.shape[0], channels, len(places), rows, columns)
    for index, at in enumerate(places):
        picture = picture.at[at].add(parts[:, :, index])
    return picture[:, :, top : top + height, left : left + width]


def _windows(size: Sequence[int], kernel: Window, dilation: Window, stride: Window) -> list[tuple[slice, ...]]:
    """For each entry of a window, where it stands in all windows of a picture of this size."""
    axes = []
    for length, count, gap, step in zip(size, _each(kernel, 2), _each(dilation, 2), _each(stride, 2), strict=True):
        room = length - (count - 1) * gap
        if room < 1:
            raise ShapeError(f"a window of {kernel} with dilation {dilation} does not fit into {tuple(size)}")
        axes.append([slice(i * gap, i * gap + room, step) for i in range(count)])
    return [(slice(None), slice(None), *at) for at in itertools.product(*axes)]


__all__ = public(__name__)
