"""Writing and reading the model file.

Weights are tensors under their paths; architecture, compile settings and library version are JSON in the header's
metadata. A reader builds registered classes and those the caller passes, and nothing else.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.core import __version__, registry
from lamina.core.errors import FileError
from lamina.core.module import Module
from lamina.core.state import Variable
from lamina.saving import disk

#: goes up when a reader of before could not read what is written now
FORMAT = 1
#: paths of what belongs to training, not to the network
_TRAINING = ("optimizer/", "progress/")


def save_model(model: Any, filepath: str | Path, overwrite: bool = True) -> None:
    """Write ``model`` with its architecture, weights, compile settings and the optimizer's state.

    Args:
        model: a built model.
        filepath: where to.
        overwrite: whether to replace a file that is there.

    Raises:
        ConfigError: if it holds something that has no name to save it under.
        FileError: if the file is there and may not be replaced, or cannot be written.
    """
    objective = model.objective
    description = {
        "architecture": registry.serialize(model),
        "built_for": model.built_for,
        "task": model.task,
        "compile": None
        if objective is None
        else {"optimizer": registry.serialize(model.optimizer), **objective.get_config()},
    }
    kept = {path: variable for path, variable in model.named_variables().items() if not path.startswith("objective/")}
    _write(filepath, kept, description, overwrite)


def save_weights(model: Any, filepath: str | Path, overwrite: bool = True) -> None:
    """Write the weights of ``model`` alone."""
    _write(filepath, _weights(model), {}, overwrite)


def load_model(filepath: str | Path, custom_objects: Mapping[str, Any] | None = None, compile: bool = True) -> Any:
    """The model in a file.

    Args:
        filepath: the file.
        custom_objects: name -> class or function, for those that are not Lamina's nor registered.
        compile: whether to compile it as it was, with the optimizer's state.

    Raises:
        FileError: if the file is missing, damaged, or of a newer format.
        ConfigError: if it needs a class that is neither registered nor passed.
    """
    tensors, description = _read(filepath)
    if "architecture" not in description:
        raise FileError(
            f"{filepath} holds weights without an architecture. Write:  model.load_weights({str(filepath)!r})"
        )
    with registry.custom_objects(custom_objects):
        try:
            built = registry.deserialize(description["architecture"])
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise FileError(f"{filepath}: the architecture is not one that can be built ({error}).") from None
        if not isinstance(built, Module):
            raise FileError(f"{filepath}: the architecture is not that of a model.")
        model: Any = built
        if description.get("built_for") is not None and not model.built:
            model.build_for(description["built_for"])
        model.adopt()
        model.task = description.get("task")
        settings = description.get("compile")
        if compile and settings:
            model.compile(
                **{name: registry.deserialize(value) for name, value in settings.items() if name != "output_names"}
            )
            if any(path.startswith("optimizer/") for path in tensors):
                model.optimizer.build(_with_slots(model, tensors))
    wanted = _weights(model)
    if compile and settings:
        wanted = {p: v for p, v in model.named_variables().items() if not p.startswith("objective/")}
        wanted = {p: v for p, v in wanted.items() if p in tensors or not p.startswith(_TRAINING)}
    _refuse_left(model, tensors, wanted, filepath)
    _assign(wanted, tensors, filepath)
    return model


def load_weights(model: Any, filepath: str | Path) -> None:
    """Give ``model`` the weights in a file.

    Raises:
        FileError: if a weight is missing, left over or of another shape.
    """
    tensors, _ = _read(filepath)
    wanted = _weights(model)
    _refuse_left(model, tensors, wanted, filepath)
    _assign(wanted, tensors, filepath)


def read_description(filepath: str | Path) -> dict[str, Any]:
    """The JSON part of a model file, with the tensors' shapes and dtypes under ``"tensors"``; builds nothing."""
    tensors, description = _read(filepath)
    return description | {"tensors": {path: (list(t.shape), t.dtype.name) for path, t in tensors.items()}}


def _weights(model: Any) -> dict[str, Variable]:
    own = {id(variable) for variable in model.weights}
    return {path: variable for path, variable in model.named_variables().items() if id(variable) in own}


def _refuse_left(model: Any, tensors: Mapping[str, Any], wanted: Mapping[str, Any], filepath: str | Path) -> None:
    """Refuse a file with weights that the model has no place for; what its optimizers and metrics kept may be left."""
    training = [module.path for module in model._training_modules()]
    apart = (*_TRAINING, *(f"{path}/" for path in training))
    left = sorted(path for path in set(tensors) - set(wanted) if not path.startswith(apart))
    if left:
        raise FileError(f"{filepath} holds {left[0]!r}, which the model does not have.")


def _with_slots(model: Any, tensors: Mapping[str, Any]) -> dict[str, Variable]:
    """The variables that the optimizer in the file was built for: those of today, and those frozen since."""
    slots = tuple(path for path in tensors if path.startswith("optimizer/"))
    today = model.named_variables(trainable=True)
    return {
        path: variable
        for path, variable in _weights(model).items()
        if path in today or any(slot.endswith(f"/{path}") for slot in slots)
    }


def _assign(wanted: dict[str, Variable], tensors: Mapping[str, Any], filepath: str | Path) -> None:
    for path, variable in wanted.items():
        if path not in tensors:
            raise FileError(f"{filepath} has no weights for {path!r}.")
        if tuple(tensors[path].shape) != variable.shape:
            raise FileError(
                f"{filepath}: {path!r} has shape {tuple(tensors[path].shape)}; the model's has {variable.shape}."
            )
    for path, variable in wanted.items():
        variable.assign(tensors[path])


def _write(filepath: str | Path, variables: dict[str, Variable], description: dict[str, Any], overwrite: bool) -> None:
    from safetensors.numpy import save

    path = Path(filepath)
    if path.exists() and not overwrite:
        raise FileError(f"{path} is there already. Write:  model.save({str(path)!r}, overwrite=True)")
    header = {"format": FORMAT, "lamina": __version__, **description}
    tensors = {name: np.array(variable.raw, order="C") for name, variable in variables.items()}
    data = save(tensors, metadata={"lamina": json.dumps(header, allow_nan=True)})
    disk.replace(path, [data])


def _read(filepath: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    path = Path(filepath)
    if not path.is_file():
        raise FileError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: jnp.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise FileError(f"{path} is not a model file, or is damaged: {error}") from None
    if "lamina" not in metadata:
        raise FileError(f"{path} is a safetensors file, but was not written by Lamina: it has no architecture.")
    try:
        description = json.loads(metadata["lamina"])
        written = int(description["format"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FileError(f"{path}: its description is not readable.") from None
    if written > FORMAT:
        raise FileError(
            f"{path} has format {written}, written by Lamina {description.get('lamina')}; this version reads up to "
            f"{FORMAT}. Install a newer Lamina."
        )
    return tensors, description
