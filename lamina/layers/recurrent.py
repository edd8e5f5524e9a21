"""Recurrent layers over whole sequences: SimpleRNN, LSTM, GRU."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp

from lamina import activations
from lamina.core.errors import ConfigError
from lamina.core.lookups import get_lookup
from lamina.core.shapes import Shape
from lamina.core.state import Array
from lamina.kernels import recurrent as kernels
from lamina.layers.base import InputSpec, Layer, layer
from lamina.layers.recurrent_cells import GRUCell, LSTMCell, RecurrentCell, SimpleRNNCell
from lamina.layers.rnn import RNN, StackedRNNCells

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "SimpleRNN", "SimpleRNNCell", "StackedRNNCells"]


class OwnCell(RNN):
    """A recurrent layer that makes its cell itself; what the cell takes are arguments of the layer."""

    cell_class: ClassVar[type[RecurrentCell]]

    def __init__(self, arguments: Mapping[str, Any], **kwargs: Any) -> None:
        settings = {name: value for name, value in arguments.items() if name not in ("self", "kwargs", "__class__")}
        settings |= kwargs
        # Keras's choice between ways to compute the same.
        settings.pop("implementation", None)
        self.use_cudnn = settings.pop("use_cudnn", "auto")
        if self.use_cudnn not in ("auto", True, False):
            raise ConfigError(
                f'{type(self).__name__} expects use_cudnn as "auto", True or False; received {self.use_cudnn!r}'
            )
        cell = {name: settings.pop(name) for name in _own_names(self.cell_class) if name in settings}
        super().__init__(self.cell_class(**cell, dtype=settings.get("dtype")), **settings)

    @classmethod
    def config_names(cls) -> list[str]:
        return [name for name in super().config_names() if name not in ("cell", "arguments")]

    def __getattr__(self, name: str) -> Any:
        if name in _own_names(self.cell_class):
            return getattr(vars(self)["cell"], name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class _WholeSequence(OwnCell):
    """A recurrent layer that runs its cell as one function over all steps, where it is the standard one."""

    input_spec = InputSpec(ndim=3)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.input_spec = InputSpec(ndim=3, axes={2: input_shape[2]})

    def _whole(self, source: Array, states: list[Array], **options: Any) -> tuple[Any, ...]:
        """The outputs of all steps and the last states; ``source`` are sequences, or a table with ``numbers``."""
        raise NotImplementedError

    def _weights(self) -> tuple[Array, Array, Array | None]:
        cell = self.cell
        return cell.kernel.value, cell.recurrent_kernel.value, None if cell.bias is None else cell.bias.value

    def _run(self, sequences: Array, states: list[Any], mask: Array | None, masks: Any) -> tuple[Array, list[Any]]:
        input_mask, state_mask = masks or (None, None)
        gates = getattr(self.cell, "recurrent_activation", activations.sigmoid)
        if state_mask is not None or self.cell.activation is not activations.tanh or gates is not activations.sigmoid:
            return super()._run(sequences, states, mask, masks)
        if input_mask is not None:
            sequences = sequences * input_mask[:, None]
        source, numbers = get_lookup(sequences) or (sequences, None)
        outputs, *states = self._whole(
            source,
            states,
            numbers=numbers,
            mask=mask,
            go_backwards=self.go_backwards,
            return_sequences=self.return_sequences,
            unroll=self.unroll,
        )
        if not self.return_sequences:
            outputs = states[0]
        if mask is not None and self.zero_output_for_mask:
            mask = jnp.flip(mask, 1) if self.go_backwards else mask
            shown = mask if self.return_sequences else mask[:, -1]
            outputs = jnp.where(shown[..., None], outputs, jnp.zeros_like(outputs))
        return outputs, states


def _own_names(cell_class: type[RecurrentCell]) -> tuple[str, ...]:
    """What a cell takes beyond what every layer does."""
    return tuple(name for name in cell_class.config_names() if name not in Layer.config_names())


@layer
class SimpleRNN(_WholeSequence):
    r"""A simple recurrent network over sequences, :math:`h_t = f(x_t W + h_{t-1} U + b)`.

    Args:
        units: the length of the output and of the state.
        activation: :math:`f`.
        use_bias: whether to add :math:`b`.
        kernel_initializer: how :math:`W`, ``(features, units)``, is drawn.
        recurrent_initializer: how :math:`U`, ``(units, units)``, is drawn.
        bias_initializer: how :math:`b`, ``(units,)``, starts.
        kernel_regularizer: a penalty on :math:`W`.
        recurrent_regularizer: a penalty on :math:`U`.
        bias_regularizer: a penalty on :math:`b`.
        activity_regularizer: a penalty on the output.
        kernel_constraint: applied to :math:`W` after each update.
        recurrent_constraint: applied to :math:`U` after each update.
        bias_constraint: applied to :math:`b` after each update.
        dropout: the share of the inputs that is zero in training; one mask for a whole sequence.
        recurrent_dropout: the share of the state that is zero in training.
        return_sequences: whether to give the outputs of all steps instead of the last.
        return_state: whether to give the last state as well.
        go_backwards: whether to start at the last step; outputs come in that order.
        stateful: whether each batch starts from the state in which the one before ended.
        unroll: whether to write the loop out, step after step.
        seed: makes the dropout masks differ from those of other layers.

    Input ``(batch, steps, features)``, output ``(batch, units)`` or ``(batch, steps, units)``; takes a mask
    ``(batch, steps)`` and ``initial_state=[h]``.

    >>> SimpleRNN(4)(jnp.ones((2, 5, 3))).shape
    (2, 4)
    """

    cell_class = SimpleRNNCell

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
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(locals(), **kwargs)

    def _whole(self, source: Array, states: list[Array], **options: Any) -> tuple[Any, ...]:
        return kernels.simple_rnn(source, states[0], *self._weights(), **options)


@layer
class LSTM(_WholeSequence):
    r"""Long short-term memory over sequences: :math:`c_t = f c_{t-1} + i g` and :math:`h_t = o \tanh(c_t)`.

    Args:
        units: the length of the output and of both states.
        activation: of the candidate :math:`g` and of the memory.
        recurrent_activation: of the gates :math:`i`, :math:`f` and :math:`o`.
        use_bias: whether there is a bias.
        kernel_initializer: how the kernel, ``(features, 4 * units)``, is drawn; its blocks stand for i, f, g, o.
        recurrent_initializer: how the recurrent kernel, ``(units, 4 * units)``, is drawn.
        bias_initializer: how the bias, ``(4 * units,)``, starts.
        unit_forget_bias: whether the bias of the forget gate starts at 1 instead.
        kernel_regularizer: a penalty on the kernel.
        recurrent_regularizer: a penalty on the recurrent kernel.
        bias_regularizer: a penalty on the bias.
        activity_regularizer: a penalty on the output.
        kernel_constraint: applied to the kernel after each update.
        recurrent_constraint: applied to the recurrent kernel after each update.
        bias_constraint: applied to the bias after each update.
        dropout: the share of the inputs that is zero in training; one mask for a whole sequence.
        recurrent_dropout: the share of the state that is zero in training.
        seed: makes the dropout masks differ from those of other layers.
        return_sequences: whether to give the outputs of all steps instead of the last.
        return_state: whether to give the last two states as well.
        go_backwards: whether to start at the last step; outputs come in that order.
        stateful: whether each batch starts from the states in which the one before ended.
        unroll: whether to write the loop out, step after step.
        use_cudnn: taken for Keras's sake; the library chooses by itself.

    Input ``(batch, steps, features)``, output ``(batch, units)`` or ``(batch, steps, units)``; takes a mask
    ``(batch, steps)`` and ``initial_state=[h, c]``.

    Hochreiter and Schmidhuber 1997, *Long short-term memory*.

    >>> y, h, c = LSTM(4, return_sequences=True, return_state=True)(jnp.ones((2, 5, 3)))
    >>> y.shape, h.shape, c.shape
    ((2, 5, 4), (2, 4), (2, 4))
    """

    cell_class = LSTMCell

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
        unroll: bool = False,
        use_cudnn: str | bool = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(locals(), **kwargs)

    def _whole(self, source: Array, states: list[Array], **options: Any) -> tuple[Any, ...]:
        return kernels.lstm(source, states[0], states[1], *self._weights(), **options)


@layer
class GRU(_WholeSequence):
    r"""Gated recurrent units over sequences, :math:`h_t = z h_{t-1} + (1 - z) \tilde h`.

    Args:
        units: the length of the output and of the state.
        activation: of the candidate :math:`\tilde h`.
        recurrent_activation: of the update gate :math:`z` and the reset gate.
        use_bias: whether there is a bias.
        kernel_initializer: how the kernel, ``(features, 3 * units)``, is drawn; its blocks stand for z, r and the
            candidate.
        recurrent_initializer: how the recurrent kernel, ``(units, 3 * units)``, is drawn.
        bias_initializer: how the bias starts: ``(2, 3 * units)``, or ``(3 * units,)`` without ``reset_after``.
        kernel_regularizer: a penalty on the kernel.
        recurrent_regularizer: a penalty on the recurrent kernel.
        bias_regularizer: a penalty on the bias.
        activity_regularizer: a penalty on the output.
        kernel_constraint: applied to the kernel after each update.
        recurrent_constraint: applied to the recurrent kernel after each update.
        bias_constraint: applied to the bias after each update.
        dropout: the share of the inputs that is zero in training; one mask for a whole sequence.
        recurrent_dropout: the share of the state that is zero in training.
        seed: makes the dropout masks differ from those of other layers.
        return_sequences: whether to give the outputs of all steps instead of the last.
        return_state: whether to give the last state as well.
        go_backwards: whether to start at the last step; outputs come in that order.
        stateful: whether each batch starts from the state in which the one before ended.
        unroll: whether to write the loop out, step after step.
        reset_after: whether the reset gate is applied after the product with the state (as cuDNN and PyTorch do).
        use_cudnn: taken for Keras's sake; the library chooses by itself.

    Input ``(batch, steps, features)``, output ``(batch, units)`` or ``(batch, steps, units)``; takes a mask
    ``(batch, steps)`` and ``initial_state=[h]``.

    Cho et al. 2014, *Learning phrase representations using RNN encoder-decoder*.

    >>> GRU(4, return_sequences=True)(jnp.ones((2, 5, 3))).shape
    (2, 5, 4)
    """

    cell_class = GRUCell

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
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn: str | bool = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(locals(), **kwargs)

    def _whole(self, source: Array, states: list[Array], **options: Any) -> tuple[Any, ...]:
        return kernels.gru(source, states[0], *self._weights(), reset_after=self.reset_after, **options)
