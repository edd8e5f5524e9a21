"""Recurrent networks over whole sequences: simple, LSTM and GRU.

The input of all steps is projected by one matrix product; only the product with the state is left to the loop. Where the
input is looked up in a table, each of its rows that occurs is projected once.
"""

import functools

import jax.numpy as jnp

from lamina.core.errors import ShapeError
from lamina.core.typing import Array, Bool, Float, Integer
from lamina.kernels.recurrent_gates import (
    Activation,
    States,
    gate_products,
    gru_gates,
    gru_reset_before_step,
    lstm_gates,
    simple_rnn_gates,
)
from lamina.kernels.recurrent_operations import RECURRENCE, loop

__all__ = [
    "Activation",
    "gate_products",
    "gru",
    "gru_gates",
    "gru_reset_before_step",
    "lstm",
    "lstm_gates",
    "simple_rnn",
    "simple_rnn_gates",
]


def simple_rnn(
    x: Float[Array, "batch steps features"] | Float[Array, "rows features"],
    h: Float[Array, "batch units"],
    kernel: Float[Array, "features units"],
    recurrent_kernel: Float[Array, "units units"],
    bias: Float[Array, " units"] | None = None,
    *,
    numbers: Integer[Array, "batch steps"] | None = None,
    mask: Bool[Array, "batch steps"] | None = None,
    go_backwards: bool = False,
    return_sequences: bool = True,
    unroll: bool = False,
) -> tuple[Float[Array, "batch steps units"] | None, Float[Array, "batch units"]]:
    r"""A simple recurrent network, :math:`h_t = \tanh(x_t W + h_{t-1} U + b)`.

    Args:
        x: the sequences, ``(batch, steps, features)``; or with ``numbers`` a table, ``(rows, features)``.
        h: the state to start from, ``(batch, units)``.
        kernel: :math:`W`, ``(features, units)``.
        recurrent_kernel: :math:`U`, ``(units, units)``.
        bias: :math:`b`, ``(units,)``.
        numbers: ``(batch, steps)``, which rows of the table the sequences are made of.
        mask: ``(batch, steps)``; where it is False, the state stays as it is.
        go_backwards: whether to start at the last step; the outputs come in that order.
        return_sequences: whether the outputs of all steps are wanted.
        unroll: whether to write the loop out, step after step.

    Returns:
        The outputs, ``(batch, steps, units)`` (or ``None``), and the last state.

    Raises:
        ShapeError: for a table without numbers, or sequences with them.

    >>> y, h = simple_rnn(jnp.ones((2, 5, 3)), jnp.zeros((2, 4)), jnp.ones((3, 4)), jnp.eye(4))
    >>> y.shape, bool((y[:, -1] == h).all())
    ((2, 5, 4), True)
    """

    options = (go_backwards, return_sequences, unroll)
    outputs, (h,) = _run("simple_rnn", x, kernel, bias, recurrent_kernel, numbers, mask, (h,), *options)
    return outputs, h


def lstm(
    x: Float[Array, "batch steps features"] | Float[Array, "rows features"],
    h: Float[Array, "batch units"],
    c: Float[Array, "batch units"],
    kernel: Float[Array, "features 4*units"],
    recurrent_kernel: Float[Array, "units 4*units"],
    bias: Float[Array, " 4*units"] | None = None,
    *,
    numbers: Integer[Array, "batch steps"] | None = None,
    mask: Bool[Array, "batch steps"] | None = None,
    go_backwards: bool = False,
    return_sequences: bool = True,
    unroll: bool = False,
) -> tuple[Float[Array, "batch steps units"] | None, Float[Array, "batch units"], Float[Array, "batch units"]]:
    r"""Long short-term memory: :math:`c_t = f c_{t-1} + i g` and :math:`h_t = o \tanh(c_t)`.

    :math:`(i, f, g, o)` are four blocks of :math:`x_t W + h_{t-1} U + b`: logistic gates, but :math:`g` a tanh.

    Args:
        x: the sequences, ``(batch, steps, features)``; or with ``numbers`` a table, ``(rows, features)``.
        h: the output to start from, ``(batch, units)``.
        c: the memory to start from, ``(batch, units)``.
        kernel: :math:`W`, ``(features, 4 * units)``.
        recurrent_kernel: :math:`U`, ``(units, 4 * units)``.
        bias: :math:`b`, ``(4 * units,)``.
        numbers: ``(batch, steps)``, which rows of the table the sequences are made of.
        mask: ``(batch, steps)``; where it is False, the states stay as they are.
        go_backwards: whether to start at the last step; the outputs come in that order.
        return_sequences: whether the outputs of all steps are wanted.
        unroll: whether to write the loop out, step after step.

    Returns:
        The outputs, ``(batch, steps, units)`` (or ``None``), and the last two states.

    Raises:
        ShapeError: for a table without numbers, or sequences with them.

    Hochreiter and Schmidhuber 1997, *Long short-term memory*.

    >>> y, h, c = lstm(jnp.ones((2, 5, 3)), jnp.zeros((2, 4)), jnp.zeros((2, 4)), jnp.ones((3, 16)), jnp.ones((4, 16)))
    >>> y.shape, c.shape
    ((2, 5, 4), (2, 4))
    """

    options = (go_backwards, return_sequences, unroll)
    outputs, (h, c) = _run("lstm", x, kernel, bias, recurrent_kernel, numbers, mask, (h, c), *options)
    return outputs, h, c


