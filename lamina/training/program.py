"""What a checkpoint belongs to: versions, settings, data, network and first weights, as a description to compare."""

import inspect
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from lamina import native
from lamina.core import __version__, registry
from lamina.data.batches import ArrayData, StreamData
from lamina.optimizers import Optimizer
from lamina.saving.values import described
from lamina.training.callback import Callback


def describe(
    model: Any,
    data: ArrayData | StreamData,
    validation: ArrayData | StreamData | None,
    callbacks: Sequence[Callback],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """All that has to be the same for a run to go on where another one stopped.

    Args:
        model: the model, before training.
        data: what it is trained on.
        validation: what it is validated on.
        callbacks: those of the user, before training.
        settings: the arguments of ``fit`` that shape training.
    """
    device = jax.devices()[0]
    versions = {
        "lamina": __version__,
        "jax": jax.__version__,
        "numpy": np.__version__,
        "device": f"{device.platform} {device.device_kind}",
        "kernels": native.load().how,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
    }
    # A model that is not built has the paths that its first step would give it, before its weights are drawn.
    model.adopt()
    progress = model.progress
    return {
        "versions": versions,
        "fit": described(settings),
        "data": _data(data),
        "validation": None if validation is None else _data(validation),
        "model": {
            "class": f"{type(model).__module__}.{type(model).__qualname__}",
            "config": _config(model),
            "optimizers": {
                path: _config(module) for path, module in model.modules().items() if isinstance(module, Optimizer)
            },
            "objective": None if model.objective is None else _config(model.objective),
        },
        "callbacks": [{"class": type(callback).__name__, **described(arguments(callback))} for callback in callbacks],
        "start": {
            "steps before": 0 if progress is None else int(progress.step.stored),
            "seed": None if progress is None else int(progress.seed.stored),
            "variables": {path: described(v.stored) for path, v in model.named_variables().items()},
        },
    }


def arguments(callback: Callback) -> dict[str, Any]:
    """The attributes of a callback that are named like arguments of its ``__init__``."""
    names = inspect.signature(type(callback).__init__).parameters
    return {name: value for name, value in vars(callback).items() if name in names}


def _config(module: Any) -> Any:
    try:
        return described(registry.serialize(module))
    except Exception:  # a class of the user's own that cannot be saved; its variables are described all the same
        return None


def _data(data: ArrayData | StreamData) -> dict[str, Any]:
    if isinstance(data, StreamData):
        return {"batches of": type(data.source).__name__, "steps": described(data.steps)}
    parts = dict(zip(("x", "y", "sample_weight"), data.tree, strict=False)) if isinstance(data.tree, tuple) else None
    arrays = jax.tree_util.tree_leaves_with_path({"x": data.tree} if parts is None else parts)
    return {
        **described({"examples": data.size, "batch_size": data.batch_size, "shuffle": data.shuffle}),
        **{_name(path): described(leaf) for path, leaf in arrays},
    }


def _name(path: Any) -> str:
    return "".join(str(getattr(key, "key", key)) for key in path[:1]) + jax.tree_util.keystr(path[1:])
