"""Writing and reading the model file.

Weights are tensors under their paths; architecture, compile settings and library version are JSON in the header's
metadata. A reader builds registered classes and those the caller passes, and nothing else.
"""

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from lamina.core import __version__, allowance, registry
from lamina.core.errors import ConfigError, FileError, LaminaError, shown
from lamina.core.module import Module
from lamina.core.state import Variable
from lamina.saving.container import Entry, Header, parse_json, read_header, read_tensor
from lamina.saving.tensors import write_tensors

#: goes up when a reader of before could not read what is written now
FORMAT = 1
#: what any file may ask for while it is built: so many layers made and called, and so many numbers of 4 bytes, as of a metric
STEPS, NUMBERS = 5_000, 2**24
#: the most numbers that any array in a network may have for one example, however small the file is
LARGEST = 2**27
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
    """The model in a file, which may be a stranger's: what it describes is checked before it is built.

    Args:
        filepath: the file.
        custom_objects: name -> class or function, for those that are not Lamina's nor registered.
        compile: whether to compile it as it was, with the optimizer's state.

    Raises:
        FileError: if the file is missing, damaged, of a newer format, or asks for more than a file of its size may.
        ConfigError: if it needs a class that is neither registered nor passed.
    """
    path = Path(filepath)
    header, description = _read(path)
    if "architecture" not in description:
        raise FileError(f"{path} holds weights without an architecture. Write:  model.load_weights({str(path)!r})")
    held = sum(math.prod(entry.shape) for entry in header.tensors.values())
    steps = STEPS + len(header.metadata["lamina"]) // 50
    with _told(path), registry.custom_objects(custom_objects), allowance.granted(steps, NUMBERS):
        built = registry.deserialize(description["architecture"])
        if not isinstance(built, Module):
            raise FileError(f"{path}: the architecture is not that of a model.")
        model: Any = built
        if description.get("built_for") is not None and not model.built:
            model.build_for(description["built_for"])
        model.adopt()
        model.task = description.get("task")
        settings = description.get("compile")
        weights = _weights(model)
        _compare(path, {p: e for p, e in header.tensors.items() if not _left(model, p)}, weights)
        size, what = model.largest_array()
        if size > max(LARGEST, 32 * held):
            raise FileError(f"{path}: {what} makes {size:.6g} numbers of one example, too many for a file of its size.")
        _assign(path, header, weights)
        if compile and settings:
            model.compile(
                **{name: registry.deserialize(value) for name, value in settings.items() if name != "output_names"}
            )
            built_for = _with_slots(weights, [name for name in header.tensors if name.startswith("optimizer/")])
            if built_for:
                model.optimizer.build(built_for)
            others = {p: v for p, v in model.named_variables().items() if p not in weights}
            training = {p: v for p, v in others.items() if not p.startswith("objective/")}
            kept = {p: e for p, e in header.tensors.items() if p in training or p.startswith(_TRAINING)}
            _compare(path, kept, training)
            _assign(path, header, training)
    return model


def load_weights(model: Any, filepath: str | Path) -> None:
    """Give ``model`` the weights in a file; floats may be of another width than the model's.

    Raises:
        FileError: if a weight is missing, left over or of another shape.
    """
    path = Path(filepath)
    header, _ = _read(path)
    weights = _weights(model)
    _compare(path, {p: e for p, e in header.tensors.items() if not _left(model, p)}, weights, widths=False)
    _assign(path, header, weights)


def read_description(filepath: str | Path) -> dict[str, Any]:
    """The JSON part of a model file, with the tensors' shapes and dtypes under ``"tensors"``; builds nothing."""
    header, description = _read(Path(filepath))
    return description | {"tensors": {path: (list(t.shape), t.dtype.name) for path, t in header.tensors.items()}}


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors inside name the file; what is none of Lamina's becomes one of them."""
    try:
        yield
    except LaminaError as error:
        if str(error).startswith(str(path)):
            raise
        raise type(error)(f"{path}: {error}") from None
    except Exception as error:  # a stranger's description can be wrong in more ways than can be listed
        first = str(error).partition("\n")[0][:200]
        raise FileError(
            f"{path}: the architecture is not one that can be built ({type(error).__name__}: {first})."
        ) from error


def _weights(model: Any) -> dict[str, Variable]:
    own = {id(variable) for variable in model.weights}
    return {path: variable for path, variable in model.named_variables().items() if id(variable) in own}


def _left(model: Any, name: str) -> bool:
    """Whether a tensor is none of the weights: what an optimizer or a metric of the model kept."""
    apart = (*_TRAINING, *(f"{module.path}/" for module in model._training_modules()))
    return name.startswith(apart)


