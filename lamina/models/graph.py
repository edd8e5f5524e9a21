"""A network as a graph: the calls that lead from symbolic inputs to symbolic outputs, in the order to run them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lamina.core import registry
from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.core.masks import get_mask, set_mask
from lamina.core.symbolic import Call, SymbolicTensor, any_symbolic, is_symbolic
from lamina.layers.base import Layer
from lamina.layers.host import Prepared


class Graph:
    """The calls between ``inputs`` and ``outputs``.

    Args:
        inputs: a symbolic value, or a list or dictionary of them.
        outputs: likewise.

    Attributes:
        calls: the calls, each after those it needs.
        names: name -> layer, for every layer called; unique, and the same however often the graph is built.

    Raises:
        ConfigError: if an output does not come from the inputs, or two layers have been given the same name.
    """

    def __init__(self, inputs: Any, outputs: Any) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.input_list: list[SymbolicTensor] = _leaves(inputs)
        self.output_list: list[SymbolicTensor] = _leaves(outputs)
        for what, leaves in ("inputs", self.input_list), ("outputs", self.output_list):
            if not leaves or not all(is_symbolic(leaf) for leaf in leaves):
                raise ConfigError(
                    f"a model's {what} are symbolic values. Received {leaves or inputs!r}.\n"
                    "Write:  x = lm.Input((features,)); y = layer(x); model = lm.Model(x, y)"
                )
        self.calls = _sorted_calls(self.input_list, self.output_list)
        self.names = _unique_names([call.operation for call in self.calls])
        self.host_calls = _host_calls(self.calls)
        hosted = {id(call) for call in self.host_calls}
        self._compiled_calls = [call for call in self.calls if id(call) not in hosted]
        self._checking_calls = [call for call in self.calls if hasattr(call.operation, "check_values")]
        self.border = self._border()

    def _border(self) -> list[SymbolicTensor]:
        """What the compiled part starts from: inputs, and results of host calls, that it uses."""
        if not self.host_calls:
            return self.input_list
        made_on_host = {id(leaf) for call in self.host_calls for leaf in _leaves(call.outputs)}
        starts = made_on_host | {id(leaf) for leaf in self.input_list}
        used = [leaf for call in self._compiled_calls for leaf in call.inputs()]
        found: dict[int, SymbolicTensor] = {}
        for leaf in used + self.output_list:
            if id(leaf) in starts:
                found.setdefault(id(leaf), leaf)
        return list(found.values())

    def prepare(self, inputs: Any) -> Any:
        """Run the part on strings, on the host; gives what the compiled part takes."""
        if not self.host_calls or isinstance(inputs, Prepared):
            return inputs
        values = self._enter(inputs)
        for call in self.host_calls:
            _run(call, values)
        return Prepared(np.asarray(values[id(leaf)]) for leaf in self.border)

    def __call__(self, inputs: Any) -> Any:
        """The outputs, in the structure they were given in, for arrays in that of the inputs."""
        if isinstance(inputs, Prepared):
            values = {id(leaf): value for leaf, value in zip(self.border, inputs, strict=True)}
            calls = self._compiled_calls
        else:
            values, calls = self._enter(inputs), self.calls
        for call in calls:
            _run(call, values)
        return _replace(self.outputs, lambda leaf: values[id(leaf)])

    def _enter(self, inputs: Any) -> dict[int, Any]:
        arrays = self._ordered(inputs)
        values = {}
        for symbol, array in zip(self.input_list, arrays, strict=True):
            if len(symbol.shape) == 2 and symbol.shape[1] == 1 and np.ndim(array) == 1:
                array = array[:, None]  # one number or text for each example, as data frames hold them
            self._check(symbol, array)
            values[id(symbol)] = _cast(array, symbol)
        return values

    def check_values(self, inputs: Any) -> None:
        """Let the layers that the inputs go to look at whole arrays, where they have something to say about values."""
        if self.host_calls or not self._checking_calls:
            return
        values = {id(symbol): array for symbol, array in zip(self.input_list, self._ordered(inputs), strict=True)}
        for call in self._checking_calls:
            if call.args and id(call.args[0]) in values:
                checker: Any = call.operation
                checker.check_values(np.asarray(values[id(call.args[0])]))

    def _ordered(self, inputs: Any) -> list[Any]:
        """The arrays in the order of :attr:`input_list`, matched by name where a dictionary is given."""
        if isinstance(inputs, Mapping):
            by_key = isinstance(self.inputs, Mapping)
            names = [str(name) for name in (self.inputs if by_key else [leaf.name for leaf in self.input_list])]
            missing = [name for name in names if name not in inputs]
            if missing:
                raise ShapeError(
                    f"the model's inputs are {', '.join(map(repr, names))}; received {', '.join(map(repr, inputs))}."
                )
            order = sorted(names) if by_key else names
            return [inputs[name] for name in order]
        arrays = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        if len(arrays) != len(self.input_list):
            raise ShapeError(f"the model has {len(self.input_list)} inputs; received {len(arrays)} arrays.")
        return arrays

    def _check(self, symbol: SymbolicTensor, array: Any) -> None:
        shape = tuple(np.shape(array))
        fits = len(shape) == len(symbol.shape) and all(
            want in (None, have) for want, have in zip(symbol.shape, shape, strict=True)
        )
        if not fits:
            name = f" {symbol.name!r}" if symbol.name else ""
            raise ShapeError(
                f"the model's input{name} has shape {_words(symbol.shape)}; received {_words(shape)}.\n"
                f"{_hint(symbol.shape, shape)}"
            )

    def get_config(self) -> dict[str, Any]:
        """The graph as plain JSON values."""
        place: dict[int, list[Any]] = {id(leaf): ["input", i] for i, leaf in enumerate(self.input_list)}
        names = {id(layer): name for name, layer in self.names.items()}
        calls = []
        for number, call in enumerate(self.calls):
            operation: Any = call.operation
            calls.append(
                {
                    "operation": {"layer": names[id(operation)]}
                    if isinstance(operation, Layer)
                    else {"op": registry.key_of(operation)},
                    "args": _encode(call.args, place),
                    "kwargs": _encode(call.kwargs, place),
                }
            )
            for i, leaf in enumerate(_leaves(call.outputs)):
                place[id(leaf)] = [number, i]
        return {
            "inputs": [
                {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "name": leaf.name} for leaf in self.input_list
            ],
            "input_structure": _encode(self.inputs, place),
            "layers": {name: registry.serialize(layer) for name, layer in self.names.items()},
            "calls": calls,
            "outputs": _encode(self.outputs, place),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Graph":
        """The graph that :meth:`get_config` described, with new layers.

        Raises:
            ConfigError: if it is not such a description.
        """
        layers = {name: registry.deserialize(layer) for name, layer in config["layers"].items()}
        for name, layer in layers.items():
            layer.name = name
        values: dict[Any, SymbolicTensor] = {}
        for i, spec in enumerate(config["inputs"]):
            dtype = spec["dtype"] if spec["dtype"] == "string" else jnp.dtype(spec["dtype"])
            values["input", i] = SymbolicTensor(tuple(spec["shape"]), dtype, name=spec["name"])
        for number, call in enumerate(config["calls"]):
            which = call["operation"]
            operation = layers[which["layer"]] if "layer" in which else registry.saved_function("ops", which["op"])
            args, kwargs = _decode(call["args"], values), _decode(call["kwargs"], values)
            if not any_symbolic((args, kwargs)):  # it would compute now, with whatever numbers the file names
                raise ConfigError(f"call {number} of the network, of {str(which)[:80]}, takes nothing from the inputs")
            results = operation(*args, **kwargs)
            for i, leaf in enumerate(_leaves(results)):
                values[number, i] = leaf
        return cls(_decode(config["input_structure"], values), _decode(config["outputs"], values))


def _cast(array: Any, symbol: SymbolicTensor) -> Any:
    """``array`` in the input's dtype; floats keep their width, since the policy of the first layer decides.

    Raises:
        DataError: for complex numbers where the input takes real ones.
    """
    if symbol.dtype == "string" or np.dtype(getattr(array, "dtype", object)).kind in "OSUT":
        return array
    floats = jnp.issubdtype(array.dtype, jnp.floating) and jnp.issubdtype(symbol.dtype, jnp.floating)
    if floats or array.dtype == symbol.dtype:
        return array
    if array.dtype.kind == "c" and not jnp.issubdtype(symbol.dtype, jnp.complexfloating):
        raise DataError(
            f"the input {symbol.name or 'x'!r} takes {np.dtype(symbol.dtype).name}, and received complex numbers.\n"
            "Write:  x = np.stack([x.real, x.imag], axis=-1)   for both parts, or   x = x.real"
        )
    return set_mask(jnp.asarray(array).astype(symbol.dtype), get_mask(array))


def _leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=is_symbolic)


def _replace(tree: Any, fn: Callable[[SymbolicTensor], Any]) -> Any:
    return jax.tree.map(lambda leaf: fn(leaf) if is_symbolic(leaf) else leaf, tree, is_leaf=is_symbolic)


def _run(call: Call, values: dict[int, Any]) -> None:
    args, kwargs = _replace((call.args, call.kwargs), lambda leaf: values[id(leaf)])
    results = call.operation(*args, **kwargs)
    for symbol, value in zip(_leaves(call.outputs), jax.tree.leaves(results), strict=True):
        values[id(symbol)] = value


def _sorted_calls(inputs: list[SymbolicTensor], outputs: list[SymbolicTensor]) -> list[Call]:
    known = {id(leaf) for leaf in inputs}
    order: list[Call] = []
    done: set[int] = set()
    stack: list[tuple[SymbolicTensor, bool]] = [(leaf, False) for leaf in reversed(outputs)]
    while stack:
        leaf, ready = stack.pop()
        call = leaf.call
        if id(leaf) in known or (call is not None and id(call) in done):
            continue
        if call is None:
            raise ConfigError(
                f"the output depends on {leaf!r}, which is not among the model's inputs.\n"
                "Add it to inputs, as lm.Model([a, b], outputs)."
            )
        if ready:
            done.add(id(call))
            order.append(call)
        else:
            stack.append((leaf, True))
            stack += [(source, False) for source in reversed(call.inputs())]
    return order


def _host_calls(calls: list[Call]) -> list[Call]:
    """The calls of layers on strings, and those that lead to them, of sorted calls."""
    found: list[Call] = []
    needed: set[int] = set()
    for call in reversed(calls):
        if getattr(call.operation, "on_host", False) or any(id(leaf) in needed for leaf in _leaves(call.outputs)):
            found.append(call)
            needed |= {id(leaf) for leaf in call.inputs()}
    return found[::-1]


def _unique_names(operations: Sequence[Any]) -> dict[str, Layer]:
    """A name for each layer: its own if it was given one, else its class's with a number where needed."""
    layers = list({id(op): op for op in operations if isinstance(op, Layer)}.values())
    given: dict[str, Any] = {}
    for layer in layers:
        name = layer._given_name
        if name is not None:
            if name in given:
                raise ConfigError(
                    f"two layers of the model are named {name!r}; a layer's name is its place in the file."
                )
            given[name] = layer
    names: dict[str, Layer] = {}
    taken, numbers = set(given), Counter[str]()
    for layer in layers:
        name = layer._given_name
        if name is None:
            name = base = registry.snake_case(type(layer).__name__)
            while name in taken:
                numbers[base] += 1
                name = f"{base}_{numbers[base]}"
            taken.add(name)
            layer.name = name
        names[name] = layer
    return names


