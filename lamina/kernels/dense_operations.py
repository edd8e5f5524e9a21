"""What dense layers are made of: products with what is added to them, with GELU, by the kernel turned over; and gradients.

Forward natively; back where there are some rows or little to do, with XLA's own products elsewhere. A last array of truth
values may say which rows are ``present``: others, as of padding, give what is added to them, or zeros.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.typing import Array
from lamina.kernels.kernel_gradient import kernel_gradient
from lamina.kernels.operation import Operation, call, of_dtype
from lamina.kernels.slopes import activate, gelu_tanh, gelu_tanh_slope, undo

#: rows from which on the native gradient of a kernel is faster than XLA's, and from which on that of the input is
ENOUGH_ROWS, MANY_ROWS = 8, 32
#: for fewer rows, and kernels of at least so many numbers, the gradient of a kernel is worked out apart, so that an optimizer's
#: update may be with it; of more rows it is best worked out with the input's, from rows that are near
FEW_ROWS, BIG = 512, 1 << 16
#: up to so many products of two numbers a layer is small: starting XLA's own takes longer than they do
SMALL = 1 << 17

#: from so many products on, tiles of bfloat16 are faster than the same numbers in float32
LARGE = 1 << 20


def nothing(like: Array) -> Array:
    """What stands for an array that is not there."""
    return jnp.zeros(0, like.dtype)


def where_present(values: Array, present: Array | None = None, *, others: Array | None = None) -> Array:
    """``values`` in the rows that are present, elsewhere ``others``, or zeros; all of them if nothing says which are."""
    if present is None:
        return values
    return jnp.where(present[..., None], values, 0 if others is None or not others.size else others)


def in_rows(present: Array | None = None) -> Array:
    """Which rows are present, as kernels take it."""
    return jnp.zeros(0, bool) if present is None else present.reshape(-1)


def _portable(x: Array, kernel: Array, bias: Array, more: Array, *present: Array, slope: float) -> Array:
    before = jnp.matmul(x, kernel)
    return where_present(activate(before + more if more.size else before, bias, slope), *present, others=more)


def _native(x: Array, kernel: Array, bias: Array, more: Array, *present: Array, slope: float) -> Any:
    shape = jax.ShapeDtypeStruct((row_count(x), kernel.shape[1]), x.dtype)
    arrays = as_rows(x), kernel, bias, more, in_rows(*present)
    y = call(of_dtype("dense", x), shape, *arrays, slope=np.float32(slope))
    return y.reshape(*x.shape[:-1], kernel.shape[1])


def _is_large(x: Any, kernel: Any, *others: Any, **settings: Any) -> bool:
    return row_count(x) >= MANY_ROWS and row_count(x) * kernel.size >= LARGE


def row_count(x: Any) -> int:
    """How many rows an array has, whatever its axes in front."""
    return math.prod(x.shape[:-1])


def as_rows(x: Array) -> Array:
    """``x`` as a matrix of those rows."""
    return x.reshape(row_count(x), x.shape[-1])


def _transposed_portable(x: Array, kernel: Array) -> Array:
    return jnp.matmul(x, kernel.T)


def _transposed_native(x: Array, kernel: Array) -> Any:
    shape = jax.ShapeDtypeStruct((row_count(x), len(kernel)), x.dtype)
    return call(of_dtype("dense_transposed", x), shape, as_rows(x), kernel).reshape(*x.shape[:-1], len(kernel))


def _transposed_gradients(primals: Any, results: Any, gradients: Any, wanted: Any) -> list[Any]:
    (x, kernel), (g,) = primals, gradients
    none = nothing(g)
    settings = {"slope": 1.0, "gelu": False, "back": False}
    return [
        DENSE(g, kernel, none, none, slope=1.0).astype(x.dtype) if wanted[0] else None,
        DENSE_GRADIENT(as_rows(g), kernel, none, as_rows(x), **settings)[1].astype(kernel.dtype) if wanted[1] else None,
    ]


def _gelu_portable(x: Array, kernel: Array, bias: Array, *present: Array) -> Array:
    return gelu_tanh(DENSE(x, kernel, bias, nothing(kernel), *present, slope=1.0))


def _keeping_portable(x: Array, kernel: Array, bias: Array, *present: Array) -> tuple[Array, Array]:
    before = DENSE(x, kernel, bias, nothing(kernel), *present, slope=1.0)
    return gelu_tanh(before), before


def _keeping_native(*arrays: Array) -> list[Array]:
    return _gelu_by_kernel(True, *arrays)


def _gelu_native(*arrays: Array) -> Array:
    return _gelu_by_kernel(False, *arrays)[0]


def _gelu_by_kernel(keep: bool, x: Array, kernel: Array, bias: Array, *present: Array) -> list[Array]:
    rows, outputs = row_count(x), kernel.shape[1]
    shapes = [jax.ShapeDtypeStruct((count, outputs), x.dtype) for count in (rows, rows * keep)]
    y, before = call(of_dtype("dense_gelu", x), shapes, as_rows(x), kernel, bias, in_rows(*present))
    shape = (*x.shape[:-1], outputs)
    return [y.reshape(shape), before.reshape(shape) if keep else before]


def _many_rows(x: Any, *others: Any) -> bool:
    return _floats(x, *others) and row_count(x) >= MANY_ROWS


def _gelu_gradients(primals: Any, before: Any, gradients: Any, wanted: Any) -> list[Any]:
    (x, kernel, bias, *present), (g,) = primals, gradients
    return [*_of_layer(x, kernel, bias, before, g, wanted, *present, slope=0.0, gelu=True), *(None for _ in present)]


def _supports(x: Any, kernel: Any, *others: Any, **settings: Any) -> bool:
    return _floats(x, kernel, *others)


def _is_small(x: Any, kernel: Any) -> bool:
    return row_count(x) * kernel.size <= SMALL


def _floats(x: Any, kernel: Any, *others: Any) -> bool:
    """Whether there is something to work out, all of float32, but for truth values behind."""
    floats = x.dtype == kernel.dtype == "float32" and all(array.dtype in ("float32", "bool") for array in others)
    return floats and x.size > 0 and kernel.size > 0


def _gradients(primals: Any, results: Any, gradients: Any, wanted: Any, *, slope: float) -> list[Any]:
    (x, kernel, bias, more, *present), (y,), (g,) = primals, results, gradients
    of_more = where_present(undo(g, y, slope), *present, others=g) if more.size else more
    return [
        *_of_layer(x, kernel, bias, y, g, wanted, *present, slope=slope),
        of_more.astype(more.dtype),
        *(None for _ in present),
    ]


def _of_layer(
    x: Array,
    kernel: Array,
    bias: Array,
    y: Array,
    g: Array,
    wanted: Any,
    *present: Array,
    slope: float,
    gelu: bool = False,
) -> list[Any]:
    """The gradients of an input, a kernel and a bias, from the result (or what is before a GELU) and its gradient."""
    result = nothing(g) if slope == 1 else as_rows(y)
    settings = {"slope": slope, "gelu": gelu, "back": wanted[0]}
    apart = MANY_ROWS <= row_count(x) < FEW_ROWS and kernel.size >= BIG and _floats(x, kernel, g)
    if apart and not present:
        of_x, of_bias, before = DENSE_BACK(kernel, result, as_rows(g), **settings)
        of_kernel = kernel_gradient(as_rows(x), before)
    else:
        arrays = as_rows(x), kernel, result, as_rows(g), *map(in_rows, present)
        of_x, of_kernel, of_bias = DENSE_GRADIENT(*arrays, **settings)
    return [
        of_x.reshape(x.shape).astype(x.dtype) if wanted[0] else None,
        of_kernel.astype(kernel.dtype),
        of_bias.astype(bias.dtype) if bias.size else bias,
    ]


def _before(gradient: Array, result: Array, slope: float, gelu: bool) -> Array:
    """The gradient in front of the activation; of a GELU, ``result`` is what is before it."""
    return gradient * gelu_tanh_slope(result) if gelu else undo(gradient, result, slope)


def _gradient_portable(
    x: Array, kernel: Array, result: Array, gradient: Array, *present: Array, slope: float, back: bool, gelu: bool
) -> tuple[Array, Array, Array]:
    gradient = where_present(_before(gradient, result, slope, gelu), *present)
    return _back(gradient, kernel, back), jnp.matmul(x.T, gradient), jnp.sum(gradient, 0)


def _back(gradient: Array, kernel: Array, back: bool) -> Array:
    return jnp.matmul(gradient, kernel.T) if back else jnp.zeros((0, kernel.shape[0]), gradient.dtype)


def _gradient_native(
    x: Array, kernel: Array, result: Array, gradient: Array, *present: Array, slope: float, back: bool, gelu: bool
) -> Any:
    outputs = kernel.shape[1]
    small = len(x) == 1 or _is_small(x, kernel)
    if (gelu or present) and (small or len(x) < MANY_ROWS):
        gradient = where_present(_before(gradient, result, slope, gelu), *present)
        result, slope, gelu, present = nothing(gradient), 1.0, False, ()
    shapes = [
        jax.ShapeDtypeStruct(shape, "float32") for shape in ((len(x) * back, x.shape[1]), kernel.shape, (outputs,))
    ]
    if small:
        return call("small_dense_gradient", shapes, x, kernel, result, gradient, slope=np.float32(slope))
    undone = jax.ShapeDtypeStruct(gradient.shape if slope != 1 else (0,), "float32")
    many = len(x) >= MANY_ROWS
    if not many:
        shapes[0] = jax.ShapeDtypeStruct((0, x.shape[1]), "float32")
    arrays, number = (x, kernel, result, gradient, in_rows(*present)), np.float32(slope)
    found = call("dense_gradient", [*shapes, undone], *arrays, slope=number, gelu=np.bool_(gelu))[:3]
    return found if many else (_back(undo(gradient, result, slope), kernel, back), *found[1:])


def _gradient_half(
    x: Array, kernel: Array, result: Array, gradient: Array, *present: Array, slope: float, back: bool, gelu: bool
) -> Any:
    shapes = [
        jax.ShapeDtypeStruct(shape, x.dtype)
        for shape in ((len(x) * back, x.shape[1]), kernel.shape, (kernel.shape[1],))
    ]
    arrays, number = (x, kernel, result, gradient, in_rows(*present)), np.float32(slope)
    return call("half_dense_gradient", shapes, *arrays, slope=number, gelu=np.bool_(gelu))


def _back_portable(
    kernel: Array, result: Array, gradient: Array, *, slope: float, back: bool, gelu: bool
) -> tuple[Array, Array, Array]:
    gradient = _before(gradient, result, slope, gelu)
    return _back(gradient, kernel, back), jnp.sum(gradient, 0), gradient


def _back_native(kernel: Array, result: Array, gradient: Array, *, slope: float, back: bool, gelu: bool) -> Any:
    rows, (inputs, outputs) = len(gradient), kernel.shape
    shapes = [jax.ShapeDtypeStruct(shape, "float32") for shape in ((rows * back, inputs), (outputs,), (rows, outputs))]
    arrays, number = (kernel, result, gradient), np.float32(slope)
    return call("dense_back", shapes, *arrays, slope=number, gelu=np.bool_(gelu))


def _back_supports(kernel: Any, result: Any, gradient: Any, **settings: Any) -> bool:
    return _floats(kernel, gradient, result)


def _gradient_supports(x: Any, kernel: Any, *others: Any, **settings: Any) -> bool:
    return _floats(x, kernel, *others) and (len(x) == 1 or len(x) >= ENOUGH_ROWS or _is_small(x, kernel))


DENSE = Operation(
    "dense",
    _portable,
    native=_native,
    targets=["dense"],
    half=_native,
    half_targets=["half_dense"],
    half_supports=_is_large,
    supports=_supports,
    backward=_gradients,
)
DENSE_TRANSPOSED = Operation(
    "dense_transposed",
    _transposed_portable,
    native=_transposed_native,
    targets=["dense_transposed"],
    half=_transposed_native,
    half_targets=["half_dense_transposed"],
    half_supports=_is_large,
    supports=_many_rows,
    backward=_transposed_gradients,
)
DENSE_GELU_KEEPING = Operation(
    "dense_gelu_keeping",
    _keeping_portable,
    multiple=True,
    native=_keeping_native,
    targets=["dense_gelu"],
    half=_keeping_native,
    half_targets=["half_dense_gelu"],
    half_supports=_is_large,
    supports=_many_rows,
)
DENSE_GELU = Operation(
    "dense_gelu",
    _gelu_portable,
    native=_gelu_native,
    targets=["dense_gelu"],
    half=_gelu_native,
    half_targets=["half_dense_gelu"],
    half_supports=_is_large,
    supports=_many_rows,
    forward=DENSE_GELU_KEEPING,
    backward=_gelu_gradients,
)
DENSE_GRADIENT = Operation(
    "dense_gradient",
    _gradient_portable,
    multiple=True,
    native=_gradient_native,
    targets=["dense_gradient", "small_dense_gradient"],
    half=_gradient_half,
    half_targets=["half_dense_gradient"],
    half_supports=_is_large,
    supports=_gradient_supports,
)
DENSE_BACK = Operation(
    "dense_back",
    _back_portable,
    multiple=True,
    native=_back_native,
    targets=["dense_back"],
    supports=_back_supports,
)
