"""Long programs on a CPU: one after the other, each with its data there and its memory where that of the last one was."""

from typing import Any

import jax

from lamina import native
from lamina.core import memory


class LongProgram:
    """A compiled function whose runs take long, and much memory to work in.

    Every run works where the one before did. Where that cannot be, since small pieces are kept there by now, the system is
    given back first what is free, or the process would hold both places at once.

    Args:
        function: what ``jax.jit`` gave, of two things that keep their shapes, and of data.

    >>> import jax.numpy as jnp
    >>> scaled = LongProgram(jax.jit(lambda factor, offset, x: factor * x + offset))
    >>> float(scaled(2.0, 1.0, jnp.array(3.0)))
    7.0
    """

    def __init__(self, function: Any) -> None:
        self.function = function
        #: bytes to work in, by the shapes of the data
        self._sizes: dict[Any, int] = {}
        #: where the last run worked, and where one did before
        self._places: list[int | None] = []

    def __call__(self, changing: Any, constant: Any, *data: Any) -> Any:
        """Run it, when its data is there."""
        data = memory.arrived(data)
        if memory.keeps_freed() and native.load().names:
            self._make_room(changing, constant, data)
        return self.function(changing, constant, *data)

    def _make_room(self, changing: Any, constant: Any, data: tuple[Any, ...]) -> None:
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(data))
        if shapes not in self._sizes:  # which compiles it; the call then finds it compiled
            used = self.function.lower(changing, constant, *data).compile().memory_analysis()
            self._sizes[shapes] = used.temp_size_in_bytes if used else 0
        place = native.place_of(self._sizes[shapes])
        if place not in self._places:
            memory.give_back()
        # two, as runs whose results are kept for a while may take turns between them: memory that comes anew is slow
        self._places = [place, *(other for other in self._places if other != place)][:2]
