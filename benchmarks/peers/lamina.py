"""Lamina: ``fit`` on arrays, ``predict``, and ``generate`` of the language model.

The families are imported by the works that use them, since ``import lamina`` does not bring them along.
"""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import lamina as lm
from benchmarks.data import Arrays
from benchmarks.works import LEARNING_RATE, SEED, TOKENS, VOCABULARY, Job, Work
from lamina import layers
from lamina.losses import BinaryCrossentropy, SparseCategoricalCrossentropy

# -- how each kind of work is done -------------------------------------------------------------------------------------


def prepare(work: Work, data: Arrays, way: str, path: Path | None = None) -> Job | None:
    lm.set_random_seed(SEED)
    lm.config.set_dtype_policy("mixed_bfloat16" if work.precision == "bfloat16" else "float32")
    if work.kind == "product":
        return Job(_multiply(work, data[0]))
    if work.network not in NETWORKS:
        return None
    if path is not None:
        return _generate(work, path)
    x, y = map(jnp.asarray, data) if work.device == "gpu" and work.kind == "train" else data
    model = NETWORKS[work.network](work)

    def train() -> float:
        history = model.fit(x, y, batch_size=work.batch, verbose=0).history
        return sum(values[-1] for name, values in history.items() if name.endswith("loss"))

    def predict() -> None:
        for _ in range(work.steps):
            model.predict(x)

    if work.kind == "train" and work.network != "dcgan":
        loss = "mean_squared_error" if work.loss == "squares" else SparseCategoricalCrossentropy(from_logits=True)
        model.compile(lm.optimizers.Adam(LEARNING_RATE), loss)
    return Job(train if work.kind == "train" else predict, lambda: sum(w.size for w in model.trainable_weights))


def trained(work: Work, folder: Path) -> Path | None:
    """A model in a file, where a work begins with one: a family writes only once it was trained, which is not measured."""
    if work.kind != "generate":
        return None
    path = folder / "writer.safetensors"
    process = multiprocessing.get_context("spawn").Process(target=_train_writer, args=(work, path))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError("the model that is to write could not be trained")
    return path


def _train_writer(work: Work, path: Path) -> None:
    from lamina.families.transformer import TransformerLanguageModel

    sizes = {"layers": work.size["blocks"], "width": work.size["width"], "heads": work.size["heads"]}
    model = TransformerLanguageModel(
        **sizes,
        context=work.shape[0],
        batch_size=1,
        epochs=1,
        steps_per_epoch=1,
        validation_fraction=0.0,
        verbose=0,
        random_state=SEED,
    )
    model.fit(_characters(work) * 4)
    model.save(path)


def _characters(work: Work) -> str:
    from lamina.families.tokenizer import SPECIAL

    return "".join(chr(ord("0") + i) for i in range(work.classes - len(SPECIAL)))


def _generate(work: Work, path: Path) -> Job:
    from lamina.families.transformer import TransformerLanguageModel

    model = TransformerLanguageModel.load(path)
    prompt = _characters(work)[: TOKENS["prompt"] - 1]  # and the token that every text begins with

    def generate() -> None:
        assert len(model.generate(prompt, max_tokens=work.steps, random_state=SEED)) == work.steps

    return Job(generate, lambda: sum(w.size for w in model.model_.trainable_weights))


def _multiply(work: Work, matrix: np.ndarray) -> Callable[[], None]:
    x = jnp.asarray(matrix, work.precision)
    product = jax.jit(jnp.matmul)

    def multiply() -> None:
        for _ in range(work.steps):
            product(x, x).block_until_ready()

    return multiply


def peak_memory() -> int:
    """How many bytes of the GPU's memory were in use at most."""
    return jax.devices()[0].memory_stats()["peak_bytes_in_use"]


# -- the networks ------------------------------------------------------------------------------------------------------


def mlp(work: Work) -> lm.Model:
    hidden = [layers.Dense(width, "relu") for width in work.size["hidden"]]
    return lm.Sequential([lm.Input(work.shape), *hidden, layers.Dense(work.classes)])


