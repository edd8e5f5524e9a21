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
        numbers: how many numbers of 4 bytes may be made; an entry of a list counts as several.
    """
    token = _left.set(_Left(steps, numbers))
    try:
        yield
    finally:
        _left.reset(token)


def spend(what: str, steps: float = 0, numbers: float = 0, instead: str = "") -> None:
    """Take from the allowance, before the work is done.

    Args:
        what: whose work it is, for the message.
        steps: how many steps.
        numbers: how many numbers; see :func:`granted`.
        instead: the line that does without it, for the message.

    Raises:
        FileError: if there is not so much left.

    >>> with granted(steps=10, numbers=100):
    ...     spend("a table", numbers=60)
    ...     spend("a table", numbers=60)
    Traceback (most recent call last):
    lamina.core.errors.FileError: a table would take the memory of 60 numbers, and the file may take that of 40 more.
    >>> spend("a table", numbers=1e12)  # nothing is being read from a file
    """
    left = _left.get()
    if left is None:
        return
    if steps > left.steps:
        raise FileError(f"{what}: building what the file describes takes too many steps for a file of its size.")
    if numbers > left.numbers:
        taken = f"{what} would take the memory of {numbers:.6g} numbers"
        remedy = f"\nWrite:  {instead}" if instead else ""
        raise FileError(f"{taken}, and the file may take that of {left.numbers:.6g} more.{remedy}")
    left.steps -= steps
    left.numbers -= numbers
