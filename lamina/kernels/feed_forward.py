"""Two dense layers with GELU between them, as in transformers, which natively leave what is between them in the cache.

As for :mod:`~lamina.kernels.dense_operations`, a last array may say which rows are ``present``.
"""

from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.typing import Array
from lamina.kernels.dense_operations import (
    DENSE,
    DENSE_GELU,
    DENSE_GELU_KEEPING,
    DENSE_GRADIENT,
    as_rows,
    in_rows,
    nothing,
    row_count,
)
from lamina.kernels.operation import Operation, call, of_dtype
from lamina.kernels.slopes import gelu_tanh

#: of so many rows, kernels of up to so many numbers, and up to so many columns between them, it is faster than one layer after
#: the other
ENOUGH_ROWS, SMALL, NARROW = 512, 1 << 17, 1 << 11


def fits(x: Any, kernel: Any, bias: Any, second_kernel: Any, *others: Any) -> bool:
    """Whether layers of these arrays are faster in one."""
    return (
        x.dtype in (jnp.float32, jnp.bfloat16)
        and all(array.dtype in (x.dtype, bool) for array in (kernel, bias, second_kernel, *others))
        and row_count(x) >= ENOUGH_ROWS
        and 0 < kernel.size <= SMALL
        and 0 < second_kernel.size <= SMALL
        and kernel.shape[1] <= NARROW
    )


def _portable(
    x: Array, kernel: Array, bias: Array, second_kernel: Array, second_bias: Array, more: Array, *present: Array
) -> Array:
    y = DENSE_GELU(x, kernel, bias, *present)
    return DENSE(y, second_kernel, second_bias, more, *present, slope=1.0)


def _keeping_portable(
    x: Array, kernel: Array, bias: Array, second_kernel: Array, second_bias: Array, more: Array, *present: Array
) -> tuple[Array, Array]:
    y, before = DENSE_GELU_KEEPING(x, kernel, bias, *present)
    return DENSE(y, second_kernel, second_bias, more, *present, slope=1.0), before


def _native(*arrays: Array) -> Array:
    return _by_kernel(False, *arrays)[0]


def _keeping_native(*arrays: Array) -> list[Array]:
    return _by_kernel(True, *arrays)


def _by_kernel(
    keep: bool,
    x: Array,
    kernel: Array,
    bias: Array,
    second_kernel: Array,
    second_bias: Array,
    more: Array,
    *present: Array,
) -> list[Array]:
    rows, batch, hidden, outputs = row_count(x), x.shape[:-1], kernel.shape[1], second_kernel.shape[1]
    shapes = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in ((rows, outputs), (rows * keep, hidden))]
    arrays = as_rows(x), kernel, bias, second_kernel, second_bias, more, in_rows(*present)
    y, before = call(of_dtype("feed_forward", x), shapes, *arrays)
    return [y.reshape(*batch, outputs), before.reshape(*batch, hidden) if keep else before]


def _gradients(primals: Any, before: Any, gradients: Any, wanted: Any) -> list[Any]:
    (x, kernel, bias, second_kernel, second_bias, more, *present), (g,) = primals, gradients
    arrays = as_rows(x), kernel, second_kernel, as_rows(before), as_rows(g), *map(in_rows, present)
    of_x, of_kernel, of_bias, of_second_kernel, of_second_bias = FEED_FORWARD_GRADIENT(*arrays, back=wanted[0])
    return [
        of_x.reshape(x.shape) if wanted[0] else None,
        of_kernel,
        of_bias if bias.size else bias,
        of_second_kernel,
        of_second_bias if second_bias.size else second_bias,
        g if more.size else more,
        *(None for _ in present),
    ]


def _gradient_portable(
    x: Array, kernel: Array, second_kernel: Array, before: Array, gradient: Array, *present: Array, back: bool
) -> tuple[Array, ...]:
    y = gelu_tanh(before)
    of_y, *of_second = DENSE_GRADIENT(
        y, second_kernel, nothing(y), gradient, *present, slope=1.0, gelu=False, back=True
    )
    of_first = DENSE_GRADIENT(x, kernel, before, of_y, *present, slope=0.0, gelu=True, back=back)
    return *of_first, *of_second


def _gradient_native(
    x: Array, kernel: Array, second_kernel: Array, before: Array, gradient: Array, *present: Array, back: bool
) -> Any:
    outputs = second_kernel.shape[1]
    sizes = (len(x) * back, x.shape[1]), kernel.shape, kernel.shape[1:], second_kernel.shape, (outputs,)
    shapes = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in sizes]
    arrays = x, kernel, second_kernel, before, gradient, in_rows(*present)
    return call(of_dtype("feed_forward_gradient", x), shapes, *arrays)


def _gradient_fits(x: Any, kernel: Any, second_kernel: Any, *others: Any, **settings: Any) -> bool:
    return fits(x, kernel, others[0], second_kernel, *others[1:])


FEED_FORWARD_KEEPING = Operation(
    "feed_forward_keeping",
    _keeping_portable,
    multiple=True,
    native=_keeping_native,
    targets=["feed_forward"],
    half=_keeping_native,
    half_targets=["half_feed_forward"],
    supports=fits,
)
FEED_FORWARD = Operation(
    "feed_forward",
    _portable,
    native=_native,
    targets=["feed_forward"],
    half=_native,
    half_targets=["half_feed_forward"],
    supports=fits,
    forward=FEED_FORWARD_KEEPING,
    backward=_gradients,
)
FEED_FORWARD_GRADIENT = Operation(
    "feed_forward_gradient",
    _gradient_portable,
    multiple=True,
    native=_gradient_native,
    targets=["feed_forward_gradient"],
    half=_gradient_native,
    half_targets=["half_feed_forward_gradient"],
    supports=_gradient_fits,
)
