"""The recurrent kernels against the equations written out in NumPy, their gradients against finite differences, and the
native form against the portable one in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from lamina import native
from lamina.core.errors import ShapeError
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
def test_a_table_and_numbers_equal_the_sequences_they_make(kind):
    run, _, gates, count, bias_shape = KINDS[kind]
    x, states, weights = arguments(gates, count, bias_shape)
    numbers = jnp.asarray([[1, 3, 1, 0], [1, 0, 0, 0]])  # nothing picks row 2
    settings = {"mask": jnp.asarray(MASK), "go_backwards": True}

    def looked_up(table, *rest):
        return run(table, *rest, numbers=numbers, **settings)

    def picked(table, *rest):
        return run(table[numbers], *rest, **settings)

    with jax.enable_x64(True):
        given = [jnp.asarray(a) for a in (x[0], *states, *weights)]
        found, expected = (jax.vjp(f, *given) for f in (looked_up, picked))
        weights = jax.tree.map(jnp.cos, expected[0])
        for mine, exact in zip(*(jax.tree.leaves((y, vjp(weights))) for y, vjp in (found, expected)), strict=True):
            np.testing.assert_allclose(mine, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_without_numbers_and_sequences_with_them_are_refused(kind):
    run, _, gates, count, bias_shape = KINDS[kind]
    x, states, weights = jax.tree.map(jnp.asarray, arguments(gates, count, bias_shape))
    with pytest.raises(ShapeError, match=r"received no numbers and x of shape \(4, 3\)\.\nWrite:  "):
        run(x[0], *states, *weights)
    with pytest.raises(ShapeError, match=r"received numbers and x of shape \(2, 4, 3\)"):
        run(x, *states, *weights, numbers=jnp.zeros((BATCH, STEPS), int))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_finite_differences(kind):
    run, _, gates, count, bias_shape = KINDS[kind]
    x, states, weights = arguments(gates, count, bias_shape)
    with jax.enable_x64(True):
        masked = jax.jit(lambda *a: run(*a, mask=jnp.asarray(MASK), go_backwards=True))
        check_grads(masked, (x, *states, *weights), order=1, modes=["rev"])


def test_keeps_half_precision_and_leaves_out_what_is_not_wanted():
    x, states, weights = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), arguments(4, 2, (4 * UNITS,)))
    y, h, c = recurrent.lstm(x, *states, *weights, return_sequences=False)
    assert y is None
    assert h.dtype == c.dtype == jnp.bfloat16
    slope = jax.grad(lambda x: recurrent.lstm(x, *jax.tree.map(jnp.float32, (*states, *weights)))[1].sum())(x)
    assert slope.dtype == jnp.bfloat16


def test_gate_products_with_a_mask_for_each_gate():
    rng = np.random.default_rng(0)
    x, kernel, masks = rng.normal(size=(2, 3)), rng.normal(size=(3, 8)), rng.integers(0, 2, (4, 2, 3)).astype("float32")
    expected = np.concatenate([(x * masks[g]) @ kernel[:, 2 * g : 2 * g + 2] for g in range(4)], -1)
    np.testing.assert_allclose(recurrent.gate_products(*map(jnp.asarray, (x, kernel, masks))), expected, rtol=1e-5)


# (batch, steps, features, units), and settings; with ``rows``, the input is looked up in a table
CASES = {
    "one number": ((1, 2, 1, 1), {}),
    "several steps at once": ((2, 37, 3, 5), {"go_backwards": True}),
    "whole vectors": ((5, 4, 16, 32), {"mask": True, "return_sequences": False}),
    "shared out": ((70, 20, 5, 33), {"mask": True}),
    "wide": ((9, 3, 35, 100), {"mask": True, "go_backwards": True, "bias": False, "return_sequences": False}),
    "rows picked often": ((5, 4, 16, 32), {"rows": 3}),
    "rows picked rarely": ((2, 37, 3, 5), {"rows": 500, "go_backwards": True, "bias": False}),
    "rows shared out": ((70, 20, 5, 33), {"rows": 900, "mask": True, "return_sequences": False}),
}
NATIVE = pytest.mark.skipif(not native.load().names, reason="the native kernels were not built")


def drawn(kind, batch, steps, features, units):
    """Everything that has a gradient, and a mask."""
    gates, count, bias_shape = {"simple_rnn": (1, 1, ()), "lstm": (4, 2, ()), "gru": (3, 1, (2,))}[kind]
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(rows, gates * units)) / np.sqrt(rows) for rows in (features, units)]
    states = [rng.normal(size=(batch, units)) for _ in range(count)]
    arrays = [
        rng.normal(size=(batch, steps, features)),
        *states,
        *weights,
        rng.normal(size=(*bias_shape, gates * units)),
    ]
    return [jnp.asarray(array, "float32") for array in arrays], jnp.asarray(rng.random((batch, steps)) < 0.7)


@NATIVE
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["simple_rnn", "lstm", "gru"])
def test_native_against_portable_in_double_precision(kind, case):
    sizes, settings = CASES[case]
    arrays, mask = drawn(kind, *sizes)
    if not settings.get("bias", True):
        arrays.pop()
    rows = settings.get("rows")
    settings = {name: value for name, value in settings.items() if name not in ("bias", "rows")}
    if settings.get("mask"):
        settings["mask"] = mask
    if rows:
        rng = np.random.default_rng(1)
        arrays[0] = jnp.asarray(rng.normal(size=(rows, sizes[2])), "float32")
        settings["numbers"] = jnp.asarray(rng.integers(-rows // 4, rows, sizes[:2]), "int32")  # some from the end

    def with_gradients(*arrays):
        results, vjp = jax.vjp(lambda *arrays: getattr(recurrent, kind)(*arrays, **settings), *arrays)
        weights = jax.tree.map(lambda r: jnp.cos(jnp.arange(r.size, dtype=r.dtype)).reshape(r.shape), results)
        return results, getattr(recurrent, kind)(*arrays, **settings), vjp(weights)

    lowered = jax.jit(with_gradients).lower(*arrays)
    assert f"lamina.{kind}_backward" in lowered.as_text()
    found = lowered.compile()(*arrays)
    with jax.enable_x64(True):  # which has no native form
        expected = jax.jit(with_gradients)(*(array.astype("float64") for array in arrays))
    for mine, exact in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert mine.dtype == "float32"
        np.testing.assert_allclose(mine, exact, rtol=0, atol=4e-6 * max(np.abs(exact).max(), 1))


@NATIVE
def test_derivatives_of_other_kinds():
    """Of weights alone, of a gradient, and of many outputs at once, where only the first loop is native."""
    arrays, mask = drawn("lstm", 2, 3, 2, 3)

    def last(kernel, arrays):
        return recurrent.lstm(*arrays[:3], kernel, *arrays[4:], mask=mask)[1]

    def energy(kernel, arrays):
        return jnp.sum(last(kernel, arrays) ** 3)

    def run(*arrays):
        slope = jax.grad(energy)(arrays[3], arrays)
        return (
            slope,
            jax.grad(lambda a: jnp.sum(jax.grad(energy)(a[3], a) ** 2))(arrays),
            jax.jacrev(last)(arrays[3], arrays),
        )

    lowered = jax.jit(run).lower(*arrays)
    assert "lamina.lstm_backward" in lowered.as_text()
    found = lowered.compile()(*arrays)
    with jax.enable_x64(True):
        expected = jax.jit(run)(*(array.astype("float64") for array in arrays))
    for mine, exact in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, exact, rtol=0, atol=1e-5 * np.abs(exact).max())


def test_not_a_number_stays_one_where_it_is():
    (x, *rest), _ = drawn("gru", 2, 4, 3, 5)
    y, h = recurrent.gru(x.at[1, 2, 0].set(np.nan), *rest)
    expected = np.zeros((2, 4), bool)
    expected[1, 2:] = True
    np.testing.assert_array_equal(np.isnan(y).all(-1), expected)
    np.testing.assert_array_equal(np.isnan(y).any(-1), expected)
    np.testing.assert_array_equal(np.isnan(h), np.isnan(y[:, -1]))


@NATIVE
def test_numbers_outside_the_table_as_in_portable_form():
    (x, *rest), _ = drawn("lstm", 2, 4, 3, 5)
    numbers = jnp.asarray([[0, 1, 8, 1], [7, -8, 0, 7]])

    def run(table, *rest):
        y, *_ = recurrent.lstm(table, *rest, numbers=numbers)
        return jnp.nansum(y**2), y

    lowered = jax.jit(jax.grad(run, argnums=range(6), has_aux=True)).lower(x.reshape(8, 3), *rest)
    assert "lamina.lstm_backward" in lowered.as_text()
    gradients, y = lowered.compile()(x.reshape(8, 3), *rest)
    assert np.isnan(y[0, 2:]).all()
    assert np.isfinite(y[1]).all()
    assert np.isfinite(y[0, :2]).all()
    assert (gradients[0][2:7] == 0).all()
    with jax.enable_x64(True):
        expected, _ = jax.grad(run, argnums=range(6), has_aux=True)(
            *(a.astype("float64") for a in (x.reshape(8, 3), *rest))
        )
    for mine, exact in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(mine, exact, rtol=1e-4, atol=1e-5)
