"""Names for classes and functions, and configurations read from signatures.

A class's configuration is what its ``__init__`` takes: every argument is kept under its own name, so nothing has to be
written twice. What a file may build is what stands in this registry or is passed by the caller; nothing is imported by
name.
"""

import contextlib
import contextvars
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeVar

import jax.numpy as jnp
import numpy as np

from lamina.core.errors import ConfigError, nearest, shown

T = TypeVar("T")

#: kind ("layers", "losses", ...) -> name -> class or function
_registered: dict[str, dict[str, Any]] = {}
#: kind -> alias in lower case -> name
_aliases: dict[str, dict[str, str]] = {}
#: class or function -> "kind.Name"
_keys: dict[Any, str] = {}


def snake_case(name: str) -> str:
    """``name`` in lower case with underscores.

    >>> snake_case("MaxPooling2D"), snake_case("LSTM"), snake_case("RMSNormalization")
    ('max_pooling2d', 'lstm', 'rms_normalization')
    """
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def register(kind: str, *aliases: str, name: str | None = None) -> Callable[[T], T]:
    """Decorator: put a class or function under ``kind`` so that its name, in either spelling, finds it.

    Args:
        kind: ``"layers"``, ``"losses"``, ``"activations"``, ... or a package name of your own.
        aliases: further names for :func:`lookup`.
        name: the name to save under; the object's own by default.
    """

    def put(target: T) -> T:
        own = name or target.__name__  # type: ignore[attr-defined]
        _registered.setdefault(kind, {})[own] = target
        _keys[target] = f"{kind}.{own}"
        for alias in (own, snake_case(own), *aliases):
            _aliases.setdefault(kind, {})[alias.lower()] = own
        return target

    return put


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable[[T], T]:
    """:func:`register` as Keras programs write it: ``@lm.saving.register_keras_serializable()`` above a class."""
    return register(package, name=name)


def names(kind: str) -> list[str]:
    """The names registered under ``kind``."""
    return sorted(_registered.get(kind, {}))


def lookup(kind: str, name: str) -> Any:
    """The class or function of that name or alias.

    Raises:
        ConfigError: if there is none; the message gives the nearest name.
    """
    own = _aliases.get(kind, {}).get(str(name).lower())
    if own is None:
        raise ConfigError(f"{name!r} is not one of Lamina's {kind}. {nearest(name, _aliases.get(kind, {}))}")
    return _registered[kind][own]


def get(kind: str, identifier: Any, **config: Any) -> Any:
    """What ``identifier`` stands for: a name, a saved configuration, a class, an instance, a function or ``None``.

    Args:
        kind: where to look names up.
        identifier: ``None`` and ready objects come back as they are.
        config: arguments for the class, when ``identifier`` names one.
    """
    if isinstance(identifier, str):
        identifier = lookup(kind, identifier)
    elif isinstance(identifier, Mapping):
        return deserialize(identifier)
    return identifier(**config) if inspect.isclass(identifier) else identifier


def getter(kind: str) -> Callable[[Any], Any]:
    """The function ``get`` of one kind, as ``lm.initializers.get``, which layers of one's own call on their arguments."""

    def got(identifier: Any) -> Any:
        return get(kind, identifier)

    got.__name__ = got.__qualname__ = "get"
    got.__doc__ = f"The object of {kind} that a name, class, saved configuration or object stands for; see :func:`get`."
    return got