def cnn(work: Work) -> lm.Model:
    return lm.Sequential(
        [
            lm.Input(work.shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(work.classes),
        ]
    )


def resnet(work: Work) -> lm.Model:
    def convolved(x: Any, width: int, kernel: int = 3, strides: int = 1) -> Any:
        x = layers.Conv2D(width, kernel, strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    inputs = lm.Input(work.shape)
    x = layers.ReLU()(convolved(inputs, 16))
    for width in (16, 32, 64):
        for block in range(work.size["blocks"]):
            strides = 2 if width > 16 and block == 0 else 1
            change = convolved(layers.ReLU()(convolved(x, width, strides=strides)), width)
            x = layers.ReLU()(layers.Add()([change, x if strides == 1 else convolved(x, width, 1, strides)]))
    return lm.Model(inputs, layers.Dense(work.classes)(layers.GlobalAveragePooling2D()(x)))


def lstm(work: Work, layer: Any = layers.LSTM) -> lm.Model:
    width = work.size["width"]
    return lm.Sequential(
        [
            lm.Input(work.shape, dtype="int32"),
            layers.Embedding(VOCABULARY, width),
            layer(width),
            layers.Dense(work.classes),
        ]
    )


def gru(work: Work) -> lm.Model:
    return lstm(work, layers.GRU)


def autoencoder(work: Work) -> lm.Model:
    return lm.Sequential(
        [
            lm.Input(work.shape),
            layers.Conv2D(32, 3, 2, padding="same", activation="relu"),
            layers.Conv2D(64, 3, 2, padding="same", activation="relu"),
            layers.Conv2DTranspose(32, 3, 2, padding="same", activation="relu"),
            layers.Conv2DTranspose(1, 3, 2, padding="same", activation="sigmoid"),
        ]
    )


def unet(work: Work) -> lm.Model:
    def twice(x: Any, width: int) -> Any:
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        return x

    inputs = lm.Input(work.shape)
    fine = twice(inputs, 16)
    middle = twice(layers.MaxPooling2D()(fine), 32)
    x = twice(layers.MaxPooling2D()(middle), 64)
    x = twice(layers.Concatenate()([layers.Conv2DTranspose(32, 2, 2)(x), middle]), 32)
    x = twice(layers.Concatenate()([layers.Conv2DTranspose(16, 2, 2)(x), fine]), 16)
    return lm.Model(inputs, layers.Conv2D(work.classes, 1)(x))


def gpt(work: Work) -> lm.Model:
    from lamina.families.transformer_network import LanguageModel, Transformer

    size = work.size
    return LanguageModel(
        Transformer(work.classes, work.shape[0], size["blocks"], size["width"], size["heads"], causal=True)
    )


def bert(work: Work) -> lm.Model:
    from lamina.families.transformer_network import TextVectors, Transformer

    size = work.size
    transformer = Transformer(
        VOCABULARY, work.shape[0], size["blocks"], size["width"], size["heads"], normalize_first=False
    )
    return lm.Sequential([lm.Input(work.shape, dtype="int32"), TextVectors(transformer), layers.Dense(work.classes)])


class DCGAN(lm.Model):
    """A step: the discriminator learns from real and drawn pictures, then the generator from the discriminator."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.latent = work.size["latent"]
        self.generator = lm.Sequential(
            [
                lm.Input((self.latent,)),
                layers.Dense(7 * 7 * 128, use_bias=False),
                layers.BatchNormalization(momentum=0.9),
                layers.ReLU(),
                layers.Reshape((7, 7, 128)),
                layers.Conv2DTranspose(64, 4, 2, padding="same", use_bias=False),
                layers.BatchNormalization(momentum=0.9),
                layers.ReLU(),
                layers.Conv2DTranspose(1, 4, 2, padding="same", activation="sigmoid"),
            ]
        )
        self.discriminator = lm.Sequential(
            [
                lm.Input(work.shape),
                layers.Conv2D(64, 4, 2, padding="same"),
                layers.LeakyReLU(0.2),
                layers.Conv2D(128, 4, 2, padding="same"),
                layers.LeakyReLU(0.2),
                layers.Flatten(),
                layers.Dense(1),
            ]
        )
        self.generator_optimizer = lm.optimizers.Adam(LEARNING_RATE)
        self.discriminator_optimizer = lm.optimizers.Adam(LEARNING_RATE)
        self.judge = BinaryCrossentropy(from_logits=True)

    def build(self, input_shape: Any) -> None:
        self.adopt()
        self.generator_optimizer.build(self.generator.named_variables(trainable=True))
        self.discriminator_optimizer.build(self.discriminator.named_variables(trainable=True))

    def call(self, latent: Any) -> Any:
        return self.generator(latent, training=False)

    def train_step(self, batch: Any) -> dict[str, Any]:
        real = batch[0]
        size = len(real)
        ones, zeros = jnp.ones((size, 1)), jnp.zeros((size, 1))

        def drawn() -> Any:
            return self.generator(lm.random.normal((size, self.latent)), training=True)

        def discriminator_loss() -> Any:
            scores = self.discriminator(jnp.concatenate([real, drawn()]), training=True)
            return self.judge(jnp.concatenate([ones, zeros]), scores)

        def generator_loss() -> Any:
            return self.judge(ones, self.discriminator(drawn(), training=True))

        d_loss, gradients = lm.value_and_grad(discriminator_loss, self.discriminator)()
        self.discriminator_optimizer.apply(gradients)
        g_loss, gradients = lm.value_and_grad(generator_loss, self.generator)()
        self.generator_optimizer.apply(gradients)
        return {"discriminator_loss": d_loss, "generator_loss": g_loss}


def dcgan(work: Work) -> lm.Model:
    model = DCGAN(work)
    model.build((None, work.size["latent"]))
    return model


NETWORKS = {network.__name__: network for network in (mlp, cnn, resnet, lstm, gru, autoencoder, unet, gpt, bert, dcgan)}
