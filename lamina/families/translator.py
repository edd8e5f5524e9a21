"""Pictures into pictures by a U-Net: noise and damage taken away, or a class for every pixel."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.families.base import Family, held_out, whole
from lamina.families.pictures import as_picture_list, refuse_other_scale, stored_as
from lamina.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Input,
    MaxPooling2D,
    Normalization,
    UpSampling2D,
    add,
    concatenate,
)
from lamina.metrics import MeanIoU
from lamina.models.model import Model
from lamina.optimizers import AdamW
from lamina.schedules import CosineDecay

LOSSES = {"squared": "mean_squared_error", "absolute": "mean_absolute_error"}


def network(
    channels: int, outputs: int, mean: Any, variance: Any, width: int = 24, depth: int = 2, task: str = "restoration"
) -> Model:
    """A U-Net for pictures whose sides are multiples of ``2 ** depth``.

    On the way down, pictures get smaller and features more; on the way up, what was seen at each size comes back in. For
    restoration with as many channels as come in, the network gives what is to be added to its input, which begins as
    nothing (Ronneberger et al., 2015, https://arxiv.org/abs/1505.04597; Zhang et al., 2017,
    https://arxiv.org/abs/1608.03981).

    Args:
        channels: those of the input.
        outputs: those of the target, or how many classes there are.
        mean: the mean of each channel of the input.
        variance: their variances.
        width: the features at full size; twice as many at each size below.
        depth: how often the size is halved.
        task: ``"restoration"`` or ``"segmentation"``.
    """
    pictures = Input((None, None, channels))
    x = normalized = Normalization(mean=mean, variance=variance)(pictures)
    seen = []
    for level in range(depth):
        x = twice(x, width * 2**level)
        seen.append(x)
        x = MaxPooling2D()(x)
    x = twice(x, width * 2**depth)
    for level in reversed(range(depth)):
        x = convolved(UpSampling2D(interpolation="bilinear")(x), width * 2**level)
        x = twice(concatenate([x, seen[level]]), width * 2**level)
    if task == "segmentation":
        return Model(pictures, Conv2D(outputs, 1, activation="softmax")(x))
    x = Conv2D(outputs, 1, kernel_initializer="zeros")(x)
    return Model(pictures, add([normalized, x]) if outputs == channels else x)


def twice(x: Any, filters: int) -> Any:
    """Two convolutions."""
    return convolved(convolved(x, filters), filters)


def convolved(x: Any, filters: int) -> Any:
    """A 3 x 3 convolution, batch normalization and a rectifier."""
    x = Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    return Activation("relu")(BatchNormalization(momentum=0.9)(x))


class ImageTranslator(Family):
    """Pictures from pictures: restored ones from damaged ones, or masks from photographs.

    Args:
        task: ``"restoration"`` for pictures, ``"segmentation"`` for masks of whole numbers; by the targets if ``"auto"``:
            masks are whole numbers of one channel with at most 32 values, without those from 32 on.
        loss: ``"squared"`` or ``"absolute"`` errors, for restoration.
        width: the features at full size.
        depth: how often the size is halved.
        patch: the side of the square pieces that are learnt from; larger pictures give many, overlapping ones.
        learning_rate: the largest step; it falls to nothing along a cosine.
        epochs: passes over the pieces; by their number if ``None``.
        batch_size: pieces in a step.
        validation_fraction: the share of the pictures held back to stop early; none of fewer than 20, where a share of the
            pieces is held back instead.
        patience: epochs without getting better before stopping; a third of all if ``None``, 0 never to stop.
        verbose: 0 for silence, 1 for a bar, 2 for a line an epoch, ``"auto"`` for a bar in a terminal.
        random_state: the seed.
        warm_start: whether ``fit`` goes on from where the last one ended, with the scale of then.

    Inputs and targets are arrays ``(n, height, width)`` or ``(n, height, width, channels)``, lists of pictures of any sizes,
    or folders with files in the same order. Pictures of any size are translated: they are mirrored at their edges up to a
    multiple of ``2 ** depth``, and cut back.

    >>> rng = np.random.default_rng(0)
    >>> clean = np.repeat(rng.random((30, 1, 8)), 8, axis=1)
    >>> noisy = clean + rng.normal(0, 0.3, clean.shape)
    >>> model = ImageTranslator(width=4, depth=1, batch_size=5, learning_rate=0.03, epochs=30, random_state=0)
    >>> found = model.fit(noisy[:20], clean[:20]).predict(noisy[20:])
    >>> bool(((found - clean[20:]) ** 2).mean() < 0.7 * ((noisy[20:] - clean[20:]) ** 2).mean())
    True
    """

    _kept = ("task_", "channels_", "outputs_", "input_dtype_", "dtype_", "classes_", "mean_", "scale_", "range_")

    #: what is done; the channels and the dtype of inputs and targets
    task_: str
    channels_: int
    outputs_: int
    input_dtype_: str
    dtype_: str
    #: the classes of pixels, for segmentation; else the mean, deviation and range of the targets
    classes_: np.ndarray
    mean_: list[float]
    scale_: list[float]
    range_: float

    def __init__(
        self,
        task: str = "auto",
        loss: str = "squared",
        width: int = 24,
        depth: int = 2,
        patch: int = 48,
        learning_rate: float = 3e-3,
        epochs: int | None = None,
        batch_size: int = 16,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        verbose: int | str = "auto",
        random_state: int | None = None,
        warm_start: bool = False,
    ) -> None:
        self.task, self.loss, self.width, self.depth, self.patch = task, loss, width, depth, patch
        self.learning_rate, self.epochs, self.batch_size = learning_rate, epochs, batch_size
        self.validation_fraction, self.patience = validation_fraction, patience
        self.verbose, self.random_state, self.warm_start = verbose, random_state, warm_start

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from pairs of pictures.

        Args:
            X: the inputs.
            y: the target of each: a picture of the same height and width.

        Raises:
            DataError: if they do not fit each other.
        """
        if self.loss not in LOSSES:
            raise ConfigError(f"loss is 'squared' or 'absolute'; received {self.loss!r}")
        if self.task not in ("auto", "restoration", "segmentation"):
            raise ConfigError(f"task is 'auto', 'restoration' or 'segmentation'; received {self.task!r}")
        goes_on = self.warm_start and "model_" in vars(self)
        inputs, targets = as_picture_list(X), as_picture_list(y, "y")
        _check_pairs(inputs, targets)
        depth = self._depth if goes_on else whole("depth", self.depth, 0)
        if goes_on:
            self._compare(inputs, targets)
        else:
            self._describe(inputs, targets)
        with self._seeded() as seed:
            side = self._side(inputs, depth)
            x, t = self._pieces(inputs, self._scaled(targets), side)
            learnt, watched = held_out(len(x), self.validation_fraction, seed)
            if len(inputs) >= 20 and len(watched):  # whole pictures, so that no piece of them is known
                away = held_out(len(inputs), self.validation_fraction, seed)[1]
                of_picture = np.repeat(np.arange(len(inputs)), [len(_corners(p.shape, side)) for p in inputs])
                learnt, watched = (np.flatnonzero(np.isin(of_picture, away, invert=keep)) for keep in (True, False))
            batch = min(whole("batch_size", self.batch_size), len(learnt))
            epochs = whole("epochs", int(np.clip(30_000 / len(x), 3, 60)) if self.epochs is None else self.epochs)
            statistics = [x.mean((0, 1, 2), dtype="float64"), x.var((0, 1, 2), dtype="float64")]
            statistics[1] = np.where(statistics[1] > 0, statistics[1], 1.0)
            model = (
                self.model_
                if goes_on
                else network(
                    self.channels_,
                    len(self.classes_) if self.task_ == "segmentation" else self.outputs_,
                    statistics[0].tolist(),
                    statistics[1].tolist(),
                    whole("width", self.width),
                    depth,
                    self.task_,
                )
            )
            steps = epochs * -(-len(learnt) // batch)
            warm = max(1, steps // 10)
            rate = CosineDecay(
                self.learning_rate / 10, max(1, steps - warm), warmup_target=self.learning_rate, warmup_steps=warm
            )
            self._train(
                model,
                x[learnt],
                t[learnt],
                (x[watched], t[watched]) if len(watched) else None,
                loss="sparse_categorical_crossentropy" if self.task_ == "segmentation" else LOSSES[self.loss],
                metrics=["accuracy"] if self.task_ == "segmentation" else [],
                optimizer=AdamW(rate, weight_decay=1e-3, global_clipnorm=1.0),
                epochs=epochs,
                batch_size=batch,
            )
        return self

    def _describe(self, inputs: list[np.ndarray], targets: list[np.ndarray]) -> None:
        """What is to be done, and the scale of the targets."""
        self.task_ = self.task
        if self.task == "auto":
            self.task_ = "segmentation" if _are_masks(targets) else "restoration"
        self.channels_, self.outputs_ = inputs[0].shape[-1], targets[0].shape[-1]
        self.input_dtype_, self.dtype_ = str(inputs[0].dtype), str(targets[0].dtype)
        self.classes_ = np.zeros(0, "int32")
        pixels = np.concatenate([target.reshape(-1, self.outputs_) for target in targets])
        if self.task_ == "segmentation":
            if self.outputs_ != 1 or not np.array_equal(pixels, np.round(pixels)):
                raise DataError("masks are whole numbers of one channel: the class of each pixel.")
            self.classes_ = np.unique(pixels).astype("int32")
            if len(self.classes_) < 2:
                raise DataError(f"every pixel has class {self.classes_[0]}; at least two classes are needed.")
        same = self.outputs_ == self.channels_
        measured = np.concatenate([one.reshape(-1, self.channels_) for one in inputs]) if same else pixels
        spread = measured.std(axis=0, dtype="float64")
        self.mean_ = measured.mean(axis=0, dtype="float64").tolist()
        self.scale_ = np.where(spread > 0, spread, 1.0).tolist()
        self.range_ = 255.0 if self.dtype_ == "uint8" else float(pixels.max() - pixels.min()) or 1.0

    def _compare(self, inputs: list[np.ndarray], targets: list[np.ndarray]) -> None:
        """Refuse what does not go on from before."""
        channels = (inputs[0].shape[-1], targets[0].shape[-1])
        if channels != (self.channels_, self.outputs_):
            raise ShapeError(
                f"with warm_start, X and y have {self.channels_} and {self.outputs_} channels as before; received "
                f"{channels[0]} and {channels[1]}.\nWrite:  set_params(warm_start=False)"
            )
        refuse_other_scale(inputs[0].dtype, self.input_dtype_)
        if self.task_ == "segmentation":
            self._refuse_unknown(targets)

    def _refuse_unknown(self, targets: list[np.ndarray]) -> None:
        unknown = np.setdiff1d(np.concatenate([np.unique(target) for target in targets]), self.classes_)
        if len(unknown):
            raise DataError(f"y holds class {unknown[0]:g}, which was not there in training.")

    @property
    def _depth(self) -> int:
        return sum(isinstance(layer, MaxPooling2D) for layer in self.model.layers)

    def _scaled(self, targets: list[np.ndarray]) -> list[np.ndarray]:
        if self.task_ == "segmentation":
            return [np.searchsorted(self.classes_, target[..., 0]).astype("int32") for target in targets]
        return [((target - np.array(self.mean_)) / np.array(self.scale_)).astype("float32") for target in targets]

    def _side(self, inputs: list[np.ndarray], depth: int) -> tuple[int, int]:
        """The height and width of a piece: a multiple of ``2 ** depth``, and no larger than it has to be."""
        multiple, patch = 2**depth, whole("patch", self.patch, 2**depth)
        height, width = (min(patch, max(p.shape[axis] for p in inputs)) for axis in (0, 1))
        return -(-height // multiple) * multiple, -(-width // multiple) * multiple

    def _pieces(self, inputs: list[np.ndarray], targets: list[np.ndarray], side: tuple[int, int]) -> tuple[Any, Any]:
        """Pieces of inputs and targets, both ``(pieces, height, width, ...)``."""
        x, y = [], []
        for one, target in zip(inputs, targets, strict=True):
            one, target = (_mirrored(picture, [max(side[0], picture.shape[0]), max(side[1], picture.shape[1])])
                           for picture in (one, target))  # fmt: skip
            for top, left in _corners(one.shape, side):
                x.append(one[top : top + side[0], left : left + side[1]].astype("float32"))
                y.append(target[top : top + side[0], left : left + side[1]])
        return np.stack(x), np.stack(y)

    def predict(self, X: Any) -> Any:
        """The translation of each picture.

        Args:
            X: pictures of any size, as for ``fit``.

        Returns:
            An array ``(n, height, width)`` or ``(n, height, width, channels)``, of the targets' dtype; a list of them where
            sizes differ. For segmentation, the likeliest class of each pixel.

        Raises:
            ShapeError: if the pictures have other channels than those of ``fit``.
        """
        found = [self._finished(answer) for answer in self._answers(as_picture_list(X))]
        return np.stack(found) if len({answer.shape for answer in found}) == 1 else found

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class for every pixel, ``(n, height, width, classes)``; a list where sizes differ.

        Raises:
            ConfigError: after restoration.
        """
        self.model  # noqa: B018 - for its error
        if self.task_ != "segmentation":
            raise ConfigError("predict_proba is for segmentation.\nWrite:  predict(X)")
        found = self._answers(as_picture_list(X))
        return np.stack(found) if len({answer.shape for answer in found}) == 1 else found

    def _answers(self, pictures: list[np.ndarray]) -> list[np.ndarray]:
        multiple = 2**self._depth
        found: list[Any] = [None] * len(pictures)
        for picture in pictures:
            refuse_other_scale(picture.dtype, self.input_dtype_)
        for shape in sorted({picture.shape for picture in pictures}):
            if shape[-1] != self.channels_:
                raise ShapeError(f"the network takes pictures with {self.channels_} channels; received {shape[-1]}.")
            members = [i for i, picture in enumerate(pictures) if picture.shape == shape]
            sides = [-(-n // multiple) * multiple for n in shape[:2]]
            x = np.stack([_mirrored(pictures[i], sides).astype("float32") for i in members])
            size = max(1, min(64, 2**21 // (sides[0] * sides[1] * 16)))
            for i, answer in zip(members, self._forward(x, size), strict=True):
                found[i] = answer[: shape[0], : shape[1]]
        return found

    def _finished(self, answer: np.ndarray) -> np.ndarray:
        if self.task_ == "segmentation":
            return self.classes_[answer.argmax(-1)]
        picture = stored_as(answer * np.array(self.scale_) + np.array(self.mean_), self.dtype_)
        return picture[..., 0] if self.outputs_ == 1 else picture

    def score(self, X: Any, y: Any) -> float:
        """The mean peak signal-to-noise ratio in decibels, or, for segmentation, the mean intersection over union.

        Args:
            X: pictures.
            y: their targets.
        """
        inputs, targets = as_picture_list(X), as_picture_list(y, "y")
        _check_pairs(inputs, targets)
        found = [self._finished(answer) for answer in self._answers(inputs)]
        if self.task_ == "segmentation":
            self._refuse_unknown(targets)
            metric = MeanIoU(len(self.classes_))
            for mask, target in zip(found, targets, strict=True):
                metric.update_state(*(np.searchsorted(self.classes_, m) for m in (target[..., 0], mask)))
            return float(metric.result())
        pairs = zip(found, targets, strict=True)
        return float(np.mean([psnr(t, p.reshape(t.shape), self.range_) for p, t in pairs]))


def psnr(truth: np.ndarray, picture: np.ndarray, span: float = 255.0) -> float:
    r"""The peak signal-to-noise ratio :math:`10 \log_{10}(s^2 / \text{mean squared error})` in decibels.

    Args:
        truth: a picture.
        picture: another of its shape.
        span: :math:`s`, the range of pixels.

    >>> round(psnr(np.zeros(4), np.full(4, 25.5)), 2)
    20.0
    """
    error = np.square(truth.astype("float64") - picture.astype("float64")).mean()
    return float(10 * np.log10(span**2 / max(error, 1e-12)))


def _check_pairs(inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> None:
    if len(inputs) != len(targets):
        raise DataError(f"X has {len(inputs)} pictures and y has {len(targets)}; each needs one.")
    for i, (one, target) in enumerate(zip(inputs, targets, strict=True)):
        if one.shape[:2] != target.shape[:2]:
            raise ShapeError(
                f"X[{i}] is {one.shape[0]} x {one.shape[1]} and y[{i}] {target.shape[0]} x {target.shape[1]}; "
                "a picture and its target have the same height and width."
            )


def _are_masks(targets: list[np.ndarray]) -> bool:
    if targets[0].shape[-1] != 1:
        return False
    values = np.unique(np.concatenate([np.unique(target) for target in targets]))
    return bool(np.array_equal(values, np.round(values)) and len(values) <= 32 and 0 <= values[0] <= values[-1] < 32)


def _mirrored(picture: np.ndarray, sides: Sequence[int]) -> np.ndarray:
    """The picture with mirrored borders below and to the right, so that its sides are those."""
    borders = [(0, side - n) for side, n in zip(sides, picture.shape, strict=False)]
    return np.pad(picture, borders + [(0, 0)] * (picture.ndim - 2), mode="symmetric")


def _corners(shape: tuple[int, ...], side: tuple[int, int]) -> list[tuple[int, int]]:
    """Where pieces begin, so that they cover a picture: half a piece apart, the last ones at the edge."""
    rows, columns = (
        sorted({*range(0, max(n - s, 0) + 1, max(s // 2, 1)), max(n - s, 0)})
        for n, s in zip(shape[:2], side, strict=True)
    )
    return [(top, left) for top in rows for left in columns]
