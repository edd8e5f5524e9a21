"""Transformers for understanding texts, as BERT does it: pretraining without classes, then fine-tuning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from lamina.core.errors import ConfigError, DataError, StateError
from lamina.data.batches import ArrayData
from lamina.families.base import Family, check_is_fitted, held_out, whole
from lamina.families.labels import class_weights, encoded
from lamina.families.tokenizer import (
    PADDING,
    SPECIAL,
    AnyTokenizer,
    padded,
    read_texts,
    texts_in,
    tokenizer_from,
    train_tokenizer,
)
from lamina.families.transformer_network import (
    MaskedLanguageModel,
    TextClassifier,
    TextVectors,
    Transformer,
    outputs,
)
from lamina.families.transformer_pretrained import read_folder
from lamina.families.transformer_training import Batches, optimizer_for
from lamina.losses import SparseCategoricalCrossentropy

#: the share of tokens that a network has to guess in pretraining
GUESSED = 0.2


class TransformerClassifier(ClassifierMixin, BaseEstimator, Family):
    """Classes of texts, as BERT finds them: a network that may first learn the language from texts without classes.

    Args:
        layers: the number of blocks.
        width: the length of a token's vector.
        heads: heads of attention, a divisor of ``width``.
        context: how many tokens are seen at a time.
        pieces: into how many pieces of ``context`` tokens a longer text is cut, each of which is judged, and the judgements
            averaged; what is beyond is cut off.
        dropout: the fraction to drop in training.
        tokenizer: ``"bpe"`` for byte pairs learnt from the texts, or ``"characters"``.
        vocabulary_size: the number of byte-pair tokens.
        pooling: how a text's vector is made: ``"mean"`` of the tokens, ``"cls"`` (the first) or ``"last"``.
        encoder: a folder with a pretrained network to start from (see :class:`TransformerEncoder`); its sizes, pooling
            aside, and its tokenizer then take the place of those above.
        epochs: how many epochs to train for, at most.
        batch_size: how many texts a step takes.
        learning_rate: the highest rate; it rises to it in a straight line and falls along a cosine.
        pretrain_epochs: how many epochs :meth:`pretrain` takes, at most.
        pretrain_learning_rate: the highest rate there.
        warmup: the share of the steps in which the rate rises.
        weight_decay: how much weights are drawn to zero.
        class_weight: class -> the weight of its examples, or ``"balanced"`` for the inverse of how often it occurs.
        validation_fraction: the share of the texts that is watched over training.
        patience: how many epochs without getting better to allow; 0 for all of them.
        verbose: 0 for silence, 1 for a progress bar, 2 for a line an epoch.
        random_state: decides first weights, order, hidden tokens and dropout.
        warm_start: whether ``fit`` goes on with the present weights.

    Attributes:
        model_: the network, a :class:`TextClassifier` (after :meth:`pretrain` alone, a :class:`MaskedLanguageModel`).
        classes_: the classes.
        vocabulary_: the tokenizer as JSON.
        pretrained_: what :meth:`pretrain` made; every later ``fit`` starts from it. A file written after ``fit`` holds
            the network of ``fit`` alone.

    An empty text is a text of no words and has its class as others do. A class with one text is learnt like the others.

    Devlin et al. (2018), https://arxiv.org/abs/1810.04805

    >>> texts = ["sun", "rain", "sun sun", "rain rain"] * 8
    >>> settings = {"layers": 1, "width": 16, "heads": 2, "context": 8, "epochs": 20, "tokenizer": "characters"}
    >>> model = TransformerClassifier(**settings, learning_rate=1e-2, patience=0, random_state=0, verbose=0)
    >>> model.fit(texts, ["good", "bad", "good", "bad"] * 8).predict(["sun", "rain"]).tolist()
    ['good', 'bad']
    """

    _kept: ClassVar[tuple[str, ...]] = ("vocabulary_", "classes_", "context_")
    _folders = ("encoder",)

    vocabulary_: str
    classes_: np.ndarray
    context_: int
    pretrained_: MaskedLanguageModel

    def __init__(
        self,
        layers: int = 2,
        width: int = 128,
        heads: int = 4,
        context: int = 128,
        pieces: int = 4,
        dropout: float = 0.1,
        tokenizer: str = "bpe",
        vocabulary_size: int = 4000,
        pooling: str = "mean",
        encoder: str | Path | None = None,
        epochs: int = 10,
        batch_size: int = 32,
        learning_rate: float = 5e-4,
        pretrain_epochs: int = 10,
        pretrain_learning_rate: float = 1e-3,
        warmup: float = 0.1,
        weight_decay: float = 0.01,
        class_weight: Mapping[Any, float] | str | None = None,
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
        self.pieces = pieces
        self.dropout = dropout
        self.tokenizer = tokenizer
        self.vocabulary_size = vocabulary_size
        self.pooling = pooling
        self.encoder = encoder
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.pretrain_epochs = pretrain_epochs
        self.pretrain_learning_rate = pretrain_learning_rate
        self.warmup = warmup
        self.weight_decay = weight_decay
        self.class_weight = class_weight
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.verbose = verbose
        self.random_state = random_state
        self.warm_start = warm_start

    def pretrain(self, texts: Any) -> Self:
        """Learn the language of texts without classes: some tokens are hidden, and the network guesses them.

        Args:
            texts: a list of strings, a string, or the path of a text file.

        Raises:
            DataError: if there is no text.
            ConfigError: for an argument that is not valid, or a tokenizer that has no token to hide others with.
        """
        texts = read_texts(texts)
        with self._seeded() as seed:
            transformer = self._begin(texts)
            tokenizer, batch = self.tokenizer_, whole("batch_size", self.batch_size)
            mask = tokenizer.mask
            if mask is None:
                raise ConfigError("the tokenizer of this encoder has no mask token, so it cannot be pretrained.")
            rows = padded(self._pieces(texts, all_of_them=True)[0])
            kept, watched = held_out(len(rows), self.validation_fraction, seed)
            model = MaskedLanguageModel(transformer)
            shapes = {"tokens": rows.shape[1], "places": 1}
            model.build_for({"dict": {name: {"shape": [None, n], "dtype": "int32"} for name, n in shapes.items()}})
            rng = np.random.Generator(np.random.Philox(key=[seed, 1]))
            order: list[int] = []

            def hide(rows: np.ndarray) -> Any:
                return hidden(rows, mask, tokenizer.size, rng)

            def riddles() -> Any:
                while len(order) < min(batch, len(kept)):
                    order.extend(rng.permutation(kept))
                now, order[:] = order[:batch], order[batch:]
                return hide(rows[now])

            steps, epochs = -(-len(kept) // batch), whole("pretrain_epochs", self.pretrain_epochs)
            validation = ArrayData(hide(rows[watched]), len(watched), batch) if len(watched) else None
            self._train(
                model,
                Batches(riddles, steps),
                validation=validation,
                loss=SparseCategoricalCrossentropy(from_logits=True, ignore_class=PADDING),
                optimizer=optimizer_for(self.pretrain_learning_rate, self.warmup, self.weight_decay, epochs * steps),
                epochs=epochs,
                batch_size=batch,
            )
            self.pretrained_ = model
        return self

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the classes ``y`` of the texts ``X``, from what :meth:`pretrain` learnt if it was called.

        Args:
            X: texts, a list or array of strings.
            y: a class for each.

        Raises:
            DataError: if there is but one class, a class is missing, or every text is empty.
            ShapeError: if there is not one class for each text.
            ConfigError: for an argument that is not valid.
        """
        texts = texts_in(X)
        if not any(texts):
            raise DataError("every text of X is empty: there is nothing to learn from.")
        going_on = self.warm_start and isinstance(getattr(self, "model_", None), TextClassifier)
        classes, labels = encoded(y, len(texts), least=1, before=self.classes_ if going_on else None)
        with self._seeded() as seed:
            if going_on:
                model = self.model_
            else:
                model, self.classes_ = self._network(texts, len(classes)), classes
            pieces, texts_of = self._pieces(texts)
            kept, watched = held_out(len(texts), self.validation_fraction, seed, labels)
            weights = len(pieces) / len(texts) / np.bincount(texts_of)[texts_of]  # every text counts as much
            x, y, weights = padded(pieces), labels[texts_of], weights.astype("float32")
            now, later = np.isin(texts_of, kept), np.isin(texts_of, watched)
            batch, epochs = whole("batch_size", self.batch_size), whole("epochs", self.epochs)
            steps = -(-int(now.sum()) // batch)
            self._train(
                model,
                x[now],
                y[now],
                sample_weight=weights[now],
                validation=ArrayData((x[later], y[later], weights[later]), later.sum(), batch)
                if len(watched)
                else None,
                loss="sparse_categorical_crossentropy",
                metrics=["accuracy"],
                optimizer=optimizer_for(self.learning_rate, self.warmup, self.weight_decay, epochs * steps),
                epochs=epochs,
                batch_size=batch,
                class_weight=class_weights(self.class_weight, self.classes_, labels[kept]),
            )
        return self

    def _pieces(self, texts: list[str], all_of_them: bool = False) -> tuple[list[np.ndarray], np.ndarray]:
        """Pieces of up to ``context`` tokens, each with the text's first token in front, and which text each is of."""
        size = max(self.context_ - 1, 1)
        limit = None if all_of_them else 1 + size * whole("pieces", self.pieces)
        pieces, texts_of = [], []
        for number, row in enumerate(self.tokenizer_.encode(texts, limit)):
            for at in range(1, max(len(row), 2), size):
                pieces.append(np.concatenate([row[:1], row[at : at + size]])[: self.context_])
                texts_of.append(number)
        return pieces, np.array(texts_of)

    def _network(self, texts: list[str], classes: int) -> TextClassifier:
        before = self._pretrained()
        transformer = self._begin(texts, before)
        model = TextClassifier(TextVectors(transformer, self.pooling), classes, self.dropout)
        model.build((None, self.context_))
        return model

    def _begin(self, texts: list[str], before: MaskedLanguageModel | None = None) -> Transformer:
        """The transformer to start with: pretrained, from a folder or new; and its tokenizer."""
        context = whole("context", self.context)
        found: Transformer | None = None
        if before is not None:
            found = before.transformer
        elif self.encoder is not None:
            found, self.vocabulary_ = read_folder(self.encoder)
        else:
            trained = train_tokenizer(self.tokenizer, texts, whole("vocabulary_size", self.vocabulary_size))
            self.vocabulary_ = trained.to_json()
        if found is None:
            return self._built(
                Transformer(self.tokenizer_.size, context, self.layers, self.width, self.heads, dropout=self.dropout)
            )
        new = self._built(Transformer.from_config(found.get_config() | {"dropout": self.dropout}))
        new.set_weights(found.get_weights())
        return new

    def _built(self, transformer: Transformer) -> Transformer:
        self.context_ = min(self.context, transformer.context)
        transformer.build((None, self.context_))
        return transformer

    def _pretrained(self) -> MaskedLanguageModel | None:
        if isinstance(getattr(self, "model_", None), MaskedLanguageModel):  # so it is after load
            self.pretrained_ = self.model_
        return getattr(self, "pretrained_", None)

    @property
    def tokenizer_(self) -> AnyTokenizer:
        """The tokenizer, after ``fit`` or ``pretrain``."""
        check_is_fitted(self, "vocabulary_")
        return tokenizer_from(self.vocabulary_)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class of :attr:`classes_`, ``(texts, classes)``.

        Raises:
            StateError: if only :meth:`pretrain` was called.
        """
        check_is_fitted(self)
        if not isinstance(self.model_, TextClassifier):
            raise StateError(
                "this TransformerClassifier is pretrained, but knows no classes yet.\nWrite:  model.fit(X, y)"
            )
        pieces, texts_of = self._pieces(texts_in(X))
        shares = outputs(self.model_, pieces, self.context_)
        total = np.zeros((texts_of[-1] + 1, shares.shape[1]), shares.dtype)
        np.add.at(total, texts_of, shares)
        return total / np.bincount(texts_of)[:, None].astype(shares.dtype)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each text."""
        shares = self.predict_proba(X)
        return self.classes_[np.argmax(shares, axis=1)]


def hidden(
    rows: np.ndarray, mask: int, size: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows of tokens with some hidden: the network's inputs, and the tokens to guess (padding where there are fewer).

    Of the tokens to guess, eight of ten are replaced by the mask, one by another token, and one is left as it is.
    """
    count = max(1, round(GUESSED * rows.shape[1]))
    chance = rng.random(rows.shape)
    chance[rows < 0] = 2
    chance[:, 0] = 1.5  # the first token stands for the text; it is guessed only where there is no other
    places = np.argsort(chance, axis=1)[:, :count]
    wanted = np.maximum(1, np.round(GUESSED * (rows >= 0).sum(axis=1, keepdims=True)))
    counts = (np.take_along_axis(rows, places, 1) >= 0) & (np.arange(count) < wanted)
    answers = np.where(counts, np.take_along_axis(rows, places, 1), PADDING).astype("int32")
    how = rng.random(places.shape)
    shown = np.where(how < 0.8, mask, np.where(how < 0.9, rng.integers(len(SPECIAL), size, places.shape), answers))
    tokens = rows.copy()
    np.put_along_axis(tokens, places, np.where(counts, shown, np.take_along_axis(rows, places, 1)).astype("int32"), 1)
    return {"tokens": tokens, "places": places.astype("int32")}, answers
