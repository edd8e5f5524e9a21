"""Layers that bring their input to mean 0 and variance 1, or to length 1, over a batch or within each example."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from lamina.core import registry
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape
from lamina.core.state import Array
from lamina.kernels import normalization as kernels
from lamina.kernels.batch_normalization import batch_norm
from lamina.layers.base import InputSpec, Layer, layer

__all__ = [
    "BatchNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "UnitNormalization",
]

Axis = int | Sequence[int]


def _checked_axis(owner: Layer, axis: Axis) -> Axis:
    axes: list[Any] = list(axis) if isinstance(axis, Sequence) else [axis]
    if not axes or not all(isinstance(a, int) and not isinstance(a, bool) for a in axes):
        raise ConfigError(
            f"{type(owner).__name__} expects axis as a whole number or several; received {axis!r}.\n"
            "Write:  axis=-1  for the last axis."
        )
    return axes if isinstance(axis, Sequence) else axis


def _checked_epsilon(owner: Layer, epsilon: float) -> float:
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or epsilon < 0:
        raise ConfigError(f"{type(owner).__name__} expects epsilon as a number of at least 0; received {epsilon!r}")
    return epsilon


class _Affine(Layer):
    """What the layers with a scale gamma and an offset beta have in common."""

    supports_masking = True
    divides = True

    def __init__(
        self,
        *,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.epsilon, self.center, self.scale = _checked_epsilon(self, epsilon), center, scale
        self.beta_initializer = registry.get("initializers", beta_initializer)
        self.gamma_initializer = registry.get("initializers", gamma_initializer)
        self.beta_regularizer = registry.get("regularizers", beta_regularizer)
        self.gamma_regularizer = registry.get("regularizers", gamma_regularizer)
        self.beta_constraint = registry.get("constraints", beta_constraint)
        self.gamma_constraint = registry.get("constraints", gamma_constraint)

    def make_scale_and_offset(self, shape: Sequence[int], scale: bool, center: bool) -> None:
        """Make gamma and beta. They are read as they are kept: the arithmetic has single precision at least."""
        self.gamma = self.beta = None
        if scale:
            self.gamma = self.add_weight(
                shape,
                self.gamma_initializer,
                autocast=False,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
                name="gamma",
            )
        if center:
            self.beta = self.add_weight(
                shape,
                self.beta_initializer,
                autocast=False,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
                name="beta",
            )

    def scale_and_offset(self) -> tuple[Array | None, Array | None]:
        """The values of gamma and beta."""
        gamma, beta = self.gamma, self.beta
        return None if gamma is None else gamma.value, None if beta is None else beta.value


@layer
class BatchNormalization(_Affine):
    r"""Normalize each channel over the batch, :math:`y = \gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`.

    In training :math:`\mu` and :math:`\sigma^2` are those of the batch, and the moving statistics follow them,
    :math:`m \leftarrow p m + (1 - p) \mu`. Otherwise, and if ``trainable`` is False, they are the moving statistics.

    Args:
        axis: the axis of channels.
        momentum: how much of the moving statistics stays at each step, :math:`p`.
        epsilon: :math:`\epsilon`, against division by zero.
        center: whether there is an offset :math:`\beta`.
        scale: whether there is a factor :math:`\gamma`.
        beta_initializer: how :math:`\beta`, of shape ``(channels,)``, starts.
        gamma_initializer: how :math:`\gamma`, of shape ``(channels,)``, starts.
        moving_mean_initializer: how the moving mean starts.
        moving_variance_initializer: how the moving variance starts.
        beta_regularizer: a penalty on :math:`\beta`.
        gamma_regularizer: a penalty on :math:`\gamma`.
        beta_constraint: applied to :math:`\beta` after each update.
        gamma_constraint: applied to :math:`\gamma` after each update.
        renorm: batch renormalization: in training, correct towards statistics that move too, so that small batches
            train as inference will run.
        renorm_clipping: bounds of that correction, any of ``{"rmin": ..., "rmax": ..., "dmax": ...}``.
        renorm_momentum: how much of the statistics of the correction stays at each step.
        synchronized: accepted; a step that runs on several devices is one program with one batch, so it always is.

    A mask, of shape ``(batch, steps)``, says which steps count towards the statistics.

    Ioffe and Szegedy (2015), https://arxiv.org/abs/1502.03167; Ioffe (2017), https://arxiv.org/abs/1702.03275

    >>> norm = BatchNormalization(epsilon=0.0)
    >>> norm(jnp.array([[1.0], [3.0]]), training=True).tolist()
    [[-1.0], [1.0]]
    >>> norm.moving_mean.numpy().round(4)
    array([0.02], dtype=float32)
    """

    mixes_rows = True

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: dict[str, float] | None = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise ConfigError(f"BatchNormalization expects axis as one whole number; received {axis!r}")
        for name, value in (("momentum", momentum), ("renorm_momentum", renorm_momentum)):
            if not 0 <= value <= 1:
                raise ConfigError(f"BatchNormalization expects {name} from 0 to 1; received {value!r}")
        bounds = renorm_clipping or {}
        if set(bounds) - {"rmin", "rmax", "dmax"} or bounds.get("rmax", 1) < bounds.get("rmin", 0):
            raise ConfigError(
                "BatchNormalization expects renorm_clipping with the keys rmin, rmax (not below rmin) and dmax; "
                f"received {renorm_clipping!r}"
            )
        self.axis, self.momentum, self.synchronized = axis, float(momentum), synchronized
        self.moving_mean_initializer = registry.get("initializers", moving_mean_initializer)
        self.moving_variance_initializer = registry.get("initializers", moving_variance_initializer)
        self.renorm, self.renorm_clipping, self.renorm_momentum = renorm, renorm_clipping, float(renorm_momentum)

    def build(self, input_shape: Shape) -> None:
        kernels.positive_axes(self.axis, len(input_shape))
        shape = (self.axis_length(input_shape, self.axis),)
        self.make_scale_and_offset(shape, self.scale, self.center)

        def statistic(name: str, initializer: Any) -> Any:
            return self.add_weight(shape, initializer, trainable=False, autocast=False, name=name)

        def root(shape: Shape, dtype: Any = None, key: Array | None = None) -> Array:
            return jnp.sqrt(self.moving_variance_initializer(shape, dtype=dtype))

        self.moving_mean = statistic("moving_mean", self.moving_mean_initializer)
        self.moving_variance = statistic("moving_variance", self.moving_variance_initializer)
        if self.renorm:
            self.moving_stddev = statistic("moving_stddev", root)
            self.renorm_mean = statistic("renorm_mean", self.moving_mean_initializer)
            self.renorm_stddev = statistic("renorm_stddev", root)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: shape[0]})

    def call(self, inputs: Array, training: bool = False, mask: Array | None = None) -> Array:
        channels = kernels.positive_axes(self.axis, inputs.ndim)
        gamma, beta = self.scale_and_offset()
        if training and self.trainable and mask is None and not self.renorm and channels == (inputs.ndim - 1,):
            result, mean, variance = batch_norm(inputs, gamma, beta, self.epsilon)
            _follow(self.moving_mean, mean, self.momentum)
            _follow(self.moving_variance, variance, self.momentum)
            return result
        if training and self.trainable:
            others = [axis for axis in range(inputs.ndim) if axis not in channels]
            moments = kernels.moments(inputs, others, self._wide(mask, inputs))
            mean, variance = (value.reshape(-1) for value in moments)
            if self.renorm:
                gamma, beta = self._renormalize(mean, variance, gamma, beta)
            else:
                _follow(self.moving_mean, mean, self.momentum)
                _follow(self.moving_variance, variance, self.momentum)
        else:
            mean, variance = self.moving_mean.raw, self.moving_variance.raw
            mean, variance = (v.astype(jnp.promote_types(inputs.dtype, jnp.float32)) for v in (mean, variance))
        wide: list[Any] = [kernels.along(value, channels, inputs.ndim) for value in (mean, variance, gamma, beta)]
        return kernels.standardize(inputs, wide[0], wide[1], wide[2], wide[3], self.epsilon)

    def _wide(self, mask: Array | None, inputs: Array) -> Array | None:
        """The mask with an axis of length 1 for each one of the input that it lacks."""
        if mask is None:
            return None
        if mask.shape != inputs.shape[: mask.ndim] or mask.ndim == inputs.ndim:
            raise ShapeError(
                f"layer {self.name!r} (BatchNormalization) expected a mask of the input's shape without its last axis, "
                f"{inputs.shape[:-1]}; received {mask.shape}"
            )
        return mask.reshape(mask.shape + (1,) * (inputs.ndim - mask.ndim))

    def _renormalize(
        self, mean: Array, variance: Array, gamma: Array | None, beta: Array | None
    ) -> tuple[Array, Array]:
        """Gamma and beta with the correction in them; the statistics follow."""
        stddev = jnp.sqrt(variance + self.epsilon)
        reference = jnp.maximum(self.renorm_stddev.raw.astype(stddev.dtype), self.epsilon**0.5)
        bounds = self.renorm_clipping or {}
        ratio = jnp.clip(stddev / reference, bounds.get("rmin"), bounds.get("rmax"))
        shift = (mean - self.renorm_mean.raw) / reference
        if "dmax" in bounds:
            shift = jnp.clip(shift, -bounds["dmax"], bounds["dmax"])
        ratio, shift = lax.stop_gradient((ratio, shift))
        _follow(self.renorm_mean, mean, self.renorm_momentum)
        _follow(self.renorm_stddev, stddev, self.renorm_momentum)
        _follow(self.moving_mean, mean, self.momentum)
        _follow(self.moving_stddev, stddev, self.momentum)
        self.moving_variance.assign(jnp.maximum(jnp.square(self.moving_stddev.raw) - self.epsilon, 0))
        factor = 1.0 if gamma is None else gamma
        return ratio * factor, shift * factor + (0.0 if beta is None else beta)


def _follow(statistic: Any, new: Array, momentum: float) -> None:
    statistic.assign(statistic.raw * momentum + new * (1 - momentum))


@layer
class LayerNormalization(_Affine):
    r"""Normalize each example by itself, :math:`y = \gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta`.

    Args:
        axis: the axis or axes that share :math:`\mu` and :math:`\sigma^2`; :math:`\gamma` and :math:`\beta` have them.
        epsilon: :math:`\epsilon`, against division by zero.
        center: whether there is an offset :math:`\beta`.
        scale: whether there is a factor :math:`\gamma`.
        beta_initializer: how :math:`\beta` starts.
        gamma_initializer: how :math:`\gamma` starts.
        beta_regularizer: a penalty on :math:`\beta`.
        gamma_regularizer: a penalty on :math:`\gamma`.
        beta_constraint: applied to :math:`\beta` after each update.
        gamma_constraint: applied to :math:`\gamma` after each update.
        rms_scaling: :math:`\gamma x / \sqrt{\sigma^2 + \epsilon}` instead, as older programs have it; for division by
            the root mean square see :class:`RMSNormalization`.

    Ba et al. (2016), https://arxiv.org/abs/1607.06450

    >>> LayerNormalization(epsilon=0.0)(jnp.array([[1.0, 3.0]])).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(
        self,
        axis: Axis = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        rms_scaling: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
        self.axis, self.rms_scaling = _checked_axis(self, axis), rms_scaling

    def build(self, input_shape: Shape) -> None:
        axes = kernels.positive_axes(self.axis, len(input_shape))
        shape = tuple(self.axis_length(input_shape, axis) for axis in axes)
        self.make_scale_and_offset(shape, self.scale or self.rms_scaling, self.center and not self.rms_scaling)
        self.input_spec = InputSpec(ndim=len(input_shape), axes=dict(zip(axes, shape, strict=True)))

    def call(self, inputs: Array) -> Array:
        gamma, beta = self.scale_and_offset()
        if not self.rms_scaling:
            return kernels.layer_norm(inputs, gamma, beta, self.axis, self.epsilon)
        axes = kernels.positive_axes(self.axis, inputs.ndim)
        mean, variance = kernels.moments(inputs, axes)
        wide = kernels.along(gamma, axes, inputs.ndim)
        return kernels.standardize(inputs, jnp.zeros_like(mean), variance, wide, epsilon=self.epsilon)


@layer
class GroupNormalization(_Affine):
    r"""Normalize each example within groups of channels, over all other axes.

    Args:
        groups: the number of groups, a divisor of the number of channels; 1 normalizes over all of them, -1 over each
            one alone (instance normalization).
        axis: the axis of channels.
        epsilon: added to the variance.
        center: whether there is an offset :math:`\beta`.
        scale: whether there is a factor :math:`\gamma`.
        beta_initializer: how :math:`\beta`, of shape ``(channels,)``, starts.
        gamma_initializer: how :math:`\gamma`, of shape ``(channels,)``, starts.
        beta_regularizer: a penalty on :math:`\beta`.
        gamma_regularizer: a penalty on :math:`\gamma`.
        beta_constraint: applied to :math:`\beta` after each update.
        gamma_constraint: applied to :math:`\gamma` after each update.

    Wu and He (2018), https://arxiv.org/abs/1803.08494

    >>> GroupNormalization(2)(jnp.ones((2, 5, 5, 4))).shape
    (2, 5, 5, 4)
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
        if isinstance(groups, bool) or not isinstance(groups, int) or (groups < 1 and groups != -1):
            raise ConfigError(
                f"GroupNormalization expects groups as a whole number of at least 1, or -1 for one per channel; "
                f"received {groups!r}"
            )
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise ConfigError(f"GroupNormalization expects axis as one whole number; received {axis!r}")
        self.groups, self.axis = groups, axis

    def build(self, input_shape: Shape) -> None:
        kernels.positive_axes(self.axis, len(input_shape))
        channels = self.axis_length(input_shape, self.axis)
        if self.groups != -1 and channels % self.groups:
            divisors = [n for n in range(1, channels + 1) if channels % n == 0]
            raise ShapeError(
                f"layer {self.name!r} (GroupNormalization) expected a number of groups that divides the input's "
                f"{channels} channels; received {self.groups}.\nWrite:  groups=  one of {divisors}"
            )
        self.make_scale_and_offset((channels,), self.scale, self.center)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})

    def call(self, inputs: Array) -> Array:
        groups = inputs.shape[self.axis] if self.groups == -1 else self.groups
        return kernels.group_norm(inputs, groups, *self.scale_and_offset(), self.axis, self.epsilon)


@layer
class RMSNormalization(Layer):
    r"""Divide each example by the root of its mean square, :math:`y = s \, x / \sqrt{E[x^2] + \epsilon}`.

    Args:
        axis: the axis or axes to average over; those of the learned :math:`s` too.
        epsilon: :math:`\epsilon`, against division by zero.

    Zhang and Sennrich (2019), https://arxiv.org/abs/1910.07467

    >>> RMSNormalization()(jnp.array([[3.0, -3.0]])).round(3).tolist()
    [[1.0, -1.0]]
    """

    supports_masking = True
    divides = True

    def __init__(self, axis: Axis = -1, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis, self.epsilon = _checked_axis(self, axis), _checked_epsilon(self, epsilon)

    def build(self, input_shape: Shape) -> None:
        axes = kernels.positive_axes(self.axis, len(input_shape))
        self.scale = self.add_weight([self.axis_length(input_shape, axis) for axis in axes], "ones", name="scale")

    def call(self, inputs: Array) -> Array:
        return kernels.rms_norm(inputs, self.scale.value, self.axis, self.epsilon)


@layer
class UnitNormalization(Layer):
    r"""Divide each example by its Euclidean norm, :math:`y = x / \lVert x \rVert`; zero stays zero.

    Args:
        axis: the axis or axes along which the norm is one.

    >>> UnitNormalization()(jnp.array([[3.0, 4.0]])).round(1)
    Array([[0.6, 0.8]], dtype=float32)
    """

    supports_masking = True
    divides = True

    def __init__(self, axis: Axis = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = _checked_axis(self, axis)

    def call(self, inputs: Array) -> Array:
        return kernels.unit_norm(inputs, self.axis)
