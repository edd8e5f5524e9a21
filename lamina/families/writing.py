"""How language models write: one token after the other, drawn from what the network expects."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from lamina.core.errors import ConfigError, DataError
from lamina.core.keys import key_of
from lamina.core.random import next_key
from lamina.core.state import Array, bind
from lamina.families.base import whole
from lamina.models import Model

#: the most tokens that are written before the host looks at them, and the most where somebody waits to read them
STRETCH, SHORT_STRETCH = 64, 32


class Writer:
    """What language models have in common once they are trained; a subclass tells which tokens follow, and their text."""

    model: Any

    def generate(
        self,
        prompt: str = "",
        max_tokens: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        stop: str | Sequence[str] = (),
        stream: bool = False,
        random_state: int | None = None,
    ) -> Any:
        """Go on with ``prompt``.

        Args:
            prompt: the beginning; an empty one is the beginning of a text.
            max_tokens: how many tokens to add at most; fewer where the network ends the text.
            temperature: below 1 for what is likely, above for what is not; 0 for the likeliest token each time.
            top_k: draw from so many of the likeliest tokens only.
            top_p: draw from the likeliest tokens that together have this probability only.
            stop: a string, or several, before which to stop.
            stream: whether to give the pieces of the text as they come.
            random_state: decides what is drawn; ``None`` for something else each time.

        Returns:
            What was added to the prompt: a string, or with ``stream`` an iterator over its pieces.

        Raises:
            ConfigError: for an argument that is not valid.
            DataError: for a prompt that is no string.
        """
        self.model  # noqa: B018 - for its error
        if not isinstance(prompt, str):
            raise DataError(f"prompt is a string; received {type(prompt).__name__}")
        words = [stop] if isinstance(stop, str) else stop
        if not isinstance(words, Sequence) or not all(isinstance(word, str) and word for word in words):
            raise ConfigError(f"stop is a string that is not empty, or several; received {stop!r}")
        if not (isinstance(temperature, int | float) and 0 <= temperature < math.inf):
            raise ConfigError(f"temperature is a number of at least 0; received {temperature!r}")
        if not (isinstance(top_p, int | float) and 0 < top_p <= 1):
            raise ConfigError(f"top_p is a number above 0, up to 1; received {top_p!r}")
        most = None if top_k is None else np.int32(min(whole("top_k", top_k), np.iinfo("int32").max))
        key = next_key() if random_state is None else key_of(whole("random_state", random_state, 0) % 2**32)
        settings = (np.float32(temperature), most, None if top_p == 1 else np.float32(top_p))
        sizes = stretches(whole("max_tokens", max_tokens, 0), waited_for=stream or bool(words))
        tokens = self._next_tokens(prompt, sizes, key, settings)
        if not stream and not words:
            return self._text(list(tokens))
        pieces = _pieces(tokens, self._text, words)
        return pieces if stream else "".join(pieces)

    def _next_tokens(self, prompt: str, sizes: Iterator[int], key: Array, settings: tuple[Any, ...]) -> Iterator[int]:
        """Tokens that follow, so many at a time, with temperature, ``top_k`` and ``top_p``."""
        raise NotImplementedError

    def _text(self, tokens: list[int]) -> str:
        """The text of some tokens."""
        raise NotImplementedError


def _pieces(tokens: Iterator[int], text_of: Callable[[list[int]], str], stop: Sequence[str]) -> Iterator[str]:
    """The text of the tokens as it comes, without what may yet turn out to be a stop string."""
    found, text, shown = [], "", 0
    for token in tokens:
        found.append(token)
        text = text_of(found)
        ends = [text.find(word) for word in stop if word in text]
        if ends:
            text = text[: min(ends)]
            break
        whole_characters = text.rstrip("\ufffd")  # of a character of several bytes, maybe some are missing
        held = max((n for word in stop for n in range(1, len(word)) if text.endswith(word[:n])), default=0)
        ready = min(len(whole_characters), len(text) - held)
        if ready > shown:
            yield text[shown:ready]
            shown = ready
    if text[shown:]:
        yield text[shown:]


def stretches(count: int, waited_for: bool = False) -> Iterator[int]:
    """How many of ``count`` tokens to write at a time: few at first, then more, where somebody waits to read them.

    >>> list(stretches(80)), list(stretches(80, waited_for=True))
    ([64, 16], [4, 8, 16, 32, 20])
    """
    size, most = (4, SHORT_STRETCH) if waited_for else (STRETCH, STRETCH)
    while count > 0:
        yield min(size, count)
        count, size = count - size, min(2 * size, most)


def compiled(model: Model, step: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """``step`` compiled, with the variables of ``model`` as its first argument, which is filled in."""
    variables = {variable.path: variable for variable in model.weights}

    @functools.partial(jax.jit, **options)
    def run(values: dict[str, Array], *args: Any) -> Any:
        with bind({variables[path]: value for path, value in values.items()}, training=False):
            return step(*args)

    return lambda *args: run({path: variable.stored for path, variable in variables.items()}, *args)
