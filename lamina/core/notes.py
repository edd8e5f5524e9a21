"""Notes on arrays: what is known of an array beyond its values, and travels with it from layer to layer."""

import weakref
from typing import Any


class Notes:
    """A table from arrays to notes; a note lasts as long as its array. JAX's arrays take no attributes while traced.

    >>> import jax.numpy as jnp
    >>> notes, x = Notes(), jnp.ones(2)
    >>> notes.write(x, "two ones")
    >>> notes.read(x), notes.read(jnp.ones(2))
    ('two ones', None)
    """

    def __init__(self) -> None:
        self._table: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def read(self, x: Any) -> Any:
        """The note on this very array; ``None`` if there is none."""
        owner, note = self._table.get(id(x), (None, None))
        return note if owner is not None and owner() is x else None

    def write(self, x: Any, note: Any) -> None:
        """Let ``note`` be the note on ``x``."""
        key, table = id(x), self._table
        table[key] = (weakref.ref(x, lambda _: table.pop(key, None)), note)
