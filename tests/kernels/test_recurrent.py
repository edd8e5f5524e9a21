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


def given_in_case(kind, sizes, settings):
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
    return arrays, settings


def with_gradients(kind, settings):
    """A function to the results, alone and with gradients, and the gradients for all arrays."""

    def run(*arrays):
        results, vjp = jax.vjp(lambda *arrays: getattr(recurrent, kind)(*arrays, **settings), *arrays)
        weights = jax.tree.map(lambda r: ((jnp.arange(r.size) % 7 - 3) / 4).astype(r.dtype).reshape(r.shape), results)
        return results, getattr(recurrent, kind)(*arrays, **settings), vjp(weights)

    return run


@NATIVE
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["simple_rnn", "lstm", "gru"])
def test_native_against_portable_in_double_precision(kind, case):
    arrays, settings = given_in_case(kind, *CASES[case])
    run = with_gradients(kind, settings)
    lowered = jax.jit(run).lower(*arrays)
    assert f"lamina.{kind}_backward" in lowered.as_text()
    found = lowered.compile()(*arrays)
    with jax.enable_x64(True):  # which has no native form
        expected = jax.jit(run)(*(array.astype("float64") for array in arrays))
    for mine, exact in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert mine.dtype == "float32"
        np.testing.assert_allclose(mine, exact, rtol=0, atol=4e-6 * max(np.abs(exact).max(), 1))


# the same, large enough for tiles
HALF_CASES = {
    "whole blocks": ((64, 12, 32, 64), {}),
    "an odd batch": ((33, 35, 35, 50), {"mask": True, "go_backwards": True, "return_sequences": False}),
    "one example": ((1, 40, 200, 150), {"go_backwards": True, "bias": False}),
    "steps in chunks": ((130, 9, 5, 33), {"mask": True}),
    "rows of a table": ((70, 20, 20, 33), {"rows": 90, "mask": True}),
}
TILES = pytest.mark.skipif(
    "half_lstm_forward" not in native.load().names, reason="this processor has no products of halves"
)
# What rounding once can change, of a number, and 0.4 of it in the root mean square. Of states little more than that is seen,
# as what is added up is not rounded; gradients come from gates that were rounded, and are rounded again in each step.
HALF = 2.0**-8
BOUNDS = {"results": 0.6 * HALF, "results alone": 0.6 * HALF, "gradients": 3 * HALF}


@TILES
@pytest.mark.parametrize("case", HALF_CASES)
@pytest.mark.parametrize("kind", ["simple_rnn", "lstm", "gru"])
def test_half_numbers_in_tiles_against_double_precision(kind, case):
    sizes, settings = HALF_CASES[case]
    arrays, settings = given_in_case(kind, sizes, settings)
    arrays = [array.astype("bfloat16") for array in arrays]
    run = with_gradients(kind, settings)
    lowered = jax.jit(run).lower(*arrays)
    assert lowered.as_text().count(f"@lamina.half_{kind}_forward") == 2
    assert lowered.as_text().count(f"@lamina.half_{kind}_backward") == 1
    found = lowered.compile()(*arrays)
    with jax.enable_x64(True):
        expected = jax.jit(run)(*(np.asarray(array, "float64") for array in arrays))
    for bound, *parts in zip(BOUNDS.values(), found, expected, strict=True):
        for mine, exact in zip(*map(jax.tree.leaves, parts), strict=True):
            assert mine.dtype == jnp.bfloat16
            exact = np.asarray(exact)
            error = np.asarray(mine, "float64") - exact
            assert np.sqrt(np.mean(error**2)) <= bound * np.sqrt(np.mean(np.square(exact)))


@TILES
@pytest.mark.parametrize(("kind", "bias"), [("lstm", [-6, 12, 3, 0]), ("gru", [6, 0, 3, 0, 0, 0])])
def test_half_states_grow_by_less_than_rounding_changes(kind, bias):
    batch, steps, units = 32, 200, 64
    zero = jnp.zeros((batch, units), jnp.bfloat16)
    kernel = jnp.zeros((units, len(bias) // (2 if kind == "gru" else 1) * units), jnp.bfloat16)
    bias = jnp.repeat(jnp.asarray(bias, jnp.bfloat16), units).reshape((2, -1) if kind == "gru" else -1)
    states, run = [zero] * (2 if kind == "lstm" else 1), getattr(recurrent, kind)
    x = jnp.zeros((batch, steps, units), jnp.bfloat16)
    *_, last = jax.jit(run)(x, *states, kernel, kernel, bias)
    share = sigmoid(-6.0)  # of what may come in, in each step
    kept = sigmoid(12.0) if kind == "lstm" else 1 - share
    exact = share * np.tanh(3.0) * (1 - kept**steps) / (1 - kept)
    np.testing.assert_allclose(np.asarray(last, "float64"), exact, rtol=HALF)


@TILES
def test_half_examples_do_not_meet_and_masked_steps_change_nothing():
    arrays, _ = drawn("lstm", 33, 12, 32, 64)
    x, h, c, *weights = (array.astype("bfloat16") for array in arrays)
    mask = jnp.ones((33, 12), bool).at[7].set(False)

    def run(x, h, c):
        return recurrent.lstm(x, h, c, *weights, mask=mask)

    (y, *last), vjp = jax.vjp(jax.jit(run), x.at[32, 5, 3].set(jnp.nan), h, c)
    expected = np.zeros((33, 12), bool)
    expected[32, 5:] = True
    np.testing.assert_array_equal(np.isnan(y).all(-1), expected)
    np.testing.assert_array_equal(np.isnan(y).any(-1), expected)
    np.testing.assert_array_equal(y[7], jnp.broadcast_to(h[7], (12, 64)))
    np.testing.assert_array_equal(last[0][7], h[7])
    np.testing.assert_array_equal(last[1][7], c[7])
    of_x, of_h, of_c = vjp((jnp.zeros_like(y), *(jnp.ones_like(state) for state in last)))
    np.testing.assert_array_equal(of_x[7], 0)
    np.testing.assert_array_equal((of_h[7], of_c[7]), 1)


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
