"""Pictures side by side: with titles, or in rows and columns to compare."""

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina.core.errors import DataError
from lamina.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Path = str | os.PathLike[str] | None


def picture_grid(
    pictures: Any,
    titles: Sequence[str] = (),
    path: Path = None,
    wrong: Sequence[bool] = (),
    columns: int | None = None,
) -> "Figure":
    """Pictures side by side, each with a title above it.

    Args:
        pictures: ``(n, height, width)`` or ``(n, height, width, 1 or 3)``: uint8, or numbers from 0 to 1.
        titles: a title for each, or none.
        path: where to write it, if anywhere.
        wrong: which are to be marked in red, such as the wrongly predicted ones; none if empty.
        columns: how many side by side; about as many as below each other if None.

    Raises:
        DataError: if there are no pictures, or not as many titles or marks.

    >>> figure = picture_grid(np.zeros((3, 8, 8)), ["cat", "dog", "dog (cat)"], wrong=[False, False, True])
    >>> len(figure.axes)
    3
    """
    pictures = np.asarray(pictures)
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    if pictures.ndim != 4 or not pictures.size or pictures.shape[-1] not in (1, 3):
        raise DataError(f"picture_grid expects (n, height, width, 1 or 3); received {pictures.shape}")
    for what, given in (("titles", titles), ("marks of wrong", wrong)):
        if len(given) not in (0, len(pictures)):
            raise DataError(f"picture_grid has {len(pictures)} pictures, but {len(given)} {what}")
    pictures = _bytes(pictures)
    count, height, width = pictures.shape[:3]
    columns = columns or min(count, math.ceil(math.sqrt(count * 1.4 * height / width)))
    rows = math.ceil(count / columns)
    lines = max([0, *(str(title).count("\n") + 1 for title in titles)])
    with style.house():
        cell = 1.35
        figure = style.new_figure(cell * columns + 0.1, rows * (cell * height / width + 0.19 * lines + 0.06) + 0.1)
        for i, picture in enumerate(pictures):
            axes = figure.add_subplot(rows, columns, i + 1)
            marked = bool(len(wrong) and wrong[i])
            _show(axes, picture, *((style.RED, 2.2) if marked else (style.GRID, 0.8)))
            if len(titles):
                color, weight = (style.RED, "bold") if marked else (style.INK, "normal")
                text = "\n".join(style.shorten(line, 20) for line in str(titles[i]).split("\n"))
                axes.set_title(text, loc="center", fontsize=7.5, color=color, fontweight=weight, pad=3.5)
    return style.finish(figure, path)


def picture_rows(
    rows: Sequence[Any], names: Sequence[str] = (), path: Path = None, titles: Sequence[str] = ()
) -> "Figure":
    """Pictures to compare, in rows with a name at the left and columns with a title above.

    Args:
        rows: for each row its pictures, ``(height, width)`` or ``(height, width, 1 or 3)``: uint8, or numbers from 0 to 1.
            They may be of several sizes; all are drawn equally wide.
        names: the name of each row, or none.
        path: where to write it, if anywhere.
        titles: the title of each column, or none.

    Raises:
        DataError: if there are no pictures, rows of unequal length, or not as many names or titles.

    >>> figure = picture_rows([np.zeros((2, 8, 8)), np.ones((2, 8, 8))], ["before", "after"])
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['before', '', 'after', '']
    """
    pictures = [[_bytes(np.asarray(picture)) for picture in row] for row in rows]
    shapes = {picture.shape for row in pictures for picture in row}
    lengths = {len(row) for row in pictures}
    if (
        not shapes
        or len(lengths) > 1
        or any(len(s) not in (2, 3) or (len(s) == 3 and s[2] not in (1, 3)) for s in shapes)
    ):
        raise DataError(
            "picture_rows expects rows of equally many pictures, (height, width) or (height, width, 1 or 3); received "
            f"rows of {sorted(lengths)} with the shapes {sorted(shapes)}"
        )
    count, columns = len(pictures), lengths.pop()
    for what, given, wanted in (("rows", names, count), ("columns", titles, columns)):
        if len(given) not in (0, wanted):
            raise DataError(f"picture_rows has {wanted} {what}, but {len(given)} names of them")
    with style.house():
        # few pictures are worth a closer look
        cell = float(np.clip(9.0 / columns, 0.7, 2.4))
        heights = [max(picture.shape[0] / picture.shape[1] for picture in row) for row in pictures]
        room = 0.25 * bool(names) + 0.1
        figure = style.new_figure(cell * columns + room, cell * sum(heights) + 0.04 * count + 0.25 * bool(titles) + 0.1)
        figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)  # type: ignore[union-attr, call-arg]
        spec = figure.add_gridspec(count, columns, height_ratios=heights)
        for r, c in np.ndindex(count, columns):
            axes = figure.add_subplot(spec[r, c])
            _show(axes, pictures[r][c], style.GRID, 0.8)
            if names and c == 0:
                axes.set_ylabel(
                    style.shorten(str(names[r]), max(10, int(11 * cell * heights[r]))), color=style.INK, fontsize=7.5
                )
            if titles and r == 0:
                axes.set_title(style.shorten(str(titles[c]), int(14 * cell)), loc="center", fontsize=8, pad=3.5)
    return style.finish(figure, path)


def _bytes(pictures: np.ndarray) -> np.ndarray:
    """Numbers from 0 to 1 as uint8, which stays."""
    if pictures.dtype == np.uint8:
        return pictures
    return (255 * np.clip(np.nan_to_num(pictures.astype("float64")), 0, 1)).round().astype("uint8")


def _show(axes: "Axes", picture: np.ndarray, edge: str, thickness: float) -> None:
    picture = picture if picture.ndim == 3 else picture[..., None]
    axes.imshow(np.broadcast_to(picture, (*picture.shape[:2], 3)), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=edge, linewidth=thickness)
