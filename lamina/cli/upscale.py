"""``lamina upscale``: pictures with more pixels."""

from pathlib import Path
from typing import Annotated

import typer

from lamina.cli.files import existing, writable
from lamina.cli.work import load_run


def upscale(
    run: Annotated[
        Path, typer.Argument(help="A run folder of lamina train --family super-resolution, or its model file.")
    ],
    data: Annotated[Path, typer.Argument(metavar="PICTURE", help="A picture, or a folder of pictures.")],
    out: Annotated[Path | None, typer.Option(help="The PNG file to write, or for a folder the folder to make.")] = None,
) -> None:
    """Enlarge pictures with the model in RUN; some are drawn before and after in before_after.png beside --out, or here."""
    estimator, work = load_run(run)
    picture = writable((out or Path("large.png")).with_name("before_after.png"))
    written = work.upscale(estimator, existing(data), out, picture)
    typer.echo(f"{written[0]}" + (f" and {len(written) - 1:,} more." if len(written) > 1 else "."))
    typer.echo(f"{picture}: before and after.")
