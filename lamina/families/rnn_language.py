"""Recurrent networks that write: the next character or word from all before it, the state carried step by step."""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.errors import ConfigError, DataError, nearest
from lamina.core.keys import chances
from lamina.core.state import Array
from lamina.families.base import Family, share, whole
from lamina.families.tokenizer import texts_in
from lamina.families.writing import STRETCH, Writer, compiled
from lamina.kernels.drawing import draw, one_by_one
from lamina.layers import GRU, LSTM, Dense, Dropout, Embedding
from lamina.layers.base import layer
from lamina.losses import SparseCategoricalCrossentropy
from lamina.models.model import Model
from lamina.optimizers import AdamW
from lamina.schedules import CosineDecay

CELLS = {"gru": GRU, "lstm": LSTM}
#: a word with the space before it, a space of another kind, or a sign: joined, they are the text again
WORDS = re.compile(r" ?\w+|\s|[^\w\s]")


@layer
class LanguageNetwork(Model):
    """Recurrent layers from the tokens so far to scores for the next one.

    Args:
        tokens: how many different tokens there are.
        cell: ``"gru"`` or ``"lstm"``.
        units: the length of each layer's state.
        depth: how many layers.
        embedding: the length of a token's vector.
        dropout: the share of each layer's outputs that is dropped in training.

    Input ``(batch, steps)``, whole numbers; output ``(batch, steps, tokens)``.
    """

    def __init__(
        self,
        tokens: int,
        cell: str = "gru",
        units: int = 128,
        depth: int = 1,
        embedding: int = 64,
        dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tokens, self.cell, self.units, self.depth = tokens, cell, units, depth
        self.embedding, self.dropout = embedding, dropout
        self.vectors = Embedding(tokens, embedding)
        self.recurrent = [CELLS[cell](units, return_sequences=True, return_state=True) for _ in range(depth)]
        self.drops = [Dropout(dropout) for _ in range(depth)]
        self.head = Dense(tokens)

    def call(self, inputs: Any) -> Array:
        return self.scores(inputs, None)[0]

    def scores(self, tokens: Array, states: Any) -> tuple[Array, list[Any]]:
        """Scores for what follows each token, and the layers' states after the last, starting from ``states``."""
        x, after = self.vectors(tokens), []
        for i, (recurrent, drop) in enumerate(zip(self.recurrent, self.drops, strict=True)):
            x, *state = recurrent(x, initial_state=None if states is None else states[i])
            x = drop(x)
            after.append(state)
        return self.head(x), after

    def start(self) -> list[Any]:
        """The layers' states before the first token, for a batch of one."""
        return [recurrent.get_initial_state(1) for recurrent in self.recurrent]

    @functools.cached_property
    def read(self) -> Callable[..., list[Any]]:
        """The compiled states after a token: called with states and the token."""
        return compiled(self, lambda states, token: self.scores(jnp.reshape(token, (1, 1)), states)[1])

    @functools.cached_property
    def write(self) -> Callable[..., tuple[Array, list[Any]]]:
        """The compiled loop of generation.

        Called with states, the last token, how many to write, chances to draw them with, and what else
        :func:`~lamina.kernels.drawing.draw` is told; gives tokens as :func:`~lamina.kernels.drawing.one_by_one` does, and
        states. The token of unknown ones is never drawn.
        """

        def steps(states: Any, token: Array, count: Any, chances: Array, *settings: Any) -> tuple[Array, list[Any]]:
            def step(token: Array, states: Any, done: Array, chance: Array) -> tuple[Array, list[Any]]:
                scores, states = self.scores(jnp.reshape(token, (1, 1)), states)
                return draw(scores[0, 0].at[0].set(-jnp.inf), chance, *settings), states

            return one_by_one(step, token, states, count, chances)

        return compiled(self, steps)


class RNNLanguageModel(Writer, Family):
    """A language model of characters or words.

    Args:
        level: ``"character"`` or ``"word"``.
        cell: ``"gru"`` or ``"lstm"``.
        units: the length of each layer's state.
        layers: how many recurrent layers stand on each other.
        embedding: the length of a token's vector.
        max_tokens: how many characters or words, the most frequent ones, are told apart.
        length: how many tokens a training example has.
        dropout: the share of each layer's outputs that is dropped in training.
        learning_rate: the largest step; it falls to nothing along a cosine.
        epochs: passes over the text.
        batch_size: examples in a step.
        validation_fraction: the share of the text, its end, held back to stop early.
        patience: epochs without getting better before stopping; a third of all if ``None``, 0 never to stop.
        verbose: 0 for silence, 1 for a bar, 2 for a line an epoch, ``"auto"`` for a bar in a terminal.
        random_state: the seed.
        warm_start: whether ``fit`` goes on from where the last one ended, with the tokens of then.

    >>> model = RNNLanguageModel(units=16, embedding=8, length=8, epochs=30, learning_rate=0.02, random_state=0)
    >>> model.fit("abcd" * 60).generate("ab", 6, temperature=0)
    'cdabcd'
    """

    _kept = ("tokens_", "level_")

    #: what a token is
    level_: str
    #: the tokens; their places are their numbers. The first one, empty, stands for all that are not among them
    tokens_: list[str]

    def __init__(
        self,
        level: str = "character",
        cell: str = "gru",
        units: int = 256,
        layers: int = 1,
        embedding: int = 64,
        max_tokens: int = 10_000,
        length: int = 100,
        dropout: float = 0.1,
        learning_rate: float = 3e-3,
        epochs: int = 10,
        batch_size: int = 32,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        verbose: int | str = "auto",
        random_state: int | None = None,
        warm_start: bool = False,
    ) -> None:
        self.level, self.cell, self.units, self.layers = level, cell, units, layers
        self.embedding, self.max_tokens, self.length = embedding, max_tokens, length
        self.dropout, self.learning_rate = dropout, learning_rate
        self.epochs, self.batch_size = epochs, batch_size
        self.validation_fraction, self.patience = validation_fraction, patience
        self.verbose, self.random_state, self.warm_start = verbose, random_state, warm_start

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from a text, or from several, joined by line breaks.

        Args:
            X: the text, or a list of texts.
            y: not used.

        Raises:
            DataError: for something else than texts, or too short a text.
        """
        goes_on = self.warm_start and "model_" in vars(self)
        text = _joined(X)
        length, epochs = whole("length", self.length), whole("epochs", self.epochs)
        if self.level not in ("character", "word"):
            raise ConfigError(f"level is 'character' or 'word'; received {self.level!r}")
        self.level_ = self.level_ if goes_on else self.level
        tokens = self._split(text)
        if not goes_on:
            self.tokens_ = ["", *_frequent(tokens, whole("max_tokens", self.max_tokens))]
        numbers = self._numbers(tokens)
        share("validation_fraction", self.validation_fraction)
        cut = len(numbers) - int(self.validation_fraction * len(numbers))
        if cut < length + 1:
            raise DataError(
                f"the text has {cut} tokens to learn from; at least length + 1 = {length + 1} are needed.\n"
                "Write:  RNNLanguageModel(length=...) with a smaller one"
            )
        with self._seeded():
            model = self.model_ if goes_on else self._network()
            x, targets = _examples(numbers[:cut], length)
            watched = _examples(numbers[cut - 1 :], length) if len(numbers) - cut >= length else None
            batch = min(whole("batch_size", self.batch_size), len(x))
            steps = epochs * -(-len(x) // batch)
            self._train(
                model,
                x,
                targets,
                watched,
                loss=SparseCategoricalCrossentropy(from_logits=True),
                metrics=["accuracy"],
                optimizer=AdamW(CosineDecay(self.learning_rate, steps), weight_decay=1e-2, global_clipnorm=1.0),
                epochs=epochs,
                batch_size=batch,
            )
        return self

    def _network(self) -> Model:
        if self.cell not in CELLS:
            raise ConfigError(f"cell={self.cell!r} is not known. {nearest(str(self.cell), CELLS)}")
        return LanguageNetwork(
            len(self.tokens_),
            self.cell,
            whole("units", self.units),
            whole("layers", self.layers),
            whole("embedding", self.embedding),
            self.dropout,
        )

    def _next_tokens(self, prompt: str, sizes: Iterator[int], key: Any, settings: tuple[Any, ...]) -> Iterator[int]:
        model: LanguageNetwork = self.model_
        seen = self._numbers(self._split(prompt)).tolist()
        states, token, done = model.start(), 0, 0
        for some in sizes:
            if not done:
                if not seen:  # every token is as likely to be the first
                    seen, some = [int(jax.random.randint(key, (), 1, len(self.tokens_)))], some - 1
                    yield seen[0]
                for number in seen[:-1]:
                    states = model.read(states, np.int32(number))
                token = seen[-1]
            found, states = model.write(states, np.int32(token), np.int32(some), chances(key, done, STRETCH), *settings)
            done += some
            for token in np.asarray(found)[:some].tolist():
                yield token

    def _text(self, tokens: list[int]) -> str:
        return "".join(self.tokens_[token] for token in tokens)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean logarithm of the probability of each token of a text, given those before it; the first is not counted.

        Args:
            X: the text, or a list of texts.
            y: not used.
        """
        model = self.model
        numbers = self._numbers(self._split(_joined(X)))
        if len(numbers) < 2:
            raise DataError("a text of at least two tokens is needed.")
        x, targets = _examples(numbers, min(self.length, len(numbers) - 1), overlap=True)
        fresh = targets >= 0
        scores = np.asarray(self._forward(x, 32, model=model), "float64")
        scores -= scores.max(-1, keepdims=True)
        logs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
        return float(np.take_along_axis(logs, np.maximum(targets, 0)[..., None], -1)[..., 0][fresh].mean())

    def _split(self, text: str) -> list[str]:
        return list(text) if self.level_ == "character" else WORDS.findall(text)

    def _numbers(self, tokens: list[str]) -> np.ndarray:
        place = {token: i for i, token in enumerate(self.tokens_)}
        return np.array([place.get(token, 0) for token in tokens], "int32")


def _joined(X: Any) -> str:
    joined = X if isinstance(X, str) else "\n".join(texts_in(X))
    if not joined:
        raise DataError("the text is empty.")
    return joined


def _frequent(tokens: list[str], most: int) -> list[str]:
    """The different tokens, most frequent first, those equally frequent in alphabetical order."""
    found, counts = np.unique(np.array(tokens, object).astype(str), return_counts=True)
    return [str(token) for token in found[np.argsort(-counts, kind="stable")]][:most]


def _examples(numbers: np.ndarray, length: int, overlap: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of ``length`` tokens and what follows each token in them; both ``(pieces, length)``.

    A rest that is shorter than a piece is left out; with ``overlap`` the last piece begins earlier to reach the end, and
    what follows tokens that were there before is -1.
    """
    starts = np.arange(0, len(numbers) - length, length)
    x = np.stack([numbers[s : s + length] for s in starts])
    y = np.stack([numbers[s + 1 : s + length + 1] for s in starts])
    rest = len(numbers) - 1 - length * len(starts)
    if overlap and rest:
        last = numbers[-length - 1 :]
        follows = np.where(np.arange(length) < length - rest, -1, last[1:])
        x, y = np.vstack([x, last[:-1]]), np.vstack([y, follows])
    return x, y
