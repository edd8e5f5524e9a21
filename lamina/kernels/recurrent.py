"""Recurrent networks over whole sequences: simple, LSTM and GRU.

The input of all steps is projected by one matrix product; only the product with the state is left to the loop.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from lamina.core.typing import Array, Bool, Float

Activation = Callable[[Array], Array]
States = tuple[Float[Array, "*batch units"], ...]


def simple_rnn(
    x: Float[Array, "batch steps features"],
    h: Float[Array, "batch units"],
    kernel: Float[Array, "features units"],
    recurrent_kernel: Float[Array, "units units"],
    bias: Float[Array, " units"] | None = None,
    *,
    mask: Bool[Array, "batch steps"] | None = None,
    go_backwards: bool = False,
    return_sequences: bool = True,
    unroll: bool = False,
) -> tuple[Float[Array, "batch steps units"] | None, Float[Array, "batch units"]]:
    r"""A simple recurrent network, :math:`h_t = \tanh(x_t W + h_{t-1} U + b)`.

    Args:
        x: the sequences, ``(batch, steps, features)``.
        h: the state to start from, ``(batch, units)``.
        kernel: :math:`W`, ``(features, units)``.
        recurrent_kernel: :math:`U`, ``(units, units)``.
        bias: :math:`b`, ``(units,)``.
        mask: ``(batch, steps)``; where it is False, the state stays as it is.
        go_backwards: whether to start at the last step; the outputs come in that order.
        return_sequences: whether the outputs of all steps are wanted.
        unroll: whether to write the loop out, step after step.

    Returns:
        The outputs, ``(batch, steps, units)`` (or ``None``), and the last state.

    >>> y, h = simple_rnn(jnp.ones((2, 5, 3)), jnp.zeros((2, 4)), jnp.ones((3, 4)), jnp.eye(4))
    >>> y.shape, bool((y[:, -1] == h).all())
    ((2, 5, 4), True)
    """

    def step(x: Array, states: States) -> States:
        return simple_rnn_gates(x, jnp.matmul(states[0], recurrent_kernel), states)

    projected = _project(x, kernel, bias, go_backwards)
    outputs, (h,) = _loop(step, projected, (h,), _steps_first(mask, go_backwards), return_sequences, unroll)
    return outputs, h


def lstm(
    x: Float[Array, "batch steps features"],
    h: Float[Array, "batch units"],
    c: Float[Array, "batch units"],
    kernel: Float[Array, "features 4*units"],
    recurrent_kernel: Float[Array, "units 4*units"],
    bias: Float[Array, " 4*units"] | None = None,
    *,
    mask: Bool[Array, "batch steps"] | None = None,
    go_backwards: bool = False,
    return_sequences: bool = True,
    unroll: bool = False,
) -> tuple[Float[Array, "batch steps units"] | None, Float[Array, "batch units"], Float[Array, "batch units"]]:
    r"""Long short-term memory: :math:`c_t = f c_{t-1} + i g` and :math:`h_t = o \tanh(c_t)`.

    :math:`(i, f, g, o)` are four blocks of :math:`x_t W + h_{t-1} U + b`: logistic gates, but :math:`g` a tanh.

    Args:
        x: the sequences, ``(batch, steps, features)``.
        h: the output to start from, ``(batch, units)``.
        c: the memory to start from, ``(batch, units)``.
        kernel: :math:`W`, ``(features, 4 * units)``.
        recurrent_kernel: :math:`U`, ``(units, 4 * units)``.
        bias: :math:`b`, ``(4 * units,)``.
        mask: ``(batch, steps)``; where it is False, the states stay as they are.
        go_backwards: whether to start at the last step; the outputs come in that order.
        return_sequences: whether the outputs of all steps are wanted.
        unroll: whether to write the loop out, step after step.

    Returns:
        The outputs, ``(batch, steps, units)`` (or ``None``), and the last two states.

    Hochreiter and Schmidhuber 1997, *Long short-term memory*.

    >>> y, h, c = lstm(jnp.ones((2, 5, 3)), jnp.zeros((2, 4)), jnp.zeros((2, 4)), jnp.ones((3, 16)), jnp.ones((4, 16)))
    >>> y.shape, c.shape
    ((2, 5, 4), (2, 4))
    """

    def step(x: Array, states: States) -> States:
        return lstm_gates(x, jnp.matmul(states[0], recurrent_kernel), states)

    projected = _project(x, kernel, bias, go_backwards)
    outputs, (h, c) = _loop(step, projected, (h, c), _steps_first(mask, go_backwards), return_sequences, unroll)
    return outputs, h, c


def gru(
    x: Float[Array, "batch steps features"],
    h: Float[Array, "batch units"],
    kernel: Float[Array, "features 3*units"],
    recurrent_kernel: Float[Array, "units 3*units"],
    bias: Float[Array, "2 3*units"] | Float[Array, " 3*units"] | None = None,
    *,
    reset_after: bool = True,
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
        x: the sequences, ``(batch, steps, features)``.
        h: the state to start from, ``(batch, units)``.
        kernel: :math:`W`, ``(features, 3 * units)``.
        recurrent_kernel: :math:`U`, ``(units, 3 * units)``.
        bias: ``(2, 3 * units)``, for the input and for the state; ``(3 * units,)`` with the reset gate before.
        reset_after: whether the reset gate is applied after the product with the state.
        mask: ``(batch, steps)``; where it is False, the state stays as it is.
        go_backwards: whether to start at the last step; the outputs come in that order.
        return_sequences: whether the outputs of all steps are wanted.
        unroll: whether to write the loop out, step after step.

    Returns:
        The outputs, ``(batch, steps, units)`` (or ``None``), and the last state.

    Cho et al. 2014, *Learning phrase representations using RNN encoder-decoder*.

    >>> y, h = gru(jnp.ones((2, 5, 3)), jnp.zeros((2, 4)), jnp.ones((3, 12)), jnp.ones((4, 12)), jnp.ones((2, 12)))
    >>> y.shape, h.shape
    ((2, 5, 4), (2, 4))
    """
    input_bias, recurrent_bias = (bias[0], bias[1]) if bias is not None and reset_after else (bias, None)

    def step(x: Array, states: States) -> States:
        if not reset_after:
            return (gru_reset_before_step(x, states[0], recurrent_kernel),)
        inner = jnp.matmul(states[0], recurrent_kernel)
        return gru_gates(x, inner if recurrent_bias is None else inner + recurrent_bias, states)

    projected = _project(x, kernel, input_bias, go_backwards)
    outputs, (h,) = _loop(step, projected, (h,), _steps_first(mask, go_backwards), return_sequences, unroll)
    return outputs, h