def _with_slots(weights: dict[str, Variable], slots: list[str]) -> dict[str, Variable]:
    """The variables that the optimizer in the file was built for, some of which may be frozen since."""
    ends = {slot[at.end() :] for slot in slots for at in re.finditer("/", slot)}
    return {path: variable for path, variable in weights.items() if path in ends}


def _compare(path: Path, entries: Mapping[str, Entry], wanted: Mapping[str, Variable], widths: bool = True) -> None:
    """Refuse tensors that are not those of the variables: one for each, of its shape and dtype.

    Args:
        path: the file.
        entries: its tensors.
        wanted: the variables.
        widths: whether floats have to be of the variable's own width.
    """
    for name, variable in wanted.items():
        if name not in entries:
            raise FileError(f"{path} has no weights for {shown(name)}.")
        entry, dtype = entries[name], variable._dtype
        if entry.shape != variable.shape:
            raise FileError(f"{path}: {shown(name)} has shape {entry.shape}; the model's has {variable.shape}.")
        floats = not widths and all(jnp.issubdtype(kind, jnp.floating) for kind in (entry.dtype, dtype))
        if entry.dtype != dtype and not floats:
            raise FileError(f"{path}: {shown(name)} has dtype {entry.dtype}; the model's has {dtype}.")
    if left := sorted(set(entries) - set(wanted)):
        raise FileError(f"{path} holds {shown(left[0])}, which the model does not have.")


def _assign(path: Path, header: Header, wanted: Mapping[str, Variable]) -> None:
    with path.open("rb") as file:
        for name, variable in wanted.items():
            variable.assign(read_tensor(file, name, header.tensors[name]))


def _write(filepath: str | Path, variables: dict[str, Variable], description: dict[str, Any], overwrite: bool) -> None:
    path = Path(filepath)
    if path.exists() and not overwrite:
        raise FileError(f"{path} is there already. Write:  model.save({str(path)!r}, overwrite=True)")
    header = {"format": FORMAT, "lamina": __version__, **description}
    try:
        check_numbers(header)
    except ValueError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from None
    tensors = {name: np.asarray(variable.raw) for name, variable in variables.items()}
    write_tensors(path, tensors, {"lamina": json.dumps(header)})


def _read(path: Path) -> tuple[Header, dict[str, Any]]:
    """What the file says of its tensors and of everything else; both checked, and nothing built or read yet."""
    header = read_header(path)
    return header, described(header, path)


def described(header: Header, path: Path | str) -> dict[str, Any]:
    """The description in a header.

    Args:
        header: the header.
        path: the file's name, for messages.

    Raises:
        FileError: if there is none, or it is not one that this version reads.
    """
    if "lamina" not in header.metadata:
        raise FileError(f"{path} is a safetensors file, but was not written by Lamina: it has no architecture.")
    try:
        description = parse_json(header.metadata["lamina"])
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: its description is not readable: {str(error).partition(chr(10))[0][:200]}.") from None
    written = description.get("format") if isinstance(description, dict) else None
    if type(written) is not int or written < 1:
        raise FileError(f"{path}: its description is not readable: it has no number of a format.")
    if written > FORMAT:
        newer = shown(description.get("lamina"))
        raise FileError(
            f"{path} has format {shown(written)}, written by Lamina {newer}; this version, {__version__}, reads formats "
            f"up to {FORMAT}. Install a newer Lamina."
        )
    for part in ("architecture", "compile", "task"):
        if not isinstance(description.get(part), dict | None):
            raise FileError(f"{path}: its description is not readable: {part} is {shown(description[part])}.")
    if not isinstance(description.get("lamina"), str):
        raise FileError(f"{path}: its description is not readable: it has no version of Lamina.")
    try:
        check_numbers(description)
    except ValueError as error:
        raise FileError(f"{path}: {error}") from None
    return description


def check_numbers(description: Mapping[str, Any]) -> None:
    """Refuse infinite numbers and NaN in the settings of layers, losses and optimizers; arguments of calls may be infinite.

    Raises:
        ValueError: naming the place.
    """
    stack: list[Any] = [((None, part), description.get(part), True) for part in ("architecture", "compile")]
    while stack:
        place, value, strict = stack.pop()
        if isinstance(value, float) and not math.isfinite(value) and (strict or math.isnan(value)):
            steps: list[str] = []
            while place is not None:
                place, step = place
                steps.insert(0, str(step)[:30])
            raise ValueError(f"{shown('/'.join(steps), 200)} is {value}, and has to be a finite number.")
        if isinstance(value, dict):
            strict = strict or "config" in value
            stack += [((place, key), item, strict and key not in ("args", "kwargs")) for key, item in value.items()]
        elif isinstance(value, list):
            stack += [((place, number), item, strict) for number, item in enumerate(value)]
