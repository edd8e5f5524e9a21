"""``lamina generate``: what a language model writes."""

from pathlib import Path
from typing import Annotated

import typer

from lamina.cli.work import Text, load_run
from lamina.core.errors import ConfigError


def generate(
    run: Annotated[Path, typer.Argument(help="A run folder of lamina train on a text, or its model file.")],
    prompt: Annotated[str, typer.Option(help="The beginning, which the model goes on from.")] = "",
    length: Annotated[int, typer.Option(min=1, help="How many tokens to write at most.")] = 300,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="Below 1 for what is likely, above for what is not.")
    ] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, help="Choose among so many of the likeliest tokens only.")] = None,
    top_p: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Choose among the likeliest of this probability.")
    ] = 1.0,
    stop: Annotated[
        list[str] | None, typer.Option(help="A text before which to stop; may be given several times.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="For the same text again.")] = None,
) -> None:
    """Let the model in RUN write."""
    estimator, work = load_run(run)
    if not isinstance(work, Text):
        raise ConfigError(f"{run}: the model was trained on {work.unit}; it does not write")
    typer.echo(prompt, nl=False)
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "stop": stop or (), "random_state": seed}
    for piece in estimator.generate(prompt, length, stream=True, **settings):
        typer.echo(piece, nl=False)
    typer.echo()
