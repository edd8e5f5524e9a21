"""Batch normalization, with what follows it, an addition and a rectifier, in the same pass over memory."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lamina.core.notes import Notes
from lamina.core.typing import Array, Float, Real, Shaped
from lamina.kernels import normalization
from lamina.kernels.operation import Operation, call, of_dtype
from lamina.kernels.slopes import activate, undo


class BatchNormalized(NamedTuple):
    """How an array was made by :func:`batch_norm`: of ``x``, with the mean and variance of its channels."""

    x: Array
    gamma: Array
    beta: Array
    mean: Array
    variance: Array
    epsilon: float

    def finished(self, more: Array | None = None, slope: float = 1.0) -> Array:
        """The result, after ``more`` was added to it and what is below zero was multiplied by ``slope``."""
        more = jnp.zeros(0, self.x.dtype) if more is None else more
        mean, variance = lax.stop_gradient((self.mean, self.variance))  # the gradient of x counts them in
        settings = {"epsilon": float(self.epsilon), "slope": float(slope)}
        return BATCH_NORM(self.x, self.gamma, self.beta, mean, variance, more, **settings)


#: what made arrays, as long as a program is traced: the array that was normalized, and what was added to it
_made = Notes()


def batch_norm(
    x: Float[Array, "*shape"],
    gamma: Real[Array, " channels"] | None = None,
    beta: Real[Array, " channels"] | None = None,
    epsilon: float = 1e-3,
) -> tuple[Float[Array, "*shape"], Float[Array, " channels"], Float[Array, " channels"]]:
    """Normalize each channel over all other axes.

    What :func:`~lamina.kernels.addition.plus` and :func:`rectified` make of the result is done in the same pass over memory.

    Args:
        x: shape ``(..., channels)``.
        gamma: what to multiply by, shape ``(channels,)``.
        beta: what to add, likewise.
        epsilon: added to the variance.

    Returns:
        What has the shape of ``x``, and mean and variance of each channel, ``(channels,)`` each.

    Ioffe and Szegedy (2015), https://arxiv.org/abs/1502.03167

    >>> y, mean, variance = batch_norm(jnp.array([[1.0, 5.0], [3.0, 5.0]]), epsilon=1.0)
    >>> mean.tolist(), variance.tolist(), y[:, 1].tolist()
    ([2.0, 5.0], [1.0, 0.0], [0.0, 0.0])
    """
    mean, variance = BATCH_MOMENTS(x)
    normalized = BatchNormalized(x, *normalization.of_columns(x, gamma, beta), mean, variance, epsilon)
    return _noted(normalized.finished(), normalized, None), mean, variance


def with_normalized(x: Shaped[Array, "*others"], y: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"] | None:
    """``x + y`` where ``y`` was just normalized: what :func:`rectified` makes of it is done in one pass. Else ``None``."""
    normalized, more = _made.read(y) or (None, None)
    if normalized is None or more is not None or (x.shape, x.dtype) != (y.shape, y.dtype):
        return None
    return _noted(x + y, normalized, x)


def rectified(x: Shaped[Array, "*shape"], slope: float = 0.0) -> Shaped[Array, "*shape"]:
    """``x``, but ``slope * x`` where it is below zero; where possible while it is normalized.

    >>> rectified(jnp.array([-2.0, 3.0]), 0.5).tolist()
    [-1.0, 3.0]
    """
    if not isinstance(slope, int | float):
        return jax.nn.leaky_relu(x, slope)
    normalized, more = _made.read(x) or (None, None)
    if normalized is not None:
        return normalized.finished(more, slope)
    return jax.nn.leaky_relu(x, slope) if slope else jax.nn.relu(x)


def _noted(result: Array, normalized: BatchNormalized, more: Array | None) -> Array:
    # Not outside compiled code, which computes what is not used, and where arrays would live as long as the result does.
    if isinstance(result, jax.core.Tracer):
        _made.write(result, (normalized, more))
    return result


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
