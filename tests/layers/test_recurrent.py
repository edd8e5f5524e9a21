from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lamina.activations
import lamina.initializers
from lamina.core import registry, state, transforms
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.masks import get_mask, set_mask
from lamina.core.state import Variable
from lamina.layers.base import Layer
from lamina.layers.recurrent import (
    GRU,
    LSTM,
    RNN,
    GRUCell,
    LSTMCell,
    SimpleRNN,
    SimpleRNNCell,
    StackedRNNCells,
)
from tests.layers.golden import close

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "recurrent.npz"))
X, MASK, STATES = GOLDEN["x"], GOLDEN["mask"], GOLDEN["states"]
UNITS = STATES.shape[-1]


def weigh(outputs):
    return sum(jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)) for y in outputs)


def parts(name, kind):
    return [GOLDEN[f"{name}/{kind}{i}"] for i in range(10) if f"{name}/{kind}{i}" in GOLDEN]


def assert_golden(name, layer, x, **kwargs):
    """Outputs, and gradients of their weighted sum, equal those of Keras for the same weights."""
    layer.build_from({"sequences": x.shape})
    layer.set_weights(parts(name, "weight"))
    leaf = Variable(jnp.asarray(x), name="input")

    def run():
        y = layer(leaf, **kwargs)
        y = list(y) if isinstance(y, list | tuple) else [y]
        return weigh(y), y

    (_, outputs), gradients = transforms.jit(transforms.value_and_grad(run, [leaf, *layer.weights], has_aux=True))()
    assert len(outputs) == len(parts(name, "output"))
    for ours, theirs in zip(outputs, parts(name, "output"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    expected = [GOLDEN[f"{name}/to_x"], *parts(name, "to_weight")]
    for ours, theirs in zip(gradients.values(), expected, strict=True):
        close(ours, theirs)


LAYERS = {
    "simple_rnn": (SimpleRNN, {}, 1),
    "lstm": (LSTM, {}, 2),
    "gru": (GRU, {}, 1),
    "gru_before": (GRU, {"reset_after": False}, 1),
}
VARIANTS = {
    "sequences": ({"return_sequences": True}, False),
    "masked": ({}, True),
    "backwards": ({"return_sequences": True, "go_backwards": True}, True),
    "states": ({"return_sequences": True, "return_state": True}, True),
    "zeros": ({"return_sequences": True, "zero_output_for_mask": True}, True),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", LAYERS)
def test_equals_keras(kind, variant):
    make, options, count = LAYERS[kind]
    settings, masked = VARIANTS[variant]
    call = {"mask": MASK} if masked else {}
    if variant == "states":
        call["initial_state"] = [jnp.asarray(s) for s in STATES[:count]]
    assert_golden(f"{kind}/{variant}", make(UNITS, **settings, **options), X, **call)


def test_other_activations_equal_keras():
    assert_golden("lstm/relu", LSTM(UNITS, activation="relu", recurrent_activation="hard_sigmoid"), X, mask=MASK)
    assert_golden("gru/no_bias", GRU(UNITS, use_bias=False, activation=None), X)


def test_stacked_cells_equal_keras():
    assert_golden("stacked", RNN([LSTMCell(4), GRUCell(UNITS)], return_sequences=True), X, mask=MASK)


def torch_weights(name):
    """Weights of torch.nn.LSTM or GRU in Keras's layout."""
    w_ih, w_hh, b_ih, b_hh = parts(name, "weight")
    if name == "torch_lstm":
        return [w_ih.T, w_hh.T, b_ih + b_hh]

    def reordered(a):  # torch: r, z, n; Keras: z, r, n
        r, z, n = np.split(a, 3)
        return np.concatenate([z, r, n])

    return [reordered(w_ih).T, reordered(w_hh).T, np.stack([reordered(b_ih), reordered(b_hh)])]


@pytest.mark.parametrize(("name", "make", "count"), [("torch_lstm", LSTM, 2), ("torch_gru", GRU, 1)])
def test_equals_torch(name, make, count):
    """Torch's packed sequences of different lengths, from given states: a second source for masks and gradients."""
    layer = make(UNITS, return_sequences=True, return_state=True, zero_output_for_mask=True)
    mask = np.arange(X.shape[1]) < GOLDEN["lengths"][:, None]
    initial = [jnp.asarray(s) for s in STATES[:count]]
    layer.build_from({"sequences": X.shape})
    layer.set_weights(torch_weights(name))
    leaf = Variable(jnp.asarray(X), name="input")

    def run():
        outputs = layer(leaf, initial_state=initial, mask=mask)
        return weigh(outputs[:1]), outputs

    differentiated = transforms.value_and_grad(run, [leaf, layer.cell.kernel], has_aux=True)
    (_, (output, *states)), gradients = transforms.jit(differentiated)()
    np.testing.assert_allclose(output, GOLDEN[f"{name}/output"], rtol=1e-5, atol=1e-6)
    for i, ours in enumerate(states):
        np.testing.assert_allclose(ours, GOLDEN[f"{name}/state{i}"], rtol=1e-5, atol=1e-6)
    gradients = list(gradients.values())
    close(gradients[0], GOLDEN[f"{name}/to_x"])
    theirs = GOLDEN[f"{name}/to_weight0"]
    if name == "torch_gru":
        r, z, n = np.split(theirs, 3)
        theirs = np.concatenate([z, r, n])
    close(gradients[1], theirs.T)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("settings", [{"return_sequences": True, "go_backwards": True}, {"unroll": True}])
def test_whole_sequence_equals_cell_by_cell(kind, settings):
    """The layer's kernel and the generic loop over its cell agree; so do dropout masks for the same keys."""
    make, options, _ = LAYERS[kind]
    layer = make(UNITS, dropout=0.4, **settings, **options)
    layer.build_from({"sequences": X.shape})
    layer.set_weights(parts(f"{kind}/masked", "weight"))
    generic = RNN(layer.cell, **settings)
    generic.build_from({"sequences": X.shape})

    @jax.jit
    def both(key):
        found = {}
        for each in (layer, generic):
            for training in (False, True):
                with state.bind({}, key=key, paths={id(each): "rnn"}):
                    found.setdefault(training, []).append(each(X, mask=MASK, training=training))
        return list(found.values())

    for ours, theirs in both(jax.random.key(1)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_weights_have_keras_shapes_and_forget_bias_is_one():
    assert [w.shape for w in built(LSTM(2)).weights] == [(4, 8), (2, 8), (8,)]
    assert [w.shape for w in built(GRU(2)).weights] == [(4, 6), (2, 6), (2, 6)]
    assert [w.shape for w in built(GRU(2, reset_after=False)).weights] == [(4, 6), (2, 6), (6,)]
    assert built(LSTM(2)).cell.bias.numpy().tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert built(LSTM(2, unit_forget_bias=False)).cell.bias.numpy().tolist() == [0] * 8


def built(layer):
    layer.build_from({"sequences": X.shape})
    return layer


def test_stateful_carries_states_from_batch_to_batch():
    layer = built(LSTM(2, stateful=True, return_sequences=True))
    halves = np.concatenate([layer(X[:, :2]), layer(X[:, 2:])], 1)
    layer.reset_state()
    np.testing.assert_allclose(halves, layer(X), rtol=1e-5)
    assert [float(abs(s.value).sum()) > 0 for s in layer.states] == [True, True]
    layer.reset_state()
    assert float(abs(layer.states[0].value).sum()) == 0
    assert [w.shape for w in layer.weights] == [(4, 8), (2, 8), (8,), (3, 2), (3, 2)]
    with pytest.raises(ShapeError, match="batches of one length"):
        layer(X[:2])
    with pytest.raises(ShapeError, match="batch_size"):
        LSTM(2, stateful=True).build_from({"sequences": (None, 5, 4)})


def test_stateful_inside_compiled_code():
    layer = built(GRU(2, stateful=True))
    layer.reset_state()
    eager = [layer(X), layer(X)]
    layer.reset_state()
    compiled = transforms.jit(lambda x: layer(x))
    np.testing.assert_allclose(eager, [compiled(X), compiled(X)], rtol=1e-5)


class Decay(Layer):
    """A cell of the user's own: leaky sum, with an output of another length than its state, and a counter."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = units
        self.output_size = 1

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units), "ones")
        self.calls = self.add_weight((), "zeros", trainable=False)

    def call(self, inputs, states):
        self.calls.assign_add(1)
        new = 0.5 * states[0] + inputs @ self.kernel.value
        return new.sum(-1, keepdims=True), [new]


def decayed(x, mask=None):
    s, y, seen = np.zeros((len(x), 2)), np.zeros((len(x), 1)), []
    for t in range(x.shape[1]):
        keep = np.ones((len(x), 1), bool) if mask is None else mask[:, t : t + 1]
        new = 0.5 * s + x[:, t] @ np.ones((4, 2))
        s, y = np.where(keep, new, s), np.where(keep, new.sum(-1, keepdims=True), y)
        seen.append(y)
    return np.stack(seen, 1)


@pytest.mark.parametrize("unroll", [False, True])
def test_cell_of_ones_own(unroll):
    layer = RNN(Decay(2), return_sequences=True, unroll=unroll)
    np.testing.assert_allclose(layer(X), decayed(X), rtol=1e-5, atol=1e-5)
    assert float(layer.cell.calls) == X.shape[1]
    np.testing.assert_allclose(layer(X, mask=MASK), decayed(X, MASK), rtol=1e-5, atol=1e-5)


def test_cell_that_is_no_layer():
    class Last:
        state_size = 4

        def call(self, inputs, states):
            return inputs, inputs

    output, last = RNN(Last(), return_state=True)(X)
    np.testing.assert_allclose(output, X[:, -1])
    np.testing.assert_allclose(last, X[:, -1])


def test_masks_travel():
    layer = SimpleRNN(2, return_sequences=True, return_state=True, go_backwards=True)
    masked = set_mask(jnp.asarray(X), jnp.asarray(MASK))
    output, h = layer(masked)
    np.testing.assert_array_equal(get_mask(output), MASK[:, ::-1])
    assert get_mask(h) is None
    np.testing.assert_allclose(output, layer(X, mask=MASK)[0])
    assert get_mask(SimpleRNN(2)(masked)) is None


def test_masked_steps_change_nothing():
    noisy = np.where(MASK[..., None], X, 1e6).astype("float32")
    layer = built(GRU(2))
    np.testing.assert_allclose(layer(X, mask=MASK), layer(noisy, mask=MASK), rtol=1e-6)


def test_config_round_trip():
    layer = LSTM(2, activation="relu", dropout=0.1, return_sequences=True, zero_output_for_mask=True, name="memory")
    config = layer.get_config()
    assert "cell" not in config
    assert config["dropout"] == 0.1
    again = LSTM.from_config(config)
    assert again.get_config() == config
    assert again.cell.activation is lamina.activations.relu
    assert (again.units, again.name, again.zero_output_for_mask) == (2, "memory", True)
    stacked = RNN([LSTMCell(2), SimpleRNNCell(3)])
    assert RNN.from_config(stacked.get_config()).cell.cells[1].units == 3
    with registry.custom_objects({"Decay": Decay}):
        assert RNN.from_config(RNN(Decay(2)).get_config()).cell.units == 2


def test_dropout_draws_one_mask_for_a_sequence():
    layer = SimpleRNN(4, activation=None, dropout=0.5, kernel_initializer="identity", recurrent_initializer="zeros")
    layer.return_sequences = True
    y = np.asarray(layer(np.ones((8, 6, 4), "float32"), training=True))
    assert set(np.unique(y)) == {0.0, 2.0}
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))


@pytest.mark.parametrize("kind", ["simple_rnn", "gru_before"])
def test_recurrent_dropout(kind):
    make, options, _ = LAYERS[kind]
    layer = make(UNITS, dropout=0.2, recurrent_dropout=0.5, return_sequences=True, seed=3, **options)
    still, moved = transforms.jit(lambda x: [layer(x), layer(x, training=True)])(X)
    assert still.shape == moved.shape
    assert not np.allclose(still, moved)
    masks = layer.cell.draw_dropout_masks(2)
    gates = layer.cell.gates
    assert masks[1].shape == ((gates, 2, UNITS) if gates > 1 else (2, UNITS))
    assert set(np.unique(masks[1])) <= {0.0, 2.0}


def test_gates_with_masks_equal_products_one_by_one():
    """A cell with dropout masks, written out gate by gate."""
    cell = LSTMCell(2)
    x, h, c = X[:, 0], STATES[0][:, :2], STATES[1][:, :2]
    cell(x, [h, c])
    masks = (np.random.default_rng(0).integers(0, 3, (4, 3, 4)), np.random.default_rng(1).integers(0, 3, (4, 3, 2)))
    masks = tuple(jnp.asarray(m, "float32") for m in masks)
    output, (_, memory) = cell(x, [h, c], dropout_masks=masks)
    kernel, recurrent, bias = (np.asarray(w) for w in cell.get_weights())
    z = [
        (x * masks[0][g]) @ kernel[:, 2 * g : 2 * g + 2]
        + (h * masks[1][g]) @ recurrent[:, 2 * g : 2 * g + 2]
        + bias[2 * g : 2 * g + 2]
        for g in range(4)
    ]
    i, f, g, o = (1 / (1 + np.exp(-z[0])), 1 / (1 + np.exp(-z[1])), np.tanh(z[2]), 1 / (1 + np.exp(-z[3])))
    np.testing.assert_allclose(memory, f * c + i * g, rtol=1e-5)
    np.testing.assert_allclose(output, o * np.tanh(f * c + i * g), rtol=1e-5)


def test_output_shapes():
    assert LSTM(2).compute_output_shape((None, None, 4)) == (None, 2)
    assert GRU(2, return_sequences=True).compute_output_shape((None, 7, 4)) == (None, 7, 2)
    assert tuple(LSTM(2, return_state=True).compute_output_shape((8, 7, 4))) == ((8, 2),) * 3
    assert RNN([LSTMCell(3), GRUCell(2)]).compute_output_shape((8, None, 4)) == (8, 2)


def test_bad_arguments():
    with pytest.raises(ConfigError, match="units"):
        LSTM(0)
    with pytest.raises(ConfigError, match="recurrent_dropout from 0 to below 1"):
        GRU(2, recurrent_dropout=1.0)
    with pytest.raises(ConfigError, match="use_cudnn"):
        GRU(2, use_cudnn="yes")
    with pytest.raises(ConfigError, match="no state_size"):
        RNN(Layer())
    with pytest.raises(ConfigError, match="at least one cell"):
        StackedRNNCells([])
    with pytest.raises(ShapeError, match=r"x\[\.\.\., None\]"):
        LSTM(2)(X[:, :, 0])
    with pytest.raises(ShapeError, match="length 4 along axis 2"):
        built(LSTM(2))(X[:, :, :3])
    with pytest.raises(ShapeError, match="starts from states of shapes"):
        LSTM(2)(X, initial_state=[jnp.zeros((3, 2))])
    with pytest.raises(ShapeError, match="takes one list of states for each"):
        StackedRNNCells([LSTMCell(2), GRUCell(2)])(X[:, 0], [jnp.zeros((3, 2))])
