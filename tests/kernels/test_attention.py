import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina import native
from lamina.core.errors import ShapeError
from lamina.kernels import attention as kernels


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def reference(query, key, value, mask=None, bias=0.0, scale=None):
    """Attention by loops over examples and heads, in double precision."""
    batch, queries, heads, dim = query.shape
    share = heads // key.shape[2]
    out = np.zeros((batch, queries, heads, value.shape[-1]))
    for b in range(batch):
        for h in range(heads):
            scores = query[b, :, h] @ key[b, :, h // share].T * (dim**-0.5 if scale is None else scale)
            scores = scores + np.broadcast_to(bias, (batch, heads, *scores.shape))[b, h]
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            if mask is not None:
                weights = weights * np.broadcast_to(mask, (batch, heads, *scores.shape))[b, h]
            total = weights.sum(-1, keepdims=True)
            out[b, :, h] = (
                np.divide(weights, total, out=np.zeros_like(weights), where=total > 0) @ value[b, :, h // share]
            )
    return out


@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_equals_loops(key_heads):
    query, key, value = draw(0, 2, 3, 4, 5), draw(1, 2, 6, key_heads, 5), draw(2, 2, 6, key_heads, 7)
    mask, bias = draw(3, 2, 1, 3, 6) > -0.5, draw(4, 4, 3, 6)
    mask[0, 0, 1] = False  # a query that sees nothing
    arguments = query, key, value, mask, bias
    q, k, v, seen, added = map(jnp.asarray, arguments)
    found = kernels.dot_product_attention(q, k, v, mask=seen, bias=added, scale=0.7)
    np.testing.assert_allclose(found, reference(*arguments, scale=0.7), rtol=1e-4, atol=1e-5)
    assert not found[0, 1].any()


@pytest.mark.parametrize(("causal", "window"), [(True, None), (False, 2), (True, 2), (False, None)])
def test_position_masks(causal, window):
    x = draw(0, 1, 5, 2, 3)
    i, j = np.indices((5, 5))
    mask = ((i >= j) | (not causal)) & (np.abs(i - j) < (window or 9))
    found = kernels.dot_product_attention(*[jnp.asarray(x)] * 3, causal=causal, window=window)
    np.testing.assert_allclose(found, reference(x, x, x, mask), rtol=1e-4, atol=1e-5)


def test_masked_softmax_ignores_extreme_scores():
    scores = jnp.array([[1e30, 0.0, 0.0], [1e30, 1e30, 1e30]])
    mask = jnp.array([[False, True, True], [False, False, False]])
    np.testing.assert_allclose(kernels.masked_softmax(scores, mask), [[0, 0.5, 0.5], [0, 0, 0]])
    low = jnp.array([[-1e38, -1e38, 0.0]])  # below the number that stands for a masked score
    np.testing.assert_allclose(kernels.masked_softmax(low, mask[:1].at[0, 0].set(True).at[0, 2].set(False)).sum(), 1.0)


def test_half_precision_keeps_its_dtype_and_sums_to_one():
    x = jnp.asarray(draw(0, 1, 300, 1, 4), "bfloat16")
    weights = kernels.attention_weights(x, x)
    assert weights.dtype == jnp.bfloat16
    np.testing.assert_allclose(weights.astype("float32").sum(-1), 1.0, atol=0.01)
    exact = np.asarray(x, "float64")
    found = kernels.dot_product_attention(x, x, x).astype("float32")
    np.testing.assert_allclose(found, reference(exact, exact, exact), atol=0.05)


@pytest.mark.parametrize(("key_heads", "biased"), [(4, True), (2, True), (2, False)])
def test_gradients_equal_finite_differences(key_heads, biased):
    query, key, value = draw(0, 1, 3, 4, 2), draw(1, 1, 5, key_heads, 2), draw(2, 1, 5, key_heads, 2)
    mask = jnp.asarray(draw(3, 1, 1, 3, 5) > -0.5).at[0, 0, 1].set(False)
    bias, weight, step = draw(4, 1, 4, 3, 5), draw(5, 1, 3, 4, 2), 1e-6
    arguments = [query, key, value, bias]
    with jax.enable_x64(True):

        def loss(query, key, value, bias):
            added = bias if biased else None
            found = kernels.dot_product_attention(query, key, value, mask=mask, bias=added, causal=True)
            return jnp.sum(found * weight)

        gradients = jax.jit(jax.grad(loss, (0, 1, 2, 3)))(*map(jnp.asarray, arguments))
        run = jax.jit(loss)
        for index, gradient in enumerate(gradients):
            direction = draw(6 + index, *gradient.shape)
            low, high = (
                [a + sign * step * direction if i == index else a for i, a in enumerate(arguments)] for sign in (-1, 1)
            )
            expected = (run(*high) - run(*low)) / (2 * step)
            np.testing.assert_allclose(jnp.sum(gradient * direction), expected, rtol=1e-6, atol=1e-8)


def test_heads_that_cannot_be_shared():
    with pytest.raises(ShapeError, match="3 heads of queries cannot share 2 heads"):
        kernels.dot_product_attention(jnp.ones((1, 2, 3, 4)), jnp.ones((1, 2, 2, 4)), jnp.ones((1, 2, 2, 4)))


def draw_mask(shape=(0, 0, 0, 0), padded=False):
    mask = draw(3, *shape) > 0
    if padded:  # examples of different lengths; the first has none, the last all
        mask &= np.arange(shape[-1]) < np.linspace(0, shape[-1], shape[0]).astype(int)[:, None, None, None]
        mask[-1, ..., -1] = True
    return mask


# Sizes: batch, queries, keys, heads, key heads, dim, value dim. Blocks have 64 queries, or fewer on other processors, and
# 128 keys; the gradient's tasks 256 keys.
CASES = {
    "one number": ((1, 1, 1, 1, 1, 1, 1), {}),
    "causal": ((2, 70, 70, 4, 2, 20, 13), {"causal": True}),
    "joined": ((2, 83, 83, 4, 2, 16, 16), {"causal": True, "joined": (4, 2)}),
    "joined with a mask": ((2, 35, 35, 3, 3, 5, 5), {"joined": (3, 3), "mask": (2, 1, 1, 35)}),
    "padded": ((4, 150, 150, 4, 2, 16, 16), {"joined": (4, 2), "mask": (4, 1, 1, 150), "padded": True}),
    "few padded": ((3, 3, 3, 2, 2, 4, 4), {"joined": (2, 2), "mask": (3, 1, 1, 3), "padded": True}),
    "window": ((1, 150, 170, 1, 1, 33, 16), {"window": 20}),
    "causal window": ((1, 170, 150, 2, 1, 3, 40), {"causal": True, "window": 60}),
    "mask of keys": ((3, 20, 300, 2, 2, 16, 3), {"mask": (3, 1, 1, 300)}),
    "mask of each": ((2, 40, 140, 2, 1, 8, 8), {"mask": (1, 2, 40, 140), "causal": True}),
    "mask of queries": ((2, 18, 20, 2, 1, 8, 8), {"mask": (2, 1, 18, 1)}),
    "one query": ((2, 1, 200, 4, 2, 33, 20), {"mask": (1, 1, 1, 200)}),
    "few queries": ((1, 3, 50, 2, 2, 16, 32), {"mask": (1, 1, 3, 50), "causal": True}),
    "shared out": ((1, 65, 600, 2, 1, 16, 16), {}),
}
NATIVE = pytest.mark.skipif(not native.load().names, reason="the native kernels were not built")


@NATIVE
@pytest.mark.parametrize("name", CASES)
def test_native_against_portable_in_double_precision(name):
    (batch, queries, keys, heads, key_heads, dim, value_dim), settings = CASES[name]
    settings = {"causal": False, "window": None, "joined": None, "scale": 0.3} | settings
    arrays = [draw(0, batch, queries, heads, dim), draw(1, batch, keys, key_heads, dim)]
    arrays[1] *= np.linspace(1, 5, keys)[:, None, None]  # larger and larger scores
    arrays.append(draw(2, batch, keys, key_heads, value_dim))
    if settings["joined"]:
        arrays = [np.concatenate(arrays, axis=2)]
    mask = draw_mask(settings.pop("mask", (0, 0, 0, 0)), settings.get("padded", False))
    weight, *single = (a.astype("float32") for a in (draw(4, batch, queries, heads, value_dim), *arrays))
    assert kernels.ATTENTION.is_native(*single, mask, **settings)

    def run(weight, *arrays):
        _, vjp = jax.vjp(lambda *arrays: kernels.ATTENTION(*arrays, mask, **settings), *arrays)
        return kernels.ATTENTION(*arrays, mask, **settings), kernels.FORWARD(*arrays, mask, **settings), vjp(weight)

    lowered = jax.jit(run).lower(weight, *single)
    assert "lamina.attention_backward" in lowered.as_text()
    found = lowered.compile()(weight, *single)
    with jax.enable_x64(True):  # which has no native form
        expected = jax.jit(run)(*(a.astype("float64") for a in (weight, *single)))
    for mine, exact in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert mine.dtype == "float32"
        np.testing.assert_allclose(mine, exact, rtol=0, atol=4e-6 * max(np.abs(exact).max(), 1))


# Sizes as above. Blocks have 32 queries and keys, and 128 are taken at once.
HALF_CASES = {
    name: CASES[name] for name in ("causal", "joined", "joined with a mask", "padded", "causal window", "mask of each")
} | {
    "whole tiles": ((2, 128, 128, 4, 4, 32, 32), {"joined": (4, 4), "causal": True}),
    "window": ((1, 150, 270, 1, 1, 33, 16), {"window": 20}),
    "mask of keys": ((3, 50, 300, 2, 2, 16, 3), {"mask": (3, 1, 1, 300)}),
    "mask of queries": ((2, 48, 60, 2, 1, 8, 8), {"mask": (2, 1, 48, 1)}),
    "many": ((1, 290, 330, 6, 2, 70, 100), {}),
}
TILES = pytest.mark.skipif(
    "half_attention" not in native.load().names, reason="this processor has no products of halves"
)


@TILES
@pytest.mark.parametrize("name", HALF_CASES)
def test_half_numbers_are_multiplied_in_tiles_and_summed_up_in_float32(name):
    (batch, queries, keys, heads, key_heads, dim, value_dim), settings = HALF_CASES[name]
    settings = {"causal": False, "window": None, "joined": None, "scale": 0.3} | settings
    shapes = [(batch, queries, heads, dim), *[(batch, keys, key_heads, d) for d in (dim, value_dim)]]
    query, key, value, weight = (
        jnp.asarray(draw(i, *shape), "bfloat16")
        for i, shape in enumerate([*shapes, (batch, queries, heads, value_dim)])
    )
    key = key * jnp.linspace(1, 5, keys, dtype="bfloat16")[:, None, None]  # larger and larger scores
    mask = draw_mask(settings.pop("mask", (0, 0, 0, 0)), settings.get("padded", False))
    joined = settings["joined"]
    arrays = [jnp.concatenate((query, key, value), axis=2)] if joined else [query, key, value]

    def run(weight, *arrays):
        _, vjp = jax.vjp(lambda *arrays: kernels.ATTENTION(*arrays, mask, **settings), *arrays)
        return kernels.ATTENTION(*arrays, mask, **settings), kernels.FORWARD(*arrays, mask, **settings), vjp(weight)

    lowered = jax.jit(run).lower(weight, *arrays)
    assert "lamina.half_attention_backward" in lowered.as_text()
    out, (same, logarithms), gradients = lowered.compile()(weight, *arrays)
    np.testing.assert_array_equal(out.astype("float32"), same.astype("float32"))
    gradients = jnp.split(gradients[0], [heads, heads + key_heads], axis=2) if joined else gradients

    # in float64, with each head of keys repeated; and by how much rounding to bfloat16 may change what becomes a factor
    half, group, scale = 2.0**-8, heads // key_heads, settings["scale"]
    query, key, value, weight = (np.asarray(a, "float64") for a in (query, key, value, weight))
    key, value = (np.repeat(a, group, axis=2) for a in (key, value))
    with jax.enable_x64(True):
        given = [jnp.concatenate((query, key, value), axis=2)] if joined else map(jnp.asarray, (query, key, value))
        repeated = settings | {"joined": (heads, heads) if joined else None}
        exact, expected_logarithms = map(np.asarray, kernels.FORWARD(*given, mask, **repeated))
        seen = {
            "mask": jnp.asarray(mask) if mask.size else None,
            "causal": settings["causal"],
            "window": settings["window"],
        }
        weights = np.asarray(kernels.attention_weights(jnp.asarray(query), jnp.asarray(key), scale=scale, **seen))
    if settings.get("padded"):
        ends = (mask * np.arange(1, keys + 1)).max(-1)[:, 0]
        weights = weights * (np.arange(queries) < ends)[:, None, :, None]
    np.testing.assert_allclose(logarithms, expected_logarithms, rtol=0, atol=2e-5)

    def close(mine, exact, lost):
        """Whether what differs is what was lost before the last rounding, and that."""
        assert mine.dtype == jnp.bfloat16
        error = np.abs(np.asarray(mine, "float64") - exact)
        assert (error <= 1.02 * (lost + half * np.abs(exact)) + 1e-5 * np.abs(exact).max()).all()

    def of_group(array):
        return array.reshape(*array.shape[:2], key_heads, group, array.shape[3]).sum(3)

    close(out, exact, half * np.einsum("bhqk,bkhd->bqhd", weights, np.abs(value)))
    sent = np.einsum("bqhd,bkhd->bhqk", weight, value)
    mean, lost_mean = (
        np.einsum("bqhd,bqhd->bhq", *pair)[..., None] for pair in ((exact, weight), np.abs((exact, weight)))
    )
    changes = scale * weights * (sent - mean)
    lost = half * (np.abs(changes) + scale * weights * lost_mean)
    of_weights = half * weights
    for mine, factors, loss, other, path in (
        (gradients[0], changes, lost, key, "bhqk,bkhd->bqhd"),
        (gradients[1], changes, lost, query, "bhqk,bqhd->bkhd"),
        (gradients[2], weights, of_weights, weight, "bhqk,bqhd->bkhd"),
    ):
        found = np.einsum(path, factors, other), np.einsum(path, loss, np.abs(other))
        close(mine, *(found if mine is gradients[0] else map(of_group, found)))


@TILES
def test_in_tiles_not_a_number_stays_one_and_what_sees_nothing_is_zero():
    query, key, value = (jnp.asarray(draw(i, 2, 40, 1, 4), "bfloat16") for i in range(3))
    settings = {"joined": None, "causal": True, "window": None, "scale": 0.5}
    nothing = jnp.zeros((0, 0, 0, 0), bool)
    for arrays in (key.at[0, 7].set(jnp.nan), value), (key, value.at[0, 7].set(jnp.nan)):
        assert kernels.ATTENTION.is_half(query, *arrays, nothing, **settings)
        assert np.isnan(kernels.ATTENTION(query, *arrays, nothing, **settings)[0, 7:]).all()
    found = kernels.ATTENTION(query.at[0, 7, 0, 0].set(jnp.inf), key, value, nothing, **settings)
    assert np.isnan(found[0]).any(axis=(1, 2)).tolist() == [i == 7 for i in range(40)]

    def total(*arrays):
        result = kernels.ATTENTION(*arrays, jnp.arange(2).reshape(2, 1, 1, 1) == 0, **settings)
        return jnp.sum(jnp.sin(result.astype("float32"))), result

    gradients, result = jax.grad(total, (0, 1, 2), has_aux=True)(query, key, value)
    for array in (result, *gradients):
        assert array[0].any()
        assert not array[1].any()


def test_queries_of_padding_get_zeros_and_no_gradients():
    x = jnp.asarray(draw(0, 3, 40, 6, 4), "float32")
    lengths = np.array([0, 21, 40])
    mask = jnp.asarray(np.arange(40) < lengths[:, None])[:, None, None]
    mask = mask.at[1, 0, 0, 4].set(False)  # hidden between others: its query is asked as before

    def total(x, padded):
        result = kernels.self_attention(x, mask=mask, padded=padded)
        return jnp.sum(jnp.sin(result) * (np.arange(40) < lengths[:, None])[:, :, None, None]), result

    (gradient, result), (expected, whole) = (jax.grad(total, has_aux=True)(x, padded) for padded in (True, False))
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-6)
    for length, mine, other in zip(lengths, result, whole, strict=True):
        np.testing.assert_allclose(mine[:length], other[:length], rtol=0, atol=1e-6)
        assert not mine[length:].any()
    with pytest.raises(ShapeError, match=r"padded needs a mask of shape \(batch, 1, 1, length\).*\(1, 1, 40, 40\)"):
        kernels.self_attention(x, mask=jnp.ones((1, 1, 40, 40), bool), padded=True)
    np.testing.assert_array_equal(kernels.self_attention(x, padded=True), kernels.self_attention(x))


def test_self_attention_equals_its_parts():
    projected = jnp.asarray(draw(0, 2, 5, 8, 3), "float32")
    mask = jnp.arange(5)[None, None, None] < 4
    for key_heads, heads in (2, 4), (1, 6):
        parts = projected[:, :, :heads], projected[:, :, heads:-key_heads], projected[:, :, -key_heads:]
        found = kernels.self_attention(projected, key_heads=key_heads, mask=mask, causal=True, window=2, scale=2.0)
        expected = kernels.dot_product_attention(*parts, mask=mask, causal=True, window=2, scale=2.0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for heads, key_heads, message in (
        (8, None, "8 heads cannot be as many of queries as of keys"),
        (4, 2, "4 heads cannot hold 2 of keys, as many of values, and some of queries"),
        (7, 2, "3 heads of queries cannot share 2 heads"),
    ):
        with pytest.raises(ShapeError, match=message):
            kernels.self_attention(jnp.ones((1, 2, heads, 3)), key_heads=key_heads)


@pytest.mark.parametrize("queries", [1, 20])
def test_queries_that_see_nothing_give_zeros_and_get_no_gradients(queries):
    query, key, value = (jnp.asarray(draw(i, 2, n, 2, 4), "float32") for i, n in enumerate((queries, 9, 9)))
    mask = jnp.arange(2)[:, None, None, None] == jnp.zeros((1, 1, 1, 9), int)  # the second example sees no key

    def total(*arrays):
        result = kernels.dot_product_attention(*arrays, mask=mask)
        return jnp.sum(jnp.sin(result)), result

    gradients, result = jax.grad(total, (0, 1, 2), has_aux=True)(query, key, value)
    for array in (result, *gradients):
        assert array[0].any()
        assert not array[1].any()


def test_not_a_number_stays_one():
    query, key, value = (jnp.asarray(draw(i, 1, 20, 1, 4), "float32") for i in range(3))
    for arrays in (key.at[0, 7].set(jnp.nan), value), (key, value.at[0, 7].set(jnp.nan)):
        assert np.isnan(kernels.dot_product_attention(query, *arrays, causal=True)[0, 7:]).all()
        assert np.isnan(kernels.dot_product_attention(query[:, :1], *arrays)).all()
    found = kernels.dot_product_attention(query.at[0, 7, 0, 0].set(jnp.inf), key, value)
    assert np.isnan(found[0]).any(axis=(1, 2)).tolist() == [i == 7 for i in range(20)]


def test_second_derivatives():
    arrays = [jnp.asarray(draw(i, 1, n, 2, 3), "float32") for i, n in enumerate((4, 5, 5))]
    directions = [jnp.asarray(draw(3 + i, *a.shape), "float32") for i, a in enumerate(arrays)]
    mask = jnp.arange(5)[None, None, None] != 1

    def energy(attention):
        return lambda *arrays: jnp.sum(attention(*arrays) ** 3)

    def whole(query, key, value):
        return kernels.weighted_sum(kernels.attention_weights(query, key, mask=mask, causal=True), value)

    def both(query, key, value):
        return kernels.dot_product_attention(query, key, value, mask=mask, causal=True)

    def second(fn):
        slopes = jax.grad(energy(fn), (0, 1, 2))
        along = lambda *arrays: sum(jnp.sum(g * d) for g, d in zip(slopes(*arrays), directions, strict=True))  # noqa: E731
        return jax.jvp(slopes, tuple(arrays), tuple(directions))[1], jax.grad(along, (0, 1, 2))(*arrays)

    found, expected = jax.jit(lambda: (second(both), second(whole)))()
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_half_precision_goes_to_cudnn_where_it_can(monkeypatch):
    x, mask = jnp.ones((2, 16, 12, 32), "bfloat16"), jnp.zeros((0, 0, 0, 0), bool)
    settings = {"joined": (4, 4), "causal": True, "window": None, "scale": 1.0}
    # no GPU here: a program for one has the portable form
    lowered = (
        jax.jit(functools.partial(kernels.self_attention, causal=True)).trace(x).lower(lowering_platforms=("cuda",))
    )
    assert "fmha" not in lowered.as_text()
    monkeypatch.setattr(kernels, "_has_cudnn", lambda: True)
    assert kernels._cudnn_supports(x, mask, **settings)
    assert not kernels._cudnn_supports(x.astype("float32"), mask, **settings)
    assert not kernels._cudnn_supports(x[:, :15], mask, **settings)
    assert not kernels._cudnn_supports(x[..., :30], mask, **settings)
    assert not kernels._cudnn_supports(x, mask, **settings | {"window": 4})
    assert not kernels._cudnn_supports(x, jnp.ones((2, 1, 1, 16), bool), **settings)
