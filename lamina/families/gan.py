"""Generative adversarial networks: one network draws pictures, another tells them from real ones, each learns from the other.

The recipe is one that stays stable without care: hinge loss, spectral normalization in the discriminator, and an average
of the generator over training, which is what draws in the end.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import random, transforms
from lamina.core.errors import ConfigError, DataError
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.data.batches import unpack
from lamina.families.base import Family, check_is_fitted, share, whole
from lamina.families.labels import encoded
from lamina.families.pictures import as_pictures, axes, refuse_other_scale, stored_as, value_range
from lamina.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    Dot,
    Flatten,
    Input,
    Layer,
    LeakyReLU,
    Rescaling,
    Reshape,
    SpectralNormalization,
)
from lamina.models import Model, Sequential
from lamina.optimizers import Adam, Optimizer
from lamina.training.callbacks import Callback

Shape = tuple[int, int, int]

#: samples that vary less than this share of what the pictures do are warned of
LEAST_DIVERSITY = 0.6

# -- the networks ------------------------------------------------------------------------------------------------------


def halvings(shape: Sequence[int]) -> int:
    """How often pictures are halved, until their shorter side has at most 8 pixels."""
    return max(1, math.ceil(math.log2(min(shape[:2]) / 8)))


def generator(shape: Shape, latent: int, classes: int, filters: int, low: float, high: float) -> Sequential:
    """From random numbers, with the class as a one-hot row behind them, to pictures with values from low to high.

    Args:
        shape: of a picture; sizes that cannot be halved often enough are cropped from larger ones.
        latent: how many random numbers.
        classes: how many classes, 0 for pictures without.
        filters: of the convolution before the last; each one before has twice as many.
        low: the value of black.
        high: the value of white.
    """
    times = halvings(shape)
    small = [math.ceil(side / 2**times) for side in shape[:2]]
    widths = [filters * 2**i for i in reversed(range(times))]
    stack: list[Layer] = [
        Dense(small[0] * small[1] * widths[0], use_bias=False),
        BatchNormalization(momentum=0.9),
        Activation("relu"),
        Reshape((*small, widths[0])),
    ]
    for width in widths[1:]:
        stack += [
            Conv2DTranspose(width, 4, strides=2, padding="same", use_bias=False),
            BatchNormalization(momentum=0.9),
            Activation("relu"),
        ]
    stack += [Conv2DTranspose(shape[2], 4, strides=2, padding="same", activation="tanh")]
    spare = [side * 2**times - wanted for side, wanted in zip(small, shape[:2], strict=True)]
    if any(spare):
        stack.append(Cropping2D(((0, spare[0]), (0, spare[1]))))
    stack.append(Rescaling((high - low) / 2, (high + low) / 2))
    return Sequential([Input((latent + classes,)), *stack])


def discriminator(shape: Shape, classes: int, filters: int, low: float, high: float) -> Model:
    r"""From a picture, and its class as a one-hot row, to a score: positive for real ones, negative for drawn ones.

    With features :math:`h(x)` the score is :math:`w \cdot h(x) + v_y \cdot h(x)`, where the second part, which asks
    whether the picture fits its class, is there if there are classes.

    Miyato and Koyama (2018), "cGANs with Projection Discriminator". Arguments as in :func:`generator`.
    """
    picture = Input(shape)
    h = Rescaling(2 / (high - low), -(high + low) / (high - low))(picture)
    for i in range(halvings(shape) + 1):
        h = LeakyReLU(0.2)(SpectralNormalization(Conv2D(filters * 2**i, 4, strides=2, padding="same"))(h))
    h = Flatten()(h)
    score = SpectralNormalization(Dense(1))(h)
    if not classes:
        return Model(picture, score)
    of_class = Input((classes,))
    wanted = SpectralNormalization(Dense(h.shape[-1], use_bias=False))(of_class)
    return Model([picture, of_class], Add()([score, Dot(1)([h, wanted])]))


@register("layers")
class GANNetwork(Model):
    r"""A generator and a discriminator that train each other; called on random numbers, it draws pictures.

    With the discriminator's score :math:`D` and the generator :math:`G`, the losses are
    :math:`\overline{\max(0, 1 - D(x))} + \overline{\max(0, 1 + D(G(z)))}` and :math:`-\overline{D(G(z))}`.

    Args:
        generator: from random numbers (and a one-hot class) to pictures.
        discriminator: from pictures (and a one-hot class) to scores.
        generator_optimizer: changes the generator.
        discriminator_optimizer: changes the discriminator.
        classes: how many classes, 0 for none.
        momentum: the share of the averaged generator that stays at each step.

    Lim and Ye (2017), "Geometric GAN"; Miyato et al. (2018), "Spectral Normalization for Generative Adversarial
    Networks"; Yazıcı et al. (2019), "The Unusual Effectiveness of Averaging in GAN Training".
    """

    def __init__(
        self,
        generator: Sequential,
        discriminator: Model,
        generator_optimizer: Optimizer,
        discriminator_optimizer: Optimizer,
        classes: int = 0,
        momentum: float = 0.999,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.generator, self.discriminator = generator, discriminator
        self.average = Sequential.from_config(generator.get_config())
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.classes, self.momentum = classes, momentum

    def build(self, input_shape: Any) -> None:
        self.adopt()
        self.generator_optimizer.build(self.generator.named_variables(trainable=True))
        self.discriminator_optimizer.build(self.discriminator.named_variables(trainable=True))

    def call(self, inputs: Array) -> Array:
        return self.average(inputs, training=False)

    def score(self, pictures: Array, of_class: Array | None, training: bool) -> Array:
        """The discriminator's scores."""
        return self.discriminator(pictures if of_class is None else [pictures, of_class], training=training)

    def train_step(self, batch: Any) -> dict[str, Any]:
        real, labels, _ = unpack(batch)
        real = real.astype("float32")
        size = len(real)
        latent = self.generator.input_shape[-1] - self.classes
        z, of_class, both = random.normal((size, latent)), None, None
        if self.classes:
            of_class = jax.nn.one_hot(labels, self.classes)
            z, both = jnp.concatenate([z, of_class], axis=1), jnp.concatenate([of_class, of_class])

        def discriminator_loss() -> Array:
            drawn = self.generator(z, training=True)
            scores = self.score(jnp.concatenate([real, drawn]), both, training=True)
            return jnp.mean(jax.nn.relu(1 - scores[:size])) + jnp.mean(jax.nn.relu(1 + scores[size:]))

        def generator_loss() -> Array:
            return -jnp.mean(self.score(self.generator(z, training=True), of_class, training=False))

        d_loss, gradients = transforms.value_and_grad(discriminator_loss, self.discriminator)()
        self.discriminator_optimizer.apply(gradients)
        g_loss, gradients = transforms.value_and_grad(generator_loss, self.generator)()
        self.generator_optimizer.apply(gradients)
        self._follow()
        return {"discriminator_loss": d_loss, "generator_loss": g_loss}

    def _follow(self) -> None:
        """Move the averaged generator towards the present one; quickly at first."""
        steps = self.generator_optimizer.iterations.raw
        momentum = jnp.minimum(self.momentum, steps / (steps + 10.0))
        for mean, now in zip(self.average.weights, self.generator.weights, strict=True):
            mean.assign(momentum * mean.raw + (1 - momentum) * now.raw)


