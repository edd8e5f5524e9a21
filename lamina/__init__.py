"""Lamina: deep learning from the single neuron to the transformer, in Keras's interface, compiled whole by XLA."""

from lamina import (
    activations,
    callbacks,
    constraints,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    models,
    ops,
    optimizers,
    regularizers,
    schedules,
    utils,
)
from lamina.core import __version__, random
from lamina.core.cache import keep_compiled_programs
from lamina.core.config import config, set_random_seed
from lamina.core.errors import ConfigError, DataError, FileError, LaminaError, ShapeError, StateError
from lamina.core.memory import compute_in_turn, keep_freed_memory
from lamina.core.registry import custom_objects, register
from lamina.core.state import Variable
from lamina.core.symbolic import SymbolicTensor
from lamina.core.transforms import Gradients, grad, jit, remat, scan, value_and_grad, vmap
from lamina.initializers import Initializer
from lamina.layers import Input, Layer
from lamina.losses import Loss
from lamina.metrics import Metric
from lamina.models.head import head_for
from lamina.models.model import Model
from lamina.models.sequential import Sequential
from lamina.optimizers import Optimizer
from lamina.regularizers import Regularizer
from lamina.saving import load_model
from lamina.training.checkpoint import Checkpoint
from lamina.training.history import History

keep_freed_memory()
compute_in_turn()
keep_compiled_programs()

__all__ = [
    "Checkpoint",
    "ConfigError",
    "DataError",
    "FileError",
    "Gradients",
    "History",
    "Initializer",
    "Input",
    "LaminaError",
    "Layer",
    "Loss",
    "Metric",
    "Model",
    "Optimizer",
    "Regularizer",
    "Sequential",
    "ShapeError",
    "StateError",
    "SymbolicTensor",
    "Variable",
    "__version__",
    "activations",
    "callbacks",
    "config",
    "constraints",
    "custom_objects",
    "datasets",
    "grad",
    "head_for",
    "initializers",
    "jit",
    "layers",
    "load_model",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "random",
    "register",
    "regularizers",
    "remat",
    "scan",
    "schedules",
    "set_random_seed",
    "utils",
    "value_and_grad",
    "vmap",
]
