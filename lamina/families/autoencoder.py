"""Autoencoders: a network that squeezes its input through a few numbers, and so learns what the input is made of.

The encoder gives the numbers, the decoder goes back. Tables get fully connected networks, pictures convolutional ones.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.families.base import Family, check_is_fitted, checked_table, held_out, whole, wholes
from lamina.families.pictures import as_pictures, axes, refuse_other_scale, stored_as, value_range
from lamina.layers import (
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    Flatten,
    GaussianNoise,
    Input,
    Layer,
    Normalization,
    Rescaling,
    Reshape,
)
from lamina.losses.base import Loss
from lamina.models import Model, Sequential
from lamina.optimizers import Adam
from lamina.schedules import CosineDecay

# -- the network -------------------------------------------------------------------------------------------------------


def encoder(shape: Sequence[int], hidden: Sequence[int], outputs: int, scaling: Layer, noise: float) -> Sequential:
    """The way in: scaling, noise in training, hidden layers, the code.

    Args:
        shape: of one example: ``(features,)``, or ``(height, width, channels)``.
        hidden: the widths of the hidden layers; for pictures, of convolutions that halve the size, and, last, of a
            fully connected layer.
        outputs: how many numbers come out.
        scaling: the layer that brings the data near 0 and 1.
        noise: the standard deviation of the noise that is added in training.
    """
    stack: list[Layer] = [scaling]
    if noise:
        stack.append(GaussianNoise(noise))
    if len(shape) == 3:
        stack += [Conv2D(filters, 3, strides=2, padding="same", activation="gelu") for filters in hidden[:-1]]
        stack.append(Flatten())
        hidden = hidden[-1:]
    stack += [Dense(units, activation="gelu") for units in hidden]
    return Sequential([Input(tuple(shape)), *stack, Dense(outputs)])


def decoder(shape: Sequence[int], hidden: Sequence[int], inputs: int, unscaling: Layer) -> Sequential:
    """The way back: the layers of :func:`encoder` in reverse."""
    if len(shape) == 1:
        stack: list[Layer] = [Dense(units, activation="gelu") for units in reversed(hidden)]
        return Sequential([Input((inputs,)), *stack, Dense(shape[0]), unscaling])
    *filters, units = hidden
    low = [math.ceil(side / 2 ** len(filters)) for side in shape[:2]]
    stack = [Dense(units, activation="gelu")]
    if filters:
        stack += [Dense(low[0] * low[1] * filters[-1], activation="gelu"), Reshape((*low, filters[-1]))]
        for width in reversed(filters[:-1]):
            stack.append(Conv2DTranspose(width, 4, strides=2, padding="same", activation="gelu"))
        stack.append(Conv2DTranspose(shape[2], 4, strides=2, padding="same"))
    else:
        stack += [Dense(math.prod(shape)), Reshape(tuple(shape))]
    spare = [side * 2 ** len(filters) - wanted for side, wanted in zip(low, shape[:2], strict=True)]
    if any(spare):
        stack.append(Cropping2D(((0, spare[0]), (0, spare[1]))))
    return Sequential([Input((inputs,)), *stack, unscaling])


@register("layers")
class AutoencoderNetwork(Model):
    """An encoder and a decoder in a row.

    Args:
        encoder: from an example to its code.
        decoder: from a code to an example.
    """

    def __init__(self, encoder: Sequential, decoder: Sequential, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder, self.decoder = encoder, decoder

    def call(self, inputs: Array) -> Array:
        return self.decoder(self.encoder(inputs))


@register("losses")
class ScaledSquaredError(Loss):
    r""":math:`((x - \hat x) / s)^2`, averaged.

    Args:
        scale: :math:`s`, a number or one for each feature.
    """

    def __init__(self, scale: Any = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, y_true: Any, y_pred: Any) -> Array:
        difference = (jnp.asarray(y_pred) - jnp.asarray(y_true)) / jnp.asarray(self.scale, "float32")
        return jnp.mean(jnp.square(difference), axis=-1)


# -- its use -----------------------------------------------------------------------------------------------------------


class _Coder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, Family):
    """What the two autoencoders share: data in and out, and everything that is asked of a fitted one."""

    _kept: ClassVar[tuple[str, ...]] = ("shape_", "gray_", "dtype_", "scale_")

    n_components: int
    hidden: Sequence[int] | None
    warm_start: bool
    epochs: int
    batch_size: int
    learning_rate: float

    shape_: tuple[int, ...]
    gray_: bool
    dtype_: str
    scale_: np.ndarray

    def transform(self, X: Any) -> np.ndarray:
        """The codes, shape ``(n, n_components)``."""
        check_is_fitted(self)
        return self._codes(self._checked(X))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """What the decoder makes of codes: rows, or pictures of the kind that ``fit`` was given.

        Args:
            X: codes, shape ``(n, n_components)``.
        """
        length = self._n_features_out
        codes = np.asarray(X, "float32")
        if codes.ndim != 2 or codes.shape[1] != length:
            raise ShapeError(f"X is codes of shape (n, {length}); received {codes.shape}")
        return self._given(self._forward(codes, model=self.model_.decoder))

    def reconstruct(self, X: Any) -> np.ndarray:
        """``X`` after going through the code and back."""
        check_is_fitted(self)
        return self._given(self._forward(self._checked(X)))

    def anomaly_scores(self, X: Any) -> np.ndarray:
        """How badly each example is reconstructed: the mean squared error, each feature in units of its own spread.

        An example unlike those of training has a high score. Shape ``(n,)``.
        """
        check_is_fitted(self)
        X = self._checked(X)
        again = self._forward(X)
        return np.square((again - X) / self.scale_).reshape(len(X), -1).mean(axis=1)

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the mean of :meth:`anomaly_scores`: the greater, the better."""
        return -float(self.anomaly_scores(X).mean())

    @property
    def _n_features_out(self) -> int:
        return int(self.model.decoder.input_shape[-1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _codes(self, X: np.ndarray) -> np.ndarray:
        return self._forward(X, model=self.model_.encoder)

    def _checked(self, X: Any, reset: bool = False) -> np.ndarray:
        """``X`` as the network takes it: ``(n, features)`` or ``(n, height, width, channels)``."""
        dimensions = axes(X)
        if dimensions < 3 and (reset or len(self.shape_) == 1):
            least = 2 if reset else 1
            hint = "Leave the column out, or make numbers of it, as:  pandas.get_dummies(X)"
            return checked_table(self, X, hint, reset=reset, dtype="float32", ensure_min_samples=least)
        pictures = as_pictures(X)
        if not reset and pictures.shape[1:] != tuple(self.shape_):
            raise ShapeError(
                f"X holds examples of shape {pictures.shape[1:]}; {type(self).__name__} was fitted on {self.shape_}"
            )
        if reset:
            self.gray_ = dimensions == 3
        else:
            refuse_other_scale(pictures.dtype, self.dtype_)
        return pictures

    def _given(self, X: np.ndarray) -> np.ndarray:
        """What the network gave in the form that ``fit`` was given."""
        if len(self.shape_) == 1:
            return X
        return stored_as(X[..., 0] if self.gray_ else X, self.dtype_)

    def _fit(self, X: Any, noise: float, outputs: int) -> tuple[np.ndarray, Sequential, Sequential]:
        """Check data and settings; the data, and an encoder and a decoder for them."""
        for name in ("n_components", "epochs", "batch_size"):
            whole(name, getattr(self, name))
        if not noise >= 0:
            raise ConfigError(f"noise is a number of at least 0; received {noise!r}")
        going_on = self.warm_start and hasattr(self, "model_")
        X = self._checked(X, reset=not going_on)
        if going_on:
            return X, self.model_.encoder, self.model_.decoder
        self.shape_, self.dtype_ = X.shape[1:], X.dtype.name
        hidden = default_hidden(self.shape_) if self.hidden is None else wholes("hidden", self.hidden)
        if len(self.shape_) == 3:
            if not hidden:
                raise ConfigError("hidden needs at least one number for pictures, the width of the innermost layer.")
            low, high = value_range(X)
            self.scale_ = np.asarray(high - low, "float32")
            scaling: Layer = Rescaling(1 / (high - low), -low / (high - low))
            unscaling = Rescaling(high - low, low)
        else:
            mean, deviation = X.mean(axis=0, dtype="float64"), X.std(axis=0, dtype="float64")
            varies = deviation > 1e-6 * np.abs(mean)
            self.scale_ = np.where(varies, deviation, 1.0).astype("float32")
            scaling = Normalization(mean=mean, variance=np.square(self.scale_))
            unscaling = Rescaling(self.scale_ * varies, mean)  # a constant column comes back as it was
        return (
            X,
            encoder(self.shape_, hidden, outputs, scaling, noise),
            decoder(self.shape_, hidden, self.n_components, unscaling),
        )

    def _optimizer(self, examples: int) -> Adam:
        steps = self.epochs * math.ceil(examples / self.batch_size)
        return Adam(CosineDecay(self.learning_rate, steps))


def default_hidden(shape: Sequence[int]) -> tuple[int, ...]:
    """Two layers for tables; for pictures, convolutions until a side is at most 8 pixels, and one layer."""
    if len(shape) == 1:
        return (128, 64)
    halvings = max(1, math.ceil(math.log2(min(shape[:2]) / 8))) if min(shape[:2]) >= 4 else 0
    return (*(min(16 * 2**i, 64) for i in range(halvings)), 128)


class Autoencoder(_Coder):
    r"""Dimensionality reduction by a network: as PCA, but along curves.

    An encoder :math:`f` and a decoder :math:`g` are trained to make :math:`\lVert g(f(x)) - x \rVert^2` small, with few
    numbers in between.

    Args:
        n_components: how many numbers the code has.
        hidden: the widths of the encoder's hidden layers, which the decoder has in reverse; for pictures, of the
            convolutions that halve the size, then of one fully connected layer. ``None`` chooses by the shape.
        noise: the standard deviation of noise that is added to the scaled input in training, and which the network
            learns to remove (a denoising autoencoder); 0 for none.
        epochs: at most so many passes over the data.
        batch_size: examples in a step.
        learning_rate: the first one; it falls along a cosine.
        validation_fraction: the share of the examples that is watched over training and not learnt from.
        patience: epochs without getting better before stopping; a third of all if ``None``, 0 never to stop.
        verbose: 0, 1, 2, or ``"auto"``: a bar on a terminal.
        random_state: the seed.
        warm_start: whether ``fit`` goes on with the present weights.

    Attributes:
        model_: the network, with ``encoder`` and ``decoder``; scaling is part of both.
        history_: loss and validation loss of each epoch.

    Hinton and Salakhutdinov (2006), "Reducing the Dimensionality of Data with Neural Networks".

    >>> X = np.random.default_rng(0).normal(size=(40, 5))
    >>> coder = Autoencoder(n_components=2, epochs=2, random_state=0).fit(X)
    >>> coder.transform(X).shape, coder.inverse_transform(np.zeros((3, 2))).shape
    ((40, 2), (3, 5))
    """

    def __init__(
        self,
        n_components: int = 2,
        hidden: Sequence[int] | None = None,
        noise: float = 0.0,
        epochs: int = 50,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        verbose: int | str = "auto",
        random_state: int | None = None,
        warm_start: bool = False,
    ) -> None:
        self.n_components = n_components
        self.hidden = hidden
        self.noise = noise
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.verbose = verbose
        self.random_state = random_state
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on ``X``.

        Args:
            X: a table ``(n, features)``, pictures ``(n, height, width)`` or ``(n, height, width, channels)``, or a
                folder of pictures.
            y: ignored.

        Raises:
            ConfigError: for settings out of their range.
            DataError: for pictures that are none.
            ValueError: for tables with texts, or missing or infinite values.
        """
        with self._seeded() as seed:
            X, encoder, decoder = self._fit(X, self.noise, self.n_components)
            learnt, watched = held_out(len(X), self.validation_fraction, seed)
            network = (
                self.model_ if self.warm_start and hasattr(self, "model_") else AutoencoderNetwork(encoder, decoder)
            )
            self._train(
                network,
                X[learnt],
                X[learnt],
                (X[watched], X[watched]) if len(watched) else None,
                loss=ScaledSquaredError(self.scale_),
                optimizer=self._optimizer(len(learnt)),
                epochs=self.epochs,
                batch_size=self.batch_size,
            )
        return self
