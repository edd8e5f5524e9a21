r"""Learning-rate schedules: functions from the number of updates so far to the learning rate.

Every one works on a traced step, so that it runs inside a compiled training loop.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from lamina.core.errors import ConfigError
from lamina.core.registry import Configurable, register
from lamina.core.state import Array


class LearningRateSchedule(Configurable):
    """The base of all schedules. One of your own defines ``__call__(self, step)``, which returns a number.

    >>> class Halving(LearningRateSchedule):
    ...     def __call__(self, step):
    ...         return 0.1 * 0.5 ** (step // 1000)
    >>> Halving()(2000)
    0.025
    """

    def __call__(self, step: Any) -> Array:
        """The learning rate after ``step`` updates, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__(self, step)")

    def _above_zero(self, **values: Any) -> None:
        for name, value in values.items():
            if not value > 0:
                raise ConfigError(f"{type(self).__name__} expects {name} above 0; received {value!r}")


def _float(step: Any) -> Array:
    step = jnp.asarray(step)
    return step.astype(jnp.promote_types(step.dtype, jnp.float32))  # half types cannot count to 3000


@register("schedules")
class ExponentialDecay(LearningRateSchedule):
    r""":math:`\eta_0 \, r^{t / n}`.

    Args:
        initial_learning_rate: :math:`\eta_0`.
        decay_steps: :math:`n`, the updates in which the rate is multiplied by :math:`r` once.
        decay_rate: :math:`r`.
        staircase: whether :math:`t / n` is rounded down.
        name: a name.

    Raises:
        ConfigError: if ``decay_steps`` is not above zero.

    >>> float(ExponentialDecay(0.5, decay_steps=10, decay_rate=0.5)(20))
    0.125
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self._above_zero(decay_steps=decay_steps)
        self.initial_learning_rate, self.decay_steps, self.decay_rate = initial_learning_rate, decay_steps, decay_rate
        self.staircase, self.name = staircase, name

    def __call__(self, step: Any) -> Array:
        periods = _float(step) / self.decay_steps
        periods = jnp.floor(periods) if self.staircase else periods
        return self.initial_learning_rate * jnp.power(self.decay_rate, periods)


@register("schedules")
class InverseTimeDecay(LearningRateSchedule):
    r""":math:`\eta_0 / (1 + r t / n)`.

    Args:
        initial_learning_rate: :math:`\eta_0`.
        decay_steps: :math:`n`.
        decay_rate: :math:`r`.
        staircase: whether :math:`t / n` is rounded down.
        name: a name.

    Raises:
        ConfigError: if ``decay_steps`` is not above zero.

    >>> float(InverseTimeDecay(0.5, decay_steps=10, decay_rate=1.0)(10))
    0.25
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        self._above_zero(decay_steps=decay_steps)
        self.initial_learning_rate, self.decay_steps, self.decay_rate = initial_learning_rate, decay_steps, decay_rate
        self.staircase, self.name = staircase, name

    def __call__(self, step: Any) -> Array:
        periods = _float(step) / self.decay_steps
        periods = jnp.floor(periods) if self.staircase else periods
        return self.initial_learning_rate / (1 + self.decay_rate * periods)


@register("schedules")
class PiecewiseConstantDecay(LearningRateSchedule):
    """One rate up to and with the first boundary, the next up to and with the second, and so on.

    Args:
        boundaries: steps, each above the one before.
        values: rates, one more than boundaries.
        name: a name.

    Raises:
        ConfigError: if boundaries do not grow or are not one fewer than the values.

    >>> rate = PiecewiseConstantDecay([10, 20], [1.0, 0.5, 0.25])
    >>> [float(rate(step)) for step in (10, 11, 21)]
    [1.0, 0.5, 0.25]
    """

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str = "PiecewiseConstant") -> None:
        boundaries, values = list(boundaries), list(values)
        if not boundaries or len(boundaries) != len(values) - 1:
            raise ConfigError(
                "PiecewiseConstantDecay expects boundaries and one value more than those; received "
                f"{len(boundaries)} boundaries and {len(values)} values"
            )
        if any(low >= high for low, high in itertools.pairwise(boundaries)):
            raise ConfigError(f"PiecewiseConstantDecay expects boundaries that grow; received {boundaries}")
        self.boundaries, self.values, self.name = boundaries, values, name

    def __call__(self, step: Any) -> Array:
        passed = jnp.sum(_float(step) > jnp.asarray(self.boundaries, float))
        return jnp.asarray(self.values, float)[passed]


