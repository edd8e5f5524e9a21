"""Optimizers: what turns gradients into new weights."""

from lamina import schedules
from lamina.core.registry import getter
from lamina.optimizers.adagrad import Adadelta, Adafactor, Adagrad, Ftrl, RMSprop
from lamina.optimizers.adam import Adam, Adamax, AdamW, Lamb, Nadam, ScheduleFreeAdamW
from lamina.optimizers.base import Optimizer
from lamina.optimizers.gradient_descent import SGD, Lion
from lamina.optimizers.loss_scale import LossScaleOptimizer
from lamina.optimizers.muon import Muon

get = getter("optimizers")

__all__ = [
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "LossScaleOptimizer",
    "Muon",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "ScheduleFreeAdamW",
    "get",
    "schedules",
]
