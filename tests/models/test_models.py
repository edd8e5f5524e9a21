import gc
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina as lm
from lamina import layers
from lamina.core.errors import ConfigError, ShapeError, StateError


def test_sequential_and_functional_and_subclass_agree():
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    sequential = lm.Sequential([layers.Dense(4, "relu"), layers.Dense(2)])
    expected = sequential.predict(x)
    start = lm.Input((3,))
    functional = lm.Model(start, layers.Dense(2)(layers.Dense(4, "relu")(start)))

    class Mine(lm.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4, "relu")
            self.dense_1 = layers.Dense(2)

        def call(self, x):
            return self.dense_1(self.dense(x))

    mine = Mine()
    mine.build((None, 3))
    # A weight's first value depends on seed and path alone, so the three are one network from the start.
    np.testing.assert_array_equal(functional.predict(x), expected)
    np.testing.assert_array_equal(mine.predict(x), expected)
    assert [v.path for v in mine.weights] == ["dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"]


def test_adding_a_layer_changes_no_other_layers_numbers():
    def network(*extra):
        return lm.Sequential([lm.Input((3,)), layers.Dense(3, name="a"), *extra, layers.Dense(3, name="b")])

    plain, longer = network(), network(layers.Dense(3, name="c"))
    for name in ("a", "b"):
        np.testing.assert_array_equal(plain.get_layer(name).get_weights()[0], longer.get_layer(name).get_weights()[0])


def test_shared_layers_have_one_set_of_weights():
    shared = layers.Dense(3, name="shared")
    a, b = lm.Input((3,)), lm.Input((3,))
    model = lm.Model([a, b], layers.subtract([shared(a), shared(shared(b))]))
    assert len(model.weights) == 2
    x, y = np.eye(3, dtype="float32"), np.ones((3, 3), "float32")
    w, c = model.get_weights()
    np.testing.assert_allclose(model.predict([x, y]), (x @ w + c) - ((y @ w + c) @ w + c), rtol=1e-5, atol=1e-6)


def test_nested_models_operators_and_ops():
    inner = lm.Sequential([lm.Input((3,)), layers.Dense(3)], name="inner")
    x = lm.Input((3,))
    h = inner(x)
    out = lm.ops.tanh(h * 2 + x) - 1
    model = lm.Model(x, [out, h[:, :1]])
    data = np.random.default_rng(1).normal(size=(4, 3)).astype("float32")
    full, first = model.predict(data)
    w, b = model.get_weights()
    np.testing.assert_allclose(full, np.tanh((data @ w + b) * 2 + data) - 1, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first, (data @ w + b)[:, :1], rtol=1e-5, atol=1e-6)
    assert [v.path for v in model.weights] == ["inner/dense/kernel", "inner/dense/bias"]


def test_a_model_for_features_shares_the_layers():
    model = lm.Sequential([lm.Input((3,)), layers.Dense(4, "relu", name="features"), layers.Dense(2)])
    features = lm.Model(model.input, model.get_layer("features").output)
    x = np.ones((2, 3), "float32")
    w, b = model.layers[0].get_weights()
    np.testing.assert_allclose(features.predict(x), np.maximum(x @ w + b, 0), rtol=1e-6)
    model.layers[0].set_weights([w * 0, b + 1])
    np.testing.assert_array_equal(features.predict(x), np.ones((2, 4)))


def test_names_are_unique_and_the_same_every_time():
    def names():
        model = lm.Sequential([lm.Input((3,)), layers.Dense(3), layers.Dense(3), layers.Dense(3, name="dense_1")])
        return [layer.name for layer in model.layers]

    assert names() == names() == ["dense", "dense_2", "dense_1"]
    with pytest.raises(ConfigError, match="two layers of the model are named 'd'"):
        lm.Sequential([lm.Input((3,)), layers.Dense(3, name="d"), layers.Dense(3, name="d")])


def test_get_layer_and_weights():
    model = lm.Sequential([lm.Input((3,)), layers.Dense(2), layers.BatchNormalization()])
    assert model.get_layer("dense") is model.get_layer(index=0)
    with pytest.raises(ConfigError, match="Did you mean 'dense'"):
        model.get_layer("dens")
    weights = model.get_weights()
    assert [w.shape for w in weights] == [(3, 2), (2,), (2,), (2,), (2,), (2,)]
    assert len(model.trainable_weights) == 4
    assert [v.path for v in model.non_trainable_weights] == [
        "batch_normalization/moving_mean",
        "batch_normalization/moving_variance",
    ]
    model.set_weights([w + 1 for w in weights])
    np.testing.assert_array_equal(model.get_weights()[0], weights[0] + 1)
    with pytest.raises(ShapeError, match="has 6 weights; received 1"):
        model.set_weights(weights[:1])
    with pytest.raises(ShapeError, match="'dense/kernel' has shape"):
        model.set_weights([w.T for w in weights])


