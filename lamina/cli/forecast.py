"""``lamina forecast``: what comes after the end of a series."""

from pathlib import Path
from typing import Annotated

import typer

from lamina.cli.files import existing, show, writable
from lamina.cli.work import load_run


def forecast(
    run: Annotated[Path, typer.Argument(help="A run folder of lamina train on a series, or its model file.")],
    data: Annotated[
        Path | None, typer.Argument(help="A table that goes on to a later time; by default, the one trained on.")
    ] = None,
    horizon: Annotated[
        int | None, typer.Option(min=1, help="How many steps; as many as were trained, at most.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A CSV file to write; else the forecasts are printed.")] = None,
) -> None:
    """Forecast what comes next, with 80 % intervals; drawn in forecast.png beside --out, or here."""
    estimator, work = load_run(run)
    picture = writable((out or Path("forecast.csv")).with_name("forecast.png"))
    header, rows = work.forecast(estimator, data and existing(data), horizon, picture)
    show(header, rows, out and writable(out), "steps")
    typer.echo(f"{picture}: the series and its forecast.")
