"""Learning curves, confusion matrices, predictions against the truth, and pictures with titles.

Every function returns a matplotlib ``Figure`` and, given a path, writes it too. ``pyplot`` is not used: nothing is
shown, and nothing is left behind.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina.core.errors import DataError
from lamina.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Path = str | os.PathLike[str] | None

#: a metric whose name has one of these in it is better when larger
LARGER_IS_BETTER = ("acc", "auc", "precision", "recall", "f1", "fbeta", "iou", "dice", "r2", "similarity", "at_")


def curves(history: Mapping[str, Sequence[float]], path: Path = None) -> "Figure":
    """Each metric over the epochs, training and validation together, its best epoch marked.

    The best is the lowest value, or the highest for metrics such as accuracy; of the validation where there is one.

    Args:
        history: metric -> its value after each epoch, as ``History.history``; ``val_`` before the name is validation.
        path: where to write it, if anywhere.

    Raises:
        DataError: if there are no values, or metrics have different numbers of epochs.

    >>> figure = curves({"loss": [0.9, 0.5, 0.4], "val_loss": [1.0, 0.6, 0.7]})
    >>> figure.axes[0].get_title(loc="left")
    'Loss'
    """
    values = {name: np.asarray(series, "float64") for name, series in history.items()}
    shapes = {name: series.shape for name, series in values.items()}
    if not values or any(len(shape) != 1 or not shape[0] for shape in shapes.values()):
        raise DataError(f"curves expects a list of numbers for each metric; received {shapes}")
    metrics = list(dict.fromkeys(name.removeprefix("val_") for name in values))
    columns = min(len(metrics), 2 if len(metrics) in (2, 4) else 3)
    rows = math.ceil(len(metrics) / columns)
    with style.house():
        figure = style.new_figure(4.6 * columns if columns > 1 else 6.4, 3.3 * rows)
        for i, metric in enumerate(metrics, 1):
            _curve(figure.add_subplot(rows, columns, i), metric, values.get(metric), values.get(f"val_{metric}"))
    return style.finish(figure, path)


def _curve(axes: "Axes", metric: str, train: np.ndarray | None, validation: np.ndarray | None) -> None:
    from matplotlib.ticker import MaxNLocator

    title = metric.replace("_", " ")
    axes.set_title(title[:1].upper() + title[1:])
    axes.set_xlabel("epoch")
    style.add_grid(axes)
    both = [(train, style.BLUE, "training"), (validation, style.ORANGE, "validation")]
    for series, color, label in both:
        if series is not None:
            marker = "o" if len(series) <= 12 else None
            axes.plot(np.arange(1, len(series) + 1), series, color=color, label=label, marker=marker, markersize=3)
    shown = np.concatenate([series[np.isfinite(series)] for series, *_ in both if series is not None])
    if len(shown) and shown.min() > 0 and shown.max() > 50 * shown.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
    if not len(shown):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", color=style.MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.margins(x=0.03, y=0.12)
    judged, color = (train, style.BLUE) if validation is None else (validation, style.ORANGE)
    if judged is not None and np.isfinite(judged).any() and not metric.startswith(("lr", "learning_rate")):
        larger = any(word in metric.lower() for word in LARGER_IS_BETTER)
        best = int(np.nanargmax(judged) if larger else np.nanargmin(judged))
        axes.axvline(best + 1, color=style.MUTED, linewidth=0.8, linestyle=(0, (3, 3)), zorder=1)
        axes.plot(best + 1, judged[best], "o", color=color, markersize=7, markeredgecolor="white", zorder=3)
        axes.set_title(f"best {judged[best]:.4g} (epoch {best + 1})", loc="right", fontsize=8.5, fontweight="normal")
    if train is not None and validation is not None:
        axes.legend(loc="best")


def confusion_matrix(y_true: Any, y_pred: Any, class_names: Sequence[str], path: Path = None) -> "Figure":
    """How often each class (a row) was taken for each class (a column): counts, and percent of the row.

    Args:
        y_true: the true classes ``(n,)``, indices into ``class_names``.
        y_pred: the predicted classes ``(n,)``.
        class_names: all classes; up to about 40 are readable.
        path: where to write it, if anywhere.

    Raises:
        DataError: if these are not as many indices, or one is out of range.

    >>> figure = confusion_matrix([0, 0, 1], [0, 1, 1], ["cat", "dog"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1', '50%', '1', '50%', '0', '1', '100%']
    """
    names = [style.shorten(str(name)) for name in class_names]
    true, predicted = np.asarray(y_true), np.asarray(y_pred)
    for what, array in (("y_true", true), ("y_pred", predicted)):
        if array.ndim != 1 or not array.size or array.shape != true.shape or not np.issubdtype(array.dtype, np.integer):
            raise DataError(
                f"confusion_matrix expects {what} as {true.size} class indices, one-dimensional; "
                f"received {array.dtype} {array.shape}.\nWrite, for probabilities:  {what}.argmax(-1)"
            )
        if array.min() < 0 or array.max() >= len(names):
            raise DataError(f"{what} goes from {array.min()} to {array.max()}; there are {len(names)} class names")
    n = len(names)
    counts = np.zeros((n, n), int)
    np.add.at(counts, (true, predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with style.house():
        # cells hold two lines of text while there are few, then one; labels need room of their own
        cell = 0.62 if n <= 12 else 0.45 if n <= 25 else 0.36
        side = max(2.2, cell * n)
        room = 0.075 * max(map(len, names)) + 0.6
        figure = style.new_figure(side + room, side + (room if n > 4 else 0.5) + 0.4)
        axes = figure.add_subplot()
        axes.imshow(_cell_colors(shares), aspect="equal")
        _cell_texts(axes, counts, shares, with_percent=n <= 12, size=8 if n <= 25 else 6.5)
        axes.set_xticks(range(n), names, rotation=90 if n > 4 and max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(n), names)
        axes.set_xticks(np.arange(1, n) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, n) - 0.5, minor=True)
        axes.grid(True, which="minor", color="white", linewidth=1.2)
        axes.tick_params(which="both", length=0)
        axes.tick_params(labelcolor=style.INK, labelsize=8.5 if n <= 25 else 7.5)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        right = np.trace(counts) / len(true)
        axes.set_title(f"{100 * right:.1f}% of {len(true):,} right", loc="left")
    return style.finish(figure, path)


def _cell_colors(shares: np.ndarray) -> np.ndarray:
    """White to blue on the diagonal, white to orange elsewhere, where even small shares should be seen."""
    from matplotlib.colors import to_rgb

    right, wrong, none = (np.array(to_rgb(color)) for color in (style.BLUE, style.ORANGE, "#f8f9fb"))
    diagonal = np.eye(len(shares), dtype=bool)[..., None]
    depth = np.where(diagonal, shares[..., None], shares[..., None] ** 0.4)
    return none + depth * (np.where(diagonal, right, wrong) - none)


def _cell_texts(axes: "Axes", counts: np.ndarray, shares: np.ndarray, with_percent: bool, size: float) -> None:
    size = min(size, size * 6 / len(str(counts.max())))
    place: Any = {"ha": "center", "va": "center", "textcoords": "offset points"}
    for row, column in np.ndindex(counts.shape):
        count, share = counts[row, column], shares[row, column]
        if not count and not with_percent:
            continue  # among many classes, zeros would hide the rest
        color = "white" if share > (0.55 if row == column else 0.7) else style.INK if count else "#b8c0c9"
        lift = 0.6 * size if with_percent and count else 0
        axes.annotate(f"{count}", (column, row), (0, lift), color=color, fontsize=size, **place)
        if lift:
            percent = "<1%" if share < 0.01 else "100%" if share == 1 else f"{min(100 * share, 99):.0f}%"
            axes.annotate(percent, (column, row), (0, -lift), color=color, fontsize=0.78 * size, **place)


def predicted_against_true(y_true: Any, y_pred: Any, path: Path = None, name: str = "") -> "Figure":
    r"""Predicted numbers over the true ones; the better, the nearer to the diagonal.

    The title has :math:`R^2 = 1 - \sum (y - \hat y)^2 / \sum (y - \bar y)^2` and the mean absolute error.

    Args:
        y_true: the true numbers ``(n,)`` or ``(n, 1)``.
        y_pred: the predicted numbers, as many.
        path: where to write it, if anywhere.
        name: what the number is, for the axes.

    Raises:
        DataError: if these are not as many finite numbers.

    >>> figure = predicted_against_true([1.0, 2.0, 3.0], [1.0, 2.0, 4.0], name="price")
    >>> figure.axes[0].get_title(loc="left")
    'R² 0.500   mean absolute error 0.3333'
    """
    true, predicted = np.asarray(y_true, "float64").ravel(), np.asarray(y_pred, "float64").ravel()
    if true.shape != predicted.shape or not true.size:
        found = f"{predicted.size} and {true.size}"
        raise DataError(f"predicted_against_true expects as many predictions as targets; received {found}")
    if not (np.isfinite(true).all() and np.isfinite(predicted).all()):
        raise DataError("predicted_against_true expects finite numbers; there are NaN or infinite ones")
    spread = ((true - true.mean()) ** 2).sum()
    r2 = 1 - ((true - predicted) ** 2).sum() / spread if spread > 0 else math.nan
    low, high = min(true.min(), predicted.min()), max(true.max(), predicted.max())
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    with style.house():
        figure = style.new_figure(5.0, 5.0)
        axes = figure.add_subplot()
        style.add_grid(axes, "both")
        axes.plot(limits, limits, color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        # many points: small and faint, so that their density is seen
        alpha = float(np.clip(15 / math.sqrt(true.size), 0.04, 0.75))
        size = float(np.clip(900 / math.sqrt(true.size), 4, 36))
        axes.scatter(true, predicted, s=size, color=style.BLUE, alpha=alpha, linewidths=0, zorder=2)
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        axes.set_xlabel(f"{name}, true" if name else "true")
        axes.set_ylabel(f"{name}, predicted" if name else "predicted")
        error = np.abs(true - predicted).mean()
        axes.set_title(f"R² {r2:.3f}   mean absolute error {error:.4g}", loc="left")
    return style.finish(figure, path)


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
    if pictures.dtype != np.uint8:
        pictures = (255 * np.clip(np.nan_to_num(pictures.astype("float64")), 0, 1)).round().astype("uint8")
    count, height, width = pictures.shape[:3]
    columns = columns or min(count, math.ceil(math.sqrt(count * 1.4 * height / width)))
    rows = math.ceil(count / columns)
    lines = max([0, *(str(title).count("\n") + 1 for title in titles)])
    with style.house():
        cell = 1.35
        figure = style.new_figure(cell * columns + 0.1, rows * (cell * height / width + 0.19 * lines + 0.06) + 0.1)
        for i, picture in enumerate(pictures):
            axes = figure.add_subplot(rows, columns, i + 1)
            axes.imshow(np.broadcast_to(picture, (*picture.shape[:2], 3)), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            marked = bool(len(wrong) and wrong[i])
            edge, thickness = (style.RED, 2.2) if marked else (style.GRID, 0.8)
            axes.spines[:].set(visible=True, color=edge, linewidth=thickness)
            if len(titles):
                color, weight = (style.RED, "bold") if marked else (style.INK, "normal")
                text = "\n".join(style.shorten(line, 20) for line in str(titles[i]).split("\n"))
                axes.set_title(text, loc="center", fontsize=7.5, color=color, fontweight=weight, pad=3.5)
    return style.finish(figure, path)
