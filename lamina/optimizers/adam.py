"""Adam and its relatives: steps scaled by running moments of the gradient."""

from typing import Any

import jax
import jax.numpy as jnp

from lamina.core.errors import ConfigError
from lamina.core.registry import register
from lamina.core.state import Array
from lamina.kernels.adam import adam, adam_rule, next_moments
from lamina.optimizers.base import Optimizer
from lamina.optimizers.rules import Arrays, Rule, Transformation, Whole, check, per_variable


class MomentOptimizer(Optimizer):
    """What the optimizers here share: two decay rates and a small number.

    Args:
        learning_rate: the size of a step.
        beta_1: the share of the first moment that stays at each update.
        beta_2: the share of the second moment that stays.
        epsilon: keeps the division finite.
        kwargs: see :class:`Optimizer`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        for name, beta in (("beta_1", beta_1), ("beta_2", beta_2)):
            check(self, name, beta, lambda x: 0 <= x < 1, "a number from 0 to below 1")
        check(self, "epsilon", epsilon, lambda x: x >= 0, "a number of at least 0")
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def moments(self, g: Array, m: Array, v: Array) -> tuple[Array, Array]:
        """The next running means of the gradient and of its square."""
        return next_moments(g, m, v, self.beta_1, self.beta_2)

    def corrections(self, step: Any) -> tuple[Any, Any]:
        """What the moments are divided by, since they start at zero: one minus the power of each decay rate."""
        return 1 - jnp.power(self.beta_1, _real(step)), 1 - jnp.power(self.beta_2, _real(step))


@register("optimizers")
class Adam(MomentOptimizer):
    r"""Steps along the mean of the gradient divided by the root of the mean of its square.

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \qquad
        w \leftarrow w - \eta \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \frac{m}{\sqrt{v} + \epsilon}

    Args:
        learning_rate: :math:`\eta`.
        beta_1: :math:`\beta_1`.
        beta_2: :math:`\beta_2`.
        epsilon: :math:`\epsilon`, as it stands above.
        amsgrad: divide by the root of the greatest :math:`v` so far instead.
        kwargs: see :class:`Optimizer`.

    References: Kingma and Ba, "Adam: a method for stochastic optimization", 2015; Reddi et al., "On the convergence
    of Adam and beyond", 2018.

    >>> from lamina.core.state import Variable
    >>> w = Variable(jnp.array(1.0), name="w")
    >>> Adam(0.1).apply_gradients([(jnp.array(2.0), w)])
    >>> round(float(w), 4)
    0.9
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)
        self.amsgrad = amsgrad

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        def corrected_rate() -> Array:
            # asked for in steps only: when slots are made, it would be compiled for nothing
            first, second = self.corrections(step)
            return learning_rate * jnp.sqrt(second) / first

        def by_greatest(g: Array, w: Array, m: Array, v: Array, greatest: Array) -> tuple[Array, ...]:
            m, v = self.moments(g, m, v)
            greatest = jnp.maximum(greatest, v)
            return -m * corrected_rate() / (jnp.sqrt(greatest) + self.epsilon), m, v, greatest

        if self.amsgrad:
            return per_variable(by_greatest, momentum=0.0, velocity=0.0, velocity_hat=0.0)
        settings = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}

        def rule(g: Array, w: Array, m: Array, v: Array) -> tuple[Array, ...]:
            return adam_rule(g, m, v, corrected_rate(), **settings)

        def advance(gradients: Arrays, state: dict[str, Arrays], values: Arrays) -> tuple[Arrays, dict[str, Arrays]]:
            m, v = state["momentum"], state["velocity"]
            values, m, v = adam(gradients, values, m, v, corrected_rate(), **settings)
            return values, {"momentum": m, "velocity": v}

        return Whole(per_variable(rule, momentum=0.0, velocity=0.0), advance)


