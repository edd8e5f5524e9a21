"""The transformer: blocks of self-attention, and the networks made of them.

Tokens are whole numbers, ``(batch, length)``; -1 stands where a shorter text has none. Vaswani et al. (2017),
https://arxiv.org/abs/1706.03762
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.registry import register
from lamina.core.shapes import Shape
from lamina.core.state import Array, compute_in, on_device
from lamina.families.tokenizer import END, SPECIAL, by_length
from lamina.families.writing import compiled
from lamina.initializers import RandomNormal
from lamina.kernels import decoding, slopes
from lamina.kernels.addition import residual
from lamina.kernels.attention import self_attention
from lamina.kernels.decoding import BlockWeights, Cache, Ends
from lamina.kernels.dense import dense_transposed
from lamina.kernels.normalization import again
from lamina.layers import Dense, Dropout, Embedding, LayerNormalization
from lamina.layers.base import Layer, layer
from lamina.models.model import Model

POOLINGS = ("mean", "cls", "last")


gelu_tanh = register("activations", "gelu_new", "gelu_pytorch_tanh")(slopes.gelu_tanh)


@layer
class SelfAttention(Layer):
    """Attention of each position to the others: one product for queries, keys and values, then all heads at once.

    Args:
        heads: the number of heads, a divisor of the width.
        causal: whether a position sees only those up to itself.
        dropout: the fraction of the result to drop in training.
    """

    def __init__(self, heads: int, causal: bool = False, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads, self.causal, self.dropout = heads, causal, dropout
        self.drop = Dropout(dropout)

    def build(self, x_shape: Shape) -> None:
        width = self.axis_length(x_shape, -1)
        self.project = Dense(3 * width, dtype=self.dtype_policy)
        self.merge = Dense(width, dtype=self.dtype_policy)

    def call(self, x: Array, present: Array | None = None) -> Array:
        """The result, ``(batch, length, width)``.

        Args:
            x: shape ``(batch, length, width)``.
            present: shape ``(batch, length)``: False for padding, which is not seen, and gets zeros.
        """
        batch, length, width = x.shape
        projected = self.project(x, present).reshape(batch, length, 3 * self.heads, -1)
        mask = None if present is None else present[:, None, None, :]
        taken = self_attention(projected, mask=mask, causal=self.causal, padded=True)
        return self.drop(self.merge(taken.reshape(batch, length, width), present))


@layer
class TransformerBlock(Layer):
    """Self-attention, then a small network for each position; each is added to what it was given, and normalized.

    Args:
        heads: heads of attention.
        hidden: the width of the small network.
        causal: whether a position sees only those up to itself.
        normalize_first: whether each part normalizes its input (as in GPT-2) rather than the sum (as in BERT).
        activation: the activation of the small network.
        dropout: the fraction to drop in training.
        epsilon: what keeps the normalization finite.
    """

    def __init__(
        self,
        heads: int,
        hidden: int,
        causal: bool = False,
        normalize_first: bool = True,
        activation: Any = "gelu_tanh",
        dropout: float = 0.0,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.heads, self.hidden, self.causal, self.normalize_first = heads, hidden, causal, normalize_first
        self.activation, self.dropout, self.epsilon = activation, dropout, epsilon
        self.attention = SelfAttention(heads, causal, dropout)
        self.attention_norm = LayerNormalization(epsilon=epsilon)
        self.up = Dense(hidden, activation)
        self.drop = Dropout(dropout)
        self.norm = LayerNormalization(epsilon=epsilon)

    def build(self, x_shape: Shape) -> None:
        self.down = Dense(self.axis_length(x_shape, -1))

    def call(self, x: Array, present: Array | None = None) -> Array:
        """The result; arguments as for :class:`SelfAttention`."""
        if self.normalize_first:
            normal = self.attention_norm(x)
            x = residual(again(x, normal), self.attention(normal, present))
            normal = self.norm(x)
            return residual(again(x, normal), self.change(normal, present))
        x = self.attention_norm(residual(x, self.attention(x, present)))
        return self.norm(residual(x, self.change(x, present)))

    def change(self, x: Array, present: Array | None = None) -> Array:
        """What the small network makes of each position that is present."""
        return self.drop(self.down(self.up(x, present), present))

    def weights_to_decode(self) -> BlockWeights:
        """The weights, as :func:`~lamina.kernels.decoding.write` takes them."""
        layers = (self.attention.project, self.attention.merge, self.up, self.down)
        first, second = self.attention_norm.scale_and_offset(), self.norm.scale_and_offset()
        project, merge, up, down = ([dense.kernel.value, dense.bias.value] for dense in layers)
        return BlockWeights(*first, *project, *merge, *second, *up, *down)  # type: ignore[arg-type, call-arg]


@register("models")
class Transformer(Model):
    """Tokens in, a vector for each out: embeddings of token and position, then blocks.

    Args:
        vocabulary: the number of tokens.
        context: the longest text.
        depth: the number of blocks.
        width: the length of the vectors.
        heads: heads of attention, a divisor of the width.
        hidden: the width of each block's small network; four times ``width`` if none is given.
        causal: whether a position sees only those up to itself, as in GPT.
        normalize_first: whether blocks normalize their input, as in GPT-2, rather than their sums, as in BERT.
        activation: the activation inside the blocks.
        dropout: the fraction to drop in training.
        epsilon: what keeps the normalization finite.

    Raises:
        ConfigError: for sizes below 1, or heads that do not divide the width.

    >>> Transformer(vocabulary=10, context=8, depth=1, width=4, heads=2)(jnp.array([[3, 1, -1]])).shape
    (1, 3, 4)
    """

    input_dtype = "int32"

    def __init__(
        self,
        vocabulary: int,
        context: int,
        depth: int = 4,
        width: int = 128,
        heads: int = 4,
        hidden: int | None = None,
        causal: bool = False,
        normalize_first: bool = True,
        activation: Any = "gelu_tanh",
        dropout: float = 0.0,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sizes = {"vocabulary": vocabulary, "context": context, "depth": depth, "width": width, "heads": heads}
        for name, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
                raise ConfigError(f"Transformer expects {name} as a whole number of at least 1; received {size!r}")
        if width % heads:
            raise ConfigError(f"Transformer expects heads that divide the width {width}; received {heads}")
        self.vocabulary, self.context, self.depth, self.width, self.heads = vocabulary, context, depth, width, heads
        self.hidden, self.causal, self.normalize_first = hidden, causal, normalize_first
        self.activation, self.dropout, self.epsilon = activation, dropout, epsilon
        self.tokens = Embedding(vocabulary, width, RandomNormal(0.0, 0.02))
        self.positions = Embedding(context, width, RandomNormal(0.0, 0.02))
        self.drop = Dropout(dropout)
        self.norm = LayerNormalization(epsilon=epsilon)
        self.blocks = [
            TransformerBlock(heads, hidden or 4 * width, causal, normalize_first, activation, dropout, epsilon)
            for _ in range(depth)
        ]

    def call(self, tokens: Array) -> Array:
        x = self._embed(tokens)
        # what stands at the end of a text is not seen by a causal network anyway
        present = None if self.causal else tokens >= 0
        for block in self.blocks:
            x = block(x, present)
        return self.norm(x) if self.normalize_first else x

    def write(self, caches: list[Cache], tokens: Array, chances: Array, **settings: Any) -> tuple[Array, list[Cache]]:
        """Tokens that follow ``tokens``, as :func:`~lamina.kernels.decoding.write` gives them, which explains the arguments."""
        with compute_in(self.compute_dtype):
            blocks = [block.weights_to_decode() for block in self.blocks]
            ends = Ends(self.tokens.embeddings.raw, self.positions.embeddings.raw, *self.norm.scale_and_offset())  # type: ignore[arg-type]
        return decoding.write(
            tokens,
            chances,
            ends,
            blocks,
            caches,
            heads=self.heads,
            activation=self.blocks[0].up.activation,
            normalize_first=self.normalize_first,
            epsilon=self.epsilon,
            **settings,
        )

    def empty_caches(self) -> list[Cache]:
        """Caches before the first token."""
        zeros = np.zeros((1, self.context, self.heads, self.width // self.heads), "float32")
        return [(on_device(zeros), on_device(zeros)) for _ in self.blocks]

    def _embed(self, tokens: Array) -> Array:
        if tokens.ndim != 2:
            raise ShapeError(f"the network expects tokens of shape (batch, length); received shape {tokens.shape}.")
        if tokens.shape[1] > self.context:
            raise ShapeError(f"the network sees {self.context} tokens at a time; received {tokens.shape[1]}.")
        x = self.tokens(jnp.maximum(tokens, 0)) + self.positions(jnp.arange(tokens.shape[1]))
        return self.drop(x if self.normalize_first else self.norm(x))


@register("models")
class LanguageModel(Model):
    """A causal transformer that gives scores for the next token; the scores' weights are the tokens' embeddings.

    Args:
        transformer: the network below.

    Input ``(batch, length)``, output ``(batch, length, vocabulary)``.

    Radford et al. (2019), *Language models are unsupervised multitask learners*
    """

    input_dtype = "int32"

    def __init__(self, transformer: Transformer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.transformer = transformer

    def call(self, tokens: Array) -> Array:
        return dense_transposed(self.transformer(tokens), self.transformer.tokens.embeddings.value)

    @functools.cached_property
    def write(self) -> Callable[..., tuple[Array, list[Cache]]]:
        """The compiled writing of tokens.

        Called with caches (whose memory it takes), tokens, how many of them count, their position, how many to write,
        chances to draw them with, temperature, ``top_k``, ``top_p``, and which tokens may be drawn; gives tokens and caches.
        See :func:`~lamina.kernels.decoding.write`.
        """

        def steps(
            caches: list[Cache],
            tokens: Array,
            length: Any,
            position: Any,
            count: Any,
            chances: Array,
            temperature: Any,
            top_k: Any,
            top_p: Any,
            allowed: Array,
        ) -> tuple[Array, list[Cache]]:
            return self.transformer.write(
                caches,
                tokens,
                chances,
                length=length,
                position=position,
                count=count,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                allowed=allowed,
                stop=END,
            )

        return compiled(self, steps, donate_argnums=1)

    @functools.cached_property
    def likelihoods(self) -> Callable[[np.ndarray], Array]:
        """The compiled logarithm of the probability of each token but the first; 0 where there is none."""

        def step(tokens: Array) -> Array:
            shares = jax.nn.log_softmax(self(tokens[:, :-1]))
            after = tokens[:, 1:, None]
            return jnp.where(after < 0, 0, jnp.take_along_axis(shares, jnp.maximum(after, 0), axis=2))[..., 0]

        return compiled(self, step)


def writable(vocabulary: int, may_end: bool) -> np.ndarray:
    """Which tokens may be drawn: those that stand for a text, and that of the end if ``may_end``."""
    token = np.arange(vocabulary)
    return (token >= len(SPECIAL)) | ((token == END) & may_end)


@register("models")
class MaskedLanguageModel(Model):
    """A transformer that guesses tokens that were hidden from it.

    Args:
        transformer: the network below.

    Input: a dictionary of ``tokens``, ``(batch, length)``, and ``places``, ``(batch, guesses)``, the positions to guess.
    Output: scores, ``(batch, guesses, vocabulary)``.

    Devlin et al. (2018), https://arxiv.org/abs/1810.04805
    """

    def __init__(self, transformer: Transformer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.transformer = transformer
        self.dense = Dense(transformer.width, transformer.activation)
        self.norm = LayerNormalization(epsilon=transformer.epsilon)

    def call(self, inputs: dict[str, Array]) -> Array:
        x = jnp.take_along_axis(self.transformer(inputs["tokens"]), inputs["places"][:, :, None], axis=1)
        return dense_transposed(self.norm(self.dense(x)), self.transformer.tokens.embeddings.value)


@register("models")
class TextVectors(Model):
    """A transformer whose vectors of all tokens become one for each text.

    Args:
        transformer: the network below.
        pooling: ``"mean"`` of the tokens, ``"cls"`` for the first or ``"last"`` for the last one.
        normalize: whether vectors are brought to length 1.

    Input ``(batch, length)``, output ``(batch, width)``; zeros for a text without tokens.
    """

    input_dtype = "int32"

    def __init__(self, transformer: Transformer, pooling: str = "mean", normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if pooling not in POOLINGS:
            raise ConfigError(f"pooling is one of {', '.join(map(repr, POOLINGS))}; received {pooling!r}")
        self.transformer, self.pooling, self.normalize = transformer, pooling, normalize

    def call(self, tokens: Array) -> Array:
        x, counts = self.transformer(tokens), (tokens >= 0).astype(self.compute_dtype)
        if self.pooling != "mean":
            at = jnp.sum(tokens >= 0, axis=1) - 1 if self.pooling == "last" else jnp.zeros(len(tokens), int)
            counts = (jnp.arange(tokens.shape[1]) == at[:, None]).astype(x.dtype) * counts
        vectors = jnp.einsum("bl,blw->bw", counts, x) / jnp.maximum(jnp.sum(counts, axis=1, keepdims=True), 1)
        if self.normalize:
            length = jnp.sqrt(jnp.sum(vectors**2, axis=1, keepdims=True))
            vectors = vectors / jnp.maximum(length, 1e-12)
        return vectors


@register("models")
class TextClassifier(Model):
    """Probabilities of classes from the vector of a text.

    Args:
        vectors: the network below.
        classes: the number of classes.
        dropout: the fraction of the vector to drop in training.
    """

    input_dtype = "int32"

    def __init__(self, vectors: TextVectors, classes: int, dropout: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vectors, self.classes, self.dropout = vectors, classes, dropout
        self.drop = Dropout(dropout)
        self.dense = Dense(classes, "softmax")

    def call(self, tokens: Array) -> Array:
        return self.dense(self.drop(self.vectors(tokens)))


def outputs(model: Model, tokens: Sequence[np.ndarray], limit: int) -> np.ndarray:
    """What the model gives for each sequence of up to ``limit`` tokens, ``(texts, ...)``, in batches of about 512 tokens.

    A text's length alone decides about the shape that it is computed in, so its result depends on that text alone.
    """
    found: np.ndarray | None = None
    for places, rows in by_length(tokens, limit):
        batch = max(1, 512 // rows.shape[1])
        rows = np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % batch, axis=0)])
        results = model.predict(rows, batch_size=batch)[: len(places)]
        if found is None:
            found = np.empty((len(tokens), *results.shape[1:]), results.dtype)
        found[places] = results
    assert found is not None
    return found
