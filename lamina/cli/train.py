"""``lamina train``: from a table, a text or a folder of pictures to a model and what it is worth."""

import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from lamina import report
from lamina.callbacks import CSVLogger
from lamina.cli.work import examined, find_work, split
from lamina.core.errors import ConfigError, LaminaError


def train(
    data: Annotated[
        Path, typer.Argument(help="A table (.csv, .tsv, .parquet), a text (.txt), or a folder with a folder per class.")
    ],
    target: Annotated[str | None, typer.Option(help="The column of the table to predict.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder to make; runs/NAME by default.")] = None,
    family: Annotated[
        str | None, typer.Option(help="fcnn, cnn or transformer; chosen from the data by default.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data; chosen by their number.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples in a step; chosen by their number.")] = None,
    test_split: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="The share that is held back for the test.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The root of all random numbers.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run folder that is there.")] = False,
) -> None:
    """Train a network on DATA and leave a run folder: the model, metrics.csv, the curves and how well it does."""
    started = time.perf_counter()
    out = out or Path("runs") / (data.stem or data.resolve().name)
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} is there already; give another --out, or --overwrite to replace it")
    work, examples = find_work(data, target, family)
    typer.echo(f"{data}: {work.reason}.")
    learnt, unseen = split(work, examples, test_split, seed)
    typer.echo(f"{len(learnt):,} {work.unit} to learn from, {len(unseen):,} to test on.")
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    estimator = work.estimator(epochs=epochs, batch_size=batch_size, random_state=seed, verbose=1)
    try:
        estimator.watch(CSVLogger(out / "metrics.csv")).fit(learnt.x, learnt.y)
    except LaminaError:
        shutil.rmtree(out)  # nothing was learnt
        raise
    estimator.source_ = work.to_dict()
    estimator.save(out / "model.safetensors")
    figures, shown = examined(work, estimator, unseen, out)
    report.curves(estimator.history_, out / "curves.png")
    typer.echo(f"Test: {figures}, on {len(unseen):,} {work.unit} never seen.")
    left = ", ".join(["model.safetensors", "metrics.csv", "curves.png", *shown])
    typer.echo(f"{out}: {left}. {estimator.model.count_params():,} weights, {time.perf_counter() - started:.1f} s.")
