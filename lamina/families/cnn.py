"""Convolutional networks for pictures: arrays or a folder per class in, classes or numbers out."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from lamina.core.errors import ConfigError, DataError, ShapeError, nearest
from lamina.data.pictures import find_pictures, load_pictures, read_pictures
from lamina.families.base import Family, finite, held_out, whole
from lamina.families.labels import class_weights, encoded
from lamina.families.pictures import as_pictures, is_folder, refuse_other_scale
from lamina.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    GlobalAveragePooling2D,
    Input,
    Layer,
    MaxPooling2D,
    Normalization,
    Pipeline,
    RandomErasing,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
    add,
)
from lamina.losses import BinaryCrossentropy, CategoricalCrossentropy
from lamina.models.head import head_for
from lamina.models.model import Model
from lamina.optimizers import AdamW
from lamina.schedules import CosineDecay

#: what pictures may be changed by in training, in the order in which it is done
AUGMENTATIONS = ("flip", "shift", "rotate", "zoom", "erase")
#: what ``augment="auto"`` stands for: changes that leave letters and digits what they are
AUTO = ("shift", "rotate", "zoom")
#: collections with at least this many pictures get a residual network
RESIDUAL_FROM = 5000


def network(
    shape: tuple[int, int, int],
    head: Layer | int,
    width: int = 32,
    residual: bool = False,
    augment: Sequence[str] = AUTO,
    mean: Any = 127.5,
    variance: Any = 127.5**2,
    dtype: str = "uint8",
    dropout: float = 0.2,
) -> Model:
    """A network for pictures of one size; scaling and augmentation are layers inside.

    Args:
        shape: height, width and channels.
        head: the output layer, or how many classes there are.
        width: the filters of the first convolution.
        residual: whether to take one convolution at full size, and residual blocks below it.
        augment: names from :data:`AUGMENTATIONS`.
        mean: the mean of the pixels, one number or one for each channel.
        variance: their variance, likewise.
        dtype: that of the pictures, ``"uint8"`` or ``"float32"``.
        dropout: the share of the last features that is dropped in training.
    """
    pictures = Input(shape, dtype=dtype)
    x = Normalization(axis=-1 if np.ndim(mean) else None, mean=mean, variance=variance)(pictures)
    if augment:
        x = Pipeline(augmentation(augment))(x)
    x = residual_features(x, width) if residual else plain_features(x, width)
    x = Dropout(dropout)(GlobalAveragePooling2D()(x))
    return Model(pictures, (head if isinstance(head, Layer) else head_for(np.arange(head)).layer)(x))


def augmentation(names: Sequence[str]) -> list[Layer]:
    """The layers that change normalized pictures in training.

    Where they only move, it is by whole pixels: reading between pixels would blur what is learnt from.
    """
    read = "bilinear" if {"rotate", "zoom"} & set(names) else "nearest"
    layers: dict[str, Layer] = {
        "flip": RandomFlip("horizontal"),
        "shift": RandomTranslation(0.1, 0.1, fill_mode="nearest", interpolation=read),
        "rotate": RandomRotation(0.03, fill_mode="nearest"),
        "zoom": RandomZoom(0.1, fill_mode="nearest"),
        "erase": RandomErasing((0.5, 0.5), (0.02, 0.2), fill_value=0.0, value_range=(-8.0, 8.0)),
    }
    return [layers[name] for name in AUGMENTATIONS if name in names]


def plain_features(x: Any, width: int) -> Any:
    """Pairs of convolutions, each pair at half the resolution and twice the width."""
    side, filters = min(x.shape[1:3]), width
    while True:
        x = convolved(convolved(x, filters), filters)
        if side < 8 or filters >= 4 * width:
            return x
        x, side, filters = MaxPooling2D()(x), side // 2, filters * 2


def residual_features(x: Any, width: int) -> Any:
    """One convolution at full size, then a wider one and a residual block at each lower resolution.

    A block adds to what it gets instead of replacing it: it can do no harm at the start, and all below it learn at once.
    He et al., 2016, https://arxiv.org/abs/1512.03385
    """
    x, filters = convolved(x, width, pool=min(x.shape[1:3]) >= 12), width * 3 // 2
    while True:
        x = convolved(x, filters)
        inner = convolved(convolved(x, filters), filters, activation="linear")
        x = Activation("relu")(add([x, inner]))
        if min(x.shape[1:3]) < 12:
            return x
        x, filters = MaxPooling2D()(x), min(2 * filters, 4 * width)


def convolved(x: Any, filters: int, pool: bool = False, activation: str = "relu") -> Any:
    """A 3 x 3 convolution, pooling if asked for, batch normalization and an activation.

    Pooling comes before normalization: that leaves a quarter of the numbers to normalize, and nearly the same result.
    """
    x = Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    x = BatchNormalization(momentum=0.9)(MaxPooling2D()(x) if pool else x)
    return Activation(activation)(x)


def epochs_for(pictures: int) -> int:
    """How many epochs to allow: more passes over small collections."""
    return int(np.clip(40_000 / pictures, 5, 60))


def optimizer_for(steps: int, learning_rate: float = 4e-3, weight_decay: float = 1e-2) -> AdamW:
    """The optimizer for so many steps: a learning rate that rises for a tenth of them and falls along a cosine."""
    warm = max(1, steps // 10)
    schedule = CosineDecay(learning_rate / 40, max(1, steps - warm), warmup_target=learning_rate, warmup_steps=warm)
    return AdamW(schedule, weight_decay=weight_decay)


class _CNN(BaseEstimator, Family):
    """What classification and regression share: reading pictures, training, feature maps."""

    width: int
    residual: bool | str
    augment: str | Sequence[str] | None
    dropout: float
    learning_rate: float
    epochs: int | None
    batch_size: int | None
    warm_start: bool

    #: height, width, channels and dtype of the pictures
    shape_: tuple[int, int, int]
    dtype_: str

    def _augmentations(self) -> tuple[str, ...]:
        names: Sequence[str] = () if self.augment is None else self.augment
        if isinstance(names, str):
            names = AUTO if names == "auto" else (names,)
        for name in names:
            if name not in AUGMENTATIONS:
                raise ConfigError(
                    f"augment is 'auto', None or names of {', '.join(AUGMENTATIONS)}; received {name!r}. "
                    + nearest(str(name), AUGMENTATIONS)
                )
        return tuple(names)

    def _mirrors(self) -> bool:
        return "flip" in self._augmentations()

    def _pictures(self, X: Any, reset: bool = False) -> np.ndarray:
        """Pictures as the network takes them; with ``reset``, their shape and dtype are those from now on."""
        if not reset:
            self.model  # noqa: B018 - for its error
        if is_folder(X):
            height, width, channels = self.shape_
            files = find_pictures(X)[0] if Path(X).is_dir() else [Path(X)]
            if not files:
                raise DataError(f"{X}: there are no pictures in this folder")
            return load_pictures(files, (height, width), "grayscale" if channels == 1 else "rgb").astype(self.dtype_)
        pictures = as_pictures(_bytes(X))
        shape = tuple(pictures.shape[1:])
        if reset:
            self.shape_, self.dtype_ = shape, str(pictures.dtype)
        if shape != self.shape_:
            raise ShapeError(f"the network takes pictures of shape {self.shape_}; received {shape}.")
        refuse_other_scale(pictures.dtype, self.dtype_)
        return pictures

    def _fit(
        self,
        pictures: np.ndarray,
        y: np.ndarray,
        head: Layer,
        loss: Any,
        metrics: list[str],
        classes: np.ndarray | None = None,
        class_weight: dict[int, float] | None = None,
    ) -> None:
        count = len(pictures)
        epochs = whole("epochs", epochs_for(count) if self.epochs is None else self.epochs)
        augment = self._augmentations()
        if self.residual not in ("auto", True, False):
            raise ConfigError(f"residual is 'auto', True or False; received {self.residual!r}")
        with self._seeded() as seed:
            learnt, watched = held_out(count, self.validation_fraction, seed, classes)
            batch = int(np.clip(2 ** round(np.log2(max(len(learnt) / 40, 1))), 8, 128))
            batch = min(whole("batch_size", batch if self.batch_size is None else self.batch_size), len(learnt))
            if not (self.warm_start and "model_" in vars(self)):
                model = network(
                    self.shape_,
                    head,
                    whole("width", self.width),
                    count >= RESIDUAL_FROM if self.residual == "auto" else bool(self.residual),
                    augment,
                    *_statistics(pictures[learnt]),
                    self.dtype_,
                    self.dropout,
                )
            else:
                model = self.model_
            self._train(
                model,
                pictures[learnt],
                y[learnt],
                (pictures[watched], y[watched]) if len(watched) else None,
                loss=loss,
                metrics=metrics,
                optimizer=optimizer_for(epochs * -(-len(learnt) // batch), self.learning_rate, 5e-2),
                epochs=epochs,
                batch_size=batch,
                class_weight=class_weight,
            )

    def _answers(self, X: Any) -> np.ndarray:
        """What the network gives; where pictures may be mirrored, the mean over the picture and its mirror image."""
        pictures = self._pictures(X)
        found = self._forward(pictures).astype("float64")
        return (found + self._forward(pictures[:, :, ::-1])) / 2 if self._mirrors() else found

    def feature_maps(self, X: Any, layer: str | int = 0) -> np.ndarray:
        """What a layer inside the network gives for pictures.

        Args:
            X: pictures, as for ``predict``.
            layer: its name, as ``summary`` of :attr:`model` shows it; or its place among those that give maps, as 0 for
                the first convolution and -1 for the last.

        Returns:
            Shape ``(n, height, width, maps)``.

        Raises:
            ConfigError: if there is no such layer.
        """
        convolutions = [found for found in self.model.layers if isinstance(found, Conv2D)]
        if isinstance(layer, str):
            chosen = self.model.get_layer(layer)
        elif -len(convolutions) <= layer < len(convolutions):
            chosen = convolutions[layer]
        else:
            raise ConfigError(f"the network has {len(convolutions)} convolutions; received layer={layer}")
        return np.asarray(self._forward(self._pictures(X), model=Model(self.model.input, chosen.output)))


class CNNClassifier(ClassifierMixin, _CNN):
    """Classes of pictures.

    Args:
        width: the filters of the first convolution; all others follow from it.
        residual: whether to build the residual network, which is for large collections; by their size if ``"auto"``.
        augment: how pictures are changed in training: names of ``"flip"`` (mirrored), ``"shift"``, ``"rotate"``,
            ``"zoom"`` and ``"erase"``; ``"auto"`` for shift, rotate and zoom; or ``None``. With ``"flip"``, answers are
            averaged over a picture and its mirror image.
        label_smoothing: the share of each target that is spread over all classes.
        dropout: the share of the last features that is dropped in training.
        class_weight: how much each class counts: class -> factor, or ``"balanced"`` for equal shares.
        size: (height, width) to which the pictures of a folder are brought: scaled until they cover it, then cut; the
            most common one if ``None``.
        color: ``"grayscale"``, ``"rgb"`` or ``"auto"``, for folders.
        learning_rate: the largest step; it rises for a tenth of the training and falls along a cosine.
        epochs: passes over the data; by their number if ``None``.
        batch_size: pictures in a step; by their number if ``None``.
        validation_fraction: the share held back to stop early; none of fewer than 20 pictures.
        patience: epochs without getting better before stopping; a third of all if ``None``, 0 never to stop.
        verbose: 0 for silence, 1 for a bar, 2 for a line an epoch, ``"auto"`` for a bar in a terminal.
        random_state: the seed.
        warm_start: whether ``fit`` goes on from where the last one ended.

    ``fit(X, y)`` takes pictures ``(n, height, width)`` or ``(n, height, width, channels)``, whole numbers from 0 to 255 or
    real numbers on any scale; ``fit(folder)`` takes a folder with a folder of picture files for each class. Pictures to
    predict are on the same scale and of the same shape; those in files are made so.

    >>> X = np.zeros((40, 8, 8), "uint8"); X[::2, :, :4] = 255
    >>> model = CNNClassifier(width=4, augment=None, epochs=4, random_state=0).fit(X, ["left", "none"] * 20)
    >>> model.predict(X[:2]).tolist()
    ['left', 'none']
    """

    _kept = ("classes_", "shape_", "dtype_")

    #: the classes, sorted
    classes_: np.ndarray

    def __init__(
        self,
        width: int = 32,
        residual: bool | str = "auto",
        augment: str | Sequence[str] | None = "auto",
        label_smoothing: float = 0.0,
        dropout: float = 0.2,
        class_weight: Mapping[Any, float] | str | None = None,
        size: int | tuple[int, int] | None = None,
        color: str = "auto",
        learning_rate: float = 4e-3,
        epochs: int | None = None,
        batch_size: int | None = None,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        verbose: int | str = "auto",
        random_state: int | None = None,
        warm_start: bool = False,
    ) -> None:
        self.width, self.residual, self.augment = width, residual, augment
        self.label_smoothing, self.dropout, self.class_weight = label_smoothing, dropout, class_weight
        self.size, self.color = size, color
        self.learning_rate, self.epochs, self.batch_size = learning_rate, epochs, batch_size
        self.validation_fraction, self.patience = validation_fraction, patience
        self.verbose, self.random_state, self.warm_start = verbose, random_state, warm_start

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from pictures.

        Args:
            X: pictures, or the path of a folder with a folder for each class.
            y: the class of each picture; none for a folder.

        Raises:
            DataError: for pictures of several sizes in a list, one class, or a class with one picture.
        """
        if is_folder(X):
            if y is not None:
                raise ConfigError("the folders' names are the classes.\nWrite:  fit(folder)")
            X, y = self._folder(X, self.size, self.color)
        goes_on = self.warm_start and "model_" in vars(self)
        pictures = self._pictures(X, reset=not goes_on)
        self.classes_, places = encoded(y, len(pictures), before=self.classes_ if goes_on else None)
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing is a number from 0 to less than 1; received {self.label_smoothing!r}")
        count = len(self.classes_)
        self._fit(
            pictures,
            places[:, None].astype("float32") if count == 2 else np.eye(count, dtype="float32")[places],
            head_for(np.arange(count)).layer,
            (BinaryCrossentropy if count == 2 else CategoricalCrossentropy)(label_smoothing=self.label_smoothing),
            ["accuracy"],
            places,
            class_weights(self.class_weight, self.classes_, places),
        )
        return self

    def _folder(self, folder: str | os.PathLike[str], size: Any, color: str) -> tuple[np.ndarray, np.ndarray]:
        found = read_pictures(folder, size, color)
        return found.pictures, np.array(found.class_names)[found.labels]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class ``(n, classes)``, in the order of ``classes_``.

        Args:
            X: pictures, one picture file, or a folder: all pictures below it, sorted by path.
        """
        p = self._answers(X)
        p = np.hstack([1 - p, p]) if len(self.classes_) == 2 else p
        return p / p.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each picture, shape ``(n,)``."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The accuracy on pictures, or on a folder with a folder for each class."""
        if is_folder(X) and y is None:
            self.model  # noqa: B018 - for its error
            X, y = self._folder(X, self.shape_[:2], "grayscale" if self.shape_[2] == 1 else "rgb")
            X = X.astype(self.dtype_)
        return float(super().score(X, y, sample_weight))


