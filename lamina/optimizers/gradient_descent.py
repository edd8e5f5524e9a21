"""SGD and Lion: descent by the gradient, or by its sign."""

from typing import Any, ClassVar

import jax.numpy as jnp

from lamina.core.registry import register
from lamina.core.state import Array
from lamina.optimizers.base import Optimizer
from lamina.optimizers.rules import Transformation, check, per_variable


@register("optimizers")
class SGD(Optimizer):
    r"""Gradient descent, with momentum if wanted.

    .. math:: m \leftarrow \mu m - \eta g, \qquad w \leftarrow w + m

    and with Nesterov's correction :math:`w \leftarrow w + \mu m - \eta g`, with the new :math:`m`.

    Args:
        learning_rate: :math:`\eta`.
        momentum: :math:`\mu`, from 0 to 1.
        nesterov: whether to look ahead along the momentum.
        kwargs: see :class:`Optimizer`.

    Reference: Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.

    >>> from lamina.core.state import Variable
    >>> w = Variable(jnp.array(1.0), name="w")
    >>> SGD(0.1).apply_gradients([(jnp.array(2.0), w)])
    >>> round(float(w), 6)
    0.8
    """

    slot_names: ClassVar[dict[str, str]] = {"trace": "momentum"}

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        check(self, "momentum", momentum, lambda x: 0 <= x <= 1, "a number from 0 to 1")
        self.momentum, self.nesterov = momentum, nesterov

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        import optax

        if not self.momentum:
            return optax.scale(-learning_rate)
        return optax.chain(optax.scale(-learning_rate), optax.trace(self.momentum, self.nesterov))


@register("optimizers")
class Lion(Optimizer):
    r"""Descent by the sign of an interpolated momentum; wants a third to a tenth of Adam's learning rate.

    .. math::
        w \leftarrow w - \eta\, \mathrm{sign}(\beta_1 m + (1 - \beta_1) g), \qquad
        m \leftarrow \beta_2 m + (1 - \beta_2) g

    Args:
        learning_rate: :math:`\eta`.
        beta_1: how much of the momentum decides on the direction.
        beta_2: how much of the momentum stays.
        kwargs: see :class:`Optimizer`.

    Reference: Chen et al., "Symbolic discovery of optimization algorithms", 2023.
    """

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.99, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        check(self, "beta_1", beta_1, lambda x: 0 < x <= 1, "a number above 0 and up to 1")
        check(self, "beta_2", beta_2, lambda x: 0 <= x <= 1, "a number from 0 to 1")
        self.beta_1, self.beta_2 = beta_1, beta_2

    def transform(self, learning_rate: Any, step: Any) -> Transformation:
        b1, b2 = self.beta_1, self.beta_2

        def rule(g: Array, w: Array, m: Array) -> tuple[Array, ...]:
            return -learning_rate * jnp.sign(m * b1 + g * (1 - b1)), m * b2 + g * (1 - b2)

        return per_variable(rule, momentum=0.0)
