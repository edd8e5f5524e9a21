"""Every error that Lamina raises on purpose, and the nearest-name search behind "did you mean".

A message says what was expected, what was received, where, and the line to write instead.
"""

import difflib
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")
#: the code whose lines say nothing to a user
_INTERNAL = (str(Path(__file__).parents[1]), str(Path(jax.__file__).parent))


class LaminaError(Exception):
    """The base of all errors that Lamina raises on purpose."""


class ShapeError(LaminaError, ValueError):
    """An array or a layer has a shape that does not fit."""


class ConfigError(LaminaError, ValueError):
    """An argument, a name or a configuration is not a valid one."""


class DataError(LaminaError, ValueError):
    """The data cannot be used as they are."""


class StateError(LaminaError, RuntimeError):
    """A variable, layer or model is used before it is ready, or in a place where it cannot change."""


class FileError(LaminaError, OSError):
    """A file is missing, damaged, or not what it claims to be."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """A sentence that names the choice most like ``name``, or lists them all.

    >>> nearest("adm", ["adam", "sgd"])
    "Did you mean 'adam'?"
    """
    choices = sorted(set(choices))
    lowered = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(str(name).lower(), lowered, n=1, cutoff=0.6)
    if found:
        return f"Did you mean {lowered[found[0]]!r}?"
    return f"Known names: {', '.join(choices)}."


def shown(value: Any, most: int = 60) -> str:
    """``value`` from a stranger's file for a message: short, on one line, with nothing that a terminal would obey.

    >>> shown("a\\x1b[2J" + "b" * 100, 20)
    "'a\\\\x1b[2Jbbbbbbbbbbbbbb...'"
    """
    if isinstance(value, dict | list) and len(value) > 20:
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 100:
        return "a number of more than 30 digits"
    if isinstance(value, str):
        value = value[:most] + "..." * (len(value) > most)
    text = repr(value)
    return text if len(text) <= 4 * most + 5 else f"{text[:most]}..."


def concise(fn: Callable[P, R]) -> Callable[P, R]:
    """Decorator: errors that Lamina raises on purpose show the user's lines in their traceback, not the library's.

    With ``JAX_TRACEBACK_FILTERING=off``, JAX's switch for the same, all lines are shown.
    """

    @functools.wraps(fn)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return fn(*args, **kwargs)
        except LaminaError as error:
            settings: Any = jax.config  # its settings are not known to type checkers
            if settings.jax_traceback_filtering == "off":
                raise
            error.__notes__ = [note for note in getattr(error, "__notes__", []) if "JAX" not in note]
            cause = error.__cause__
            if type(cause).__module__.startswith("jax."):  # where the library was when it traced
                cause = None
            raise error.with_traceback(_of_user(error.__traceback__)) from cause

    return told


def _of_user(trace: TracebackType | None) -> TracebackType | None:
    if trace is None:
        return None
    rest = _of_user(trace.tb_next)
    if trace.tb_frame.f_code.co_filename.startswith(_INTERNAL):
        return rest
    return TracebackType(rest, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
