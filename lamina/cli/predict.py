"""``lamina predict``: what a model says about new data."""

from pathlib import Path
from typing import Annotated

import typer

from lamina.cli.files import existing, show, writable
from lamina.cli.work import load_run


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder of lamina train, or a model file.")],
    data: Annotated[Path, typer.Argument(help="A table, a picture, or a folder of pictures.")],
    out: Annotated[Path | None, typer.Option(help="A CSV file to write; else the predictions are printed.")] = None,
) -> None:
    """Predict for every row or picture of DATA with the model in RUN."""
    estimator, work = load_run(run)
    out = out and writable(out)
    show(*work.predict(estimator, existing(data)), out, "predictions")
