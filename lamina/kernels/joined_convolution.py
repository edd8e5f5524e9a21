"""Convolutions of a concatenation of two pictures, natively without writing it: as in a U-Net, which joins what it kept."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.notes import Notes
from lamina.core.typing import Array, Shaped
from lamina.kernels.convolution_operations import CONVOLUTION, KERNEL, OUTER, Pads, pads_before, steps_of_one
from lamina.kernels.operation import Operation, call, of_dtype

#: the native form moves so many channels at once
CHANNELS = 16

#: of which two arrays others are made, one's channels after the other's, as long as a program is traced
_parts = Notes()


def concatenate(arrays: Sequence[Shaped[Array, "..."]], axis: int = -1) -> Shaped[Array, "..."]:
    """``arrays`` one after the other along ``axis``. A convolution of the result may read them where they are.

    >>> concatenate([jnp.ones((2, 3)), jnp.ones((2, 4))]).shape
    (2, 7)
    """
    result = jnp.concatenate(arrays, axis)
    if isinstance(result, jax.core.Tracer) and len(arrays) == 2 and axis in (-1, result.ndim - 1):
        _parts.write(result, tuple(arrays))
    return result


def parts_of(x: Any, kernel: Any, strides: Sequence[int], dilation: Sequence[int], groups: int) -> Any:
    """The two arrays that ``x`` is joined of, if its convolution is one that can read both; otherwise ``None``."""
    parts: Any = _parts.read(x)
    plain = x.ndim == 4 and {*strides, *dilation, groups} == {1} and kernel.shape[:2] == (3, 3)
    if parts is None or not plain or kernel.shape[-1] < CHANNELS or min(x.shape[1:3]) < 3:
        return None
    whole = all(part.dtype == kernel.dtype and part.shape[-1] % CHANNELS == 0 for part in parts)
    return parts if whole else None


def _portable(
    first: Array, second: Array, kernel: Array, bias: Array, *, slope: float, pads: Pads, looped: bool
) -> Array:
    x = jnp.concatenate([first, second], -1)
    return CONVOLUTION(x, kernel, bias, slope=slope, **steps_of_one(pads, looped))


def _native(
    first: Array, second: Array, kernel: Array, bias: Array, *, slope: float, pads: Pads, looped: bool
) -> Array:
    lengths = [n + sum(pair) - 2 for n, pair in zip(first.shape[1:3], pads, strict=True)]
    shape = jax.ShapeDtypeStruct((len(first), *lengths, kernel.shape[-1]), first.dtype)
    target, arrays = of_dtype("joined_convolution", first), (first, second, kernel, bias)
    return call(target, shape, *arrays, pads=pads_before(pads), slope=np.float32(slope))


def _supports(*arrays: Any, pads: Pads, **settings: Any) -> bool:
    return all(array.dtype == "float32" for array in arrays) and arrays[0].size > 0 and min(map(min, pads)) >= 0


def _gradients(
    primals: Any, results: Any, gradients: Any, wanted: Any, *, slope: float, pads: Pads, looped: bool
) -> list[Array | None]:
    (first, second, kernel, bias), (y,), (g,) = primals, results, gradients
    result = jnp.zeros(0, g.dtype) if slope == 1 else y
    settings: dict[str, Any] = {"undone": slope, "pads": pads, "looped": looped}
    found: list[Array | None] = [None] * 4
    if wanted[0] or wanted[1]:
        lengths, channels = first.shape[1:3], (first.shape[-1], second.shape[-1])
        found[:2] = OUTER_OF_JOINED(g, result, kernel, lengths=lengths, channels=channels, **settings)
    if wanted[2] or wanted[3]:
        found[2:] = KERNEL_OF_JOINED(first, second, g, result, **settings)
        found[3] = found[3] if bias.size else bias
    return found


def _outer_portable(
    inner: Array,
    result: Array,
    kernel: Array,
    *,
    lengths: tuple[int, int],
    channels: tuple[int, int],
    undone: float,
    pads: Pads,
    looped: bool,
) -> tuple[Array, ...]:
    settings = {"lengths": lengths, "undone": undone, "slope": 1.0, **steps_of_one(pads, looped)}
    outer = OUTER(inner, result, kernel, jnp.zeros(0, inner.dtype), **settings)
    return tuple(jnp.split(outer, [channels[0]], -1))


def _outer_native(
    inner: Array,
    result: Array,
    kernel: Array,
    *,
    lengths: tuple[int, int],
    channels: tuple[int, int],
    undone: float,
    pads: Pads,
    looped: bool,
) -> Any:
    shapes = [jax.ShapeDtypeStruct((len(inner), *lengths, some), inner.dtype) for some in channels]
    target, arrays = of_dtype("joined_convolution_outer", inner), (inner, result, kernel)
    return call(target, shapes, *arrays, pads=pads_before(pads), undone=np.float32(undone))


def _kernel_portable(
    first: Array, second: Array, inner: Array, result: Array, *, undone: float, pads: Pads, looped: bool
) -> tuple[Array, Array]:
    outer = jnp.concatenate([first, second], -1)
    found: tuple[Array, Array] = KERNEL(outer, inner, result, size=(3, 3), undone=undone, **steps_of_one(pads, looped))
    return found


def _kernel_native(
    first: Array, second: Array, inner: Array, result: Array, *, undone: float, pads: Pads, looped: bool
) -> Any:
    filters = inner.shape[-1]
    sizes = ((3, 3, first.shape[-1] + second.shape[-1], filters), (filters,))
    shapes = [jax.ShapeDtypeStruct(size, inner.dtype) for size in sizes]
    target, arrays = of_dtype("joined_convolution_kernel", inner), (first, second, inner, result)
    return call(target, shapes, *arrays, pads=pads_before(pads), undone=np.float32(undone))


JOINED_CONVOLUTION = Operation(
    "joined_convolution",
    _portable,
    native=_native,
    targets=["joined_convolution"],
    half=_native,
    half_targets=["half_joined_convolution"],
    supports=_supports,
    backward=_gradients,
)
OUTER_OF_JOINED = Operation(
    "joined_convolution_outer",
    _outer_portable,
    multiple=True,
    native=_outer_native,
    targets=["joined_convolution_outer"],
    half=_outer_native,
    half_targets=["half_joined_convolution_outer"],
    supports=_supports,
)
KERNEL_OF_JOINED = Operation(
    "joined_convolution_kernel",
    _kernel_portable,
    multiple=True,
    native=_kernel_native,
    targets=["joined_convolution_kernel"],
    half=_kernel_native,
    half_targets=["half_joined_convolution_kernel"],
    supports=_supports,
)
