"""What layers over lengths, pictures and volumes share: the order of axes, arguments per axis, checks and hints."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape
from lamina.core.state import Array, current_scope
from lamina.layers.base import InputSpec, Layer
from lamina.layers.checks import check_choice

AXES = {1: "steps", 2: "height, width", 3: "depth, height, width"}


class Spatial(Layer):
    """The base of layers on arrays of shape ``(batch, *lengths, channels)``, or ``(batch, channels, *lengths)``.

    Args:
        data_format: ``"channels_last"``, which is the default, or ``"channels_first"``.
    """

    #: how many axes are neither batch nor channels
    rank: int

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format or "channels_last"
        check_choice(self, "data_format", self.data_format, ("channels_last", "channels_first"))
        self.input_spec = InputSpec(ndim=self.rank + 2)

    @property
    def channel_axis(self) -> int:
        """The axis of the channels."""
        return -1 if self.data_format == "channels_last" else 1

    def channels_last(self, x: Array) -> Array:
        """The input with its channels in the last axis."""
        return x if self.channel_axis == -1 else jnp.moveaxis(x, 1, -1)  # x itself, with the notes on it

    def own_format(self, x: Array) -> Array:
        """A result with channels last, in the layer's own format."""
        return x if self.channel_axis == -1 else jnp.moveaxis(x, -1, 1)

    def lengths(self, shape: Shape) -> Shape:
        """The lengths of the spatial axes in the shape of an input."""
        return tuple(shape[1:-1] if self.data_format == "channels_last" else shape[2:])

    def per_axis(self, name: str, value: Any, least: int = 1) -> tuple[int, ...]:
        """``value`` of the argument ``name`` as one whole number for each spatial axis.

        Raises:
            ConfigError: if it is neither one number nor as many as there are axes, or if one is below ``least``.
        """
        numbers = (value,) * self.rank if isinstance(value, int) else value
        fits = isinstance(numbers, Sequence) and len(numbers) == self.rank
        if not fits or not all(is_whole(n, least) for n in numbers):
            many = "" if self.rank == 1 else f", or {self.rank} of them"
            raise ConfigError(
                f"{type(self).__name__} expects {name} as a whole number of at least {least}{many}; received {value!r}"
            )
        return tuple(numbers)

    def choose_padding(self, padding: str, *more: str) -> str:
        """``padding`` in lower case, if it is ``"valid"``, ``"same"`` or one of ``more``."""
        chosen = padding.lower() if isinstance(padding, str) else padding
        check_choice(self, "padding", chosen, ("valid", "same", *more))
        return chosen

    def check_window(self, shape: Shape, size: Sequence[int]) -> None:
        """Raise a ShapeError if an input of this shape is shorter than a window of ``size`` along some axis.

        In a symbolic network only what is known is checked: unknown axes are tried in lengths that mean nothing.
        """
        scope = current_scope()
        if None not in self.lengths(shape) and self.built and scope is not None and scope.abstract:
            return
        for n, k in zip(self.lengths(shape), size, strict=True):
            if n is not None and n < k:
                raise ShapeError(
                    f"layer {self.name!r} ({type(self).__name__}) expected lengths of at least {tuple(size)}, which is "
                    f"what its window spans; received {self.lengths(shape)} in shape {tuple(shape)}.\n"
                    'Write padding="same", a smaller window, or fewer layers that shrink the input before it.'
                )

    def shape_hint(self, shape: Shape) -> str:
        axes = AXES[self.rank]
        order = f"batch, {axes}, channels" if self.data_format == "channels_last" else f"batch, channels, {axes}"
        hint = f"{type(self).__name__} takes ({order})."
        if len(shape) == self.rank + 1:
            example = ", ".join("None" if n is None else str(n) for n in shape[1:])
            if self.data_format == "channels_last":
                return f"{hint} If there is one channel, write:  x[..., None]  or  Input(({example}, 1))"
            return f"{hint} If there is one channel, write:  x[:, None]  or  Input((1, {example}))"
        if len(shape) == self.rank + 2:
            return f"{hint} Its weights were made for another number of channels."
        return f"{hint} Reshape before it, or use the layer for inputs of {len(shape)} axes."


def is_whole(value: Any, least: int) -> bool:
    """Whether ``value`` is a whole number of at least ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
