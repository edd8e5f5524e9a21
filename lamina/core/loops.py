"""Whether what is traced just now will run inside a loop of XLA's, where on CPUs some things are better computed otherwise."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_inside: ContextVar[bool] = ContextVar("inside a loop", default=False)


def in_loop() -> bool:
    """Whether the code that asks is the body of a loop.

    >>> with looping():
    ...     print(in_loop())
    True
    """
    return _inside.get()


@contextlib.contextmanager
def looping() -> Iterator[None]:
    """Inside, the body of a loop is traced."""
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)
