"""A Module is an object whose attributes may hold Variables and other Modules; walking it gives each one its path."""

import operator
from collections.abc import Iterable, Iterator, Sequence
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

    def walk(self, prefix: str = "") -> "Sequence[Found]":
        """Everything below, each once, parents first: path, variable or module, and whether it may be trained."""
        if prefix:
            return list(_walk(self, prefix, bool(self.trainable), {id(self)}))
        return self.last_walk().found

    def last_walk(self) -> "Walk":
        """What :meth:`walk` found last, if that still holds; else it walks."""
        known: Walk | None = vars(self).get("_walked")
        if known is None or not known.holds():
            known = vars(self)["_walked"] = Walk(self)
        return known

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(value, _PLAIN) or not isinstance(vars(self).get(name), _PLAIN) or name.endswith("trainable"):
            Walk.changes += 1
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        Walk.changes += 1
        object.__delattr__(self, name)

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


#: path, variable or module, and whether it may be trained
Found = tuple[str, Variable | Module, bool]
#: what may be or hold a variable or a module; most attributes are neither
_HOLDERS = (Variable, Module, list, tuple, dict)
#: what surely does not
_PLAIN = (type(None), bool, int, float, str)


class Walk:
    """What a walk found, and whether another one would find the same.

    Steps ask at every call, and a walk through a deep model takes longer than a small one computes.
    """

    #: how often an attribute of any module that could matter was set
    changes = 0

    def __init__(self, root: Module) -> None:
        self.found = list(_walk(root, "", bool(root.trainable), {id(root)}))
        self.at = Walk.changes
        modules = [root, *(found for _, found, _ in self.found if isinstance(found, Module))]
        # attributes announce themselves when they are set; lists and dictionaries change unseen
        values = [value for module in modules for name, value in vars(module).items() if name != "_walked"]
        self.containers = [(container, list(_items(container))) for container in _containers(values)]

    def holds(self) -> bool:
        """Whether nothing has changed since."""
        if self.at != Walk.changes:
            return False
        for container, items in self.containers:
            if len(container) != len(items) or not all(map(operator.is_, _items(container), items)):
                return False
        return True


def _items(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _containers(values: Iterable[Any]) -> Iterator[Any]:
    """The lists and dictionaries among these values and inside them."""
    for value in values:
        if isinstance(value, list | tuple | dict):
            yield value
            yield from _containers(_items(value))


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