@register("optimizers")
class AdamW(Adam):
    r"""Adam with weight decay, :math:`w \leftarrow w - \eta \lambda w` before each step.

    Args:
        learning_rate: :math:`\eta`.
        weight_decay: :math:`\lambda`.
        beta_1: see :class:`Adam`.
        beta_2: see :class:`Adam`.
        epsilon: see :class:`Adam`.
        amsgrad: see :class:`Adam`.
        kwargs: see :class:`Optimizer`.

    Reference: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **kwargs: Any,
    ) -> None:
        if weight_decay is None:
            raise ConfigError("AdamW expects weight_decay as a number; received None.\nWrite:  Adam(...)")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **kwargs)


@register("optimizers")
class Adamax(MomentOptimizer):
    r"""Adam with the largest recent gradient in place of the root mean square.

    .. math::
        u \leftarrow \max(\beta_2 u, |g|), \qquad w \leftarrow w - \frac{\eta}{1 - \beta_1^t} \frac{m}{u + \epsilon}

    Args:
        learning_rate: :math:`\eta`.
        beta_1: the share of the mean :math:`m` that stays at each update.
        beta_2: :math:`\beta_2`.
        epsilon: :math:`\epsilon`.
        kwargs: see :class:`Optimizer`.

    Reference: Kingma and Ba, "Adam: a method for stochastic optimization", 2015, section 7.
    """

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        first, _ = self.corrections(step)

        def rule(g: Array, w: Array, m: Array, u: Array) -> tuple[Array, ...]:
            m, u = m + (g - m) * (1 - self.beta_1), jnp.maximum(self.beta_2 * u, jnp.abs(g))
            return -(learning_rate * m) / (first * (u + self.epsilon)), m, u

        return per_variable(rule, momentum=0.0, norm=0.0)


@register("optimizers")
class Nadam(MomentOptimizer):
    r"""Adam with Nesterov's momentum, which is warmed up by :math:`\mu_t = \beta_1 (1 - \frac12 0.96^t)`.

    .. math::
        w \leftarrow w - \frac{\eta}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} \left(
        \frac{\mu_{t+1} m}{1 - \prod_{i \le t+1} \mu_i} + \frac{(1 - \mu_t) g}{1 - \prod_{i \le t} \mu_i} \right)

    Args:
        learning_rate: :math:`\eta`.
        beta_1: :math:`\beta_1`.
        beta_2: :math:`\beta_2`.
        epsilon: :math:`\epsilon`.
        kwargs: see :class:`Optimizer`.

    Reference: Dozat, "Incorporating Nesterov momentum into Adam", 2016.
    """

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        b1, b2 = _real(self.beta_1), _real(self.beta_2)
        _, second = self.corrections(step)
        now, following = (b1 * (1.0 - 0.5 * jnp.power(0.96, _real(t))) for t in (step, step + 1))

        def init(values: Arrays) -> dict[str, Any]:
            return {"u_product": jnp.ones(()), **per_variable(lambda: (), momentum=0.0, velocity=0.0).init(values)}

        def update(gradients: Arrays, state: dict[str, Any], values: Arrays | None = None) -> tuple[Arrays, Any]:
            product = state["u_product"] * now

            def rule(g: Array, w: Array, m: Array, v: Array) -> tuple[Array, ...]:
                m, v = m + (g - m) * (1 - b1), v + (jnp.square(g) - v) * (1 - b2)
                m_hat = following * m / (1 - product * following) + (1 - now) * g / (1 - product)
                return -(m_hat * learning_rate) / (jnp.sqrt(v / second) + self.epsilon), m, v

            moments = {name: slot for name, slot in state.items() if name != "u_product"}
            changes, moments = per_variable(rule, momentum=0.0, velocity=0.0).update(gradients, moments, values)
            return changes, {"u_product": product, **moments}

        return Rule(init, update)


@register("optimizers")
class Lamb(MomentOptimizer):
    r"""Adam whose step for each variable is as long as :math:`\eta` times the variable itself; for large batches.

    .. math::
        u = \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}, \qquad
        w \leftarrow w - \eta \frac{\lVert w \rVert}{\lVert u \rVert} u

    Args:
        learning_rate: :math:`\eta`.
        beta_1: the share of the mean :math:`m` that stays at each update.
        beta_2: the share of the mean square :math:`v` that stays.
        epsilon: :math:`\epsilon`.
        kwargs: see :class:`Optimizer`.

    Reference: You et al., "Large batch optimization for deep learning", 2020.
    """

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        import optax

        first, second = self.corrections(step)

        def rule(g: Array, w: Array, m: Array, v: Array) -> tuple[Array, ...]:
            m, v = self.moments(g, m, v)
            u = (m / first) / (jnp.sqrt(v / second) + self.epsilon)
            lengths = optax.tree.norm(w), optax.tree.norm(u)
            both = (lengths[0] > 0) & (lengths[1] > 0)
            ratio = jnp.where(both, lengths[0] / jnp.where(both, lengths[1], 1.0), 1.0)
            return -ratio * learning_rate * u, m, v

        return per_variable(rule, momentum=0.0, velocity=0.0)


@register("optimizers")
class ScheduleFreeAdamW(MomentOptimizer):
    r"""Adam that averages its iterates, so that it needs no learning-rate schedule.

    With :math:`z` the point that Adam moves, :math:`x` the mean of all :math:`z` and :math:`y` the weights at which
    gradients are taken:

    .. math::
        z \leftarrow z - \eta \frac{g}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}, \qquad
        x \leftarrow (1 - \tfrac1t) x + \tfrac1t z, \qquad y \leftarrow (1 - \beta_1) z + \beta_1 x

    Args:
        learning_rate: :math:`\eta`.
        beta_1: :math:`\beta_1`, above 0.
        beta_2: the share of the mean square :math:`v` that stays at each update.
        epsilon: :math:`\epsilon`.
        warmup_steps: over how many updates the learning rate grows from 0.
        kwargs: see :class:`Optimizer`.

    Reference: Defazio et al., "The road less scheduled", 2024.
    """

    def __init__(
        self,
        learning_rate: Any = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        warmup_steps: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **kwargs)
        check(self, "beta_1", beta_1, lambda x: x > 0, "a number above 0 and below 1")
        check(self, "warmup_steps", warmup_steps, lambda x: x >= 0, "a whole number of at least 0")
        self.warmup_steps = warmup_steps

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        step, b1, b2 = _real(step), _real(self.beta_1), _real(self.beta_2)
        _, second = self.corrections(step)
        if self.warmup_steps:
            learning_rate = learning_rate * jnp.minimum(step / self.warmup_steps, 1.0)

        def rule(g: Array, y: Array, z: Array, v: Array) -> tuple[Array, ...]:
            v = v + (jnp.square(g) - v) * (1 - b2)
            x = (y - (1 - b1) * z) / b1
            z = z - learning_rate * g / (jnp.sqrt(v / second) + self.epsilon)
            x = (1 - 1 / step) * x + z / step
            return (1 - b1) * z + b1 * x - y, z, v

        return per_variable(rule, momentum=lambda w: w, velocity=0.0)


def _real(number: Any) -> Any:
    """``number`` in the floating-point type that the process computes in."""
    return jnp.asarray(number, jax.dtypes.canonicalize_dtype(float))
