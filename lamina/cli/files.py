"""What the commands share: checks of paths before any work is done, and tables printed or written."""

import csv
import io
import sys
from pathlib import Path

import typer

from lamina.core.errors import DataError, FileError

#: how many rows are shown on a terminal
SHOWN = 20


def existing(data: Path) -> Path:
    """The path, if there is something.

    Raises:
        DataError: if there is nothing.
    """
    if not data.exists():
        raise DataError(f"there is no file or folder {data}")
    return data


def writable(out: Path, suffixes: tuple[str, ...] = ()) -> Path:
    """The path of a file, if it can be made.

    Args:
        out: the path.
        suffixes: what it may end in; anything if there are none.

    Raises:
        FileError: if it is a folder, the folder that it is to be in is not there, or it ends in something else.
    """
    if not out.parent.is_dir():
        raise FileError(f"{out} cannot be written: there is no folder {out.parent}")
    if suffixes and out.suffix.lower() not in suffixes:
        raise FileError(f"{out}: expected a file that ends in {' or '.join(suffixes)}")
    if out.is_dir():
        raise FileError(f"{out} cannot be written: it is a folder")
    return out


def plain(text: str) -> str:
    """``text`` without anything that a terminal would obey: names in a file may be a stranger's.

    >>> plain("cat\\x1b[2J\\tdog")
    'cat?[2J?dog'
    """
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def show(header: list[str], rows: list[list[str]], out: Path | None, unit: str) -> None:
    """Write a table to a CSV file; without one, print it, on a terminal its beginning."""
    if out is not None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
        try:
            out.write_text(text.getvalue(), encoding="utf-8")
        except OSError as error:
            raise FileError(f"{out} cannot be written: {error.strerror}") from None
        typer.echo(f"{out}: {len(rows):,} {unit}.")
        return
    shown = rows[:SHOWN] if sys.stdout.isatty() else rows
    widths = [max(len(line[i]) for line in [header, *shown]) for i in range(len(header))]
    for line in [header, *shown]:
        typer.echo(plain("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()))
    if len(rows) > len(shown):
        typer.echo(f"... and {len(rows) - len(shown):,} more; --out FILE.csv writes all of them.")
