"""Strings and categories as indices of a vocabulary: StringLookup and IntegerLookup.

The vocabulary that ``adapt`` learns is part of the layer's configuration, and so of every saved model.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import allowance
from lamina.core.errors import ConfigError, DataError, StateError
from lamina.core.shapes import TensorSpec
from lamina.core.state import Array
from lamina.data.adapting import batches
from lamina.kernels.encoding import encode
from lamina.layers.base import Layer, layer
from lamina.layers.checks import check_choice, refuse_sparse
from lamina.layers.host import HostLayer, check_salt, encoded_spec, hash_to_bins, strings

__all__ = ["IntegerLookup", "StringLookup"]

MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")


class _Terms:
    """A vocabulary: what was given or learnt, and the terms in it without special tokens."""

    def __init__(self, given: list[Any], special: list[Any], idf: list[float] | None) -> None:
        self.given, self.idf, self.special = given, idf, special
        self.has_special = bool(special) and given[: len(special)] == special
        self.terms = given[len(special) :] if self.has_special else given
        self.table = {term: len(special) + index for index, term in enumerate(self.terms)}


class Lookup(Layer):
    """What StringLookup and IntegerLookup have in common; see there for the arguments."""

    vocabulary_dtype: str

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: Any = None,
        oov_token: Any = None,
        vocabulary: Any = None,
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        pad_to_max_tokens: bool = False,
        sparse: bool = False,
        salt: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        refuse_sparse(self, sparse)
        output_mode = {"binary": "multi_hot", "tf-idf": "tf_idf"}.get(output_mode, output_mode)
        check_choice(self, "output_mode", output_mode, MODES)
        owner = type(self).__name__
        if max_tokens is not None and max_tokens <= 1:
            raise ConfigError(f"{owner} expects max_tokens of more than 1; received {max_tokens}")
        if pad_to_max_tokens and max_tokens is None:
            raise ConfigError(f"{owner} with pad_to_max_tokens=True needs max_tokens.\nWrite:  max_tokens=10_000")
        if num_oov_indices < 0:
            raise ConfigError(f"{owner} expects num_oov_indices of at least 0; received {num_oov_indices}")
        if invert and output_mode != "int":
            raise ConfigError(f"{owner} with invert=True gives terms: write output_mode='int', not {output_mode!r}")
        self.max_tokens = max_tokens
        self.num_oov_indices = num_oov_indices
        self.mask_token = mask_token
        self.oov_token = oov_token
        self.invert = bool(invert)
        self.output_mode = output_mode
        self.pad_to_max_tokens = pad_to_max_tokens
        self.sparse = sparse
        self.salt = check_salt(self, salt)
        self._known: _Terms | None = None
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)
        elif idf_weights is not None:
            raise ConfigError(f"{owner} takes idf_weights together with vocabulary only")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        cls.refuse_path(config)
        return super().from_config(config)

    @classmethod
    def refuse_path(cls, config: Mapping[str, Any]) -> None:
        """Raise a ConfigError if a configuration, which may come from a stranger, names a file to read."""
        if isinstance(config.get("vocabulary"), str):
            raise ConfigError("a saved configuration holds a vocabulary as a list; received the path of a file")

    # -- the vocabulary --------------------------------------------------------------------------------------------

    @property
    def vocabulary(self) -> list[Any] | None:
        """The vocabulary as it was given or learnt; ``None`` if there is none yet."""
        return self._known.given if self._known else None

    @property
    def idf_weights(self) -> list[float] | None:
        """The inverse document frequency of each entry of :attr:`vocabulary`, for ``output_mode="tf_idf"``."""
        return self._known.idf if self._known else None

    def term(self, value: Any) -> Any:
        """One entry of a vocabulary as a plain Python value."""
        raise NotImplementedError

    @property
    def _masks(self) -> bool:
        """Whether index 0 is that of the mask token."""
        return self.mask_token is not None and self.output_mode == "int"

    def _special(self) -> list[Any]:
        allowance.spend(f"{type(self).__name__}(num_oov_indices=...)", numbers=4 * self.num_oov_indices)
        return [self.mask_token] * self._masks + [self.oov_token] * self.num_oov_indices

    def _terms(self) -> _Terms:
        if self._known is None:
            raise StateError(
                f"layer {self.name!r} ({type(self).__name__}) has no vocabulary yet.\nWrite:  layer.adapt(data)"
            )
        return self._known

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Use these terms, in this order.

        Args:
            vocabulary: an array or list of terms, with all special tokens in front or none; or the path of a text file
                with one term a line.
            idf_weights: the inverse document frequency of each, for ``output_mode="tf_idf"`` only.

        Raises:
            ConfigError: if a term occurs twice, a special token is among them, there are more than ``max_tokens``, or
                the weights do not fit.
        """
        if isinstance(vocabulary, str | Path):
            vocabulary = Path(vocabulary).read_text("utf-8").splitlines()
        terms = [self.term(value) for value in np.asarray(vocabulary).tolist()]
        owner = f"layer {self.name!r} ({type(self).__name__})"
        if not terms:
            raise ConfigError(f"{owner} received an empty vocabulary")
        if (self.output_mode == "tf_idf") != (idf_weights is not None):
            raise ConfigError(f"{owner} takes idf_weights with output_mode='tf_idf', and only then")
        idf = None if idf_weights is None else np.asarray(idf_weights, "float64").tolist()
        if idf is not None and len(idf) != len(terms):
            raise ConfigError(f"{owner} expects an idf weight for each of {len(terms)} terms; received {len(idf)}")
        known = _Terms(terms, self._special(), idf)
        if len(known.table) != len(known.terms):
            twice = [term for term, count in Counter(known.terms).items() if count > 1]
            raise ConfigError(f"{owner} received a vocabulary with terms that occur twice: {twice[:10]}")
        reserved = [self.mask_token] + [self.oov_token] * self.invert
        if misplaced := [token for token in reserved if token is not None and token in known.table]:
            raise ConfigError(
                f"{owner} found {misplaced} among the terms. Leave special tokens out, or put all of them in front: "
                f"{known.special}"
            )
        size = len(known.special) + len(known.terms)
        if self.max_tokens is not None and size > self.max_tokens:
            raise ConfigError(f"{owner} holds {self.max_tokens} tokens at most; received a vocabulary of {size}")
        self._known = known

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[Any]:
        """The terms; with special tokens in front, a term's place is its index."""
        if self._known is None:
            return self._special() if include_special_tokens else []
        return (self._known.special if include_special_tokens else []) + self._known.terms

    def vocabulary_size(self) -> int:
        """How many terms and special tokens there are."""
        return len(self.get_vocabulary())

    def adapt(self, data: Any, steps: int | None = None) -> None:
        """Learn the vocabulary: the terms that occur, most frequent first; it takes the place of any former one.

        Args:
            data: an array, a list, a column of pandas or polars, or an iterable of batches.
            steps: how many batches to take; all by default.
        """
        self.learn(row for batch in batches(data, steps) for row in self.clean(np.atleast_1d(batch)).tolist())

    def clean(self, x: Any) -> np.ndarray:
        """``x`` as a NumPy array of possible terms, shape ``(documents, terms)``."""
        raise NotImplementedError

    def learn(self, documents: Iterable[Sequence[Any]]) -> None:
        """Make the terms in these documents the vocabulary."""
        counts: Counter[Any] = Counter()
        among: Counter[Any] = Counter()
        total = 0
        for document in documents:
            counts.update(document)
            total += 1
            if self.output_mode == "tf_idf":
                among.update(set(document))
        for token in (self.mask_token, self.oov_token):
            counts.pop(token, None)
        if not counts:
            raise DataError(f"layer {self.name!r} ({type(self).__name__}) found no terms in the data")
        # ties are broken by the term itself, so that the vocabulary does not depend on the order of the data
        terms = [term for term, _ in sorted(counts.items(), key=lambda item: (item[1], item[0]), reverse=True)]
        if self.max_tokens is not None:
            terms = terms[: self.max_tokens - len(self._special())]
        idf = [float(np.log1p(total / (1 + among[term]))) for term in terms] if self.output_mode == "tf_idf" else None
        self._known = _Terms(terms, self._special(), idf)

    # -- the output ------------------------------------------------------------------------------------------------

    def depth(self) -> int:
        """The length of the vectors that the modes other than ``"int"`` give."""
        if self.pad_to_max_tokens:
            return self.max_tokens or 0
        self._terms()
        return self.vocabulary_size()

    def idf(self) -> np.ndarray:
        """The inverse document frequency of every index; special tokens have the mean one."""
        known = self._terms()
        weights = np.asarray(known.idf)
        if not known.has_special:
            weights = np.concatenate([np.full(len(known.special), weights.mean()), weights])
        return np.pad(weights, (0, self.depth() - len(weights)))

    def output_spec(self, spec: TensorSpec) -> TensorSpec:
        """Shape and dtype of the output for an input of this spec."""
        shape = spec.shape
        if self.output_mode == "int":
            return TensorSpec(
                shape, "string" if self.invert and self.vocabulary_dtype == "string" else jnp.asarray(0).dtype
            )
        return encoded_spec(shape, self.output_mode, self.depth(), self.compute_dtype)

    def finish(self, indices: Any) -> Array:
        """``indices``, with -1 for what is to be left out, in the layer's output mode."""
        if self.output_mode == "int":
            return jnp.asarray(indices)
        mode = "count" if self.output_mode == "tf_idf" else self.output_mode
        out = encode(jnp.asarray(indices), mode, self.depth(), self.compute_dtype)
        return out * jnp.asarray(self.idf(), out.dtype) if self.output_mode == "tf_idf" else out

    def refuse_unknown(self, unknown: np.ndarray) -> None:
        """Raise a DataError if anything is ``unknown`` and there is no index for it."""
        if len(unknown):
            raise DataError(
                f"layer {self.name!r} ({type(self).__name__}) has num_oov_indices=0 and received terms that are not in "
                f"its vocabulary: {unknown[:5].tolist()}.\nWrite:  num_oov_indices=1"
            )


