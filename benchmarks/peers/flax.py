"""Flax: ``linen`` modules, which a call costs less than with ``nnx``; optax; a compiled step in a loop over batches.

Its GRU has a bias for each gate and one more for the candidate, where the others have two of each. Generation is compiled
whole, with the cache of Flax's own attention, which takes one token at a time, also of the prompt.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from benchmarks.data import Arrays
from benchmarks.works import LEARNING_RATE, SEED, TOKENS, VOCABULARY, Job, Work

# -- how each kind of work is done -------------------------------------------------------------------------------------


def prepare(work: Work, data: Arrays, way: str) -> Job | None:
    if work.network == "dcgan":
        return _train_gan(work, data)
    if work.network not in NETWORKS:
        return None
    return {"train": _train, "predict": _predict, "generate": _generate}[work.kind](work, data)


def peak_memory() -> int:
    """How many bytes of the GPU's memory were in use at most."""
    return jax.devices()[0].memory_stats()["peak_bytes_in_use"]


def in_precision(tree: Any, work: Work) -> Any:
    """The arrays as they are computed with: of half precision where the work says so; weights are kept in single."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, work.precision) if leaf.dtype == "float32" else leaf, tree)


def count(tree: Any) -> int:
    """How many numbers a tree of arrays holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _train(work: Work, data: Arrays) -> Job:
    x, y = (jnp.asarray(some) for some in data)
    model, optimizer, rng = NETWORKS[work.network](work), optax.adam(LEARNING_RATE), np.random.default_rng(SEED)
    rest = jax.jit(model.init)(jax.random.key(SEED), x[:1])
    weights = rest.pop("params")
    state = (weights, rest, optimizer.init(weights))

    def loss_of(weights: Any, rest: Any, x: Any, y: Any) -> Any:
        weights, x = in_precision((weights, x), work)
        scores, rest = model.apply({"params": weights, **rest}, x, training=True, mutable=list(rest))
        scores = scores.astype("float32")
        if work.loss == "squares":
            return jnp.mean((scores - y) ** 2), rest
        return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean(), rest

    def step(state: Any, x: Any, y: Any, index: Any) -> Any:
        weights, rest, slots = state
        differentiated = jax.value_and_grad(loss_of, has_aux=True)
        (loss, rest), gradients = differentiated(weights, rest, x[index], y[index])
        updates, slots = optimizer.update(gradients, slots)
        return (optax.apply_updates(weights, updates), rest, slots), loss

    compiled = jax.jit(step, donate_argnums=0)

    def train() -> float:
        nonlocal state
        losses = []
        for index in rng.permutation(len(x)).reshape(-1, work.batch):
            state, loss = compiled(state, x, y, index)
            losses.append(loss)
        return float(np.mean(jax.device_get(losses)))

    return Job(train, lambda: count(state[0]))


def _train_gan(work: Work, data: Arrays) -> Job:
    real, rng = jnp.asarray(data[0]), np.random.default_rng(SEED)
    generator, discriminator, size = Generator(), Discriminator(), (work.batch, work.size["latent"])
    g_rest = generator.init(jax.random.key(SEED), jnp.zeros(size))
    g, d = g_rest.pop("params"), discriminator.init(jax.random.key(SEED), real[:1])["params"]
    optimizer = optax.adam(LEARNING_RATE)
    state = (g, g_rest, optimizer.init(g), d, optimizer.init(d), jax.random.key(SEED))
    ones, zeros = jnp.ones((work.batch, 1)), jnp.zeros((work.batch, 1))

    def drawn(g: Any, g_rest: Any, key: Any) -> Any:
        g, latent = in_precision((g, jax.random.normal(key, size)), work)
        return generator.apply({"params": g, **g_rest}, latent, mutable=list(g_rest))

    def judged(d: Any, pictures: Any, wanted: Any) -> Any:
        d, pictures = in_precision((d, pictures), work)
        scores = discriminator.apply({"params": d}, pictures).astype("float32")
        return optax.sigmoid_binary_cross_entropy(scores, wanted).mean()

    def step(state: Any, real: Any, index: Any) -> Any:
        g, g_rest, g_slots, d, d_slots, key = state
        key, first, second = jax.random.split(key, 3)
        fake, g_rest = drawn(g, g_rest, first)
        both, wanted = jnp.concatenate([real[index], fake]), jnp.concatenate([ones, zeros])
        d_loss, gradients = jax.value_and_grad(judged)(d, both, wanted)
        updates, d_slots = optimizer.update(gradients, d_slots)
        d = optax.apply_updates(d, updates)

        def generator_loss(g: Any) -> Any:
            pictures, rest = drawn(g, g_rest, second)
            return judged(d, pictures, ones), rest

        (g_loss, g_rest), gradients = jax.value_and_grad(generator_loss, has_aux=True)(g)
        updates, g_slots = optimizer.update(gradients, g_slots)
        return (optax.apply_updates(g, updates), g_rest, g_slots, d, d_slots, key), d_loss + g_loss

    compiled = jax.jit(step, donate_argnums=0)

    def train() -> float:
        nonlocal state
        losses = []
        for index in rng.permutation(len(real)).reshape(-1, work.batch):
            state, loss = compiled(state, real, index)
            losses.append(loss)
        return float(np.mean(jax.device_get(losses)))

    return Job(train, lambda: count((state[0], state[3])))


