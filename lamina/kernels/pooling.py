"""Pooling in any number of dimensions, one axis after the other. Channels come last.

The largest of a window is the largest of its rows' largest, and a mean is a mean of means; so a window of 3 x 3 costs
six steps, not nine, each of which XLA fuses. The gradient that XLA derives for its own windowed maximum takes many
times longer.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lamina.core import allowance
from lamina.core.typing import Array, Float, Real
from lamina.kernels.convolution import Pads, Sizes, pads_of, per_axis
from lamina.kernels.operation import Operation, call, of_dtype

Numbers = tuple[int, ...]
Pair = tuple[int, int]

#: the longest window that is written out
MAX_LENGTH = 64


def max_pool(
    x: Real[Array, "batch *lengths channels"], size: Sizes, strides: Sizes | None = None, padding: str | Pads = "valid"
) -> Real[Array, "batch *places channels"]:
    """The largest entry of each window. Its gradient goes to the first of the largest entries alone.

    Args:
        x: shape ``(batch, *lengths, channels)``.
        size: the size of the window along each axis.
        strides: its steps; ``size`` if none are given.
        padding: as in :func:`~lamina.kernels.convolution.pads_of`; what is padded never counts.

    Returns:
        Shape ``(batch, *places, channels)``.

    >>> max_pool(jnp.array([[[1.0], [4.0], [2.0], [3.0]]]), 2)[0, :, 0].tolist()
    [4.0, 3.0]
    """
    return MAX_POOL(x, **_windows(x, size, strides, padding))


def average_pool(
    x: Real[Array, "batch *lengths channels"], size: Sizes, strides: Sizes | None = None, padding: str | Pads = "valid"
) -> Float[Array, "batch *places channels"]:
    """The mean of each window, over those of its entries that are not padded.

    Args:
        x: shape ``(batch, *lengths, channels)``.
        size: the size of the window along each axis.
        strides: its steps; ``size`` if none are given.
        padding: as in :func:`~lamina.kernels.convolution.pads_of`.

    Returns:
        Shape ``(batch, *places, channels)``.

    >>> average_pool(jnp.array([[[1.0], [4.0], [2.0]]]), 2, padding="same")[0, :, 0].tolist()
    [2.5, 2.0]
    """
    return AVERAGE_POOL(x, **_windows(x, size, strides, padding))


def _windows(x: Array, size: Sizes, strides: Sizes | None, padding: str | Pads) -> dict[str, Any]:
    """Size, steps and padding of the windows along each axis, as the operations take them."""
    rank = x.ndim - 2
    size, strides = per_axis(size, rank), per_axis(size if strides is None else strides, rank)
    return {"size": size, "strides": strides, "pads": tuple(pads_of(x.shape[1:-1], size, strides, padding))}


def _axes(size: Numbers, strides: Numbers, pads: Sequence[Pair]) -> list[tuple[int, int, int, Pair]]:
    """For each axis with something to do, the last one first: its index, the window's length and step, and the padding."""
    axes = list(zip(range(1, len(size) + 1), size, strides, pads, strict=True))
    return [entry for entry in reversed(axes) if entry[1:] != (1, 1, (0, 0))]


def _max_portable(x: Array, **windows: Any) -> Array:
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    # from the last axis to the first, so that the first of equals in reading order wins
    for axis, length, step, pads in _axes(**windows):
        x = _reduce(x, axis, length, step, pads, _larger, lax.max, lowest)
    return x


def _average_portable(x: Array, **windows: Any) -> Array:
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.result_type(float)
    x = x.astype(jnp.promote_types(dtype, "float32"))
    for axis, length, step, pads in _axes(**windows):
        n = x.shape[axis]
        x = _reduce(x, axis, length, step, pads, jnp.add, lax.add, 0)
        start = jnp.arange(x.shape[axis]) * step - pads[0]
        counts = jnp.minimum(start + length, n) - jnp.maximum(start, 0)
        x = x / counts.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1 - axis))
    return x.astype(dtype)


def _max_gradient_portable(x: Array, y: Array, gradient: Array, **windows: Any) -> Array:
    return jax.vjp(lambda x: _max_portable(x, **windows), x)[1](gradient)[0]


