"""What all ops share: lists and variables become arrays, symbolic values a node of a network, names are registered."""

import ast
import functools
import inspect
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from lamina.core import allowance, registry
from lamina.core.errors import LaminaError, ShapeError, StateError
from lamina.core.state import Variable
from lamina.core.symbolic import any_symbolic, is_symbolic, record

F = TypeVar("F", bound=Callable[..., Any])

#: arguments that are arrays: a list given for one of them becomes an array
ARRAYS = frozenset(
    {"a", "b", "q", "x", "x1", "x2", "y", "array", "bins", "condition", "data", "inputs", "kernel", "volumes"}
    | {"image1", "image2", "images", "indices", "predictions", "sorted_sequence", "target", "targets", "updates"}
    | {"values", "variable", "weights"}
)
#: arguments that are lists of arrays
LISTS = frozenset({"arrays", "choicelist", "condlist", "operands", "xs"})


def op(fn: F) -> F:
    """Decorator: make ``fn`` an op, registered by its name.

    A list given for an array argument becomes an array, a ``Variable`` its value; other lists become tuples. Where an
    argument is symbolic, the call becomes a node of the network.
    """
    made = _dispatched(lambda bound: fn(*bound.args, **bound.kwargs), fn.__name__, inspect.signature(fn))
    return functools.wraps(fn)(made)  # type: ignore[return-value]


def like(fn: Callable[..., Any], declaration: str) -> Callable[..., Any]:
    """The op that is ``fn`` under Keras's signature.

    Args:
        fn: an array function.
        declaration: Keras's signature, as ``"sum(x, axis=None, keepdims=False)"``. What has no default is passed to
            ``fn`` by position, the rest by name.
    """
    name, signature = _parse(declaration)
    parameters = signature.parameters.values()
    required = [p.name for p in parameters if p.default is p.empty]
    optional = {p.name: p.default for p in parameters if p.default is not p.empty}

    def call(bound: inspect.BoundArguments) -> Any:
        given = bound.arguments
        return fn(*[given[n] for n in required], **{n: given.get(n, default) for n, default in optional.items()})

    made = _dispatched(call, name, signature)
    made.__name__ = made.__qualname__ = name
    made.__module__ = sys._getframe(1).f_globals["__name__"]
    summary = (fn.__doc__ or "").strip().partition("\n")[0]
    source = fn.__module__.replace("jax._src.numpy.", "jax.numpy.") if hasattr(fn, "__module__") else "jax.numpy"
    made.__doc__ = f"{summary}\n\n``{declaration}``: ``{source}`` under Keras's argument names."
    made.__signature__ = signature  # type: ignore[attr-defined]
    return made


def needs_values(fn: F) -> F:
    """Decorator for a function that cannot stand in a network: it says so when it is given a symbolic value."""

    @functools.wraps(fn)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if any_symbolic((args, kwargs)):
            raise StateError(
                f"lm.ops.{fn.__name__} needs numbers, and a symbolic value has none yet.\n"
                f"Write:  a Layer whose call() uses lm.ops.{fn.__name__}, or layers.Lambda(lambda x: ...)"
            )
        return fn(*args, **kwargs)

    return registry.register("ops")(checked)  # type: ignore[return-value]


def public(module: str) -> list[str]:
    """The names of the ops that ``module`` defines, for its ``__all__``."""
    return [
        name
        for name, value in vars(sys.modules[module]).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module
    ]


def _dispatched(
    call: Callable[[inspect.BoundArguments], Any], name: str, signature: inspect.Signature
) -> Callable[..., Any]:
    def operation(*args: Any, **kwargs: Any) -> Any:
        allowance.spend(f"lm.ops.{name}", steps=1)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"lm.ops.{name}{signature}: {error}") from None
        if type(parts := bound.arguments.get("indices_or_sections")) is int:
            allowance.spend(f"lm.ops.{name}", steps=parts)
        if any_symbolic((args, kwargs)):
            if bound.arguments.get("dtype") is not None:  # a name can be saved in a file
                bound.arguments["dtype"] = jnp.dtype(bound.arguments["dtype"]).name
            try:
                return record(operation, *bound.args, **bound.kwargs)
            except (TypeError, ValueError) as error:
                raise error if isinstance(error, LaminaError) else _refusal(name, bound, error) from None
        for argument, value in bound.arguments.items():
            bound.arguments[argument] = _ready(argument, value)
        return call(bound)

    return registry.register("ops", name=name)(operation)


def _refusal(name: str, bound: inspect.BoundArguments, error: Exception) -> ShapeError:
    """An error in the user's terms for one of JAX's about symbolic values, whose unknown axes it has tried as numbers."""
    leaves = jax.tree.leaves((bound.args, bound.kwargs), is_leaf=is_symbolic)
    shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves if hasattr(leaf, "shape"))
    reason = re.sub(r"\b(720|1440)\b", "None", str(error).partition("\n")[0])
    return ShapeError(f"lm.ops.{name} cannot take values of shapes {shapes}: {reason}")


def _ready(argument: str, value: Any) -> Any:
    if isinstance(value, Variable):
        return value.value
    if not isinstance(value, list | tuple):
        return value
    if argument in ARRAYS:
        return jnp.asarray(value)
    if argument in LISTS:
        return [_ready("x", item) for item in value]
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _parse(declaration: str) -> tuple[str, inspect.Signature]:
    """The name and the signature in ``"name(x, axis=None)"``."""
    definition = ast.parse(f"def {declaration}: ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    names, defaults = definition.args.args, [ast.literal_eval(d) for d in definition.args.defaults]
    defaults = [inspect.Parameter.empty] * (len(names) - len(defaults)) + defaults
    return definition.name, inspect.Signature(
        [
            inspect.Parameter(argument.arg, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
            for argument, default in zip(names, defaults, strict=True)
        ]
    )
