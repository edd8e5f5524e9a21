"""Layers that act in training only: dropout, noise, and a penalty on what passes through."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core import random
from lamina.core.errors import ConfigError
from lamina.core.state import Array
from lamina.layers.base import InputSpec, Layer, layer

__all__ = [
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
]


class _Noise(Layer):
    """A layer that changes its input at random in training, and hands it on as it is otherwise."""

    supports_masking = True
    seed: int | None = None
    #: the argument that says how strong the noise is; at zero nothing changes
    strength = "rate"

    def call(self, inputs: Array, training: bool = False) -> Array:
        if not training or not getattr(self, self.strength):
            return inputs
        key = random.next_key()
        return self.disturb(inputs, key if self.seed is None else jax.random.fold_in(key, self.seed))

    def disturb(self, inputs: Array, key: Array) -> Array:
        """``inputs`` with noise drawn from ``key``."""
        raise NotImplementedError

    def _checked_rate(self, rate: float, most: float = 1.0) -> float:
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= most:
            raise ConfigError(
                f"{type(self).__name__} expects rate as a number from 0 to {'below ' if most < 1 else ''}1; "
                f"received {rate!r}.\nWrite:  {type(self).__name__}(0.5)  to drop one half."
            )
        return rate

    def _checked_noise_shape(self, noise_shape: Sequence[int | None] | None) -> tuple[int | None, ...] | None:
        if noise_shape is None:
            return None
        valid = isinstance(noise_shape, Sequence) and all(
            n is None or (isinstance(n, int) and not isinstance(n, bool) and n > 0) for n in noise_shape
        )
        if not valid:
            raise ConfigError(
                f"{type(self).__name__} expects noise_shape as whole numbers above 0 or None, one for each axis of its "
                f"input; received {noise_shape!r}.\nWrite:  noise_shape=(None, 1, None)  for one mask for all steps."
            )
        return tuple(noise_shape)


@layer
class Dropout(_Noise):
    """Dropout: in training each entry is zero with probability ``rate``, and the others are divided by ``1 - rate``.

    Args:
        rate: the fraction to drop, from 0 to 1.
        noise_shape: the shape of the mask, broadcast to that of the input; ``None`` in it stands for that axis of the
            input. ``(None, 1, None)`` drops the same features at every step.
        seed: mixed into the key that the masks are drawn from.

    Srivastava et al. (2014), https://jmlr.org/papers/v15/srivastava14a.html

    >>> Dropout(0.5)(jnp.ones((2, 3))).tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rate = self._checked_rate(rate)
        self.noise_shape = self._checked_noise_shape(noise_shape)
        self.seed = seed

    def disturb(self, inputs: Array, key: Array) -> Array:
        return _drop(inputs, self.rate, self.noise_shape, key)


def _drop(inputs: Array, rate: float, noise_shape: Sequence[int | None] | None, key: Array) -> Array:
    if rate >= 1:
        return jnp.zeros_like(inputs)
    return random.dropout(inputs, rate, noise_shape, key=key)


