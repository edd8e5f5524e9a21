"""Tokens after those before them, natively and portably, against the whole text in double precision; and drawing."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import native
from lamina.kernels import decoding, drawing, slopes
from lamina.kernels.attention import self_attention
from lamina.kernels.decoding import BlockWeights

NATIVE = pytest.mark.skipif(not native.load().names, reason="the native kernels were not built")


def blocks_of(depth, width, hidden, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(width, 3 * width), (width, width), (width, hidden), (hidden, width)]
    made = []
    for _ in range(depth):
        kernels = [rng.normal(size=shape) / np.sqrt(shape[0]) for shape in shapes]
        biases = [rng.normal(size=shape[1]) / 4 for shape in shapes]
        norms = [(1 + rng.normal(size=width) / 4, rng.normal(size=width) / 4) for _ in range(2)]
        pairs = list(zip(kernels, biases, strict=True))
        arrays = [*norms[0], *pairs[0], *pairs[1], *norms[1], *pairs[2], *pairs[3]]
        made.append(BlockWeights(*(array.astype("float32") for array in arrays)))
    return made


def caches_of(depth, context, heads, width):
    zeros = jnp.zeros((1, context, heads, width // heads))
    return [(zeros, zeros)] * depth


def normal(x, gamma, beta, epsilon):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * gamma + beta


def whole_text(x, blocks, heads, activation, normalize_first, epsilon):
    """The whole text at once, in double precision."""
    with jax.enable_x64(True):
        x = np.asarray(x, "float64")
        for b in (BlockWeights(*(np.asarray(array, "float64") for array in block)) for block in blocks):
            first, second = (b.attention_gamma, b.attention_beta, epsilon), (b.gamma, b.beta, epsilon)
            given = (normal(x, *first) if normalize_first else x) @ b.project + b.project_bias
            taken = np.asarray(self_attention(jnp.asarray(given.reshape(*x.shape[:2], 3 * heads, -1)), causal=True))
            x = x + taken.reshape(x.shape) @ b.merge + b.merge_bias
            x = x if normalize_first else normal(x, *first)
            inner = (normal(x, *second) if normalize_first else x) @ b.up + b.up_bias
            x = x + np.asarray(activation(jnp.asarray(inner))) @ b.down + b.down_bias
            x = x if normalize_first else normal(x, *second)
    return x


@NATIVE
@pytest.mark.parametrize(
    ("depth", "width", "heads", "hidden", "cuts"),
    [
        (2, 32, 2, 64, (0, 5, 6, 7, 11)),
        (1, 48, 3, 80, (0, 1, 12)),
        (1, 16, 1, 16, (0, 3, 4)),
        (3, 128, 4, 512, (0, 20, 21, 22, 40)),
        (1, 320, 10, 1280, (0, 9, 10, 11)),
    ],
)
def test_native_against_the_whole_text(depth, width, heads, hidden, cuts):
    x = np.random.default_rng(width).normal(size=(1, cuts[-1], width)).astype("float32")
    settings = {"heads": heads, "activation": slopes.gelu_tanh, "normalize_first": True, "epsilon": 1e-5}
    blocks, caches = blocks_of(depth, width, hidden), caches_of(depth, cuts[-1] + 3, heads, width)
    step = jax.jit(lambda *arguments: decoding.decode(*arguments, **settings))
    assert "lamina.decode" in step.lower(x[:, :1], blocks, caches, 0).as_text()
    found = []
    for begin, end in itertools.pairwise(cuts):
        result, caches = step(x[:, begin:end], blocks, caches, begin)
        found.append(result)
    exact = whole_text(x, blocks, **settings)
    np.testing.assert_allclose(np.concatenate(found, axis=1), exact, rtol=0, atol=4e-6 * np.abs(exact).max())
    assert not np.any(caches[-1][0][:, cuts[-1] :])


@pytest.mark.parametrize("normalize_first", [True, False])
@pytest.mark.parametrize(("width", "heads", "batch"), [(24, 2, 1), (32, 2, 3)])
def test_portable_against_the_whole_text(normalize_first, width, heads, batch):
    x = np.random.default_rng(2).normal(size=(batch, 6, width)).astype("float32")
    settings = {"heads": heads, "activation": jnp.tanh, "normalize_first": normalize_first, "epsilon": 1e-3}
    blocks, caches = blocks_of(2, width, 40), caches_of(2, 8, heads, width)
    caches = jax.tree.map(lambda a: jnp.repeat(a, batch, axis=0), caches)
    step = jax.jit(lambda *arguments: decoding.decode(*arguments, **settings))
    assert "lamina.decode" not in step.lower(x, blocks, caches, 0).as_text()
    first, caches = step(x[:, :5], blocks, caches, 0)
    last, caches = step(x[:, 5:], blocks, caches, jnp.int32(5))
    exact = whole_text(x, blocks, **settings)
    np.testing.assert_allclose(np.concatenate([first, last], axis=1), exact, rtol=0, atol=5e-6 * np.abs(exact).max())


@NATIVE
def test_caches_are_written_in_place_where_they_are_given_away():
    blocks, caches = blocks_of(1, 32, 64), [(jnp.zeros((1, 64, 2, 16)), jnp.ones((1, 64, 2, 16)))]
    step = jax.jit(
        lambda x, caches, n: decoding.decode(x, blocks, caches, n, heads=2, activation=slopes.gelu_tanh),
        donate_argnums=1,
    )
    places = [array.unsafe_buffer_pointer() for array in caches[0]]
    _, after = step(jnp.ones((1, 1, 32)), caches, 3)
    assert [array.unsafe_buffer_pointer() for array in after[0]] == places
    assert np.flatnonzero(np.any(np.asarray(after[0][0])[0] != 0, axis=(1, 2))).tolist() == [3]


@NATIVE
@pytest.mark.parametrize("size", [1, 7, 16, 65, 300, 5000])
@pytest.mark.parametrize("temperature", [1.0, 0.3, 4.0])
def test_draw_follows_the_distribution(size, temperature):
    scores = np.random.default_rng(size).normal(size=size).astype("float32") * 2
    scores[1::5] = -np.inf
    weights = np.exp((scores.astype("float64") - scores.max()) / temperature)
    sums = np.cumsum(weights) / weights.sum()
    chances = np.concatenate([[0.0, 1 - 2**-23], np.random.default_rng(1).random(40)]).astype("float32")
    assert drawing.DRAW.is_native(scores, chances[0], np.float32(temperature))
    given = jnp.asarray(scores)
    each = jax.jit(lambda chances: jax.lax.map(lambda c: drawing.draw(given, c, temperature), chances))
    forms = {"native": each, "portable": jax.jit(jax.vmap(lambda c: drawing.draw(given, c, temperature)))}
    for form, draw in forms.items():
        found = np.asarray(draw(jnp.asarray(chances)))
        assert found.dtype == "int32"
        assert np.isfinite(scores[found]).all(), form
        below = np.where(found > 0, sums[np.maximum(found - 1, 0)], 0)
        assert (below - 1e-5 <= chances).all(), form
        assert (chances <= sums[found] + 1e-5).all(), form


def test_without_heat_the_highest_score_is_drawn():
    scores = jnp.array([0.5, 2.0, -jnp.inf, 2.0, 1.0])
    for form in drawing.draw, lambda *arrays: drawing.DRAW.portable(*map(jnp.asarray, arrays)):
        assert int(form(scores, 0.99, 0.0)) == 1
        assert int(form(scores, 0.99, 1e-9)) in (1, 3)
