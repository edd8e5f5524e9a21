"""Long programs on a CPU: one after the other, each with its data there and its memory where that of the last one was."""

from typing import Any

from lamina import native
from lamina.core import memory


def ready(data: Any) -> Any:
    """``data`` for a long program that is about to run, when it and the heap are ready for it."""
    data = memory.arrived(data)
    memory.settle()
    native.join_free_pieces()
    return data
