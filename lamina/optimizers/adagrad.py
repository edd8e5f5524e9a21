"""Adagrad, Adadelta, RMSprop, Adafactor and Ftrl: steps scaled by the gradients seen so far, entry by entry."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from lamina.core.registry import register
from lamina.core.state import Array
from lamina.optimizers.base import Optimizer
from lamina.optimizers.rules import Transformation, by_kind, check, check_not_negative, per_variable


@register("optimizers")
class Adagrad(Optimizer):
    r"""Steps divided by the root of the sum of all squared gradients; suits rare features.

    .. math:: a \leftarrow a + g^2, \qquad w \leftarrow w - \eta \frac{g}{\sqrt{a + \epsilon}}

    Args:
        learning_rate: :math:`\eta`.
        initial_accumulator_value: :math:`a` at first.
        epsilon: :math:`\epsilon`.
        kwargs: see :class:`Optimizer`.

    Reference: Duchi et al., "Adaptive subgradient methods for online learning and stochastic optimization", 2011.
    """

    slot_names: ClassVar[dict[str, str]] = {"sum_of_squares": "accumulator"}

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        check_not_negative(self, initial_accumulator_value=initial_accumulator_value, epsilon=epsilon)
        self.initial_accumulator_value, self.epsilon = initial_accumulator_value, epsilon

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        import optax

        return optax.chain(
            optax.scale_by_rss(self.initial_accumulator_value, self.epsilon), optax.scale(-learning_rate)
        )


@register("optimizers")
class Adadelta(Optimizer):
    r"""Steps as large as the recent ones, divided by the recent gradients: :math:`\eta = 1` is the paper's method.

    .. math::
        a \leftarrow \rho a + (1 - \rho) g^2, \qquad
        \delta = \frac{\sqrt{d + \epsilon}}{\sqrt{a + \epsilon}} g, \qquad
        d \leftarrow \rho d + (1 - \rho) \delta^2, \qquad w \leftarrow w - \eta \delta

    Args:
        learning_rate: :math:`\eta`.
        rho: :math:`\rho`.
        epsilon: :math:`\epsilon`.
        kwargs: see :class:`Optimizer`.

    Reference: Zeiler, "ADADELTA: an adaptive learning rate method", 2012.
    """

    slot_names: ClassVar[dict[str, str]] = {"e_g": "accumulated_grad", "e_x": "accumulated_delta_var"}

    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.95, epsilon: float = 1e-7, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        check(self, "rho", rho, lambda x: 0 <= x < 1, "a number from 0 to below 1")
        check_not_negative(self, epsilon=epsilon)
        self.rho, self.epsilon = rho, epsilon

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        import optax

        return optax.chain(optax.scale_by_adadelta(self.rho, self.epsilon), optax.scale(-learning_rate))


@register("optimizers")
class RMSprop(Optimizer):
    r"""Steps divided by the root of the running mean of the squared gradient.

    .. math::
        v \leftarrow \rho v + (1 - \rho) g^2, \qquad
        m \leftarrow \mu m + \eta \frac{g}{\sqrt{v + \epsilon}}, \qquad w \leftarrow w - m

    Args:
        learning_rate: :math:`\eta`.
        rho: :math:`\rho`.
        momentum: :math:`\mu`.
        epsilon: :math:`\epsilon`.
        centered: divide by the root of the variance, :math:`v - \bar g^2`, instead; costs one slot more.
        kwargs: see :class:`Optimizer`.

    Reference: Tieleman and Hinton, "Lecture 6.5: rmsprop", 2012.
    """

    slot_names: ClassVar[dict[str, str]] = {"nu": "velocity", "mu": "average_gradient", "trace": "momentum"}

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        check(self, "rho", rho, lambda x: 0 <= x < 1, "a number from 0 to below 1")
        check(self, "momentum", momentum, lambda x: 0 <= x <= 1, "a number from 0 to 1")
        check_not_negative(self, epsilon=epsilon)
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        import optax

        scaled = optax.scale_by_stddev if self.centered else optax.scale_by_rms
        parts = [scaled(self.rho, self.epsilon), optax.scale(-learning_rate)]
        return optax.chain(*parts, *([optax.trace(self.momentum)] if self.momentum else []))


@register("optimizers")
class Adafactor(Optimizer):
    r"""Adaptive steps whose memory for a matrix is one row and one column, :math:`v = r c^T / \bar r`.

    .. math::
        \beta = 1 - t^{d}, \qquad r \leftarrow \beta r + (1 - \beta)\, \overline{g^2 + \epsilon_1}, \qquad
        u = g / \sqrt v, \qquad
        w \leftarrow w - \frac{\max(\epsilon_2, \mathrm{rms}(w))\, \eta_t}{\max(1, \mathrm{rms}(u) / \theta)} u

    with :math:`\eta_t = \min(\eta, 1 / \sqrt t)`. The column :math:`c` is kept as the row is; vectors keep
    :math:`v` itself.

    Args:
        learning_rate: :math:`\eta`.
        beta_2_decay: :math:`d`.
        epsilon_1: :math:`\epsilon_1`.
        epsilon_2: :math:`\epsilon_2`.
        clip_threshold: :math:`\theta`.
        relative_step: accepted as Keras does; the step is relative to :math:`1 / \sqrt t` either way.
        kwargs: see :class:`Optimizer`.

    Reference: Shazeer and Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        check(self, "beta_2_decay", beta_2_decay, lambda x: x <= 0, "a number of at most 0")
        check(self, "clip_threshold", clip_threshold, lambda x: x > 0, "a number above 0")
        check_not_negative(self, epsilon_1=epsilon_1, epsilon_2=epsilon_2)
        self.beta_2_decay, self.epsilon_1, self.epsilon_2 = beta_2_decay, epsilon_1, epsilon_2
        self.clip_threshold, self.relative_step = clip_threshold, relative_step

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        step = jnp.asarray(step, jax.dtypes.canonicalize_dtype(float))
        beta = 1 - jnp.power(step, self.beta_2_decay)
        rate = jnp.minimum(learning_rate, 1 / jnp.sqrt(step))

        def mixed(old: Array, new: Array) -> Array:
            return beta * old + (1 - beta) * new

        def moved(g: Array, w: Array, v: Array) -> Array:
            u = g / jnp.sqrt(v)
            u = u / jnp.maximum(1.0, _rms(u) / self.clip_threshold)
            return -jnp.maximum(self.epsilon_2, _rms(w)) * rate * u

        def matrix(g: Array, w: Array, r: Array, c: Array) -> tuple[Array, ...]:
            square = jnp.square(g) + self.epsilon_1
            r, c = mixed(r, square.mean(-1)), mixed(c, square.mean(-2))
            return moved(g, w, (r / r.mean(-1, keepdims=True))[..., None] * c[..., None, :]), r, c

        def vector(g: Array, w: Array, v: Array) -> tuple[Array, ...]:
            v = mixed(v, jnp.square(g) + self.epsilon_1)
            return moved(g, w, v), v

        return by_kind(
            lambda path, w: w.ndim >= 2,
            per_variable(
                matrix, row=lambda w: jnp.zeros_like(w[..., 0]), column=lambda w: jnp.zeros_like(w[..., 0, :])
            ),
            per_variable(vector, velocity=0.0),
        )


