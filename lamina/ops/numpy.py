"""The array functions of ``keras.ops.numpy``, under Keras's argument names.

Most are the ``jax.numpy`` function of the same name, and follow its rules for dtypes: whole numbers and Python numbers
take the floating dtype of what they meet, ``int32 / int32`` is ``float32``, and 64 bits come only with JAX's
``jax_enable_x64``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import registry
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import Array, Variable
from lamina.ops.core import ndim as ndim
from lamina.ops.dispatch import like, needs_values, op, public
from lamina.ops.linalg import slogdet as slogdet

abs = like(jnp.abs, "abs(x)")
absolute = like(jnp.absolute, "absolute(x)")
add = like(jnp.add, "add(x1, x2)")
all = like(jnp.all, "all(x, axis=None, keepdims=False)")
allclose = like(jnp.allclose, "allclose(x1, x2, rtol=1e-05, atol=1e-08, equal_nan=False)")
amax = like(jnp.amax, "amax(x, axis=None, keepdims=False)")
amin = like(jnp.amin, "amin(x, axis=None, keepdims=False)")
angle = like(jnp.angle, "angle(x)")
any = like(jnp.any, "any(x, axis=None, keepdims=False)")
append = like(jnp.append, "append(x1, x2, axis=None)")
arange = like(jnp.arange, "arange(start, stop=None, step=None, dtype=None)")
arccos = like(jnp.arccos, "arccos(x)")
arccosh = like(jnp.arccosh, "arccosh(x)")
arcsin = like(jnp.arcsin, "arcsin(x)")
arcsinh = like(jnp.arcsinh, "arcsinh(x)")
arctan = like(jnp.arctan, "arctan(x)")
arctan2 = like(jnp.arctan2, "arctan2(x1, x2)")
arctanh = like(jnp.arctanh, "arctanh(x)")
argmax = like(jnp.argmax, "argmax(x, axis=None, keepdims=False)")
argmin = like(jnp.argmin, "argmin(x, axis=None, keepdims=False)")
argpartition = like(jnp.argpartition, "argpartition(x, kth, axis=-1)")
argsort = like(jnp.argsort, "argsort(x, axis=-1)")
array = like(jnp.array, "array(x, dtype=None)")
array_split = like(jnp.array_split, "array_split(x, indices_or_sections, axis=0)")
average = like(jnp.average, "average(x, axis=None, weights=None)")
bartlett = like(jnp.bartlett, "bartlett(x)")
bitwise_and = like(jnp.bitwise_and, "bitwise_and(x, y)")
bitwise_invert = like(jnp.bitwise_invert, "bitwise_invert(x)")
bitwise_left_shift = like(jnp.bitwise_left_shift, "bitwise_left_shift(x, y)")
bitwise_not = like(jnp.bitwise_not, "bitwise_not(x)")
bitwise_or = like(jnp.bitwise_or, "bitwise_or(x, y)")
bitwise_right_shift = like(jnp.bitwise_right_shift, "bitwise_right_shift(x, y)")
bitwise_xor = like(jnp.bitwise_xor, "bitwise_xor(x, y)")
blackman = like(jnp.blackman, "blackman(x)")
broadcast_to = like(jnp.broadcast_to, "broadcast_to(x, shape)")
cbrt = like(jnp.cbrt, "cbrt(x)")
ceil = like(jnp.ceil, "ceil(x)")
clip = like(jnp.clip, "clip(x, x_min, x_max)")
concatenate = like(jnp.concatenate, "concatenate(xs, axis=0)")
conj = like(jnp.conj, "conj(x)")
conjugate = like(jnp.conjugate, "conjugate(x)")
copy = like(jnp.copy, "copy(x)")
corrcoef = like(jnp.corrcoef, "corrcoef(x)")
correlate = like(jnp.correlate, "correlate(x1, x2, mode='valid')")
cos = like(jnp.cos, "cos(x)")
cosh = like(jnp.cosh, "cosh(x)")
count_nonzero = like(jnp.count_nonzero, "count_nonzero(x, axis=None)")
cross = like(jnp.cross, "cross(x1, x2, axisa=-1, axisb=-1, axisc=-1, axis=None)")
cumprod = like(jnp.cumprod, "cumprod(x, axis=None, dtype=None)")
cumsum = like(jnp.cumsum, "cumsum(x, axis=None, dtype=None)")
deg2rad = like(jnp.deg2rad, "deg2rad(x)")
diag = like(jnp.diag, "diag(x, k=0)")
diagflat = like(jnp.diagflat, "diagflat(x, k=0)")
diagonal = like(jnp.diagonal, "diagonal(x, offset=0, axis1=0, axis2=1)")
diff = like(jnp.diff, "diff(a, n=1, axis=-1)")
digitize = like(jnp.digitize, "digitize(x, bins)")
divide = like(jnp.divide, "divide(x1, x2)")
dot = like(jnp.dot, "dot(x1, x2)")
dsplit = like(jnp.dsplit, "dsplit(x, indices_or_sections)")
dstack = like(jnp.dstack, "dstack(xs)")
empty = like(jnp.empty, "empty(shape, dtype=None)")
empty_like = like(jnp.empty_like, "empty_like(x, dtype=None)")
equal = like(jnp.equal, "equal(x1, x2)")
exp = like(jnp.exp, "exp(x)")
exp2 = like(jnp.exp2, "exp2(x)")
expand_dims = like(jnp.expand_dims, "expand_dims(x, axis)")
expm1 = like(jnp.expm1, "expm1(x)")
eye = like(jnp.eye, "eye(N, M=None, k=0, dtype=None)")
fabs = like(jnp.fabs, "fabs(x)")
flip = like(jnp.flip, "flip(x, axis=None)")
fliplr = like(jnp.fliplr, "fliplr(x)")
flipud = like(jnp.flipud, "flipud(x)")
floor = like(jnp.floor, "floor(x)")
floor_divide = like(jnp.floor_divide, "floor_divide(x1, x2)")
fmax = like(jnp.fmax, "fmax(x1, x2)")
fmin = like(jnp.fmin, "fmin(x1, x2)")
fmod = like(jnp.fmod, "fmod(x1, x2)")
full = like(jnp.full, "full(shape, fill_value, dtype=None)")
full_like = like(jnp.full_like, "full_like(x, fill_value, dtype=None)")
gcd = like(jnp.gcd, "gcd(x1, x2)")
geomspace = like(jnp.geomspace, "geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0)")
greater = like(jnp.greater, "greater(x1, x2)")
greater_equal = like(jnp.greater_equal, "greater_equal(x1, x2)")
hamming = like(jnp.hamming, "hamming(x)")
hanning = like(jnp.hanning, "hanning(x)")
heaviside = like(jnp.heaviside, "heaviside(x1, x2)")
histogram = like(jnp.histogram, "histogram(x, bins=10, range=None)")
hsplit = like(jnp.hsplit, "hsplit(x, indices_or_sections)")
hstack = like(jnp.hstack, "hstack(xs)")
hypot = like(jnp.hypot, "hypot(x1, x2)")
i0 = like(jnp.i0, "i0(x)")
identity = like(jnp.identity, "identity(n, dtype=None)")
imag = like(jnp.imag, "imag(x)")
inner = like(jnp.inner, "inner(x1, x2)")
isclose = like(jnp.isclose, "isclose(x1, x2, rtol=1e-05, atol=1e-08, equal_nan=False)")
isfinite = like(jnp.isfinite, "isfinite(x)")
isin = like(jnp.isin, "isin(x1, x2, assume_unique=False, invert=False)")
isinf = like(jnp.isinf, "isinf(x)")
isnan = like(jnp.isnan, "isnan(x)")
isneginf = like(jnp.isneginf, "isneginf(x)")
isposinf = like(jnp.isposinf, "isposinf(x)")
isreal = like(jnp.isreal, "isreal(x)")
kaiser = like(jnp.kaiser, "kaiser(x, beta)")
kron = like(jnp.kron, "kron(x1, x2)")
lcm = like(jnp.lcm, "lcm(x1, x2)")
ldexp = like(jnp.ldexp, "ldexp(x1, x2)")
left_shift = like(jnp.left_shift, "left_shift(x, y)")
less = like(jnp.less, "less(x1, x2)")
less_equal = like(jnp.less_equal, "less_equal(x1, x2)")
linspace = like(jnp.linspace, "linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0)")
log = like(jnp.log, "log(x)")
log10 = like(jnp.log10, "log10(x)")
log1p = like(jnp.log1p, "log1p(x)")
log2 = like(jnp.log2, "log2(x)")
logaddexp = like(jnp.logaddexp, "logaddexp(x1, x2)")
logaddexp2 = like(jnp.logaddexp2, "logaddexp2(x1, x2)")
logical_and = like(jnp.logical_and, "logical_and(x1, x2)")
logical_not = like(jnp.logical_not, "logical_not(x)")
logical_or = like(jnp.logical_or, "logical_or(x1, x2)")
logical_xor = like(jnp.logical_xor, "logical_xor(x1, x2)")
logspace = like(jnp.logspace, "logspace(start, stop, num=50, endpoint=True, base=10, dtype=None, axis=0)")
matmul = like(jnp.matmul, "matmul(x1, x2)")
max = like(jnp.max, "max(x, axis=None, keepdims=False, initial=None)")
maximum = like(jnp.maximum, "maximum(x1, x2)")
mean = like(jnp.mean, "mean(x, axis=None, keepdims=False)")
median = like(jnp.median, "median(x, axis=None, keepdims=False)")
min = like(jnp.min, "min(x, axis=None, keepdims=False, initial=None)")
minimum = like(jnp.minimum, "minimum(x1, x2)")
mod = like(jnp.mod, "mod(x1, x2)")
moveaxis = like(jnp.moveaxis, "moveaxis(x, source, destination)")
multiply = like(jnp.multiply, "multiply(x1, x2)")
nan_to_num = like(jnp.nan_to_num, "nan_to_num(x, nan=0.0, posinf=None, neginf=None)")
nanargmax = like(jnp.nanargmax, "nanargmax(x, axis=None, keepdims=False)")
nanargmin = like(jnp.nanargmin, "nanargmin(x, axis=None, keepdims=False)")
nancumprod = like(jnp.nancumprod, "nancumprod(x, axis=None, dtype=None)")
nancumsum = like(jnp.nancumsum, "nancumsum(x, axis=None, dtype=None)")
nanmax = like(jnp.nanmax, "nanmax(x, axis=None, keepdims=False)")
nanmean = like(jnp.nanmean, "nanmean(x, axis=None, keepdims=False)")
nanmedian = like(jnp.nanmedian, "nanmedian(x, axis=None, keepdims=False)")
nanmin = like(jnp.nanmin, "nanmin(x, axis=None, keepdims=False)")
nanpercentile = like(jnp.nanpercentile, "nanpercentile(x, q, axis=None, method='linear', keepdims=False)")
nanprod = like(jnp.nanprod, "nanprod(x, axis=None, keepdims=False)")
nanquantile = like(jnp.nanquantile, "nanquantile(x, q, axis=None, method='linear', keepdims=False)")
nanstd = like(jnp.nanstd, "nanstd(x, axis=None, keepdims=False)")
nansum = like(jnp.nansum, "nansum(x, axis=None, keepdims=False)")
nanvar = like(jnp.nanvar, "nanvar(x, axis=None, keepdims=False)")
negative = like(jnp.negative, "negative(x)")
nextafter = like(jnp.nextafter, "nextafter(x1, x2)")
not_equal = like(jnp.not_equal, "not_equal(x1, x2)")
ones = like(jnp.ones, "ones(shape, dtype=None)")
ones_like = like(jnp.ones_like, "ones_like(x, dtype=None)")
outer = like(jnp.outer, "outer(x1, x2)")
percentile = like(jnp.percentile, "percentile(x, q, axis=None, method='linear', keepdims=False)")
power = like(jnp.power, "power(x1, x2)")
prod = like(jnp.prod, "prod(x, axis=None, keepdims=False, dtype=None)")
ptp = like(jnp.ptp, "ptp(x, axis=None, keepdims=False)")
quantile = like(jnp.quantile, "quantile(x, q, axis=None, method='linear', keepdims=False)")
rad2deg = like(jnp.rad2deg, "rad2deg(x)")
ravel = like(jnp.ravel, "ravel(x)")
real = like(jnp.real, "real(x)")
reciprocal = like(jnp.reciprocal, "reciprocal(x)")
right_shift = like(jnp.right_shift, "right_shift(x, y)")
roll = like(jnp.roll, "roll(x, shift, axis=None)")
rot90 = like(jnp.rot90, "rot90(array, k=1, axes=(0, 1))")
round = like(jnp.round, "round(x, decimals=0)")
searchsorted = like(jnp.searchsorted, "searchsorted(sorted_sequence, values, side='left')")
select = like(jnp.select, "select(condlist, choicelist, default=0)")
sign = like(jnp.sign, "sign(x)")
signbit = like(jnp.signbit, "signbit(x)")
sin = like(jnp.sin, "sin(x)")
sinc = like(jnp.sinc, "sinc(x)")
sinh = like(jnp.sinh, "sinh(x)")
size = like(jnp.size, "size(x)")
sort = like(jnp.sort, "sort(x, axis=-1)")
split = like(jnp.split, "split(x, indices_or_sections, axis=0)")
sqrt = like(jnp.sqrt, "sqrt(x)")
square = like(jnp.square, "square(x)")
squeeze = like(jnp.squeeze, "squeeze(x, axis=None)")
std = like(jnp.std, "std(x, axis=None, keepdims=False)")
subtract = like(jnp.subtract, "subtract(x1, x2)")
sum = like(jnp.sum, "sum(x, axis=None, keepdims=False)")
swapaxes = like(jnp.swapaxes, "swapaxes(x, axis1, axis2)")
take = like(jnp.take, "take(x, indices, axis=None)")
take_along_axis = like(jnp.take_along_axis, "take_along_axis(x, indices, axis=None)")
tan = like(jnp.tan, "tan(x)")
tanh = like(jnp.tanh, "tanh(x)")
tensordot = like(jnp.tensordot, "tensordot(x1, x2, axes=2)")
tile = like(jnp.tile, "tile(x, repeats)")
trace = like(jnp.trace, "trace(x, offset=0, axis1=0, axis2=1)")
transpose = like(jnp.transpose, "transpose(x, axes=None)")
trapezoid = like(jnp.trapezoid, "trapezoid(y, x=None, dx=1.0, axis=-1)")
tri = like(jnp.tri, "tri(N, M=None, k=0, dtype=None)")
tril = like(jnp.tril, "tril(x, k=0)")
triu = like(jnp.triu, "triu(x, k=0)")
true_divide = like(jnp.true_divide, "true_divide(x1, x2)")
trunc = like(jnp.trunc, "trunc(x)")
unravel_index = like(jnp.unravel_index, "unravel_index(indices, shape)")
vander = like(jnp.vander, "vander(x, N=None, increasing=False)")
var = like(jnp.var, "var(x, axis=None, keepdims=False)")
vdot = like(jnp.vdot, "vdot(x1, x2)")
vsplit = like(jnp.vsplit, "vsplit(x, indices_or_sections)")
vstack = like(jnp.vstack, "vstack(xs)")
zeros = like(jnp.zeros, "zeros(shape, dtype=None)")
zeros_like = like(jnp.zeros_like, "zeros_like(x, dtype=None)")


@op
def stack(x: Sequence[Any], axis: int = 0) -> Array:
    """The arrays in the list ``x``, all of one shape, joined along a new axis.

    >>> stack([jnp.zeros(3), jnp.ones(3)], axis=1).shape
    (3, 2)
    """
    return jnp.stack(x, axis)


@op
def where(condition: Any, x1: Any = None, x2: Any = None) -> Any:
    """``x1`` where the condition holds, ``x2`` elsewhere; with the condition alone, the places where it holds.

    >>> where(jnp.array([True, False]), 1.0, 2.0).tolist()
    [1.0, 2.0]
    """
    return jnp.where(condition) if x1 is None and x2 is None else jnp.where(condition, x1, x2)


@op
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Array:
    """``x`` with each entry, or each slice along ``axis``, so many times.

    >>> repeat([7, 8], [2, 1]).tolist()
    [7, 7, 8]
    """
    return jnp.repeat(x, np.asarray(repeats) if isinstance(repeats, tuple) else repeats, axis)


@op
def reshape(x: Any, newshape: int | Sequence[int | None]) -> Array:
    """``x`` in another shape; one axis may be -1 or ``None``, which stands for as long as it must be.

    >>> reshape(jnp.zeros((2, 6)), (-1, 4)).shape
    (3, 4)
    """
    if not isinstance(newshape, int):
        newshape = tuple(-1 if n is None else n for n in newshape)
    return jnp.reshape(x, newshape)


@op
def _index(x: Any, *keys: Any) -> Array:
    """``x[keys]``."""
    return jnp.asarray(x)[keys]


def get_item(x: Any, key: Any) -> Array:
    """``x[key]``, with the indices, slices, masks and lists of whole numbers that NumPy takes.

    >>> get_item(jnp.arange(6).reshape(2, 3), (slice(None), 1)).tolist()
    [1, 4]
    """

    def ready(part: Any) -> Any:
        if isinstance(part, Variable):
            return part.value
        return np.asarray(part) if isinstance(part, list) else part

    return _index(x, *(ready(part) for part in (key if isinstance(key, tuple) else (key,))))


registry.register("ops")(get_item)


@op
def divide_no_nan(x1: Any, x2: Any) -> Array:
    """``x1 / x2``, and zero where ``x2`` is zero; so is the gradient there.

    >>> divide_no_nan([1.0, 1.0], [2.0, 0.0]).tolist()
    [0.5, 0.0]
    """
    x1, x2 = jnp.asarray(x1), jnp.asarray(x2)
    zero = x2 == 0
    ratio = x1 / jnp.where(zero, jnp.ones_like(x2), x2)
    return jnp.where(zero, jnp.zeros_like(ratio), ratio)


@op
def einsum(subscripts: str, *operands: Any, **kwargs: Any) -> Array:
    """Sums of products in Einstein's notation, as ``einsum("bij,bjk->bik", x, y)``."""
    return jnp.einsum(subscripts, *operands, **kwargs)


