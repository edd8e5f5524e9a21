"""The table that ``model.summary()`` prints."""

from typing import Any

import numpy as np

from lamina.layers.base import Layer


def summary(model: Any, expand_nested: bool = False) -> str:
    """The layers of ``model``, their output shapes and numbers of weights, as text in a table.

    Args:
        model: the model.
        expand_nested: whether the layers of models inside are listed too.
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Layer", overflow="fold")
    table.add_column("Output shape")
    table.add_column("Weights", justify="right")
    for name, layer, shape in _rows(model, expand_nested, ""):
        table.add_row(
            escape(f"{name} ({type(layer).__name__})"), shape, f"{layer.count_params():,}" if layer.built else "?"
        )
    total = sum(v.size for v in model.weights)
    trainable = sum(v.size for v in model.trainable_weights)
    size = sum(v.size * np.dtype(v._dtype).itemsize for v in model.weights)
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines() if line.strip()]
    lines.insert(0, f'Model "{model.name}"')
    lines.append(f"{total:,} weights ({_bytes(size)}), of them {trainable:,} trainable")
    return "\n".join(lines)


def _rows(model: Any, expand: bool, indent: str) -> Any:
    shapes: dict[int, str] = {}
    if model._graph is not None:
        for leaf in model._graph.input_list:
            if not indent:
                yield indent + (leaf.name or "input"), _Input(), _shape(leaf)
        for call in model._graph.calls:
            outputs = call.outputs if isinstance(call.outputs, list | tuple) else [call.outputs]
            leaves = outputs.values() if isinstance(outputs, dict) else outputs
            shapes[id(call.operation)] = ", ".join(_shape(leaf) for leaf in leaves)
    for name, layer in model._named_layers().items():
        yield indent + name, layer, shapes.get(id(layer), "?")
        if expand and hasattr(layer, "_named_layers"):
            yield from _rows(layer, expand, indent + "  ")


class _Input(Layer):
    """Stands for an input in the table."""

    built = True


_Input.__name__ = "Input"


def _shape(leaf: Any) -> str:
    return "(" + ", ".join("None" if n is None else str(n) for n in leaf.shape) + ")"


def _bytes(size: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GB"
