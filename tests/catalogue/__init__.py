"""The catalogue of layers: every layer of ``lamina.layers`` has at least one case here, and every property in
``tests/layers/test_properties.py`` runs over all of them. One file per file of ``lamina/layers``, each with ``CASES``."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from lamina.layers.base import Layer


@dataclass(frozen=True)
class Case:
    """A layer with inputs to try it on.

    Attributes:
        make: makes a fresh layer.
        shapes: the shape of each positional input, batch included; a list among them stands for a list of arrays.
        integers: inputs are whole numbers from 0 up to and without this, instead of normal draws.
        kwargs: further arguments of the call.
        differentiable: whether finite differences in float64 are a test of its gradient (no: rounding, table look-ups).
        compiled: whether it runs inside jit (no: layers on strings, layers adapted on the host).
        masked: whether the input may have a mask of shape ``(batch, steps)``, to be handed on.
        prepare: called on the fresh layer first (``adapt`` of a preprocessing layer).
        data: the inputs themselves, where draws do not serve (strings, probabilities).
        mixed: whether it can compute in bfloat16.
    """

    make: Callable[[], Layer]
    shapes: tuple[Any, ...]
    integers: int | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    differentiable: bool = True
    compiled: bool = True
    masked: bool = False
    prepare: Callable[[Layer], Any] | None = None
    data: tuple[Any, ...] | None = None
    mixed: bool = True
    label: str = ""

    @property
    def name(self) -> str:
        """The id in pytest's output."""
        layer = self.make()
        return f"{type(layer).__name__}{'-' + self.label if self.label else ''}"

    def layer(self) -> Layer:
        """A fresh, prepared layer."""
        made = self.make()
        if self.prepare:
            self.prepare(made)
        return made

    def inputs(self, dtype: str = "float32", seed: int = 0) -> tuple[Any, ...]:
        """Inputs of the given shapes; the same ones for the same seed."""
        if self.data is not None:
            return self.data
        rng = np.random.default_rng(seed)

        def draw(shape: Any) -> Any:
            if isinstance(shape, list):
                return [draw(s) for s in shape]
            if self.integers is not None:
                return rng.integers(0, self.integers, shape).astype("int32")
            return rng.normal(size=shape).astype(dtype)

        return tuple(draw(shape) for shape in self.shapes)


CASES: list[Case] = [
    case
    for file in sorted(Path(__file__).parent.glob("*.py"))
    if file.stem != "__init__"
    for case in import_module(f"tests.catalogue.{file.stem}").CASES
]
