"""Layers that move entries around: flatten, reshape, permute, repeat, enlarge, pad and crop."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.shapes import Shape
from lamina.core.state import Array, current_scope
from lamina.kernels import image
from lamina.layers.base import InputSpec, Layer, layer
from lamina.layers.checks import check_choice
from lamina.layers.spatial import Spatial, is_whole

__all__ = [
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "Flatten",
    "Permute",
    "RepeatVector",
    "Reshape",
    "UpSampling1D",
    "UpSampling2D",
    "UpSampling3D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
]

Sizes = int | Sequence[int]
Borders = int | Sequence[int] | Sequence[Sequence[int]]


@layer
class Flatten(Layer):
    """All axes but the batch in one.

    Args:
        data_format: ``"channels_first"`` if the input has its channels in axis 1; they are moved last, so that the
            output is the same as for ``"channels_last"``.

    >>> Flatten()(jnp.ones((2, 3, 4))).shape
    (2, 12)
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format or "channels_last"
        check_choice(self, "data_format", self.data_format, ("channels_last", "channels_first"))
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs: Array) -> Array:
        if self.data_format == "channels_first" and inputs.ndim > 1:
            inputs = jnp.moveaxis(inputs, 1, -1)
        return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))


@layer
class Reshape(Layer):
    """The same entries in another shape.

    Args:
        target_shape: the shape without the batch axis; one of its lengths may be -1, which is what is left over.

    >>> Reshape((2, -1))(jnp.ones((5, 6))).shape
    (5, 2, 3)
    """

    def __init__(self, target_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        lengths = tuple(target_shape) if isinstance(target_shape, Sequence) else (None,)
        if not all(is_whole(n, -1) for n in lengths) or lengths.count(-1) > 1:
            raise ConfigError(
                f"Reshape expects target_shape as whole numbers, one of which may be -1; received {target_shape!r}.\n"
                "Write the shape without the batch axis, as:  Reshape((28, 28, 1))"
            )
        self.target_shape = lengths

    def build(self, input_shape: Shape) -> None:
        if None not in input_shape[1:]:
            self.resolve(input_shape)

    def resolve(self, shape: Shape) -> tuple[int, ...]:
        """The shape of each example, with -1 filled in.

        Raises:
            ShapeError: if the number of entries does not fit.
        """
        have = math.prod(n or 0 for n in shape[1:])
        known = math.prod(n for n in self.target_shape if n != -1)
        if -1 in self.target_shape and known and have % known == 0:
            return tuple(have // known if n == -1 else n for n in self.target_shape)
        if have != known or -1 in self.target_shape:
            raise ShapeError(
                f"layer {self.name!r} (Reshape) expected {'a multiple of ' if -1 in self.target_shape else ''}{known} "
                f"entries per example for target_shape={self.target_shape}; received {have} in shape {tuple(shape)}"
            )
        return self.target_shape

    def call(self, inputs: Array) -> Array:
        scope = current_scope()
        try:
            return inputs.reshape(inputs.shape[0], *self.resolve(inputs.shape))
        except ShapeError:
            if self.built and scope is not None and scope.abstract:
                # a trial with made-up lengths of unknown axes: only which axes of the result follow them matters
                left = inputs.size // inputs.shape[0]
                return jnp.zeros((inputs.shape[0], *(left if n == -1 else n for n in self.target_shape)), inputs.dtype)
            raise


@layer
class Permute(Layer):
    """The axes in another order.

    Args:
        dims: the present places of the axes, counted from 1 without the batch axis, in the order they are to have.

    >>> Permute((2, 1))(jnp.ones((5, 3, 4))).shape
    (5, 4, 3)
    """

    def __init__(self, dims: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ConfigError(
                f"Permute expects dims as the numbers 1 to n in some order; received {dims!r}.\n"
                "The batch axis is not counted: to swap the two axes after it, write  Permute((2, 1))"
            )
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs: Array) -> Array:
        return jnp.transpose(inputs, (0, *self.dims))


@layer
class RepeatVector(Layer):
    """Each vector of ``(batch, features)`` as ``n`` equal steps of a sequence.

    Args:
        n: the number of steps.

    >>> RepeatVector(3)(jnp.ones((5, 4))).shape
    (5, 3, 4)
    """

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not is_whole(n, 1):
            raise ConfigError(f"RepeatVector expects n as a whole number of at least 1; received {n!r}")
        self.n = n
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs: Array) -> Array:
        return jnp.repeat(inputs[:, None], self.n, axis=1)


class UpSampling(Spatial):
    """The input enlarged by a whole number along each axis.

    Args:
        size: the factor along each axis.
        data_format: ``"channels_last"`` or ``"channels_first"``.
    """

    def __init__(self, size: Sizes = 2, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.size = self.per_axis("size", size)

    def call(self, inputs: Array) -> Array:
        return self.own_format(self.enlarge(self.channels_last(inputs)))

    def enlarge(self, x: Array) -> Array:
        """Each entry repeated along each axis."""
        for axis, factor in enumerate(self.size, 1):
            x = jnp.repeat(x, factor, axis=axis)
        return x


@layer
class UpSampling1D(UpSampling):
    """Each step of ``(batch, steps, channels)`` repeated.

    Args:
        size: how often.

    >>> UpSampling1D(2)(jnp.array([[[1.0], [2.0]]]))[0, :, 0].tolist()
    [1.0, 1.0, 2.0, 2.0]
    """

    rank = 1

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        super().__init__(size, **kwargs)


@layer
class UpSampling2D(UpSampling):
    """Pictures ``(batch, height, width, channels)`` enlarged by a whole number.

    Args:
        size: the factor along each axis.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        interpolation: ``"nearest"`` repeats pixels; ``"bilinear"``, ``"bicubic"``, ``"lanczos3"`` or ``"lanczos5"``.

    >>> UpSampling2D(2)(jnp.ones((1, 3, 4, 1))).shape
    (1, 6, 8, 1)
    """

    rank = 2

    def __init__(
        self, size: Sizes = 2, data_format: str | None = None, interpolation: str = "nearest", **kwargs: Any
    ) -> None:
        super().__init__(size, data_format, **kwargs)
        self.interpolation = interpolation.lower()
        check_choice(self, "interpolation", self.interpolation, tuple(image.INTERPOLATIONS))

    def enlarge(self, x: Array) -> Array:
        if self.interpolation == "nearest":
            return super().enlarge(x)
        height, width = x.shape[1] * self.size[0], x.shape[2] * self.size[1]
        return image.resize(x, (height, width), self.interpolation)


@layer
class UpSampling3D(UpSampling):
    """Each entry of ``(batch, depth, height, width, channels)`` repeated; arguments as in :class:`UpSampling`.

    >>> UpSampling3D(2)(jnp.ones((1, 2, 3, 4, 1))).shape
    (1, 4, 6, 8, 1)
    """

    rank = 3


class Bordered(Spatial):
    """The base of layers that add to or take from both ends of each axis."""

    def borders(self, name: str, value: Borders) -> tuple[tuple[int, int], ...]:
        """How much to add or take before and after each axis.

        Args:
            name: the argument, for messages.
            value: a whole number for all ends; one for both ends of each axis; or ``(before, after)`` for each.

        Raises:
            ConfigError: if it is none of these.
        """
        each: Any = [value] * self.rank if isinstance(value, int) else value
        if self.rank == 1 and isinstance(value, Sequence):
            each = [value]
        pairs = [(n, n) if isinstance(n, int) else n for n in each] if isinstance(each, Sequence) else []
        fits = [isinstance(p, Sequence) and len(p) == 2 and all(is_whole(n, 0) for n in p) for p in pairs]
        if len(pairs) != self.rank or not all(fits):
            example = (1, 2) if self.rank == 1 else ((1, 2),) * self.rank
            raise ConfigError(
                f"{type(self).__name__} expects {name} as a whole number of at least 0, or one (before, after) per "
                f"axis, as {example}; received {value!r}"
            )
        return tuple((before, after) for before, after in pairs)


class ZeroPadding(Bordered):
    """Zeros before and after each axis.

    Args:
        padding: how many: a number for all ends; one for both ends of each axis; or ``(before, after)`` for each.
        data_format: ``"channels_last"`` or ``"channels_first"``.
    """

    def __init__(self, padding: Borders = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format=data_format, **kwargs)
        pairs = self.borders("padding", padding)
        self.padding = pairs if self.rank > 1 else pairs[0]

    def call(self, inputs: Array) -> Array:
        x = self.channels_last(inputs)
        return self.own_format(jnp.pad(x, [(0, 0), *self.borders("padding", self.padding), (0, 0)]))


class Cropping(Bordered):
    """Entries taken away from both ends of each axis.

    Args:
        cropping: how many: a number for all ends; one for both ends of each axis; or ``(before, after)`` for each.
        data_format: ``"channels_last"`` or ``"channels_first"``.
    """

    def __init__(self, cropping: Borders = 0, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format=data_format, **kwargs)
        pairs = self.borders("cropping", cropping)
        self.cropping = pairs if self.rank > 1 else pairs[0]

    def build(self, input_shape: Shape) -> None:
        self.check_window(input_shape, self.least())

    def least(self) -> list[int]:
        """The least lengths of which something is left."""
        return [sum(pair) + 1 for pair in self.borders("cropping", self.cropping)]

    def call(self, inputs: Array) -> Array:
        self.check_window(inputs.shape, self.least())
        x = self.channels_last(inputs)
        for axis, (before, after) in enumerate(self.borders("cropping", self.cropping), 1):
            x = lax.slice_in_dim(x, min(before, x.shape[axis]), max(x.shape[axis] - after, before), axis=axis)
        return self.own_format(x)


@layer
class ZeroPadding1D(ZeroPadding):
    """Zeros before and after the steps of ``(batch, steps, channels)``; arguments as in :class:`ZeroPadding`.

    >>> ZeroPadding1D((1, 0))(jnp.ones((1, 2, 1)))[0, :, 0].tolist()
    [0.0, 1.0, 1.0]
    """

    rank = 1


@layer
class ZeroPadding2D(ZeroPadding):
    """Zeros around pictures ``(batch, height, width, channels)``; arguments as in :class:`ZeroPadding`.

    >>> ZeroPadding2D(((0, 1), (2, 2)))(jnp.ones((1, 3, 4, 1))).shape
    (1, 4, 8, 1)
    """

    rank = 2


@layer
class ZeroPadding3D(ZeroPadding):
    """Zeros around volumes ``(batch, depth, height, width, channels)``; arguments as in :class:`ZeroPadding`.

    >>> ZeroPadding3D()(jnp.ones((1, 2, 3, 4, 1))).shape
    (1, 4, 5, 6, 1)
    """

    rank = 3


@layer
class Cropping1D(Cropping):
    """Steps taken away from both ends of ``(batch, steps, channels)``; arguments as in :class:`Cropping`.

    >>> Cropping1D((1, 0))(jnp.array([[[1.0], [2.0], [3.0]]]))[0, :, 0].tolist()
    [2.0, 3.0]
    """

    rank = 1

    def __init__(self, cropping: Borders = (1, 1), **kwargs: Any) -> None:
        super().__init__(cropping, **kwargs)


@layer
class Cropping2D(Cropping):
    """Borders taken away from pictures ``(batch, height, width, channels)``; arguments as in :class:`Cropping`.

    >>> Cropping2D(((0, 1), (2, 1)))(jnp.ones((1, 3, 4, 1))).shape
    (1, 2, 1, 1)
    """

    rank = 2


@layer
class Cropping3D(Cropping):
    """Borders taken away from volumes ``(batch, depth, height, width, channels)``; arguments as in :class:`Cropping`.

    >>> Cropping3D()(jnp.ones((1, 3, 4, 5, 1))).shape
    (1, 1, 2, 3, 1)
    """

    rank = 3

    def __init__(self, cropping: Borders = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(cropping, data_format, **kwargs)