def test_a_freshly_called_or_grown_sequential_is_built_by_its_data():
    model = lm.Sequential()
    model.add(layers.Dense(4))
    assert not model.built
    with pytest.raises(StateError, match="has no output yet"):
        model.output  # noqa: B018
    assert model(jnp.ones((2, 3))).shape == (2, 4)
    model.add(layers.Dense(5))
    assert model.output_shape == (None, 5)
    assert model.predict(np.ones((2, 3))).shape == (2, 5)
    model.pop()
    assert model.output_shape == (None, 4)
    with pytest.raises(ConfigError, match="stands twice"):
        model.add(model.layers[0])
    with pytest.raises(ConfigError, match="no layers"):
        lm.Sequential().predict(np.ones((2, 3)))


def test_summary_lists_layers_shapes_and_weights():
    lines = []
    inner = lm.Sequential([lm.Input((4,)), layers.Dense(3)], name="inner")
    model = lm.Sequential([lm.Input((8,)), layers.Dense(4), layers.Dropout(0.5), inner], name="mine")
    model.get_layer("inner").trainable = False
    model.summary(print_fn=lines.append, expand_nested=True)
    text = lines[0]
    assert 'Model "mine"' in text
    for part in ("dense (Dense)", "(None, 4)", "36", "dropout (Dropout)", "inner (Sequential)", "15"):
        assert part in text
    assert "51 weights (204 B), of them 36 trainable" in text


def test_a_graph_that_does_not_hang_together_is_refused():
    a, b = lm.Input((3,)), lm.Input((3,))
    with pytest.raises(ConfigError, match="not among the model's inputs"):
        lm.Model(a, layers.add([a, b]))
    with pytest.raises(ConfigError, match="symbolic values"):
        lm.Model(np.ones((2, 3)), a)
    with pytest.raises(TypeError, match="SymbolicTensor"):
        jnp.tanh(a)
    with pytest.raises(StateError, match=r"Use lm.ops"):
        np.asarray(a)
    with pytest.raises(StateError, match="no numbers yet"):
        bool(a > 1)
    model = lm.Model({"a": a, "b": b}, layers.add([a, b]))
    with pytest.raises(ShapeError, match="'a', 'b'"):
        model.predict({"a": np.ones((1, 3))})


def test_strings_go_through_the_host_part():
    words = lm.Input((1,), dtype="string", name="word")
    number = lm.Input((2,), name="number")
    looked_up = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(words)
    model = lm.Model({"word": words, "number": number}, layers.Dense(1)(layers.concatenate([looked_up, number])))
    data = {"word": np.array([["a"], ["b"], ["?"]]), "number": np.ones((3, 2), "float32")}
    w, b = model.get_weights()
    encoded = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    expected = np.concatenate([encoded, data["number"]], 1) @ w + b
    np.testing.assert_allclose(model.predict(data), expected, rtol=1e-6)
    model.compile("sgd", "mse")
    before = model.evaluate(data, np.arange(3.0), verbose=0)
    model.fit(data, np.arange(3.0), epochs=20, verbose=0)
    assert model.evaluate(data, np.arange(3.0), verbose=0) < before


def test_predict_takes_any_length_and_gives_every_row():
    model = lm.Sequential([lm.Input((2,)), layers.Dense(2, use_bias=False, kernel_initializer="identity")])
    for n in (1, 3, 17):
        x = np.arange(2.0 * n, dtype="float32").reshape(n, 2)
        np.testing.assert_array_equal(model.predict(x, batch_size=8), x)
    parts = [np.ones((2, 2)), np.zeros((3, 2))]
    np.testing.assert_array_equal(model.predict(iter(parts)), np.concatenate(parts))
    stream = iter(parts)
    np.testing.assert_array_equal(model.predict(stream, steps=1), parts[0])
    np.testing.assert_array_equal(next(stream), parts[1])  # no batch was read ahead
    with pytest.raises(lm.DataError, match="no batch to predict from"):
        model.predict(iter([]))


