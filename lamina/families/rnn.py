"""Recurrent networks that tell texts or series apart. Their kin: ``rnn_forecaster.py`` and ``rnn_language.py``."""

import re
from collections.abc import Mapping
from typing import Any, Self

import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from lamina.core.errors import ConfigError, DataError, ShapeError, nearest
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.families.base import Family, finite, held_out, whole
from lamina.families.labels import class_weights, encoded
from lamina.families.rnn_forecaster import RNNForecaster
from lamina.families.rnn_language import RNNLanguageModel
from lamina.families.tokenizer import texts_in
from lamina.layers import (
    GRU,
    LSTM,
    Bidirectional,
    Dropout,
    Embedding,
    Input,
    Layer,
    Masking,
    Normalization,
    TextVectorization,
    concatenate,
)
from lamina.layers.base import layer
from lamina.models.head import head_for
from lamina.models.model import Model
from lamina.optimizers import AdamW
from lamina.schedules import CosineDecay

__all__ = ["RNNClassifier", "RNNForecaster", "RNNLanguageModel"]

CELLS = {"gru": GRU, "lstm": LSTM}


@register("texts")
def words_and_signs(texts: np.ndarray) -> np.ndarray:
    """Texts in lower case with spaces around each sign, so that ``"free!!"`` has three terms.

    >>> words_and_signs(np.array(["Free!!"], object)).tolist()
    ['free ! !']
    """
    return np.array([" ".join(re.findall(r"\w+|[^\w\s]", text.lower())) for text in texts.ravel()], object)


