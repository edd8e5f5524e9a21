"""Pooling kernels against ``lax.reduce_window`` and PyTorch's definition of adaptive windows: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from lamina import native
from lamina.kernels import pooling
from tests.kernels.test_convolution import same_with_gradients


@st.composite
def problems(draw):
    """Arguments of a pooling whose window fits, and an input without equal entries."""
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    size = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    strides = draw(st.one_of(st.none(), st.tuples(*[st.integers(1, 4)] * rank)))
    lengths = tuple(k + draw(st.integers(0, 5)) for k in size)
    shape = (2, *lengths, 2)
    order = np.random.default_rng(draw(st.integers(0, 9))).permutation(int(np.prod(shape)))
    x = (order / order.size).astype("float32").reshape(shape)
    return x, size, strides, draw(st.sampled_from(["valid", "same"]))


def windowed(x, start, merge, size, strides, padding):
    strides = size if strides is None else strides
    return lax.reduce_window(x, start, merge, (1, *size, 1), (1, *strides, 1), padding.upper())


@settings(max_examples=8, deadline=None, derandomize=True)
@given(problems())
def test_max_against_lax(problem):
    x, *arguments = problem
    same_with_gradients(
        lambda x: pooling.max_pool(x, *arguments), lambda x: windowed(x, -jnp.inf, lax.max, *arguments), x
    )


@settings(max_examples=8, deadline=None, derandomize=True)
@given(problems())
def test_average_against_lax(problem):
    x, *arguments = problem
    same_with_gradients(
        lambda x: pooling.average_pool(x, *arguments),
        lambda x: windowed(x, 0.0, lax.add, *arguments) / windowed(jnp.ones_like(x), 0.0, lax.add, *arguments),
        x,
    )


def test_long_windows_and_windows_that_do_not_fit():
    array = np.random.default_rng(0).normal(size=(1, 200, 2)).astype("float32")
    x = jnp.asarray(array)
    np.testing.assert_array_equal(pooling.max_pool(x, 100), array.reshape(1, 2, 100, 2).max(2))
    np.testing.assert_allclose(pooling.average_pool(x, 100), array.reshape(1, 2, 100, 2).mean(2), rtol=1e-4, atol=1e-6)
    assert pooling.max_pool(x, 201).shape == (1, 0, 2)


@pytest.mark.parametrize(
    ("size", "strides", "expected"),
    [
        (2, None, [[4, 0, 4, 0], [0, 0, 0, 0], [4, 0, 4, 0], [0, 0, 0, 0]]),
        (3, 1, [[9, 9, 0, 0], [9, 9, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
        (4, None, [[16, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
    ],
)
def test_of_equals_the_first_has_the_gradient(size, strides, expected):
    """After ReLU many entries are equal; each window's gradient must reach exactly one, as with XLA and PyTorch."""
    gradient = jax.grad(lambda x: jnp.sum(pooling.max_pool(x, size, strides)) * size**2)(jnp.zeros((1, 4, 4, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


def test_nan_wins_and_padding_never_does():
    x = jnp.array([1.0, jnp.nan, 3.0, 2.0, jnp.nan, 5.0]).reshape(1, 6, 1)
    np.testing.assert_array_equal(pooling.max_pool(x, 3)[0, :, 0], [np.nan, np.nan])
    np.testing.assert_array_equal(pooling.max_pool(jnp.full((1, 3, 1), -7.0), 2, padding="same")[0, :, 0], [-7, -7])
    np.testing.assert_array_equal(pooling.max_pool(jnp.full((1, 3, 1), -7), 2, padding="same")[0, :, 0], [-7, -7])


def test_dtypes():
    x = jnp.full((1, 256, 1), 1.0, "bfloat16")
    assert pooling.max_pool(x, 2).dtype == jnp.bfloat16
    mean = pooling.average_pool(x + x[:, :1], 256)
    assert mean.dtype == jnp.bfloat16
    assert float(mean[0, 0, 0]) == 2.0
    assert pooling.average_pool(jnp.array([[[1], [2]]]), 2)[0, 0, 0] == 1.5


@pytest.mark.skipif("half_max_pool" not in native.load().names, reason="this processor has no vectors for half numbers")
@pytest.mark.parametrize("pool", [pooling.max_pool, pooling.average_pool])
@pytest.mark.parametrize(
    ("shape", "size", "strides", "padding"),
    [
        ((3, 6, 8, 32), 2, 2, "valid"),
        ((2, 7, 9, 19), 2, 3, "same"),
        ((2, 7, 6, 3), 3, 1, "same"),
        ((2, 9, 5), 3, 3, "valid"),
    ],
)
def test_half_numbers_are_pooled_as_single_ones_and_rounded_once(pool, shape, size, strides, padding):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape).clip(0), jnp.bfloat16)  # many are equal
    y, vjp = jax.vjp(jax.jit(lambda x: pool(x, size, strides, padding)), x)
    g = jnp.asarray(rng.normal(size=y.shape), jnp.bfloat16)
    singles, vjp_of_singles = jax.vjp(lambda x: pool(x, size, strides, padding), x.astype("float32"))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, singles.astype(jnp.bfloat16))
    np.testing.assert_array_equal(vjp(g)[0], vjp_of_singles(g.astype("float32"))[0].astype(jnp.bfloat16))
    names = jax.jit(lambda x: jax.vjp(lambda x: pool(x, size, strides, padding), x)[1](g)).lower(x).as_text()
    assert (f"half_{pool.__name__}_gradient" in names) == (strides >= size)


@pytest.mark.parametrize(("length", "places"), [(7, 3), (5, 5), (5, 4), (3, 5), (8, 2)])
def test_adaptive_windows(length, places):
    array = np.random.default_rng(0).normal(size=(2, length, 3)).astype("float32")
    x = jnp.asarray(array)
    windows = [
        array[:, int(np.floor(i * length / places)) : int(np.ceil((i + 1) * length / places))] for i in range(places)
    ]
    np.testing.assert_array_equal(pooling.adaptive_max_pool(x, places), np.stack([w.max(1) for w in windows], 1))
    np.testing.assert_allclose(
        pooling.adaptive_average_pool(x, places), np.stack([w.mean(1) for w in windows], 1), rtol=1e-5, atol=1e-6
    )
    gradient = jax.grad(lambda x: jnp.sum(pooling.adaptive_max_pool(x, places)))(jnp.zeros((1, length, 1)))
    assert float(gradient.sum()) == places
