"""Random changes of pictures in training: what all of them share, and crops and blends.

They are drawn anew for each picture, inside the compiled step. A layer leaves pictures as they are when ``training`` is
false; called on its own, outside any model, it changes them.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from lamina.core import random
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.state import Array, current_scope
from lamina.kernels import image as pictures
from lamina.layers import base
from lamina.layers.base import Layer, layer
from lamina.layers.checks import check_choice

__all__ = ["CutMix", "MixUp", "RandomCrop"]

Range = tuple[float, float]


def as_range(owner: Layer, name: str, value: Any, low: float, high: float, single: str = "both") -> Range:
    """A number or a pair as the range to draw from.

    Args:
        owner: the layer, for the error.
        name: the argument's name, for the error.
        value: what was given.
        low: the least number allowed.
        high: the greatest.
        single: whether a number ``v`` stands for ``(-v, v)`` (``"both"``) or ``(0, v)`` (``"up"``).

    Raises:
        ConfigError: if it is neither, or outside of ``low`` to ``high``.
    """
    pair = value
    if isinstance(value, int | float) and not isinstance(value, bool):
        pair = (-abs(value) if single == "both" else 0.0, abs(value))
    if (
        not isinstance(pair, list | tuple)
        or len(pair) != 2
        or not all(isinstance(v, int | float) and low <= v <= high for v in pair)
    ):
        raise ConfigError(
            f"{type(owner).__name__} expects {name} as a number or a pair of numbers from {low} to {high}; received "
            f"{value!r}"
        )
    lower, upper = sorted(float(v) for v in pair)
    return lower, upper


class ImageAugmentation(Layer):
    """The base of layers that change pictures at random.

    A subclass writes :meth:`draw`, which makes the random numbers for one picture, and :meth:`augment`, which applies
    them to it.

    Args:
        seed: a number of one's own that goes into the random numbers.
        data_format: ``"channels_last"`` or ``"channels_first"``.

    Input: pictures ``(batch, height, width, channels)`` or one ``(height, width, channels)``; or a dictionary of
    ``"images"`` with ``"labels"`` and ``"segmentation_masks"`` that change along with them.
    """

    def __init__(self, seed: int | None = None, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.data_format = data_format or "channels_last"
        check_choice(self, "data_format", self.data_format, ("channels_last", "channels_first"))

    def draw(self, key: Array, shape: tuple[int, ...]) -> Any:
        """The random numbers for one picture of shape ``(height, width, channels)``."""
        raise NotImplementedError

    def augment(self, image: Array, drawn: Any) -> Array:
        """One picture, changed."""
        raise NotImplementedError

    def augment_mask(self, mask: Array, drawn: Any) -> Array:
        """The segmentation mask of that picture, changed along with it; unchanged unless overridden."""
        return mask

    def at_inference(self, images: Array, interpolation: str = "bilinear") -> Array:
        """What becomes of a batch of pictures, or of their masks, outside of training."""
        return images

    def between(self, key: Array, limits: Range) -> Array:
        """A number drawn evenly from a range, in at least single precision."""
        return jax.random.uniform(key, (), jnp.promote_types(self.compute_dtype, "float32"), *limits)

    def new_key(self) -> Array:
        """A key for one call."""
        key = random.next_key()
        return key if self.seed is None else jax.random.fold_in(key, self.seed)

    def change(self, data: dict[str, Array], key: Array) -> dict[str, Array]:
        """A batch of pictures and what belongs to them, changed."""
        images = data["images"]
        drawn = jax.vmap(lambda k: self.draw(k, images.shape[1:]))(jax.random.split(key, len(images)))
        changed = {"images": jax.vmap(self.augment)(images, drawn)}
        if "segmentation_masks" in data:
            changed["segmentation_masks"] = jax.vmap(self.augment_mask)(data["segmentation_masks"], drawn)
        return data | changed

    def _resolve_training(self, training: bool | None) -> bool:
        scope = current_scope()
        said = (training, base._training.get(), scope.training if scope else None)
        return Layer._resolve_training(self, training) if any(value is not None for value in said) else True

    def call(self, inputs: Any, training: bool = False) -> Any:
        data = dict(inputs) if isinstance(inputs, dict) else {"images": inputs}
        unknown = set(data) - {"images", "labels", "segmentation_masks"}
        if "images" not in data or unknown:
            raise ConfigError(
                f"{type(self).__name__} takes pictures or a dictionary of images, labels, segmentation_masks; received "
                f"one of {sorted(data)}"
            )
        shape = data["images"].shape
        if len(shape) not in (3, 4):
            raise ShapeError(
                f"layer {self.name!r} ({type(self).__name__}) expected pictures of shape (height, width, channels) or "
                f"(batch, height, width, channels); received {shape}"
            )
        data["images"] = data["images"].astype(self.compute_dtype)
        if len(shape) == 3:
            data = {name: value[None] for name, value in data.items()}
        data = self._channels(data, -3, -1)
        if training:
            data = self.change(data, self.new_key())
        else:
            data["images"] = self.at_inference(data["images"])
            if "segmentation_masks" in data:
                data["segmentation_masks"] = self.at_inference(data["segmentation_masks"], "nearest")
        data = self._channels(data, -1, -3)
        data["images"] = data["images"].astype(self.compute_dtype)
        if len(shape) == 3:
            data = {name: value[0] for name, value in data.items()}
        return data if isinstance(inputs, dict) else data["images"]

    def _channels(self, data: dict[str, Array], source: int, target: int) -> dict[str, Array]:
        if self.data_format == "channels_last":
            return data
        return {n: value if n == "labels" else jnp.moveaxis(value, source, target) for n, value in data.items()}


@layer
class RandomCrop(ImageAugmentation):
    """A window of each picture, at a place of its own.

    Outside of training, and where a picture is too small, the largest window in the middle with the right proportions,
    resized.

    Args:
        height: the height of the window.
        width: the width of the window.
        seed: goes into the random numbers.
        data_format: ``"channels_last"`` or ``"channels_first"``.

    >>> RandomCrop(4, 4)(jnp.ones((2, 6, 6, 3))).shape
    (2, 4, 4, 3)
    """

    def __init__(
        self, height: int, width: int, seed: int | None = None, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        for name, value in (("height", height), ("width", width)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"RandomCrop expects {name} of at least 1 pixel; received {value!r}")
        self.height = height
        self.width = width

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        room = jnp.asarray([shape[0] - self.height, shape[1] - self.width])
        return jax.random.randint(key, (2,), 0, jnp.maximum(room, 0) + 1)

    def augment(self, image: Array, drawn: Array) -> Array:
        return self._window(image, drawn, "bilinear")

    def augment_mask(self, mask: Array, drawn: Array) -> Array:
        return self._window(mask, drawn, "nearest")

    def _window(self, image: Array, drawn: Array, interpolation: str) -> Array:
        if image.shape[0] < self.height or image.shape[1] < self.width:
            return self.at_inference(image, interpolation)
        return lax.dynamic_slice(image, (drawn[0], drawn[1], 0), (self.height, self.width, image.shape[2]))

    def at_inference(self, images: Array, interpolation: str = "bilinear") -> Array:
        size = self.height, self.width
        return pictures.resize(pictures.crop_to_aspect(images, size), size, interpolation)


class Mixing(ImageAugmentation):
    """The base of layers that blend each picture of a batch with another, and their labels likewise."""

    mixes_rows = True

    def blend(self, images: Array, others: Array, key: Array) -> tuple[Array, Array]:
        """The blended pictures, and the share of ``images`` in each, shape ``(batch,)``."""
        raise NotImplementedError

    def change(self, data: dict[str, Array], key: Array) -> dict[str, Array]:
        if "labels" not in data:
            raise ConfigError(
                f"{type(self).__name__} blends labels too: give it a dictionary.\n"
                f'Write:  layer({{"images": x, "labels": one_hot_labels}})'
            )
        labels = data["labels"]
        if not jnp.issubdtype(labels.dtype, jnp.floating):
            raise ConfigError(
                f"{type(self).__name__} blends labels and needs them as one-hot vectors of numbers with a point; "
                f"received dtype {labels.dtype}.\nWrite:  CategoryEncoding(classes, 'one_hot')(labels)"
            )
        choose, mix = jax.random.split(key)
        other = jax.random.permutation(choose, len(labels))
        images, share = self.blend(data["images"], data["images"][other], mix)
        share = share.reshape(-1, *[1] * (labels.ndim - 1)).astype(labels.dtype)
        return data | {"images": images, "labels": share * labels + (1 - share) * labels[other]}


@layer
class MixUp(Mixing):
    r"""Pictures and labels blended, :math:`\lambda x_i + (1 - \lambda) x_j`.

    The shares :math:`\lambda` are drawn from a Beta distribution with both parameters :math:`\alpha`.

    Args:
        alpha: :math:`\alpha`; the smaller, the less is blended.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        seed: goes into the random numbers.

    Input: a dictionary of ``"images"`` and one-hot ``"labels"``. Paper: Zhang et al., mixup, 2018.

    >>> MixUp()({"images": jnp.ones((2, 4, 4, 1)), "labels": jnp.eye(2)})["labels"].sum(-1).tolist()
    [1.0, 1.0]
    """

    def __init__(
        self, alpha: float = 0.2, data_format: str | None = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        if not alpha > 0:
            raise ConfigError(f"MixUp expects alpha of more than 0; received {alpha!r}")
        self.alpha = alpha

    def blend(self, images: Array, others: Array, key: Array) -> tuple[Array, Array]:
        dtype = jnp.promote_types(images.dtype, "float32")
        share = jax.random.beta(key, self.alpha, self.alpha, (len(images),), dtype)
        weight = share[:, None, None, None].astype(images.dtype)
        return weight * images + (1 - weight) * others, share


@layer
class CutMix(Mixing):
    """A window of each picture taken from another, and the labels blended by its area.

    Args:
        factor: the range of the parameter of the Beta distribution that the area is drawn from: a number for up to it,
            or a pair, from 0 to 1.
        seed: goes into the random numbers.
        data_format: ``"channels_last"`` or ``"channels_first"``.

    Input: a dictionary of ``"images"`` and one-hot ``"labels"``. Paper: Yun et al., CutMix, 2019.

    >>> CutMix()({"images": jnp.ones((2, 4, 4, 1)), "labels": jnp.eye(2)})["labels"].shape
    (2, 2)
    """

    def __init__(
        self,
        factor: float | Sequence[float] = 1.0,
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        self.factor = as_range(self, "factor", factor, 0, 1, "up")

    def blend(self, images: Array, others: Array, key: Array) -> tuple[Array, Array]:
        vary, area, place = jax.random.split(key, 3)
        alpha = self.between(vary, self.factor) + 1e-6
        share = jax.random.beta(area, alpha, alpha, (len(images),), alpha.dtype)
        side = jnp.sqrt(1 - share)
        window = jax.vmap(lambda k, s: window_mask(k, images.shape[1:], jnp.stack([s, s])))(
            jax.random.split(place, len(images)), side
        )
        return jnp.where(window[..., None], others, images), 1 - window.mean((1, 2), dtype=alpha.dtype)


def window_mask(key: Array, shape: tuple[int, ...], sides: Array) -> Array:
    """True in a window at a random place, shape ``(height, width)``.

    Args:
        key: what the place depends on.
        shape: the shape of the picture.
        sides: the window's height and width, as shares of the picture's.
    """
    lengths = jnp.asarray(shape[:2], sides.dtype)
    start = jax.random.uniform(key, (2,), sides.dtype) * lengths * (1 - sides)
    stop = start + lengths * sides
    rows, columns = (
        (jnp.arange(length) >= first) & (jnp.arange(length) < last)
        for length, first, last in zip(shape[:2], start, stop, strict=True)
    )
    return rows[:, None] & columns[None, :]