@layer
class HeadAndTail(TextVectorization):
    """As :class:`TextVectorization`, but of a text that is too long the middle is left out instead of the end.

    >>> cut = HeadAndTail(vocabulary=["a", "b", "c", "d"], output_sequence_length=2)
    >>> cut(["a b c d"]).tolist()
    [[2, 5]]
    """

    def tokenize(self, texts: Any) -> list[list[str]]:
        most = self.output_sequence_length
        rows = super().tokenize(texts)
        return [row if most is None or len(row) <= most else row[: most // 2] + row[most // 2 - most :] for row in rows]


@layer
class PoolOverTime(Layer):
    """The greatest and the mean value of each feature over the steps that count, side by side.

    Input ``(batch, steps, features)`` with a mask ``(batch, steps)``; output ``(batch, 2 * features)``, zeros for a
    sequence without steps.

    >>> PoolOverTime()(jnp.array([[[1.0], [3.0]]])).tolist()
    [[3.0, 2.0]]
    """

    supports_masking = True

    def call(self, inputs: Array, mask: Any = None) -> Array:
        counts = jnp.ones(inputs.shape[:2], bool) if mask is None else jnp.asarray(mask, bool)
        counts = counts[..., None]
        some = counts.any(axis=1)
        greatest = jnp.where(counts, inputs, -jnp.inf).max(axis=1)
        mean = jnp.where(counts, inputs, 0).sum(axis=1) / jnp.maximum(counts.sum(axis=1), 1)
        return jnp.concatenate([jnp.where(some, greatest, 0), mean], axis=-1).astype(inputs.dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return None


def network(
    inputs: Any, steps: Any, head: Layer, cell: str, units: int, depth: int, bidirectional: bool, dropout: float
) -> Model:
    """A recurrent network over ``steps``, a sequence of vectors made from ``inputs``.

    The outputs of all steps are pooled, next to the vectors themselves: a single telling word or moment counts wherever
    it stands.
    """
    x = Dropout(dropout)(steps)
    pooled = [PoolOverTime()(x)]
    for _ in range(depth):
        recurrent = CELLS[cell](units, return_sequences=True)
        x = Bidirectional(recurrent)(x) if bidirectional else recurrent(x)
    pooled.append(PoolOverTime()(x))
    return Model(inputs, head(Dropout(dropout)(concatenate(pooled))))


class RNNClassifier(ClassifierMixin, BaseEstimator, Family):
    """Classes of texts or of series.

    Args:
        cell: ``"gru"`` or ``"lstm"``.
        units: the length of the state.
        layers: how many recurrent layers stand on each other.
        bidirectional: whether sequences are read in both directions.
        embedding: the length of a word's vector.
        max_words: how many words and signs, the most frequent ones, have a vector of their own.
        length: how many words of a text are read, of longer ones the first and the last; by the texts' lengths, at most
            400, if ``None``.
        dropout: the share of vectors and features that is dropped in training.
        class_weight: how much each class counts: class -> factor, or ``"balanced"`` for equal shares.
        learning_rate: the largest step; it falls to nothing along a cosine.
        epochs: passes over the data; by their number if ``None``.
        batch_size: examples in a step.
        validation_fraction: the share held back to stop early; none of fewer than 20 examples.
        patience: epochs without getting better before stopping; a third of all if ``None``, 0 never to stop.
        verbose: 0 for silence, 1 for a bar, 2 for a line an epoch, ``"auto"`` for a bar in a terminal.
        random_state: the seed.
        warm_start: whether ``fit`` goes on from where the last one ended, with the vocabulary or scale of then.

    ``fit(X, y)`` takes texts (a list, an array, a column of pandas or polars), or series: an array ``(n, steps,
    features)`` or ``(n, steps)``, or a list of arrays ``(steps, features)`` of unequal lengths, which are padded and masked.
    Words not seen in training share one vector; a text without any is allowed and gets what the network takes for usual.

    >>> texts = ["good film", "bad film", "good book", "bad book"] * 5
    >>> model = RNNClassifier(units=4, embedding=8, epochs=30, learning_rate=0.03, random_state=0).fit(texts, [1, 0] * 10)
    >>> model.predict(["good good film", "bad bad book"]).tolist()
    [1, 0]
    """

    _kept = ("classes_", "text_", "features_", "steps_")

    classes_: np.ndarray
    #: whether texts were learnt from; otherwise how many features a step of a series has, and the longest series
    text_: bool
    features_: int
    steps_: int

    def __init__(
        self,
        cell: str = "gru",
        units: int = 64,
        layers: int = 1,
        bidirectional: bool = True,
        embedding: int = 64,
        max_words: int = 20_000,
        length: int | None = None,
        dropout: float = 0.3,
        class_weight: Mapping[Any, float] | str | None = None,
        learning_rate: float = 3e-3,
        epochs: int | None = None,
        batch_size: int = 32,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        verbose: int | str = "auto",
        random_state: int | None = None,
        warm_start: bool = False,
    ) -> None:
        self.cell, self.units, self.layers, self.bidirectional = cell, units, layers, bidirectional
        self.embedding, self.max_words, self.length = embedding, max_words, length
        self.dropout, self.class_weight, self.learning_rate = dropout, class_weight, learning_rate
        self.epochs, self.batch_size = epochs, batch_size
        self.validation_fraction, self.patience = validation_fraction, patience
        self.verbose, self.random_state, self.warm_start = verbose, random_state, warm_start

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from texts or series.

        Args:
            X: texts or series.
            y: the class of each.

        Raises:
            DataError: for something else than texts or numbers, NaN, texts that are all empty, one class, a class with one
                example, or one that was not there before with ``warm_start``.
            ShapeError: for series with different numbers of features.
        """
        goes_on = self.warm_start and "model_" in vars(self)
        if not goes_on:
            self.text_ = is_text(X)
            self.features_ = self.steps_ = 0
        x = self._inputs(X)
        self.classes_, places = encoded(y, len(x), before=self.classes_ if goes_on else None)
        count = len(self.classes_)
        targets = places[:, None].astype("float32") if count == 2 else places
        epochs = whole("epochs", int(np.clip(30_000 / len(x), 6, 40)) if self.epochs is None else self.epochs)
        batch = whole("batch_size", self.batch_size)
        with self._seeded() as seed:
            learnt, watched = held_out(len(x), self.validation_fraction, seed, places)
            model = self.model_ if goes_on else self._network(x[learnt], head_for(np.arange(count)).layer)
            steps = epochs * -(-len(learnt) // batch)
            self._train(
                model,
                x[learnt],
                targets[learnt],
                (x[watched], targets[watched]) if len(watched) else None,
                loss="binary_crossentropy" if count == 2 else "sparse_categorical_crossentropy",
                metrics=["accuracy"],
                optimizer=AdamW(CosineDecay(self.learning_rate, steps), weight_decay=1e-2, global_clipnorm=1.0),
                epochs=epochs,
                batch_size=batch,
                class_weight=class_weights(self.class_weight, self.classes_, places),
            )
        return self

    def _network(self, x: np.ndarray, head: Layer) -> Model:
        if self.cell not in CELLS:
            raise ConfigError(f"cell={self.cell!r} is not known. {nearest(str(self.cell), CELLS)}")
        if self.text_:
            inputs = Input((), dtype="string")
            vectorize = TextVectorization(whole("max_words", self.max_words, 3), standardize=words_and_signs)
            lengths = [len(words) for words in vectorize.tokenize(x)]
            if not any(lengths):
                raise DataError("every text is empty: there is no word to learn from.")
            length = max(1, min(int(np.quantile(lengths, 0.95)), 400)) if self.length is None else self.length
            vectorize.adapt(x)
            vectorize = HeadAndTail(
                vocabulary=vectorize.get_vocabulary()[2:],
                standardize=words_and_signs,
                output_sequence_length=whole("length", length),
            )
            vectors = Embedding(vectorize.vocabulary_size(), whole("embedding", self.embedding), mask_zero=True)
            steps = vectors(vectorize(inputs))
        else:
            inputs = Input((None, self.features_ + 1))
            seen = x[x[..., -1] > 0].astype("float64")
            variance = seen.var(axis=0)
            steps = Masking()(inputs)  # the last feature is 1 where there is a step
            steps = Normalization(
                mean=seen.mean(axis=0).tolist(), variance=np.where(variance > 0, variance, 1).tolist()
            )(steps)
        return network(
            inputs,
            steps,
            head,
            self.cell,
            whole("units", self.units),
            whole("layers", self.layers),
            bool(self.bidirectional),
            self.dropout,
        )

    def _inputs(self, X: Any) -> np.ndarray:
        """``X`` as the network takes it: texts ``(n,)``, or padded series with a feature more that says where they are."""
        if self.text_ != is_text(X):
            raise DataError(f"the network was trained on {'texts' if self.text_ else 'series'}, and these are none.")
        if self.text_:
            return np.array([*texts_in(X), None], object)[:-1]  # None keeps it an array of objects
        series = as_series(X)
        features = series[0].shape[1]
        self.features_ = self.features_ or features
        if features != self.features_:
            raise ShapeError(f"a step has {self.features_} features; received series with {features}.")
        longest = max(len(one) for one in series)
        self.steps_ = self.steps_ or longest
        padded = np.zeros((len(series), max(self.steps_, longest), features + 1), "float32")
        for row, one in zip(padded, series, strict=True):
            row[: len(one), :-1], row[: len(one), -1] = one, 1
        return padded

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class ``(n, classes)``, in the order of ``classes_``."""
        self.model  # noqa: B018 - for its error
        p = self._forward(self._inputs(X)).astype("float64")
        p = np.hstack([1 - p, p]) if len(self.classes_) == 2 else p
        return p / p.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each text or series, shape ``(n,)``."""
        p = self.predict_proba(X)
        return self.classes_[p.argmax(axis=1)]


def is_text(X: Any) -> bool:
    """Whether ``X`` holds texts rather than numbers."""
    if isinstance(X, str):
        raise DataError("a list of texts is expected; received a single one.\nWrite:  [X]")
    X = np.asarray(X) if hasattr(X, "columns") else X
    try:
        entries = list(X.ravel() if isinstance(X, np.ndarray) and X.dtype.kind in "OUST" else X)
    except TypeError:
        entries = []
    if not entries:
        raise DataError(f"texts or series are expected; received {X!r}")
    return any(isinstance(entry, str | bytes) or entry is None for entry in entries)


def as_series(X: Any) -> list[np.ndarray]:
    """Series as arrays ``(steps, features)``; the rows of a data frame are series of one feature.

    Raises:
        DataError: for what holds no numbers, no steps, or NaN.
        ShapeError: for other shapes, or different numbers of features.
    """
    found: list[np.ndarray] = []
    for i, one in enumerate(np.asarray(X) if hasattr(X, "columns") else X):
        series = np.asarray(one)
        if series.dtype.kind not in "biuf":
            raise DataError(f"X[{i}] is expected to hold numbers; received an array of dtype {series.dtype}")
        series = series[:, None] if series.ndim == 1 else series
        if series.ndim != 2 or not series.size:
            raise ShapeError(f"X[{i}] is expected to have shape (steps, features); received {np.shape(one)}")
        if found and series.shape[1] != found[0].shape[1]:
            raise ShapeError(f"X[0] has {found[0].shape[1]} features a step and X[{i}] has {series.shape[1]}.")
        finite(f"X[{i}]", series)
        found.append(series)
    return found
