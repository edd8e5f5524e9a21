"""Convolutions in one, two and three dimensions by one code path. Channels come last.

On CPUs most are written as products of matrices: one row per place of the window, with all that the window sees. XLA's
own convolution there is twice as fast for large plain ones, slow for everything else, and ten times slower inside loops.
On other platforms XLA calls the vendor's library, which is the fast way.
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

from lamina.core.loops import in_loop
from lamina.core.typing import Array, Real
from lamina.kernels.operation import Operation, call

Arrays = Sequence[Array]
Wanted = tuple[bool, ...]
Sizes = int | Sequence[int]
Pads = list[tuple[int, int]]

#: the largest window, in places, and the largest matrix, in numbers, that is worth writing a convolution out as
MAX_TAPS, MAX_PATCHES = 128, 2**28
#: floating-point operations from which on XLA's own convolution is faster; training steps with as many do not run in loops
#: (see ``lamina.training.drivers``)
LARGE = 3e7


def per_axis(value: Sizes, rank: int) -> tuple[int, ...]:
    """``value`` for each of ``rank`` axes.

    >>> per_axis(2, 3)
    (2, 2, 2)
    """
    return (value,) * rank if isinstance(value, int) else tuple(value)


def pads_of(lengths: Sequence[int], size: Sizes, strides: Sizes, padding: str | Pads, dilation: Sizes = 1) -> Pads:
    """How many zeros go before and after each axis.

    Args:
        lengths: the lengths of the spatial axes.
        size: the size of the window along each.
        strides: its steps.
        padding: ``"valid"`` for none; ``"same"`` so that each axis of the result has ``ceil(length / stride)`` places,
            the odd zero last; ``"causal"`` so that a place sees itself and what comes before; or the numbers.
        dilation: the distance between what neighbouring entries of the window see.

    >>> pads_of((5,), 3, 2, "same"), pads_of((5,), 3, 1, "causal", 2)
    ([(1, 1)], [(4, 0)])
    """
    if not isinstance(padding, str):
        return [(before, after) for before, after in padding]
    rank = len(lengths)
    size, strides, dilation = per_axis(size, rank), per_axis(strides, rank), per_axis(dilation, rank)
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    if padding == "causal":
        return [(r - 1, 0) for r in reach]
    if padding == "valid":
        return [(0, 0)] * rank
    missing = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(lengths, strides, reach, strict=True)]
    return [(m // 2, m - m // 2) for m in missing]


def conv(
    x: Real[Array, "batch *lengths channels"],
    kernel: Real[Array, "*size channels/{groups} filters"],
    strides: Sizes = 1,
    padding: str | Pads = "valid",
    dilation: Sizes = 1,
    groups: int = 1,
    bias: Real[Array, " filters"] | None = None,
    slope: float = 1.0,
) -> Real[Array, "batch *places filters"]:
    r"""Convolution, :math:`y_{b,p,o} = \sigma(a_o + \sum_{t,c} x_{b,\,sp+dt,\,c} \, k_{t,c,o})` (a correlation, as usual).

    Args:
        x: shape ``(batch, *lengths, channels)``.
        kernel: shape ``(*size, channels / groups, filters)``.
        strides: the step :math:`s` along each axis.
        padding: as in :func:`pads_of`.
        dilation: the distance :math:`d` between what neighbouring entries of the kernel see.
        groups: channels and filters are cut into this many groups, each convolved on its own.
        bias: :math:`a`, of shape ``(filters,)``.
        slope: what :math:`\sigma` multiplies negative numbers by: 0 makes it the rectified linear unit.

    Returns:
        Shape ``(batch, *places, filters)``.

    >>> conv(jnp.arange(4.0).reshape(1, 4, 1), jnp.ones((2, 1, 1)))[0, :, 0].tolist()
    [1.0, 3.0, 5.0]
    """
    rank = x.ndim - 2
    strides, dilation = per_axis(strides, rank), per_axis(dilation, rank)
    pads = tuple(pads_of(x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation))
    arrays = _of_one_type(x, kernel, bias)
    geometry = {"strides": strides, "pads": pads, "dilation": dilation, "groups": groups, "looped": in_loop()}
    return CONVOLUTION(*arrays, **geometry, slope=float(slope))


def _of_one_type(x: Array, kernel: Array, bias: Array | None) -> tuple[Array, Array, Array]:
    dtype = jnp.result_type(x, kernel) if bias is None else jnp.result_type(x, kernel, bias)
    return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype), jnp.asarray(() if bias is None else bias, dtype)


def _activated(x: Array, bias: Array, slope: float) -> Array:
    x = x + bias if bias.size else x
    if slope == 1:
        return x
    return jnp.where(x > 0, x, 0) + jnp.where(x != x, x, 0) if slope == 0 else jnp.where(x < 0, slope * x, x)


def _undone(gradient: Array, result: Array, slope: float) -> Array:
    """The gradient in front of the activation, which is told from its result."""
    if slope == 1:
        return gradient
    if slope == 0:
        return jnp.where(result > 0, gradient, 0)
    return jnp.where(result < 0, slope * gradient, gradient)


def _portable(x: Array, kernel: Array, bias: Array, *, slope: float, **geometry: Any) -> Array:
    return _activated(_linear(x, kernel, **geometry), bias, slope)


def _linear(
    x: Array,
    kernel: Array,
    *,
    strides: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
    looped: bool,
) -> Array:
    if _worth_products(x, kernel, strides, pads, dilation, groups, looped):
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pair, 0) for pair in pads), (0, 0, 0)])
        products = functools.partial(_products, strides=strides, dilation=dilation, groups=groups)
        # gradients make the big matrix again instead of keeping it: it takes more memory than all else together
        return jax.checkpoint(products)(x, kernel)
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        rhs_dilation=dilation,
        dimension_numbers=_layout(x.ndim - 2),
        feature_group_count=groups,
    )


def _layout(rank: int) -> tuple[str, str, str]:
    axes = "DHW"[-rank:]
    return f"N{axes}C", f"{axes}IO", f"N{axes}C"


def _worth_products(
    x: Array, kernel: Array, strides: tuple[int, ...], pads: Any, dilation: tuple[int, ...], groups: int, looped: bool
) -> bool:
    taps, places = math.prod(kernel.shape[:-2]), 1
    for n, k, s, pair, d in zip(x.shape[1:-1], kernel.shape[:-2], strides, pads, dilation, strict=True):
        places *= max((n + sum(pair) - (k - 1) * d - 1) // s + 1, 0)
    fits = taps <= MAX_TAPS and 0 < x.shape[0] * places * taps * x.shape[-1] <= MAX_PATCHES
    plain = x.ndim == 4 and x.dtype == "float32" and groups == max(strides) == max(dilation) == 1 < taps
    large = 2 * x.shape[0] * places * kernel.size >= LARGE
    return fits and not (plain and large and not looped) and jax.default_backend() == "cpu"


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


def depthwise_conv(
    x: Real[Array, "batch *lengths channels"],
    kernel: Real[Array, "*size channels multiplier"],
    strides: Sizes = 1,
    padding: str | Pads = "valid",
    dilation: Sizes = 1,
) -> Real[Array, "batch *places channels*multiplier"]:
    r"""Each channel convolved with kernels of its own, :math:`y_{b,p,cm+j} = \sum_t x_{b,\,sp+dt,\,c} \, k_{t,c,j}`.

    Args:
        x: shape ``(batch, *lengths, channels)``.
        kernel: shape ``(*size, channels, multiplier)``; the last is the :math:`m` of the formula.
        strides: as in :func:`conv`.
        padding: as in :func:`pads_of`.
        dilation: as in :func:`conv`.

    Returns:
        Shape ``(batch, *places, channels * multiplier)``.
    """
    *size, channels, multiplier = kernel.shape
    return conv(x, kernel.reshape(*size, 1, channels * multiplier), strides, padding, dilation, groups=channels)


def separable_conv(
    x: Real[Array, "batch *lengths channels"],
    depthwise_kernel: Real[Array, "*size channels multiplier"],
    pointwise_kernel: Real[Array, "*ones channels*multiplier filters"],
    strides: Sizes = 1,
    padding: str | Pads = "valid",
    dilation: Sizes = 1,
) -> Real[Array, "batch *places filters"]:
    """:func:`depthwise_conv`, then a mixing of channels, of shape ``(1, ..., channels * multiplier, filters)``."""
    return conv(depthwise_conv(x, depthwise_kernel, strides, padding, dilation), pointwise_kernel)


def transpose_pads(size: int, stride: int, padding: str, output_padding: int | None, dilation: int) -> tuple[int, int]:
    """How far the ends of a transposed convolution stand out over those of a full one; negative where they fall short.

    A full one has ``(length - 1) * stride + reach`` places. ``"valid"`` keeps them, and adds ``output_padding`` at the
    end, by default what brings ``reach`` to at least ``stride``. ``"same"`` has ``length * stride`` places, or
    ``(length - 1) * stride + reach % 2 + output_padding`` if that is given.
    """
    reach = (size - 1) * dilation + 1
    if padding == "valid":
        return 0, max(stride - reach, 0) if output_padding is None else output_padding
    grown = stride - reach if output_padding is None else reach % 2 + output_padding - reach
    # of what is cut, the smaller half goes in front; nothing is ever added there
    before = min(-(-(grown + 2 * (reach - 1)) // 2) - (reach - 1), 0)
    return before, grown - before


def conv_transpose(
    x: Real[Array, "batch *lengths channels"],
    kernel: Real[Array, "*size filters channels"],
    strides: Sizes = 1,
    padding: str = "valid",
    output_padding: Sizes | None = None,
    dilation: Sizes = 1,
    bias: Real[Array, " filters"] | None = None,
    slope: float = 1.0,
) -> Real[Array, "batch *places filters"]:
    r"""The transpose of a convolution, :math:`y_{b,q,o} = \sigma(a_o + \sum_{sp+dt=q} \sum_c x_{b,p,c} \, k_{t,o,c})`.

    Each entry of the input adds the kernel, times itself, to the result.

    Args:
        x: shape ``(batch, *lengths, channels)``.
        kernel: shape ``(*size, filters, channels)``.
        strides: the distance :math:`s` between what neighbouring entries of the input add to.
        padding: ``"valid"`` or ``"same"``, as in :func:`transpose_pads`.
        output_padding: how much longer each axis of the result is than its least length; ``None`` for Keras's rule.
        dilation: the distance :math:`d` between what neighbouring entries of the kernel add to.
        bias: as in :func:`conv`.
        slope: as in :func:`conv`.

    Returns:
        Shape ``(batch, *places, filters)``.

    >>> conv_transpose(jnp.array([[[1.0], [2.0]]]), jnp.ones((2, 1, 1)), strides=2)[0, :, 0].tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    rank = x.ndim - 2
    size = kernel.shape[:-2]
    strides, dilation = per_axis(strides, rank), per_axis(dilation, rank)
    extra = (None,) * rank if output_padding is None else per_axis(output_padding, rank)
    lengths, pads = [], []
    for n, k, s, e, d in zip(x.shape[1:-1], size, strides, extra, dilation, strict=True):
        before, after = transpose_pads(k, s, padding, e, d)
        lengths.append((n - 1) * s + (k - 1) * d + 1 + before + after)
        pads.append((-before, -after))
    x, kernel, bias = _of_one_type(x, kernel, bias)
    geometry = {"strides": strides, "pads": tuple(pads), "dilation": dilation, "groups": 1, "looped": in_loop()}
    settings = {"lengths": tuple(lengths), "undone": 1.0, "slope": float(slope)}
    return OUTER(x, jnp.zeros(0, x.dtype), kernel, bias, **geometry, **settings)


