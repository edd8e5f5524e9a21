"""RNN, which runs any cell over sequences, and StackedRNNCells, which makes one cell of several."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core import allowance, transforms
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.module import Module
from lamina.core.shapes import Shape
from lamina.core.state import Array, Variable
from lamina.layers.base import InputSpec, Layer, layer

__all__ = ["RNN", "StackedRNNCells"]


class _States(Module):
    """The states that a stateful layer keeps from batch to batch."""

    def __init__(self, values: list[Variable]) -> None:
        self.values = values


@layer
class RNN(Layer):
    """A recurrent layer that runs a cell over the steps of sequences.

    Args:
        cell: one step: a layer (or a list of them, then stacked) with ``state_size``, perhaps ``output_size`` and
            ``get_initial_state(batch_size)``, and ``call(inputs, states) -> (output, new_states)``.
        return_sequences: whether to give the outputs of all steps instead of the last.
        return_state: whether to give the last states as well.
        go_backwards: whether to start at the last step; outputs come in that order.
        stateful: whether each batch starts from the states in which the one before ended; see :meth:`reset_state`.
        unroll: whether to write the loop out, step after step.
        zero_output_for_mask: whether the outputs of masked steps are zero instead of those of the step before.

    Input ``(batch, steps, ...)``, mask ``(batch, steps)``. Output ``(batch, units)``, or ``(batch, steps, units)`` with
    ``return_sequences``; with ``return_state`` a tuple of it and the states.

    >>> class Sum(Layer):
    ...     state_size = 3
    ...     def call(self, inputs, states):
    ...         total = states[0] + inputs
    ...         return total, [total]
    >>> RNN(Sum())(jnp.ones((1, 5, 3))).tolist()
    [[5.0, 5.0, 5.0]]
    """

    supports_masking = True
    input_spec: Any = InputSpec(min_ndim=2)

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        cell = StackedRNNCells(cell) if isinstance(cell, list | tuple) else cell
        check_cell(cell)
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.unroll = unroll
        self.zero_output_for_mask = zero_output_for_mask
        self._states: _States | None = None

    def shape_hint(self, shape: tuple[int | None, ...]) -> str:
        if len(shape) == 2:
            return "Recurrent layers take (batch, steps, features). Write:  x[..., None] for one feature a step."
        return super().shape_hint(shape)

    @property
    def state_size(self) -> list[Any]:
        """The size of each state."""
        return as_list(self.cell.state_size)

    @property
    def states(self) -> list[Variable] | None:
        """The states kept from batch to batch, where the layer is stateful and built."""
        return None if self._states is None else self._states.values

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """The states that sequences start from."""
        return initial_state(self.cell, batch_size, self.compute_dtype)

    def reset_state(self) -> None:
        """Let a stateful layer start afresh: zeros in all its states."""
        for state in self.states or []:
            state.assign(jnp.zeros(state.shape))

    reset_states = reset_state

    def build(self, input_shape: Shape) -> None:
        build_cell(self.cell, (input_shape[0], *input_shape[2:]))
        if self.stateful:
            if input_shape[0] is None:
                raise ShapeError(
                    f"layer {self.name!r} ({type(self).__name__}) is stateful, so the length of the batch has to be "
                    f"known; received shape {tuple(input_shape)}.\nWrite:  Input(shape, batch_size=32)"
                )
            allowance.spend("the states of a stateful layer", numbers=input_shape[0] * size_of(self.state_size))
            values = [
                Variable(value, dtype=self.variable_dtype, name=f"{self.name}/state", trainable=False)
                for value in jax.tree.leaves(self.get_initial_state(input_shape[0]))
            ]
            self._states = _States(values)

    def call(self, sequences: Array, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        batch = sequences.shape[0]
        if mask is not None:
            mask = jnp.asarray(as_list(mask)[0]).astype(bool)
            mask = mask.reshape(*mask.shape[:2], -1).any(-1)
            if mask.shape[1] != sequences.shape[1]:
                raise ShapeError(
                    f"layer {self.name!r} ({type(self).__name__}) expected a mask of {sequences.shape[1]} steps, as the "
                    f"sequences have; received one of shape {mask.shape}."
                )
        masks = draw_dropout_masks(self.cell, batch) if training else None
        outputs, states = self._run(sequences, self._start(batch, initial_state), mask, masks)
        for variable, state in zip(self.states or [], jax.tree.leaves(states) if self.stateful else [], strict=True):
            variable.assign(state)
        return (outputs, *states) if self.return_state else outputs

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        mask = as_list(previous_mask)[0] if self.return_sequences else None
        if mask is not None and self.go_backwards:
            mask = jnp.flip(jnp.asarray(mask), 1)
        return [mask] + [None] * len(self.state_size) if self.return_state else mask

    def _start(self, batch: int, given: Any) -> list[Any]:
        """The states to start from: those given, those kept, or the cell's first ones."""
        first = self.get_initial_state(batch)
        leaves, tree = jax.tree.flatten(first)
        if given is not None:
            source = jax.tree.leaves(given)
        elif self.states is not None:
            source = [state.value for state in self.states]
        else:
            source = leaves
        wanted, received = [leaf.shape for leaf in leaves], [jnp.shape(leaf) for leaf in source]
        if wanted != received:
            raise ShapeError(
                f"layer {self.name!r} ({type(self).__name__}) starts from states of shapes {wanted} for a batch of "
                f"{batch}; received {received}."
                + ("\nA stateful layer takes batches of one length." if given is None else "")
            )
        return jax.tree.unflatten(tree, [s.astype(leaf.dtype) for s, leaf in zip(source, leaves, strict=True)])

    def _run(self, sequences: Array, states: list[Any], mask: Array | None, masks: Any) -> tuple[Array, list[Any]]:
        """The output and the last states, by calling the cell at every step."""
        steps = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (sequences, mask))
        if self.go_backwards:
            steps = jax.tree.map(lambda x: x[::-1], steps)

        def body(carry: Any, step: Any) -> Any:
            (previous, old), (x, keep) = carry, step
            output, new = run_cell(self.cell, x, old, masks)
            output = output.astype(previous.dtype)
            new = jax.tree.map(lambda n, o: n.astype(o.dtype), new, old)
            if keep is not None:
                output = where_kept(keep, output, jnp.zeros_like(output) if self.zero_output_for_mask else previous)
                new = jax.tree.map(functools.partial(where_kept, keep), new, old)
            return (output, new), output if self.return_sequences else None

        carry = (self._output_before(states), states)
        if self.unroll:
            collected = []
            for index in range(sequences.shape[1]):
                allowance.spend(f"step {index} of an unrolled layer", steps=1)
                carry, output = body(carry, jax.tree.map(lambda x: x[index], steps))  # noqa: B023 - used at once
                collected.append(output)
            outputs = jnp.stack(collected) if self.return_sequences else None
        else:
            carry, outputs = transforms.scan(body, carry, steps)
        last, states = carry
        return (last if outputs is None else jnp.swapaxes(outputs, 0, 1)), states

    def _output_before(self, states: list[Any]) -> Array:
        """What stands for the output before the first step, where that is masked: the state, or zeros."""
        state = states[0]
        while isinstance(state, list | tuple):
            state = states[-1][0]
        size = output_size(self.cell)
        fits = state.ndim != 2 or not isinstance(size, int) or state.shape[1] == size
        return state if fits else jnp.zeros((state.shape[0], size), state.dtype)


