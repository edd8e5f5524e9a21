"""Convolutions in one, two and three dimensions by one code path. Channels come last.

On CPUs most are written as products of matrices: one row per place of the window, with all that the window sees. XLA's
own convolution there is twice as fast for large plain ones, slow for everything else, and ten times slower inside loops.
On other platforms XLA calls the vendor's library, which is the fast way.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from lamina.core.loops import in_loop
from lamina.core.typing import Array, Real

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
) -> Real[Array, "batch *places filters"]:
    r"""Convolution, :math:`y_{b,p,o} = \sum_{t,c} x_{b,\,sp+dt,\,c} \, k_{t,c,o}` (a correlation, as in all libraries).

    Args:
        x: shape ``(batch, *lengths, channels)``.
        kernel: shape ``(*size, channels / groups, filters)``.
        strides: the step :math:`s` along each axis.
        padding: as in :func:`pads_of`.
        dilation: the distance :math:`d` between what neighbouring entries of the kernel see.
        groups: channels and filters are cut into this many groups, each convolved on its own.

    Returns:
        Shape ``(batch, *places, filters)``.

    >>> conv(jnp.arange(4.0).reshape(1, 4, 1), jnp.ones((2, 1, 1)))[0, :, 0].tolist()
    [1.0, 3.0, 5.0]
    """
    rank = x.ndim - 2
    strides, dilation = per_axis(strides, rank), per_axis(dilation, rank)
    dtype = jnp.result_type(x, kernel)
    x, kernel = jnp.asarray(x, dtype), jnp.asarray(kernel, dtype)
    pads = pads_of(x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation)
    if _worth_products(x, kernel, strides, pads, dilation, groups):
        x = lax.pad(x, jnp.zeros((), dtype), [(0, 0, 0), *((*pair, 0) for pair in pads), (0, 0, 0)])
        products = functools.partial(_products, strides=strides, dilation=dilation, groups=groups)
        # gradients make the big matrix again instead of keeping it: it takes more memory than all else together
        return jax.checkpoint(products)(x, kernel)
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        rhs_dilation=dilation,
        dimension_numbers=_layout(rank),
        feature_group_count=groups,
    )


def _layout(rank: int) -> tuple[str, str, str]:
    axes = "DHW"[-rank:]
    return f"N{axes}C", f"{axes}IO", f"N{axes}C"


def _worth_products(
    x: Array, kernel: Array, strides: tuple[int, ...], pads: Pads, dilation: tuple[int, ...], groups: int
) -> bool:
    taps, places = math.prod(kernel.shape[:-2]), 1
    for n, k, s, pair, d in zip(x.shape[1:-1], kernel.shape[:-2], strides, pads, dilation, strict=True):
        places *= max((n + sum(pair) - (k - 1) * d - 1) // s + 1, 0)
    fits = taps <= MAX_TAPS and 0 < x.shape[0] * places * taps * x.shape[-1] <= MAX_PATCHES
    plain = x.ndim == 4 and x.dtype == "float32" and groups == max(strides) == max(dilation) == 1 < taps
    large = 2 * x.shape[0] * places * kernel.size >= LARGE
    return fits and not (plain and large and not in_loop()) and jax.default_backend() == "cpu"


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
) -> Real[Array, "batch *places filters"]:
    r"""The transpose of a convolution, :math:`y_{b,q,o} = \sum_{sp+dt=q} \sum_c x_{b,p,c} \, k_{t,o,c}`.

    Each entry of the input adds the kernel, times itself, to the result.

    Args:
        x: shape ``(batch, *lengths, channels)``.
        kernel: shape ``(*size, filters, channels)``.
        strides: the distance :math:`s` between what neighbouring entries of the input add to.
        padding: ``"valid"`` or ``"same"``, as in :func:`transpose_pads`.
        output_padding: how much longer each axis of the result is than its least length; ``None`` for Keras's rule.
        dilation: the distance :math:`d` between what neighbouring entries of the kernel add to.

    Returns:
        Shape ``(batch, *places, filters)``.

    >>> conv_transpose(jnp.array([[[1.0], [2.0]]]), jnp.ones((2, 1, 1)), strides=2)[0, :, 0].tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    rank = x.ndim - 2
    *size, filters, channels = kernel.shape
    strides, dilation = per_axis(strides, rank), per_axis(dilation, rank)
    extra = (None,) * rank if output_padding is None else per_axis(output_padding, rank)
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    taps = [-(-r // s) for r, s in zip(reach, strides, strict=True)]

    # The entries of the result at one remainder modulo the stride are a plain convolution with every stride-th entry of
    # the kernel. All remainders at once make a convolution with more filters, whose results are interleaved.
    spread = [(0, m * s - r, d - 1) for m, s, r, d in zip(taps, strides, reach, dilation, strict=True)]
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), [*spread, (0, 0, 0), (0, 0, 0)])
    kernel = kernel.reshape(*itertools.chain(*zip(taps, strides, strict=True)), filters, channels)
    kernel = jnp.flip(kernel, range(0, 2 * rank, 2))
    kernel = kernel.transpose(*range(0, 2 * rank, 2), 2 * rank + 1, *range(1, 2 * rank, 2), 2 * rank)
    y = conv(x, kernel.reshape(*taps, channels, -1), padding=[(m - 1, m - 1) for m in taps])

    places = [u * s for u, s in zip(y.shape[1:-1], strides, strict=True)]
    y = y.reshape(*y.shape[:-1], *strides, filters)
    interleaved = itertools.chain(*((1 + axis, 1 + rank + axis) for axis in range(rank)))
    y = y.transpose(0, *interleaved, 2 * rank + 1).reshape(x.shape[0], *places, filters)
    ends = []
    for k, s, m, r, e, d in zip(size, strides, taps, reach, extra, dilation, strict=True):
        before, after = transpose_pads(k, s, padding, e, d)
        ends.append((before, r + after - m * s, 0))
    return lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *ends, (0, 0, 0)])
