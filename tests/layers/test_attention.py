import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.masks import get_mask, set_mask
from lamina.layers.attention import AdditiveAttention, Attention
from lamina.layers.einsum import EinsumDense
from lamina.layers.multi_head_attention import GroupQueryAttention, MultiHeadAttention
from tests.golden.make_attention import CASES
from tests.layers.golden import check, close, stored


def _travelling_rows(index):
    """Rows of queries that count, of the case in which the query's mask hides some."""
    (case,) = (case for case in CASES if case.name == "heads_travel")
    mask = case.travelling()[0]
    return mask if index == 0 else np.broadcast_to(mask[:, None, :, None], (2, 2, 4, 4))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_keras(case):
    check(case, "attention", skip=_travelling_rows if case.name == "heads_travel" else None)


def test_multi_head_attention_equals_torch():
    golden = {name.split("/")[1]: x for name, x in stored("attention").items() if name.startswith("torch/")}
    attention = MultiHeadAttention(num_heads=4, key_dim=2)
    query, value = jnp.asarray(golden["query"]), jnp.asarray(golden["value"])
    jax.eval_shape(attention, query, value)
    weights = []
    for kernel, bias in zip(np.split(golden["in_weight"], 3), np.split(golden["in_bias"], 3), strict=True):
        weights += [kernel.T.reshape(8, 4, 2), bias.reshape(4, 2)]
    attention.set_weights([*weights, golden["out_weight"].T.reshape(4, 2, 8), golden["out_bias"]])
    present = jnp.asarray(golden["missing"] == 0)
    run = jax.jit(lambda q, v: attention(q, v, value_mask=present, return_attention_scores=True))
    output, scores = run(query, value)
    close(output, golden["output"])
    close(scores, golden["weights"])
    gradients = jax.jit(jax.grad(lambda q, v: jnp.sum(attention(q, v, value_mask=present) ** 2), (0, 1)))(query, value)
    close(gradients[0], golden["query_gradient"])
    close(gradients[1], golden["value_gradient"])


def test_weights_have_kerass_names_shapes_and_order():
    attention = MultiHeadAttention(2, 3, value_dim=5)
    jax.eval_shape(attention, jnp.ones((1, 4, 8)), jnp.ones((1, 6, 7)))
    assert [(w.path, w.shape) for w in attention.weights] == [
        ("query/kernel", (8, 2, 3)),
        ("query/bias", (2, 3)),
        ("key/kernel", (7, 2, 3)),
        ("key/bias", (2, 3)),
        ("value/kernel", (7, 2, 5)),
        ("value/bias", (2, 5)),
        ("attention_output/kernel", (2, 5, 8)),
        ("attention_output/bias", (8,)),
    ]


def test_kernels_are_drawn_for_their_inputs_and_outputs():
    dense = EinsumDense("abc,cde->abde", (None, 10, 20))
    dense(jnp.ones((1, 1, 40)))
    limit = (6 / (40 + 200)) ** 0.5
    assert 0.95 * limit < float(jnp.abs(dense.kernel.value).max()) <= limit


@pytest.mark.parametrize("make", [lambda: MultiHeadAttention(2, 3), lambda: GroupQueryAttention(3, 4, 2)])
def test_no_query_sees_anything(make):
    attention, x = make(), jnp.ones((2, 3, 4))

    @jax.jit
    def loss(x):
        return jnp.sum(attention(x, x, attention_mask=jnp.zeros((2, 3, 3), bool)) ** 2)

    value, gradient = jax.value_and_grad(loss)(x)
    np.testing.assert_array_equal(value, 0.0)  # zeros, and biases start at zero
    assert bool(jnp.isfinite(gradient).all())


def test_a_value_masked_whole_gives_zeros():
    x = jnp.ones((2, 3, 4))
    y, scores = Attention()([x, x], mask=[None, jnp.zeros((2, 3), bool)], return_attention_scores=True)
    assert not y.any()
    assert not scores.any()


def test_masked_steps_change_nothing():
    rng = np.random.default_rng(0)
    x, mask = jnp.asarray(rng.normal(size=(2, 4, 6)), "float32"), jnp.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)
    attention = MultiHeadAttention(2, 3)
    other = set_mask(jnp.where(mask[..., None], x, 99.0), mask)
    dirty = attention(other, other)
    clean = attention(x, set_mask(jnp.array(x), mask))
    np.testing.assert_allclose(dirty[mask], clean[mask], rtol=1e-5)
    np.testing.assert_array_equal(get_mask(dirty), mask)