class _Table(dict[str, int]):
    """Term to index; ``default`` for the others."""

    default = -2

    def __missing__(self, _: str) -> int:
        return self.default


@layer
class StringLookup(Lookup, HostLayer):
    """Strings as the indices of a vocabulary, or back.

    Args:
        max_tokens: the most terms to keep, special ones included.
        num_oov_indices: how many indices stand for strings that are not in the vocabulary.
        mask_token: a string for what is missing; it has index 0, and leaves no trace in modes other than ``"int"``.
        oov_token: what ``invert`` gives for an index that stands for an unknown string.
        vocabulary: the terms, or the path of a text file with one a line; else call ``adapt``.
        idf_weights: the inverse document frequency of each term, for ``"tf_idf"``.
        invert: whether to go from indices to strings.
        output_mode: ``"int"``; or vectors as of :class:`CategoryEncoding`: ``"one_hot"``, ``"multi_hot"``, ``"count"``,
            ``"tf_idf"``.
        pad_to_max_tokens: whether vectors have length ``max_tokens`` however many terms there are.
        sparse: must be ``False``.
        encoding: how bytes become strings.
        salt: one or two whole numbers that change which of several indices an unknown string has.

    Input of any shape, of strings; output of that shape, or vectors.

    >>> lookup = StringLookup(vocabulary=["cat", "dog"])
    >>> lookup(["dog", "cow", "cat"]).tolist()
    [2, 0, 1]
    """

    vocabulary_dtype = "string"

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: str | None = None,
        oov_token: str | None = "[UNK]",
        vocabulary: Any = None,
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        pad_to_max_tokens: bool = False,
        sparse: bool = False,
        encoding: str = "utf-8",
        salt: Any = None,
        **kwargs: Any,
    ) -> None:
        self.encoding = encoding
        super().__init__(
            max_tokens=max_tokens,
            num_oov_indices=num_oov_indices,
            mask_token=mask_token,
            oov_token=oov_token,
            vocabulary=vocabulary,
            idf_weights=idf_weights,
            invert=invert,
            output_mode=output_mode,
            pad_to_max_tokens=pad_to_max_tokens,
            sparse=sparse,
            salt=salt,
            **kwargs,
        )

    def term(self, value: Any) -> str:
        if isinstance(value, bytes):
            return value.decode(self.encoding)
        if not isinstance(value, str):
            raise ConfigError(f"StringLookup expects a vocabulary of strings; received {value!r}")
        return value

    def clean(self, x: Any) -> np.ndarray:
        return strings(x, self).reshape(len(x), -1)

    def indices(self, texts: list[str]) -> np.ndarray:
        """The index of each text; -1 for masked ones that leave no trace."""
        table = _Table(self._terms().table)
        start = int(self._masks)
        if self.num_oov_indices == 1:
            table.default = start
        if self.mask_token is not None:
            table[self.mask_token] = 0 if self._masks else -1
        found = np.fromiter(map(table.__getitem__, texts), "int64", len(texts))
        unknown = np.flatnonzero(found == -2)
        if len(unknown):
            others = [texts[i] for i in unknown.tolist()]
            if self.num_oov_indices == 0:
                self.refuse_unknown(np.asarray(others))
            found[unknown] = np.asarray(hash_to_bins(others, self.num_oov_indices, self.salt)) + start
        return found

    def call(self, inputs: Any) -> Any:
        if self.invert:
            known = np.asarray([*self.get_vocabulary(), self.oov_token], object)
            places = np.asarray(inputs)
            return known[np.where((places >= 0) & (places < len(known) - 1), places, len(known) - 1)]
        texts = strings(inputs, self)
        return self.finish(self.indices(texts.ravel().tolist()).reshape(texts.shape))