def _predict(work: Work, data: Arrays) -> Job:
    x, model = data[0], NETWORKS[work.network](work)
    variables = model.init(jax.random.key(SEED), x)
    compiled = jax.jit(lambda variables, x: model.apply(*in_precision((variables, x), work)).astype("float32"))

    def predict() -> None:
        for _ in range(work.steps):
            np.asarray(compiled(variables, x))

    return Job(predict, lambda: count(variables["params"]))


def _generate(work: Work, data: Arrays) -> Job:
    prompt = jnp.asarray(data[0][0, : TOKENS["prompt"]])
    model = GPT(work, decode=True)
    variables = in_precision(model.init(jax.random.key(SEED), jnp.zeros((1, work.shape[0]), "int32")), work)

    @jax.jit
    def write(weights: Any, cache: Any, prompt: Any, key: Any) -> Any:
        def one(carry: Any, position: Any) -> Any:
            cache, token, key = carry
            key, now = jax.random.split(key)
            variables = {"params": weights, "cache": cache}
            scores, changed = model.apply(variables, token[None, None], position=position, mutable=["cache"])
            token = jax.random.categorical(now, scores[0, 0])
            inside = position + 1 < len(prompt)
            token = jnp.where(inside, prompt[jnp.minimum(position + 1, len(prompt) - 1)], token).astype("int32")
            return (changed["cache"], token, key), token

        return jax.lax.scan(one, (cache, prompt[0], key), jnp.arange(len(prompt) + work.steps - 1))[1]

    def generate() -> None:
        text = write(variables["params"], variables["cache"], prompt, jax.random.key(SEED))
        np.asarray(text)[-work.steps :].tolist()

    return Job(generate, lambda: count(variables["params"]))


# -- the networks ------------------------------------------------------------------------------------------------------


class MLP(nn.Module):
    work: Work

    @nn.compact
    def __call__(self, x: Any, training: bool = False) -> Any:
        for width in self.work.size["hidden"]:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.work.classes)(x)


class CNN(nn.Module):
    work: Work

    @nn.compact
    def __call__(self, x: Any, training: bool = False) -> Any:
        for width in (32, 64):
            x = nn.max_pool(nn.relu(nn.Conv(width, (3, 3), padding="VALID")(x)), (2, 2), (2, 2))
        return nn.Dense(self.work.classes)(x.reshape(len(x), -1))


class ResNet(nn.Module):
    work: Work

    @nn.compact
    def __call__(self, x: Any, training: bool = False) -> Any:
        def convolved(x: Any, width: int, kernel: int = 3, stride: int = 1) -> Any:
            x = nn.Conv(width, (kernel, kernel), (stride, stride), use_bias=False)(x)
            return nn.BatchNorm(not training, momentum=0.9)(x)

        x = nn.relu(convolved(x, 16))
        for width in (16, 32, 64):
            for block in range(self.work.size["blocks"]):
                stride = 2 if width > 16 and block == 0 else 1
                change = convolved(nn.relu(convolved(x, width, stride=stride)), width)
                x = nn.relu(change + (x if stride == 1 else convolved(x, width, 1, stride)))
        return nn.Dense(self.work.classes)(x.mean((1, 2)))


class Recurrent(nn.Module):
    work: Work
    cell: Any

    @nn.compact
    def __call__(self, x: Any, training: bool = False) -> Any:
        width = self.work.size["width"]
        x = nn.RNN(self.cell(width, dtype=self.work.precision))(nn.Embed(VOCABULARY, width)(x))
        return nn.Dense(self.work.classes)(x[:, -1])


