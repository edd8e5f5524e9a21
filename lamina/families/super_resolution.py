"""Super-resolution: a network that enlarges pictures, trained on what their shrunken copies have lost."""

import math
from typing import Any, ClassVar, Self

import numpy as np

from lamina.core.errors import ConfigError, DataError
from lamina.families.base import Family, check_is_fitted, held_out, whole
from lamina.families.pictures import as_picture_list, refuse_other_scale, stored_as, value_range
from lamina.layers import Add, Conv2D, Input, Rescaling, UpSampling2D
from lamina.models import Model
from lamina.ops.spatial import depth_to_space
from lamina.optimizers import Adam
from lamina.schedules import CosineDecay

#: the side of what is learnt from and of what is enlarged at a time, in pixels of the small picture
PATCH, TILE = 24, 64


def network(scale: int, channels: int, filters: int, blocks: int, low: float, high: float) -> Model:
    """Bicubic enlargement, and a residual network at low resolution that adds what it leaves out.

    Each small pixel gets ``scale * scale`` numbers for each channel, which become pixels of the large picture.

    Args:
        scale: the factor.
        channels: of a picture.
        filters: of the convolutions.
        blocks: of two convolutions each.
        low: the value of black.
        high: the value of white.

    Shi et al. (2016), "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
    Neural Network"; Lim et al. (2017), "Enhanced Deep Residual Networks for Single Image Super-Resolution".
    """
    picture = Input((None, None, channels))
    x = Rescaling(1 / (high - low), -low / (high - low))(picture)
    h = first = Conv2D(filters, 3, padding="same")(x)
    for _ in range(blocks):
        inner = Conv2D(filters, 3, padding="same", activation="relu")(h)
        h = Add()([h, Conv2D(filters, 3, padding="same")(inner)])
    # it begins at zero: what is learnt first is never worse than bicubic enlargement
    details = Conv2D(channels * scale**2, 3, padding="same", kernel_initializer="zeros")(Add()([h, first]))
    smooth = UpSampling2D(scale, interpolation="bicubic")(x)
    return Model(picture, Rescaling(high - low, low)(Add()([smooth, depth_to_space(details, scale)])))