def gru(
    x: Float[Array, "batch steps features"] | Float[Array, "rows features"],
    h: Float[Array, "batch units"],
    kernel: Float[Array, "features 3*units"],
    recurrent_kernel: Float[Array, "units 3*units"],
    bias: Float[Array, "2 3*units"] | Float[Array, " 3*units"] | None = None,
    *,
    reset_after: bool = True,
    numbers: Integer[Array, "batch steps"] | None = None,
    mask: Bool[Array, "batch steps"] | None = None,
    go_backwards: bool = False,
    return_sequences: bool = True,
    unroll: bool = False,
) -> tuple[Float[Array, "batch steps units"] | None, Float[Array, "batch units"]]:
    r"""A gated recurrent unit, :math:`h_t = z h_{t-1} + (1 - z) \tilde h`.

    The logistic gates :math:`z` and :math:`r` are two blocks of :math:`x_t W + h_{t-1} U + b`. The candidate is
    :math:`\tilde h = \tanh(x_t W_h + b_h + r (h_{t-1} U_h + b'_h))`, or with the reset gate before the product
    :math:`\tanh(x_t W_h + (r h_{t-1}) U_h + b_h)`.

    Args:
        x: the sequences, ``(batch, steps, features)``; or with ``numbers`` a table, ``(rows, features)``.
        h: the state to start from, ``(batch, units)``.
        kernel: :math:`W`, ``(features, 3 * units)``.
        recurrent_kernel: :math:`U`, ``(units, 3 * units)``.
        bias: ``(2, 3 * units)``, for the input and for the state; ``(3 * units,)`` with the reset gate before.
        reset_after: whether the reset gate is applied after the product with the state.
        numbers: ``(batch, steps)``, which rows of the table the sequences are made of.
        mask: ``(batch, steps)``; where it is False, the state stays as it is.
        go_backwards: whether to start at the last step; the outputs come in that order.
        return_sequences: whether the outputs of all steps are wanted.
        unroll: whether to write the loop out, step after step.

    Returns:
        The outputs, ``(batch, steps, units)`` (or ``None``), and the last state.

    Raises:
        ShapeError: for a table without numbers, or sequences with them.

    Cho et al. 2014, *Learning phrase representations using RNN encoder-decoder*.

    >>> y, h = gru(jnp.ones((2, 5, 3)), jnp.zeros((2, 4)), jnp.ones((3, 12)), jnp.ones((4, 12)), jnp.ones((2, 12)))
    >>> y.shape, h.shape
    ((2, 5, 4), (2, 4))
    """
    options = (go_backwards, return_sequences, unroll)
    cell = "gru" if reset_after else "gru_reset_before"
    outputs, (h,) = _run(cell, x, kernel, bias, recurrent_kernel, numbers, mask, (h,), *options)
    return outputs, h


def _run(
    cell: str,
    x: Array,
    kernel: Array,
    bias: Array | None,
    recurrent_kernel: Array,
    numbers: Array | None,
    mask: Array | None,
    states: States,
    go_backwards: bool,
    return_sequences: bool,
    unroll: bool,
) -> tuple[Array | None, States]:
    """The outputs of all steps, where they are wanted, and the last states."""
    if jnp.ndim(x) != (3 if numbers is None else 2):
        raise ShapeError(
            "expected sequences, (batch, steps, features), or numbers and a table, (rows, features); received "
            f"{'no numbers' if numbers is None else 'numbers'} and x of shape {jnp.shape(x)}.\n"
            f"Write:  {cell.removesuffix('_reset_before')}(table, ..., numbers=numbers)   or   without numbers,  x[numbers]"
        )
    bias = jnp.asarray(() if bias is None else bias)
    numbers = jnp.asarray(() if numbers is None else numbers, "int32")
    mask = jnp.asarray(() if mask is None else mask, bool)
    dtype = jnp.result_type(x, kernel, recurrent_kernel, *states)
    x, kernel, bias, recurrent_kernel, *first = (
        jnp.asarray(array, dtype) for array in (x, kernel, bias, recurrent_kernel, *states)
    )
    run = functools.partial(loop, unroll=unroll) if unroll or cell == "gru_reset_before" else RECURRENCE
    settings = {"go_backwards": go_backwards, "return_sequences": return_sequences}
    results = run(x, numbers, kernel, bias, recurrent_kernel, mask, *first, cell=cell, **settings)
    return results[0] if return_sequences else None, tuple(results[-len(first) :])