@op
def meshgrid(*xs: Any, indexing: str = "xy") -> list[Array]:
    """One array of coordinates for each of the given axes; ``indexing="ij"`` keeps the axes' order."""
    return jnp.meshgrid(*xs, indexing=indexing)


@op
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = None) -> Array:
    """``x`` with its axes made longer.

    Args:
        x: any shape.
        pad_width: ``(before, after)`` for each axis, or one pair or number for all of them.
        mode: ``"constant"``, ``"reflect"``, ``"symmetric"``, ``"edge"``, ``"wrap"``, ... as in NumPy.
        constant_values: what ``"constant"`` fills in; zero by default.

    >>> pad([1, 2], (1, 0), constant_values=9).tolist()
    [9, 1, 2]
    """
    if constant_values is None:
        return jnp.pad(x, pad_width, mode)
    if mode != "constant":
        raise ConfigError(f"pad fills in constant_values with mode='constant' only; received mode={mode!r}")
    return jnp.pad(x, pad_width, mode, constant_values=constant_values)


@op
def bincount(x: Any, weights: Any = None, minlength: int = 0, sparse: bool = False) -> Array:
    """How often each whole number from 0 on occurs, or the sum of its weights.

    Args:
        x: whole numbers from 0 on, shape ``(n,)`` or ``(batch, n)``.
        weights: the shape of ``x``.
        minlength: the least number of bins. In a compiled function or a network, it is the number of bins.
        sparse: must be False.

    >>> bincount([0, 2, 2], minlength=4).tolist()
    [1, 0, 2, 0]
    """
    if sparse:
        raise ConfigError("bincount gives dense arrays only.\nWrite:  bincount(x, sparse=False)")
    x = jnp.asarray(x)
    if isinstance(x, jax.core.Tracer):
        if not minlength:
            raise ShapeError(
                "the number of bins follows from the data, which a compiled function does not have.\n"
                "Write:  bincount(x, minlength=bins)"
            )
        length = minlength
    else:
        length = int(np.maximum(np.max(x, initial=-1) + 1, minlength))

    def count(x: Array, weights: Any) -> Array:
        return jnp.bincount(x, weights, length=length)

    return count(x, weights) if x.ndim == 1 else jax.vmap(count, (0, None if weights is None else 0))(x, weights)


