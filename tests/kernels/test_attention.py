import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


@pytest.mark.parametrize("key_heads", [4, 2])
def test_gradients_equal_finite_differences(key_heads):
    query, key, value = draw(0, 1, 3, 4, 2), draw(1, 1, 5, key_heads, 2), draw(2, 1, 5, key_heads, 2)
    mask = jnp.asarray(draw(3, 1, 1, 3, 5) > -0.5).at[0, 0, 1].set(False)
    bias, weight, step = draw(4, 1, 4, 3, 5), draw(5, 1, 3, 4, 2), 1e-6
    arguments = [query, key, value, bias]
    with jax.enable_x64(True):

        def loss(query, key, value, bias):
            return jnp.sum(kernels.dot_product_attention(query, key, value, mask=mask, bias=bias, causal=True) * weight)

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
