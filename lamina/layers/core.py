"""Input, Dense, Activation, Masking, and the layers that run a function."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from lamina.activations import slope_of
from lamina.core import registry
from lamina.core.config import config
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape
from lamina.core.state import Array
from lamina.core.symbolic import SymbolicTensor
from lamina.kernels.dense import dense, dense_gelu
from lamina.kernels.dense_operations import where_present
from lamina.kernels.slopes import gelu_tanh
from lamina.layers.base import InputSpec, Layer, layer


def Input(  # noqa: N802 - Keras's name
    shape: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    dtype: Any = None,
    name: str | None = None,
    batch_shape: Sequence[int | None] | None = None,
) -> SymbolicTensor:
    """The symbolic value that stands for a network's input.

    Args:
        shape: the shape of one example, without the batch axis; ``None`` for axes of any length.
        batch_size: the length of the batch axis, where it never changes.
        dtype: that of the process's policy unless given; ``"string"`` for texts.
        name: the name by which a dictionary of inputs gives it.
        batch_shape: the shape with the batch axis, instead of ``shape`` and ``batch_size``.

    >>> Input((28, 28, 1)).shape
    (None, 28, 28, 1)
    """
    if batch_shape is None:
        if shape is None or isinstance(shape, int):
            raise ConfigError(
                f"Input expects the shape of one example as a tuple; received {shape!r}.\n"
                f"Write:  Input(({shape if isinstance(shape, int) else 'features'},))"
            )
        batch_shape = (batch_size, *shape)
    dtype = dtype if dtype == "string" else jnp.dtype(dtype or config.dtype_policy.compute_dtype)
    return SymbolicTensor(tuple(batch_shape), dtype, name=name)


@layer
class Dense(Layer):
    r"""A fully connected layer, :math:`y = f(x W + b)`.

    Args:
        units: the number of outputs.
        activation: a name or function :math:`f`; the identity if none is given.
        use_bias: whether to add :math:`b`.
        kernel_initializer: how :math:`W`, of shape ``(inputs, units)``, is drawn.
        bias_initializer: how :math:`b`, of shape ``(units,)``, starts.
        kernel_regularizer: a penalty on :math:`W`.
        bias_regularizer: a penalty on :math:`b`.
        activity_regularizer: a penalty on the output.
        kernel_constraint: applied to :math:`W` after each update.
        bias_constraint: applied to :math:`b` after each update.

    Input ``(batch, ..., inputs)``, output ``(batch, ..., units)``.

    >>> Dense(4, activation="relu")(jnp.ones((2, 3))).shape
    (2, 4)
    """

    supports_masking = True

    def __init__(
        self,
        units: int,
        activation: str | Callable[[Array], Array] | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if isinstance(units, bool) or not isinstance(units, int) or units < 1:
            raise ConfigError(f"Dense expects units as a whole number of at least 1; received {units!r}")
        self.units = units
        self.activation = registry.get("activations", activation)
        self.use_bias = use_bias
        self.kernel_initializer = registry.get("initializers", kernel_initializer)
        self.bias_initializer = registry.get("initializers", bias_initializer)
        self.kernel_regularizer = registry.get("regularizers", kernel_regularizer)
        self.bias_regularizer = registry.get("regularizers", bias_regularizer)
        self.kernel_constraint = registry.get("constraints", kernel_constraint)
        self.bias_constraint = registry.get("constraints", bias_constraint)

    def build(self, input_shape: Shape) -> None:
        self.kernel = self.add_weight(
            (self.axis_length(input_shape, -1), self.units),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(
                (self.units,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: input_shape[-1]})

    def call(self, inputs: Array, present: Array | None = None) -> Array:
        """The output.

        Args:
            inputs: shape ``(batch, ..., inputs)``.
            present: shape ``(batch, ...)``: False for rows, as of padding, that are left out, and give zeros.
        """
        present = None if present is None else jnp.asarray(present, bool)
        if present is not None and present.shape != inputs.shape[:-1]:
            raise ShapeError(
                f"layer {self.name!r} (Dense) expected present of shape {inputs.shape[:-1]}, one truth value for each "
                f"row of inputs of shape {inputs.shape}; received shape {present.shape}."
            )
        slope = slope_of(self.activation)
        bias = self.bias.value if self.use_bias else None
        if self.activation is gelu_tanh:
            return dense_gelu(inputs, self.kernel.value, bias, present)
        x = dense(inputs, self.kernel.value, bias, 1.0 if slope is None else slope, present)
        return x if slope is not None else where_present(self.activation(x), present)


@layer
class Activation(Layer):
    """An activation function as a layer.

    Args:
        activation: a name, as ``"relu"``, or a function.

    >>> Activation("relu")(jnp.array([[-1.0, 2.0]])).tolist()
    [[0.0, 2.0]]
    """

    supports_masking = True

    def __init__(self, activation: str | Callable[[Array], Array], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = registry.get("activations", activation)

    def call(self, inputs: Array) -> Array:
        return inputs if self.activation is None else self.activation(inputs)


@layer
class Masking(Layer):
    """Mask the steps whose features all equal ``mask_value``; they become zero.

    Args:
        mask_value: the value that marks a missing step.

    Input and output ``(batch, steps, ...)``.
    """

    supports_masking = True

    def __init__(self, mask_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = mask_value

    def compute_mask(self, inputs: Array, previous_mask: Any = None) -> Array:
        return jnp.any(inputs != self.mask_value, axis=-1)

    def call(self, inputs: Array) -> Array:
        return inputs * jnp.any(inputs != self.mask_value, axis=-1, keepdims=True).astype(inputs.dtype)
