"""What convolutions are made of: the convolution itself, and the gradients of its input and of its kernel.

Each is linear in what it is given, activation aside, and the gradients of each are the other two. "Outer" is the side that
a convolution comes from, "inner" the one it goes to.

Without native kernels, most are written on CPUs as products of matrices: one row per place of the window, with all that the
window sees. XLA's own convolution there is twice as fast for large plain ones, slow for everything else, and ten times
slower inside loops. On other platforms XLA calls the vendor's library, which is the fast way.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lamina.core.typing import Array
from lamina.kernels.operation import Operation, call, of_dtype
from lamina.kernels.slopes import activate, undo

Arrays = Sequence[Array]
Wanted = tuple[bool, ...]
Numbers = tuple[int, ...]
#: how many zeros go before and after each axis
Pads = tuple[tuple[int, int], ...]

#: the largest window, in places, and the largest matrix, in numbers, that is worth writing a convolution out as
MAX_TAPS, MAX_PATCHES = 128, 2**28
#: floating-point operations from which on XLA's own convolution is faster; without native kernels, training steps with as
#: many do not run in loops (see ``lamina.training.drivers``)
LARGE = 3e7


def _portable(x: Array, kernel: Array, bias: Array, *, slope: float, **geometry: Any) -> Array:
    return activate(_linear(x, kernel, **geometry), bias, slope)


def _linear(
    x: Array,
    kernel: Array,
    *,
    strides: Numbers,
    pads: Pads,
    dilation: Numbers,
    groups: int,
    looped: bool,
) -> Array:
    def by_library(x: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(
            x,
            kernel,
            strides,
            pads,
            rhs_dilation=dilation,
            dimension_numbers=_layout(x.ndim - 2),
            feature_group_count=groups,
        )

    def by_products(x: Array, kernel: Array) -> Array:
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pair, 0) for pair in pads), (0, 0, 0)])
        products = functools.partial(_products, strides=strides, dilation=dilation, groups=groups)
        # gradients make the big matrix again instead of keeping it: it takes more memory than all else together
        return jax.checkpoint(products)(x, kernel)

    if _worth_products(x, kernel, strides, pads, dilation, groups, looped):
        return lax.platform_dependent(x, kernel, cpu=by_products, default=by_library)
    return by_library(x, kernel)


def _layout(rank: int) -> tuple[str, str, str]:
    axes = "DHW"[-rank:]
    return f"N{axes}C", f"{axes}IO", f"N{axes}C"


def _worth_products(
    x: Array, kernel: Array, strides: Numbers, pads: Pads, dilation: Numbers, groups: int, looped: bool
) -> bool:
    """Whether, on a CPU, products are the faster way."""
    taps, places = math.prod(kernel.shape[:-2]), 1
    for n, k, s, pair, d in zip(x.shape[1:-1], kernel.shape[:-2], strides, pads, dilation, strict=True):
        places *= max((n + sum(pair) - (k - 1) * d - 1) // s + 1, 0)
    fits = taps <= MAX_TAPS and 0 < x.shape[0] * places * taps * x.shape[-1] <= MAX_PATCHES
    plain = x.ndim == 4 and x.dtype == "float32" and groups == max(strides) == max(dilation) == 1 < taps
    large = 2 * x.shape[0] * places * kernel.size >= LARGE
    return fits and not (plain and large and not looped)


def _taps(x: Array, size: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> list[Array]:
    """What each entry of the window sees at all its places; each of shape ``(batch, *places, channels)``."""
    places = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(x.shape[1:-1], size, strides, dilation, strict=True)]
    seen = []
    for entry in itertools.product(*map(range, size)):
        start = [t * d for t, d in zip(entry, dilation, strict=True)]
        stop = [a + (p - 1) * s + 1 for a, p, s in zip(start, places, strides, strict=True)]
        seen.append(lax.slice(x, (0, *start, 0), (x.shape[0], *stop, x.shape[-1]), (1, *strides, 1)))
    return seen


def _products(x: Array, kernel: Array, strides: Sequence[int], dilation: Sequence[int], groups: int) -> Array:
    """The convolution of an ``x`` that is padded already, as a product of matrices."""
    *size, channels, filters = kernel.shape
    taps = _taps(x, size, strides, dilation)
    if groups == 1:
        return jnp.matmul(jnp.concatenate(taps, -1), kernel.reshape(-1, filters))
    if channels == 1:
        wide = jnp.promote_types(x.dtype, "float32")
        weights = kernel.reshape(len(taps), filters).astype(wide)
        terms = (jnp.repeat(tap, filters // groups, -1) * weight for tap, weight in zip(taps, weights, strict=True))
        return functools.reduce(jnp.add, terms).astype(x.dtype)
    patches = jnp.stack([tap.reshape(*tap.shape[:-1], groups, channels) for tap in taps], -3)
    out = jnp.einsum("...tgc,tcgo->...go", patches, kernel.reshape(len(taps), channels, groups, -1))
    return out.reshape(*out.shape[:-2], filters)


def _outer_portable(
    inner: Array,
    result: Array,
    kernel: Array,
    bias: Array,
    *,
    lengths: Numbers,
    undone: float,
    slope: float,
    **geometry: Any,
) -> Array:
    inner = undo(inner, result, undone)
    if geometry["groups"] == 1 and max(geometry["strides"]) > 1:
        return activate(_interleaved(inner, kernel, lengths, **geometry), bias, slope)
    shape = jax.ShapeDtypeStruct((inner.shape[0], *lengths, kernel.shape[-2] * geometry["groups"]), inner.dtype)
    (outer,) = jax.linear_transpose(lambda x: _linear(x, kernel, **geometry), shape)(inner)
    return activate(outer, bias, slope)


def _interleaved(
    x: Array,
    kernel: Array,
    lengths: Numbers,
    *,
    strides: Numbers,
    pads: Pads,
    dilation: Numbers,
    groups: int,
    looped: bool,
) -> Array:
    """The transposed convolution with strides.

    The entries of the result at one remainder modulo the stride are a plain convolution with every stride-th entry of the
    kernel. All remainders at once make a convolution with more filters, whose results are interleaved.
    """
    rank = x.ndim - 2
    *size, filters, channels = kernel.shape
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    taps = [-(-r // s) for r, s in zip(reach, strides, strict=True)]
    spread = [(0, m * s - r, d - 1) for m, s, r, d in zip(taps, strides, reach, dilation, strict=True)]
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), [*spread, (0, 0, 0), (0, 0, 0)])
    kernel = kernel.reshape(*itertools.chain(*zip(taps, strides, strict=True)), filters, channels)
    kernel = jnp.flip(kernel, range(0, 2 * rank, 2))
    kernel = kernel.transpose(*range(0, 2 * rank, 2), 2 * rank + 1, *range(1, 2 * rank, 2), 2 * rank)
    ends = tuple((m - 1, m - 1) for m in taps)
    ones = (1,) * rank
    kernel = kernel.reshape(*taps, channels, -1)
    y = _linear(x, kernel, strides=ones, pads=ends, dilation=ones, groups=1, looped=looped)

    places = [u * s for u, s in zip(y.shape[1:-1], strides, strict=True)]
    y = y.reshape(*y.shape[:-1], *strides, filters)
    interleaved = itertools.chain(*((1 + axis, 1 + rank + axis) for axis in range(rank)))
    y = y.transpose(0, *interleaved, 2 * rank + 1).reshape(x.shape[0], *places, filters)
    cut = [(-pair[0], n + pair[0] - u, 0) for pair, n, u in zip(pads, lengths, places, strict=True)]
    return lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *cut, (0, 0, 0)])


def _kernel_portable(
    outer: Array, inner: Array, result: Array, *, size: Numbers, undone: float, **geometry: Any
) -> tuple[Array, Array]:
    inner = undo(inner, result, undone)
    shape = jax.ShapeDtypeStruct((*size, outer.shape[-1] // geometry["groups"], inner.shape[-1]), inner.dtype)
    (kernel,) = jax.linear_transpose(lambda kernel: _linear(outer, kernel, **geometry), shape)(inner)
    return kernel, jnp.sum(inner, range(inner.ndim - 1))


def _gradients(
    primals: Arrays, results: Arrays, gradients: Arrays, wanted: Wanted, *, slope: float, **geometry: Any
) -> list[Array | None]:
    (x, kernel, _), (y,), (g,) = primals, results, gradients
    result = jnp.zeros(0, g.dtype) if slope == 1 else y
    nothing, lengths = jnp.zeros(0, g.dtype), x.shape[1:-1]
    found: list[Array | None] = [None, None, None]
    if wanted[0]:
        found[0] = OUTER(g, result, kernel, nothing, lengths=lengths, undone=slope, slope=1.0, **geometry)
    if wanted[1] or wanted[2]:
        found[1:] = KERNEL(x, g, result, size=kernel.shape[:-2], undone=slope, **geometry)
        found[2] = found[2] if primals[2].size else primals[2]
    return found


def _outer_gradients(
    primals: Arrays,
    results: Arrays,
    gradients: Arrays,
    wanted: Wanted,
    *,
    lengths: Numbers,
    undone: float,
    slope: float,
    **geometry: Any,
) -> list[Array | None]:
    (inner, result, kernel, bias), (y,) = primals, results
    g = undo(gradients[0], y, slope)
    found: list[Array | None] = [None, jnp.zeros_like(result), None, None]
    if wanted[0]:
        found[0] = undo(CONVOLUTION(g, kernel, jnp.zeros(0, g.dtype), slope=1.0, **geometry), result, undone)
    if wanted[2]:
        found[2] = KERNEL(g, inner, result, size=kernel.shape[:-2], undone=undone, **geometry)[0]
    if wanted[3]:
        found[3] = jnp.sum(g, range(g.ndim - 1)) if bias.size else bias
    return found


def _kernel_gradients(
    primals: Arrays,
    results: Arrays,
    gradients: Arrays,
    wanted: Wanted,
    *,
    size: Numbers,
    undone: float,
    **geometry: Any,
) -> list[Array | None]:
    (outer, inner, result), (kernel, bias) = primals, gradients
    found: list[Array | None] = [None, None, jnp.zeros_like(result)]
    if wanted[0]:
        settings = {"lengths": outer.shape[1:-1], "undone": undone, "slope": 1.0}
        found[0] = OUTER(inner, result, kernel, jnp.zeros(0, inner.dtype), **settings, **geometry)
    if wanted[1]:
        found[1] = undo(CONVOLUTION(outer, kernel, bias, slope=1.0, **geometry), result, undone)
    return found


def _supports(outer: int, inner: int, groups: int, pads: Pads, arrays: Sequence[Any]) -> bool:
    """Whether there are native kernels, with so many channels on the outer and the inner side."""
    plain = arrays[0].ndim in (3, 4) and all(a.dtype == "float32" for a in arrays) and arrays[0].size > 0
    # groups of few channels leave vectors half empty, unless every channel stands alone
    full = groups == 1 or outer == inner == groups or min(outer, inner) >= 8 * groups
    return plain and full and min(map(min, pads)) >= 0


def _forward_supports(x: Any, kernel: Any, bias: Any, *, pads: Pads, groups: int, **settings: Any) -> bool:
    return _supports(x.shape[-1], kernel.shape[-1], groups, pads, [x, kernel, bias])


def _outer_supports(
    inner: Any, result: Any, kernel: Any, bias: Any, *, pads: Pads, groups: int, slope: float, **settings: Any
) -> bool:
    finished = groups == 1 or (slope == 1 and not bias.size)
    channels = kernel.shape[-2] * groups
    return finished and _supports(channels, inner.shape[-1], groups, pads, [inner, result, kernel, bias])


def _kernel_supports(outer: Any, inner: Any, result: Any, *, pads: Pads, groups: int, **settings: Any) -> bool:
    return _supports(outer.shape[-1], inner.shape[-1], groups, pads, [outer, inner, result])


def _half_supports(*arrays: Any, groups: int, **settings: Any) -> bool:
    return groups == 1


def steps_of_one(pads: Pads, looped: bool) -> dict[str, Any]:
    """The geometry of a convolution of pictures with steps of 1, without dilation and groups."""
    return {"strides": (1, 1), "pads": pads, "dilation": (1, 1), "groups": 1, "looped": looped}


def pads_before(pads: Pads) -> np.ndarray:
    """How many zeros go before each axis, as kernels are told."""
    return np.array([pair[0] for pair in pads], "int64")


def _plane(x: Array) -> Array:
    """A sequence as a picture of height 1."""
    return x[:, None] if x.ndim == 3 else x


def _attributes(strides: Numbers, pads: Pads, dilation: Numbers, groups: int, looped: bool) -> dict[str, Any]:
    def two(values: Sequence[int], missing: int) -> np.ndarray:
        return np.array([*[missing] * (2 - len(values)), *values], "int64")

    first = [pair[0] for pair in pads]
    return {
        "strides": two(strides, 1),
        "pads": two(first, 0),
        "dilation": two(dilation, 1),
        "groups": np.int64(groups),
    }


def _native(x: Array, kernel: Array, bias: Array, *, slope: float, **geometry: Any) -> Array:
    lengths = []
    for n, k, s, pair, d in zip(
        x.shape[1:-1], kernel.shape[:-2], geometry["strides"], geometry["pads"], geometry["dilation"], strict=True
    ):
        lengths.append((n + sum(pair) - (k - 1) * d - 1) // s + 1)
    shape = jax.ShapeDtypeStruct((x.shape[0], *[1] * (2 - len(lengths)), *lengths, kernel.shape[-1]), x.dtype)
    kernel = kernel[None] if kernel.ndim == 3 else kernel
    target = "depthwise" if 1 < x.shape[-1] == geometry["groups"] == kernel.shape[-1] else "convolution"
    y = call(of_dtype(target, x), shape, _plane(x), kernel, bias, slope=np.float32(slope), **_attributes(**geometry))
    return y[:, 0] if x.ndim == 3 else y


def _outer_native(
    inner: Array,
    result: Array,
    kernel: Array,
    bias: Array,
    *,
    lengths: Numbers,
    undone: float,
    slope: float,
    **geometry: Any,
) -> Array:
    channels = kernel.shape[-2] * geometry["groups"]
    shape = jax.ShapeDtypeStruct((inner.shape[0], *[1] * (2 - len(lengths)), *lengths, channels), inner.dtype)
    kernel = kernel[None] if kernel.ndim == 3 else kernel
    result = _plane(result) if result.size else result
    arrays, numbers = (_plane(inner), result, kernel), {"undone": np.float32(undone), **_attributes(**geometry)}
    if 1 < inner.shape[-1] == geometry["groups"] == channels:
        y = call("depthwise_outer", shape, *arrays, **numbers)
    else:
        y = call(of_dtype("convolution_outer", inner), shape, *arrays, bias, slope=np.float32(slope), **numbers)
    return y[:, 0] if inner.ndim == 3 else y


def _kernel_native(
    outer: Array, inner: Array, result: Array, *, size: Numbers, undone: float, **geometry: Any
) -> tuple[Array, Array]:
    shape = (*[1] * (2 - len(size)), *size, outer.shape[-1] // geometry["groups"], inner.shape[-1])
    shapes = (jax.ShapeDtypeStruct(shape, inner.dtype), jax.ShapeDtypeStruct((inner.shape[-1],), inner.dtype))
    result = _plane(result) if result.size else result
    arrays = (_plane(outer), _plane(inner), result)
    target = (
        "depthwise_kernel" if 1 < outer.shape[-1] == geometry["groups"] == inner.shape[-1] else "convolution_kernel"
    )
    kernel, bias = call(of_dtype(target, inner), shapes, *arrays, undone=np.float32(undone), **_attributes(**geometry))
    return kernel.reshape(*size, *shape[-2:]), bias


CONVOLUTION = Operation(
    "convolution",
    _portable,
    native=_native,
    half=_native,
    half_targets=["half_convolution"],
    half_supports=_half_supports,
    targets=["convolution", "depthwise"],
    supports=_forward_supports,
    backward=_gradients,
)
OUTER = Operation(
    "convolution_outer",
    _outer_portable,
    native=_outer_native,
    half=_outer_native,
    half_targets=["half_convolution_outer"],
    half_supports=_half_supports,
    targets=["convolution_outer", "depthwise_outer"],
    supports=_outer_supports,
    backward=_outer_gradients,
)
KERNEL = Operation(
    "convolution_kernel",
    _kernel_portable,
    multiple=True,
    native=_kernel_native,
    half=_kernel_native,
    half_targets=["half_convolution_kernel"],
    half_supports=_half_supports,
    targets=["convolution_kernel", "depthwise_kernel"],
    supports=_kernel_supports,
    backward=_kernel_gradients,
)
