"""Writing, natively and portably, against the whole text in double precision; and drawing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import native
from lamina.kernels import decoding, drawing, slopes
from lamina.kernels.attention import self_attention
from lamina.kernels.decoding import BlockWeights, Ends

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


def ends_of(vocabulary, context, width):
    rng = np.random.default_rng(3)
    rows = [rng.normal(size=(size, width)) / np.sqrt(width) for size in (vocabulary, context)]
    arrays = [3 * rows[0], rows[1], 1 + rng.normal(size=width) / 4, rng.normal(size=width) / 4]
    return Ends(*(array.astype("float32") for array in arrays))


def expected(tokens, ends, blocks, settings):
    """Scores for what follows the last of some tokens, in double precision."""
    ends = Ends(*(np.asarray(array, "float64") for array in ends))
    x = ends.tokens[tokens] + ends.places[: len(tokens)]
    if settings["normalize_first"]:
        return normal(whole_text(x[None], blocks, **settings)[0, -1], ends.gamma, ends.beta, 1e-5) @ ends.tokens.T
    return whole_text(normal(x[None], ends.gamma, ends.beta, 1e-5), blocks, **settings)[0, -1] @ ends.tokens.T


@pytest.mark.parametrize(
    ("depth", "width", "heads", "hidden", "vocabulary", "activation", "normalize_first", "form"),
    [
        pytest.param(2, 32, 2, 64, 9, slopes.gelu_tanh, True, "native", marks=NATIVE),
        pytest.param(1, 48, 3, 80, 65, slopes.gelu_tanh, True, "native", marks=NATIVE),
        pytest.param(1, 16, 1, 16, 2, slopes.gelu_tanh, True, "native", marks=NATIVE),
        pytest.param(3, 128, 4, 512, 300, slopes.gelu_tanh, True, "native", marks=NATIVE),
        pytest.param(1, 320, 10, 1280, 40, slopes.gelu_tanh, True, "native", marks=NATIVE),
        (2, 24, 2, 40, 30, jnp.tanh, True, "portable"),
        (2, 32, 2, 40, 30, slopes.gelu_tanh, False, "portable"),
    ],
)
def test_tokens_follow_the_distribution_of_the_whole_text(
    depth, width, heads, hidden, vocabulary, activation, normalize_first, form
):
    settings = {"heads": heads, "activation": activation, "normalize_first": normalize_first, "epsilon": 1e-5}
    blocks, caches = blocks_of(depth, width, hidden), caches_of(depth, 40, heads, width)
    ends, allowed = ends_of(vocabulary, 40, width), np.arange(vocabulary) != 1
    step = jax.jit(lambda *arrays, **numbers: decoding.write(*arrays, **numbers, **settings))
    rng = np.random.default_rng(width)
    prompt = rng.integers(0, vocabulary, 16).astype("int32")
    rest = {"temperature": np.float32(0.7), "allowed": allowed}
    chances = rng.random(31).astype("float32")
    arrays = prompt, chances[:1], ends, blocks, caches
    assert ("lamina.write" in step.lower(*arrays, **rest).as_text()) == (form == "native")
    found, caches = step(*arrays, length=9, **rest)
    assert (np.any(caches[-1][0], axis=(0, 2, 3)) == (np.arange(40) < (16 if form == "portable" else 9))).all()
    some, caches = step(found, chances[1:11], ends, blocks, caches, position=9, count=8, **rest)
    more, caches = step(some[7:8], chances[9:], ends, blocks, caches, position=17, count=20, **rest)
    written = np.concatenate([found, some[:8], more[:20]])
    assert written.dtype == "int32"
    for n, token in enumerate(written):
        scores = expected(np.concatenate([prompt[:9], written[:n]]), ends, blocks, settings)[None] / 0.7
        shares = np.where(allowed, np.exp(scores - scores.max()), 0)[0]
        sums = np.cumsum(shares) / shares.sum()
        assert allowed[token]
        assert (sums[token - 1] if token else 0) - 1e-5 <= chances[n] <= sums[token] + 1e-5


@pytest.mark.parametrize("width", [24, pytest.param(32, marks=NATIVE)])
def test_nothing_is_written_after_the_end_or_beyond_the_count(width):
    blocks, ends, caches = blocks_of(1, width, 32), ends_of(5, 30, width), caches_of(1, 30, 2, width)
    settings = {"heads": 2, "activation": slopes.gelu_tanh}
    arrays = np.array([4], "int32"), np.random.default_rng(0).random(20).astype("float32"), ends, blocks, caches
    step = jax.jit(lambda *arrays, **given: decoding.write(*arrays, **given, **settings), static_argnames="stop")
    free, _ = step(*arrays, count=20)
    end = int(free[5])
    first = free.tolist().index(end)
    for count, written in ((20, first + 1), (first, first), (first + 1, first + 1)):
        found, after = step(*arrays, count=count, stop=end)
        assert found[:written].tolist() == free[:written].tolist()
        assert np.any(after[0][0], axis=(0, 2, 3)).sum() == written
    # an end that stands before the first token stops nothing
    assert step(np.array([end], "int32"), *arrays[1:], count=2, stop=end)[1][0][0][0, 0].any()


@pytest.mark.parametrize("normalize_first", [True, False])
@pytest.mark.parametrize(("width", "heads", "batch"), [(24, 2, 1), (32, 2, 3)])
def test_portable_against_the_whole_text(normalize_first, width, heads, batch):
    x = np.random.default_rng(2).normal(size=(batch, 6, width)).astype("float32")
    settings = {"heads": heads, "activation": jnp.tanh, "normalize_first": normalize_first, "epsilon": 1e-3}
    blocks, caches = blocks_of(2, width, 40), caches_of(2, 8, heads, width)
    caches = jax.tree.map(lambda a: jnp.repeat(a, batch, axis=0), caches)
    step = jax.jit(lambda *arguments: decoding.decode(*arguments, **settings))
    first, caches = step(x[:, :5], blocks, caches, 0)
    last, caches = step(x[:, 5:], blocks, caches, jnp.int32(5))
    exact = whole_text(x, blocks, **settings)
    np.testing.assert_allclose(np.concatenate([first, last], axis=1), exact, rtol=0, atol=5e-6 * np.abs(exact).max())


@NATIVE
def test_writing_is_one_call_for_which_nothing_is_compiled():
    blocks, caches, ends = blocks_of(2, 32, 64), caches_of(2, 30, 2, 32), ends_of(50, 30, 32)
    step = jax.jit(
        lambda *arrays, **given: decoding.write(*arrays, **given, heads=2, activation=slopes.gelu_tanh, stop=0),
        donate_argnums=4,
    )
    for length, count in ((8, 1), (1, 20)):
        numbers = {
            "length": length,
            "position": 3,
            "count": count,
            "temperature": np.float32(1),
            "allowed": ends[0][:, 0] > 0,
        }
        arrays = np.zeros(length, "int32"), np.zeros(count, "float32"), ends, blocks, caches
        program = step.lower(*arrays, **numbers).compile().as_text()
        assert program.count("custom-call(") == 1
        assert "fusion(" not in program
        assert "while(" not in program


@NATIVE
def test_caches_are_written_in_place_where_they_are_given_away():
    blocks, caches = blocks_of(1, 32, 64), [(jnp.zeros((1, 64, 2, 16)), jnp.ones((1, 64, 2, 16)))]
    arrays, ends = (jnp.array([2]), jnp.full(1, 0.5)), ends_of(5, 64, 32)
    step = jax.jit(
        lambda caches, n: decoding.write(
            *arrays, ends, blocks, caches, position=n, heads=2, activation=slopes.gelu_tanh
        ),
        donate_argnums=0,
    )
    places = [array.unsafe_buffer_pointer() for array in caches[0]]
    _, after = step(caches, 3)
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
    nothing = np.zeros(0, "int32"), np.zeros(0, "float32")
    assert drawing.DRAW.is_native(scores, chances[0], np.float32(temperature), *nothing)
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


FORMS = [
    pytest.param(lambda *arrays: jax.jit(drawing.draw)(*arrays), id="native", marks=NATIVE),
    pytest.param(
        lambda *arrays: jax.vmap(lambda c: drawing.draw(arrays[0], c, *arrays[2:]))(arrays[1][None])[0], id="portable"
    ),
]


@pytest.mark.parametrize("draw", FORMS)
def test_without_heat_the_highest_score_is_drawn(draw):
    scores = jnp.array([0.5, 2.0, -jnp.inf, 2.0, 1.0])
    assert int(draw(scores, jnp.float32(0.99), 0.0)) == 1
    assert int(draw(scores, jnp.float32(0.99), 1e-9)) in (1, 3)


@pytest.mark.parametrize("draw", FORMS)
@pytest.mark.parametrize("size", [5, 40, 3000])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(1, None), (3, None), (400, None), (None, 0.6), (None, 0.97), (7, 0.5), (3, 1e-6), (None, 1.0)]
)
def test_only_the_likeliest_are_drawn_from(draw, size, top_k, top_p):
    scores = np.random.default_rng(size).normal(size=size).astype("float32") * 2
    scores[3] = scores[4]  # of two that are as likely the first one counts
    weights = np.exp(scores.astype("float64") / 0.8)
    order = np.argsort(-scores, kind="stable")[:top_k]
    shares = weights[order] / weights[order].sum()
    kept = order[np.cumsum(shares) - shares < (1 if top_p is None else top_p)]
    weights[np.setdiff1d(np.arange(size), kept)] = 0
    sums = np.cumsum(weights) / weights.sum()
    for chance in np.random.default_rng(1).random(40).astype("float32"):
        found = int(draw(jnp.asarray(scores), jnp.asarray(chance), 0.8, top_k, top_p))
        assert found in kept
        assert (sums[found - 1] if found else 0) - 1e-5 <= chance <= sums[found] + 1e-5
