"""Random changes of the colours of pictures in training: brightness, contrast, hue and the like, and erasing."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import Array
from lamina.kernels import image as pictures
from lamina.layers.augmentation import ImageAugmentation, as_range, window_mask
from lamina.layers.base import layer

__all__ = [
    "RandomBrightness",
    "RandomContrast",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPosterization",
    "RandomSaturation",
    "Solarization",
]


class Coloring(ImageAugmentation):
    """The base of layers that change colours.

    Args:
        value_range: the least and the greatest value of a pixel.
    """

    #: whether pictures need red, green and blue
    needs_rgb = False

    def __init__(self, value_range: Sequence[float] = (0, 255), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(value_range, list | tuple) or len(value_range) != 2 or not value_range[0] < value_range[1]:
            raise ConfigError(
                f"{type(self).__name__} expects value_range as two rising numbers; received {value_range!r}.\n"
                "Write:  value_range=(0, 255)  or  value_range=(0, 1)"
            )
        self.value_range = tuple(value_range)

    def change(self, data: dict[str, Array], key: Array) -> dict[str, Array]:
        channels = data["images"].shape[-1]
        if self.needs_rgb and channels != 3:
            raise ShapeError(
                f"layer {self.name!r} ({type(self).__name__}) expected pictures of 3 channels; received {channels}"
            )
        return super().change(data, key)

    def clip(self, x: Array) -> Array:
        """``x`` within the value range."""
        return jnp.clip(x, *self.value_range)

    def to_unit(self, x: Array) -> Array:
        """The value range as 0 to 1."""
        low, high = self.value_range
        return (x - low) / (high - low)

    def from_unit(self, x: Array) -> Array:
        """0 to 1 as the value range."""
        low, high = self.value_range
        return x * (high - low) + low


@layer
class RandomBrightness(Coloring):
    """Pictures lighter or darker.

    Args:
        factor: the range of what is added, as shares of the value range: a number for either way, or a pair.
        value_range: the least and the greatest value of a pixel.
        seed: goes into the random numbers.

    >>> RandomBrightness((0.5, 0.5), (0, 1))(jnp.array([[[0.0], [0.7]]])).ravel().tolist()
    [0.5, 1.0]
    """

    def __init__(
        self,
        factor: float | Sequence[float],
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        self.factor = as_range(self, "factor", factor, -1, 1)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        return self.between(key, self.factor) * (self.value_range[1] - self.value_range[0])

    def augment(self, image: Array, drawn: Array) -> Array:
        return self.clip(image + drawn)


@layer
class RandomContrast(Coloring):
    r"""Pictures with more or less contrast, :math:`(x - m) f + m` with the mean :math:`m` of each channel.

    Args:
        factor: ``lower, upper`` for :math:`f` from ``1 - lower`` to ``1 + upper``; a number for both.
        value_range: the least and the greatest value of a pixel.
        seed: goes into the random numbers.

    >>> RandomContrast(0.0, (0, 1))(jnp.array([[[0.25], [0.75]]])).ravel().tolist()
    [0.25, 0.75]
    """

    def __init__(
        self,
        factor: float | Sequence[float],
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        pair = (factor, factor) if isinstance(factor, int | float) else factor
        as_range(self, "factor", pair, 0, 1)
        self.factor = (float(pair[0]), float(pair[1]))

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        return self.between(key, (1 - self.factor[0], 1 + self.factor[1]))

    def augment(self, image: Array, drawn: Array) -> Array:
        mean = image.mean((0, 1), keepdims=True, dtype=drawn.dtype)
        return self.clip((image - mean) * drawn + mean)


@layer
class RandomHue(Coloring):
    """Pictures with their colours moved around the colour wheel.

    Args:
        factor: the range of moves, from 0 to 1, where 1 is half a turn: a number for up to it, or a pair; either way.
        value_range: the least and the greatest value of a pixel.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        seed: goes into the random numbers.

    >>> RandomHue((1.0, 1.0), (0, 1))(jnp.array([[[1.0, 0.0, 0.0]]])).round(4).ravel().tolist()
    [0.0, 1.0, 1.0]
    """

    needs_rgb = True

    def __init__(
        self,
        factor: float | Sequence[float],
        value_range: Sequence[float] = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, data_format=data_format, seed=seed, **kwargs)
        self.factor = as_range(self, "factor", factor, 0, 1, "up")

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        size, way = jax.random.split(key)
        return self.between(size, self.factor) / 2 * jnp.where(jax.random.bernoulli(way), 1, -1)

    def augment(self, image: Array, drawn: Array) -> Array:
        hsv = pictures.rgb_to_hsv(self.to_unit(image))
        return self.from_unit(pictures.hsv_to_rgb(hsv.at[..., 0].add(drawn.astype(hsv.dtype))))


@layer
class RandomSaturation(Coloring):
    r"""Pictures paler or more colourful: the saturation times :math:`f / (1 - f)`.

    Args:
        factor: the range of :math:`f`, from 0 (grey) over 0.5 (unchanged) to 1: a number for up to it, or a pair.
        value_range: the least and the greatest value of a pixel.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        seed: goes into the random numbers.

    >>> RandomSaturation((0.0, 0.0), (0, 1))(jnp.array([[[1.0, 0.0, 0.0]]])).ravel().tolist()
    [1.0, 1.0, 1.0]
    """

    needs_rgb = True

    def __init__(
        self,
        factor: float | Sequence[float],
        value_range: Sequence[float] = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, data_format=data_format, seed=seed, **kwargs)
        self.factor = as_range(self, "factor", factor, 0, 1, "up")

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        factor = self.between(key, self.factor)
        return factor / (1 - factor + 1e-7)

    def augment(self, image: Array, drawn: Array) -> Array:
        hsv = pictures.rgb_to_hsv(self.to_unit(image))
        saturation = jnp.clip(hsv[..., 1] * drawn.astype(hsv.dtype), 0, 1)
        return self.from_unit(pictures.hsv_to_rgb(hsv.at[..., 1].set(saturation)))


@layer
class RandomGrayscale(Coloring):
    """Some pictures without colours; they keep three channels.

    Args:
        factor: the probability, from 0 to 1.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        seed: goes into the random numbers.

    >>> RandomGrayscale(1.0)(jnp.array([[[0.0, 100.0, 0.0]]])).round(1).ravel().tolist()
    [58.7..., 58.7..., 58.7...]
    """

    def __init__(
        self, factor: float = 0.5, data_format: str | None = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(data_format=data_format, seed=seed, **kwargs)
        as_range(self, "factor", factor, 0, 1, "up")
        self.factor = factor

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.bernoulli(key, self.factor)

    def augment(self, image: Array, drawn: Array) -> Array:
        if image.shape[-1] not in (1, 3):
            raise ShapeError(f"layer {self.name!r} (RandomGrayscale) expected 1 or 3 channels; received {image.shape}")
        return jnp.where(drawn, pictures.grayscale(image), image)


@layer
class RandomInvert(Coloring):
    """Some pictures as negatives.

    Args:
        factor: the probability, from 0 to 1; a pair for a range to draw it from.
        value_range: the least and the greatest value of a pixel.
        seed: goes into the random numbers.
        data_format: ``"channels_last"`` or ``"channels_first"``.

    >>> RandomInvert((1.0, 1.0))(jnp.array([[[5.0]]])).item()
    250.0
    """

    def __init__(
        self,
        factor: float | Sequence[float] = 1.0,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed=seed, data_format=data_format, **kwargs)
        self.factor = as_range(self, "factor", factor, 0, 1, "up")

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        chance, coin = jax.random.split(key)
        return jax.random.bernoulli(coin, self.between(chance, self.factor))

    def augment(self, image: Array, drawn: Array) -> Array:
        low, high = self.value_range
        return jnp.where(drawn, low + high - image, image)


@layer
class RandomPosterization(Coloring):
    """Pictures with fewer shades: only the leading bits of a pixel stay.

    Args:
        factor: how many of the 8 bits stay, from 1 to 8; a pair for a range to draw it from.
        value_range: the least and the greatest value of a pixel.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        seed: goes into the random numbers.

    >>> RandomPosterization(1)(jnp.array([[[200.0], [100.0]]])).ravel().tolist()
    [128.0, 0.0]
    """

    def __init__(
        self,
        factor: int | Sequence[int],
        value_range: Sequence[float] = (0, 255),
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, data_format=data_format, seed=seed, **kwargs)
        pair = (factor, factor) if isinstance(factor, int) else factor
        lower, upper = as_range(self, "factor", pair, 1, 8)
        self.factor = (int(lower), int(upper))

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jax.random.randint(key, (), self.factor[0], self.factor[1] + 1)

    def augment(self, image: Array, drawn: Array) -> Array:
        step = 2.0 ** (8 - drawn).astype(image.dtype)
        return self.from_unit(jnp.floor(self.to_unit(image) * 255 / step) * step / 255)


@layer
class RandomErasing(Coloring):
    """A window of some pictures painted over.

    Args:
        factor: the range of the probability that a picture is changed: a number for up to it, or a pair.
        scale: the range of the squares of the window's height and width, as shares of the picture's.
        fill_value: what is painted: a number, one for each channel, or noise if ``None``.
        value_range: the least and the greatest value of a pixel.
        seed: goes into the random numbers.
        data_format: ``"channels_last"`` or ``"channels_first"``.

    Paper: Zhong et al., Random Erasing Data Augmentation, 2020.

    >>> RandomErasing((1.0, 1.0), (1.0, 1.0), fill_value=9.0)(jnp.ones((1, 2, 1))).ravel().tolist()
    [9.0, 9.0]
    """

    def __init__(
        self,
        factor: float | Sequence[float] = 1.0,
        scale: float | Sequence[float] = (0.02, 0.33),
        fill_value: float | Sequence[float] | None = None,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed=seed, data_format=data_format, **kwargs)
        self.factor = as_range(self, "factor", factor, 0, 1, "up")
        self.scale = as_range(self, "scale", scale, 0, 1, "up")
        self.fill_value = fill_value

    def draw(self, key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        chance, coin, tall, wide, place, noise = jax.random.split(key, 6)
        erase = jax.random.bernoulli(coin, self.between(chance, self.factor))
        sides = jnp.sqrt(jnp.stack([self.between(tall, self.scale), self.between(wide, self.scale)]))
        window = erase & window_mask(place, shape, sides)
        if self.fill_value is None:
            return window, self.clip(jax.random.normal(noise, shape, sides.dtype) * self.value_range[1])
        return window, self.clip(jnp.asarray(self.fill_value, sides.dtype))

    def augment(self, image: Array, drawn: tuple[Array, Array]) -> Array:
        window, fill = drawn
        return jnp.where(window[..., None], fill.astype(image.dtype), image)


@layer
class Solarization(Coloring):
    """Pixels above a threshold turned to their negative.

    Args:
        addition_factor: the range of what is added first, as shares of the value range: a number for up to it, or a
            pair from 0 to 1.
        threshold_factor: the range of the threshold, likewise.
        value_range: the least and the greatest value of a pixel.
        seed: goes into the random numbers.

    >>> Solarization(threshold_factor=(0.5, 0.5))(jnp.array([[[100.0], [200.0]]])).ravel().tolist()
    [100.0, 55.0]
    """

    def __init__(
        self,
        addition_factor: float | Sequence[float] = 0.0,
        threshold_factor: float | Sequence[float] = 0.0,
        value_range: Sequence[float] = (0, 255),
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(value_range, seed=seed, **kwargs)
        self.addition_factor = as_range(self, "addition_factor", addition_factor, 0, 1, "up")
        self.threshold_factor = as_range(self, "threshold_factor", threshold_factor, 0, 1, "up")

    def draw(self, key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        add, cut = jax.random.split(key)
        width = self.value_range[1] - self.value_range[0]
        return (
            self.between(add, self.addition_factor) * width,
            self.between(cut, self.threshold_factor) * width + self.value_range[0],
        )

    def augment(self, image: Array, drawn: tuple[Array, Array]) -> Array:
        added, threshold = drawn
        x = self.clip(image + added)
        return jnp.where(x < threshold, x, sum(self.value_range) - x)
