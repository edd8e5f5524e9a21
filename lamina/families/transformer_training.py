"""What the training of all transformers has in common: batches made on the way, and the optimizer."""

import math
from collections.abc import Callable
from typing import Any

from lamina.core.errors import ConfigError
from lamina.optimizers import AdamW
from lamina.schedules import CosineDecay


class Batches:
    """Batches without end, each made when it is asked for; ``steps`` of them are an epoch."""

    def __init__(self, make: Callable[[], Any], steps: int) -> None:
        self.make, self.steps = make, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Any:
        return self.make()


def schedule_for(rate: float, warmup: float, steps: int) -> CosineDecay:
    """The learning rate over so many steps: up to ``rate`` in a share ``warmup`` of them, then down along a cosine.

    Raises:
        ConfigError: for a rate that is not above 0, or a share that is none.
    """
    check_fraction("warmup", warmup)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise ConfigError(f"learning_rate is a number above 0; received {rate!r}")
    rising = min(max(1, round(warmup * steps)), max(steps - 1, 0))
    return CosineDecay(0.0, max(steps - rising, 1), 0.05, warmup_target=rate, warmup_steps=rising)


def optimizer_for(rate: float, warmup: float, weight_decay: float, steps: int) -> AdamW:
    """The optimizer for so many steps, with the rates of :func:`schedule_for`."""
    return AdamW(schedule_for(rate, warmup, steps), weight_decay=weight_decay, beta_2=0.99, global_clipnorm=1.0)


def check_fraction(name: str, value: Any) -> None:
    """Refuse what is not a number from 0 to less than 1.

    Raises:
        ConfigError: naming the argument.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(f"{name} is a number from 0 to less than 1; received {value!r}")
