"""``lamina generate``: what a language model writes, and what a GAN or a variational autoencoder draws."""

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from lamina import report
from lamina.cli.files import writable
from lamina.cli.work import load_run
from lamina.core.errors import ConfigError

#: the options for each, and what stands for them
TEXT = {"prompt": "", "length": 300, "temperature": 0.8, "top_k": None, "top_p": None, "stop": None}
PICTURES = {"count": 16, "class": None, "out": Path("samples.png")}


def generate(
    run: Annotated[Path, typer.Argument(help="A run folder of lamina train, or a model file.")],
    prompt: Annotated[str | None, typer.Option(help="Text: the beginning, which the model goes on from.")] = None,
    length: Annotated[int | None, typer.Option(min=1, help="Text: how many tokens to write at most; 300.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="Text: below 1 for what is likely, above for what is not; 0.8.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Text: choose among so many of the likeliest tokens.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0.01, max=1.0, help="Text: choose among the likeliest of this probability.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="Text: before which words to stop; may be given several times.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, max=400, help="Pictures: how many; 16.")] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Pictures: the class to draw, for a GAN.")] = None,
    out: Annotated[Path | None, typer.Option(help="Pictures: the PNG file to write; samples.png.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="For the same again.")] = None,
) -> None:
    """Let the model in RUN write a text, or draw pictures."""
    estimator, work = load_run(run)
    given: dict[str, Any] = {
        "prompt": prompt,
        "length": length,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
    }
    given |= {"stop": stop or None, "count": count, "class": class_name, "out": out}
    given = {name: value for name, value in given.items() if value is not None}
    wishes: dict[str, Any] = {"seed": secrets.randbits(31) if seed is None else seed}
    known = TEXT if work.unit == "characters" else PICTURES
    for name in given:
        if name not in known:
            raise ConfigError(f"--{name.replace('_', '-')} is not for a model that {work.does}")
    wishes |= {name: value for name, value in (known | given).items() if value is not None}
    if known is TEXT:
        typer.echo(wishes["prompt"], nl=False)
        for piece in work.write(estimator, **wishes):
            typer.echo(piece, nl=False)
        typer.echo()
        return
    out = writable(wishes.pop("out"), (".png",))
    pictures, titles = work.sample(estimator, **wishes)
    report.picture_grid(pictures, titles, out)
    typer.echo(f"{out}: {len(pictures)} pictures (--seed {wishes['seed']} draws them again).")