def _outer_portable(
    inner: Array,
    result: Array,
    kernel: Array,
    bias: Array,
    *,
    lengths: tuple[int, ...],
    undone: float,
    slope: float,
    **geometry: Any,
) -> Array:
    inner = _undone(inner, result, undone)
    if geometry["groups"] == 1 and max(geometry["strides"]) > 1:
        return _activated(_interleaved(inner, kernel, lengths, **geometry), bias, slope)
    shape = jax.ShapeDtypeStruct((inner.shape[0], *lengths, kernel.shape[-2] * geometry["groups"]), inner.dtype)
    (outer,) = jax.linear_transpose(lambda x: _linear(x, kernel, **geometry), shape)(inner)
    return _activated(outer, bias, slope)


def _interleaved(
    x: Array,
    kernel: Array,
    lengths: tuple[int, ...],
    *,
    strides: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
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
    outer: Array, inner: Array, result: Array, *, size: tuple[int, ...], undone: float, **geometry: Any
) -> tuple[Array, Array]:
    inner = _undone(inner, result, undone)
    shape = jax.ShapeDtypeStruct((*size, outer.shape[-1] // geometry["groups"], inner.shape[-1]), inner.dtype)
    (kernel,) = jax.linear_transpose(lambda kernel: _linear(outer, kernel, **geometry), shape)(inner)
    return kernel, jnp.sum(inner, range(inner.ndim - 1))


# Each of the three is linear in what it is given, activation aside; the gradients of each are the other two.


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
    lengths: tuple[int, ...],
    undone: float,
    slope: float,
    **geometry: Any,
) -> list[Array | None]:
    (inner, result, kernel, bias), (y,) = primals, results
    g = _undone(gradients[0], y, slope)
    found: list[Array | None] = [None, jnp.zeros_like(result), None, None]
    if wanted[0]:
        found[0] = _undone(CONVOLUTION(g, kernel, jnp.zeros(0, g.dtype), slope=1.0, **geometry), result, undone)
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
    size: tuple[int, ...],
    undone: float,
    **geometry: Any,
) -> list[Array | None]:
    (outer, inner, result), (kernel, bias) = primals, gradients
    found: list[Array | None] = [None, None, jnp.zeros_like(result)]
    if wanted[0]:
        settings = {"lengths": outer.shape[1:-1], "undone": undone, "slope": 1.0}
        found[0] = OUTER(inner, result, kernel, jnp.zeros(0, inner.dtype), **settings, **geometry)
    if wanted[1]:
        found[1] = _undone(CONVOLUTION(outer, kernel, bias, slope=1.0, **geometry), result, undone)
    return found


