"""``lamina train``: from a table or a folder of pictures to a model and what it is worth."""

import shutil
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from lamina import report
from lamina.callbacks import Callback, CSVLogger, EarlyStopping
from lamina.cli.work import described, find_work, scores, split
from lamina.core.config import set_random_seed
from lamina.core.errors import ConfigError

#: the part of the training data that is kept to watch over training
VALIDATION = 0.1


def train(
    data: Annotated[Path, typer.Argument(help="A table (.csv, .tsv, .parquet), or a folder with a folder per class.")],
    target: Annotated[str | None, typer.Option(help="The column of the table to predict.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder to make; runs/NAME by default.")] = None,
    family: Annotated[str | None, typer.Option(help="fcnn or cnn; chosen from the data by default.")] = None,
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
    set_random_seed(seed)
    work, examples = find_work(data, target, family)
    typer.echo(f"{data}: {work.reason}.")
    kept, tested = split(work, examples, test_split, seed)
    train_part, test_part = examples.take(kept), examples.take(tested)
    held = max(1, round(VALIDATION * len(train_part))) if len(train_part) >= 20 else 0
    learnt, watched = train_part.take(np.arange(held, len(kept))), train_part.take(np.arange(held))

    model = work.network(learnt)
    model.task = work.to_dict()
    size = batch_size or int(np.clip(2 ** round(np.log2(max(len(learnt) / 40, 1))), 8, 128))
    passes = epochs or work.recipe.epochs_for(len(learnt))
    steps = passes * -(-len(learnt) // size)
    regression = work.task == "regression"
    loss = "mean_squared_error" if regression else model_loss(len(work.class_names))
    model.compile(work.recipe.optimizer_for(steps), loss, metrics=["mean_absolute_error" if regression else "accuracy"])
    typer.echo(
        f"{len(learnt):,} {work.unit} to learn from, {len(watched):,} to watch over training, {len(test_part):,} to test "
        f"on; {model.count_params():,} weights, {passes} epochs of {steps // passes} steps."
    )
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    callbacks: list[Callback] = [CSVLogger(out / "metrics.csv")]
    if held:
        callbacks.append(EarlyStopping("val_loss", patience=max(10, passes // 3), restore_best_weights=True))
    history = model.fit(
        learnt.x,
        learnt.y,
        batch_size=size,
        epochs=passes,
        validation_data=(watched.x, watched.y) if held else None,
        callbacks=callbacks,
    )
    model.save(out / "model.safetensors")
    outputs = model.predict(test_part.x)
    pictures = work.draw(out, test_part, outputs)
    report.curves(history.history, out / "curves.png")
    typer.echo(f"Test: {described(scores(work, test_part, outputs))}, on {len(test_part):,} {work.unit} never seen.")
    left = ", ".join(["model.safetensors", "metrics.csv", "curves.png", *pictures])
    typer.echo(f"{out}: {left}. {time.perf_counter() - started:.1f} s.")


def model_loss(classes: int) -> str:
    """The loss for so many classes."""
    return "binary_crossentropy" if classes == 2 else "sparse_categorical_crossentropy"
