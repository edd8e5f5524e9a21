"""``lamina evaluate``: how good a model is on data with known answers."""

from pathlib import Path
from typing import Annotated

import typer

from lamina.cli.files import existing
from lamina.cli.work import load_run


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder of lamina train, or a model file.")],
    data: Annotated[
        Path, typer.Argument(help="Data like those trained on: a table with the target, a folder, a text.")
    ],
) -> None:
    """Say how good the model in RUN is on DATA."""
    estimator, work = load_run(run)
    examples = work.read(existing(data), estimator)
    result = work.examine(estimator, examples)
    typer.echo(f"{data}: {result}, on {len(examples):,} {work.unit}.")
    for line in result.lines:
        typer.echo(line)