def test_one_output_may_be_called_by_its_name():
    x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    y = x.sum(1)
    start = lm.Input((3,))
    model = lm.Model(start, layers.Dense(1, name="height")(start))
    model.compile("sgd", {"height": "mse"}, metrics={"height": ["mae"]})
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    assert expected["loss"] == pytest.approx(float(np.mean((model.predict(x)[:, 0] - y) ** 2)), rel=1e-5)
    assert model.evaluate(x, {"height": y}, verbose=0, return_dict=True) == expected
    assert model.evaluate(x, [y], verbose=0, return_dict=True) == expected
    assert list(expected) == ["loss", "mae"]


def test_a_weighted_metric_says_so_beside_a_plain_one():
    x = np.arange(4, dtype="float32")
    model = lm.Sequential([lm.Input((1,)), layers.Dense(1, kernel_initializer="zeros")])
    model.compile("sgd", "mse", metrics=["mae"], weighted_metrics=["mae"])
    found = model.evaluate(x, x, sample_weight=np.array([0, 0, 0, 1]), verbose=0, return_dict=True)
    assert (found["mae"], found["weighted_mae"]) == (1.5, 3.0)


def test_a_column_of_one_number_may_come_without_its_axis():
    model = lm.Sequential([lm.Input((1,)), layers.Dense(2)])
    x = np.arange(5, dtype="float32")
    np.testing.assert_array_equal(model.predict(x), model.predict(x[:, None]))


def test_threads_predict_at_once():
    lm.set_random_seed(0)
    model = lm.Sequential([lm.Input((4,)), layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dense(3)])
    rng = np.random.default_rng(0)
    several = [rng.normal(size=(n, 4)).astype("float32") for n in (1, 2, 3, 4, 1, 300)] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(model.predict, several))
    for x, y in zip(several, found, strict=True):
        np.testing.assert_array_equal(y, model.predict(x))


def test_threads_predict_at_once_from_large_arrays_that_lie_anywhere():
    model = lm.Sequential([lm.Input((300,)), layers.Dense(300, use_bias=False, kernel_initializer="identity")])
    several = [np.full(128 * 300 + 1, i, "float32")[1:].reshape(128, 300) for i in range(1, 9)] * 8
    model.predict(several[0])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(model.predict, several))
    for x, y in zip(several, found, strict=True):
        np.testing.assert_array_equal(y, x)


def test_what_a_network_gives_back_as_it_was_given_stays_so():
    start = lm.Input((300,))
    model = lm.Model(start, [start, layers.Dense(1)(start)])
    several = [np.full(128 * 300 + 1, i, "float32")[1:].reshape(128, 300) for i in range(4)]
    found = [model.predict(x)[0] for x in several]
    for x, y in zip(several, found, strict=True):
        np.testing.assert_array_equal(y, x)


def test_predictions_leave_nothing_behind():
    model = lm.Sequential([lm.Input((4,)), layers.Dense(3)])
    several = [np.ones((n, 4), "float32") for n in (1, 2, 3)]

    def held():
        gc.collect()
        return len(gc.get_objects()), len(jax.live_arrays())

    counts = []
    for _ in range(3):
        for x in several * 20:
            model.predict(x)
        counts.append(held())
    (objects, arrays), (more, more_arrays) = counts[1:]
    assert more - objects < 20  # of 60 predictions
    assert more_arrays == arrays


def test_a_change_of_the_model_is_seen_by_predict():
    x = np.ones((2, 3), "float32")
    model = lm.Sequential([lm.Input((3,)), layers.Dense(2, use_bias=False)])
    first = model.predict(x)
    np.testing.assert_array_equal(model.predict(x), first)
    model.layers[0].kernel.assign(2 * model.layers[0].kernel.value)
    np.testing.assert_allclose(model.predict(x), 2 * first, rtol=1e-6)
    model.layers[0].kernel = lm.Variable(np.zeros((3, 2), "float32"), name="kernel")
    np.testing.assert_array_equal(model.predict(x), 0 * first)

    class Parts(lm.Model):
        def __init__(self):
            super().__init__()
            self.parts = [layers.Dense(3, use_bias=False, kernel_initializer="ones")]

        def call(self, x):
            for part in self.parts:
                x = part(x)
            return x

    parts = Parts()
    np.testing.assert_array_equal(parts.predict(x), np.full((2, 3), 3))
    parts.parts.append(layers.Dense(1, use_bias=False, kernel_initializer="ones"))  # which no attribute tells of
    parts.parts[1].build((None, 3))
    np.testing.assert_array_equal(parts.predict(x), np.full((2, 1), 9))