@layer
class IntegerLookup(Lookup):
    """Whole numbers of any size as the indices of a vocabulary, or back. Runs compiled too.

    Args:
        max_tokens: the most numbers to keep, special ones included.
        num_oov_indices: how many indices stand for numbers that are not in the vocabulary. With 0, an unknown number is
            an error, or -1 inside jit.
        mask_token: a number for what is missing; it has index 0, and leaves no trace in modes other than ``"int"``.
        oov_token: what ``invert`` gives for an index that stands for an unknown number.
        vocabulary: the numbers, or the path of a text file with one a line; else call ``adapt``.
        vocabulary_dtype: ``"int64"`` or ``"int32"``.
        idf_weights: the inverse document frequency of each number, for ``"tf_idf"``.
        invert: whether to go from indices to numbers.
        output_mode: ``"int"``; or vectors as of :class:`CategoryEncoding`: ``"one_hot"``, ``"multi_hot"``, ``"count"``,
            ``"tf_idf"``.
        sparse: must be ``False``.
        pad_to_max_tokens: whether vectors have length ``max_tokens`` however many numbers there are.
        oov_method: which of several indices an unknown number has: ``"floormod"`` (the remainder) or ``"farmhash"``
            (one that looks random).
        salt: one or two whole numbers that change the latter.

    Input of any shape, of whole numbers; output of that shape, or vectors.

    >>> IntegerLookup(vocabulary=[12, 1138])(np.array([1138, 5, 12])).tolist()
    [2, 0, 1]
    """

    input_dtype = "int32"

    def __init__(
        self,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: int | None = None,
        oov_token: int | None = -1,
        vocabulary: Any = None,
        vocabulary_dtype: str = "int64",
        idf_weights: Any = None,
        invert: bool = False,
        output_mode: str = "int",
        sparse: bool = False,
        pad_to_max_tokens: bool = False,
        oov_method: str = "floormod",
        salt: Any = None,
        **kwargs: Any,
    ) -> None:
        self.vocabulary_dtype = vocabulary_dtype
        self.oov_method = oov_method
        check_choice(self, "vocabulary_dtype", vocabulary_dtype, ("int64", "int32"))
        check_choice(self, "oov_method", oov_method, ("floormod", "farmhash"))
        if salt is not None and oov_method != "farmhash":
            raise ConfigError("IntegerLookup takes a salt with oov_method='farmhash' only")
        super().__init__(
            max_tokens=max_tokens,
            num_oov_indices=num_oov_indices,
            mask_token=mask_token,
            oov_token=oov_token,
            vocabulary=vocabulary,
            idf_weights=idf_weights,
            invert=invert,
            output_mode=output_mode,
            pad_to_max_tokens=pad_to_max_tokens,
            sparse=sparse,
            salt=salt,
            **kwargs,
        )

    def term(self, value: Any) -> int:
        if isinstance(value, float) or not isinstance(value, int | str | bytes):
            raise ConfigError(f"IntegerLookup expects a vocabulary of whole numbers; received {value!r}")
        return int(value)

    def clean(self, x: Any) -> Any:
        return self._whole(x).reshape(len(x), -1)

    def _whole(self, x: Any) -> Any:
        if x.dtype.kind not in "iub":
            raise DataError(
                f"layer {self.name!r} (IntegerLookup) expected whole numbers; received an array of dtype {x.dtype}.\n"
                "For strings, write:  StringLookup()"
            )
        return x.astype("int64") if isinstance(x, np.ndarray) else x.astype(jnp.promote_types(x.dtype, "int32"))

    def _arrays(self, tree: Any) -> Any:
        return tree  # NumPy's 64-bit numbers would be cut to 32 bits

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        return super().__call__(np.asarray(inputs) if isinstance(inputs, list | tuple | int) else inputs, **kwargs)

    def call(self, inputs: Any) -> Array:
        x = self._whole(inputs)
        xp: Any = jnp if isinstance(x, jax.Array) else np
        if self.invert:
            known = xp.asarray([*self.get_vocabulary(), self.oov_token])
            return jnp.asarray(known[xp.where((x >= 0) & (x < len(known) - 1), x, len(known) - 1)])
        terms = np.asarray(self._terms().terms, "int64")
        if np.any(terms.astype(x.dtype) != terms):
            raise DataError(
                f"layer {self.name!r} (IntegerLookup) holds numbers that {x.dtype} does not; call it on NumPy arrays"
            )
        order = np.argsort(terms)
        ranked = xp.asarray(terms[order].astype(x.dtype))
        rank = xp.clip(xp.searchsorted(ranked, x), 0, len(terms) - 1)
        known = ranked[rank] == x
        start = int(self._masks)
        out = xp.where(
            known,
            xp.asarray(order)[rank] + start + self.num_oov_indices,
            self._unknown(x, xp) + start if self.num_oov_indices else -1,
        )
        if self.mask_token is not None:
            masked = x == self.mask_token
            out, known = xp.where(masked, 0 if self._masks else -1, out), known | masked
        if self.num_oov_indices == 0 and not isinstance(x, jax.core.Tracer):
            self.refuse_unknown(np.asarray(x)[~np.asarray(known)])
        return self.finish(out)

    def _unknown(self, x: Any, xp: Any) -> Any:
        """Which of the indices of unknown numbers each has."""
        if self.oov_method == "floormod":
            return x % self.num_oov_indices
        mixed = x.astype("uint32") ^ xp.uint32(hash_to_bins([""], 2**32, self.salt)[0])
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):  # the finalizer of MurmurHash3
            mixed = (mixed ^ (mixed >> shift)) * xp.uint32(factor)
        return ((mixed ^ (mixed >> 16)) % xp.uint32(self.num_oov_indices)).astype(x.dtype)