def test_causal_output_does_not_see_the_future():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 4)), "float32")
    attention = MultiHeadAttention(2, 3)
    slope = jax.jit(jax.jacrev(lambda x: attention(x, x, use_causal_mask=True)[0].sum(-1)))(x)[:, 0].sum(-1)
    np.testing.assert_array_equal(jnp.triu(slope, 1), 0)
    assert bool((jnp.abs(jnp.tril(slope)) > 0).sum() == 15)


def test_dropout_acts_in_training_only_and_keeps_the_mean():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 4)), "float32")
    attention = Attention(dropout=0.5, seed=3)
    plain = attention([x, x])
    np.testing.assert_array_equal(plain, Attention()([x, x]))
    draws = jnp.stack([attention([x, x], training=True) for _ in range(200)])
    assert float(jnp.abs(draws[0] - draws[1]).max()) > 0.01
    np.testing.assert_allclose(draws.mean(0), plain, atol=6 * float(draws.std(0).max()) / 200**0.5)


def test_half_precision_softmax_is_exact():
    x = jnp.full((1, 600, 4), 8.0).at[0, 0].set(8.1)
    attention = MultiHeadAttention(1, 4, dtype="mixed_bfloat16")
    _, scores = attention(x, x, return_attention_scores=True)
    assert scores.dtype == jnp.bfloat16
    np.testing.assert_allclose(scores.astype("float32").sum(-1), 1.0, atol=0.01)


def test_regularizer_of_activity_counts_every_projection_once():
    from lamina.core.state import bind

    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), "float32")
    attention = MultiHeadAttention(2, 3, activity_regularizer=lambda y: jnp.sum(y**2))
    with bind({}) as scope:
        y = attention(x, x)
    parts = [attention.query(x), attention.key(x), attention.value(x), y]
    np.testing.assert_allclose(sum(scope.losses), sum(float(jnp.sum(p**2)) for p in parts) / 2, rtol=1e-5)


def test_output_shapes():
    attention = MultiHeadAttention(2, 3, output_shape=(5, 6))
    assert attention.compute_output_shape((None, 7, 4), (None, 9, 4)) == (None, 7, 5, 6)
    assert Attention().compute_output_shape([(None, 3, 4), (None, 5, 4)]) == (None, 3, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiHeadAttention(0, 4), "num_heads as a whole number of at least 1; received 0"),
        (lambda: MultiHeadAttention(2, 1.5), "key_dim as a whole number"),
        (lambda: MultiHeadAttention(2, 4, dropout=1.5), "dropout as a number from 0"),
        (lambda: MultiHeadAttention(2, 4, attention_axes="all"), "attention_axes as a whole number or several"),
        (lambda: MultiHeadAttention(2, 4, sliding_window=0), "sliding_window"),
        (lambda: GroupQueryAttention(4, 3, 2), "multiple of num_key_value_heads; received 3 and 2"),
        (lambda: Attention(score_mode="luong"), "score_mode as 'dot' or 'concat'"),
        (lambda: AdditiveAttention(dropout=-1), "dropout as a number"),
        (lambda: EinsumDense("ab,bc", 3), "expects an equation such as"),
        (lambda: EinsumDense("ab,bc->ad", 3), "'d' stands in the output but not the input or kernel"),
        (lambda: EinsumDense("ab,bc->ac", 3, bias_axes="d"), "'d' stands in the bias but not the output"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_bad_shapes():
    x = jnp.ones((2, 3, 4))
    with pytest.raises(ShapeError, match=r"\[query, value\] or \[query, value, key\]"):
        Attention()(x)
    with pytest.raises(ShapeError, match="value and key with the same steps"):
        MultiHeadAttention(2, 3)(x, x, jnp.ones((2, 5, 4)))
    with pytest.raises(ShapeError, match=r"masks that broadcast to .* received shape \(2, 3, 7\)"):
        MultiHeadAttention(2, 3)(x, x, attention_mask=jnp.ones((2, 3, 7), bool))
    with pytest.raises(ShapeError, match="expected an input of 2 axes"):
        EinsumDense("ab,bc->ac", 3)(x)
    with pytest.raises(ShapeError, match="axis 'b' of 'abc,cd->abd' has length 3 in the input and 5 in output_shape"):
        EinsumDense("abc,cd->abd", (5, 6))(x)
