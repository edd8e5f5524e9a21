"""``lamina inspect``: what is in a model file."""

from pathlib import Path
from typing import Annotated

import typer

from lamina import families
from lamina.cli.files import plain
from lamina.cli.work import work_of
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
    _say(f"{path}: {size:,} bytes, format {description['format']}, written by Lamina {description['lamina']}")
    if "estimator" in (description.get("task") or {}):
        estimator = families.load(path)
        _say(" ".join(repr(estimator).split()))
        work = work_of(estimator)
        for line in work.about(estimator) if work else []:
            _say(line)
    if description.get("architecture"):
        _say(_summary(path))
    settings = description.get("compile")
    if settings:
        _say(f"Trained with {_name(settings.get('optimizer'))} on {_name(settings.get('loss'))}")
    if weights:
        for name, (shape, dtype) in description["tensors"].items():
            _say(f"  {name}  {dtype}{shape}")


def _say(text: str) -> None:
    typer.echo(plain(text))


def _summary(path: Path) -> str:
    lines: list[str] = []
    load_model(path, compile=False).summary(print_fn=lines.append)
    return "\n".join(lines)


def _name(saved: object) -> str:
    return str(saved.get("class", saved)).rpartition(".")[2] if isinstance(saved, dict) else str(saved)
