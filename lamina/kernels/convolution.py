"""Convolutions in one, two and three dimensions by one code path. Channels come last."""

from collections.abc import Sequence

import jax.numpy as jnp

from lamina.core.loops import in_loop
from lamina.core.typing import Array, Real
from lamina.kernels.convolution_operations import CONVOLUTION, OUTER
from lamina.kernels.dense import dense
from lamina.kernels.joined_convolution import JOINED_CONVOLUTION, parts_of
from lamina.kernels.normalized_convolution import note

Sizes = int | Sequence[int]
Pads = list[tuple[int, int]]


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
    if parts := parts_of(x, arrays[1], strides, dilation, groups):
        return JOINED_CONVOLUTION(*parts, *arrays[1:], pads=pads, looped=in_loop(), slope=float(slope))
    if {*kernel.shape[:-2], *strides, groups} == {1} and not any(map(any, pads)):
        return dense(arrays[0], arrays[1].reshape(kernel.shape[-2:]), None if bias is None else arrays[2], slope)
    geometry = {"strides": strides, "pads": pads, "dilation": dilation, "groups": groups, "looped": in_loop()}
    return note(CONVOLUTION(*arrays, **geometry, slope=float(slope)), arrays, slope, geometry)


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


def _of_one_type(x: Array, kernel: Array, bias: Array | None) -> tuple[Array, Array, Array]:
    dtype = jnp.result_type(x, kernel) if bias is None else jnp.result_type(x, kernel, bias)
    return jnp.asarray(x, dtype), jnp.asarray(kernel, dtype), jnp.asarray(() if bias is None else bias, dtype)
