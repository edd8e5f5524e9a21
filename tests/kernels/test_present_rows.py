"""Rows that are not present, as of padding, are left out of dense layers: they give zeros, and nothing depends on them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import native
from lamina.kernels import dense_operations as operations
from lamina.kernels import feed_forward
from lamina.kernels.addition import residual
from lamina.kernels.dense import dense, dense_gelu
from tests.kernels.cases import CASES, NATIVE

#: operations, and which of their arguments have these rows
ROWS = {
    operations.DENSE: [0, 3],
    operations.DENSE_GELU: [0],
    operations.DENSE_GRADIENT: [0, 2, 3],
    feed_forward.FEED_FORWARD: [0, 5],
    feed_forward.FEED_FORWARD_GRADIENT: [0, 3, 4],
}
NUMBERS = [number for number, case in enumerate(CASES) if case[0] in ROWS]
HALF = [
    (operations.DENSE, {"slope": 1.0}, [(2, 48, 128), (128, 160), (160,), (0,)]),
    (operations.DENSE, {"slope": 1.0}, [(530, 70), (70, 330), (330,), (530, 330)]),
    (operations.DENSE_GELU, {}, [(2, 65, 420), (420, 130), (130,)]),
    (operations.DENSE_GRADIENT, {"slope": 1.0, "back": True, "gelu": False}, [(96, 128), (128, 160), (0,), (96, 160)]),
    (operations.DENSE_GRADIENT, {"slope": 0.0, "back": True, "gelu": True}, [(530, 70), (70, 331), *[(530, 331)] * 2]),
    (feed_forward.FEED_FORWARD, {}, [(2, 265, 70), (70, 130), (130,), (130, 35), (35,), (2, 265, 35)]),
    (feed_forward.FEED_FORWARD_KEEPING, {}, [(577, 64), (64, 96), (0,), (96, 64), (0,), (0,)]),
    (feed_forward.FEED_FORWARD_GRADIENT, {"back": True}, [(1100, 64), (64, 96), (96, 32), (1100, 96), (1100, 32)]),
]


def some_present(rng, shape, kind):
    """Which rows are there: all but the ends of examples, or others, or nearly none, or none, or all."""
    rows = {"some": rng.random(shape) < 0.7, "few": rng.random(shape) < 0.004}
    length = shape[-1]
    ends = np.arange(length) < rng.integers(length // 2, length + 1, (*shape[:-1], 1))
    return {**rows, "ends": ends, "none": np.zeros(shape, bool), "all": np.ones(shape, bool)}[kind]


@NATIVE
@pytest.mark.parametrize("kind", ["some", "ends", "few", "none", "all"])
@pytest.mark.parametrize("number", NUMBERS)
def test_native_against_portable_in_double_precision(number, kind):
    operation, settings, shapes = CASES[number]
    rng = np.random.default_rng(number)
    arrays = [rng.normal(size=shape).astype("float32") for shape in shapes]
    present = some_present(rng, shapes[0][:-1], kind)
    assert operation.is_native(*arrays, present, **settings)

    def with_gradients(*arrays):
        results, vjp = jax.vjp(lambda *arrays: operation(*arrays, present, **settings), *arrays)
        weights = jax.tree.map(lambda r: jnp.cos(jnp.arange(r.size, dtype=r.dtype)).reshape(r.shape), results)
        return results, vjp(weights)

    found = jax.jit(with_gradients)(*arrays)
    with jax.enable_x64(True):
        expected = jax.jit(with_gradients)(*[array.astype("float64") for array in arrays])
    for mine, exact in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert mine.shape == exact.shape
        np.testing.assert_allclose(mine, exact, rtol=0, atol=3e-6 * max(np.abs(exact).max(initial=0), 1))


@pytest.mark.parametrize("number", NUMBERS)
def test_results_are_those_of_the_rows_that_are_there(number):
    operation, settings, shapes = CASES[number]
    rng = np.random.default_rng(number)
    arrays = [rng.normal(size=shape).astype("float32") for shape in shapes]
    present = some_present(rng, shapes[0][:-1], "some")
    packed = [array[present] if i in ROWS[operation] and array.size else array for i, array in enumerate(arrays)]
    found, expected = operation(*arrays, present, **settings), operation.portable(*map(jnp.asarray, packed), **settings)
    of_rows = [True] if not operation.multiple else [True, *[False] * (len(expected) - 1)]
    more = arrays[-1] if operation in (operations.DENSE, feed_forward.FEED_FORWARD) else np.zeros(0)
    for mine, other, has_rows in zip(jax.tree.leaves(found), jax.tree.leaves(expected), of_rows, strict=True):
        if has_rows and mine.size:
            others = more.reshape(mine.shape) if more.size else np.zeros(mine.shape)
            where = present.reshape(mine.shape[:-1])
            np.testing.assert_array_equal(mine[~where], others[~where])
            mine = mine[where]
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5 * max(np.abs(other).max(initial=0), 1))


@NATIVE
@pytest.mark.parametrize("number", [number for number in NUMBERS if math.prod(CASES[number][2][0][:-1]) >= 32])
def test_other_rows_are_not_looked_at(number):  # of fewer rows, all are worked out
    operation, settings, shapes = CASES[number]
    rng = np.random.default_rng(number)
    arrays = [rng.normal(size=shape).astype("float32") for shape in shapes]
    present = some_present(rng, shapes[0][:-1], "ends")
    spoilt = [
        np.where(present[..., None], array, np.nan).astype("float32") if i in ROWS[operation] and array.size else array
        for i, array in enumerate(arrays)
    ]
    if operation in (operations.DENSE, feed_forward.FEED_FORWARD):
        spoilt[-1] = arrays[-1]  # what is added is to be seen
    results = jax.jit(lambda *arrays: operation(*arrays, present, **settings))(*spoilt)
    same = jax.jit(lambda *arrays: operation(*arrays, present, **settings))(*arrays)
    for mine, other in zip(jax.tree.leaves(results), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.skipif("half_dense" not in native.load().names, reason="this processor has no products of halves")
@pytest.mark.parametrize("kind", ["some", "ends", "few", "none", "all"])
@pytest.mark.parametrize(("operation", "settings", "shapes"), HALF)
def test_half_numbers(operation, settings, shapes, kind):
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for shape in shapes]
    present = some_present(rng, shapes[0][:-1], kind)
    assert operation.is_half(*arrays, present, **settings)
    found = jax.jit(lambda *arrays: operation(*arrays, present, **settings))(*arrays)
    with jax.enable_x64(True):
        doubled = [jnp.asarray(np.asarray(a, "float64")) for a in arrays]
        exact = operation.portable(*doubled, jnp.asarray(present), **settings)
    for mine, other in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        assert mine.shape == other.shape
        rounded_between = settings.get("gelu") or operation.name.startswith("feed_forward")
        atol = (5e-3 if rounded_between else 1e-5) * np.abs(other).max(initial=0)
        np.testing.assert_allclose(np.asarray(mine, "float64"), other, rtol=1.01 * 2.0**-8, atol=atol)


def block(x, kernel, bias, second_kernel, second_bias, present):
    return residual(x, dense(dense_gelu(x, kernel, bias, present), second_kernel, second_bias, present=present))


@pytest.mark.parametrize("examples", [2, 12])  # of few rows layers stay apart, of many they become one
def test_layers_give_each_text_what_it_gets_alone(examples):
    rng = np.random.default_rng(0)
    shapes = [(examples, 50, 12), (12, 40), (40,), (40, 12), (12,)]
    x, *weights = [jnp.asarray(0.5 * rng.normal(size=shape), "float32") for shape in shapes]
    lengths = rng.integers(1, 51, examples)
    present = jnp.arange(50) < lengths[:, None]

    def loss(x, *weights):
        y = block(x, *weights, present)
        return jnp.sum(jnp.sin(y) * present[..., None]), y

    def one_by_one(x, *weights):
        texts = [block(text[None, :length], *weights, None) for text, length in zip(x, lengths, strict=True)]
        return sum(jnp.sum(jnp.sin(text)) for text in texts), texts

    gradients, y = jax.jit(jax.grad(loss, range(5), has_aux=True))(x, *weights)
    expected, texts = jax.jit(jax.grad(one_by_one, range(5), has_aux=True))(x, *weights)
    for mine, other in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=3e-6 * max(np.abs(other).max(), 1))
    for mine, text, length, given in zip(y, texts, lengths, x, strict=True):
        np.testing.assert_allclose(mine[:length], text[0], rtol=0, atol=3e-6)
        np.testing.assert_array_equal(mine[length:], given[length:])


def test_layers_that_leave_out_other_rows_are_not_joined():
    x = jnp.ones((600, 8))
    present = jnp.arange(600) < 500
    between = dense_gelu(x, jnp.ones((8, 16)), None, present)
    y = jax.jit(lambda x: dense(dense_gelu(x, jnp.ones((8, 16)), None, present), jnp.ones((16, 8)), jnp.ones(8)))(x)
    np.testing.assert_allclose(y, between @ jnp.ones((16, 8)) + 1, rtol=1e-6)
