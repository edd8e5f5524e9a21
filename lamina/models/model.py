"""The Model: a layer that can be trained, asked, summed up and saved."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax

from lamina.core.errors import ConfigError, FileError, StateError, nearest
from lamina.core.module import Module
from lamina.core.shapes import TensorSpec, infer, largest, map_shapes
from lamina.core.state import Variable, current_scope
from lamina.core.symbolic import SymbolicTensor, specs_of
from lamina.layers.base import Layer, layer
from lamina.metrics import Metric
from lamina.models.graph import Graph, Prepared
from lamina.models.summary import summary
from lamina.models.trainer import Trainer
from lamina.optimizers import Optimizer
from lamina.saving import load_weights, save_model, save_weights
from lamina.training.objectives import Objective
from lamina.training.predict import Compiled
from lamina.training.step import Progress


@layer
class Model(Trainer):
    """A network: from symbolic inputs to outputs, or, in a subclass, whatever ``call`` computes.

    Args:
        inputs: the symbolic inputs, one or a list or dictionary of them; none in a subclass with a ``call``.
        outputs: the symbolic outputs.
        name: the model's name.

    >>> import lamina as lm
    >>> x = lm.Input((4,))
    >>> model = lm.Model(x, lm.layers.Dense(2)(x))
    >>> model.count_params()
    10
    """

    #: shapes and dtypes of the inputs that a model without symbolic inputs was first called with
    built_for: Any = None
    #: what the model is for and how its data are read, as plain JSON values; kept in the model file
    task: dict[str, Any] | None = None

    def __init__(self, inputs: Any = None, outputs: Any = None, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self._graph: Graph | None = None
        self._compiled = Compiled()
        if inputs is not None or outputs is not None:
            self._set_graph(Graph(inputs, outputs))

    def _set_graph(self, graph: Graph) -> None:
        self._graph, self.built = graph, True
        if current_scope() is None and self.path is None:
            self.adopt(self._given_name or "")
            self.path = None

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._graph is None and not self.built and args:
            self.built_for = _describe(args[0])
            if type(self).build is Model.build:  # call itself will build the layers inside
                self.built = True
                self.adopt(self.path or self._given_name or "")
        super()._prepare(args, kwargs)

    def build_for(self, described: Any) -> None:
        """Build for inputs that :attr:`built_for` described."""
        self.built_for = described
        specs = _specs(described)
        if type(self).build is not Model.build:
            self.build_from({"inputs": jax.tree.map(lambda s: s.shape, specs, is_leaf=_is_spec)})
        self.built = True
        self.adopt(self.path or self._given_name or "")
        infer(lambda x: self(x), specs)

    # -- the network -----------------------------------------------------------------------------------------------

    def children(self) -> Any:
        if self._graph is not None:
            yield from self._graph.names.items()
        yield from super().children()

    def call(self, inputs: Any) -> Any:
        """The outputs. A subclass without symbolic inputs overrides this."""
        if self._graph is None:
            raise NotImplementedError(
                f"{type(self).__name__} has neither inputs and outputs nor a call of its own.\n"
                "Write:  def call(self, x): ...   or   lm.Model(inputs, outputs)"
            )
        return self._graph(inputs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return None

    @property
    def layers(self) -> list[Layer]:
        """The layers directly in this model."""
        return list(self._named_layers().values())

    def _named_layers(self) -> dict[str, Layer]:
        found: dict[int, tuple[str, Layer]] = {}
        for name, child in self.children():
            if isinstance(child, Layer):
                found.setdefault(id(child), (name, child))
        return dict(found.values())

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name or position.

        Raises:
            ConfigError: if there is none; the message gives the nearest name.
        """
        named = self._named_layers()
        if index is not None:
            if not -len(named) <= index < len(named):
                raise ConfigError(f"the model has {len(named)} layers; there is no layer {index}, counted from 0.")
            return list(named.values())[index]
        if name is None:
            raise ConfigError("get_layer expects the name or the index of a layer.\nWrite:  model.get_layer(index=0)")
        for path, found in named.items():
            if name in (path, found.name):
                return found
        raise ConfigError(f"the model has no layer {name!r}. {nearest(str(name), named)}")

    def set_weights(self, weights: Sequence[Any]) -> None:
        self._require_weights()
        super().set_weights(weights)

    def _require_weights(self) -> None:
        """Refuse to go on without weights.

        Raises:
            StateError: if the shape of the input, and so the weights' shapes, are not known yet.
        """
        if not self.built and not self.weights:
            raise StateError(
                f"{self.name!r} is not built: the shape of its input is not known, so it has no weights yet.\n"
                "Begin it with lm.Input(shape), call model.build((None, ...)), or call it on data first."
            )

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """The symbolic inputs."""
        return self._require_graph("inputs").input_list

    @property
    def outputs(self) -> list[SymbolicTensor]:
        """The symbolic outputs."""
        return self._require_graph("outputs").output_list

    @property
    def input(self) -> Any:
        """The symbolic inputs, in the structure they were given in."""
        return self._require_graph("input").inputs

    @property
    def output(self) -> Any:
        """The symbolic outputs, in the structure they were given in."""
        return self._require_graph("output").outputs

    @property
    def input_shape(self) -> Any:
        """The shape of the input, ``None`` for unknown axes."""
        return jax.tree.map(lambda t: t.shape, self.input, is_leaf=lambda t: isinstance(t, SymbolicTensor))

    @property
    def output_shape(self) -> Any:
        """The shape of the output, ``None`` for unknown axes."""
        return jax.tree.map(lambda t: t.shape, self.output, is_leaf=lambda t: isinstance(t, SymbolicTensor))

    def _require_graph(self, what: str) -> Graph:
        if self._graph is None:
            raise StateError(
                f"{self.name!r} has no {what} yet: its input's shape is not known.\n"
                "Begin it with lm.Input(shape), or call model.build((None, ...)) first."
            )
        return self._graph

    def build(self, input_shape: Any = None) -> None:
        """Make every weight by tracing ``call`` for an input of this shape.

        Args:
            input_shape: a shape with the batch axis first (``None`` for any length), or a list or dictionary of them.
        """
        if self._graph is not None or input_shape is None:
            return
        dtype = self.input_dtype or "float32"
        self.build_for(map_shapes(lambda shape: {"shape": [None, *shape[1:]], "dtype": dtype}, input_shape))

    @property
    def weights(self) -> list[Variable]:
        """All weights of the layers, in order; not the optimizer's or the metrics' variables."""
        apart = {id(v) for module in self._training_modules() for v in module.named_variables().values()}
        return [variable for variable in self.variables if id(variable) not in apart]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that training changes."""
        return list(self.named_variables(trainable=True).values()) if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that gradients do not change."""
        trainable = {id(v) for v in self.trainable_weights}
        return [variable for variable in self.weights if id(variable) not in trainable]

    trainable_variables = trainable_weights

    def _training_modules(self) -> list[Module]:
        return [m for m in self.modules().values() if isinstance(m, Optimizer | Objective | Metric | Progress)]

    def count_params(self) -> int:
        self._require_weights()
        return super().count_params()

    def largest_array(self) -> tuple[int, str]:
        """The most numbers that an array has on the way from one example to the outputs, and what makes it.

        Nothing is run. Axes of unknown length are taken to have length 128, or 720 where that is too short.

        Raises:
            FileError: if the network cannot be run for one example.
        """
        graph, found = self._graph, (0, "")
        if graph is None and self.built_for is None:
            return found
        specs: Any = _specs(self.built_for) if graph is None else specs_of(graph.inputs)
        if graph is not None and graph.host_calls:
            specs = Prepared(leaf.spec for leaf in graph.border)
            for leaf in graph.border:
                size = math.prod(n for n in leaf.shape if n is not None)
                found = max(found, (size, f"layer {leaf.call.operation!r}" if leaf.call else "the input"))
        for length in (128, 720):
            with contextlib.suppress(Exception):
                size, primitive = largest(lambda x: self(x, training=False), specs, length)
                return max(found, (size, f"the operation {primitive!r}"))
        raise FileError("the network cannot be run for one example")

    # -- looking and keeping ---------------------------------------------------------------------------------------

    def summary(self, print_fn: Callable[[str], Any] | None = None, expand_nested: bool = False) -> None:
        """Print the layers, their output shapes and their numbers of weights."""
        text = summary(self, expand_nested)
        (print_fn or print)(text)

    def save(self, filepath: str | Path, overwrite: bool = True) -> None:
        """Write the model file: architecture, weights, compile settings and the optimizer's state.

        Args:
            filepath: where to, as ``"model.safetensors"``.
            overwrite: whether to replace a file that is there.
        """
        self._require_weights()
        save_model(self, filepath, overwrite)

    def save_weights(self, filepath: str | Path, overwrite: bool = True) -> None:
        """Write the weights only."""
        self._require_weights()
        save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: str | Path) -> None:
        """Take the weights from a file that :meth:`save` or :meth:`save_weights` wrote.

        Raises:
            FileError: if they do not fit this model.
            StateError: if the model is not built.
        """
        self._require_weights()
        load_weights(self, filepath)

    @classmethod
    def config_names(cls) -> list[str]:
        return [name for name in super().config_names() if name not in ("inputs", "outputs")]

    def get_config(self) -> dict[str, Any]:
        if self._graph is None or type(self) is not Model:
            return super().get_config()
        return {"name": self._given_name, "trainable": self.trainable, "graph": self._graph.get_config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        if "graph" not in config:
            return super().from_config(config)
        graph = Graph.from_config(config["graph"])
        model = cls(graph.inputs, graph.outputs, name=config.get("name"))
        if not config.get("trainable", True):
            model._trainable = False
        return model


def _describe(x: Any) -> Any:
    """The shapes and dtypes of the arrays in ``x``, as plain JSON values, without the length of the batch."""
    if isinstance(x, Mapping):
        return {"dict": {name: _describe(item) for name, item in x.items()}}
    if isinstance(x, list | tuple):
        return [_describe(item) for item in x]
    if not hasattr(x, "shape"):
        return None
    return {"shape": [None, *x.shape[1:]], "dtype": str(jax.dtypes.canonicalize_dtype(x.dtype))}


def _specs(described: Any) -> Any:
    if isinstance(described, list):
        return [_specs(item) for item in described]
    if described is None:
        return None
    if "dict" in described:
        return {name: _specs(item) for name, item in described["dict"].items()}
    return TensorSpec(tuple(described["shape"]), jax.numpy.dtype(described["dtype"]))


def _is_spec(x: Any) -> bool:
    return isinstance(x, TensorSpec)
