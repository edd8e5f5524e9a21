"""Lookups: of which rows of which table an array is made.

What can do with a table and numbers works less where rows are picked more than once, as words are in texts. They travel
with the array itself, not with what is computed from it.
"""

from typing import Any, NamedTuple

from lamina.core.notes import Notes
from lamina.core.state import Array

_lookups = Notes()


class Lookup(NamedTuple):
    """A table, ``(rows, features)``, and the numbers of the rows that were picked, of any shape."""

    table: Array
    numbers: Array


def get_lookup(rows: Any) -> Lookup | None:
    """How ``rows`` were looked up; ``None`` if they were not."""
    lookup: Lookup | None = _lookups.read(rows)
    return lookup


def set_lookup(rows: Array, table: Array, numbers: Array) -> Array:
    """``rows``, with the ``table`` and the ``numbers`` that they were looked up by."""
    _lookups.write(rows, Lookup(table, numbers))
    return rows
