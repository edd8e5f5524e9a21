"""A Module is an object whose attributes may hold Variables and other Modules; walking it gives each one its path."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lamina.core.errors import ConfigError, ShapeError
from lamina.core.registry import Configurable
from lamina.core.state import Variable


class Module(Configurable):
    """The base of layers, models, metrics and optimizers: a tree of variables, found by its attributes.

    A variable or module that is reachable twice has one path: that of the first place.
    """

    #: whether the variables inside may be trained; see :attr:`Layer.trainable`
    trainable: bool = True
    #: where this module stands in the model that holds it; a module that stands alone is its own root
    path: str | None = None

    def children(self) -> Iterator[tuple[str, "Variable | Module"]]:
        """The variables and modules that the attributes hold, with the part of the path that leads to each."""
        for name, value in vars(self).items():
            if isinstance(value, _HOLDERS):
                yield from _inside(name.lstrip("_") or name, value)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, "Variable | Module", bool]]:
        """Everything below, each once, parents first: path, variable or module, and whether it may be trained."""
        yield from _walk(self, prefix, bool(self.trainable), {id(self)})

    def modules(self) -> dict[str, "Module"]:
        """This module under ``""`` and every module below it, by path."""
        return {"": self} | {path: found for path, found, _ in self.walk() if isinstance(found, Module)}

    def named_variables(self, trainable: bool | None = None) -> dict[str, Variable]:
        """The variables below, by path; only the trainable or the frozen ones if ``trainable`` is given.

        Raises:
            ConfigError: if two of them have the same path.
        """
        found: dict[str, Variable] = {}
        for path, variable, may_train in self.walk():
            if isinstance(variable, Variable):
                if path in found:
                    raise ConfigError(
                        f"two variables have the path {path!r}. Give the layers that hold them different names."
                    )
                if trainable is None or trainable == (may_train and variable.trainable):
                    found[path] = variable
        return found

    def adopt(self, prefix: str = "") -> None:
        """Write into every module and variable below the path that it has in this one."""
        self.path = prefix
        for path, found, _ in self.walk(prefix):
            found.path = path

    @property
    def variables(self) -> list[Variable]:
        """Every variable below, in the order of the attributes."""
        return list(self.named_variables().values())


#: what may be or hold a variable or a module; most attributes are neither
_HOLDERS = (Variable, Module, list, tuple, dict)


def _inside(name: str, value: Any) -> Iterator[tuple[str, Variable | Module]]:
    if isinstance(value, Variable | Module):
        yield name, value
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _inside(f"{name}/{index}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _inside(f"{name}/{key}", item)


def _walk(
    module: Module, prefix: str, may_train: bool, seen: set[int]
) -> Iterator[tuple[str, Variable | Module, bool]]:
    here = [(f"{prefix}/{name}" if prefix else name, found) for name, found in module.children()]
    own = [pair for pair in here if isinstance(pair[1], Variable)]
    for path, found in sorted(own, key=lambda pair: not pair[1].trainable):  # trainable first, as Keras orders weights
        if id(found) not in seen:
            seen.add(id(found))
            yield path, found, may_train
    for path, found in here:
        if isinstance(found, Module) and id(found) not in seen:
            seen.add(id(found))
            inner = may_train and bool(found.trainable)
            yield path, found, inner
            yield from _walk(found, path, inner, seen)


def set_values(variables: list[Variable], values: list[Any], owner: str) -> None:
    """Assign ``values`` to ``variables`` in order.

    Raises:
        ShapeError: naming ``owner`` and what differs, before anything is changed.
    """
    if len(variables) != len(values):
        raise ShapeError(f"{owner} has {len(variables)} weights; received {len(values)} arrays")
    for variable, value in zip(variables, values, strict=True):
        if np.shape(value) != variable.shape:
            raise ShapeError(f"{owner}: {variable.path!r} has shape {variable.shape}; received {np.shape(value)}")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