def _native_supports(*arrays: Any, pads: tuple[tuple[int, int], ...], groups: int, **settings: Any) -> bool:
    plain = arrays[0].ndim in (3, 4) and all(a.dtype == "float32" for a in arrays) and arrays[0].size > 0
    # groups of few channels leave the vectors half empty
    full = groups == 1 or min(a.shape[-1] for a in arrays if a.ndim > 1) >= 8 * groups
    return plain and full and min(map(min, pads)) >= 0


def _plane(x: Array) -> Array:
    """A sequence as a picture of height 1."""
    return x[:, None] if x.ndim == 3 else x


def _attributes(
    strides: tuple[int, ...], pads: tuple[tuple[int, int], ...], dilation: tuple[int, ...], groups: int, looped: bool
) -> dict[str, Any]:
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
    shape = jax.ShapeDtypeStruct((x.shape[0], *[1] * (2 - len(lengths)), *lengths, kernel.shape[-1]), "float32")
    kernel = kernel[None] if kernel.ndim == 3 else kernel
    y = call("convolution", shape, _plane(x), kernel, bias, slope=np.float32(slope), **_attributes(**geometry))
    return y[:, 0] if x.ndim == 3 else y


def _outer_native(
    inner: Array,
    result: Array,
    kernel: Array,
    bias: Array,
    *,
    lengths: tuple[int, ...],
    undone: float,
    slope: float,
    **geometry: Any,
) -> Array:
    channels = kernel.shape[-2] * geometry["groups"]
    shape = jax.ShapeDtypeStruct((inner.shape[0], *[1] * (2 - len(lengths)), *lengths, channels), "float32")
    kernel = kernel[None] if kernel.ndim == 3 else kernel
    result = _plane(result) if result.size else result
    numbers = {"undone": np.float32(undone), "slope": np.float32(slope)}
    y = call("convolution_outer", shape, _plane(inner), result, kernel, bias, **numbers, **_attributes(**geometry))
    return y[:, 0] if inner.ndim == 3 else y