class SuperResolution(Family):
    """Enlarges pictures two or four times, with more detail than interpolation can give.

    ``fit`` takes pictures as sharp as there are, shrinks them itself and learns the way back; ``upscale`` enlarges
    pictures of any size.

    Args:
        scale: 2 or 4.
        filters: of the convolutions.
        blocks: how many pairs of convolutions.
        crops: how many places are cut from the pictures to learn from, turned and mirrored at random.
        epochs: at most so many passes over these.
        batch_size: crops in a step.
        learning_rate: the first one; it falls along a cosine.
        validation_fraction: the share of the crops that is watched over training and not learnt from.
        patience: epochs without getting better before stopping; a third of all if ``None``, 0 never to stop.
        verbose: 0, 1, 2, or ``"auto"``: a bar on a terminal.
        random_state: the seed.
        warm_start: whether ``fit`` goes on with the present weights.

    Attributes:
        model_: the network, for pictures of any size.
        history_: loss and validation loss of each epoch: the mean absolute error.

    >>> pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32), "uint8")
    >>> model = SuperResolution(filters=4, blocks=1, crops=8, epochs=1, random_state=0).fit(pictures)
    >>> model.upscale(pictures[0]).shape
    (64, 64)
    """

    _kept: ClassVar[tuple[str, ...]] = ("channels_", "dtype_", "scale_")

    #: the factor that the network enlarges by; the channels and dtype of the pictures
    scale_: int
    channels_: int
    dtype_: str

    def __init__(
        self,
        scale: int = 2,
        filters: int = 24,
        blocks: int = 4,
        crops: int = 2000,
        epochs: int = 20,
        batch_size: int = 16,
        learning_rate: float = 1e-3,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        verbose: int | str = "auto",
        random_state: int | None = None,
        warm_start: bool = False,
    ) -> None:
        self.scale = scale
        self.filters = filters
        self.blocks = blocks
        self.crops = crops
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.verbose = verbose
        self.random_state = random_state
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on pictures of high resolution.

        Args:
            X: an array ``(n, height, width)`` or ``(n, height, width, channels)``, a list of pictures of any sizes, or a
                folder of them.
            y: ignored.

        Raises:
            ConfigError: for settings out of their range.
            DataError: for pictures that are none, or smaller than 8 pixels once shrunk.
        """
        self._check_settings()
        with self._seeded() as seed:
            pictures = as_picture_list(X)
            going_on = self.warm_start and hasattr(self, "model_")
            if going_on and pictures[0].shape[-1] != self.channels_:
                raise DataError(f"warm_start goes on with {self.channels_} channels; received {pictures[0].shape[-1]}")
            scale = self.scale_ if going_on else self.scale
            small, large = cut(pictures, scale, self.crops, np.random.default_rng([seed, 1]))
            self.channels_, self.dtype_, self.scale_ = small.shape[-1], small.dtype.name, scale
            if not going_on:
                self.model_ = network(self.scale, self.channels_, self.filters, self.blocks, *value_range(large))
            learnt, watched = held_out(len(small), self.validation_fraction, seed)
            steps = self.epochs * math.ceil(len(learnt) / self.batch_size)
            self._train(
                self.model_,
                small[learnt],
                large[learnt],
                (small[watched], large[watched]) if len(watched) else None,
                loss="mean_absolute_error",
                optimizer=Adam(CosineDecay(self.learning_rate, steps)),
                epochs=self.epochs,
                batch_size=self.batch_size,
            )
        return self

    def upscale(self, X: Any) -> Any:
        """The pictures enlarged.

        Args:
            X: as for :meth:`fit`, also one picture.

        Returns:
            In the form of ``X``: an array for an array, one picture for one, otherwise a list.

        Raises:
            DataError: for pictures that are none, or have other channels than those of ``fit``.
        """
        check_is_fitted(self)
        pictures = as_picture_list(X)
        if pictures[0].shape[-1] != self.channels_:
            hint = (
                "Write:  np.repeat(picture[..., None], 3, axis=-1)"
                if (pictures[0].shape[-1], self.channels_) == (1, 3)
                else "Convert them:  PIL.Image.fromarray(picture).convert(...)"
            )
            raise DataError(
                f"this SuperResolution was fitted on pictures with {self.channels_} channels; received "
                f"{pictures[0].shape[-1]}.\n{hint}"
            )
        for picture in pictures:
            refuse_other_scale(picture.dtype, self.dtype_)
        enlarged = [self._enlarged(picture) for picture in pictures]
        given = np.ndim(X) if isinstance(X, np.ndarray) else 4
        flat = given == 2 or (given == 3 and self.channels_ == 1) or (isinstance(X, list) and np.ndim(X[0]) == 2)
        if flat:
            enlarged = [picture[..., 0] for picture in enlarged]
        if not isinstance(X, np.ndarray):
            return enlarged
        return enlarged[0] if given == 2 or (given == 3 and not flat) else np.stack(enlarged)

    def predict(self, X: Any) -> Any:
        """As :meth:`upscale`, under scikit-learn's name."""
        return self.upscale(X)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean peak signal-to-noise ratio, in decibels, of pictures shrunk and enlarged again.

        Args:
            X: pictures of high resolution, as for :meth:`fit`.
            y: ignored.
        """
        check_is_fitted(self)
        ratios = []
        for picture in as_picture_list(X):
            picture = trimmed(picture, self.scale_)
            again = self.upscale([shrunk(picture, self.scale_)])[0]
            ratios.append(psnr(picture, again))
        return float(np.mean(ratios))

    def _check_settings(self) -> None:
        if self.scale not in (2, 4):
            raise ConfigError(f"scale is 2 or 4; received {self.scale!r}")
        for name, least in (("filters", 1), ("blocks", 1), ("crops", 1), ("epochs", 1), ("batch_size", 1)):
            whole(name, getattr(self, name), least)

    def _enlarged(self, picture: np.ndarray) -> np.ndarray:
        """One picture enlarged tile by tile; each sees as much around it as the network does, so no seams show."""
        height, width, channels = picture.shape
        margin, s = sum(isinstance(layer, Conv2D) for layer in self.model_.layers), self.scale_
        down, across = math.ceil(height / TILE), math.ceil(width / TILE)
        borders = ((margin, down * TILE - height + margin), (margin, across * TILE - width + margin), (0, 0))
        padded = np.pad(picture, borders, mode="symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (TILE + 2 * margin,) * 2, axis=(0, 1))
        tiles = np.moveaxis(windows[::TILE, ::TILE], 2, -1).reshape(-1, *windows.shape[-2:], channels)
        large = self._forward(tiles, batch_size=4)[:, s * margin : -s * margin, s * margin : -s * margin]
        large = large.reshape(down, across, s * TILE, s * TILE, channels).swapaxes(1, 2)
        large = large.reshape(down * s * TILE, across * s * TILE, channels)
        return stored_as(large[: s * height, : s * width], self.dtype_)


def cut(pictures: list[np.ndarray], scale: int, crops: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random places of random pictures, small and large, turned and mirrored; larger pictures are taken more often.

    Raises:
        DataError: for pictures that are too small.
    """
    pictures = [trimmed(picture, scale) for picture in pictures]
    least = min(min(picture.shape[:2]) for picture in pictures) // scale
    if least < 8:
        raise DataError(
            f"pictures to learn from need sides of at least {8 * scale} pixels; the smallest here has {least * scale}."
        )
    side = min(PATCH, least)
    small = [shrunk(picture, scale) for picture in pictures]
    areas = np.array([picture.shape[0] * picture.shape[1] for picture in small], float)
    pairs = []
    for i in rng.choice(len(small), crops, p=areas / areas.sum()):
        top, left = (int(rng.integers(length - side + 1)) for length in small[i].shape[:2])
        turns, mirror = int(rng.integers(4)), 1 - 2 * int(rng.integers(2))
        pairs.append(
            tuple(
                np.rot90(picture[top * s : (top + side) * s, left * s : (left + side) * s], turns)[:, ::mirror]
                for picture, s in ((small[i], 1), (pictures[i], scale))
            )
        )
    return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])


def trimmed(picture: np.ndarray, scale: int) -> np.ndarray:
    """The picture without the rows and columns that a division by ``scale`` leaves over."""
    height, width = (side // scale * scale for side in picture.shape[:2])
    return picture[:height, :width]


def shrunk(picture: np.ndarray, scale: int) -> np.ndarray:
    """The picture at a fraction of its size, by bicubic interpolation; whole numbers stay whole.

    >>> shrunk(np.full((4, 6, 1), 7, "uint8"), 2)[..., 0].tolist()
    [[7, 7, 7], [7, 7, 7]]
    """
    from PIL import Image

    size = (picture.shape[1] // scale, picture.shape[0] // scale)
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane, "float32")).resize(size, Image.Resampling.BICUBIC))
        for plane in np.moveaxis(picture, -1, 0)
    ]
    return stored_as(np.stack(planes, axis=-1), picture.dtype.name)


def psnr(picture: np.ndarray, again: np.ndarray) -> float:
    """The peak signal-to-noise ratio between two pictures, in decibels; infinite if they are equal."""
    low, high = value_range(picture)
    error = np.square(picture.astype("float64") - again).mean()
    return float(10 * np.log10((high - low) ** 2 / error)) if error else math.inf