def _average_gradient_portable(gradient: Array, *, lengths: Numbers, **windows: Any) -> Array:
    shape = jax.ShapeDtypeStruct((gradient.shape[0], *lengths, gradient.shape[-1]), gradient.dtype)
    return jax.linear_transpose(lambda x: _average_portable(x, **windows), shape)(gradient)[0]


def _native_supports(x: Any, *others: Any, size: Numbers, pads: Sequence[Pair], **windows: Any) -> bool:
    # a window that is padding alone has no mean; the portable form says what it gives
    inside = all(max(pair) < length for pair, length in zip(pads, size, strict=True))
    return x.dtype == "float32" and x.ndim in (3, 4) and x.size > 0 and inside and min(map(min, pads)) >= 0


def _native(target: str, lengths: Numbers, *arrays: Array, **windows: Any) -> Array:
    """Call a kernel whose result has these lengths. To the kernels a sequence is a picture of height 1."""
    flat = len(lengths) == 1
    shape = (arrays[0].shape[0], *[1] * flat, *lengths, arrays[0].shape[-1])
    attributes: dict[str, Any] = {
        "size": np.array([*[1] * flat, *windows["size"]], "int64"),
        "strides": np.array([*[1] * flat, *windows["strides"]], "int64"),
        "pads": np.array([*[0] * flat, *(pair[0] for pair in windows["pads"])], "int64"),
    }
    arrays = tuple(a[:, None] for a in arrays) if flat else arrays
    result = call(of_dtype(target, arrays[0]), jax.ShapeDtypeStruct(shape, arrays[0].dtype), *arrays, **attributes)
    return result[:, 0] if flat else result


def _apart(*arrays: Any, size: Numbers, strides: Numbers, **windows: Any) -> bool:
    """Whether no entry is in two windows, so that its gradient is rounded once."""
    return all(step >= length for length, step in zip(size, strides, strict=True))