class CNNRegressor(RegressorMixin, _CNN):
    """Numbers, one or several for each picture.

    Args:
        width: see :class:`CNNClassifier`, as for the other arguments.
        residual: likewise.
        augment: likewise; none by default, since a moved picture may have another number.
        dropout: likewise.
        learning_rate: likewise.
        epochs: likewise.
        batch_size: likewise.
        validation_fraction: likewise.
        patience: likewise.
        verbose: likewise.
        random_state: likewise.
        warm_start: likewise; targets keep the scale of the first ``fit``.

    The targets are scaled to mean 0 and variance 1 for training; ``history_`` is in these units.

    >>> X = np.random.default_rng(0).random((40, 8, 8))
    >>> CNNRegressor(width=4, epochs=2, random_state=0).fit(X, X.mean((1, 2))).predict(X).shape
    (40,)
    """

    _kept = ("shape_", "dtype_", "single_", "mean_", "scale_")

    def __init__(
        self,
        width: int = 32,
        residual: bool | str = "auto",
        augment: str | Sequence[str] | None = None,
        dropout: float = 0.0,
        learning_rate: float = 4e-3,
        epochs: int | None = None,
        batch_size: int | None = None,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        verbose: int | str = "auto",
        random_state: int | None = None,
        warm_start: bool = False,
    ) -> None:
        self.width, self.residual, self.augment, self.dropout = width, residual, augment, dropout
        self.learning_rate, self.epochs, self.batch_size = learning_rate, epochs, batch_size
        self.validation_fraction, self.patience = validation_fraction, patience
        self.verbose, self.random_state, self.warm_start = verbose, random_state, warm_start

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from pictures.

        Args:
            X: pictures ``(n, height, width)`` or ``(n, height, width, channels)``.
            y: the numbers, ``(n,)`` or ``(n, targets)``.

        Raises:
            DataError: for a folder, pictures of several sizes, or NaN.
            ShapeError: if there are not as many targets as pictures.
        """
        if is_folder(X):
            raise DataError(
                "a folder says nothing about numbers.\nWrite:  fit(lamina.data.pictures.load_pictures(paths), y)"
            )
        pictures = self._pictures(X, reset=not (self.warm_start and "model_" in vars(self)))
        y = np.asarray(y)
        if y.dtype.kind not in "biuf" or y.ndim not in (1, 2) or len(y) != len(pictures):
            raise ShapeError(
                f"y is expected to hold numbers, (n,) or (n, targets), for {len(pictures)} pictures; received "
                f"{y.dtype} {y.shape}"
            )
        finite("y", y)
        self.single_ = y.ndim == 1
        y = y.reshape(len(y), -1).astype("float64")
        if not (self.warm_start and "model_" in vars(self)):
            self.mean_, self.scale_ = y.mean(0), np.where(y.std(0) > 0, y.std(0), 1.0)
        y = ((y - self.mean_) / self.scale_).astype("float32")
        self._fit(pictures, y, Dense(y.shape[1]), "mean_squared_error", ["mean_absolute_error"])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The number, ``(n,)``, or numbers, ``(n, targets)``, for each picture."""
        found = self._answers(X) * self.scale_ + self.mean_
        return found[:, 0] if self.single_ else found


def _bytes(X: Any) -> Any:
    """Whole numbers from 0 to 255 as uint8, whatever they are kept in."""
    X = np.asarray(X) if hasattr(X, "dtype") else X
    if (
        hasattr(X, "dtype")
        and X.dtype.kind in "iu"
        and X.dtype != np.uint8
        and X.size
        and 0 <= X.min() <= X.max() < 256
    ):
        return X.astype("uint8")
    return X


def _statistics(pictures: np.ndarray) -> tuple[list[float], list[float]]:
    """The mean and the variance of each channel."""
    sample = pictures[:: max(1, len(pictures) // 10_000)].astype("float32")
    variance = sample.var(axis=(0, 1, 2), dtype="float64")
    return sample.mean(axis=(0, 1, 2), dtype="float64").tolist(), np.where(variance > 0, variance, 1.0).tolist()