# -- their use ---------------------------------------------------------------------------------------------------------


class GAN(Family):
    """Draws new pictures like those it has seen; by class, if ``fit`` is given classes.

    There is no single number to stop by: training runs for ``epochs``. Look at ``samples_``, the same 16 random codes
    drawn after each epoch, and at ``history_["diversity"]``: how much samples differ from each other, as a share of
    what the pictures do. Where it ends below 0.6 a warning says that the generator draws too few kinds of pictures.

    Args:
        latent: how many random numbers a picture is made of.
        filters: the width of the largest feature maps; smaller ones are wider.
        epochs: passes over the data.
        batch_size: pictures in a step.
        learning_rate: of the generator; the discriminator's is twice as large.
        average: the share of the averaged generator that stays at each step.
        verbose: 0, 1, 2, or ``"auto"``: a bar on a terminal.
        random_state: the seed.
        warm_start: whether ``fit`` goes on with the present weights.

    Attributes:
        model_: the network, with ``generator``, ``discriminator`` and ``average``, the averaged generator, which draws.
        classes_: the classes, if there are any.
        history_: both losses and the diversity, for each epoch.
        samples_: pictures drawn after each epoch, shape ``(epochs, 16, ...)``; a row of each class in turn.

    >>> X = np.random.default_rng(0).integers(0, 256, (32, 8, 8), "uint8")
    >>> with warnings.catch_warnings(action="ignore"):
    ...     gan = GAN(latent=4, filters=4, epochs=1, batch_size=16, random_state=0).fit(X)
    >>> gan.sample(3).shape, gan.sample(3).dtype.name
    ((3, 8, 8), 'uint8')
    """

    _kept: ClassVar[tuple[str, ...]] = ("shape_", "gray_", "dtype_", "classes_")

    patience = 0  # there is no validation loss to stop by
    shape_: tuple[int, ...]
    gray_: bool
    dtype_: str
    classes_: np.ndarray
    samples_: np.ndarray

    def __init__(
        self,
        latent: int = 64,
        filters: int = 32,
        epochs: int = 20,
        batch_size: int = 64,
        learning_rate: float = 2e-4,
        average: float = 0.999,
        verbose: int | str = "auto",
        random_state: int | None = None,
        warm_start: bool = False,
    ) -> None:
        self.latent = latent
        self.filters = filters
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.average = average
        self.verbose = verbose
        self.random_state = random_state
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on pictures.

        Args:
            X: pictures ``(n, height, width)`` or ``(n, height, width, channels)``, uint8 or floats, or a folder of them.
            y: the class of each, or ``None`` to learn without classes.

        Raises:
            ConfigError: for settings out of their range.
            DataError: for pictures that are none, too small, or of another size than before with ``warm_start``.
        """
        self._check_settings()
        with self._seeded() as seed:
            going_on = self.warm_start and hasattr(self, "model_")
            pictures = self._pictures(X, going_on)
            labels = self._labels(y, len(pictures), going_on)
            network = self.model_ if going_on else self._network(pictures, labels)
            self.model_ = network
            rng = np.random.default_rng([seed, 1])
            watcher = _Watcher(self._drawer(rng, labels), spread(pictures, labels, rng))
            self._train(
                network,
                pictures,
                labels,
                optimizer=None,
                epochs=self.epochs,
                batch_size=min(self.batch_size, len(pictures)),
                callbacks=[watcher],
            )
        self.samples_ = np.stack([self._given(drawn) for drawn in watcher.samples])
        reached = self.history_["diversity"][-1]
        if reached < LEAST_DIVERSITY:
            warnings.warn(
                f"the samples of this GAN differ from each other only {reached:.2f} times as much as the training "
                "pictures do: it draws few kinds of pictures (mode collapse), or was not trained for long enough. "
                "Look at samples_; then try more epochs, a larger batch_size or a smaller learning_rate.",
                stacklevel=2,
            )
        return self

    def sample(self, n_samples: int = 1, y: Any = None) -> np.ndarray:
        """Draw pictures of the kind that ``fit`` was given; the same ``random_state`` draws the same ones.

        Args:
            n_samples: how many.
            y: the class of each, or one for all; ``None`` takes the classes in turn.

        Raises:
            ConfigError: for classes that were not there in ``fit``, or a number of them that is not ``n_samples``.
        """
        check_is_fitted(self)
        whole("n_samples", n_samples)
        labels = None
        known = getattr(self, "classes_", None)
        if y is not None and known is None:
            raise ConfigError("this GAN was fitted without classes.\nWrite:  sample(n)   or   GAN(...).fit(X, y)")
        if known is not None:
            labels = np.arange(n_samples) % len(known)
            if y is not None:
                wanted = np.full(n_samples, y) if np.ndim(y) == 0 else np.asarray(y)
                if wanted.shape != (n_samples,) or not np.isin(wanted, known).all():
                    raise ConfigError(
                        f"y is one class, or {n_samples} of them, among {', '.join(map(str, known))}; received {y!r}"
                    )
                labels = np.searchsorted(known, wanted)
        with self._seeded() as seed:
            codes = self._codes(np.random.default_rng([seed, 2]), n_samples, labels)
        return self._given(self._forward(codes, batch_size=64))

    def score(self, X: Any, y: Any = None) -> float:
        r"""How alike as many samples and the pictures ``X`` are; at most about 0, which is where nobody can tell.

        Minus the energy distance :math:`2 \overline{|x - g|} - \overline{|x - x'|} - \overline{|g - g'|}` of pictures
        :math:`x` and samples :math:`g`, as a share of :math:`\overline{|x - x'|}`; from at most 1,000 of each. Szekely and
        Rizzo (2013), "Energy statistics". It compares pixels, and is no judge of how real pictures look.

        Args:
            X: pictures that ``fit`` has not seen, as for :meth:`fit`.
            y: the class of each, for a GAN with classes: as many samples of each are drawn.
        """
        check_is_fitted(self)
        pictures = as_pictures(X)
        if pictures.shape[1:] != tuple(self.shape_) or len(pictures) < 2:
            raise DataError(f"X is at least 2 pictures of shape {self.shape_}, as in fit; received {pictures.shape}")
        refuse_other_scale(pictures.dtype, self.dtype_)
        chosen = np.random.default_rng(0).permutation(len(pictures))[:1000]
        drawn = as_pictures(self.sample(len(chosen), None if y is None else np.asarray(y)[chosen]))
        real, drawn = (some.reshape(len(some), -1).astype("float64") for some in (pictures[chosen], drawn))
        within = _mean_distance(real)
        between = _distances(real, drawn).mean()
        return -float((2 * between - within - _mean_distance(drawn)) / (within or 1.0))

    def _check_settings(self) -> None:
        for name, least in (("latent", 1), ("filters", 1), ("epochs", 1), ("batch_size", 2)):
            whole(name, getattr(self, name), least)
        share("average", self.average)

    def _pictures(self, X: Any, going_on: bool) -> np.ndarray:
        pictures = as_pictures(X)
        if len(pictures) < 2 or min(pictures.shape[1:3]) < 4:
            raise DataError(f"a GAN needs at least 2 pictures of at least 4 x 4 pixels; received {pictures.shape}")
        if going_on and pictures.shape[1:] != tuple(self.shape_):
            raise DataError(f"warm_start goes on with pictures of {self.shape_}; received {pictures.shape[1:]}")
        if going_on:
            refuse_other_scale(pictures.dtype, self.dtype_)
        self.shape_, self.dtype_ = pictures.shape[1:], pictures.dtype.name
        self.gray_ = axes(X) == 3
        return pictures

    def _labels(self, y: Any, size: int, going_on: bool) -> np.ndarray | None:
        if going_on and (y is None) == hasattr(self, "classes_"):
            raise ConfigError("warm_start goes on as it began: with classes, or without. Pass the same kind of y.")
        if y is None:
            self.__dict__.pop("classes_", None)
            return None
        self.classes_, places = encoded(y, size, least=1, before=self.classes_ if going_on else None)
        return places

    def _network(self, pictures: np.ndarray, labels: np.ndarray | None) -> GANNetwork:
        classes = 0 if labels is None else len(self.classes_)
        shape, (low, high) = pictures.shape[1:], value_range(pictures)
        network = GANNetwork(
            generator(shape, self.latent, classes, self.filters, low, high),
            discriminator(shape, classes, self.filters, low, high),
            Adam(self.learning_rate, beta_1=0.5, beta_2=0.99),
            Adam(2 * self.learning_rate, beta_1=0.5, beta_2=0.99),
            classes,
            self.average,
        )
        network.build_for({"shape": [None, self.latent + classes], "dtype": "float32"})
        return network

    def _codes(self, rng: np.random.Generator, size: int, labels: np.ndarray | None) -> np.ndarray:
        length = self.model_.generator.input_shape[-1] - (0 if labels is None else len(self.classes_))
        codes = rng.normal(size=(size, length)).astype("float32")
        return codes if labels is None else np.hstack([codes, np.eye(len(self.classes_), dtype="float32")[labels]])

    def _drawer(self, rng: np.random.Generator, labels: np.ndarray | None) -> Callable[[], tuple[np.ndarray, float]]:
        """A function that draws with the same codes every time: 16 pictures to look at, and the spread of 256."""
        shown = None if labels is None else np.arange(16) % len(self.classes_)
        drawn = None if labels is None else rng.choice(labels, 256)
        codes = np.concatenate([self._codes(rng, 16, shown), self._codes(rng, 256, drawn)])

        def draw() -> tuple[np.ndarray, float]:
            pictures = self._forward(codes, batch_size=272)
            return pictures[:16], spread(pictures[16:], drawn, np.random.default_rng(0))

        return draw

    def _given(self, pictures: np.ndarray) -> np.ndarray:
        return stored_as(pictures[..., 0] if self.gray_ else pictures, self.dtype_)


class _Watcher(Callback):
    """Draws samples after each epoch and logs how diverse they are."""

    def __init__(self, draw: Callable[[], tuple[np.ndarray, float]], of_pictures: float) -> None:
        self.draw, self.of_pictures = draw, of_pictures
        self.samples: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        samples, of_samples = self.draw()
        self.samples.append(samples)
        if logs is not None:
            logs["diversity"] = of_samples / self.of_pictures if self.of_pictures else 1.0


def spread(pictures: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator, most: int = 256) -> float:
    """The mean distance between two pictures, of the same class if there are classes, from a random selection."""
    chosen = rng.permutation(len(pictures))[:most]
    flat = pictures[chosen].reshape(len(chosen), -1).astype("float64")
    if labels is None:
        return _mean_distance(flat)
    alike = ~np.eye(len(chosen), dtype=bool) & (labels[chosen][:, None] == labels[chosen])
    return float(_distances(flat, flat)[alike].mean()) if alike.any() else _mean_distance(flat)


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The distance of each row of ``x`` from each row of ``y``."""
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * x @ y.T
    found: np.ndarray = np.sqrt(np.maximum(squares, 0))
    return found


def _mean_distance(x: np.ndarray) -> float:
    """The mean distance between two different rows."""
    return float(_distances(x, x)[~np.eye(len(x), dtype=bool)].mean())