@needs_values
def nonzero(x: Any) -> tuple[Array, ...]:
    """The indices of what is not zero, one array per axis.

    >>> [i.tolist() for i in nonzero([0, 3, 4])]
    [[1, 2]]
    """
    return jnp.nonzero(jnp.asarray(x))


@op
def unique(
    x: Any,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The distinct values, in order.

    Args:
        x: any shape.
        sorted: accepted for Keras's sake; the values are in order anyway.
        return_index: also where each value occurs first.
        return_inverse: also which value each entry of ``x`` is.
        return_counts: also how often each value occurs.
        axis: compare slices along this axis; by default, single entries.
        size: give so many values, cut off or filled up; a compiled function or a network needs it.
        fill_value: what to fill up with; the least value by default.

    >>> unique([3, 1, 3]).tolist()
    [1, 3]
    """
    if size is None and isinstance(x, jax.core.Tracer):
        raise ShapeError(
            "the number of distinct values follows from the data, which a compiled function does not have.\n"
            "Write:  unique(x, size=most)"
        )
    return jnp.unique(x, return_index, return_inverse, return_counts, axis, size=size, fill_value=fill_value)


@op
def view(x: Any, dtype: Any = None) -> Array:
    """The same bytes read as another dtype; the last axis gets longer or shorter where sizes differ."""
    return jnp.asarray(x).view(dtype)


def vectorize(pyfunc: Callable[..., Any], *, excluded: Any = None, signature: str | None = None) -> Callable[..., Any]:
    """A function of arrays from a function of single values, as ``jax.numpy.vectorize``."""
    return jnp.vectorize(pyfunc, excluded=frozenset(excluded or ()), signature=signature)


__all__ = public(__name__)