@register("schedules")
class PolynomialDecay(LearningRateSchedule):
    r""":math:`\eta_1 + (\eta_0 - \eta_1)(1 - t / n)^p` up to :math:`t = n`, then :math:`\eta_1`.

    Args:
        initial_learning_rate: :math:`\eta_0`.
        decay_steps: :math:`n`.
        end_learning_rate: :math:`\eta_1`.
        power: :math:`p`.
        cycle: instead of staying at the end, lengthen :math:`n` to its next multiple that is not below :math:`t`.
        name: a name.

    Raises:
        ConfigError: if ``decay_steps`` is not above zero.

    >>> float(PolynomialDecay(0.75, decay_steps=10, end_learning_rate=0.25)(5))
    0.5
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self._above_zero(decay_steps=decay_steps)
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.end_learning_rate, self.power, self.cycle, self.name = end_learning_rate, power, cycle, name

    def __call__(self, step: Any) -> Array:
        done = _float(step) / self.decay_steps
        done = done / jnp.maximum(1, jnp.ceil(done)) if self.cycle else jnp.minimum(done, 1)
        span = self.initial_learning_rate - self.end_learning_rate
        return span * jnp.power(1 - done, self.power) + self.end_learning_rate


@register("schedules")
class CosineDecay(LearningRateSchedule):
    r"""Optionally a straight way up, then half a cosine down.

    :math:`\eta_0 (\alpha + (1 - \alpha)(1 + \cos \pi t / n) / 2)`

    Loshchilov and Hutter (2016), https://arxiv.org/abs/1608.03983

    Args:
        initial_learning_rate: :math:`\eta_0`; with warm-up, the rate at the very start.
        decay_steps: :math:`n`, without the steps of the warm-up.
        alpha: the part of the rate that is left at the end.
        name: a name.
        warmup_target: the rate after the warm-up, from which the cosine starts; ``None`` for no warm-up.
        warmup_steps: the length of the warm-up.

    Raises:
        ConfigError: if ``decay_steps`` is not above zero, or ``warmup_steps`` below.

    >>> rate = CosineDecay(0.0, decay_steps=100, warmup_target=1.0, warmup_steps=10)
    >>> [round(float(rate(step)), 3) for step in (5, 10, 60)]
    [0.5, 1.0, 0.5]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self._above_zero(decay_steps=decay_steps)
        if warmup_steps < 0:
            raise ConfigError(f"CosineDecay expects warmup_steps of at least 0; received {warmup_steps!r}")
        self.initial_learning_rate, self.decay_steps, self.alpha = initial_learning_rate, decay_steps, alpha
        self.name, self.warmup_target, self.warmup_steps = name, warmup_target, warmup_steps

    def __call__(self, step: Any) -> Array:
        step, start = _float(step), self.initial_learning_rate
        if self.warmup_target is None:
            return start * _half_cosine(step / self.decay_steps, self.alpha)
        up = start + (self.warmup_target - start) * step / max(self.warmup_steps, 1)
        down = self.warmup_target * _half_cosine((step - self.warmup_steps) / self.decay_steps, self.alpha)
        return jnp.where(step < self.warmup_steps, up, down)


@register("schedules")
class CosineDecayRestarts(LearningRateSchedule):
    r"""Half a cosine down, again and again; each time ``t_mul`` times as long, from ``m_mul`` times as high.

    Loshchilov and Hutter (2016), https://arxiv.org/abs/1608.03983

    Args:
        initial_learning_rate: the rate at the start.
        first_decay_steps: the length of the first half cosine.
        t_mul: what each length is multiplied by for the next; at least 1.
        m_mul: what each height is multiplied by for the next.
        alpha: the part of the initial rate that is left at the lowest point.
        name: a name.

    Raises:
        ConfigError: if ``first_decay_steps`` is not above zero, or ``t_mul`` below 1.

    >>> rate = CosineDecayRestarts(1.0, first_decay_steps=10)
    >>> [round(float(rate(step)), 3) for step in (5, 10, 20)]
    [0.5, 1.0, 0.5]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        self._above_zero(first_decay_steps=first_decay_steps)
        if t_mul < 1:
            raise ConfigError(f"CosineDecayRestarts expects t_mul of at least 1; received {t_mul!r}")
        self.initial_learning_rate, self.first_decay_steps = initial_learning_rate, first_decay_steps
        self.t_mul, self.m_mul, self.alpha, self.name = t_mul, m_mul, alpha, name

    def __call__(self, step: Any) -> Array:
        done = _float(step) / self.first_decay_steps
        if self.t_mul == 1:
            restarts = jnp.floor(done)
            within = done - restarts
        else:
            # the r-th period starts at (t_mul**r - 1) / (t_mul - 1); the logarithm may round to either side of a start
            grown = 1 + done * (self.t_mul - 1)
            restarts = jnp.floor(jnp.log(grown) / math.log(self.t_mul))
            restarts = restarts + jnp.where(grown >= self.t_mul ** (restarts + 1), 1, 0)
            restarts = restarts - jnp.where(grown < self.t_mul**restarts, 1, 0)
            within = (grown / self.t_mul**restarts - 1) / (self.t_mul - 1)
        height = jnp.power(self.m_mul, restarts)
        cosine = height * (1 + jnp.cos(jnp.pi * within)) / 2
        return self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)


def _half_cosine(done: Array, alpha: float) -> Array:
    return (1 - alpha) * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1))) / 2 + alpha
