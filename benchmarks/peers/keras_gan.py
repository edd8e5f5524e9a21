"""The DCGAN in Keras, as its guides train one: a ``train_step`` of one's own on TensorFlow, a loop of one's own on JAX."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from benchmarks.data import Arrays
from benchmarks.works import LEARNING_RATE, SEED, Job, Work


def prepare(work: Work, data: Arrays) -> Job:
    generator = keras.Sequential(
        [
            keras.Input((work.size["latent"],)),
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
    discriminator = keras.Sequential(
        [
            keras.Input(work.shape),
            layers.Conv2D(64, 4, 2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Conv2D(128, 4, 2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    training = {"tensorflow": on_tensorflow, "jax": on_jax}[keras.backend.backend()]
    weights = [*generator.trainable_weights, *discriminator.trainable_weights]
    return Job(
        training(work, data[0], generator, discriminator), lambda: sum(int(np.prod(weight.shape)) for weight in weights)
    )


def on_tensorflow(
    work: Work, pictures: np.ndarray, generator: keras.Model, discriminator: keras.Model
) -> Callable[[], float]:
    import tensorflow as tf

    class DCGAN(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.generator, self.discriminator = generator, discriminator
            self.generator_optimizer = keras.optimizers.Adam(LEARNING_RATE)
            self.discriminator_optimizer = keras.optimizers.Adam(LEARNING_RATE)
            self.loss_of = keras.losses.BinaryCrossentropy(from_logits=True)
            self.tracker = keras.metrics.Mean("loss")

        def train_step(self, data: Any) -> dict[str, Any]:
            real = data
            size = tf.shape(real)[0]
            ones, zeros = tf.ones((size, 1)), tf.zeros((size, 1))
            drawn = generator(tf.random.normal((size, work.size["latent"])), training=True)
            with tf.GradientTape() as tape:
                scores = discriminator(tf.concat([real, drawn], 0), training=True)
                d_loss = self.loss_of(tf.concat([ones, zeros], 0), scores)
            weights = discriminator.trainable_weights
            self.discriminator_optimizer.apply(tape.gradient(d_loss, weights), weights)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([weight.value for weight in generator.trainable_weights])
                drawn = generator(tf.random.normal((size, work.size["latent"])), training=True)
                g_loss = self.loss_of(ones, discriminator(drawn, training=True))
            weights = generator.trainable_weights
            self.generator_optimizer.apply(tape.gradient(g_loss, weights), weights)
            self.tracker.update_state(d_loss + g_loss)
            return {"loss": self.tracker.result()}

    model = DCGAN()
    model.compile(jit_compile="auto")
    return lambda: model.fit(pictures, batch_size=work.batch, verbose=0).history["loss"][-1]


def on_jax(work: Work, pictures: np.ndarray, generator: keras.Model, discriminator: keras.Model) -> Callable[[], float]:
    import jax

    g_optimizer, d_optimizer = keras.optimizers.Adam(LEARNING_RATE), keras.optimizers.Adam(LEARNING_RATE)
    g_optimizer.build(generator.trainable_variables)
    d_optimizer.build(discriminator.trainable_variables)
    loss_of = keras.losses.BinaryCrossentropy(from_logits=True)
    ones, zeros = ops.ones((work.batch, 1)), ops.zeros((work.batch, 1))

    def drawn(weights: Any, rest: Any, key: Any) -> Any:
        latent = jax.random.normal(key, (work.batch, work.size["latent"]))
        return generator.stateless_call(weights, rest, latent, training=True)

    def discriminator_loss(weights: Any, rest: Any, real: Any, pictures: Any) -> Any:
        pictures = ops.concatenate([real, pictures])
        scores, _ = discriminator.stateless_call(weights, rest, pictures, training=True)
        return loss_of(ops.concatenate([ones, zeros]), scores)

    def generator_loss(weights: Any, rest: Any, judges: Any, judges_rest: Any, key: Any) -> Any:
        pictures, rest = drawn(weights, rest, key)
        scores, _ = discriminator.stateless_call(judges, judges_rest, pictures, training=True)
        return loss_of(ones, scores), rest

    def step(state: Any, real: Any, key: Any) -> Any:
        g, g_rest, g_slots, d, d_rest, d_slots = state
        first, second = jax.random.split(key)
        pictures, g_rest = drawn(g, g_rest, first)
        d_loss, gradients = jax.value_and_grad(discriminator_loss)(d, d_rest, real, pictures)
        d, d_slots = d_optimizer.stateless_apply(d_slots, gradients, d)
        differentiated = jax.value_and_grad(generator_loss, has_aux=True)
        (g_loss, g_rest), gradients = differentiated(g, g_rest, d, d_rest, second)
        g, g_slots = g_optimizer.stateless_apply(g_slots, gradients, g)
        return (g, g_rest, g_slots, d, d_rest, d_slots), d_loss + g_loss

    compiled = jax.jit(step, donate_argnums=0)
    models = ((generator, g_optimizer), (discriminator, d_optimizer))
    state = [
        [variable.value for variable in variables]
        for model, optimizer in models
        for variables in (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    ]
    rng, keys = np.random.default_rng(SEED), iter_keys(jax)

    def train() -> float:
        nonlocal state
        losses = []
        for index in rng.permutation(len(pictures)).reshape(-1, work.batch):
            state, loss = compiled(state, pictures[index], next(keys))
            losses.append(loss)
        return float(np.mean(jax.device_get(losses)))

    return train


def iter_keys(jax: Any) -> Any:
    """Keys of random numbers, one for each step."""
    key = jax.random.key(SEED)
    while True:
        key, now = jax.random.split(key)
        yield now
