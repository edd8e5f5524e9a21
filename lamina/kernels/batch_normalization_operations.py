"""What batch normalization is made of: means and variances of channels, what is made of them, and the gradients of that."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from lamina.core.typing import Array
from lamina.kernels import normalization
from lamina.kernels.operation import Operation, call, of_dtype
from lamina.kernels.slopes import activate, undo


def _batch_moments(x: Array) -> tuple[Array, Array]:
    mean, variance = normalization.moments(x, range(x.ndim - 1))
    return mean.reshape(-1), variance.reshape(-1)


def _batch_moments_backward(primals: Any, results: Any, gradients: Any, wanted: Any) -> list[Array]:
    (x,), (mean, _), (mean_given, variance_given) = primals, results, gradients
    count = x.size // x.shape[-1]
    return [((mean_given + 2 * variance_given * (normalization.widened(x) - mean)) / count).astype(x.dtype)]


def _batch_norm(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, more: Array, *, epsilon: float, slope: float
) -> Array:
    # Those given are these; but derivatives, of any order, are to count in that they depend on x.
    mean, variance = _batch_moments(x)
    scale = lax.rsqrt(variance + jnp.asarray(epsilon, variance.dtype))
    y = normalization.affine((normalization.widened(x) - mean) * scale, gamma, beta)
    return activate(y, normalization.widened(more), slope).astype(x.dtype)


def _batch_norm_gradient(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    gradient: Array,
    *,
    epsilon: float,
    slope: float,
) -> tuple[Array, Array, Array]:
    rows, given, deviation = tuple(range(x.ndim - 1)), normalization.widened(gradient), normalization.widened(x) - mean
    scale = lax.rsqrt(variance + jnp.asarray(epsilon, variance.dtype))
    given = undo(given, normalization.affine(deviation * scale, gamma, beta), slope)
    total, projected = jnp.sum(given, rows), jnp.sum(given * deviation, rows)
    weight, count = scale * gamma if gamma.size else scale, x.size // x.shape[-1]
    change = given * weight - (deviation * jnp.square(scale) * projected + total) * weight / count
    return change.astype(x.dtype), projected * scale, total


def _batch_moments_native(x: Array) -> Any:
    return call(of_dtype("batch_moments", x), normalization.shapes(x, x.shape[-1:], x.shape[-1:])[1:], x)


def _batch_norm_native(x: Array, *arrays: Array, epsilon: float, slope: float) -> Any:
    settings: dict[str, Any] = {"epsilon": np.float32(epsilon), "slope": np.float32(slope)}
    return call(of_dtype("batch_norm", x), normalization.shapes(x)[0], x, *arrays, **settings)


def _batch_norm_backward(
    primals: Any, results: Any, gradients: Any, wanted: Any, *, epsilon: float, slope: float
) -> list[Array | None]:
    (x, gamma, beta, mean, variance, more), (y,), (given,) = primals, results, gradients
    if more.size:  # whose gradient is that in front of the activation
        given, slope = undo(given, y, slope), 1.0
    found = BATCH_NORM_GRADIENT(x, gamma, beta, mean, variance, given, epsilon=epsilon, slope=slope)
    return [*normalization.sized((x, gamma, beta), found), None, None, given if more.size else more]


BATCH_MOMENTS = Operation(
    "batch_moments",
    _batch_moments,
    multiple=True,
    native=_batch_moments_native,
    targets=["batch_moments"],
    half=_batch_moments_native,
    half_targets=["half_batch_moments"],
    half_takes=functools.partial(normalization.half_takes, exact=0),
    supports=normalization.native_supports,
    backward=_batch_moments_backward,
)
BATCH_NORM = Operation(
    "batch_norm",
    _batch_norm,
    native=_batch_norm_native,
    targets=["batch_norm"],
    half=_batch_norm_native,
    half_targets=["half_batch_norm"],
    half_takes=functools.partial(normalization.half_takes, exact=4),
    supports=normalization.native_supports,
    backward=_batch_norm_backward,
)
BATCH_NORM_GRADIENT = Operation(
    "batch_norm_gradient",
    _batch_norm_gradient,
    multiple=True,
    native=functools.partial(normalization.columns_native, "batch_norm_gradient"),
    targets=["batch_norm_gradient"],
    half=functools.partial(normalization.columns_native, "batch_norm_gradient"),
    half_targets=["half_batch_norm_gradient"],
    half_takes=functools.partial(normalization.half_takes, exact=4),
    supports=normalization.native_supports,
)
