"""Training by the native kernels against training by the portable forms: the curves agree."""

import numpy as np
import pytest

import lamina as lm
from lamina import layers, native

RNG = np.random.default_rng(0)
PICTURES = RNG.normal(size=(96, 10, 10, 2)).astype("float32")
WORDS = RNG.integers(0, 30, (96, 12)).astype("int32") * (np.arange(12) < RNG.integers(4, 13, (96, 1)))


def _pictures():
    return PICTURES, [
        layers.Conv2D(16, 3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(16, 3, activation="relu"),  # by Winograd's filtering
        layers.MaxPooling2D(),
        layers.DepthwiseConv2D(3, activation="leaky_relu"),
        layers.Flatten(),
        layers.Dense(16, "relu"),
    ]


def _words(layer):
    return WORDS, [layers.Embedding(30, 16, mask_zero=True), layer]


def _attention():
    x = tokens = lm.Input((12,), dtype="int32")
    x = layers.Embedding(30, 16)(tokens)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x, use_causal_mask=True))
    return WORDS, [lm.Model(tokens, layers.GlobalAveragePooling1D()(x))]


NETWORKS = {
    "pictures": _pictures,
    "lstm": lambda: _words(layers.LSTM(12)),
    "gru": lambda: _words(layers.GRU(12)),
    "attention": _attention,
}


@pytest.mark.skipif(not native.load().names, reason="the native kernels were not built")
@pytest.mark.parametrize("name", NETWORKS)
def test_curves_agree_with_those_of_the_portable_forms(name, monkeypatch):
    losses, weights = [], []
    for kernels in native.load(), native.Loaded("portable"):
        monkeypatch.setattr(native, "load", lambda kernels=kernels: kernels)
        x, parts = NETWORKS[name]()
        model = lm.Sequential([lm.Input(x.shape[1:], dtype=x.dtype.name), *parts, layers.Dense(3)])
        model.compile(lm.optimizers.Adam(0.003), lm.losses.SparseCategoricalCrossentropy(from_logits=True))
        history = model.fit(x, np.arange(96) % 3, batch_size=16, epochs=5, verbose=0, driver="scan")
        losses.append(history.history["loss"])
        weights.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-4)
    assert np.abs(weights[0] - weights[1]).max() < 0.02 * np.abs(weights[1]).max()
    assert not np.array_equal(weights[0], weights[1])  # they were two ways