class Autoencoder(nn.Module):
    work: Work

    @nn.compact
    def __call__(self, x: Any, training: bool = False) -> Any:
        for width in (32, 64):
            x = nn.relu(nn.Conv(width, (3, 3), (2, 2))(x))
        x = nn.relu(nn.ConvTranspose(32, (3, 3), (2, 2))(x))
        return nn.sigmoid(nn.ConvTranspose(1, (3, 3), (2, 2))(x))


class Generator(nn.Module):
    @nn.compact
    def __call__(self, latent: Any) -> Any:
        x = nn.Dense(7 * 7 * 128, use_bias=False)(latent)
        x = nn.relu(nn.BatchNorm(False, momentum=0.9)(x)).reshape(-1, 7, 7, 128)
        x = nn.ConvTranspose(64, (4, 4), (2, 2), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(False, momentum=0.9)(x))
        return nn.sigmoid(nn.ConvTranspose(1, (4, 4), (2, 2))(x))


class Discriminator(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        for width in (64, 128):
            x = nn.leaky_relu(nn.Conv(width, (4, 4), (2, 2))(x), 0.2)
        return nn.Dense(1)(x.reshape(len(x), -1))


class UNet(nn.Module):
    work: Work

    @nn.compact
    def __call__(self, x: Any, training: bool = False) -> Any:
        def twice(x: Any, width: int) -> Any:
            for _ in range(2):
                x = nn.relu(nn.Conv(width, (3, 3))(x))
            return x

        fine = twice(x, 16)
        middle = twice(nn.max_pool(fine, (2, 2), (2, 2)), 32)
        x = twice(nn.max_pool(middle, (2, 2), (2, 2)), 64)
        x = twice(jnp.concatenate([nn.ConvTranspose(32, (2, 2), (2, 2))(x), middle], -1), 32)
        x = twice(jnp.concatenate([nn.ConvTranspose(16, (2, 2), (2, 2))(x), fine], -1), 16)
        return nn.Conv(self.work.classes, (1, 1))(x)


class Block(nn.Module):
    """Attention and a small network; each normalizes its input, or its sum with the input."""

    work: Work
    normalize_first: bool
    decode: bool = False

    @nn.compact
    def __call__(self, x: Any, mask: Any) -> Any:
        width = self.work.size["width"]
        attend = nn.MultiHeadDotProductAttention(self.work.size["heads"], decode=self.decode)
        norms = nn.LayerNorm(), nn.LayerNorm()
        up, down = nn.Dense(4 * width), nn.Dense(width)
        if self.normalize_first:
            x = x + attend(norms[0](x), mask=mask)
            return x + down(nn.gelu(up(norms[1](x))))
        x = norms[0](x + attend(x, mask=mask))
        return norms[1](x + down(nn.gelu(up(x))))


class GPT(nn.Module):
    work: Work
    decode: bool = False

    @nn.compact
    def __call__(self, tokens: Any, training: bool = False, position: Any = 0) -> Any:
        start = nn.initializers.normal(0.02)
        embedding = nn.Embed(self.work.classes, self.work.size["width"], embedding_init=start)
        table = self.param("positions", start, (self.work.shape[0], self.work.size["width"]))
        x = embedding(tokens) + jax.lax.dynamic_slice_in_dim(table, position, tokens.shape[1])
        mask = None if self.decode else nn.make_causal_mask(tokens, dtype=bool)
        for _ in range(self.work.size["blocks"]):
            x = Block(self.work, True, self.decode)(x, mask)
        return embedding.attend(nn.LayerNorm()(x))


class BERT(nn.Module):
    work: Work

    @nn.compact
    def __call__(self, tokens: Any, training: bool = False) -> Any:
        seen, width = tokens >= 0, self.work.size["width"]
        table = self.param("positions", nn.initializers.normal(0.02), (self.work.shape[0], width))
        x = nn.LayerNorm()(nn.Embed(VOCABULARY, width)(jnp.maximum(tokens, 0)) + table)
        for _ in range(self.work.size["blocks"]):
            x = Block(self.work, False)(x, seen[:, None, None, :])
        counts = seen[:, :, None].astype("float32")
        return nn.Dense(self.work.classes)((x * counts).sum(1) / counts.sum(1))


NETWORKS: dict[str, Callable[[Work], nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet": ResNet,
    "lstm": lambda work: Recurrent(work, nn.OptimizedLSTMCell),
    "gru": lambda work: Recurrent(work, nn.GRUCell),
    "autoencoder": Autoencoder,
    "unet": UNet,
    "gpt": GPT,
    "bert": BERT,
}
