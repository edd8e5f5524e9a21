"""Adam's update, and that of a kernel with its gradient, against the portable form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import native
from lamina.kernels import adam, dense
from tests.kernels.cases import NATIVE


@NATIVE
def test_the_update_of_adam_against_the_portable_form():
    rng = np.random.default_rng(0)
    shapes = {"large": (300, 307), "scalar": (), "empty": (0, 3), "vector": (33,), "matrix": (170, 190)}
    gradients, values, first, second = (
        {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()} for _ in range(4)
    )
    second = {name: np.square(v) for name, v in second.items()}
    second["vector"][:5] = gradients["vector"][:5] = 0  # nothing has moved yet

    def update(rate, *arrays):
        return adam.adam(*arrays, rate, **SETTINGS)

    found = jax.jit(update)(0.05, gradients, values, first, second)
    with jax.enable_x64(True):
        doubled = jax.tree.map(lambda a: a.astype("float64"), (gradients, values, first, second))
        exact = jax.jit(update)(0.05, *doubled)
    assert "lamina.adam" in jax.jit(update).lower(0.05, gradients, values, first, second).as_text()
    assert [list(arrays) for arrays in found] == [sorted(shapes)] * 3
    for mine, true in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(mine, true, rtol=1e-6, atol=1e-6)


SETTINGS = {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3}


@NATIVE
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(40, 260, 300), (300, 97, 7), (3, 5, 64)])
def test_the_update_of_a_kernel_with_its_gradient(rows, inputs, outputs):
    rng = np.random.default_rng(0)
    factors = [rng.normal(size=(rows, columns)).astype("float32") for columns in (inputs, outputs)]
    value, first, second = (rng.normal(size=(inputs, outputs)).astype("float32") for _ in range(3))
    second = np.square(second) + np.float32(0.1)  # near zero, a last place of the gradient would count for much
    rate, arrays = np.float32(0.05), (*factors, value, first, second)
    assert adam.ADAM_OF_KERNEL.is_native(rate, *arrays, **SETTINGS)
    found = jax.jit(lambda *arrays: adam.ADAM_OF_KERNEL(*arrays, **SETTINGS))(rate, *arrays)
    with jax.enable_x64(True):
        exact = adam.ADAM_OF_KERNEL.portable(*[jnp.asarray(a, "float64") for a in (rate, *arrays)], **SETTINGS)
    for mine, true in zip(found, exact, strict=True):
        np.testing.assert_allclose(mine, true, rtol=2e-6, atol=2e-6)


def loss_and_kernels(scale):
    def loss(kernels, x):
        for kernel in kernels:
            x = dense.dense(x, kernel, jnp.zeros(kernel.shape[1]), slope=0.0)
        return jnp.sum(jnp.square(x)) * scale

    return loss, {"a": jnp.full((300, 256), 0.01), "b": jnp.full((256, 257), -0.02).at[::2].set(0.03)}


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_kernel_whose_gradient_nobody_else_wants_is_updated_with_it(scale):
    loss, kernels = loss_and_kernels(1 / scale)
    x = jnp.sin(jnp.arange(33.0 * 300)).reshape(33, 300)

    def step(kernels, x):
        gradients = jax.grad(lambda kernels: loss(kernels.values(), x))(kernels)
        if scale != 1:  # of what the optimizer is given, this is no longer the product
            gradients = {name: gradient * scale for name, gradient in gradients.items()}
        return adam.adam(gradients, kernels, kernels, kernels, 0.1, **SETTINGS)

    program = str(jax.make_jaxpr(step)(kernels, x))
    assert program.count("= adam_of_kernel[") == (2 if scale == 1 else 0)
    found = jax.jit(step)(kernels, x)
    text = jax.jit(step).lower(kernels, x).as_text()
    if native.load().names and scale == 1:
        assert "lamina.kernel_gradient" not in text
    gradients = jax.grad(lambda kernels: loss(kernels.values(), x) * scale)(kernels)
    exact = adam.adam(gradients, kernels, kernels, kernels, 0.1, **SETTINGS)
    for mine, true in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(mine, true, rtol=1e-5, atol=1e-5)


@NATIVE
def test_roots_and_inverses_of_what_is_zero_or_not_finite():
    def update(gradient, first, second, epsilon):
        four = [jnp.full(20, number, "float32") for number in (gradient, 1.0, first, second)]
        found = jax.jit(lambda *a: adam.ADAM(*a, beta_1=0.5, beta_2=0.5, epsilon=epsilon))(jnp.float32(1), *four)
        np.testing.assert_array_equal(found[0], found[0][0])
        return float(found[0][0])

    assert update(0.0, 0.0, 0.0, 1e-7) == 1
    assert update(1e20, 1.0, 1.0, 1e-7) == 1  # its square is infinite
    assert update(1.0, 1.0, 1.0, 0.0) == 0
    assert update(2.0, 0.0, 0.0, 0.0) == pytest.approx(1 - 2**-0.5, rel=1e-6)
    assert update(1.0, 1.0, 0.0, 1e-7) == pytest.approx(1 - 2**0.5, rel=1e-6)
    assert update(0.0, 1.0, 0.0, 0.0) == -np.inf
    assert np.isnan(update(np.nan, 1.0, 1.0, 1e-7))
