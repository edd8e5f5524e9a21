import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import native
from lamina.core.errors import ShapeError
from lamina.kernels import normalization as kernels
from lamina.kernels.addition import plus
from lamina.kernels.batch_normalization import batch_norm, rectified


def draw(*shape, loc=0.0):
    return np.random.default_rng(0).normal(loc, 2.0, shape)


def reference(x, axes, epsilon):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def assert_gradient(fn, x, step=1e-6):
    """The derivative along one random direction is that of central differences in double precision."""
    with jax.enable_x64(True):
        direction = np.random.default_rng(1).normal(size=x.shape)
        weight = np.random.default_rng(2).normal(size=x.shape)
        loss = jax.jit(lambda x: jnp.sum(fn(x) * weight))
        expected = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
        found = jnp.sum(jax.jit(jax.grad(loss))(jnp.asarray(x)) * direction)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_moments_equal_numpy():
    x = draw(4, 3, 5).astype("float32")
    mean, variance = kernels.moments(jnp.asarray(x), (0, 1))
    np.testing.assert_allclose(mean, x.mean((0, 1), keepdims=True), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(variance, x.var((0, 1), keepdims=True), rtol=1e-5)


def test_moments_keep_their_digits_far_from_zero():
    x = draw(1000, 2, loc=1e4).astype("float32")
    _, variance = kernels.moments(jnp.asarray(x), (0,))
    np.testing.assert_allclose(variance, x.astype("float64").var(0, keepdims=True), rtol=1e-4)


def test_masked_moments_equal_those_of_what_is_left():
    x, mask = draw(6, 3).astype("float32"), np.array([1, 1, 0, 1, 0, 0], bool)
    mean, variance = kernels.moments(jnp.asarray(x), (0,), jnp.asarray(mask)[:, None])
    np.testing.assert_allclose(mean[0], x[mask].mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance[0], x[mask].var(0), rtol=1e-5)
    none = kernels.moments(jnp.asarray(x), (0,), jnp.zeros((6, 1), bool))
    np.testing.assert_array_equal(none, np.zeros((2, 1, 3)))


@pytest.mark.parametrize("axis", [-1, 1, (1, 2), (-1, 0)])
def test_layer_norm_equals_numpy(axis):
    x = draw(3, 4, 5).astype("float32")
    axes = axis if isinstance(axis, tuple) else (axis,)
    found = kernels.layer_norm(jnp.asarray(x), axis=axis, epsilon=0.1)
    np.testing.assert_allclose(found, reference(x, axes, 0.1), rtol=1e-4, atol=1e-5)


def test_group_norm_equals_layer_norm_of_each_group():
    x = draw(2, 3, 6).astype("float32")
    found = kernels.group_norm(jnp.asarray(x), 2)
    for group in (slice(0, 3), slice(3, 6)):
        np.testing.assert_allclose(found[..., group], reference(x[..., group], (1, 2), 1e-3), rtol=1e-4, atol=1e-5)


def test_half_precision_computes_in_single():
    x = jnp.asarray(draw(4, 64, loc=100.0), "float16")
    y = kernels.layer_norm(x, epsilon=1e-5)
    assert y.dtype == jnp.float16
    np.testing.assert_allclose(y, reference(np.asarray(x, "float64"), (1,), 1e-5), atol=3e-3)
    assert bool(jnp.isfinite(kernels.rms_norm(x * 300)).all())  # whose squares are no half-precision numbers


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: kernels.layer_norm(x, jnp.arange(1.0, 6.0), jnp.arange(5.0)),
        lambda x: kernels.layer_norm(x, axis=(1, 2)),
        lambda x: kernels.rms_norm(x, jnp.arange(1.0, 6.0)),
        lambda x: kernels.group_norm(x[..., :4], 2) @ jnp.ones((4, 5)),
        lambda x: kernels.unit_norm(x, axis=(0, 2)),
        lambda x: kernels.standardize(x, *kernels.moments(x, (0, 1))),
        lambda x: kernels.standardize(x, *kernels.moments(x, (0, 1), jnp.asarray(draw(2, 3, 1) > 0))),
    ],
    ids=["layer", "layer-axes", "rms", "group", "unit", "batch", "batch-masked"],
)
def test_gradients_equal_finite_differences(fn):
    assert_gradient(fn, draw(2, 3, 5))


