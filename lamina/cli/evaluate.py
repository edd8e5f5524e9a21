"""``lamina evaluate``: how good a model is on data with known answers."""

from pathlib import Path
from typing import Annotated

import typer

from lamina.cli.work import classes_of, described, load_run, scores


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder of lamina train, or a model file.")],
    data: Annotated[Path, typer.Argument(help="A table with the target, or a folder with a folder per class.")],
) -> None:
    """Say how good the model in RUN is on DATA."""
    model, work = load_run(run)
    examples = work.read(data)
    outputs = model.predict(examples.x)
    typer.echo(f"{data}: {described(scores(work, examples, outputs))}, on {len(examples):,} {work.unit}.")
    if work.task == "classification":
        predicted = classes_of(outputs)
        width = max(len(name) for name in work.class_names)
        for label, name in enumerate(work.class_names):
            members = examples.y == label
            if members.any():
                right = int((predicted[members] == label).sum())
                typer.echo(f"  {name:<{width}}  {right:>6,} of {int(members.sum()):>6,} right")
