"""``lamina train``: from a table, a text or a folder of pictures to a model and what it is worth."""

import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from lamina import report
from lamina.callbacks import CSVLogger
from lamina.cli.work import Work, find_work
from lamina.core.errors import ConfigError, LaminaError, nearest
from lamina.saving import disk
from lamina.training.checkpoint import FILE, ChangedProgramError, Checkpoint


def train(
    data: Annotated[
        Path, typer.Argument(help="A table (.csv, .tsv, .parquet), a text (.txt, .md), or a folder of pictures.")
    ],
    target: Annotated[str | None, typer.Option(help="The column of the table to predict.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder to make; runs/NAME by default.")] = None,
    family: Annotated[
        str | None,
        typer.Option(
            help="fcnn, cnn, rnn, autoencoder, vae, gan, super-resolution or transformer; chosen from the data by default."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data; chosen by their number.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples in a step; chosen by their number.")] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Series: how many steps ahead to forecast.")] = None,
    scale: Annotated[int | None, typer.Option(help="Super-resolution: how many times to enlarge, 2 or 4.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Another argument of the estimator; may be given several times."
        ),
    ] = None,
    test_split: Annotated[
        float | None, typer.Option(min=0.01, max=0.9, help="The share that is held back for the test; 0.2.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The root of all random numbers.")] = 0,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A folder to keep the state of training in; the same command goes on there after any kill."),
    ] = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes", help="Go on from the checkpoint though data, settings or versions have changed."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run folder that is there.")] = False,
) -> None:
    """Train a network on DATA and leave a run folder: the model, metrics.csv, the curves, pictures of how well it does."""
    started = time.perf_counter()
    if accept_changes and checkpoint is None:
        raise ConfigError("--accept-changes is about a checkpoint, and there is none; give --checkpoint FOLDER")
    out = out or Path("runs") / (data.stem or data.resolve().name)
    goes_on = checkpoint is not None and _unfinished(out, checkpoint)
    if not goes_on:
        _check_folder(out, overwrite)
    work, examples, others = find_work(data, target, family)
    options = {"epochs": epochs, "batch_size": batch_size, "horizon": horizon, "scale": scale}
    chosen = _settings(work, {name: value for name, value in options.items() if value is not None}, settings or [])
    learnt, unseen = work.split(examples, test_split, seed)
    estimator = work.estimator({"random_state": seed, "verbose": 1, **chosen}, learnt, unseen)
    typer.echo(f"{data}: {work.reason}.")
    if others and family is None:
        typer.echo(f"Other families that fit (--family): {', '.join(others)}.")
    test = "" if unseen is None else f", {len(unseen):,} to test on"
    typer.echo(f"{len(learnt):,} {work.unit} to learn from{test}.")
    with disk.told(out):
        if out.exists() and not goes_on:
            shutil.rmtree(out)
        out.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings(record=True, action="always", category=UserWarning) as remarks:
            kept = None if checkpoint is None else Checkpoint(checkpoint, accept_changes=accept_changes)
            estimator.watch(CSVLogger(out / "metrics.csv"), checkpoint=kept).fit(learnt.x, learnt.y)
    except ChangedProgramError as error:
        line = str(error).splitlines()[0]
        raise ConfigError(f"{line}; or go on with what is different: --accept-changes") from None
    except (LaminaError, KeyboardInterrupt):
        if checkpoint is None:
            shutil.rmtree(out, ignore_errors=True)  # nothing was learnt
        raise
    if goes_on:
        disk.sweep(out / "model.safetensors")
    estimator.source_ = work.to_dict(estimator)
    estimator.save(out / "model.safetensors")
    result = None if unseen is None else work.examine(estimator, unseen)
    with disk.told(out):
        shown = work.draw(out, estimator, unseen, result)
        report.curves(estimator.history_, out / "curves.png")
    for remark in remarks:
        typer.echo(f"Note: {str(remark.message).splitlines()[0]}")
    if unseen is not None:
        typer.echo(f"Test: {result}, on {len(unseen):,} {work.unit} never seen.")
    left = ", ".join(["model.safetensors", "metrics.csv", "curves.png", *shown])
    typer.echo(f"{out}: {left}. {estimator.model.count_params():,} weights, {time.perf_counter() - started:.1f} s.")


def _unfinished(out: Path, checkpoint: Path) -> bool:
    """Whether ``out`` is what a run with that checkpoint left when it was stopped, or nothing at all."""
    if (checkpoint / FILE).is_file() or not out.exists():
        return True
    return out.is_dir() and {path.resolve() for path in out.iterdir()} <= {
        (out / "metrics.csv").resolve(),
        checkpoint.resolve(),
    }


def _check_folder(out: Path, overwrite: bool) -> None:
    """Nothing is replaced without being asked to, and nothing but a run folder."""
    if not out.exists():
        return
    if not overwrite:
        raise ConfigError(f"{out} is there already; give another --out, or --overwrite to replace it")
    if not out.is_dir() or (any(out.iterdir()) and not (out / "model.safetensors").is_file()):
        raise ConfigError(f"{out} is not a run folder, so it is not replaced; give another --out")


def _settings(work: Work, options: dict[str, Any], free: list[str]) -> dict[str, Any]:
    """The estimator's arguments, from options of their own and from ``--set``.

    Raises:
        ConfigError: for one that it has not, or a value of another type than that of its default.
    """
    defaults = work.estimator_class()().get_params(deep=False)
    for name in options:
        if name not in defaults:
            raise ConfigError(f"--{name} is not for a model that {work.does}")
    found = dict(options)
    for setting in free:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: expected NAME=VALUE. {nearest(name, defaults)}")
        if name not in defaults:
            raise ConfigError(f"--set {setting}: the estimator has no argument {name!r}. {nearest(name, defaults)}")
        try:
            value = json.loads(text)
        except ValueError:
            value = {"True": True, "False": False, "None": None}.get(text, text)
        usual = defaults[name]
        if isinstance(usual, bool | int | float) and not isinstance(value, bool | int | float):
            raise ConfigError(f"--set {setting}: expected a value like {usual}")
        found[name] = value
    return found
