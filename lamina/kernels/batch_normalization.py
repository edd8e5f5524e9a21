"""Batch normalization, with what follows it, an addition and a rectifier, in the same pass over memory.

Where a convolution made what is normalized, its results are looked at, and their gradients worked out, while they are near.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lamina.core.notes import Notes
from lamina.core.typing import Array, Float, Real, Shaped
from lamina.kernels import normalization
from lamina.kernels.batch_normalization_operations import BATCH_MOMENTS, BATCH_NORM
from lamina.kernels.normalized_convolution import CONVOLUTION_MOMENTS, NORMALIZED_CONVOLUTION, Convolved, convolved


class BatchNormalized(NamedTuple):
    """How an array was made by :func:`batch_norm`: of ``x``, with the mean and variance of its channels."""

    x: Array
    gamma: Array
    beta: Array
    mean: Array
    variance: Array
    epsilon: float
    source: Convolved | None  # what x is the convolution of, if it is known

    def finished(self, more: Array | None = None, slope: float = 1.0) -> Array:
        """The result, after ``more`` was added to it and what is below zero was multiplied by ``slope``."""
        more = jnp.zeros(0, self.x.dtype) if more is None else more
        others = self.gamma, self.beta, self.mean, self.variance, more
        settings = {"epsilon": float(self.epsilon), "slope": float(slope)}
        if self.source is None:
            return BATCH_NORM(self.x, *others, **settings)
        return NORMALIZED_CONVOLUTION(*self.source.arrays, self.x, *others, **self.source.settings, **settings)


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
    source = convolved(x)
    if source is None:
        mean, variance = BATCH_MOMENTS(x)
    else:  # nothing needs the first x any more, so that it is not computed, unless it serves for something else
        x, mean, variance = CONVOLUTION_MOMENTS(*source.arrays, **source.settings)
    normalized = BatchNormalized(x, *normalization.of_columns(x, gamma, beta), mean, variance, epsilon, source)
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
