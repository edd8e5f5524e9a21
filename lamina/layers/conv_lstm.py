"""Long short-term memory whose products are convolutions: ConvLSTM1D, ConvLSTM2D, ConvLSTM3D."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from lamina.core import random
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape
from lamina.core.state import Array
from lamina.kernels.convolution import conv, pads_of, per_axis
from lamina.kernels.recurrent import lstm_gates
from lamina.layers.base import InputSpec, layer
from lamina.layers.recurrent import OwnCell
from lamina.layers.recurrent_cells import DropoutMasks, LSTMCell

__all__ = ["ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"]


class _ConvLSTMCell(LSTMCell):
    """One step of a convolutional LSTM; the arguments are those of the layers."""

    rank: ClassVar[int]
    kernel_size: Any
    strides: Any
    padding: str
    data_format: str | None
    dilation_rate: Any
    filters: int

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(filters, **kwargs)
        self._keep(locals())
        own = f"ConvLSTM{self.rank}D"
        for name in ("kernel_size", "strides", "dilation_rate"):
            value = per_axis(getattr(self, name), self.rank)
            if len(value) != self.rank or min(value) < 1:
                raise ConfigError(f"{own} expects {name} as {self.rank} whole numbers of at least 1; received {value}")
            setattr(self, name, value)
        if padding not in ("valid", "same"):
            raise ConfigError(f'{own} expects padding as "valid" or "same"; received {padding!r}')
        if data_format not in (None, "channels_last", "channels_first"):
            raise ConfigError(
                f'{own} expects data_format as "channels_last" or "channels_first"; received {data_format!r}'
            )

    def build(self, input_shape: Shape) -> None:
        if self.data_format == "channels_first":
            input_shape = (input_shape[0], *input_shape[2:], input_shape[1])
        if None in input_shape[1:]:
            raise ShapeError(
                f"layer {self.name!r} (ConvLSTM{self.rank}D) needs to know all axes but batch and steps; received "
                f"{tuple(input_shape)} for a step"
            )
        self._lengths, channels = tuple(input_shape[1:-1]), input_shape[-1]
        pads = pads_of(self._lengths, self.kernel_size, self.strides, self.padding, self.dilation_rate)  # type: ignore[arg-type]
        self._places = tuple(
            (n + sum(pad) - (k - 1) * d - 1) // s + 1  # type: ignore[operator]
            for n, pad, k, d, s in zip(
                self._lengths, pads, self.kernel_size, self.dilation_rate, self.strides, strict=True
            )
        )
        self.kernel = self.add_weight(
            (*self.kernel_size, channels, 4 * self.units),  # type: ignore[arg-type]
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.recurrent_kernel = self.add_weight(
            (*self.kernel_size, self.units, 4 * self.units),
            self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
            name="recurrent_kernel",
        )
        if self.use_bias:
            shape, initializer = self._bias()
            self.bias = self.add_weight(
                shape, initializer, regularizer=self.bias_regularizer, constraint=self.bias_constraint, name="bias"
            )

    def get_initial_state(self, batch_size: int) -> list[Array]:
        return [self._outside(jnp.zeros((batch_size, *self._places, self.units), self.compute_dtype))] * 2

    def draw_dropout_masks(self, batch_size: int) -> DropoutMasks:
        def draw(rate: float, shape: tuple[Any, ...]) -> Array | None:
            if not rate:
                return None
            key = random.next_key()
            key = key if self.seed is None else jax.random.fold_in(key, self.seed)
            return random.dropout(jnp.ones((4, batch_size, *shape), self.compute_dtype), rate, key=key)

        inputs = draw(self.dropout, (*self._lengths, self.kernel.shape[-2]))
        return inputs, draw(self.recurrent_dropout, (*self._places, self.units))

    def call(
        self, inputs: Array, states: Any, training: bool = False, dropout_masks: DropoutMasks | None = None
    ) -> tuple[Array, Any]:
        if dropout_masks is None and training:
            dropout_masks = self.draw_dropout_masks(inputs.shape[0])
        input_mask, state_mask = dropout_masks or (None, None)
        x, h, c = self._inside(inputs), self._inside(states[0]), self._inside(states[1])
        options = {"strides": self.strides, "padding": self.padding, "dilation": self.dilation_rate}
        projected = _convolved(x, self.kernel.value, input_mask, options)
        if self.bias is not None:
            projected = projected + self.bias.value
        inner = _convolved(h, self.recurrent_kernel.value, state_mask, {"padding": "same"})
        new = lstm_gates(projected, inner, (h, c), *self._functions())
        new = tuple(self._outside(state) for state in new)
        return new[0], list(new)

    def _inside(self, x: Array) -> Array:
        return jnp.moveaxis(x, 1, -1) if self.data_format == "channels_first" else x

    def _outside(self, x: Array) -> Array:
        return jnp.moveaxis(x, -1, 1) if self.data_format == "channels_first" else x


def _convolved(x: Array, kernel: Array, dropout: Array | None, options: dict[str, Any]) -> Array:
    """The convolution for all four gates, each with a dropout mask of its own if there are any."""
    if dropout is None:
        return conv(x, kernel, **options)
    blocks = jnp.split(kernel, 4, axis=-1)
    return jnp.concatenate([conv(x * keep, k, **options) for keep, k in zip(dropout, blocks, strict=True)], axis=-1)


class _Cell1D(_ConvLSTMCell):
    rank = 1


class _Cell2D(_ConvLSTMCell):
    rank = 2


class _Cell3D(_ConvLSTMCell):
    rank = 3


class _ConvLSTM(OwnCell):
    cell_class: ClassVar[type[_ConvLSTMCell]]

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(locals(), **kwargs)
        self.input_spec = InputSpec(ndim=self.cell.rank + 3)


@layer
class ConvLSTM1D(_ConvLSTM):
    """A convolutional LSTM over sequences of signals: as :class:`LSTM`, with convolutions for products.

    Args:
        filters: the number of channels of the output and of both states.
        kernel_size: the size of the window, for inputs and state.
        strides: the step of the window over the inputs.
        padding: ``"valid"`` or ``"same"``, for the inputs; the state is always padded to stay the same.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        dilation_rate: the distance between what neighbouring entries of the window see.

    The other arguments are those of :class:`LSTM`. Input ``(batch, steps, length, channels)``, output ``(batch, places,
    filters)`` or ``(batch, steps, places, filters)``.

    Shi et al. 2015, *Convolutional LSTM network: a machine learning approach for precipitation nowcasting*.

    >>> ConvLSTM1D(4, 3)(jnp.ones((2, 5, 8, 3))).shape
    (2, 6, 4)
    """

    cell_class = _Cell1D


@layer
class ConvLSTM2D(_ConvLSTM):
    """As :class:`ConvLSTM1D`, over sequences of pictures ``(batch, steps, height, width, channels)``.

    >>> ConvLSTM2D(4, 3, padding="same")(jnp.ones((1, 2, 4, 4, 3))).shape
    (1, 4, 4, 4)
    """

    cell_class = _Cell2D


@layer
class ConvLSTM3D(_ConvLSTM):
    """As :class:`ConvLSTM1D`, over sequences of volumes ``(batch, steps, depth, height, width, channels)``.

    >>> ConvLSTM3D(2, 2)(jnp.ones((1, 2, 3, 3, 3, 1))).shape
    (1, 2, 2, 2, 2)
    """

    cell_class = _Cell3D
