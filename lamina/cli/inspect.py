"""``lamina inspect``: what is in a model file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lamina import families
from lamina.core.errors import FileError
from lamina.saving import load_model, read_description


def inspect(
    run: Annotated[Path, typer.Argument(help="A run folder of lamina train, or a model file.")],
    weights: Annotated[bool, typer.Option("--weights", help="List every tensor of the file.")] = False,
) -> None:
    """Show the architecture, the training settings and the data that the model in RUN is for."""
    path = run / "model.safetensors" if run.is_dir() else run
    if not path.is_file():
        raise FileError(f"{run}: there is no model in it")
    description = read_description(path)
    size = path.stat().st_size
    typer.echo(f"{path}: {size:,} bytes, format {description['format']}, written by Lamina {description['lamina']}")
    estimator = _estimator(path, description)
    source = getattr(estimator, "source_", {})
    if estimator is not None:
        typer.echo(" ".join(repr(estimator).split()))
    if source.get("kind") == "pictures":
        height, width, channels = estimator.shape_
        color = "grayscale" if channels == 1 else "color"
        typer.echo(f"For {color} pictures of {height} x {width}: {_some(source['class_names'])}")
    elif source.get("kind") == "table":
        schema = source["schema"]
        typer.echo(f"For tables: {schema['target']['name']} ({schema['task']}) from")
        for column in schema["columns"]:
            typer.echo(f"  {column['name']}: {column['kind']}" + (f" ({column['reason']})" if column["reason"] else ""))
    if description.get("architecture"):
        typer.echo(_summary(path))
    settings = description.get("compile")
    if settings:
        typer.echo(f"Trained with {_name(settings['optimizer'])} on {_name(settings['loss'])}")
    if weights:
        for name, (shape, dtype) in description["tensors"].items():
            typer.echo(f"  {name}  {dtype}{shape}")


def _estimator(path: Path, description: dict[str, Any]) -> Any:
    """The estimator in the file; ``None`` for a model that stands alone."""
    return families.load(path) if "estimator" in (description.get("task") or {}) else None


def _summary(path: Path) -> str:
    lines: list[str] = []
    load_model(path, compile=False).summary(print_fn=lines.append)
    return "\n".join(lines)


def _name(saved: object) -> str:
    return str(saved["class"]).rpartition(".")[2] if isinstance(saved, dict) else str(saved)


def _some(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
