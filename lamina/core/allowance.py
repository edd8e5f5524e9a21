"""What may be spent while something is built from a stranger's file: an allowance, so that a small file stays cheap.

Layers and operations spend steps; whatever makes arrays or lists of a length that a configuration names spends numbers.
Where nothing is being read from a file, spending costs nothing and never fails.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from dataclasses import dataclass

from lamina.core.errors import FileError


@dataclass
class _Left:
    steps: float
    numbers: float


_left: contextvars.ContextVar[_Left | None] = contextvars.ContextVar("allowance", default=None)


@contextlib.contextmanager
def granted(steps: float, numbers: float) -> Iterator[None]:
    """Inside, no more than this may be spent.

    Args:
        steps: how many layers may be made, and called, and operations called, all together.
        numbers: how many numbers, or other entries of arrays and lists, may be made.
    """
    token = _left.set(_Left(steps, numbers))
    try:
        yield
    finally:
        _left.reset(token)


def spend(what: str, steps: float = 0, numbers: float = 0) -> None:
    """Take from the allowance, before the work is done.

    Args:
        what: whose work it is, for the message.
        steps: how many steps.
        numbers: how many numbers.

    Raises:
        FileError: if there is not so much left.

    >>> with granted(steps=10, numbers=100):
    ...     spend("a table", numbers=60)
    ...     spend("a table", numbers=60)
    Traceback (most recent call last):
    lamina.core.errors.FileError: a table would make 60 numbers, and the file may make 40 more.
    >>> spend("a table", numbers=1e12)  # nothing is being read from a file
    """
    left = _left.get()
    if left is None:
        return
    if steps > left.steps:
        raise FileError(f"{what}: building what the file describes takes too many steps for a file of its size.")
    if numbers > left.numbers:
        raise FileError(f"{what} would make {numbers:.6g} numbers, and the file may make {left.numbers:.6g} more.")
    left.steps -= steps
    left.numbers -= numbers