def simple_rnn_gates(
    x: Float[Array, "*batch units"],
    inner: Float[Array, "*batch units"],
    states: States,
    activation: Activation = jnp.tanh,
) -> States:
    """The next state of a simple recurrent network, from the projected input and the product of the state."""
    return (activation(x + inner),)


def lstm_gates(
    x: Float[Array, "*batch gates"],
    inner: Float[Array, "*batch gates"],
    states: States,
    activation: Activation = jnp.tanh,
    recurrent_activation: Activation = jax.nn.sigmoid,
) -> States:
    """The next states of an LSTM, from the projected input and the product of the state."""
    i, f, g, o = jnp.split(x + inner, 4, axis=-1)
    c = recurrent_activation(f) * states[1] + recurrent_activation(i) * activation(g)
    return recurrent_activation(o) * activation(c), c


def gru_gates(
    x: Float[Array, "*batch gates"],
    inner: Float[Array, "*batch gates"],
    states: States,
    activation: Activation = jnp.tanh,
    recurrent_activation: Activation = jax.nn.sigmoid,
) -> States:
    """The next state of a GRU whose reset gate comes after the product with the state."""
    (x_z, x_r, x_h), (h_z, h_r, h_h) = jnp.split(x, 3, axis=-1), jnp.split(inner, 3, axis=-1)
    z, r = recurrent_activation(x_z + h_z), recurrent_activation(x_r + h_r)
    return (z * states[0] + (1 - z) * activation(x_h + r * h_h),)


