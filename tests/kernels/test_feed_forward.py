"""Two dense layers with GELU between them become one operation where that is faster, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina.kernels.addition import residual
from lamina.kernels.dense import dense, dense_gelu


def arrays_of(rows, inputs=12, hidden=40, outputs=12, dtype="float32"):
    rng = np.random.default_rng(rows)
    shapes = [(rows, inputs), (inputs, hidden), (hidden,), (hidden, outputs), (outputs,), (rows, outputs)]
    return [jnp.asarray(0.5 * rng.normal(size=shape), dtype) for shape in shapes]


def joined(x, kernel, bias, second_kernel, second_bias, more):
    return residual(more, dense(dense_gelu(x, kernel, bias), second_kernel, second_bias))


def apart(x, kernel, bias, second_kernel, second_bias, more):
    return more + jax.nn.gelu(x @ kernel + bias, approximate=True) @ second_kernel + second_bias


def is_joined(function, arrays):
    """Whether what is left of the program, once what serves for nothing is gone, is one operation."""
    program = jax.jit(function).trace(*arrays).jaxpr
    left = jax.interpreters.partial_eval.dce_jaxpr(program.jaxpr, [True] * len(program.out_avals))[0]
    names = [equation.primitive.name for equation in left.eqns]
    return "feed_forward" in names and not {"dense", "dense_gelu"} & set(names)


def test_layers_of_many_rows_are_joined():
    assert is_joined(joined, arrays_of(512))
    assert is_joined(joined, arrays_of(512, dtype="bfloat16"))
    x, *others, more = arrays_of(600)
    assert is_joined(joined, [x.reshape(4, 150, 12), *others, more.reshape(4, 150, 12)])


@pytest.mark.parametrize(
    "arrays",
    [
        pytest.param(arrays_of(511), id="few rows"),
        pytest.param(arrays_of(512, hidden=12000), id="kernels that leave no room in the cache"),
        pytest.param(arrays_of(512, dtype="float16"), id="numbers without a kernel"),
    ],
)
def test_others_are_not(arrays):
    assert not is_joined(joined, arrays)


def test_neither_are_layers_with_something_else_between_or_behind_them():
    arrays = arrays_of(512)
    assert not is_joined(lambda x, a, b, c, d, _: dense(dense_gelu(x, a, b) * 2, c, d), arrays)
    assert not is_joined(lambda x, a, b, c, d, _: dense(dense_gelu(x, a, b), c, d, slope=0.0), arrays)


@pytest.mark.parametrize("rows", [512, 1000])
def test_values_and_gradients_are_those_of_the_layers(rows):
    arrays = arrays_of(rows)

    def loss(function):
        return lambda *arrays: jnp.sum(jnp.sin(function(*arrays)))

    found = jax.jit(jax.value_and_grad(loss(joined), tuple(range(6))))(*arrays)
    with jax.enable_x64(True):
        doubled = [np.asarray(array, "float64") for array in arrays]
        expected = jax.jit(jax.value_and_grad(loss(apart), tuple(range(6))))(*doubled)
    for mine, exact in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, exact, rtol=0, atol=3e-6 * max(np.abs(exact).max(), 1))


def test_what_is_between_can_be_used_elsewhere_too():
    def used(x, kernel, bias, second_kernel, second_bias, more):
        between = dense_gelu(x, kernel, bias)
        return jnp.sum(dense(between, second_kernel, second_bias) ** 2) + jnp.sum(between**3)

    def expected(x, kernel, bias, second_kernel, second_bias, more):
        between = jax.nn.gelu(x @ kernel + bias, approximate=True)
        return jnp.sum((between @ second_kernel + second_bias) ** 2) + jnp.sum(between**3)

    arrays = arrays_of(512)
    found = jax.jit(jax.grad(used, (0, 1, 2, 3, 4)))(*arrays)
    for mine, other in zip(found, jax.grad(expected, (0, 1, 2, 3, 4))(*arrays), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5 * np.abs(other).max())