class Configurable:
    """A class whose configuration is its ``__init__`` signature, each argument kept as the attribute of that name."""

    @classmethod
    def config_names(cls) -> list[str]:
        """The arguments of ``__init__``, those of base classes included where ``**kwargs`` passes them on."""
        found: list[str] = []
        for base in cls.__mro__:
            if "__init__" not in vars(base) or base is object:
                continue
            parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]  # without self
            found += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
        return list(dict.fromkeys(found))

    def get_config(self) -> dict[str, Any]:
        """The arguments that would make this object again, as plain JSON values.

        Raises:
            ConfigError: if an argument was not kept under its own name.
        """
        config = {}
        for name in self.config_names():
            if not hasattr(self, name):
                raise ConfigError(
                    f"{type(self).__name__}.__init__ takes {name!r} but keeps no attribute of that name, so it cannot "
                    f"be saved.\nWrite in __init__:  self.{name} = {name}"
                )
            config[name] = serialize(getattr(self, name))
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The object that :meth:`get_config` described."""
        return cls(**{name: deserialize(value) for name, value in config.items()})


def serialize(value: Any) -> Any:
    """``value`` as plain JSON: registered objects as ``{"class": "kind.Name", "config": ...}``, functions by name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): serialize(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [serialize(item) for item in value]
    if isinstance(value, slice):
        return {"slice": [serialize(value.start), serialize(value.stop), serialize(value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, Configurable):
        return {"class": key_of(type(value)), "config": value.get_config()}
    if isinstance(value, np.ndarray) or hasattr(value, "__jax_array__") or hasattr(value, "addressable_shards"):
        array = np.asarray(value)
        return {"array": array.tolist(), "dtype": array.dtype.name}
    if isinstance(value, np.dtype) or (inspect.isclass(value) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if inspect.isclass(value) or callable(value):
        return {"function": key_of(value)}
    raise ConfigError(f"{value!r} cannot be saved: it is neither plain data nor a registered class or function")


def deserialize(value: Any) -> Any:
    """The opposite of :func:`serialize`; builds registered classes and those in :func:`custom_objects` only.

    Raises:
        ConfigError: for a class or function that is neither.
    """
    if isinstance(value, list | tuple):
        return [deserialize(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "class" in value and "config" in value:
        found = _resolve(value["class"])
        build: Any = getattr(found, "from_config", None)
        if not inspect.isclass(found) or build is None or not isinstance(value["config"], Mapping):
            raise ConfigError(f"{shown(value['class'])} is not a class with a configuration")
        return build(value["config"])
    if set(value) == {"function"}:
        return _resolve(value["function"])
    if set(value) == {"array", "dtype"}:
        return array_from(value["array"], value["dtype"])
    if set(value) == {"slice"}:
        return slice(*value["slice"])
    if set(value) == {"ellipsis"}:
        return Ellipsis
    return {name: deserialize(item) for name, item in value.items()}


def array_from(values: Any, dtype: Any) -> np.ndarray:
    """The array of a saved list of values and the name of its dtype.

    Raises:
        ConfigError: if the dtype is not one of numbers, truth values or texts, or the values are not of it.

    >>> array_from([[1, 2]], "float32")
    array([[1., 2.]], dtype=float32)
    """
    name = str(dtype)
    if name == "object":
        array = np.empty(len(values), object)
        array[:] = values
        return array
    if re.fullmatch(r"str\d*|[<>|=]?U\d+", name):  # as long as the longest text: a stated length could be any
        array = np.asarray(values)
        if array.size and array.dtype.kind != "U":
            raise ConfigError(f"a saved array of texts holds {array.dtype} instead")
        return array
    if not re.fullmatch(r"bool|u?int\d+|b?float\d+\w*|complex\d+|[<>|=]?[biufc]\d{1,2}", name):
        raise ConfigError(f"a saved array has dtype {shown(name)}, which is not one of numbers or texts")
    try:
        return np.asarray(values, jnp.dtype(name))
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"a saved array holds values that are not of its dtype {name!r}") from None


_custom: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar("custom_objects")


@contextlib.contextmanager
def custom_objects(objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Inside, :func:`deserialize` may build these classes and functions too, by name."""
    token = _custom.set({**_custom.get({}), **(objects or {})})
    try:
        yield
    finally:
        _custom.reset(token)


def key_of(target: Any) -> str:
    """The name that a class or function is saved under.

    Raises:
        ConfigError: if it is not registered and has no name of its own.
    """
    if target in _keys:
        return _keys[target]
    own = getattr(target, "__name__", "")
    if not own or own == "<lambda>":
        raise ConfigError(f"{target!r} has no name to save it under. Write a named function and register it.")
    return f"custom.{own}"


def saved_function(kind: str, key: Any) -> Any:
    """The function of that kind, or passed to the loader, that a file names for calling it with arguments of its own.

    Raises:
        ConfigError: for a class, or a function of another kind.
    """
    found = _resolve(key)
    own = key.rpartition(".")[2]
    if inspect.isclass(found) or not (key == f"{kind}.{own}" or own in _custom.get({})):
        raise ConfigError(f"{shown(key)} is not one of Lamina's {kind}, which alone a file may call")
    return found


def _resolve(key: str) -> Any:
    if not isinstance(key, str):
        raise ConfigError("a class or function is saved by its name; received something else")
    kind, _, own = key.rpartition(".")
    if own in _custom.get({}):
        return _custom.get({})[own]
    found = _registered.get(kind, {}).get(own)
    if found is None:
        raise ConfigError(
            f"{shown(key)} is not registered, and was not passed.\n"
            f'Write:  @lm.register("{kind[:60] or "custom"}") above it, or custom_objects={{"{own[:60]}": {own[:60]}}}.'
        )
    return found
