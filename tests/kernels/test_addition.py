import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import native
from lamina.kernels.addition import plus, residual
from lamina.kernels.dense import dense
from lamina.kernels.normalization import again, layer_norm, rms_norm

RNG = np.random.default_rng(0)
WIDTH, HIDDEN = 20, 36
X, UP, DOWN, BIAS, GAMMA = (
    RNG.normal(size=shape) for shape in ((3, 24, WIDTH), (WIDTH, HIDDEN), (HIDDEN, WIDTH), (WIDTH,), (WIDTH,))
)


def normalized(x, gamma):
    return gamma * (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 0.1)


def before_of_ours(x, up, down, bias, gamma):
    """A network for each position, whose input is normalized first."""
    normal = layer_norm(x, gamma, epsilon=0.1)
    return residual(again(x, normal), dense(dense(normal, up, slope=0.0), down, bias))


def before(x, up, down, bias, gamma):
    return x + jnp.maximum(normalized(x, gamma) @ up, 0) @ down + bias


def after_of_ours(x, up, down, bias, gamma):
    """The same, but the sums are normalized."""
    normal = layer_norm(x, gamma, epsilon=0.1)
    return layer_norm(residual(normal, dense(dense(normal, up, slope=0.0), down, bias)), gamma, epsilon=0.1)


def after(x, up, down, bias, gamma):
    normal = normalized(x, gamma)
    return normalized(normal + jnp.maximum(normal @ up, 0) @ down + bias, gamma)


def input_alone_of_ours(x, up, down, bias, gamma):
    """The normalized array serves for nothing."""
    return again(x, layer_norm(x, gamma, epsilon=0.1)) @ up


def input_alone(x, up, down, bias, gamma):
    return x @ up


def double_alone_of_ours(x, up, down, bias, gamma):
    normal = layer_norm(x, gamma, epsilon=0.1)
    return plus(normal, bias) * x


def double_alone(x, up, down, bias, gamma):
    return (normalized(x, gamma) + bias) * x


def all_three_of_ours(x, up, down, bias, gamma):
    normal = layer_norm(x, gamma, epsilon=0.1)
    return jnp.sin(normal) + jnp.cos(plus(normal, normal)) + jnp.square(again(x, normal))


def all_three(x, up, down, bias, gamma):
    normal = normalized(x, gamma)
    return jnp.sin(normal) + jnp.cos(2 * normal) + jnp.square(x)


def root_mean_square_of_ours(x, up, down, bias, gamma):
    normal = rms_norm(x, gamma, epsilon=0.1)
    return plus(again(x, normal) * 2.0, normal @ up @ down)


def root_mean_square(x, up, down, bias, gamma):
    return x * 2.0 + gamma * x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + 0.1) @ up @ down


def with_gradients(fn):
    def run(*arrays):
        y, pull = jax.vjp(fn, *arrays)
        return y, pull(jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    return run


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (before_of_ours, before),
        (after_of_ours, after),
        (input_alone_of_ours, input_alone),
        (double_alone_of_ours, double_alone),
        (all_three_of_ours, all_three),
        (root_mean_square_of_ours, root_mean_square),
    ],
    ids=lambda fn: fn.__name__,
)
def test_sums_and_their_gradients(ours, plain, compiled):
    arrays = X, UP, DOWN, BIAS, GAMMA
    wrapped = jax.jit if compiled else lambda fn: fn
    found = wrapped(with_gradients(ours))(*(a.astype("float32") for a in arrays))
    with jax.enable_x64(True):
        exact = wrapped(with_gradients(plain))(*map(jnp.asarray, arrays))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=4e-6 * max(np.abs(other).max(), 1))


@pytest.mark.skipif(not native.load().names, reason="the native kernels were not built")
@pytest.mark.parametrize(("network", "norms"), [(before_of_ours, 1), (after_of_ours, 2)])
def test_nothing_is_added_in_a_pass_of_its_own(network, norms):
    def loss(*arrays):
        return jnp.sum(jnp.square(network(*arrays)))

    arrays = [jax.ShapeDtypeStruct(a.shape, "float32") for a in (X, UP, DOWN, BIAS, GAMMA)]
    program = jax.jit(jax.grad(loss, range(5))).lower(*arrays).compile().as_text()
    calls = re.findall(r'custom_call_target="lamina.(?:small_)?(\w+)"', program)
    assert sorted(calls) == [
        *["dense"] * 2,
        *["dense_gradient"] * 2,
        *["layer_norm"] * norms,
        *["layer_norm_gradient"] * norms,
    ]
    assert not re.search(r"f32\[(3,24|72),20\]\S* add\(", program)


def test_arrays_of_other_shapes_and_dtypes_are_added_as_ever():
    @jax.jit
    def run(x, kernel, more):
        return residual(more, dense(x, kernel)), plus(layer_norm(x), more[:1])

    x, kernel = jnp.ones((2, 4)), jnp.ones((4, 4))
    first, second = run(x, kernel, jnp.full((2, 4), 0.5, jnp.bfloat16))
    assert first.dtype == second.dtype == "float32"
    np.testing.assert_array_equal(first, np.full((2, 4), 4.5))
    np.testing.assert_array_equal(second, np.full((2, 4), 0.5))


def test_a_layer_of_a_program_within_does_not_leak_out_of_it():
    def inner(x, change):
        normal = layer_norm(x)
        return again(x, normal) + change + normal

    @jax.jit
    def run(x):
        made = jax.checkpoint(inner)(x, x) + jax.jit(inner)(x, x)
        return plus(x, made)

    x = jnp.array([[1.0, 3.0]])
    np.testing.assert_allclose(run(x), x + 2 * (2 * x + layer_norm(x)), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: run(x).sum())(x), np.full((1, 2), 5.0), rtol=1e-4)
