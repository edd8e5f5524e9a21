"""Variational autoencoders: codes that are spread like a normal distribution, from which new examples are drawn."""

import math
from collections.abc import Sequence
from typing import Any, Self

import jax.numpy as jnp
import numpy as np

from lamina.core import random, transforms
from lamina.core.errors import ConfigError
from lamina.core.registry import register
from lamina.core.state import Array, Variable
from lamina.data.batches import unpack
from lamina.families.autoencoder import AutoencoderNetwork, ScaledSquaredError, _Coder
from lamina.families.base import check_is_fitted, held_out, whole
from lamina.models import Sequential


@register("layers")
class VariationalNetwork(AutoencoderNetwork):
    r"""An autoencoder whose code is a distribution, trained on a bound of the likelihood.

    The encoder gives mean :math:`\mu` and :math:`\log \sigma^2`. With :math:`z = \mu + \sigma \epsilon` and :math:`D`
    numbers in an example, the loss of a batch is

    .. math:: \tfrac{D}{2} \log \overline{(x - g(z))^2} + \beta \, \tfrac12 \sum (\mu^2 + \sigma^2 - 1 - \log \sigma^2)

    whose first part is the Gaussian likelihood with the variance that fits the batch best.

    Args:
        encoder: from an example to twice ``n_components`` numbers.
        decoder: from a code to an example.
        scale: what differences are divided by.
        beta: the weight of the second part.
        warmup: over how many steps that weight rises from 0.
    """

    def __init__(
        self, encoder: Sequential, decoder: Sequential, scale: Any, beta: float, warmup: int, **kwargs: Any
    ) -> None:
        super().__init__(encoder, decoder, **kwargs)
        self.scale, self.beta, self.warmup = np.asarray(scale), beta, warmup
        self.steps = Variable(jnp.zeros((), "int32"), name="steps", trainable=False)

    def call(self, inputs: Array) -> Array:
        return self.decoder(self.distribution(inputs)[0])

    def distribution(self, inputs: Array) -> tuple[Array, Array]:
        """The mean and the logarithm of the variance of each example's code."""
        mean, log_variance = jnp.split(self.encoder(inputs), 2, axis=-1)
        return mean, jnp.clip(log_variance, -12.0, 12.0)

    def losses_of(self, x: Array, sampled: bool, beta: Any) -> dict[str, Array]:
        """The loss and its two parts, for codes drawn at random or for the means."""
        mean, log_variance = self.distribution(x)
        z = mean
        if sampled:
            z = mean + jnp.exp(log_variance / 2) * random.normal(mean.shape)
        error = ScaledSquaredError(self.scale)(x, self.decoder(z))
        reconstruction = x[0].size / 2 * jnp.log(jnp.maximum(error, 1e-6))
        kl = jnp.mean(jnp.sum(jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance, axis=-1)) / 2
        return {
            "loss": reconstruction + beta * kl,
            "reconstruction_loss": reconstruction,
            "kl_loss": kl,
            "squared_error": error,
        }

    def train_step(self, batch: Any) -> dict[str, Any]:
        x = unpack(batch)[0]
        beta = self.beta * jnp.minimum((self.steps.value + 1) / max(self.warmup, 1), 1.0)

        def loss() -> tuple[Array, dict[str, Array]]:
            parts = self.losses_of(x, True, beta)
            return parts["loss"], parts

        (_, parts), gradients = transforms.value_and_grad(loss, self, has_aux=True)()
        self.optimizer.apply(gradients)  # type: ignore[union-attr]
        self.steps.assign_add(1)
        return parts | {"beta": beta}

    def test_step(self, batch: Any) -> dict[str, Any]:
        return self.losses_of(unpack(batch)[0], False, self.beta)


class VariationalAutoencoder(_Coder):
    r"""An autoencoder whose codes are spread like a normal distribution, so that new examples can be drawn.

    Args:
        n_components: how many numbers the code has.
        hidden: as in :class:`Autoencoder`.
        beta: the weight of the codes' distance from the normal distribution (see :class:`VariationalNetwork`). More than
            1 gives codes of fewer, more independent numbers; less gives sharper reconstructions.
        warmup: the share of the training over which that weight rises from 0, so that the codes come to mean something
            first.
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
        history_: ``loss``, ``reconstruction_loss``, ``kl_loss``, ``squared_error`` and ``beta`` of each epoch, and all
            but the last for the validation part, whose codes are the means.

    Kingma and Welling (2014), "Auto-Encoding Variational Bayes"; Rybkin, Daniilidis and Levine (2021), "Simple and
    Effective VAE Training with Calibrated Decoders".

    >>> X = np.random.default_rng(0).normal(size=(40, 5))
    >>> coder = VariationalAutoencoder(n_components=2, epochs=2, random_state=0).fit(X)
    >>> coder.sample(3).shape
    (3, 5)
    """

    def __init__(
        self,
        n_components: int = 16,
        hidden: Sequence[int] | None = None,
        beta: float = 1.0,
        warmup: float = 0.2,
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
        self.beta = beta
        self.warmup = warmup
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.verbose = verbose
        self.random_state = random_state
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on ``X``; arguments and errors as in :meth:`Autoencoder.fit`."""
        if not self.beta >= 0:
            raise ConfigError(f"beta is a number of at least 0; received {self.beta!r}")
        if not 0 <= self.warmup <= 1:
            raise ConfigError(f"warmup is a number from 0 to 1; received {self.warmup!r}")
        with self._seeded() as seed:
            X, encoder, decoder = self._fit(X, 0.0, 2 * self.n_components)
            learnt, watched = held_out(len(X), self.validation_fraction, seed)
            if self.warm_start and hasattr(self, "model_"):
                network = self.model_
            else:
                steps = self.epochs * math.ceil(len(learnt) / self.batch_size)
                network = VariationalNetwork(encoder, decoder, self.scale_, self.beta, round(self.warmup * steps))
                network.build((None, *self.shape_))
            self._train(
                network,
                X[learnt],
                validation=(X[watched],) if len(watched) else None,
                optimizer=self._optimizer(len(learnt)),
                epochs=self.epochs,
                batch_size=self.batch_size,
            )
        return self

    def sample(self, n_samples: int = 1) -> np.ndarray:
        """New examples: what the decoder makes of codes drawn from the normal distribution.

        Args:
            n_samples: how many. The same ``random_state`` draws the same ones.
        """
        check_is_fitted(self)
        with self._seeded() as seed:
            size = (whole("n_samples", n_samples), self._n_features_out)
            codes = np.random.default_rng([seed, 1]).normal(size=size)
        return self.inverse_transform(codes)

    def _codes(self, X: np.ndarray) -> np.ndarray:
        return super()._codes(X)[:, : self._n_features_out]