def _places(x: Array, size: Numbers, strides: Numbers, pads: Sequence[Pair]) -> Numbers:
    lengths = zip(x.shape[1:-1], size, strides, pads, strict=True)
    return tuple((n + sum(pair) - k) // s + 1 for n, k, s, pair in lengths)


def _max(x: Array, **windows: Any) -> Array:
    return _native("max_pool", _places(x, **windows), x, **windows)


def _max_gradient(x: Array, *others: Array, **windows: Any) -> Array:
    return _native("max_pool_gradient", x.shape[1:-1], x, *others, **windows)


def _average(x: Array, **windows: Any) -> Array:
    return _native("average_pool", _places(x, **windows), x, **windows)


def _average_gradient(gradient: Array, *, lengths: Numbers, **windows: Any) -> Array:
    return _native("average_pool_gradient", lengths, gradient, **windows)


MAX_POOL: Operation = Operation(
    "max_pool",
    _max_portable,
    native=_max,
    targets=["max_pool"],
    half=_max,
    half_targets=["half_max_pool"],
    supports=_native_supports,
    backward=lambda primals, results, gradients, wanted, **windows: [
        MAX_POOL_GRADIENT(*primals, *results, *gradients, **windows)
    ],
)
MAX_POOL_GRADIENT: Operation = Operation(
    "max_pool_gradient",
    _max_gradient_portable,
    native=_max_gradient,
    targets=["max_pool_gradient"],
    half=_max_gradient,
    half_targets=["half_max_pool_gradient"],
    half_supports=_apart,
    supports=_native_supports,
)
AVERAGE_POOL: Operation = Operation(
    "average_pool",
    _average_portable,
    native=_average,
    targets=["average_pool"],
    half=_average,
    half_targets=["half_average_pool"],
    supports=_native_supports,
    backward=lambda primals, results, gradients, wanted, **windows: [
        AVERAGE_POOL_GRADIENT(*gradients, lengths=primals[0].shape[1:-1], **windows)
    ],
)
AVERAGE_POOL_GRADIENT: Operation = Operation(
    "average_pool_gradient",
    _average_gradient_portable,
    native=_average_gradient,
    targets=["average_pool_gradient"],
    half=_average_gradient,
    half_targets=["half_average_pool_gradient"],
    half_supports=_apart,
    supports=_native_supports,
    backward=lambda primals, results, gradients, wanted, *, lengths, **windows: [AVERAGE_POOL(*gradients, **windows)],
)


def _larger(best: Array, other: Array) -> Array:
    """The larger one; the first if they are equal, and nan if one of them is."""
    return jnp.where((best >= other) | (best != best), best, other)  # nan alone differs from itself


def _reduce(
    x: Array,
    axis: int,
    length: int,
    step: int,
    pads: tuple[int, int],
    merge: Callable[[Array, Array], Array],
    windowed: Callable[..., Array],
    start: float,
) -> Array:
    """The windows along one axis, each merged into one entry."""
    total = x.shape[axis] + sum(pads)
    if length > min(MAX_LENGTH, total):
        window, strides = [1] * x.ndim, [1] * x.ndim
        window[axis], strides[axis] = length, step
        around = [pads if i == axis else (0, 0) for i in range(x.ndim)]
        return lax.reduce_window(x, np.asarray(start, x.dtype), windowed, window, strides, around)
    if pads != (0, 0):
        x = lax.pad(x, jnp.asarray(start, x.dtype), [(*pads, 0) if i == axis else (0, 0, 0) for i in range(x.ndim)])
    places = (total - length) // step + 1
    if length == step:
        blocks = lax.slice_in_dim(x, 0, places * length, axis=axis)
        blocks = blocks.reshape(*x.shape[:axis], places, length, *x.shape[axis + 1 :])
        seen = [lax.index_in_dim(blocks, i, axis + 1, keepdims=False) for i in range(length)]
    else:
        seen = [lax.slice_in_dim(x, i, i + (places - 1) * step + 1, step, axis) for i in range(length)]
    return functools.reduce(merge, seen)


def _adaptive_windows(length: int, places: int, numbers: int) -> list[range]:
    allowance.spend(f"adaptive pooling of {length} entries into {places}", numbers=4 * numbers)
    return [range(i * length // places, -(-(i + 1) * length // places)) for i in range(places)]


def adaptive_max_pool(
    x: Real[Array, "batch *lengths channels"], output_size: Sizes
) -> Real[Array, "batch *places channels"]:
    r"""The largest entry of each of ``output_size`` windows along each axis, spread evenly.

    Window :math:`i` of :math:`o` along an axis of length :math:`n` goes from :math:`\lfloor i n / o \rfloor` up to and
    without :math:`\lceil (i + 1) n / o \rceil`.

    Args:
        x: shape ``(batch, *lengths, channels)``.
        output_size: how many windows there are along each axis.
    """
    for axis, places in reversed(list(enumerate(per_axis(output_size, x.ndim - 2), 1))):
        windows = _adaptive_windows(x.shape[axis], places, x.shape[axis] + 32 * places)
        longest = max(map(len, windows))
        # shorter windows see their last entry again, which changes neither the maximum nor which one is the first
        index = np.array([[window[min(i, len(window) - 1)] for i in range(longest)] for window in windows])
        sizes = [1] * (x.ndim - 2)
        sizes[axis - 1] = longest
        x = max_pool(jnp.take(x, index.reshape(-1), axis=axis), sizes)
    return x


def adaptive_average_pool(
    x: Real[Array, "batch *lengths channels"], output_size: Sizes
) -> Float[Array, "batch *places channels"]:
    """The mean of each of ``output_size`` windows along each axis; windows as in :func:`adaptive_max_pool`."""
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.result_type(float)
    x = x.astype(jnp.promote_types(dtype, "float32"))
    for axis, places in enumerate(per_axis(output_size, x.ndim - 2), 1):
        windows = _adaptive_windows(x.shape[axis], places, (x.shape[axis] + 32) * places)
        weights = np.zeros((x.shape[axis], places))
        for place, window in enumerate(windows):
            weights[window, place] = 1 / len(window)
        x = jnp.moveaxis(jnp.matmul(jnp.moveaxis(x, axis, -1), jnp.asarray(weights, x.dtype)), -1, axis)
    return x.astype(dtype)
