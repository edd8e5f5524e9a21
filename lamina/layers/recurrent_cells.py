"""One step of a recurrent network: SimpleRNNCell, LSTMCell, GRUCell."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import random, registry
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape
from lamina.core.state import Array, Variable
from lamina.kernels import recurrent as kernels
from lamina.layers.base import Layer, _drawing, layer

__all__ = ["GRUCell", "LSTMCell", "SimpleRNNCell"]

#: what the inputs and the state of a step are multiplied by
DropoutMasks = tuple[Array | None, Array | None]

_KINDS = {
    "activation": "activations",
    "initializer": "initializers",
    "regularizer": "regularizers",
    "constraint": "constraints",
}


class RecurrentCell(Layer):
    """What the three cells share: weights, dropout, and the projection of the input."""

    #: blocks of ``units`` columns in the kernels
    gates: ClassVar[int] = 1
    #: arrays that go from step to step
    state_count: ClassVar[int] = 1

    units: int
    activation: Callable[[Array], Array] | None
    use_bias: bool
    kernel_initializer: Any
    recurrent_initializer: Any
    bias_initializer: Any
    kernel_regularizer: Any
    recurrent_regularizer: Any
    bias_regularizer: Any
    kernel_constraint: Any
    recurrent_constraint: Any
    bias_constraint: Any
    dropout: float
    recurrent_dropout: float
    seed: int | None
    kernel: Variable
    recurrent_kernel: Variable
    bias: Variable | None = None

    def _keep(self, arguments: Mapping[str, Any]) -> None:
        """Store and check the arguments of ``__init__``, names resolved."""
        for name, value in arguments.items():
            if name not in ("self", "kwargs", "__class__"):
                kind = _KINDS.get(name.rpartition("_")[2])
                setattr(self, name, registry.get(kind, value) if kind else value)
        own = type(self).__name__
        if isinstance(self.units, bool) or not isinstance(self.units, int) or self.units < 1:
            raise ConfigError(f"{own} expects units as a whole number of at least 1; received {self.units!r}")
        for name in ("dropout", "recurrent_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{own} expects {name} from 0 to below 1; received {getattr(self, name)!r}")

    @property
    def state_size(self) -> int | list[int]:
        """The length of each state."""
        return self.units if self.state_count == 1 else [self.units] * self.state_count

    @property
    def output_size(self) -> int:
        """The length of the output."""
        return self.units

    def get_initial_state(self, batch_size: int) -> list[Array]:
        """States of zeros, each ``(batch_size, units)``."""
        return [jnp.zeros((batch_size, self.units), self.compute_dtype)] * self.state_count

    def _bias(self) -> tuple[tuple[int, ...], Any]:
        """The shape of the bias and how it is drawn."""
        return (self.gates * self.units,), self.bias_initializer

    def build(self, input_shape: Shape) -> None:
        width = self.gates * self.units
        self.kernel = self.add_weight(
            (self.axis_length(input_shape, -1), width),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.recurrent_kernel = self.add_weight(
            (self.units, width),
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

    def draw_dropout_masks(self, batch_size: int) -> DropoutMasks:
        """Dropout masks for the inputs and the state; the same ones serve all steps of a sequence."""
        # With recurrent dropout every gate has masks of its own, as in Gal and Ghahramani 2016.
        gates = (self.gates,) if self.recurrent_dropout and self.gates > 1 else ()

        def draw(rate: float, features: int) -> Array | None:
            if not rate:
                return None
            key = random.next_key()
            key = key if self.seed is None else jax.random.fold_in(key, self.seed)
            return random.dropout(jnp.ones((*gates, batch_size, features), self.compute_dtype), rate, key=key)

        return draw(self.dropout, self.kernel.shape[0]), draw(self.recurrent_dropout, self.units)

    def biases(self) -> tuple[Array | None, Array | None]:
        """The bias of the inputs and that of the state."""
        return (None if self.bias is None else self.bias.value), None

    def step(self, x: Array, states: tuple[Array, ...], dropout: Array | None) -> tuple[Array, ...]:
        """The next states, from the projected input ``(batch, gates * units)``; the first one is the output."""
        raise NotImplementedError

    def call(
        self,
        inputs: Array,
        states: Any,
        training: bool = False,
        dropout_masks: DropoutMasks | None = None,
    ) -> tuple[Array, Any]:
        if dropout_masks is None and training:
            dropout_masks = self.draw_dropout_masks(inputs.shape[0])
        input_mask, state_mask = dropout_masks or (None, None)
        x = kernels.gate_products(inputs, self.kernel.value, input_mask)
        bias, _ = self.biases()
        nested = isinstance(states, list | tuple)
        states = tuple(states) if nested else (states,)
        if len(states) != self.state_count or any(state.shape[-1] != self.units for state in states):
            raise ShapeError(
                f"layer {self.name!r} ({type(self).__name__}) expected {self.state_count} of (batch, {self.units}) as states; "
                f"received {[state.shape for state in states]}.\nWrite:  cell(x, cell.get_initial_state(len(x)))"
            )
        new = self.step(x if bias is None else x + bias, states, state_mask)
        return new[0], list(new) if nested else new[0]


@layer
class SimpleRNNCell(RecurrentCell):
    r"""One step of a simple recurrent network, :math:`h_t = f(x_t W + h_{t-1} U + b)`.

    The arguments are those of :class:`lamina.layers.SimpleRNN` that concern one step.

    Call: ``cell(inputs, [h])`` with ``(batch, features)`` and ``(batch, units)`` gives ``output, [new_h]``.

    >>> output, states = SimpleRNNCell(4)(jnp.ones((2, 3)), [jnp.zeros((2, 4))])
    >>> output.shape, len(states)
    ((2, 4), 1)
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
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
        super().__init__(**kwargs)
        self._keep(locals())

    def step(self, x: Array, states: tuple[Array, ...], dropout: Array | None) -> tuple[Array, ...]:
        inner = kernels.gate_products(states[0], self.recurrent_kernel.value, dropout)
        return kernels.simple_rnn_gates(x, inner, states, self.activation or _identity)


