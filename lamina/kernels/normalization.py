"""Normalization: means and variances, and what is made of them. All computed in at least single precision.

In residual networks what is normalized, or the result, is also added to something. The gradients of both uses are added
while that of the normalization is worked out, if the array is replaced by its double (:func:`again`) in the second use.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lamina.core.errors import ShapeError
from lamina.core.notes import Notes
from lamina.core.typing import Array, Float, Real, Shaped
from lamina.kernels.operation import Operation, call, of_dtype

#: by the result of a normalization, as long as a program is traced: its double, its input, and the input's double
_doubles = Notes()


def widened(x: Array) -> Array:
    """``x`` in at least single precision."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def positive_axes(axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """The axes counted from the front, in order.

    Raises:
        ShapeError: if an axis is not there, or is named twice.

    >>> positive_axes((-1, 1), 4)
    (1, 3)
    """
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    found = tuple(sorted(a % ndim for a in axes if -ndim <= a < ndim))
    if len(set(found)) != len(axes) or not axes:
        raise ShapeError(f"axis {axis} does not fit an array of {ndim} axes, each counted from {-ndim} to {ndim - 1}")
    return found


def moments(
    x: Real[Array, "*shape"], axes: Sequence[int], mask: Shaped[Array, "*#shape"] | None = None
) -> tuple[Float[Array, "*reduced"], Float[Array, "*reduced"]]:
    r"""Mean and variance along ``axes``, which are kept with length 1.

    The variance is that of the deviations from the mean, which loses no digits to a large mean, rather than
    :math:`E[x^2] - E[x]^2`; it is not corrected for the size of the sample.

    Args:
        x: any shape.
        axes: the axes to average over.
        mask: broadcast to the shape of ``x``; only entries where it is True count. Where there are none, mean and
            variance are zero.

    >>> mean, variance = moments(jnp.array([[1.0, 3.0]]), (1,))
    >>> mean.tolist(), variance.tolist()
    ([[2.0]], [[1.0]])
    """
    x, axes = widened(x), tuple(axes)
    if mask is None:
        mean = jnp.mean(x, axes, keepdims=True)
        return mean, jnp.mean(jnp.square(x - mean), axes, keepdims=True)
    mask = jnp.broadcast_to(mask.astype(bool), x.shape)
    count = jnp.maximum(jnp.sum(mask, axes, keepdims=True), 1).astype(x.dtype)
    mean = jnp.sum(jnp.where(mask, x, 0), axes, keepdims=True) / count
    deviation = jnp.where(mask, x - mean, 0)
    return mean, jnp.sum(jnp.square(deviation), axes, keepdims=True) / count


def standardize(
    x: Float[Array, "*shape"],
    mean: Real[Array, "*#shape"],
    variance: Float[Array, "*#shape"],
    gamma: Real[Array, "*#shape"] | None = None,
    beta: Real[Array, "*#shape"] | None = None,
    epsilon: float = 1e-3,
) -> Float[Array, "*shape"]:
    r""":math:`\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`, in the dtype of ``x``.

    Args:
        x: any shape.
        mean: :math:`\mu`; like the next three, broadcast to the shape of ``x``.
        variance: :math:`\sigma^2`.
        gamma: :math:`\gamma`, one if there is none.
        beta: :math:`\beta`, zero if there is none.
        epsilon: :math:`\epsilon`.
    """
    factor = lax.rsqrt(variance + jnp.asarray(epsilon, variance.dtype))
    if gamma is not None:
        factor = factor * gamma.astype(factor.dtype)
    result = (widened(x) - mean) * factor
    if beta is not None:
        result = result + beta.astype(result.dtype)
    return result.astype(x.dtype)


def along(vector: Real[Array, "*lengths"] | None, axes: Sequence[int], ndim: int) -> Real[Array, "*spread"] | None:
    """``vector`` with its axes at ``axes`` of ``ndim``, the others of length 1; ``None`` stays ``None``."""
    if vector is None:
        return None
    lengths = iter(vector.shape)
    return vector.reshape([next(lengths) if axis in axes else 1 for axis in range(ndim)])


def layer_norm(
    x: Float[Array, "*shape"],
    gamma: Real[Array, "*lengths"] | None = None,
    beta: Real[Array, "*lengths"] | None = None,
    axis: int | Sequence[int] = -1,
    epsilon: float = 1e-3,
) -> Float[Array, "*shape"]:
    """Normalize each example along ``axis``.

    Args:
        x: any shape.
        gamma: what to multiply by, with one axis for each of ``axis``.
        beta: what to add, likewise.
        axis: the axes that share mean and variance.
        epsilon: added to the variance.

    Ba et al. (2016), https://arxiv.org/abs/1607.06450

    >>> layer_norm(jnp.array([[-1.0, 1.0]]), epsilon=0.0).tolist()
    [[-1.0, 1.0]]
    """
    axes = positive_axes(axis, x.ndim)
    if axes == (x.ndim - 1,):
        return _normalized(x, gamma, beta, epsilon, centered=True)
    mean, variance = moments(x, axes)
    return standardize(x, mean, variance, along(gamma, axes, x.ndim), along(beta, axes, x.ndim), epsilon)


def rms_norm(
    x: Float[Array, "*shape"],
    scale: Real[Array, "*lengths"] | None = None,
    axis: int | Sequence[int] = -1,
    epsilon: float = 1e-6,
) -> Float[Array, "*shape"]:
    r"""Divide by the root of the mean square, :math:`s \, x / \sqrt{E[x^2] + \epsilon}`.

    Args:
        x: any shape.
        scale: :math:`s`, with one axis for each of ``axis``.
        axis: the axes to average over.
        epsilon: :math:`\epsilon`.

    Zhang and Sennrich (2019), https://arxiv.org/abs/1910.07467

    >>> rms_norm(jnp.array([[3.0, -3.0]]), epsilon=0.0).tolist()
    [[1.0, -1.0]]
    """
    axes, exact = positive_axes(axis, x.ndim), widened(x)
    if axes == (x.ndim - 1,):
        return _normalized(x, scale, None, epsilon, centered=False)
    mean_square = jnp.mean(jnp.square(exact), axes, keepdims=True)
    result = exact * lax.rsqrt(mean_square + jnp.asarray(epsilon, exact.dtype))
    if scale is not None:
        result = result * along(scale, axes, x.ndim).astype(exact.dtype)  # type: ignore[union-attr]
    return result.astype(x.dtype)


def group_norm(
    x: Float[Array, "*shape"],
    groups: int,
    gamma: Real[Array, " channels"] | None = None,
    beta: Real[Array, " channels"] | None = None,
    axis: int = -1,
    epsilon: float = 1e-3,
) -> Float[Array, "*shape"]:
    """Normalize each example within groups of channels, over all other axes.

    Args:
        x: shape ``(batch, ...)``.
        groups: the number of groups, a divisor of the number of channels.
        gamma: what to multiply by, shape ``(channels,)``.
        beta: what to add, likewise.
        axis: the axis of channels.
        epsilon: added to the variance.

    Wu and He (2018), https://arxiv.org/abs/1803.08494

    >>> group_norm(jnp.array([[-1.0, 1.0, 10.0, 14.0]]), groups=2, epsilon=0.0).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    (axis,) = positive_axes(axis, x.ndim)
    channels = x.shape[axis]
    if groups < 1 or channels % groups:
        raise ShapeError(f"{channels} channels cannot be split into {groups} groups of the same size")
    split = x.reshape(*x.shape[:axis], groups, channels // groups, *x.shape[axis + 1 :])
    mean, variance = moments(split, [a for a in range(1, split.ndim) if a != axis])
    gamma, beta = (
        None if v is None else along(v.reshape(groups, -1), (axis, axis + 1), split.ndim) for v in (gamma, beta)
    )
    return standardize(split, mean, variance, gamma, beta, epsilon).reshape(x.shape)


def unit_norm(
    x: Float[Array, "*shape"], axis: int | Sequence[int] = -1, epsilon: float = 1e-12
) -> Float[Array, "*shape"]:
    """Divide by the Euclidean norm along ``axis``, or by ``epsilon`` where that is more; zero stays zero.

    >>> unit_norm(jnp.array([[3.0, 4.0], [0.0, 0.0]])).round(1)
    Array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    exact = widened(x)
    square = jnp.sum(jnp.square(exact), positive_axes(axis, x.ndim), keepdims=True)
    # the bound is put on the square, so that the gradient at zero is finite
    return (exact * lax.rsqrt(jnp.maximum(square, jnp.asarray(epsilon**2, exact.dtype)))).astype(x.dtype)


def again(x: Shaped[Array, "*shape"], normal: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """``x``, for a second use, where ``normal`` is the result of a normalization and ``x`` that or its input.

    Of any other arrays ``x`` itself.

    >>> again(jnp.array([1.0, 3.0]), layer_norm(jnp.array([1.0, 3.0]))).tolist()
    [1.0, 3.0]
    """
    doubles = _doubles.read(normal)
    if doubles is None:
        return x
    of_result, source, of_source = doubles
    return of_result if x is normal else of_source if x is source else x


def _normalized(x: Array, gamma: Array | None, beta: Array | None, epsilon: float, *, centered: bool) -> Array:
    settings = {"epsilon": float(epsilon), "centered": centered}
    normal, of_result, of_source = LAYER_NORM(x, *of_columns(x, gamma, beta), **settings)
    if isinstance(normal, jax.core.Tracer):
        _doubles.write(normal, (of_result, x, of_source))
    return normal


def of_columns(x: Array, gamma: Array | None, beta: Array | None) -> tuple[Array, Array]:
    """Scale and offset of the columns in the precision of the computation, empty where there is none."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    return tuple(jnp.zeros(0, dtype) if v is None else v.astype(dtype) for v in (gamma, beta))  # type: ignore[return-value]


def affine(normal: Array, gamma: Array, beta: Array) -> Array:
    """``normal`` times ``gamma`` plus ``beta``, of which an empty one is none."""
    normal = normal * gamma if gamma.size else normal
    return normal + beta if beta.size else normal


def _layer_norm(x: Array, gamma: Array, beta: Array, *, epsilon: float, centered: bool) -> tuple[Array, Array, Array]:
    """The result, and mean and inverse deviation of each row."""
    exact = widened(x)
    mean = jnp.mean(exact, -1, keepdims=True) if centered else jnp.zeros((*x.shape[:-1], 1), exact.dtype)
    square = jnp.mean(jnp.square(exact - mean), -1, keepdims=True)
    scale = lax.rsqrt(square + jnp.asarray(epsilon, exact.dtype))
    return affine((exact - mean) * scale, gamma, beta).astype(x.dtype), mean[..., 0], scale[..., 0]


def _layer_norm_gradient(
    x: Array, gamma: Array, mean: Array, scale: Array, gradient: Array, second: Array, more: Array, *, centered: bool
) -> tuple[Array, Array, Array]:
    """The gradients, where ``second`` is to be added to that of the result, and ``more`` to that of ``x``, if not empty."""
    scale, given, rows = scale[..., None], widened(gradient), tuple(range(x.ndim - 1))
    given = given + widened(second) if second.size else given
    normal = (widened(x) - mean[..., None]) * scale
    weighted = given * gamma if gamma.size else given
    change = weighted - normal * jnp.mean(weighted * normal, -1, keepdims=True)
    change = change - jnp.mean(weighted, -1, keepdims=True) if centered else change
    of_x = change * scale + widened(more) if more.size else change * scale
    return of_x.astype(x.dtype), jnp.sum(given * normal, rows), jnp.sum(given, rows)


def native_supports(x: Any, *others: Any, **settings: Any) -> bool:
    """Whether the native kernels take an array like ``x``."""
    return x.dtype == "float32" and x.size > 0


def half_takes(x: Any, *others: Any, exact: int) -> bool:
    """Whether ``x`` and what is like it are bfloat16, and so many arrays between, of rows and columns, float32."""
    return all(a.dtype == "float32" for a in others[:exact]) and all(a.dtype == x.dtype for a in others[exact:])


def shapes(x: Array, *others: tuple[int, ...]) -> list[jax.ShapeDtypeStruct]:
    """Shape and dtype of a native result like ``x``, and of others, in float32, of the shapes given."""
    return [jax.ShapeDtypeStruct(x.shape, x.dtype), *(jax.ShapeDtypeStruct(shape, "float32") for shape in others)]


def _layer_norm_native(x: Array, gamma: Array, beta: Array, *, epsilon: float, centered: bool) -> Any:
    rows = x.shape[:-1]
    settings: dict[str, Any] = {"epsilon": np.float32(epsilon), "centered": bool(centered)}
    return call(of_dtype("layer_norm", x), shapes(x, rows, rows), x, gamma, beta, **settings)


def columns_native(target: str, x: Array, *arrays: Array, **settings: Any) -> Any:
    """A native kernel that gives an array like ``x`` and two with a number for each column."""
    settings = {name: np.float32(v) if isinstance(v, float) else v for name, v in settings.items()}
    return call(of_dtype(target, x), shapes(x, x.shape[-1:], x.shape[-1:]), x, *arrays, **settings)


def sized(primals: Sequence[Array], gradients: Sequence[Array]) -> list[Array]:
    """Gradients of what was there; empty for what was not."""
    return [g if p.size else p for p, g in zip(primals, gradients, strict=True)]


def _layer_norm_backward(
    primals: Any, residuals: Any, gradients: Any, wanted: Any, *, epsilon: float, centered: bool
) -> list[Array]:
    (x, gamma, beta), (*of_result, more) = primals, gradients
    first, *others = [g for g in of_result if g is not None] or [None]
    if first is None:
        return [more, jnp.zeros_like(gamma), jnp.zeros_like(beta)]
    nothing = jnp.zeros(0, x.dtype)
    given = first, others[0] if others else nothing, nothing if more is None else more
    return sized(primals, LAYER_NORM_GRADIENT(x, gamma, *residuals, *given, centered=centered))


def _layer_norm_forward(x: Array, *others: Array, **settings: Any) -> tuple[list[Array], Any]:
    y, *residuals = LAYER_NORM_FORWARD(x, *others, **settings)
    return [y, y, x], residuals


def _with_doubles(form: Any) -> Any:
    """The result of ``form`` twice, and its first argument."""

    def doubled(x: Array, *others: Array, **settings: Any) -> tuple[Array, Array, Array]:
        y = form(x, *others, **settings)[0]
        return y, y, x

    return doubled


LAYER_NORM = Operation(
    "layer_norm",
    _with_doubles(_layer_norm),
    multiple=True,
    native=_with_doubles(_layer_norm_native),
    targets=["layer_norm"],
    half=_with_doubles(_layer_norm_native),
    half_targets=["half_layer_norm"],
    half_takes=functools.partial(half_takes, exact=2),
    supports=native_supports,
    forward=_layer_norm_forward,
    backward=_layer_norm_backward,
    sparse=True,
)
LAYER_NORM_FORWARD = Operation(
    "layer_norm_forward",
    _layer_norm,
    multiple=True,
    native=_layer_norm_native,
    targets=["layer_norm"],
    half=_layer_norm_native,
    half_targets=["half_layer_norm"],
    half_takes=functools.partial(half_takes, exact=2),
    supports=native_supports,
)
LAYER_NORM_GRADIENT = Operation(
    "layer_norm_gradient",
    _layer_norm_gradient,
    multiple=True,
    native=functools.partial(columns_native, "layer_norm_gradient"),
    targets=["layer_norm_gradient"],
    half=functools.partial(columns_native, "layer_norm_gradient"),
    half_targets=["half_layer_norm_gradient"],
    half_takes=functools.partial(half_takes, exact=3),
    supports=native_supports,
)
