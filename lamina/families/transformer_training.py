"""What the training of all transformers has in common: batches made on the way, and the optimizer."""

from collections.abc import Callable, Iterator
from typing import Any

from lamina.families.base import above_zero, share
from lamina.optimizers import AdamW
from lamina.schedules import CosineDecay


class Batches:
    """Batches for training, each made when it is asked for; ``steps`` of them are an epoch."""

    def __init__(self, make: Callable[[], Any], steps: int) -> None:
        self.make, self.steps = make, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        return (self.make() for _ in range(self.steps))


def schedule_for(rate: float, warmup: float, steps: int) -> CosineDecay:
    """The learning rate over so many steps: up to ``rate`` in a share ``warmup`` of them, then down along a cosine.

    Raises:
        ConfigError: for a rate that is not above 0, or a share that is none.
    """
    share("warmup", warmup)
    above_zero("learning_rate", rate)
    rising = min(max(1, round(warmup * steps)), max(steps - 1, 0))
    return CosineDecay(0.0, max(steps - rising, 1), 0.05, warmup_target=rate, warmup_steps=rising)


def optimizer_for(rate: float, warmup: float, weight_decay: float, steps: int) -> AdamW:
    """The optimizer for so many steps, with the rates of :func:`schedule_for`."""
    return AdamW(schedule_for(rate, warmup, steps), weight_decay=weight_decay, beta_2=0.99, global_clipnorm=1.0)
