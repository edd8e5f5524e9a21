"""Tokenizers: text as whole numbers, by characters or by byte pairs. What one has learnt is kept as JSON."""

import functools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lamina.core.errors import ConfigError, DataError, FileError, shown

#: the tokens of every tokenizer trained here, in front of all others: between texts, for what is not in the vocabulary,
#: and for what a network has to guess
END, UNKNOWN, MASK = 0, 1, 2
SPECIAL = ("<end>", "<unknown>", "<mask>")
#: what there is instead of a token where a text is shorter than others
PADDING = -1


class CharacterTokenizer:
    """One token for each character.

    Every text begins with the token :data:`END`; a character that is not in the vocabulary becomes :data:`UNKNOWN`.

    Args:
        characters: those of the vocabulary, in order of their code points.

    >>> tokenizer = CharacterTokenizer("abn")
    >>> tokenizer.encode(["banana!"])[0].tolist(), tokenizer.decode([4, 3, 5])
    ([0, 4, 3, 5, 3, 5, 3, 1], 'ban')
    """

    mask: int | None = MASK

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self.size = len(SPECIAL) + len(characters)
        self._codes = _codes(characters)

    @classmethod
    def train(cls, texts: Iterable[str]) -> "CharacterTokenizer":
        """The tokenizer for the characters in ``texts``."""
        return cls("".join(sorted(set().union(*texts))))

    def encode(self, texts: Iterable[str], limit: int | None = None) -> list[np.ndarray]:
        """The tokens of each text, int32, at most ``limit`` of them."""
        return [self._encode(text[: limit - 1] if limit else text) for text in texts]

    def _encode(self, text: str) -> np.ndarray:
        codes = _codes(text)
        place = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        tokens = np.where(self._codes[place] == codes, place + len(SPECIAL), UNKNOWN)
        return np.concatenate([[END], tokens]).astype("int32")

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the tokens; those that stand for no text are left out."""
        return "".join(self.characters[token - len(SPECIAL)] for token in tokens if token >= len(SPECIAL))

    def to_json(self) -> str:
        """What :func:`tokenizer_from` makes this tokenizer of."""
        return json.dumps({"characters": self.characters})


class SubwordTokenizer:
    """Tokens that are pieces of words, from the JSON of the package ``tokenizers``.

    Args:
        description: the content of a ``tokenizer.json``.
    """

    def __init__(self, description: str) -> None:
        from tokenizers import Tokenizer

        refuse_endless(description)
        try:
            self._tokenizer = Tokenizer.from_str(description)
        except BaseException as error:  # the package raises bare exceptions, and panics that are none
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise FileError(f"the tokenizer's JSON cannot be read: {str(error)[:200]}") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = self._own  # "<end>" in a text is text
        self.size = self._tokenizer.get_vocab_size()
        self.mask: int | None = next(
            (i for i in map(self._tokenizer.token_to_id, (SPECIAL[MASK], "[MASK]")) if i is not None), None
        )

    @property
    def _own(self) -> bool:
        return self._tokenizer.id_to_token(END) == SPECIAL[END]

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> "SubwordTokenizer":
        """The byte-pair tokenizer for ``texts``: pairs that occur most often become one token, ``size`` tokens in all.

        It works on bytes, so that there is no text without tokens. Sennrich et al. (2016),
        https://arxiv.org/abs/1508.07909
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        least = len(SPECIAL) + len(alphabet)
        if size < least:
            raise ConfigError(
                f"vocabulary_size is a whole number of at least {least}: the {len(alphabet)} bytes and the special "
                f"tokens; received {size}"
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{SPECIAL[END]} $A", special_tokens=[(SPECIAL[END], END)]
        )
        return cls(tokenizer.to_str())

    def encode(self, texts: Iterable[str], limit: int | None = None) -> list[np.ndarray]:
        """The tokens of each text, int32, with those that the tokenizer adds; at most ``limit`` of them."""
        if limit is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(limit)
        return [np.asarray(found.ids, "int32") for found in self._tokenizer.encode_batch_fast(list(texts))]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the tokens; those that stand for no text are left out."""
        return str(self._tokenizer.decode(list(tokens)))

    def to_json(self) -> str:
        """What :func:`tokenizer_from` makes this tokenizer of."""
        self._tokenizer.no_truncation()
        return str(self._tokenizer.to_str())


def refuse_endless(description: str) -> None:
    """Refuse a tokenizer that could search a text for hours, or make it much longer.

    A pattern may not repeat a group, nor repeat more than three things between two bars: backtracking then has too many ways.

    Raises:
        FileError: naming the pattern.
    """
    try:
        stack = [json.loads(description)]
    except (ValueError, RecursionError) as error:
        raise FileError(f"the tokenizer's JSON cannot be read: {str(error)[:200]}") from None
    while stack:
        part = stack.pop()
        if isinstance(part, list):
            stack += part
        elif isinstance(part, dict):
            stack += [item for name, item in part.items() if name not in ("vocab", "merges")]
            pattern, content = part.get("Regex", ""), part.get("content", "")
            plain = re.sub(r"\\.|\[[^\]]*\]|\(\?", "", str(pattern))  # what is quoted, or in brackets, repeats nothing
            if re.search(r"\)[*+?{]", plain) or any(len(re.findall(r"[*+{]", way)) > 3 for way in plain.split("|")):
                raise FileError(f"the tokenizer has a pattern that could take too long: {shown(pattern)}")
            if isinstance(content, str) and len(content) > 256:
                raise FileError(f"the tokenizer puts in a text of {len(content)} characters, too long for a token")


AnyTokenizer = CharacterTokenizer | SubwordTokenizer


def train_tokenizer(kind: str, texts: Sequence[str], size: int) -> AnyTokenizer:
    """A tokenizer trained on ``texts``.

    Args:
        kind: ``"characters"`` or ``"bpe"``.
        texts: the texts.
        size: the size of the vocabulary of byte pairs.

    Raises:
        ConfigError: for another kind.
    """
    if kind == "characters":
        return CharacterTokenizer.train(texts)
    if kind == "bpe":
        return SubwordTokenizer.train(texts, size)
    raise ConfigError(f"tokenizer is 'characters' or 'bpe'; received {kind!r}")


@functools.lru_cache(maxsize=8)
def tokenizer_from(description: str) -> AnyTokenizer:
    """The tokenizer whose ``to_json`` gave ``description``."""
    try:
        found = json.loads(description)
    except (ValueError, RecursionError) as error:
        raise FileError(f"the tokenizer's JSON cannot be read: {str(error)[:200]}") from None
    if isinstance(found, dict) and isinstance(found.get("characters"), str):
        return CharacterTokenizer(found["characters"])
    return SubwordTokenizer(description)


def texts_in(given: Any, name: str = "X") -> list[str]:
    """``given`` as a list of texts: a list, an array or a column of strings, or a data frame of one column.

    Raises:
        DataError: for a single string, for several columns, for something that is no text, or where there are none.
    """
    if isinstance(given, str | bytes):
        raise DataError(f"{name} is a list of texts; received one string.\nWrite:  [{name}]")
    if hasattr(given, "columns"):
        names = list(given.columns)
        if len(names) != 1:
            raise DataError(
                f"{name} is one column of texts; received a data frame with the columns {names}.\n"
                f"Write:  {name}[{names[0] if names else 'name'!r}]"
            )
        given = given[names[0]]
    elif isinstance(given, np.ndarray) and given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    try:
        texts = [text.item() if isinstance(text, np.generic) else text for text in given]
    except TypeError:
        raise DataError(f"{name} is a list of texts; received {type(given).__name__}") from None
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"{name} is a list of texts; {name}[{place}] is {text!r}, a {type(text).__name__}.\n"
                'Write "" for a text that is missing.'
            )
    if not texts:
        raise DataError(f"{name} holds no text.")
    return texts


def read_texts(given: Any, name: str = "texts") -> list[str]:
    """The texts to learn a language from: a string, the path of a text file, or several strings.

    A :class:`~pathlib.Path`, or a string of one line that names a file which is there, is read as UTF-8.

    Raises:
        FileError: if the file cannot be read.
        DataError: if there is no text in them.
    """
    if isinstance(given, Path) or (isinstance(given, str) and _names_file(given)):
        try:
            given = Path(given).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise FileError(f"{given} cannot be read as text: {error}") from None
    texts = [given] if isinstance(given, str) else texts_in(given, name)
    texts = [text for text in texts if text]
    if not texts:
        raise DataError(f"{name} holds no text: every string is empty.")
    return texts


def padded(tokens: Sequence[np.ndarray], length: int | None = None) -> np.ndarray:
    """Sequences of tokens as one array, ``(texts, length)``, filled up with :data:`PADDING`.

    >>> padded([np.array([4, 3]), np.array([5])]).tolist()
    [[4, 3], [5, -1]]
    """
    length = max(1, *(len(row) for row in tokens)) if length is None else length
    array = np.full((len(tokens), length), PADDING, "int32")
    for row, found in zip(array, tokens, strict=True):
        row[: len(found)] = found[:length]
    return array


def by_length(tokens: Sequence[np.ndarray], limit: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sequences of tokens in groups of like length, each padded to a power of two or ``limit``: places and arrays.

    A sequence's array has a length that depends on that sequence alone.
    """
    lengths = np.array([min(1 << (max(len(row), 16) - 1).bit_length(), limit) for row in tokens])
    for length in np.unique(lengths):
        places = np.flatnonzero(lengths == length)
        yield places, padded([tokens[int(place)] for place in places], int(length))


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _names_file(text: str) -> bool:
    return 0 < len(text) < 1024 and "\n" not in text and os.path.isfile(text)  # False for a name too long
