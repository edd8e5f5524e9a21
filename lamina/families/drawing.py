"""What language models that write one token after the other have in common."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax

from lamina.core.state import Array, bind
from lamina.models import Model

#: the most tokens that are written before the host looks at them, and the most where somebody waits to read them
STRETCH, SHORT_STRETCH = 64, 32


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