@register("optimizers")
class Ftrl(Optimizer):
    r"""Follow the regularized leader: weights that L1 keeps at exactly zero.

    .. math::
        z \leftarrow z + g + 2 s w - \frac{(n + g^2)^{-p} - n^{-p}}{\eta} w, \qquad n \leftarrow n + g^2, \qquad
        w \leftarrow \frac{\mathrm{clip}(z, -l_1, l_1) - z}{n^{-p} / \eta + 2 l_2 + \beta / \eta}

    Args:
        learning_rate: :math:`\eta`, above 0.
        learning_rate_power: :math:`p`, at most 0.
        initial_accumulator_value: :math:`n` at first.
        l1_regularization_strength: :math:`l_1`.
        l2_regularization_strength: :math:`l_2`.
        l2_shrinkage_regularization_strength: :math:`s`, an L2 penalty on the gradient alone.
        beta: :math:`\beta`.
        kwargs: see :class:`Optimizer`.

    Reference: McMahan et al., "Ad click prediction: a view from the trenches", 2013.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        check(self, "learning_rate_power", learning_rate_power, lambda x: x <= 0, "a number of at most 0")
        check_not_negative(
            self,
            initial_accumulator_value=initial_accumulator_value,
            l1_regularization_strength=l1_regularization_strength,
            l2_regularization_strength=l2_regularization_strength,
            l2_shrinkage_regularization_strength=l2_shrinkage_regularization_strength,
            beta=beta,
        )
        self.learning_rate_power, self.initial_accumulator_value = learning_rate_power, initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        power, l1 = self.learning_rate_power, self.l1_regularization_strength
        shrinkage = 2 * self.l2_shrinkage_regularization_strength

        def rule(g: Array, w: Array, n: Array, z: Array) -> tuple[Array, ...]:
            after = n + jnp.square(g)
            root = jnp.power(after, -power)
            z = z + g + shrinkage * w - (root - jnp.power(n, -power)) / learning_rate * w
            quadratic = root / learning_rate + 2 * (self.l2_regularization_strength + self.beta / (2 * learning_rate))
            return (jnp.clip(z, -l1, l1) - z) / quadratic - w, after, z

        return per_variable(rule, accumulator=self.initial_accumulator_value, linear=0.0)


def _rms(x: Array) -> Array:
    return jnp.sqrt(jnp.mean(jnp.square(x)))
