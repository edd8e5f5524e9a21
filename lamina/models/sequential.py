"""Sequential: layers one after the other."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from lamina.core import registry
from lamina.core.errors import ConfigError
from lamina.core.symbolic import SymbolicTensor, is_symbolic
from lamina.layers.base import Layer, layer
from lamina.layers.core import Input
from lamina.models.graph import Graph, _unique_names
from lamina.models.model import Model


@layer
class Sequential(Model):
    """A network of layers, each of which takes what the one before it gives.

    Args:
        layers: the layers; the first may be an ``Input``. Without one, the first data decide.
        name: the model's name.

    >>> import lamina as lm
    >>> model = Sequential([lm.Input((4,)), lm.layers.Dense(8, activation="relu"), lm.layers.Dense(3)])
    >>> model.output_shape, model.count_params()
    ((None, 3), 67)
    """

    def __init__(self, layers: Sequence[Any] | None = None, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self._start: SymbolicTensor | None = None
        self._sequence: list[Layer] = []
        for item in layers or []:
            self._append(item)
        self._rebuild()

    def add(self, layer: Any) -> None:
        """Put a layer at the end."""
        self._append(layer)
        self._rebuild()

    def pop(self) -> Layer:
        """Take the last layer away; returns it."""
        if not self._sequence:
            raise ConfigError("the model has no layer to take away")
        last = self._sequence.pop()
        self._graph, self.built = None, False
        self._rebuild()
        return last

    def _append(self, item: Any) -> None:
        if is_symbolic(item):
            if self._sequence or self._start is not None:
                raise ConfigError("Input stands first in a Sequential model, once.")
            self._start = item
        elif isinstance(item, Layer):
            if any(item is other for other in self._sequence):
                raise ConfigError(
                    f"layer {item.name!r} stands twice in the Sequential model. For shared layers write:  "
                    "lm.Model(inputs, outputs)"
                )
            self._sequence.append(item)
        else:
            raise ConfigError(
                f"a Sequential model is made of layers; received {item!r}."
                + (f"\nWrite:  {item.__name__}(...)" if isinstance(item, type) else "")
            )

    def _rebuild(self) -> None:
        if self._start is None or not self._sequence:
            return
        x: Any = self._start
        for item in self._sequence:
            x = item(x)
        self._set_graph(Graph(self._start, x))

    def build(self, input_shape: Any = None) -> None:
        """Make every weight for an input of this shape (with the batch axis first)."""
        if self._graph is None and input_shape is not None:
            self._start = Input(batch_shape=(None, *input_shape[1:]), dtype=self.input_dtype)
            self._rebuild()

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._graph is None and args:
            self._require_start(args[0])
        super()._prepare(args, kwargs)

    def _prepare_inputs(self, x: Any) -> Any:
        if self._graph is None:
            self._require_start(x)
        return super()._prepare_inputs(x)

    def _require_start(self, x: Any) -> None:
        if not self._sequence:
            raise ConfigError("the Sequential model has no layers. Write:  model.add(...)")
        if not hasattr(x, "shape"):
            raise ConfigError(
                "a Sequential model takes one array; for several inputs write:  lm.Model([a, b], outputs)"
            )
        texts = not is_symbolic(x) and np.dtype(x.dtype).kind in "OSUT"
        dtype = "string" if texts else x.dtype
        if not texts and np.dtype(dtype).kind == "f":
            dtype = None
        self._start = Input(batch_shape=(None, *x.shape[1:]), dtype=dtype)
        self._rebuild()

    def children(self) -> Any:
        if self._graph is None:
            yield from _unique_names(self._sequence).items()
        yield from super().children()

    def get_config(self) -> dict[str, Any]:
        start = self._start
        return {
            "name": self._given_name,
            "trainable": self.trainable,
            "input": None
            if start is None
            else {"batch_shape": list(start.shape), "dtype": str(start.dtype), "name": start.name},
            "layers": [registry.serialize(item) for item in self._sequence],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        start = [] if config["input"] is None else [Input(**config["input"])]
        model = cls([*start, *(registry.deserialize(item) for item in config["layers"])], name=config["name"])
        if not config.get("trainable", True):
            model._trainable = False
        return model
