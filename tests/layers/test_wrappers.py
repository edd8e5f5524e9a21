import jax.numpy as jnp
import numpy as np
import pytest

import lamina.initializers  # noqa: F401 - registers the names
from lamina.core import transforms
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.masks import get_mask, set_mask
from lamina.layers.base import Layer
from lamina.layers.core import Dense
from lamina.layers.embedding import Embedding
from lamina.layers.recurrent import GRU, LSTM, RNN, SimpleRNN
from lamina.layers.wrappers import Bidirectional, SpectralNormalization, TimeDistributed
from tests.layers.test_recurrent import GOLDEN, MASK, STATES, UNITS, Decay, X, assert_golden, built, parts


def test_bidirectional_equals_keras():
    assert_golden("bidirectional/concat", Bidirectional(LSTM(UNITS, return_sequences=True)), X, mask=MASK)
    assert_golden("bidirectional/sum", Bidirectional(GRU(UNITS), merge_mode="sum"), X)
    assert_golden("bidirectional/mul", Bidirectional(SimpleRNN(UNITS), merge_mode="mul"), X, mask=MASK)
    assert_golden("bidirectional/pair", Bidirectional(GRU(UNITS), merge_mode=None), X)


def test_bidirectional_states_equal_keras():
    layer = Bidirectional(LSTM(UNITS, return_sequences=True, return_state=True), merge_mode="ave")
    assert_golden("bidirectional/states", layer, X, initial_state=[jnp.asarray(s) for s in STATES], mask=MASK)


def test_bidirectional_mask_travels():
    x = set_mask(jnp.asarray(X), jnp.asarray(MASK))
    np.testing.assert_array_equal(get_mask(Bidirectional(SimpleRNN(2, return_sequences=True))(x)), MASK)
    for layer in (Bidirectional(SimpleRNN(2)), Bidirectional(SimpleRNN(2, return_sequences=True, return_state=True))):
        assert layer.compute_mask(x, None) in (None, [None] * 3)
    pair = Bidirectional(SimpleRNN(2, return_sequences=True), merge_mode=None)
    assert pair.compute_mask(x, MASK)[0] is pair.compute_mask(x, MASK)[1] is MASK


def test_bidirectional_config_and_weights():
    layer = Bidirectional(
        SimpleRNN(2), backward_layer=SimpleRNN(2, activation="relu", go_backwards=True), merge_mode="sum"
    )
    layer(X)
    again = Bidirectional.from_config(layer.get_config())
    assert again.backward_layer.activation is layer.backward_layer.activation
    assert (again.forward_layer.name, again.backward_layer.name) == ("forward_simple_rnn", layer.backward_layer.name)
    built(again).set_weights(layer.get_weights())
    np.testing.assert_allclose(again(X), layer(X))
    started = built(Bidirectional(SimpleRNN(2), weights=[w + 1 for w in layer.get_weights()]))
    np.testing.assert_allclose(started.get_weights()[5], layer.get_weights()[5] + 1)


def test_bidirectional_of_a_cell_of_ones_own():
    layer = Bidirectional(RNN(Decay(2), return_sequences=True))
    forward, backward = np.split(np.asarray(layer(X)), 2, -1)
    np.testing.assert_allclose(backward, layer.forward_layer(X[:, ::-1])[:, ::-1], rtol=1e-5)
    np.testing.assert_allclose(forward, layer.forward_layer(X), rtol=1e-5)


def test_bidirectional_stateful():
    layer = built(Bidirectional(GRU(2, stateful=True)))
    assert len(layer.states) == 2
    layer.reset_state()
    assert all(float(abs(s.value).sum()) == 0 for s in layer.states)


def test_bidirectional_bad_arguments():
    with pytest.raises(ConfigError, match="merge_mode"):
        Bidirectional(LSTM(2), merge_mode="max")
    with pytest.raises(ConfigError, match="wraps a layer"):
        Bidirectional("lstm")
    with pytest.raises(ConfigError, match="wraps a recurrent layer"):
        Bidirectional(Dense(2), backward_layer=Dense(2))
    with pytest.raises(ConfigError, match="opposite values of 'go_backwards'"):
        Bidirectional(LSTM(2), backward_layer=LSTM(2))
    with pytest.raises(ConfigError, match="equal values of 'return_sequences'"):
        Bidirectional(LSTM(2), backward_layer=LSTM(2, return_sequences=True, go_backwards=True))
    with pytest.raises(ShapeError, match="weights of shapes"):
        Bidirectional(LSTM(2), weights=[np.zeros(3)])(X)


def test_time_distributed_equals_the_layer_at_every_step():
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32")
    layer = TimeDistributed(GRU(2))
    y = layer(x)
    for t in range(3):
        np.testing.assert_allclose(y[:, t], layer.layer(x[:, t]), rtol=1e-5, atol=1e-6)
    assert layer.compute_output_shape((None, None, 5, 4)) == (None, None, 2)
    assert [w.shape for w in layer.weights] == [(4, 6), (2, 6), (2, 6)]
    again = TimeDistributed.from_config(layer.get_config())
    assert again(x).shape == (2, 3, 2)


def test_time_distributed_masks():
    x = np.random.default_rng(0).integers(0, 3, (2, 3, 5))
    x[1, 2] = 0
    embedded = Embedding(3, 4, mask_zero=True)(x)
    layer = TimeDistributed(SimpleRNN(2))
    y = layer(embedded)
    np.testing.assert_allclose(y[:, 0], layer.layer(embedded[:, 0], mask=x[:, 0] != 0), rtol=1e-5)
    np.testing.assert_array_equal(get_mask(y), (x != 0).any(-1))
    dense = TimeDistributed(Dense(2))(set_mask(jnp.asarray(X), jnp.asarray(MASK)))
    np.testing.assert_array_equal(get_mask(dense), MASK)
    with pytest.raises(ShapeError, match="begins with"):
        layer(x[..., None].astype("float32"), mask=np.ones((2, 4), bool))
    with pytest.raises(ShapeError, match=r"expected an input \(batch, steps"):
        TimeDistributed(Dense(2))(X[:, 0])
    with pytest.raises(ConfigError, match="wraps a layer"):
        TimeDistributed(3)


def test_spectral_normalization_equals_keras():
    layer = SpectralNormalization(Dense(UNITS), power_iterations=2)
    layer(X)
    layer.set_weights(parts("spectral", "weight"))
    np.testing.assert_allclose(layer(X, training=True), GOLDEN["spectral/output"], rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(layer.get_weights(), parts("spectral", "after"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_spectral_normalization_finds_the_largest_singular_value():
    layer = SpectralNormalization(Dense(3), power_iterations=50)
    layer(X)
    kernel = layer.kernel.numpy()
    compiled = transforms.jit(lambda x: layer(x, training=True))
    compiled(X)
    np.testing.assert_allclose(layer.kernel, kernel / np.linalg.norm(kernel, 2), rtol=1e-4)
    still = layer.get_weights()
    layer(X)
    np.testing.assert_array_equal(layer.get_weights()[0], still[0])


def test_spectral_normalization_of_zeros_and_of_no_kernel():
    layer = SpectralNormalization(Dense(3, kernel_initializer="zeros"))
    assert not np.isnan(layer(X, training=True)).any()
    with pytest.raises(ConfigError, match="neither"):
        SpectralNormalization(Layer())(X)
    with pytest.raises(ConfigError, match="power_iterations"):
        SpectralNormalization(Dense(3), power_iterations=0)
