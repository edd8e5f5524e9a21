"""A convolution and the normalization that follows become one operation where that is faster, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina.kernels import normalization
from lamina.kernels.addition import plus
from lamina.kernels.batch_normalization import batch_norm, rectified
from lamina.kernels.convolution import conv
from lamina.kernels.flops import count_flops


def arrays_of(shape=(8, 5, 4, 16), filters=17, dtype="float32", more=True):
    rng = np.random.default_rng(filters)
    result = (*shape[:-1], filters) if more else (0,)
    shapes = [shape, (3, 3, shape[-1], filters), (filters,), (filters,), (filters,), result]
    x, kernel, bias, gamma, beta, added = (rng.normal(size=shape) for shape in shapes)
    return [jnp.asarray(a, dtype) for a in (x, 0.2 * kernel, bias, gamma + 1, beta, added)]


def joined(x, kernel, bias, gamma, beta, more, slope=0.2, padding="same"):
    y = conv(x, kernel, padding=padding, bias=bias)
    z, *moments = batch_norm(y, gamma, beta, 0.1)
    return rectified(plus(more, z) if more.size else z, slope), *moments


def apart(x, kernel, bias, gamma, beta, more, slope=0.2, padding="SAME"):
    y = bias + jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding.upper(), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    mean, variance = (value.reshape(-1) for value in normalization.moments(y, (0, 1, 2)))
    z = normalization.standardize(y, mean, variance, gamma, beta, 0.1)
    z = z + more if more.size else z
    return jnp.where(z > 0, z, slope * z), mean, variance


def loss(function, **settings):
    """A number on which all results have an influence."""

    def of(*arrays):
        z, mean, variance = function(*arrays, **settings)
        return jnp.sum(jnp.sin(z)) + jnp.sum(jnp.cos(mean)) + jnp.sum(variance**2)

    return of


def names_in(function, arrays):
    """What is left of the program, once what serves for nothing is gone."""
    program = jax.jit(function).trace(*arrays).jaxpr
    left = jax.interpreters.partial_eval.dce_jaxpr(program.jaxpr, [True] * len(program.out_avals))[0]
    return {equation.primitive.name for equation in left.eqns}


def assert_near(found, expected, digits=4e-6):
    for mine, exact in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, exact, rtol=0, atol=digits * max(np.abs(exact).max(initial=0), 1))


def doubled(function, arrays):
    with jax.enable_x64(True):
        return jax.jit(function)(*(np.asarray(array, "float64") for array in arrays))


@pytest.mark.parametrize(
    ("shape", "filters"), [((8, 5, 4, 16), 17), ((9, 7, 9, 20), 37), ((33, 8, 8, 64), 64), ((8, 70, 19, 16), 16)]
)
@pytest.mark.parametrize(("more", "slope"), [(False, 1.0), (False, 0.0), (True, 0.2), (True, 0.0)])
def test_values_and_gradients_are_those_of_the_layers(shape, filters, more, slope):
    arrays = arrays_of(shape, filters, more=more)
    value, found = jax.jit(jax.value_and_grad(loss(joined, slope=slope), tuple(range(6))))(*arrays)
    exact_value, exact = doubled(jax.value_and_grad(loss(apart, slope=slope), tuple(range(6))), arrays)
    np.testing.assert_allclose(value, exact_value, rtol=1e-5)
    assert_near(found[:2] + found[3:], exact[:2] + exact[3:], 1e-5)
    # the gradients of all places, whose sum this is, are nearly as often above zero as below
    np.testing.assert_allclose(found[2], exact[2], rtol=0, atol=1e-4 + 1e-7 * found[0][..., 0].size)
    assert_near(jax.jit(joined)(*arrays), doubled(apart, arrays))


def test_pictures_without_padding():
    arrays = arrays_of((8, 6, 5, 16), 16, more=False)
    found = jax.jit(jax.grad(loss(joined, padding="valid"), (0, 1)))(*arrays)
    assert_near(found, doubled(jax.grad(loss(apart, padding="VALID"), (0, 1)), arrays), 1e-5)


def test_no_part_of_it_is_left_apart():
    training = jax.grad(lambda *arrays: jnp.sum(joined(*arrays)[0] ** 2), tuple(range(5)))
    names = names_in(training, arrays_of())
    assert {"convolution_moments", "normalized_convolution", "normalized_convolution_gradient"} <= names
    assert not {name for name in names if name.startswith(("batch_", "convolution"))} - {"convolution_moments"}


@pytest.mark.parametrize(
    ("arrays", "settings"),
    [
        pytest.param(arrays_of((7, 5, 4, 16)), {}, id="few pictures"),
        pytest.param(arrays_of((8, 5, 4, 15)), {}, id="few channels"),
        pytest.param(arrays_of(filters=8), {}, id="few filters"),
        pytest.param(arrays_of(dtype="bfloat16"), {}, id="numbers without a kernel"),
        pytest.param(arrays_of((8, 4, 5, 16), more=False), {"padding": "valid"}, id="small pictures"),
    ],
)
def test_others_stay_apart(arrays, settings):
    names = names_in(lambda *arrays: joined(*arrays, **settings), arrays)
    assert {"convolution", "batch_moments", "batch_norm"} <= names
    assert "convolution_moments" not in names


def test_convolutions_of_another_kind_stay_apart():
    x, kernel, *_ = arrays_of()
    for settings in {"strides": 2}, {"dilation": 2}, {"slope": 0.0}:
        assert "batch_moments" in names_in(
            lambda x, kernel, s=settings: batch_norm(conv(x, kernel, padding="same", **s))[0], [x, kernel]
        )
    assert "batch_moments" in names_in(lambda x, kernel: batch_norm(2 * conv(x, kernel))[0], [x, kernel])


def test_the_convolution_can_be_used_elsewhere_too():
    def used(x, kernel, bias, *_):
        y = conv(x, kernel, padding="same", bias=bias)
        return jnp.sum(batch_norm(y)[0] ** 3) + jnp.sum(y**2)

    def plainly(x, kernel, bias, *_):
        y = bias + jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        z = normalization.standardize(y, *normalization.moments(y, (0, 1, 2)))
        return jnp.sum(z**3) + jnp.sum(y**2)

    arrays = arrays_of()
    found = jax.jit(jax.value_and_grad(used, (0, 1, 2)))(*arrays)
    assert_near(found, doubled(jax.value_and_grad(plainly, (0, 1, 2)), arrays), 1e-5)


def test_what_the_layers_alone_would_compute_is_not_counted():
    def count(function):
        gradient = jax.grad(lambda *arrays: jnp.sum(function(*arrays)[0] ** 2), (0, 1))
        return count_flops(jax.make_jaxpr(gradient)(*arrays_of()).jaxpr)

    assert count(joined) == pytest.approx(count(apart), rel=0.1)


@pytest.mark.parametrize("arguments", [(0,), (1,), (3, 4)])
def test_gradients_of_some_arrays_are_those_of_all(arguments):
    arrays = arrays_of()
    found = jax.jit(jax.grad(loss(joined), arguments))(*arrays)
    every = jax.jit(jax.grad(loss(joined), tuple(range(6))))(*arrays)
    assert_near(found, [every[i] for i in arguments])


def test_second_derivatives_are_those_of_plain_arithmetic():
    arrays = arrays_of((8, 3, 3, 16), 16)
    direction = arrays_of((8, 3, 3, 16), 16, dtype="float32")[1]

    def curved(function):
        def of(*arrays):
            with_kernel = lambda kernel: loss(function)(arrays[0], kernel, *arrays[2:])  # noqa: E731
            return jax.jvp(jax.grad(with_kernel), (arrays[1],), (jnp.asarray(direction, arrays[1].dtype),))[1]

        return of

    assert_near(jax.jit(curved(joined))(*arrays), doubled(curved(apart), arrays), 1e-4)
