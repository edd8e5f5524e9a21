"""Every operation's native form against its portable one in double precision, and what an operation is to JAX."""

import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina as lm
from lamina import native
from lamina.kernels import convolution, crossentropy, embedding, normalization, pooling
from lamina.kernels import dense_operations as dense
from lamina.kernels.operation import Operation
from tests.kernels.cases import CASES, NATIVE


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no compiler to build kernels with")
def test_kernels_were_built():
    assert native.load().how.startswith("native, for ")
    sources = (Path(lm.__file__).parent / "native").glob("*.cc")
    text = "".join(source.read_text() for source in sources)
    named = set(re.findall(r"LAMINA_HANDLER(?:_IF\(.+?, |\()(\w+), ", text))
    always = {name for name in named if not name.startswith("half_")}  # the others only on some processors
    assert always < named
    assert always <= native.load().names <= named


@NATIVE
@pytest.mark.parametrize("number", range(len(CASES)))
def test_native_against_portable_in_double_precision(number):
    operation, settings, shapes = CASES[number]
    rng = np.random.default_rng(number)
    arrays = [rng.normal(size=shape).astype("float32") for shape in shapes]
    assert operation.is_native(*arrays, **settings)

    def with_gradients(*arrays):
        results, vjp = jax.vjp(lambda *arrays: operation(*arrays, **settings), *arrays)
        weights = jax.tree.map(lambda r: jnp.cos(jnp.arange(r.size, dtype=r.dtype)).reshape(r.shape), results)
        return results, vjp(weights)

    found = jax.jit(with_gradients)(*arrays)
    with jax.enable_x64(True):
        doubled = [array.astype("float64") for array in arrays]
        assert not operation.is_native(*doubled, **settings)
        expected = jax.jit(with_gradients)(*doubled)
    for mine, exact in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert mine.dtype == "float32"
        assert mine.shape == exact.shape
        np.testing.assert_allclose(mine, exact, rtol=0, atol=2e-6 * max(np.abs(exact).max(initial=0), 1))


@NATIVE
@pytest.mark.parametrize(("shape", "rows", "features"), [((7,), 5, 3), ((3, 40), 300, 130), ((2, 3, 4), 9, 16)])
def test_gradient_of_a_table_adds_what_its_picks_are_given(shape, rows, features):
    rng = np.random.default_rng(0)
    table, given = (rng.normal(size=(*size, features)).astype("float32") for size in ((rows,), shape))
    numbers = rng.integers(-rows - 2, rows + 2, shape).astype("int32")  # some pick nothing
    assert embedding.EMBEDDING_GRADIENT.is_native(numbers, given, rows=rows)
    taken, vjp = jax.vjp(lambda table: embedding.take_rows(table, jnp.asarray(numbers)), table)
    found = jax.jit(vjp)(given)[0]
    expected, places = np.zeros((rows, features)), numbers + rows * (numbers < 0)
    there = (places >= 0) & (places < rows)
    np.add.at(expected, places[there], given[there])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(taken[there], table[places[there]])
    assert np.isnan(taken[~there]).all()


@NATIVE
@pytest.mark.parametrize("columns", [1, 40])  # by few numbers, and by many, the gradient is worked out otherwise
def test_gelu_and_its_slopes_are_right_to_the_last_places(columns):
    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def with_slopes(x):
        y, undo = jax.vjp(lambda x: dense.DENSE_GELU(x, jnp.ones((1, columns)), jnp.zeros(0)), x)
        return y[:, :1], undo(jnp.zeros_like(y).at[:, 0].set(1))[0]

    x = np.linspace(-12, 12, 4001, dtype="float32")[:, None]
    values, slopes = jax.jit(with_slopes)(x)
    exact, step = x.astype("float64"), 1e-6
    np.testing.assert_allclose(values, gelu(exact), rtol=2e-7, atol=3e-7)
    np.testing.assert_allclose(slopes, (gelu(exact + step) - gelu(exact - step)) / (2 * step), rtol=0, atol=3e-7)
    ends = jnp.array([np.nan, np.inf, 1e30, -1e30])[:, None].repeat(1024, 1).reshape(-1, 1)
    values, slopes = jax.jit(with_slopes)(ends)
    np.testing.assert_array_equal(values[::1024, 0], [np.nan, np.inf, np.float32(1e30), 0])
    np.testing.assert_allclose(slopes[::1024, 0], [np.nan, 1, 1, 0], rtol=0, atol=1e-20)


