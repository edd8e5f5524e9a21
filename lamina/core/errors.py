"""Every error that Lamina raises on purpose, and the nearest-name search behind "did you mean".

A message says what was expected, what was received, where, and the line to write instead.
"""

import difflib
from collections.abc import Iterable


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
