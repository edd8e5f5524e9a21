"""Keys and chances that NumPy works out: the bytes of JAX's own, and no program for them."""

import jax
import numpy as np
import pytest

from lamina.core import keys


def of_jax(key, first, count):
    return [float(jax.random.uniform(jax.random.fold_in(key, n))) for n in range(first, first + count)]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1, 2**32, 2**40 + 3, 2**63 - 1, -1])
def test_a_seed_has_the_key_of_jax(seed, wide):
    with jax.enable_x64(wide):
        found, expected = keys.key_of(seed), jax.random.key(seed)
        assert found.dtype == expected.dtype
        assert np.array_equal(jax.random.key_data(found), jax.random.key_data(expected))
        assert jax.random.normal(found) == jax.random.normal(expected)


def test_a_seed_of_more_bits_is_refused_as_by_jax():
    for key_of in (keys.key_of, jax.random.key):
        with pytest.raises(OverflowError):
            key_of(2**64)


@pytest.mark.parametrize(("first", "count"), [(0, 1), (0, 64), (5, 20), (2**31 - 2, 5)])
def test_chances_have_the_bytes_of_jax(first, count):
    for seed in (0, 3, 2**31 + 7):
        found = keys.chances(jax.random.key(seed), first, count)
        assert found.dtype == "float32"
        assert found.tolist() == of_jax(jax.random.key(seed), first, count)
    assert np.ptp(keys.chances(jax.random.key(1), 0, 1000)) > 0.99


def test_keys_of_another_kind_are_those_of_jax():
    with jax.default_prng_impl("rbg"):
        key = keys.key_of(4)
        assert jax.random.key_impl(key) == jax.random.key_impl(jax.random.key(4))
        assert np.array_equal(jax.random.key_data(key), jax.random.key_data(jax.random.key(4)))
    with jax.threefry_partitionable(False):
        assert keys.chances(jax.random.key(3), 2, 4).tolist() == of_jax(jax.random.key(3), 2, 4)


def test_no_program_is_compiled(caplog):
    with jax.log_compiles():
        keys.chances(keys.fold_in(keys.key_of(11), 3), 0, 7)
    assert not caplog.records


def bits_of(key):
    return jax.random.key_data(key).tolist()


@pytest.mark.parametrize("number", [0, 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("seed", [0, 3, 2**31 + 7])
def test_a_number_is_folded_in_as_by_jax(seed, number):
    key = jax.random.key(seed)
    expected = bits_of(jax.random.fold_in(key, number))
    assert bits_of(keys.fold_in(key, number)) == expected
    assert bits_of(jax.jit(lambda: keys.fold_in(key, number))()) == expected
    assert bits_of(jax.jit(lambda key: keys.fold_in(key, number))(key)) == expected
    with jax.default_prng_impl("rbg"):
        key = jax.random.key(seed)
        assert bits_of(keys.fold_in(key, number)) == bits_of(jax.random.fold_in(key, number))
