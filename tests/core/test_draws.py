"""Standard draws: the bytes of JAX's own, by one program for every shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina.core import draws


def truncated_normal(key, shape, dtype):
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)


SAMPLES = [jax.random.uniform, jax.random.normal, truncated_normal]


@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3), (700, 301)], ids=str)
@pytest.mark.parametrize("sample", SAMPLES)
def test_the_bytes_are_those_of_jax(sample, shape):
    key = jax.random.key(3)
    drawn = draws.standard(sample, shape, "float32", key)
    assert isinstance(drawn, np.ndarray)
    assert drawn.dtype == "float32"
    # not optimized, as tests are, a program rounds in other places than JAX's several
    np.testing.assert_array_max_ulp(drawn, np.asarray(sample(key, shape, "float32")), 4 * (sample is truncated_normal))


def test_few_even_numbers_need_no_program_and_are_those_of_many(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a program is compiled")

    key = jax.random.key(3)
    with monkeypatch.context() as patch:
        patch.setattr(draws, "_drawn", refuse)
        few = draws.standard(jax.random.uniform, (90_000,), "float32", key)
    monkeypatch.setattr(draws, "_FEW", 1000)
    many = draws.standard(jax.random.uniform, (90_000,), "float32", key)
    assert np.array_equal(few, many)
    assert np.array_equal(few, jax.random.uniform(key, (90_000,)))


def test_double_precision_draws_have_the_bytes_of_jax():
    with jax.enable_x64(True):
        key = jax.random.key(3)
        drawn = draws.standard(jax.random.uniform, (70_000,), "float64", key)
        assert drawn.dtype == "float64"
        assert np.array_equal(drawn, jax.random.uniform(key, (70_000,), "float64"))


def test_other_keys_and_traced_ones_draw_the_same():
    key = jax.random.key(3)
    expected = jax.random.normal(key, (4, 5))
    traced = jax.jit(lambda key: draws.standard(jax.random.normal, (4, 5), "float32", key))
    assert np.array_equal(traced(key), expected)
    assert np.array_equal(draws.standard(jax.random.normal, (4, 5), "float32", jax.random.PRNGKey(3)), expected)
    # keys whose draws depend on how many there are
    other = jax.random.key(3, impl="rbg")
    assert np.array_equal(draws.standard(jax.random.normal, (4, 5), "float32", other), jax.random.normal(other, (4, 5)))
    with jax.threefry_partitionable(False):
        drawn = draws.standard(jax.random.normal, (4, 5), "float32", key)
        assert np.array_equal(drawn, jax.random.normal(key, (4, 5)))
    assert not np.array_equal(drawn, expected)


def test_one_program_serves_every_shape_also_in_the_middle_of_another():
    key = jax.random.key(3)
    draws.standard(jax.random.normal, (2,), "float32", key)
    before = draws._drawn._cache_size()
    draws.standard(jax.random.normal, (300, 400), "float32", key)
    draws.standard(jax.random.uniform, (300, 401), "float32", key)
    assert draws._drawn._cache_size() == before

    @jax.jit
    def run(x):
        with jax.ensure_compile_time_eval():
            even = draws.standard(jax.random.uniform, (3,), "float32", key)
            return x + even, x + draws.standard(jax.random.normal, (3,), "float32", key)

    even, normal = run(jnp.zeros(3))
    assert np.array_equal(even, jax.random.uniform(key, (3,)))
    assert np.array_equal(normal, jax.random.normal(key, (3,)))


def test_numbers_beyond_four_billion_are_of_places_of_their_own():
    words = jax.random.key_data(jax.random.key(3))
    places = np.array([[0, 0], [1, 0]], "uint32")
    near, far = (np.asarray(draws._bits(jnp.concatenate([words, place]), 32, (draws._LENGTH,))) for place in places)
    counts = np.concatenate([np.ones(4, "uint32"), np.arange(4, dtype="uint32")])
    high, low = np.split(np.asarray(jax.extend.random.threefry_2x32(words, jnp.asarray(counts))), 2)
    assert np.array_equal(far[:4], high ^ low)
    assert (near != far).mean() > 0.99