@NATIVE
@pytest.mark.parametrize(("rows", "classes"), [(40, 37), (3, 1000), (603, 2), (125, 11)])
def test_crossentropy_against_the_portable_form(rows, classes):
    rng = np.random.default_rng(classes)
    scores = (5 * rng.normal(size=(rows, classes))).astype("float32")
    labels, weights = rng.integers(0, classes, rows).astype("int32"), rng.normal(size=rows)
    labels[:2] = -1, classes  # which are no classes
    labels = jnp.asarray(labels)
    assert crossentropy.CROSSENTROPY.is_native(scores, labels)

    def with_gradient(scores):
        losses, vjp = jax.vjp(lambda x: crossentropy.sparse_crossentropy(x, labels), scores)
        return losses, *vjp(jnp.asarray(weights, scores.dtype))

    losses, gradient = jax.jit(with_gradient)(scores)
    with jax.enable_x64(True):
        exact, exact_gradient = jax.jit(with_gradient)(scores.astype("float64"))
    assert np.isnan(losses[:2]).all()
    assert np.isfinite(losses[2:]).all()
    np.testing.assert_allclose(losses, exact, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(gradient, exact_gradient, rtol=0, atol=2e-6)
    scores[2, 1] = np.nan
    assert np.isnan(jax.jit(with_gradient)(scores)[0][2])


@NATIVE
def test_not_a_number_stays_one():
    x = jnp.ones((1, 4, 4, 2)).at[0, 1, 1, 0].set(jnp.nan)
    for slope in 0.0, 0.2, 1.0:
        assert np.isnan(convolution.conv(x, jnp.ones((1, 1, 2, 3)), slope=slope)[0, 1, 1]).all()
    assert np.isnan(pooling.max_pool(x, 2)[0, 0, 0, 0])
    assert np.isnan(normalization.layer_norm(x)[0, 1, 1]).all()


def test_the_form_is_chosen_when_lowered():
    x, kernel = jnp.ones((1, 4, 4, 8)), jnp.ones((3, 3, 8, 8))
    traced = jax.jit(convolution.conv).trace(x, kernel)
    assert ("lamina.convolution" in traced.lower(lowering_platforms=("cpu",)).as_text()) == bool(native.load().names)
    assert "lamina.convolution" not in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_an_operation_can_be_mapped_and_differentiated_twice():
    def slow(x):
        return jnp.sum(x * x) * x

    cube = Operation(
        "test_cube", slow, backward=lambda p, r, g, w: [jnp.sum(g[0] * p[0]) * 2 * p[0] + g[0] * jnp.sum(p[0] ** 2)]
    )
    x, v = jnp.array([1.0, 2.0]), jnp.array([0.5, -1.0])

    def energy(fn):
        return lambda x: jnp.sum(jnp.sin(fn(x)))

    for order in (
        jax.grad,
        lambda f: jax.grad(lambda x: jnp.sum(jax.grad(f)(x) * v)),
        jax.hessian,
        lambda f: lambda x: jax.jvp(f, (x,), (v,))[1],
        lambda f: lambda x: jax.vmap(jax.grad(f))(jnp.stack([x, v])),
    ):
        np.testing.assert_allclose(order(energy(cube))(x), order(energy(slow))(x), rtol=2e-5)


@NATIVE
def test_the_environment_can_ask_for_the_portable_forms(monkeypatch):
    monkeypatch.setenv("LAMINA_KERNELS", "portable")
    assert native.load.__wrapped__() == ("portable, as LAMINA_KERNELS says", frozenset(), None)
    monkeypatch.setenv("LAMINA_KERNELS", "fast")
    with pytest.raises(ValueError, match="LAMINA_KERNELS is 'native' or 'portable'; received 'fast'"):
        native.load.__wrapped__()


def test_a_mistake_in_the_environment_is_told_without_the_inside_of_jax(monkeypatch):
    monkeypatch.setenv("LAMINA_KERNELS", "fast")
    monkeypatch.setattr(native, "load", native.load.__wrapped__)
    model = lm.Sequential([lm.Input((3,)), lm.layers.LayerNormalization()])
    model.compile("sgd", "mse")
    with pytest.raises(lm.ConfigError, match="LAMINA_KERNELS") as caught:
        model.fit(np.zeros((4, 3), "float32"), np.zeros((4, 3), "float32"), verbose=0)
    assert caught.value.__cause__ is None
