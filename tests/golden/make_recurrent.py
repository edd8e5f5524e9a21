"""Golden values of recurrent layers from Keras and PyTorch; writes recurrent.npz beside this file.

Needs Keras 3 (KERAS_BACKEND=jax) and torch. Run:  python tests/golden/make_recurrent.py
"""

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import keras
import numpy as np
import torch

BATCH, STEPS, FEATURES, UNITS = 3, 5, 4, 3
rng = np.random.default_rng(0)
out: dict[str, np.ndarray] = {}


def normal(*shape):
    return rng.normal(size=shape).astype("float32")


def weigh(outputs):
    """One number from all outputs, each entry with a weight of its own."""
    return sum(jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)) for y in outputs)


def record(name, layer, x, **kwargs):
    """Weights, outputs and gradients of a Keras layer."""
    layer(x, **kwargs)
    start = [normal(*w.shape) * 0.5 for w in layer.trainable_variables]
    rest = [v.value for v in layer.non_trainable_variables]

    def run(weights, x, kwargs):
        y, _ = layer.stateless_call(weights, rest, x, **kwargs)
        return list(y) if isinstance(y, (list, tuple)) else [y]

    for i, w in enumerate(start):
        out[f"{name}/weight{i}"] = w
    for i, y in enumerate(run(start, x, kwargs)):
        out[f"{name}/output{i}"] = np.asarray(y)
    to_weights, to_x = jax.grad(lambda w, x: weigh(run(w, x, kwargs)), argnums=(0, 1))(start, x)
    out[f"{name}/to_x"] = np.asarray(to_x)
    for i, g in enumerate(to_weights):
        out[f"{name}/to_weight{i}"] = np.asarray(g)


x = out["x"] = normal(BATCH, STEPS, FEATURES)
mask = out["mask"] = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 0, 1, 1]], bool)
states = out["states"] = normal(4, BATCH, UNITS)

LAYERS = {
    "simple_rnn": (keras.layers.SimpleRNN, {}, 1),
    "lstm": (keras.layers.LSTM, {}, 2),
    "gru": (keras.layers.GRU, {}, 1),
    "gru_before": (keras.layers.GRU, {"reset_after": False}, 1),
}
for name, (make, options, count) in LAYERS.items():
    initial = [jnp.asarray(s) for s in states[:count]]
    record(f"{name}/sequences", make(UNITS, return_sequences=True, **options), x)
    record(f"{name}/masked", make(UNITS, **options), x, mask=mask)
    record(f"{name}/backwards", make(UNITS, return_sequences=True, go_backwards=True, **options), x, mask=mask)
    stateful = make(UNITS, return_sequences=True, return_state=True, **options)
    record(f"{name}/states", stateful, x, initial_state=initial, mask=mask)
    record(f"{name}/zeros", make(UNITS, return_sequences=True, zero_output_for_mask=True, **options), x, mask=mask)

record("lstm/relu", keras.layers.LSTM(UNITS, activation="relu", recurrent_activation="hard_sigmoid"), x, mask=mask)
record("gru/no_bias", keras.layers.GRU(UNITS, use_bias=False, activation=None), x)
stacked = [keras.layers.LSTMCell(4), keras.layers.GRUCell(UNITS)]
record("stacked", keras.layers.RNN(stacked, return_sequences=True), x, mask=mask)

layers = keras.layers
record("bidirectional/concat", layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True)), x, mask=mask)
record("bidirectional/sum", layers.Bidirectional(layers.GRU(UNITS), merge_mode="sum"), x)
record("bidirectional/mul", layers.Bidirectional(layers.SimpleRNN(UNITS), merge_mode="mul"), x, mask=mask)
record("bidirectional/pair", layers.Bidirectional(layers.GRU(UNITS), merge_mode=None), x)
both = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True, return_state=True), merge_mode="ave")
record("bidirectional/states", both, x, initial_state=[jnp.asarray(s) for s in states], mask=mask)
out["conv_lstm1d/x"] = normal(2, 3, 5, 2)
record("conv_lstm1d", layers.ConvLSTM1D(2, 3, return_sequences=True), out["conv_lstm1d/x"])
out["conv_lstm2d/x"] = normal(2, 3, 4, 5, 2)
conv = layers.ConvLSTM2D(2, (3, 2), strides=2, padding="same", return_state=True)
record("conv_lstm2d", conv, out["conv_lstm2d/x"])

spectral = layers.SpectralNormalization(layers.Dense(UNITS), power_iterations=2)
spectral(x)
start = [normal(*w.shape) for w in spectral.weights]
spectral.set_weights(start)
for i, w in enumerate(start):
    out[f"spectral/weight{i}"] = w
out["spectral/output"] = np.asarray(spectral(x, training=True))
for i, w in enumerate(spectral.get_weights()):
    out[f"spectral/after{i}"] = w

lengths = out["lengths"] = np.array([5, 3, 2])
for name, make in (("torch_lstm", torch.nn.LSTM), ("torch_gru", torch.nn.GRU)):
    torch.manual_seed(0)
    network = make(FEATURES, UNITS, batch_first=True)
    inputs = torch.tensor(x, requires_grad=True)
    h = torch.tensor(states[:1])
    first = (h, torch.tensor(states[1:2])) if name == "torch_lstm" else h
    packed = torch.nn.utils.rnn.pack_padded_sequence(inputs, torch.tensor(lengths), batch_first=True)
    outputs, last = network(packed, first)
    outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
    for i, state in enumerate(last if isinstance(last, tuple) else (last,)):
        out[f"{name}/state{i}"] = state[0].detach().numpy()
    out[f"{name}/output"] = outputs.detach().numpy()
    (outputs * torch.cos(torch.arange(outputs.numel(), dtype=torch.float32)).reshape(outputs.shape)).sum().backward()
    out[f"{name}/to_x"] = inputs.grad.numpy()
    for i, w in enumerate(network.parameters()):
        out[f"{name}/weight{i}"] = w.detach().numpy()
        out[f"{name}/to_weight{i}"] = w.grad.numpy()

np.savez_compressed(Path(__file__).with_name("recurrent.npz"), **out)
