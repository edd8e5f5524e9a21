"""Activation functions with settings or weights of their own, as layers."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina import activations
from lamina.core import registry
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape
from lamina.core.state import Array
from lamina.kernels.attention import masked_softmax
from lamina.layers.base import InputSpec, Layer, layer

__all__ = ["ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax"]


def _checked(owner: Layer, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ConfigError(f"{type(owner).__name__} expects {name} as a number of at least 0; received {value!r}")
    return value


@layer
class ReLU(Layer):
    r"""Rectified linear unit: :math:`\min(x, m)` where :math:`x > t`, and :math:`a (x - t)` elsewhere.

    Args:
        max_value: the ceiling :math:`m`; ``None`` for no ceiling.
        negative_slope: the slope :math:`a` below the threshold.
        threshold: the threshold :math:`t`.

    >>> ReLU(max_value=6.0)(jnp.array([[-1.0, 2.0, 9.0]])).tolist()
    [[0.0, 2.0, 6.0]]
    """

    supports_masking = True

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.max_value = None if max_value is None else _checked(self, "max_value", max_value)
        self.negative_slope = _checked(self, "negative_slope", negative_slope)
        self.threshold = _checked(self, "threshold", threshold)

    def call(self, inputs: Array) -> Array:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


@layer
class LeakyReLU(Layer):
    """Leaky rectified linear unit: ``x`` from zero on, ``negative_slope * x`` below.

    Args:
        negative_slope: the slope below zero.

    >>> LeakyReLU(0.5)(jnp.array([[-2.0, 2.0]])).tolist()
    [[-1.0, 2.0]]
    """

    supports_masking = True

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.negative_slope = _checked(self, "negative_slope", negative_slope)

    def call(self, inputs: Array) -> Array:
        return activations.leaky_relu(inputs, self.negative_slope)


@layer
class ELU(Layer):
    r"""Exponential linear unit: :math:`x` above zero, :math:`\alpha (e^x - 1)` below.

    Args:
        alpha: :math:`\alpha`; minus the limit far below zero.

    Clevert et al. (2015), https://arxiv.org/abs/1511.07289
    """

    supports_masking = True

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = _checked(self, "alpha", alpha)

    def call(self, inputs: Array) -> Array:
        return activations.elu(inputs, self.alpha)


@layer
class PReLU(Layer):
    r"""Rectified linear unit whose slope below zero is learned: :math:`\max(x, 0) + \alpha \min(x, 0)`.

    Args:
        alpha_initializer: how :math:`\alpha`, of the shape of one example, starts.
        alpha_regularizer: a penalty on :math:`\alpha`.
        alpha_constraint: applied to :math:`\alpha` after each update.
        shared_axes: axes along which :math:`\alpha` is the same, as ``[1, 2]`` for one value per channel of pictures.

    He et al. (2015), https://arxiv.org/abs/1502.01852

    >>> PReLU("ones")(jnp.array([[-2.0, 2.0]])).tolist()
    [[-2.0, 2.0]]
    """

    supports_masking = True

    def __init__(
        self,
        alpha_initializer: Any = "zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alpha_initializer = registry.get("initializers", alpha_initializer)
        self.alpha_regularizer = registry.get("regularizers", alpha_regularizer)
        self.alpha_constraint = registry.get("constraints", alpha_constraint)
        axes = [shared_axes] if isinstance(shared_axes, int) else shared_axes
        if axes is not None and not all(isinstance(axis, int) and axis != 0 for axis in axes):
            raise ConfigError(
                f"PReLU expects shared_axes as whole numbers other than 0, the batch's axis; received {shared_axes!r}"
            )
        self.shared_axes = None if axes is None else list(axes)

    def build(self, input_shape: Shape) -> None:
        ndim = len(input_shape)
        shared = {axis % ndim for axis in self.shared_axes or ()}
        lengths = {axis: self.axis_length(input_shape, axis) for axis in range(1, ndim) if axis not in shared}
        self.alpha = self.add_weight(
            [lengths.get(axis, 1) for axis in range(1, ndim)],
            self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
            name="alpha",
        )
        self.input_spec = InputSpec(ndim=ndim, axes=dict(lengths))

    def call(self, inputs: Array) -> Array:
        return activations.relu(inputs) - self.alpha.value * activations.relu(-inputs)


@layer
class Softmax(Layer):
    r"""Probabilities, :math:`e^{x_i} / \sum_j e^{x_j}`; masked entries get zero.

    Args:
        axis: the axis or axes that sum to one.

    A mask is True for entries that take part. It is broadcast to the input, or, with the shape of the input's first
    axes, says so of all that stands there (such as the steps of a sequence). Where nothing takes part, all is zero.

    >>> Softmax()(jnp.zeros((1, 2)), mask=jnp.array([[True, False]])).tolist()
    [[1.0, 0.0]]
    """

    supports_masking = True

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        axes = axis if isinstance(axis, list | tuple) else [axis]
        if not axes or not all(isinstance(a, int) and not isinstance(a, bool) for a in axes):
            raise ConfigError(f"Softmax expects axis as a whole number or several; received {axis!r}")
        self.axis = axis

    def call(self, inputs: Array, mask: Array | None = None) -> Array:
        axis = self.axis if isinstance(self.axis, int) else tuple(self.axis)
        return masked_softmax(inputs, None if mask is None else self._broadcast(jnp.asarray(mask), inputs), axis)

    def _broadcast(self, mask: Array, inputs: Array) -> Array:
        mask = mask if mask.dtype == bool else mask > 0.5
        for shape in (mask.shape, mask.shape + (1,) * (inputs.ndim - mask.ndim)):
            pairs = zip(reversed(shape), reversed(inputs.shape), strict=False)
            if len(shape) <= inputs.ndim and all(m in (1, n) for m, n in pairs):
                return mask.reshape(shape)
        raise ShapeError(
            f"layer {self.name!r} (Softmax) expected a mask that broadcasts to its input of shape {inputs.shape}; "
            f"received one of shape {mask.shape}"
        )
