"""What optimizers are put together from: rules, which are transformations as ``optax`` has them, and checks of arguments."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core.errors import ConfigError
from lamina.core.state import Array

#: path -> array
Arrays = dict[str, Array]


class Transformation(Protocol):
    """From gradients to the changes that are added to values: a :class:`Rule`, or any transformation of ``optax``."""

    @property
    def init(self) -> Callable[[Any], Any]:
        """``values -> state``."""

    @property
    def update(self) -> Callable[..., tuple[Any, Any]]:
        """``(gradients, state, values) -> (changes, state)``."""


class Rule(NamedTuple):
    """A :class:`Transformation` made of its two functions, without ``optax``, which takes a while to import."""

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]


def per_variable(rule: Callable[..., tuple[Any, ...]], **slots: Any) -> Rule:
    """A transformation that treats each variable alone.

    Args:
        rule: ``(gradient, value, *slots) -> (change, *new slots)``.
        slots: the name of each slot and what it is filled with at first: a number, or a function of the variable's
            value.

    >>> rule = per_variable(lambda g, w, m: (-(m + g), m + g), momentum=0.0)
    >>> changes, state = rule.update({"w": 2.0}, {"momentum": {"w": 1.0}}, {"w": 0.0})
    >>> changes, state
    ({'w': -3.0}, {'momentum': {'w': 3.0}})
    """

    def init(values: Arrays) -> dict[str, Arrays]:
        def first(start: Any, value: Array) -> Any:
            # By NumPy: JAX would compile a program for every shape.
            return start(value) if callable(start) else np.full(value.shape, start, value.dtype)

        return {name: {path: first(start, w) for path, w in values.items()} for name, start in slots.items()}

    def update(gradients: Arrays, state: dict[str, Arrays], values: Arrays | None = None) -> tuple[Arrays, Any]:
        assert values is not None
        new = {path: rule(g, values[path], *(state[name][path] for name in slots)) for path, g in gradients.items()}
        after = {name: {path: out[i] for path, out in new.items()} for i, name in enumerate(slots, start=1)}
        return {path: out[0] for path, out in new.items()}, after

    return Rule(init, update)


class Whole(Rule):
    """A transformation that knows a faster way to the next values than to add its changes to them.

    Args:
        rule: the transformation.
        advance: the way: ``(gradients, state, values) -> (values, state)``.
    """

    advance: Callable[[Arrays, Any, Arrays], tuple[Arrays, Any]]

    def __new__(cls, rule: Transformation, advance: Callable[..., tuple[Arrays, Any]]) -> "Whole":
        whole = super().__new__(cls, rule.init, rule.update)
        whole.advance = advance
        return whole


def advance(rule: Transformation, gradients: Arrays, state: Any, values: Arrays) -> tuple[Arrays, Any]:
    """The next values and the next state."""
    if isinstance(rule, Whole):
        return rule.advance(gradients, state, values)
    changes, state = rule.update(gradients, state, values)
    return {path: (value + changes[path]).astype(value.dtype) for path, value in values.items()}, state


def by_kind(chosen: Callable[[str, Array], bool], first: Transformation, second: Transformation) -> Rule:
    """``first`` for the variables where ``chosen(path, value)`` holds, and ``second`` for the others."""

    def parts(values: Arrays) -> tuple[Arrays, Arrays]:
        yes = {path: w for path, w in values.items() if chosen(path, w)}
        return yes, {path: w for path, w in values.items() if path not in yes}

    def init(values: Arrays) -> Any:
        return tuple(rule.init(part) for rule, part in zip((first, second), parts(values), strict=True))

    def update(gradients: Arrays, state: Any, values: Arrays | None = None) -> tuple[Arrays, Any]:
        assert values is not None
        changes: Arrays = {}
        after = []
        for rule, part, inner in zip((first, second), parts(values), state, strict=True):
            change, inner = rule.update({path: gradients[path] for path in part}, inner, part)
            changes |= change
            after.append(inner)
        return changes, tuple(after)

    return Rule(init, update)


def check(owner: Any, name: str, value: Any, valid: Callable[[Any], Any], expected: str) -> None:
    """Raise a ConfigError unless ``valid(value)``."""
    try:
        good = not isinstance(value, bool | str) and bool(valid(value))
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ConfigError(f"{type(owner).__name__} expects {name} as {expected}; received {value!r}")


def check_whole(owner: Any, name: str, value: Any, least: int) -> None:
    """Raise a ConfigError unless ``value`` is ``None`` or a whole number of at least ``least``."""
    check(owner, name, value, lambda x: x is None or (int(x) == x and x >= least), f"a whole number from {least} up")


def check_not_negative(owner: Any, **values: Any) -> None:
    """Raise a ConfigError for a value below zero."""
    for name, value in values.items():
        check(owner, name, value, lambda x: x >= 0, "a number of at least 0")


def shorten(norm: Array, greatest: float) -> Array:
    """The factor that makes a vector of length ``norm`` no longer than ``greatest``; NaN if ``norm`` is not finite."""
    return greatest / jnp.maximum(norm, greatest) + (norm - norm)


def lift(tree: Any) -> Any:
    """``tree`` with half-precision arrays in float32."""

    def single(x: Array) -> Array:
        return x.astype(jnp.promote_types(x.dtype, jnp.float32)) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(single, tree)


def cast_like(new: Arrays, old: Arrays) -> Arrays:
    """``new`` in the dtypes of ``old``."""
    return {name: jnp.asarray(value, old[name].dtype) for name, value in new.items()}
