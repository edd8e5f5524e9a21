"""Keras, on TensorFlow or on JAX as ``KERAS_BACKEND`` says: ``fit`` on arrays; ``predict``, or calling the model.

Keras has no cache for generation: it reads the whole text anew for each token, as in its own example of a GPT.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from benchmarks.data import Arrays
from benchmarks.peers import keras_gan
from benchmarks.works import LEARNING_RATE, SEED, TOKENS, VOCABULARY, Job, Work

# -- how each kind of work is done -------------------------------------------------------------------------------------


def prepare(work: Work, data: Arrays, way: str) -> Job | None:
    keras.utils.set_random_seed(SEED)
    if work.network == "dcgan":
        return keras_gan.prepare(work, data)
    if work.network not in NETWORKS:
        return None
    x, y = data
    model = NETWORKS[work.network](work)

    def train() -> float:
        return model.fit(x, y, batch_size=work.batch, verbose=0).history["loss"][-1]

    def predict() -> None:
        for _ in range(work.steps):
            model.predict(x, batch_size=work.batch, verbose=0)

    def call() -> None:
        for _ in range(work.steps):
            ops.convert_to_numpy(model(x, training=False))

    def generate() -> None:
        rng = np.random.default_rng(SEED)
        text = np.zeros((1, work.shape[0]), "int32")
        text[:, : TOKENS["prompt"]] = x[:, : TOKENS["prompt"]]
        for position in range(TOKENS["prompt"], TOKENS["prompt"] + work.steps):
            scores = model.predict_on_batch(text)[0, position - 1]
            shares = np.exp((scores - scores.max()).astype("float64"))
            text[0, position] = rng.choice(work.classes, p=shares / shares.sum())

    if work.kind == "train":
        loss = "mean_squared_error"
        if work.loss == "crossentropy":
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(LEARNING_RATE), loss, jit_compile="auto")
    run = {"train": train, "predict": call if way == "call" else predict, "generate": generate}[work.kind]
    return Job(run, lambda: sum(int(np.prod(weight.shape)) for weight in model.trainable_weights))


# -- the networks ------------------------------------------------------------------------------------------------------


def mlp(work: Work) -> keras.Model:
    hidden = [layers.Dense(width, "relu") for width in work.size["hidden"]]
    return keras.Sequential([keras.Input(work.shape), *hidden, layers.Dense(work.classes)])


def cnn(work: Work) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(work.shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(work.classes),
        ]
    )


def resnet(work: Work) -> keras.Model:
    def convolved(x: Any, width: int, kernel: int = 3, strides: int = 1) -> Any:
        x = layers.Conv2D(width, kernel, strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    inputs = keras.Input(work.shape)
    x = layers.ReLU()(convolved(inputs, 16))
    for width in (16, 32, 64):
        for block in range(work.size["blocks"]):
            strides = 2 if width > 16 and block == 0 else 1
            change = convolved(layers.ReLU()(convolved(x, width, strides=strides)), width)
            x = layers.ReLU()(layers.Add()([change, x if strides == 1 else convolved(x, width, 1, strides)]))
    return keras.Model(inputs, layers.Dense(work.classes)(layers.GlobalAveragePooling2D()(x)))


def lstm(work: Work, layer: Any = layers.LSTM) -> keras.Model:
    width = work.size["width"]
    return keras.Sequential(
        [
            keras.Input(work.shape, dtype="int32"),
            layers.Embedding(VOCABULARY, width),
            layer(width),
            layers.Dense(work.classes),
        ]
    )


def gru(work: Work) -> keras.Model:
    return lstm(work, layers.GRU)


def autoencoder(work: Work) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(work.shape),
            layers.Conv2D(32, 3, 2, padding="same", activation="relu"),
            layers.Conv2D(64, 3, 2, padding="same", activation="relu"),
            layers.Conv2DTranspose(32, 3, 2, padding="same", activation="relu"),
            layers.Conv2DTranspose(1, 3, 2, padding="same", activation="sigmoid"),
        ]
    )


def unet(work: Work) -> keras.Model:
    def twice(x: Any, width: int) -> Any:
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        return x

    inputs = keras.Input(work.shape)
    fine = twice(inputs, 16)
    middle = twice(layers.MaxPooling2D()(fine), 32)
    x = twice(layers.MaxPooling2D()(middle), 64)
    x = twice(layers.Concatenate()([layers.Conv2DTranspose(32, 2, 2)(x), middle]), 32)
    x = twice(layers.Concatenate()([layers.Conv2DTranspose(16, 2, 2)(x), fine]), 16)
    return keras.Model(inputs, layers.Conv2D(work.classes, 1)(x))


class Positions(layers.Layer):
    """Adds a learnt vector to each place."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=shape[1:], initializer=keras.initializers.RandomNormal(stddev=0.02))

    def call(self, x: Any) -> Any:
        return x + self.table


def block(x: Any, work: Work, normalize_first: bool, **attention: Any) -> Any:
    """Attention and a small network; each normalizes its input, or its sum with the input."""
    width, heads = work.size["width"], work.size["heads"]

    def transformed(x: Any) -> Any:
        x = layers.Dense(4 * width)(x)
        return layers.Dense(width)(layers.Activation(lambda x: keras.activations.gelu(x, approximate=True))(x))

    attend = layers.MultiHeadAttention(heads, width // heads)
    attention_norm, norm = layers.LayerNormalization(epsilon=1e-5), layers.LayerNormalization(epsilon=1e-5)
    if normalize_first:
        seen = attention_norm(x)
        x = layers.Add()([x, attend(seen, seen, **attention)])
        return layers.Add()([x, transformed(norm(x))])
    x = attention_norm(layers.Add()([x, attend(x, x, **attention)]))
    return norm(layers.Add()([x, transformed(x)]))


def gpt(work: Work) -> keras.Model:
    tokens = keras.Input(work.shape, dtype="int32")
    start = keras.initializers.RandomNormal(stddev=0.02)
    embedding = layers.ReversibleEmbedding(work.classes, work.size["width"], embeddings_initializer=start)
    x = Positions()(embedding(tokens))
    for _ in range(work.size["blocks"]):
        x = block(x, work, True, use_causal_mask=True)
    return keras.Model(tokens, embedding(layers.LayerNormalization(epsilon=1e-5)(x), reverse=True))


def bert(work: Work) -> keras.Model:
    tokens = keras.Input(work.shape, dtype="int32")
    seen = ops.greater_equal(tokens, 0)
    x = Positions()(layers.Embedding(VOCABULARY, work.size["width"])(ops.maximum(tokens, 0)))
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    for _ in range(work.size["blocks"]):
        x = block(x, work, False, attention_mask=ops.expand_dims(seen, 1))
    counts = ops.expand_dims(ops.cast(seen, "float32"), 2)
    x = ops.sum(x * counts, 1) / ops.sum(counts, 1)
    return keras.Model(tokens, layers.Dense(work.classes)(x))


NETWORKS = {network.__name__: network for network in (mlp, cnn, resnet, lstm, gru, autoencoder, unet, gpt, bert)}