@pytest.mark.parametrize("slope", [None, 0.0, 0.2])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize(("shape", "affine"), [((2, 13, 12, 21), True), ((300, 3), False), ((70, 1100), True)])
def test_batch_norm_and_what_follows_it_equal_plain_arithmetic(shape, affine, added, slope):
    x, more, weights = (np.random.default_rng(seed).normal(1.0, 2.0, shape) for seed in range(3))
    gamma, beta = draw(2, shape[-1]) + 0.5 if affine else (None, None)

    def mine(x, more, gamma, beta):
        y, *moments = batch_norm(x, gamma, beta, 0.1)
        y = plus(more, y) if added else y
        return y if slope is None else rectified(y, slope), *moments

    def plain(x, more, gamma, beta):
        mean, variance = (value.reshape(-1) for value in kernels.moments(x, range(x.ndim - 1)))
        y = kernels.standardize(x, mean, variance, gamma, beta, 0.1) + (more if added else 0)
        return y if slope is None else jnp.where(y > 0, y, slope * y), mean, variance

    def with_gradients(fn):
        def run(*arrays):
            (y, mean, variance), pull = jax.vjp(fn, *arrays)
            return y, mean, variance, pull((jnp.asarray(weights, y.dtype), jnp.cos(mean), jnp.sin(variance)))

        return jax.jit(run)

    found = with_gradients(mine)(*jax.tree.map(lambda a: a.astype("float32"), (x, more, gamma, beta)))
    with jax.enable_x64(True):
        exact = with_gradients(plain)(x, more, gamma, beta)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=4e-6 * max(np.abs(other).max(), 1))


def test_second_derivatives_count_in_that_mean_and_variance_depend_on_the_input():
    x, direction = draw(40, 5), np.random.default_rng(1).normal(size=(40, 5))

    def slope_of(fn, x):
        gradient = jax.grad(lambda x: jnp.sum(jnp.sin(fn(x))))
        return jax.jit(lambda x, v: jax.jvp(gradient, (x,), (v,))[1])(x, jnp.asarray(direction, x.dtype))

    found = slope_of(lambda x: batch_norm(x)[0], jnp.asarray(x, "float32"))
    with jax.enable_x64(True):
        plain = slope_of(lambda x: kernels.standardize(x, *kernels.moments(x, (0,))), jnp.asarray(x))
    np.testing.assert_allclose(found, plain, rtol=0, atol=2e-6)


def test_half_numbers_are_normalized_added_and_rectified_in_single_and_rounded_once():
    @jax.jit
    def run(x, more):
        return rectified(plus(batch_norm(x)[0], more), 0.2)

    x, more = (jnp.asarray(draw(4, 7, 21, loc=loc), jnp.bfloat16) for loc in (0.0, 1.0))
    found, single = run(x, more), run(x.astype("float32"), more.astype("float32"))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, single.astype(jnp.bfloat16))


@pytest.mark.skipif(not native.load().names, reason="the native kernels were not built")
def test_what_follows_batch_norm_is_done_in_the_same_pass():
    def loss(x, more):
        y, mean, variance = batch_norm(x)
        return jnp.sum(jnp.square(rectified(plus(y, more)))), (mean, variance)

    x = jnp.ones((4, 8, 8, 16))
    program = jax.jit(jax.grad(loss, has_aux=True)).lower(x, x).compile().as_text()
    calls = re.findall(r'custom_call_target="lamina.(\w+)"', program)
    assert sorted(calls) == ["batch_moments", "batch_norm", "batch_norm_gradient"]
    assert "maximum" not in program


def test_bad_axes_and_groups():
    with pytest.raises(ShapeError, match="axis 2 does not fit an array of 2 axes"):
        kernels.layer_norm(jnp.ones((2, 3)), axis=2)
    with pytest.raises(ShapeError, match=r"axis \(1, -1\) does not fit"):
        kernels.rms_norm(jnp.ones((2, 3)), axis=(1, -1))
    with pytest.raises(ShapeError, match="5 channels cannot be split into 2 groups"):
        kernels.group_norm(jnp.ones((2, 5)), 2)
