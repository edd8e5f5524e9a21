"""Transformers for language: generation as GPT does it; beside it, understanding as BERT does it, and pretrained ones."""

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np

from lamina.core.errors import DataError
from lamina.core.keys import chances
from lamina.data.batches import ArrayData
from lamina.families.base import Family, check_is_fitted, share, whole
from lamina.families.tokenizer import END, PADDING, AnyTokenizer, padded, read_texts, tokenizer_from, train_tokenizer
from lamina.families.transformer_network import LanguageModel, Transformer, writable
from lamina.families.transformer_training import Batches, optimizer_for
from lamina.families.writing import STRETCH, Writer
from lamina.losses import SparseCategoricalCrossentropy


class TransformerLanguageModel(Writer, Family):
    """A network that goes on with a text, as GPT does: it learns to tell each token from those before it.

    Args:
        layers: the number of blocks.
        width: the length of a token's vector.
        heads: heads of attention, a divisor of ``width``.
        context: how many tokens are seen at a time.
        dropout: the fraction to drop in training; above 0 where the text is short.
        tokenizer: ``"characters"``, or ``"bpe"`` for byte pairs learnt from the text.
        vocabulary_size: the number of byte-pair tokens.
        epochs: how many epochs to train for, at most.
        steps_per_epoch: the steps of an epoch; as many as go through the text once if none are given.
        batch_size: how many pieces of text, of ``context`` tokens, a step takes.
        learning_rate: the highest rate; it rises to it in a straight line and falls along a cosine.
        warmup: the share of the steps in which it rises.
        weight_decay: how much weights are drawn to zero.
        validation_fraction: the share of the text, its end, that is watched over training.
        patience: how many epochs without getting better to allow; 0 for all of them.
        verbose: 0 for silence, 1 for a progress bar, 2 for a line an epoch.
        random_state: decides first weights, pieces and dropout.
        warm_start: whether ``fit`` goes on with the present weights and tokenizer.

    Attributes:
        model_: the network, a :class:`LanguageModel`.
        vocabulary_: the tokenizer as JSON.
        steps_: how many steps were trained.
        ends_: whether it learnt where texts end, which takes several texts.

    With ``tokenizer="characters"``, a character that was not in the text is read as one unknown token, which the network
    has never seen; it is never generated. Byte pairs know every character.

    Radford et al. (2019), *Language models are unsupervised multitask learners*

    >>> settings = {"layers": 1, "width": 16, "heads": 2, "context": 8, "epochs": 1, "verbose": 0}
    >>> model = TransformerLanguageModel(**settings, random_state=0).fit("to be or not to be " * 8)
    >>> len(model.generate("to be", max_tokens=5, random_state=0))
    5
    """

    _kept: ClassVar[tuple[str, ...]] = ("vocabulary_", "steps_", "ends_")

    vocabulary_: str
    steps_: int
    ends_: bool

    def __init__(
        self,
        layers: int = 4,
        width: int = 128,
        heads: int = 4,
        context: int = 128,
        dropout: float = 0.0,
        tokenizer: str = "characters",
        vocabulary_size: int = 2000,
        epochs: int = 10,
        steps_per_epoch: int | None = None,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        warmup: float = 0.05,
        weight_decay: float = 0.1,
        validation_fraction: float = 0.1,
        patience: int = 3,
        verbose: int | str = "auto",
        random_state: int | None = None,
        warm_start: bool = False,
    ) -> None:
        self.layers = layers
        self.width = width
        self.heads = heads
        self.context = context
        self.dropout = dropout
        self.tokenizer = tokenizer
        self.vocabulary_size = vocabulary_size
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.warmup = warmup
        self.weight_decay = weight_decay
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.verbose = verbose
        self.random_state = random_state
        self.warm_start = warm_start

    def fit(self, texts: Any, y: Any = None) -> Self:
        """Learn the language of ``texts``.

        Args:
            texts: a string, the path of a text file, or a list of strings; empty ones are left out.
            y: not used.

        Raises:
            DataError: if there are fewer tokens than the network sees at a time.
            ConfigError: for an argument that is not valid.
        """
        texts = read_texts(texts)
        going_on = self.warm_start and hasattr(self, "model_")
        context = self.model_.transformer.context if going_on else whole("context", self.context)
        batch, epochs = whole("batch_size", self.batch_size), whole("epochs", self.epochs)
        share("validation_fraction", self.validation_fraction)
        with self._seeded() as seed:
            if not going_on:
                trained = train_tokenizer(self.tokenizer, texts, whole("vocabulary_size", self.vocabulary_size))
                self.vocabulary_, self.steps_ = trained.to_json(), 0
            self.ends_ = len(texts) > 1
            tokens = np.concatenate(self.tokenizer_.encode(texts))
            learned = tokens[: len(tokens) - int(self.validation_fraction * len(tokens))]
            if len(learned) <= context:
                raise DataError(
                    f"the text has {len(learned)} tokens to learn from; with context={context} the network sees "
                    f"{context} and has to tell the next one.\nWrite:  {type(self).__name__}(context="
                    f"{max(1, len(learned) // 4)}), or give more text."
                )
            model = self.model_ if going_on else self._network(self.tokenizer_.size)
            once = -(-(len(learned) - 1) // (batch * context))
            steps = whole("steps_per_epoch", once if self.steps_per_epoch is None else self.steps_per_epoch)
            rng = np.random.Generator(np.random.Philox(key=[seed, self.steps_]))

            def pieces() -> tuple[np.ndarray, np.ndarray]:
                starts = rng.integers(0, len(learned) - context, batch)
                rows = learned[starts[:, None] + np.arange(context + 1)]
                return rows[:, :-1], rows[:, 1:]

            self._train(
                model,
                Batches(pieces, steps),
                validation=_pairs(tokens[len(learned) :], context, batch),
                loss=SparseCategoricalCrossentropy(from_logits=True),
                optimizer=optimizer_for(self.learning_rate, self.warmup, self.weight_decay, epochs * steps),
                epochs=epochs,
                batch_size=batch,
            )
            self.steps_ += self.n_iter_ * steps
        return self

    def _network(self, vocabulary: int) -> LanguageModel:
        transformer = Transformer(
            vocabulary, self.context, self.layers, self.width, self.heads, causal=True, dropout=self.dropout
        )
        model = LanguageModel(transformer)
        model.build((None, self.context))
        return model

    @property
    def tokenizer_(self) -> AnyTokenizer:
        """The tokenizer, after ``fit``."""
        check_is_fitted(self, "vocabulary_")
        return tokenizer_from(self.vocabulary_)

    def _next_tokens(self, prompt: str, sizes: Iterator[int], key: Any, settings: tuple[Any, ...]) -> Iterator[int]:
        # When the context is full, its second half is read anew. Of a long prompt the end is seen.
        model: LanguageModel = self.model_
        seen = self.tokenizer_.encode([prompt])[0].tolist()
        context = position = model.transformer.context
        allowed = writable(model.transformer.vocabulary, self.ends_)
        caches: Any = None
        done = 0
        for size in sizes:
            until = done + size
            while done < until:
                if position == context:
                    seen = seen if len(seen) < context else seen[-max(context // 2, 1) :]
                    position, length, some = 0, len(seen), 1
                    rows = padded([np.asarray(seen)], min(context, 1 << (length - 1).bit_length()))[0]
                    caches = model.transformer.empty_caches()
                else:
                    length, some = 1, min(until - done, context - position)
                    rows = np.array(seen[-1:], "int32")
                numbers = map(np.int32, (length, position, some))
                chance = chances(key, done, 1 if length > 1 else STRETCH)
                found, caches = model.write(caches, rows, *numbers, chance, *settings, allowed)
                tokens, position = np.asarray(found)[:some].tolist(), position + length + some - 1
                done += len(tokens)
                for token in tokens:
                    if token == END:
                        return
                    seen.append(token)
                    yield token

    def _text(self, tokens: list[int]) -> str:
        return self.tokenizer_.decode(tokens)

    def score(self, texts: Any, y: Any = None) -> float:
        """The mean logarithm of the probability of a token, which is minus the loss: higher is better.

        Texts are judged in pieces of ``context`` tokens, as in validation.

        Args:
            texts: as for :meth:`fit`.
            y: not used.
        """
        check_is_fitted(self)
        context = self.model_.transformer.context
        total, count = 0.0, 0
        for tokens in self.tokenizer_.encode(read_texts(texts)):
            rows = padded([tokens[at : at + context + 1] for at in range(0, len(tokens) - 1, context)], context + 1)
            for at in range(0, len(rows), 16):
                part = np.full((16, context + 1), PADDING, "int32")
                part[: len(rows[at : at + 16])] = rows[at : at + 16]
                total += float(np.asarray(self.model_.likelihoods(part)).sum(dtype="float64"))
            count += len(tokens) - 1
        return total / count

    def perplexity(self, texts: Any) -> float:
        r"""How many tokens, equally likely, the network hesitates between: :math:`e^{-s}` for :meth:`score` :math:`s`."""
        return math.exp(-self.score(texts))


def _pairs(tokens: np.ndarray, context: int, batch: int) -> ArrayData | None:
    """Pieces of ``context`` tokens one after the other, each with the tokens that follow; ``None`` if there is none."""
    count = (len(tokens) - 1) // context
    if count < 1:
        return None
    rows = np.arange(count)[:, None] * context + np.arange(context + 1)
    return ArrayData((tokens[rows][:, :-1], tokens[rows][:, 1:]), count, batch)
