"""Pooling in one, two and three dimensions: over windows, over everything, and to a given size."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core import registry
from lamina.core.shapes import Shape
from lamina.core.state import Array
from lamina.kernels import pooling as kernels
from lamina.layers.spatial import Spatial

__all__ = [
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalAvgPool1D",
    "GlobalAvgPool2D",
    "GlobalAvgPool3D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "GlobalMaxPool3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
]

Sizes = int | Sequence[int]


class Pooling(Spatial):
    """Each window of the input becomes one entry, in each channel on its own.

    Args:
        pool_size: the size of the window along each axis.
        strides: its steps; ``pool_size`` if none are given.
        padding: ``"valid"`` keeps to the input; ``"same"`` also has the windows that stand out over its ends, of which
            only what lies inside counts.
        data_format: ``"channels_last"`` or ``"channels_first"``.
    """

    #: the array function that does the work
    pool: Callable[..., Array]

    def __init__(
        self,
        pool_size: Sizes = 2,
        strides: Sizes | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.pool_size = self.per_axis("pool_size", pool_size)
        self.strides = self.pool_size if strides is None else self.per_axis("strides", strides)
        self.padding = self.choose_padding(padding)

    def build(self, input_shape: Shape) -> None:
        self.check_fits(input_shape)

    def check_fits(self, shape: Shape) -> None:
        """Raise a ShapeError if no window fits into an input of this shape."""
        if self.padding == "valid":
            self.check_window(shape, self.pool_size)

    def call(self, inputs: Array) -> Array:
        self.check_fits(inputs.shape)
        pooled = type(self).pool(self.channels_last(inputs), self.pool_size, self.strides, self.padding)
        return self.own_format(pooled)


class MaxPooling(Pooling):
    """The largest entry of each window; arguments as in :class:`Pooling`."""

    pool = staticmethod(kernels.max_pool)


class AveragePooling(Pooling):
    """The mean of each window; arguments as in :class:`Pooling`."""

    pool = staticmethod(kernels.average_pool)


class GlobalPooling(Spatial):
    """All of the input but batch and channels becomes one entry.

    Args:
        data_format: ``"channels_last"`` or ``"channels_first"``.
        keepdims: whether the pooled axes stay, with length 1.
    """

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.keepdims = keepdims

    @property
    def pooled_axes(self) -> tuple[int, ...]:
        """The axes that are neither batch nor channels."""
        first = 1 if self.data_format == "channels_last" else 2
        return tuple(range(first, first + self.rank))


class GlobalMaxPooling(GlobalPooling):
    """The largest entry of each channel; arguments as in :class:`GlobalPooling`."""

    def call(self, inputs: Array) -> Array:
        return jnp.max(inputs, self.pooled_axes, keepdims=self.keepdims)


class GlobalAveragePooling(GlobalPooling):
    """The mean of each channel; arguments as in :class:`GlobalPooling`."""

    def call(self, inputs: Array) -> Array:
        return jnp.mean(inputs, self.pooled_axes, keepdims=self.keepdims)


class AdaptivePooling(Spatial):
    r"""Pooling over evenly spread windows, as many as the output is to have entries.

    Window :math:`i` of :math:`o` along an axis of length :math:`n` goes from :math:`\lfloor i n / o \rfloor` up to and
    without :math:`\lceil (i + 1) n / o \rceil`.

    Args:
        output_size: how many entries the output has along each axis.
        data_format: ``"channels_last"`` or ``"channels_first"``.
    """

    #: the array function that does the work
    pool: Callable[..., Array]

    def __init__(self, output_size: Sizes, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.output_size = self.per_axis("output_size", output_size)

    def call(self, inputs: Array) -> Array:
        return self.own_format(type(self).pool(self.channels_last(inputs), self.output_size))


class AdaptiveMaxPooling(AdaptivePooling):
    """The largest entry of each window; arguments as in :class:`AdaptivePooling`."""

    pool = staticmethod(kernels.adaptive_max_pool)


class AdaptiveAveragePooling(AdaptivePooling):
    """The mean of each window; arguments as in :class:`AdaptivePooling`."""

    pool = staticmethod(kernels.adaptive_average_pool)


@registry.register("layers", "MaxPool1D")
class MaxPooling1D(MaxPooling):
    """The largest entry of each window of ``(batch, steps, channels)``; arguments as in :class:`Pooling`.

    >>> MaxPooling1D()(jnp.array([[[1.0], [4.0], [2.0], [3.0]]]))[0, :, 0].tolist()
    [4.0, 3.0]
    """

    rank = 1


@registry.register("layers", "MaxPool2D")
class MaxPooling2D(MaxPooling):
    """The largest entry of each window of ``(batch, height, width, channels)``; arguments as in :class:`Pooling`.

    >>> MaxPooling2D()(jnp.ones((2, 5, 4, 3))).shape
    (2, 2, 2, 3)
    """

    rank = 2


@registry.register("layers", "MaxPool3D")
class MaxPooling3D(MaxPooling):
    """The largest entry of each window of ``(batch, depth, height, width, channels)``; see :class:`Pooling`.

    >>> MaxPooling3D()(jnp.ones((2, 2, 5, 4, 3))).shape
    (2, 1, 2, 2, 3)
    """

    rank = 3


@registry.register("layers", "AvgPool1D")
class AveragePooling1D(AveragePooling):
    """The mean of each window of ``(batch, steps, channels)``; arguments as in :class:`Pooling`.

    >>> AveragePooling1D()(jnp.array([[[1.0], [4.0], [2.0], [3.0]]]))[0, :, 0].tolist()
    [2.5, 2.5]
    """

    rank = 1


@registry.register("layers", "AvgPool2D")
class AveragePooling2D(AveragePooling):
    """The mean of each window of ``(batch, height, width, channels)``; arguments as in :class:`Pooling`.

    >>> AveragePooling2D(3, strides=1, padding="same")(jnp.ones((2, 5, 4, 3))).shape
    (2, 5, 4, 3)
    """

    rank = 2


@registry.register("layers", "AvgPool3D")
class AveragePooling3D(AveragePooling):
    """The mean of each window of ``(batch, depth, height, width, channels)``; arguments as in :class:`Pooling`.

    >>> AveragePooling3D()(jnp.ones((2, 2, 5, 4, 3))).shape
    (2, 1, 2, 2, 3)
    """

    rank = 3


@registry.register("layers", "GlobalMaxPool1D")
class GlobalMaxPooling1D(GlobalMaxPooling):
    """The largest entry of each channel of ``(batch, steps, channels)``; arguments as in :class:`GlobalPooling`.

    >>> GlobalMaxPooling1D()(jnp.ones((2, 5, 3))).shape
    (2, 3)
    """

    rank = 1


@registry.register("layers", "GlobalMaxPool2D")
class GlobalMaxPooling2D(GlobalMaxPooling):
    """The largest entry of each channel of ``(batch, height, width, channels)``; see :class:`GlobalPooling`.

    >>> GlobalMaxPooling2D(keepdims=True)(jnp.ones((2, 5, 4, 3))).shape
    (2, 1, 1, 3)
    """

    rank = 2


@registry.register("layers", "GlobalMaxPool3D")
class GlobalMaxPooling3D(GlobalMaxPooling):
    """The largest entry of each channel of ``(batch, depth, height, width, channels)``; see :class:`GlobalPooling`.

    >>> GlobalMaxPooling3D()(jnp.ones((2, 2, 5, 4, 3))).shape
    (2, 3)
    """

    rank = 3


@registry.register("layers", "GlobalAvgPool1D")
class GlobalAveragePooling1D(GlobalAveragePooling):
    """The mean of each channel of ``(batch, steps, channels)``, over the steps that the mask keeps.

    Arguments as in :class:`GlobalPooling`. A sequence of which no step counts has mean 0.

    >>> x = jnp.array([[[1.0], [2.0], [9.0]]])
    >>> GlobalAveragePooling1D()(x, mask=jnp.array([[True, True, False]])).tolist()
    [[1.5]]
    """

    rank = 1
    supports_masking = True

    def call(self, inputs: Array, mask: Array | None = None) -> Array:
        if mask is None:
            return super().call(inputs)
        counts = jnp.expand_dims(mask.astype(bool), self.channel_axis)
        total = jnp.sum(jnp.where(counts, inputs, 0), self.pooled_axes, keepdims=self.keepdims)
        steps = jnp.sum(counts, self.pooled_axes, keepdims=self.keepdims)
        return total / jnp.maximum(steps, 1).astype(inputs.dtype)

    def compute_mask(self, inputs: Array, previous_mask: Any = None) -> None:
        return None


@registry.register("layers", "GlobalAvgPool2D")
class GlobalAveragePooling2D(GlobalAveragePooling):
    """The mean of each channel of ``(batch, height, width, channels)``; arguments as in :class:`GlobalPooling`.

    >>> GlobalAveragePooling2D()(jnp.ones((2, 5, 4, 3))).shape
    (2, 3)
    """

    rank = 2


@registry.register("layers", "GlobalAvgPool3D")
class GlobalAveragePooling3D(GlobalAveragePooling):
    """The mean of each channel of ``(batch, depth, height, width, channels)``; see :class:`GlobalPooling`.

    >>> GlobalAveragePooling3D()(jnp.ones((2, 2, 5, 4, 3))).shape
    (2, 3)
    """

    rank = 3


@registry.register("layers")
class AdaptiveMaxPooling1D(AdaptiveMaxPooling):
    """The largest entry of each window of ``(batch, steps, channels)``; see :class:`AdaptivePooling`.

    >>> AdaptiveMaxPooling1D(2)(jnp.array([[[1.0], [4.0], [2.0]]]))[0, :, 0].tolist()
    [4.0, 4.0]
    """

    rank = 1


@registry.register("layers")
class AdaptiveMaxPooling2D(AdaptiveMaxPooling):
    """The largest entry of each window of ``(batch, height, width, channels)``; see :class:`AdaptivePooling`.

    >>> AdaptiveMaxPooling2D(2)(jnp.ones((2, 5, 7, 3))).shape
    (2, 2, 2, 3)
    """

    rank = 2


@registry.register("layers")
class AdaptiveMaxPooling3D(AdaptiveMaxPooling):
    """The largest entry of each window of ``(batch, depth, height, width, channels)``; see :class:`AdaptivePooling`.

    >>> AdaptiveMaxPooling3D((1, 2, 3))(jnp.ones((2, 2, 5, 7, 3))).shape
    (2, 1, 2, 3, 3)
    """

    rank = 3


@registry.register("layers")
class AdaptiveAveragePooling1D(AdaptiveAveragePooling):
    """The mean of each window of ``(batch, steps, channels)``; see :class:`AdaptivePooling`.

    >>> AdaptiveAveragePooling1D(2)(jnp.array([[[1.0], [4.0], [2.0]]]))[0, :, 0].tolist()
    [2.5, 3.0]
    """

    rank = 1


@registry.register("layers")
class AdaptiveAveragePooling2D(AdaptiveAveragePooling):
    """The mean of each window of ``(batch, height, width, channels)``; see :class:`AdaptivePooling`.

    >>> AdaptiveAveragePooling2D(2)(jnp.ones((2, 5, 7, 3))).shape
    (2, 2, 2, 3)
    """

    rank = 2


@registry.register("layers")
class AdaptiveAveragePooling3D(AdaptiveAveragePooling):
    """The mean of each window of ``(batch, depth, height, width, channels)``; see :class:`AdaptivePooling`.

    >>> AdaptiveAveragePooling3D((1, 2, 3))(jnp.ones((2, 2, 5, 7, 3))).shape
    (2, 1, 2, 3, 3)
    """

    rank = 3


MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D, GlobalAvgPool3D = (
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
)
