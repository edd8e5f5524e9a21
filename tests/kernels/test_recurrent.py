"""The recurrent kernels against the equations written out in NumPy, and their gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lamina.kernels import recurrent

BATCH, STEPS, FEATURES, UNITS = 2, 4, 3, 2
MASK = np.array([[True, False, True, True], [False, True, True, False]])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def simple_step(x, states, kernel, inner_kernel, bias):
    return (np.tanh(x @ kernel + states[0] @ inner_kernel + bias),)


def lstm_step(x, states, kernel, inner_kernel, bias):
    h, c = states
    i, f, g, o = np.split(x @ kernel + h @ inner_kernel + bias, 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(x, states, kernel, inner_kernel, bias):
    (h,) = states
    (xz, xr, xh), (hz, hr, hh) = (
        np.split(x @ kernel + bias[0], 3, -1),
        np.split(h @ inner_kernel + bias[1], 3, -1),
    )
    z, r = sigmoid(xz + hz), sigmoid(xr + hr)
    return (z * h + (1 - z) * np.tanh(xh + r * hh),)


def gru_before_step(x, states, kernel, inner_kernel, bias):
    (h,) = states
    xz, xr, xh = np.split(x @ kernel + bias, 3, -1)
    uz, ur, uh = np.split(inner_kernel, 3, -1)
    z, r = sigmoid(xz + h @ uz), sigmoid(xr + h @ ur)
    return (z * h + (1 - z) * np.tanh(xh + (r * h) @ uh),)


def gru_before(*args, **kwargs):
    return recurrent.gru(*args, reset_after=False, **kwargs)


KINDS = {
    "simple_rnn": (recurrent.simple_rnn, simple_step, 1, 1, (UNITS,)),
    "lstm": (recurrent.lstm, lstm_step, 4, 2, (4 * UNITS,)),
    "gru": (recurrent.gru, gru_step, 3, 1, (2, 3 * UNITS)),
    "gru_before": (gru_before, gru_before_step, 3, 1, (3 * UNITS,)),
}


def arguments(gates, count, bias_shape):
    rng = np.random.default_rng(0)
    states = [rng.normal(size=(BATCH, UNITS)) for _ in range(count)]
    kernels = [rng.normal(size=(FEATURES, gates * UNITS)), rng.normal(size=(UNITS, gates * UNITS))]
    return rng.normal(size=(BATCH, STEPS, FEATURES)), states, [*kernels, rng.normal(size=bias_shape)]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_equations(kind, backwards):
    run, step, gates, count, bias_shape = KINDS[kind]
    x, states, weights = arguments(gates, count, bias_shape)
    with jax.enable_x64(True):
        given = map(jnp.asarray, (x, *states, *weights))
        y, *last = run(*given, mask=jnp.asarray(MASK), go_backwards=backwards, unroll=backwards)
        assert y.dtype == jnp.float64
    seen = []
    for t in reversed(range(STEPS)) if backwards else range(STEPS):
        new = step(x[:, t], states, *weights)
        states = [np.where(MASK[:, t, None], n, s) for n, s in zip(new, states, strict=True)]
        seen.append(states[0])
    np.testing.assert_allclose(y, np.stack(seen, 1), rtol=1e-12)
    for ours, theirs in zip(last, states, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_finite_differences(kind):
    run, _, gates, count, bias_shape = KINDS[kind]
    x, states, weights = arguments(gates, count, bias_shape)
    with jax.enable_x64(True):
        masked = jax.jit(lambda *a: run(*a, mask=jnp.asarray(MASK))[0])
        check_grads(masked, (x, *states, *weights), order=1, modes=["rev"])


def test_keeps_half_precision_and_leaves_out_what_is_not_wanted():
    x, states, weights = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), arguments(4, 2, (4 * UNITS,)))
    y, h, c = recurrent.lstm(x, *states, *weights, return_sequences=False)
    assert y is None
    assert h.dtype == c.dtype == jnp.bfloat16


def test_gate_products_with_a_mask_for_each_gate():
    rng = np.random.default_rng(0)
    x, kernel, masks = rng.normal(size=(2, 3)), rng.normal(size=(3, 8)), rng.integers(0, 2, (4, 2, 3)).astype("float32")
    expected = np.concatenate([(x * masks[g]) @ kernel[:, 2 * g : 2 * g + 2] for g in range(4)], -1)
    np.testing.assert_allclose(recurrent.gate_products(*map(jnp.asarray, (x, kernel, masks))), expected, rtol=1e-5)
