"""``lamina predict``: what a model says about new data."""

import csv
import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lamina.cli.work import Table, Work, load_run
from lamina.core.errors import FileError

#: how many predictions are shown on a terminal
SHOWN = 20


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder of lamina train, or a model file.")],
    data: Annotated[Path, typer.Argument(help="A table, a picture, or a folder of pictures.")],
    out: Annotated[Path | None, typer.Option(help="A CSV file to write; else the predictions are printed.")] = None,
) -> None:
    """Predict for every row or picture of DATA with the model in RUN."""
    estimator, work = load_run(run)
    names, features = work.read_features(data, estimator)
    header, rows = _rows(work, names, features, estimator)
    if out is not None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
        try:
            out.write_text(text.getvalue(), encoding="utf-8")
        except OSError as error:
            raise FileError(f"{out} cannot be written: {error.strerror}") from None
        typer.echo(f"{out}: {len(rows):,} predictions.")
        return
    shown = rows[:SHOWN] if sys.stdout.isatty() else rows
    widths = [max(len(line[i]) for line in [header, *shown]) for i in range(len(header))]
    for line in [header, *shown]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if len(rows) > len(shown):
        typer.echo(f"... and {len(rows) - len(shown):,} more; --out FILE.csv writes all of them.")


def _rows(work: Work, names: list[str], features: Any, estimator: Any) -> tuple[list[str], list[list[str]]]:
    first = "picture" if work.kind == "pictures" else "row"
    if isinstance(work, Table) and work.task == "regression":
        numbers = estimator.predict(features)
        return [first, work.target], [[name, f"{value:.6g}"] for name, value in zip(names, numbers, strict=True)]
    p = estimator.predict_proba(features)
    answers = estimator.classes_[p.argmax(axis=1)]
    rows = [[name, answer, f"{sure:.4f}"] for name, answer, sure in zip(names, answers, p.max(axis=1), strict=True)]
    return [first, "prediction", "probability"], rows