def gru_reset_before_step(
    x: Float[Array, "batch gates"],
    h: Float[Array, "batch units"],
    recurrent_kernel: Float[Array, "units gates"],
    activation: Activation = jnp.tanh,
    recurrent_activation: Activation = jax.nn.sigmoid,
    dropout: Float[Array, "3 batch units"] | None = None,
) -> Float[Array, "batch units"]:
    """The next state of a GRU whose reset gate comes before the product with the state.

    Args:
        x: the projected input, ``(batch, 3 * units)``.
        h: the state, ``(batch, units)``.
        recurrent_kernel: ``(units, 3 * units)``.
        activation: of the candidate.
        recurrent_activation: of the gates.
        dropout: what the state is multiplied by in each product, ``(3, batch, units)``.
    """
    units = h.shape[-1]
    x_z, x_r, x_h = jnp.split(x, 3, axis=-1)
    inner = gate_products(h, recurrent_kernel[:, : 2 * units], None if dropout is None else dropout[:2])
    h_z, h_r = jnp.split(inner, 2, axis=-1)
    z, r = recurrent_activation(x_z + h_z), recurrent_activation(x_r + h_r)
    kept = h if dropout is None else h * dropout[2]
    return z * h + (1 - z) * activation(x_h + jnp.matmul(r * kept, recurrent_kernel[:, 2 * units :]))


def gate_products(
    x: Float[Array, "batch features"],
    kernel: Float[Array, "features outputs"],
    dropout: Float[Array, "batch features"] | Float[Array, "gates batch features"] | None = None,
) -> Float[Array, "batch outputs"]:
    """``x @ kernel``, with ``x`` multiplied by a dropout mask: one for all gates, or one for each.

    Args:
        x: ``(batch, features)``.
        kernel: ``(features, gates * units)``.
        dropout: ``(batch, features)`` or ``(gates, batch, features)``.
    """
    if dropout is None or dropout.ndim == x.ndim:
        return jnp.matmul(x if dropout is None else x * dropout, kernel)
    gates = dropout.shape[0]
    blocks = kernel.reshape(kernel.shape[0], gates, -1)
    return jnp.einsum("gbf,fgu->bgu", x * dropout, blocks).reshape(*x.shape[:-1], -1)


def _project(x: Array, kernel: Array, bias: Array | None, go_backwards: bool) -> Array:
    """The input of all steps times ``kernel``, steps first and in the order in which they are run."""
    x = jnp.swapaxes(x, 0, 1)
    projected = jnp.matmul(x[::-1] if go_backwards else x, kernel)
    return projected if bias is None else projected + bias


def _steps_first(mask: Array | None, go_backwards: bool) -> Array | None:
    """The mask as ``(steps, batch, 1)``, in the order in which the steps are run."""
    if mask is None:
        return None
    mask = jnp.swapaxes(mask.astype(bool), 0, 1)[..., None]
    return mask[::-1] if go_backwards else mask


def _loop(
    step: Callable[[Array, States], States],
    x: Array,
    states: States,
    mask: Array | None,
    return_sequences: bool,
    unroll: bool,
) -> tuple[Array | None, States]:
    """All steps; where the mask is False, the states stay."""

    def body(old: States, inputs: tuple[Array, Array | None]) -> tuple[States, Array | None]:
        x, keep = inputs
        new = step(x, old)
        if keep is not None:
            new = tuple(jnp.where(keep, n, o) for n, o in zip(new, old, strict=True))
        return new, new[0] if return_sequences else None

    states, outputs = lax.scan(body, states, (x, mask), unroll=unroll)
    return None if outputs is None else jnp.swapaxes(outputs, 0, 1), states
