"""``lamina evaluate``: how good a model is on data with known answers."""

from pathlib import Path
from typing import Annotated

import typer

from lamina.cli.work import examined, load_run


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder of lamina train, or a model file.")],
    data: Annotated[Path, typer.Argument(help="A table with the target, or a folder with a folder per class.")],
) -> None:
    """Say how good the model in RUN is on DATA."""
    estimator, work = load_run(run)
    examples = work.read(data, estimator)
    typer.echo(f"{data}: {examined(work, estimator, examples)[0]}, on {len(examples):,} {work.unit}.")
    if not work.class_names:
        return
    predicted = estimator.predict(examples.x)
    width = max(len(name) for name in work.class_names)
    for name in work.class_names:
        members = examples.y == name
        if members.any():
            right = int((predicted[members] == name).sum())
            typer.echo(f"  {name:<{width}}  {right:>6,} of {int(members.sum()):>6,} right")
