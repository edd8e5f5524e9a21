"""``lamina reduce``: a few numbers in the place of each row or picture."""

from pathlib import Path
from typing import Annotated

import typer

from lamina.cli.files import existing, show, writable
from lamina.cli.work import load_run


def reduce(
    run: Annotated[Path, typer.Argument(help="A run folder of lamina train --family autoencoder, or its model file.")],
    data: Annotated[Path, typer.Argument(help="A table, a picture, or a folder of pictures.")],
    out: Annotated[Path | None, typer.Option(help="A CSV file to write; else the codes are printed.")] = None,
) -> None:
    """Reduce every row or picture of DATA to a few numbers; drawn in plane.png beside --out, or here."""
    estimator, work = load_run(run)
    picture = writable((out or Path("codes.csv")).with_name("plane.png"))
    out = out and writable(out)
    header, rows = work.reduce(estimator, existing(data), picture)
    show(header, rows, out, work.unit)
    typer.echo(f"{picture}: the codes as points of a plane.")
