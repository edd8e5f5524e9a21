"""Texts as numbers: TextVectorization, and Hashing where there is no vocabulary."""

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Self

import jax.numpy as jnp
import numpy as np

from lamina.core import allowance
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape, TensorSpec
from lamina.core.state import Array
from lamina.data.adapting import batches
from lamina.kernels.encoding import encode
from lamina.layers.base import layer
from lamina.layers.checks import check_choice, refuse_sparse
from lamina.layers.host import HostLayer, check_salt, encoded_spec, hash_to_bins, strings
from lamina.layers.lookup import StringLookup

__all__ = ["HashedCrossing", "Hashing", "TextVectorization"]

_PUNCTUATION = {ord(character): None for character in string.punctuation}

STANDARDIZE: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "strip_punctuation": lambda text: text.translate(_PUNCTUATION),
    "lower_and_strip_punctuation": lambda text: text.lower().translate(_PUNCTUATION),
}
SPLIT: dict[str, Callable[[str], list[str]]] = {"whitespace": str.split, "character": list}


@layer
class TextVectorization(HostLayer):
    """Texts as sequences of word indices, or as vectors of word counts.

    Args:
        max_tokens: the most terms to keep, the two special ones included.
        standardize: ``"lower_and_strip_punctuation"``, ``"lower"``, ``"strip_punctuation"``, ``None``, or a function
            from an array of texts to one.
        split: ``"whitespace"``, ``"character"``, ``None`` (each entry is a term), or a function from an array of texts
            to a list of terms for each.
        ngrams: ``n`` for runs of 1 to ``n`` terms as terms, or a tuple of lengths of runs.
        output_mode: ``"int"`` (0 is padding, 1 an unknown term), ``"multi_hot"``, ``"count"`` or ``"tf_idf"``.
        output_sequence_length: the length that sequences are cut or padded to; that of the longest if ``None``.
        pad_to_max_tokens: whether vectors have length ``max_tokens`` however many terms there are.
        vocabulary: the terms, or the path of a text file with one a line; else call ``adapt``.
        idf_weights: the inverse document frequency of each term, for ``"tf_idf"``.
        sparse: must be ``False``.
        ragged: must be ``False``.
        encoding: how bytes become strings.

    Input ``(batch,)`` or ``(batch, 1)``, of strings; output ``(batch, length)`` or ``(batch, terms)``.

    >>> vectorize = TextVectorization(output_sequence_length=4)
    >>> vectorize.adapt(["foo bar", "bar baz", "baz bada boom"])
    >>> vectorize(["Foo, qux bar!"]).tolist(), vectorize.get_vocabulary()[:4]
    ([[4, 1, 3, 0]], ['', '[UNK]', 'baz', 'bar'])
    """

    def __init__(
        self,
        max_tokens: int | None = None,
        standardize: Any = "lower_and_strip_punctuation",
        split: Any = "whitespace",
        ngrams: int | Sequence[int] | None = None,
        output_mode: str = "int",
        output_sequence_length: int | None = None,
        pad_to_max_tokens: bool = False,
        vocabulary: Any = None,
        idf_weights: Any = None,
        sparse: bool = False,
        ragged: bool = False,
        encoding: str = "utf-8",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if standardize is not None and not callable(standardize):
            check_choice(self, "standardize", standardize, tuple(STANDARDIZE))
        if split is not None and not callable(split):
            check_choice(self, "split", split, tuple(SPLIT))
        if ragged:
            raise ConfigError("TextVectorization gives padded arrays.\nWrite:  ragged=False")
        allowance.spend("TextVectorization(ngrams=...)", numbers=32 * ngrams if isinstance(ngrams, int) else 0)
        lengths = range(1, ngrams + 1) if isinstance(ngrams, int) else ngrams or (1,)
        if not lengths or not all(isinstance(n, int) and n > 0 for n in lengths):
            raise ConfigError(f"TextVectorization expects ngrams as lengths of at least 1; received {ngrams!r}")
        if output_sequence_length is not None and (output_mode != "int" or output_sequence_length < 1):
            raise ConfigError(
                "TextVectorization takes output_sequence_length, of at least 1, with output_mode='int' only; received "
                f"{output_sequence_length=}, {output_mode=}"
            )
        check_choice(self, "output_mode", output_mode, ("int", "multi_hot", "count", "tf_idf", "binary", "tf-idf"))
        self.lookup = StringLookup(
            max_tokens=max_tokens,
            mask_token="",
            vocabulary=vocabulary,
            idf_weights=idf_weights,
            output_mode=output_mode,
            pad_to_max_tokens=pad_to_max_tokens,
            sparse=sparse,
            encoding=encoding,
            name=f"{self.name}_lookup",
        )
        self.max_tokens = max_tokens
        self.standardize = standardize
        self.split = split
        self.ngrams = ngrams
        self.output_mode = self.lookup.output_mode
        self.output_sequence_length = output_sequence_length
        self.pad_to_max_tokens = pad_to_max_tokens
        self.sparse = sparse
        self.ragged = ragged
        self.encoding = encoding
        self._lengths = tuple(lengths)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        StringLookup.refuse_path(config)
        return super().from_config(config)

    @property
    def vocabulary(self) -> list[str] | None:
        """The vocabulary as it was given or learnt; ``None`` if there is none yet."""
        return self.lookup.vocabulary

    @property
    def idf_weights(self) -> list[float] | None:
        """The inverse document frequency of each term, for ``output_mode="tf_idf"``."""
        return self.lookup.idf_weights

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """The terms; with special tokens in front, a term's place is its index."""
        return self.lookup.get_vocabulary(include_special_tokens)

    def vocabulary_size(self) -> int:
        """How many terms and special tokens there are."""
        return self.lookup.vocabulary_size()

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Use these terms; as :meth:`StringLookup.set_vocabulary`."""
        self.lookup.set_vocabulary(vocabulary, idf_weights)

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Learn the vocabulary: the terms that occur, most frequent first; it takes the place of any former one.

        Args:
            data: texts, as an array, a list, a column of pandas or polars, or an iterable of batches.
            batch_size: not needed; taken because Keras has it.
            steps: how many batches to take; all by default.
        """
        self.lookup.learn(chain.from_iterable(self.tokenize(batch) for batch in batches(data, steps)))

    def tokenize(self, texts: Any) -> list[list[str]]:
        """The terms of each text, before they are looked up.

        >>> TextVectorization(ngrams=2).tokenize(["Good, bad."])
        [['good', 'bad', 'good bad']]
        """
        array = np.atleast_1d(strings(texts, self))
        if callable(self.standardize):
            array = np.asarray(self.standardize(array))
        elif self.standardize is not None:
            clean = STANDARDIZE[self.standardize]
            array = np.asarray([clean(text) for text in array.ravel().tolist()], object).reshape(array.shape)
        if self.split is not None and array.ndim > 1 and array.shape[1:] != (1,):
            raise ShapeError(
                f"layer {self.name!r} (TextVectorization) expected texts of shape (batch,) or (batch, 1); received "
                f"{array.shape}"
            )
        if self.split is None:
            rows = array.reshape(len(array), -1).tolist()
        elif callable(self.split):
            rows = [list(row) for row in self.split(array.ravel())]
        else:
            rows = [*map(SPLIT[self.split], array.ravel().tolist())]
        if self._lengths != (1,):
            rows = [[" ".join(row[i : i + n]) for n in self._lengths for i in range(len(row) - n + 1)] for row in rows]
        return rows

    def output_spec(self, spec: TensorSpec) -> TensorSpec:
        if self.output_mode != "int":
            return TensorSpec((spec.shape[0], self.lookup.depth()), jnp.dtype(self.compute_dtype))
        length = self.output_sequence_length
        if self.split is None and length is None:
            length = spec.shape[1] if len(spec.shape) > 1 else 1
        return TensorSpec((spec.shape[0], length), jnp.asarray(0).dtype)

    def call(self, inputs: Any) -> Array:
        rows = self.tokenize(inputs)
        if self.output_sequence_length is not None:
            rows = [row[: self.output_sequence_length] for row in rows]
        found = self.lookup.indices(list(chain.from_iterable(rows)))
        lengths = np.fromiter(map(len, rows), "int64", len(rows))
        if self.output_mode == "int":
            width = self.output_sequence_length or int(lengths.max(initial=0))
            out = np.zeros((len(rows), width), "int64")
            out[np.arange(width) < lengths[:, None]] = found
        else:
            out = self._count(np.repeat(np.arange(len(rows)), lengths), found, len(rows))
        return jnp.asarray(out if np.ndim(inputs) else out[0])

    def _count(self, rows: np.ndarray, found: np.ndarray, length: int) -> np.ndarray:
        """A vector for each of ``length`` texts, from the terms found and the text each stands in."""
        depth, kept = self.lookup.depth(), found >= 0
        cells = rows[kept] * depth + found[kept]
        out = np.zeros(length * depth, jnp.promote_types(self.compute_dtype, "float32"))
        if self.output_mode == "multi_hot":
            out[cells] = 1
        else:
            np.add.at(out, cells, 1)
        out = out.reshape(length, depth)
        if self.output_mode == "tf_idf":
            out *= self.lookup.idf()
        return out.astype(self.compute_dtype, copy=False)


@layer
class Hashing(HostLayer):
    """Strings or whole numbers as bins, by a hash: no vocabulary, but different values may share a bin.

    The hash is BLAKE2b, so the bins are not the ones Keras gives.

    Args:
        num_bins: how many bins there are.
        mask_value: a value that has bin 0 for itself.
        salt: one or two whole numbers that change the hash.
        output_mode: ``"int"``, ``"one_hot"``, ``"multi_hot"`` or ``"count"``.
        sparse: must be ``False``.

    Input of any shape; output of that shape, or vectors as of :class:`CategoryEncoding`.

    >>> Hashing(3)(["a", "b", "a"]).shape
    (3,)
    """

    def __init__(
        self,
        num_bins: int,
        mask_value: Any = None,
        salt: Any = None,
        output_mode: str = "int",
        sparse: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_sparse(self, sparse)
        check_choice(self, "output_mode", output_mode, ("int", "one_hot", "multi_hot", "count"))
        check_bins(self, num_bins)
        self.num_bins = num_bins
        self.mask_value = mask_value
        self.salt = check_salt(self, salt)
        self.output_mode = output_mode
        self.sparse = sparse

    def output_spec(self, spec: TensorSpec) -> TensorSpec:
        return encoded_spec(spec.shape, self.output_mode, self.num_bins, self.compute_dtype)

    def call(self, inputs: Any) -> Array:
        values = _as_text(inputs, self)
        masked = self.mask_value is not None and self.num_bins > 1
        bins = np.asarray(hash_to_bins(values.ravel().tolist(), self.num_bins - masked, self.salt), "int64")
        bins = bins.reshape(values.shape)
        if masked:
            bins = np.where(values == str(self.mask_value), 0, bins + 1)
        if self.output_mode == "int":
            return jnp.asarray(bins)
        return encode(jnp.asarray(bins), self.output_mode, self.num_bins, self.compute_dtype)


@layer
class HashedCrossing(HostLayer):
    """Two or more categories together as one bin, by a hash.

    Args:
        num_bins: how many bins there are.
        output_mode: ``"int"`` or ``"one_hot"``.
        sparse: must be ``False``.

    Input: a list of arrays of strings or whole numbers, all of shape ``(batch,)`` or ``(batch, 1)``; output of that
    shape, or ``(batch, num_bins)``.

    >>> HashedCrossing(5)([["A", "B"], [1, 1]]).shape
    (2,)
    """

    def __init__(self, num_bins: int, output_mode: str = "int", sparse: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        refuse_sparse(self, sparse)
        check_choice(self, "output_mode", output_mode, ("int", "one_hot"))
        check_bins(self, num_bins)
        self.num_bins = num_bins
        self.output_mode = output_mode
        self.sparse = sparse

    def output_spec(self, spec: Sequence[TensorSpec]) -> TensorSpec:
        return encoded_spec(spec[0].shape, self.output_mode, self.num_bins, self.compute_dtype)

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return self.output_spec([TensorSpec(tuple(shape), "string") for shape in input_shape]).shape

    def call(self, inputs: Sequence[Any]) -> Array:
        columns = [_as_text(x, self) for x in inputs]
        shapes = {column.shape for column in columns}
        if len(columns) < 2 or len(shapes) > 1:
            raise ShapeError(
                f"layer {self.name!r} (HashedCrossing) expected two or more arrays of one shape; received shapes "
                f"{[column.shape for column in columns]}"
            )
        # a separator that no text is likely to hold keeps ("ab", "c") and ("a", "bc") apart
        joined: Iterable[str] = map("\x1f".join, zip(*(column.ravel().tolist() for column in columns), strict=True))
        bins = jnp.asarray(np.asarray(hash_to_bins(joined, self.num_bins), "int64").reshape(columns[0].shape))
        if self.output_mode == "int":
            return bins
        return encode(bins, self.output_mode, self.num_bins, self.compute_dtype)


def check_bins(owner: HostLayer, num_bins: Any) -> None:
    """Raise a ConfigError unless ``num_bins`` is a whole number of at least 1."""
    if isinstance(num_bins, bool) or not isinstance(num_bins, int) or num_bins < 1:
        raise ConfigError(f"{type(owner).__name__} expects num_bins of at least 1; received {num_bins!r}")


def _as_text(x: Any, owner: HostLayer) -> np.ndarray:
    """Strings as they are, numbers as their decimal digits."""
    array = np.asarray(x)
    if array.dtype.kind == "f":
        array = array.astype("int64")
    if array.dtype.kind in "iub":
        return np.asarray([str(value) for value in array.ravel().tolist()], object).reshape(array.shape)
    return strings(array, owner)