def _encode(tree: Any, place: Mapping[int, list[Any]]) -> Any:
    if is_symbolic(tree):
        return {"value": place[id(tree)]}
    if isinstance(tree, Mapping):
        return {"dict": {name: _encode(item, place) for name, item in tree.items()}}
    if isinstance(tree, tuple):
        return {"tuple": [_encode(item, place) for item in tree]}
    if isinstance(tree, list):
        return [_encode(item, place) for item in tree]
    return registry.serialize(tree)


def _decode(tree: Any, values: Mapping[Any, SymbolicTensor]) -> Any:
    if isinstance(tree, list):
        return [_decode(item, values) for item in tree]
    if isinstance(tree, Mapping):
        if set(tree) == {"value"}:
            return values[tuple(tree["value"])]
        if set(tree) == {"dict"}:
            return {name: _decode(item, values) for name, item in tree["dict"].items()}
        if set(tree) == {"tuple"}:
            return tuple(_decode(item, values) for item in tree["tuple"])
    return registry.deserialize(tree)


def _words(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"


def _hint(want: tuple[int | None, ...], have: tuple[int, ...]) -> str:
    if len(have) == len(want) - 1 and want[-1] == 1 and len(want) > 3:
        return "The channel axis is missing. Write:  x = x[..., None]"
    if len(have) == len(want) - 1 and want[-1] == 1:
        return "The last axis is missing. Write:  x = x[..., None]"
    if len(have) == len(want) - 1:
        return "The batch axis may be missing: a single example is x[None]."
    if len(have) == len(want) + 1 and have[-1] == 1:
        return "Write:  x = x[..., 0]"
    return f"Write:  lm.Input({have[1:]})  or reshape the data to {_words(want)}."