def _kernel_native(
    outer: Array, inner: Array, result: Array, *, size: tuple[int, ...], undone: float, **geometry: Any
) -> tuple[Array, Array]:
    shape = (*[1] * (2 - len(size)), *size, outer.shape[-1] // geometry["groups"], inner.shape[-1])
    shapes = (jax.ShapeDtypeStruct(shape, "float32"), jax.ShapeDtypeStruct((inner.shape[-1],), "float32"))
    result = _plane(result) if result.size else result
    arrays = (_plane(outer), _plane(inner), result)
    kernel, bias = call("convolution_kernel", shapes, *arrays, undone=np.float32(undone), **_attributes(**geometry))
    return kernel.reshape(*size, *shape[-2:]), bias


CONVOLUTION = Operation(
    "convolution",
    _portable,
    native=_native,
    targets=["convolution"],
    supports=_native_supports,
    backward=_gradients,
)
OUTER = Operation(
    "convolution_outer",
    _outer_portable,
    native=_outer_native,
    targets=["convolution_outer"],
    supports=_native_supports,
    backward=_outer_gradients,
)
KERNEL = Operation(
    "convolution_kernel",
    _kernel_portable,
    multiple=True,
    native=_kernel_native,
    targets=["convolution_kernel"],
    supports=_native_supports,
    backward=_kernel_gradients,
)
