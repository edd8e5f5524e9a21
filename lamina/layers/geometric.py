"""Pictures flipped, turned, moved, zoomed and slanted at random in training; and Pipeline, which joins such layers."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from lamina.core.errors import ConfigError
from lamina.core.state import Array
from lamina.kernels import image as pictures
from lamina.layers.augmentation import ImageAugmentation, as_range
from lamina.layers.base import Layer, layer
from lamina.layers.checks import check_choice

__all__ = ["Pipeline", "RandomFlip", "RandomRotation", "RandomShear", "RandomTranslation", "RandomZoom"]


class Geometric(ImageAugmentation):
    """The base of layers that move pixels by a matrix, so that several in a row can be one."""

    def matrix(self, key: Array, height: int, width: int) -> Array:
        """A random matrix, shape ``(3, 3)``, from a pixel ``(y, x, 1)`` of the output to where it is read."""
        raise NotImplementedError


@layer
class RandomFlip(Geometric):
    """Pictures flipped, each with probability one half.

    Args:
        mode: ``"horizontal"`` (left and right), ``"vertical"``, or ``"horizontal_and_vertical"``, each drawn by itself.
        seed: goes into the random numbers.
        data_format: ``"channels_last"`` or ``"channels_first"``.

    >>> sorted(RandomFlip("horizontal")(jnp.array([[[1.0], [2.0]]])).ravel().tolist())
    [1.0, 2.0]
    """

    def __init__(
        self,
        mode: str = "horizontal_and_vertical",
        seed: int | None = None,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed=seed, data_format=data_format, **kwargs)
        check_choice(self, "mode", mode, ("horizontal", "vertical", "horizontal_and_vertical"))
        self.mode = mode

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        allowed = jnp.asarray(["vertical" in self.mode, "horizontal" in self.mode])
        return jax.random.bernoulli(key, 0.5, (2,)) & allowed

    def augment(self, image: Array, drawn: Array) -> Array:
        image = jnp.where(drawn[0], image[::-1], image)
        return jnp.where(drawn[1], image[:, ::-1], image)

    def augment_mask(self, mask: Array, drawn: Array) -> Array:
        return self.augment(mask, drawn)

    def matrix(self, key: Array, height: int, width: int) -> Array:
        sign = 1 - 2 * self.draw(key, (height, width)).astype(jnp.promote_types(self.compute_dtype, "float32"))
        return centred(jnp.diag(sign), height, width)


class Resampling(Geometric):
    """The base of layers that read pictures between their pixels and beyond their edges.

    Args:
        fill_mode: what stands beyond the edges: ``"reflect"``, ``"constant"``, ``"wrap"`` or ``"nearest"``.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        fill_value: the constant.
    """

    def __init__(
        self, fill_mode: str = "reflect", interpolation: str = "bilinear", fill_value: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_choice(self, "fill_mode", fill_mode, tuple(pictures.FILLS))
        check_choice(self, "interpolation", interpolation, ("nearest", "bilinear"))
        self.fill_mode = fill_mode
        self.interpolation = interpolation
        self.fill_value = fill_value

    def change(self, data: dict[str, Array], key: Array) -> dict[str, Array]:
        return super().change(data | {"images": computed_once(data["images"], key)}, key)

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        return self.matrix(key, *shape[:2])

    def augment(self, image: Array, drawn: Array) -> Array:
        return pictures.affine(image, drawn[:2], self.interpolation, self.fill_mode, self.fill_value)

    def augment_mask(self, mask: Array, drawn: Array) -> Array:
        return pictures.affine(mask, drawn[:2], "nearest", self.fill_mode, self.fill_value)


def computed_once(images: Array, key: Array) -> Array:
    """``images``, written to memory before they are read.

    On CPUs XLA would fuse what makes them into each of the four look-ups of a pixel, and the look-ups of one layer into
    those of the next: four times slower. It doesn't look across a condition that it cannot foresee, whose two outcomes
    it does not know to be the same.
    """
    word = jax.random.key_data(key).ravel()[0]

    def through_memory(x: Array) -> Array:
        return lax.cond(word % 2 == 0, lambda x: x, lambda x: jnp.maximum(x, -jnp.inf), x)

    return lax.platform_dependent(images, cpu=through_memory, default=lambda x: x)


def with_offset(linear: Array, offset: Array) -> Array:
    """The affine map with this linear part, shape ``(2, 2)``, and this offset, as a matrix of shape ``(3, 3)``."""
    top = jnp.concatenate([linear, offset[:, None].astype(linear.dtype)], 1)
    return jnp.concatenate([top, jnp.asarray([[0, 0, 1]], linear.dtype)])


def centred(linear: Array, height: int, width: int) -> Array:
    """The affine map with this linear part that leaves the middle of the picture where it is."""
    middle = jnp.asarray([(height - 1) / 2, (width - 1) / 2], linear.dtype)
    return with_offset(linear, middle - linear @ middle)


@layer
class RandomRotation(Resampling):
    r"""Pictures turned about their middle.

    Args:
        factor: the range of angles, in full turns: ``0.1`` for up to 36 degrees either way, or a pair; a positive angle
            turns counter-clockwise.
        fill_mode: what stands beyond the edges: ``"reflect"``, ``"constant"``, ``"wrap"`` or ``"nearest"``.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        seed: goes into the random numbers.
        fill_value: the constant.
        data_format: ``"channels_last"`` or ``"channels_first"``.

    >>> RandomRotation((0.5, 0.5))(jnp.array([[[1.0], [2.0]]])).round(3).ravel().tolist()
    [2.0, 1.0]
    """

    def __init__(
        self,
        factor: float | Sequence[float],
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, fill_value, seed=seed, data_format=data_format, **kwargs)
        self.factor = as_range(self, "factor", factor, -1, 1)

    def matrix(self, key: Array, height: int, width: int) -> Array:
        angle = 2 * jnp.pi * self.between(key, self.factor)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return centred(jnp.stack([jnp.stack([cos, sin]), jnp.stack([-sin, cos])]), height, width)


@layer
class RandomTranslation(Resampling):
    """Pictures moved up or down and left or right.

    Args:
        height_factor: the range of moves, as shares of the height: a number for either way, or a pair; a positive one
            moves down.
        width_factor: the same for the width; a positive one moves right.
        fill_mode: what stands beyond the edges: ``"reflect"``, ``"constant"``, ``"wrap"`` or ``"nearest"``.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        seed: goes into the random numbers.
        fill_value: the constant.
        data_format: ``"channels_last"`` or ``"channels_first"``.

    >>> RandomTranslation(0.0, (0.5, 0.5), "constant")(jnp.array([[[1.0], [2.0]]])).ravel().tolist()
    [0.0, 1.0]
    """

    def __init__(
        self,
        height_factor: float | Sequence[float],
        width_factor: float | Sequence[float],
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, fill_value, seed=seed, data_format=data_format, **kwargs)
        self.height_factor = as_range(self, "height_factor", height_factor, -1, 1)
        self.width_factor = as_range(self, "width_factor", width_factor, -1, 1)

    def matrix(self, key: Array, height: int, width: int) -> Array:
        down, right = jax.random.split(key)
        move = [height * self.between(down, self.height_factor), width * self.between(right, self.width_factor)]
        return with_offset(jnp.eye(2, dtype=move[0].dtype), -jnp.stack(move))


@layer
class RandomZoom(Resampling):
    """Pictures enlarged or made smaller about their middle.

    Args:
        height_factor: the range of changes: a number for either way, or a pair; ``(0.2, 0.3)`` shows 20 to 30 percent
            more, ``(-0.3, -0.2)`` so much less, enlarged.
        width_factor: the same for the width; that of the height if ``None``, which keeps the proportions.
        fill_mode: what stands beyond the edges: ``"reflect"``, ``"constant"``, ``"wrap"`` or ``"nearest"``.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        seed: goes into the random numbers.
        fill_value: the constant.
        data_format: ``"channels_last"`` or ``"channels_first"``.

    >>> RandomZoom((-0.5, -0.5))(jnp.array([[[1.0], [3.0]]])).ravel().tolist()
    [1.5, 2.5]
    """

    def __init__(
        self,
        height_factor: float | Sequence[float],
        width_factor: float | Sequence[float] | None = None,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, fill_value, seed=seed, data_format=data_format, **kwargs)
        self.height_factor = as_range(self, "height_factor", height_factor, -1, 1)
        self.width_factor = None if width_factor is None else as_range(self, "width_factor", width_factor, -1, 1)

    def matrix(self, key: Array, height: int, width: int) -> Array:
        down, right = jax.random.split(key)
        tall = 1 + self.between(down, self.height_factor)
        wide = tall if self.width_factor is None else 1 + self.between(right, self.width_factor)
        return centred(jnp.diag(jnp.stack([tall, wide])), height, width)


@layer
class RandomShear(Resampling):
    """Pictures slanted: rows moved the more sideways the further down they are, columns down likewise.

    Args:
        x_factor: the range of slants of the rows, from 0 to 1: a number for up to it, or a pair; either way.
        y_factor: the same for the columns.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        fill_mode: what stands beyond the edges: ``"reflect"``, ``"constant"``, ``"wrap"`` or ``"nearest"``.
        fill_value: the constant.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        seed: goes into the random numbers.

    >>> RandomShear(0.5)(jnp.ones((2, 4, 4, 1))).shape
    (2, 4, 4, 1)
    """

    def __init__(
        self,
        x_factor: float | Sequence[float] = 0.0,
        y_factor: float | Sequence[float] = 0.0,
        interpolation: str = "bilinear",
        fill_mode: str = "reflect",
        fill_value: float = 0.0,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(fill_mode, interpolation, fill_value, seed=seed, data_format=data_format, **kwargs)
        self.x_factor = as_range(self, "x_factor", x_factor, 0, 1, "up")
        self.y_factor = as_range(self, "y_factor", y_factor, 0, 1, "up")

    def matrix(self, key: Array, height: int, width: int) -> Array:
        across, down, way = jax.random.split(key, 3)
        x, y = self.between(across, self.x_factor), self.between(down, self.y_factor)
        sign = jnp.where(jax.random.bernoulli(way), 1, -1).astype(x.dtype)
        linear = jnp.eye(2, dtype=x.dtype) + sign * jnp.stack([jnp.stack([0 * y, y]), jnp.stack([x, 0 * x])])
        return with_offset(linear, jnp.zeros(2))


@layer
class Pipeline(Layer):
    """Layers in a row, most of all for augmentation.

    Flips, turns, moves and zooms that follow each other are joined where they agree on what stands beyond the edges:
    the picture is then read once, instead of being blurred several times.

    Args:
        layers: the layers, applied in order.

    >>> augment = Pipeline([RandomFlip(), RandomRotation(0.1), RandomZoom(0.1)])
    >>> len(augment.layers), len(augment.steps)
    (3, 1)
    """

    def __init__(self, layers: Sequence[Layer], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not layers or not all(isinstance(one, Layer) for one in layers):
            raise ConfigError(f"Pipeline expects a list of layers; received {layers!r}")
        self.layers = list(layers)
        self.steps = [group[0] if len(group) == 1 else Joined(group) for group in _groups(self.layers)]

    _resolve_training = ImageAugmentation._resolve_training

    def call(self, inputs: Any, training: bool = False) -> Any:
        for step in self.steps:
            inputs = step(inputs, training=training)
        return inputs


class Joined(Resampling):
    """Several geometric layers that agree on what stands beyond the edges, as one look-up."""

    def __init__(self, layers: list[Geometric]) -> None:
        rules = next(one for one in layers if isinstance(one, Resampling))
        super().__init__(
            rules.fill_mode, rules.interpolation, rules.fill_value, data_format=rules.data_format, dtype=rules.dtype
        )
        self.layers = layers

    def matrix(self, key: Array, height: int, width: int) -> Array:
        found = jnp.eye(3)
        for one, own in zip(self.layers, jax.random.split(key, len(self.layers)), strict=True):
            own = own if one.seed is None else jax.random.fold_in(own, one.seed)
            # the last layer's matrix is applied to a pixel of the output first
            found = found @ one.matrix(own, height, width)
        return found


def _groups(layers: list[Layer]) -> list[list[Any]]:
    """The layers, those together that can be joined."""

    def joins(group: list[Layer]) -> bool:
        rules = {(x.fill_mode, x.interpolation, x.fill_value) for x in group if isinstance(x, Resampling)}
        kinds = {(x.data_format, x.dtype) for x in group if isinstance(x, Geometric)}
        return all(isinstance(x, Geometric) for x in group) and len(rules) == len(kinds) == 1

    found: list[list[Layer]] = []
    for one in layers:
        # flips alone are exact, and join only what is resampled anyway
        if found and joins([*found[-1], one]):
            found[-1].append(one)
        else:
            found.append([one])
    return found
