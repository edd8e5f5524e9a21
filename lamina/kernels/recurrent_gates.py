"""One step of a recurrent network, from the projected input and the product of the state: simple, LSTM and GRU."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lamina.core.typing import Array, Float

Activation = Callable[[Array], Array]
States = tuple[Float[Array, "*batch units"], ...]


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