@layer
class StackedRNNCells(Layer):
    """Several cells as one: the output of each is the input of the next.

    Args:
        cells: the cells, the one nearest the input first.

    States are a list with one list for each cell.

    >>> from lamina.layers.recurrent_cells import GRUCell, LSTMCell
    >>> cell = StackedRNNCells([LSTMCell(4), GRUCell(3)])
    >>> output, states = cell(jnp.ones((2, 5)), cell.get_initial_state(2))
    >>> output.shape, [len(s) for s in states]
    ((2, 3), [2, 1])
    """

    def __init__(self, cells: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not cells:
            raise ConfigError("StackedRNNCells expects at least one cell; received none")
        for cell in cells:
            check_cell(cell)
        self.cells = list(cells)

    @property
    def state_size(self) -> list[Any]:
        """The sizes of each cell's states."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> Any:
        """The length of the last cell's output."""
        return output_size(self.cells[-1])

    def get_initial_state(self, batch_size: int) -> list[list[Array]]:
        """Each cell's first states."""
        return [initial_state(cell, batch_size, self.compute_dtype) for cell in self.cells]

    def draw_dropout_masks(self, batch_size: int) -> list[Any]:
        """Each cell's dropout masks."""
        return [draw_dropout_masks(cell, batch_size) for cell in self.cells]

    def build(self, input_shape: Shape) -> None:
        for cell in self.cells:
            build_cell(cell, input_shape)
            input_shape = (input_shape[0], output_size(cell))

    def call(
        self, inputs: Array, states: Any, training: bool = False, dropout_masks: list[Any] | None = None
    ) -> tuple[Array, list[list[Array]]]:
        if len(states) != len(self.cells):
            raise ShapeError(
                f"layer {self.name!r} has {len(self.cells)} cells and takes one list of states for each; received "
                f"{len(states)}.\nWrite:  states = cell.get_initial_state(batch_size)"
            )
        new = []
        for cell, state, masks in zip(self.cells, states, dropout_masks or [None] * len(states), strict=True):
            inputs, state = run_cell(cell, inputs, state, masks)
            new.append(state)
        return inputs, new


def check_cell(cell: Any) -> None:
    """Raise a ConfigError if ``cell`` is not one step of a recurrent network."""
    missing = [name for name in ("call", "state_size") if not hasattr(cell, name)]
    if missing:
        raise ConfigError(
            f"a recurrent cell has call(inputs, states) and state_size; {cell!r} has no {' and no '.join(missing)}.\n"
            "Write:  RNN(LSTMCell(units)), or a Layer with both."
        )


def output_size(cell: Any) -> Any:
    """The length of a cell's output; that of its first state where it says nothing."""
    size = getattr(cell, "output_size", None)
    first = cell.state_size[0] if isinstance(cell.state_size, list | tuple) else cell.state_size
    return first if size is None else size


def size_of(sizes: Any) -> int:
    """How many numbers states of these sizes hold for one sequence."""
    if isinstance(sizes, int):
        return sizes
    shape = isinstance(sizes, tuple) and all(isinstance(n, int) for n in sizes)
    return math.prod(sizes) if shape else sum(map(size_of, sizes))


def initial_state(cell: Any, batch_size: int, dtype: Any) -> list[Any]:
    """The states that a cell starts from: its own choice, or zeros."""
    if hasattr(cell, "get_initial_state"):
        return as_list(cell.get_initial_state(batch_size=batch_size))
    return [jnp.zeros((batch_size, *as_list(size)), dtype) for size in as_list(cell.state_size)]


def draw_dropout_masks(cell: Any, batch_size: int) -> Any:
    """The dropout masks of a cell that draws any."""
    return cell.draw_dropout_masks(batch_size) if hasattr(cell, "draw_dropout_masks") else None


def build_cell(cell: Any, input_shape: Shape) -> None:
    """Make a cell's weights for the input of one step."""
    if isinstance(cell, Layer) and not cell.built:
        cell.build_from({"inputs": tuple(input_shape)})


def run_cell(cell: Any, inputs: Array, states: Any, dropout_masks: Any = None) -> tuple[Array, list[Any]]:
    """A cell's output and its next states, as a list."""
    call = cell if callable(cell) else cell.call
    options = {} if dropout_masks is None else {"dropout_masks": dropout_masks}
    output, new = call(inputs, as_list(states), **options)
    return output, as_list(new)


def as_list(value: Any) -> list[Any]:
    """A list or tuple as a list, anything else as the only item of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def where_kept(keep: Array, new: Array, old: Array) -> Array:
    """``new`` in the rows of the batch where ``keep`` is True, ``old`` elsewhere."""
    return jnp.where(keep.reshape(keep.shape + (1,) * (new.ndim - 1)), new, old)