@layer
class SpatialDropout1D(_Noise):
    """Dropout of whole features of a sequence: a feature is dropped at all steps or at none.

    Args:
        rate: the fraction to drop, from 0 to 1.
        seed: mixed into the key that the masks are drawn from.

    Input and output ``(batch, steps, features)``.

    Tompson et al. (2014), https://arxiv.org/abs/1411.4280
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate, self.seed = self._checked_rate(rate), seed
        self.input_spec = InputSpec(ndim=3)

    def disturb(self, inputs: Array, key: Array) -> Array:
        return _drop(inputs, self.rate, (None, 1, None), key)


class _SpatialDropout(_Noise):
    """Dropout of whole feature maps."""

    spatial_axes: int

    def __init__(self, rate: float, data_format: str | None = None, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if data_format not in (None, "channels_last", "channels_first"):
            raise ConfigError(
                f"{type(self).__name__} expects data_format as 'channels_last' or 'channels_first'; "
                f"received {data_format!r}"
            )
        self.rate = self._checked_rate(rate)
        self.data_format = data_format or "channels_last"
        self.seed = seed
        self.input_spec = InputSpec(ndim=self.spatial_axes + 2)

    def disturb(self, inputs: Array, key: Array) -> Array:
        ones = (1,) * self.spatial_axes
        noise_shape = (None, *ones, None) if self.data_format == "channels_last" else (None, None, *ones)
        return _drop(inputs, self.rate, noise_shape, key)


@layer
class SpatialDropout2D(_SpatialDropout):
    """Dropout of whole feature maps of pictures.

    Args:
        rate: the fraction to drop, from 0 to 1.
        data_format: ``"channels_last"`` for ``(batch, height, width, channels)``, or ``"channels_first"``.
        seed: mixed into the key that the masks are drawn from.

    Tompson et al. (2014), https://arxiv.org/abs/1411.4280
    """

    spatial_axes = 2


@layer
class SpatialDropout3D(_SpatialDropout):
    """Dropout of whole feature maps of volumes.

    Args:
        rate: the fraction to drop, from 0 to 1.
        data_format: ``"channels_last"`` for ``(batch, depth, height, width, channels)``, or ``"channels_first"``.
        seed: mixed into the key that the masks are drawn from.

    Tompson et al. (2014), https://arxiv.org/abs/1411.4280
    """

    spatial_axes = 3


@layer
class GaussianNoise(_Noise):
    """In training, add normal noise of mean 0.

    Args:
        stddev: the standard deviation of the noise.
        seed: mixed into the key that the noise is drawn from.
    """

    strength = "stddev"

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if isinstance(stddev, bool) or not isinstance(stddev, int | float) or stddev < 0:
            raise ConfigError(f"GaussianNoise expects stddev as a number of at least 0; received {stddev!r}")
        self.stddev, self.seed = stddev, seed

    def disturb(self, inputs: Array, key: Array) -> Array:
        return inputs + random.normal(inputs.shape, 0.0, self.stddev, inputs.dtype, key=key)


@layer
class GaussianDropout(_Noise):
    r"""In training, multiply by normal noise of mean 1 and standard deviation :math:`\sqrt{r / (1 - r)}`.

    Args:
        rate: :math:`r`, from 0 to below 1; the noise is as strong as that of :class:`Dropout` at this rate.
        seed: mixed into the key that the noise is drawn from.

    Srivastava et al. (2014), https://jmlr.org/papers/v15/srivastava14a.html
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate, self.seed = self._checked_rate(rate, math.nextafter(1.0, 0.0)), seed

    def disturb(self, inputs: Array, key: Array) -> Array:
        stddev = math.sqrt(self.rate / (1 - self.rate))
        return inputs * random.normal(inputs.shape, 1.0, stddev, inputs.dtype, key=key)


#: the scale and alpha of SELU, for which mean 0 and variance 1 are a fixed point
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


@layer
class AlphaDropout(_Noise):
    r"""Dropout for networks of SELU units: what is dropped becomes the value that SELU saturates at.

    With :math:`a' = -1.7581` the result is scaled and shifted so that mean 0 and variance 1 stay as they are.

    Args:
        rate: the fraction to drop, from 0 to below 1.
        noise_shape: the shape of the mask; see :class:`Dropout`.
        seed: mixed into the key that the masks are drawn from.

    Klambauer et al. (2017), https://arxiv.org/abs/1706.02515
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rate = self._checked_rate(rate, math.nextafter(1.0, 0.0))
        self.noise_shape = self._checked_noise_shape(noise_shape)
        self.seed = seed

    def disturb(self, inputs: Array, key: Array) -> Array:
        wanted = self.noise_shape or (None,) * inputs.ndim
        shape = tuple(have if n is None else n for have, n in zip(inputs.shape, wanted, strict=True))
        keep = random.bernoulli(1 - self.rate, shape, key=key)
        saturated = -_SELU_SCALE * _SELU_ALPHA
        factor = ((1 - self.rate) * (1 + self.rate * saturated**2)) ** -0.5
        shift = -factor * saturated * self.rate
        return factor * jnp.where(keep, inputs, jnp.asarray(saturated, inputs.dtype)) + shift


@layer
class ActivityRegularization(Layer):
    r"""Add :math:`l_1 \sum |x| + l_2 \sum x^2`, divided by the batch's size, to the loss; hand :math:`x` on as it is.

    Args:
        l1: the factor :math:`l_1`.
        l2: the factor :math:`l_2`.
    """

    supports_masking = True

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in (("l1", l1), ("l2", l2)):
            if not isinstance(value, int | float) or value < 0:
                raise ConfigError(f"ActivityRegularization expects {name} as a number of at least 0; got {value!r}")
        self.l1, self.l2 = l1, l2

    def call(self, inputs: Array) -> Array:
        exact = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
        self.add_loss((self.l1 * jnp.sum(jnp.abs(exact)) + self.l2 * jnp.sum(jnp.square(exact))) / inputs.shape[0])
        return inputs