@layer
class LSTMCell(RecurrentCell):
    r"""One step of long short-term memory: :math:`c_t = f c_{t-1} + i g` and :math:`h_t = o \tanh(c_t)`.

    The arguments are those of :class:`lamina.layers.LSTM` that concern one step.

    Call: ``cell(inputs, [h, c])`` gives ``output, [new_h, new_c]``.

    Hochreiter and Schmidhuber 1997, *Long short-term memory*.

    >>> output, states = LSTMCell(4)(jnp.ones((2, 3)), [jnp.zeros((2, 4)), jnp.zeros((2, 4))])
    >>> output.shape, len(states)
    ((2, 4), 2)
    """

    gates = 4
    state_count = 2
    recurrent_activation: Callable[[Array], Array] | None
    unit_forget_bias: bool

    def __init__(
        self,
        units: int,
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
        super().__init__(**kwargs)
        self._keep(locals())

    def _bias(self) -> tuple[tuple[int, ...], Any]:
        shape, initializer = super()._bias()
        if not self.unit_forget_bias:
            return shape, initializer
        draw, units = _drawing(initializer), self.units

        def open_forget_gate(shape: Shape, dtype: Any = None, key: Any = None) -> Array:
            bias = draw(shape, dtype, key)
            return jnp.where(np.arange(len(bias)) // units == 1, np.ones((), bias.dtype), bias)

        return shape, open_forget_gate

    def step(self, x: Array, states: tuple[Array, ...], dropout: Array | None) -> tuple[Array, ...]:
        inner = kernels.gate_products(states[0], self.recurrent_kernel.value, dropout)
        return kernels.lstm_gates(x, inner, states, *self._functions())

    def _functions(self) -> tuple[kernels.Activation, kernels.Activation]:
        return self.activation or _identity, self.recurrent_activation or _identity


@layer
class GRUCell(RecurrentCell):
    r"""One step of a gated recurrent unit, :math:`h_t = z h_{t-1} + (1 - z) \tilde h`.

    The arguments are those of :class:`lamina.layers.GRU` that concern one step.

    Call: ``cell(inputs, [h])`` gives ``output, [new_h]``.

    Cho et al. 2014, *Learning phrase representations using RNN encoder-decoder*.

    >>> output, states = GRUCell(4)(jnp.ones((2, 3)), [jnp.zeros((2, 4))])
    >>> output.shape, len(states)
    ((2, 4), 1)
    """

    gates = 3
    recurrent_activation: Callable[[Array], Array] | None
    reset_after: bool

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._keep(locals())

    def _bias(self) -> tuple[tuple[int, ...], Any]:
        shape, initializer = super()._bias()
        return ((2, *shape) if self.reset_after else shape), initializer

    def biases(self) -> tuple[Array | None, Array | None]:
        if self.bias is None or not self.reset_after:
            return super().biases()
        return self.bias[0], self.bias[1]

    def step(self, x: Array, states: tuple[Array, ...], dropout: Array | None) -> tuple[Array, ...]:
        functions = (self.activation or _identity, self.recurrent_activation or _identity)
        recurrent_kernel = self.recurrent_kernel.value
        if not self.reset_after:
            return (kernels.gru_reset_before_step(x, states[0], recurrent_kernel, *functions, dropout),)
        inner = kernels.gate_products(states[0], recurrent_kernel, dropout)
        _, bias = self.biases()
        return kernels.gru_gates(x, inner if bias is None else inner + bias, states, *functions)


def _identity(x: Array) -> Array:
    return x
