"""Learning curves, confusion matrices, predictions against the truth, forecasts, and codes in the plane.

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
#: what begins so is neither better when larger nor when smaller, so that no epoch is its best
UNJUDGED = ("lr", "learning_rate", "generator", "discriminator", "diversity", "kl", "beta")


def curves(history: Mapping[str, Sequence[float]], path: Path = None) -> "Figure":
    """Each metric over the epochs, training and validation together, its best epoch marked.

    The best is the lowest value, or the highest for metrics such as accuracy; of the validation where there is one. Numbers
    that are not better either way, such as a learning rate or the losses of a GAN, have none.

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
    if judged is not None and np.isfinite(judged).any() and not metric.startswith(UNJUDGED):
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


def forecast(
    times: Any,
    values: Any,
    forecasts: Sequence[tuple[Any, Any, Any]],
    path: Path = None,
    name: str = "",
    level: float = 0.8,
) -> "Figure":
    """A series, and forecasts of it with the intervals in which the truth is expected.

    Args:
        times: the times of the values ``(n,)``: dates of NumPy, or numbers.
        values: the series ``(n,)``; NaN leaves a gap.
        forecasts: for each forecast its times ``(h,)``, its values ``(h,)``, and its bounds ``(2, h)``, or ``None``
            where there are none.
        path: where to write it, if anywhere.
        name: what the numbers are, for the axis.
        level: the probability that a value falls between its bounds.

    Raises:
        DataError: if these are not as many times as values.

    >>> figure = forecast([1, 2, 3], [5.0, 6.0, 7.0], [([4, 5], [8.0, 9.0], [[7.0, 8.0], [9.0, 10.0]])], name="stock")
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['stock', 'forecast', '80% interval']
    """
    times, values = np.asarray(times), np.asarray(values, "float64")
    for what, given, wanted in [("values", values, times), *(("forecasts", np.asarray(v), t) for t, v, _ in forecasts)]:
        if given.shape != np.shape(wanted) or given.ndim != 1 or not given.size:
            raise DataError(
                f"forecast expects a time for each of the {what}; received {np.shape(wanted)}, {given.shape}"
            )
    with style.house():
        figure = style.new_figure(8.4, 3.8)
        axes = figure.add_subplot()
        style.add_grid(axes)
        axes.plot(times, values, color=style.BLUE, linewidth=1.4, label=name or "series", zorder=2)
        for i, (ahead, middle, bounds) in enumerate(forecasts):
            marker = "o" if len(middle) <= 3 else None
            first = i == 0
            axes.plot(
                ahead,
                middle,
                color=style.ORANGE,
                linewidth=1.4,
                marker=marker,
                markersize=3.5,
                zorder=3,
                label="forecast" if first else None,
            )
            if bounds is not None:
                shade: Any = {"color": style.ORANGE, "alpha": 0.22, "linewidth": 0, "zorder": 1}
                axes.fill_between(ahead, *np.asarray(bounds), label=f"{level:.0%} interval" if first else None, **shade)
        if times.dtype.kind == "M":
            from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

            locator = AutoDateLocator(minticks=4, maxticks=9)
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
        axes.margins(x=0.01, y=0.1)
        axes.set_ylabel(style.shorten(name, 40))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return style.finish(figure, path)


def plane(
    points: Any, classes: Any = None, path: Path = None, axis_names: tuple[str, str] = ("first", "second")
) -> "Figure":
    """Examples as points of a plane, colored by class.

    Args:
        points: ``(n, 2)``.
        classes: the class of each ``(n,)``, if there are any; more than 20 are not colored.
        path: where to write it, if anywhere.
        axis_names: what the two numbers are.

    Raises:
        DataError: if the points are not pairs of finite numbers, or the classes not as many.

    >>> figure = plane([[0.0, 1.0], [2.0, 3.0]], ["cat", "dog"])
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['cat', 'dog']
    """
    points = np.asarray(points, "float64")
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not np.isfinite(points).all():
        raise DataError(f"plane expects finite numbers of shape (n, 2); received {points.shape}")
    labels = np.full(len(points), "") if classes is None else np.asarray(classes).astype(str)
    if labels.shape != (len(points),):
        raise DataError(f"plane has {len(points)} points, but classes of shape {labels.shape}")
    names = sorted(set(labels.tolist()))
    if len(names) > len(style.MANY):
        labels[:], names = "", [""]
    with style.house():
        figure = style.new_figure(6.0 + (names != [""]), 5.4)
        axes = figure.add_subplot()
        style.add_grid(axes, "both")
        size = float(np.clip(900 / math.sqrt(len(points)), 6, 36))
        alpha = float(np.clip(30 / math.sqrt(len(points)), 0.25, 0.85))
        for name, color in zip(names, style.MANY, strict=False):
            chosen = points[labels == name]
            axes.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=size,
                color=color,
                alpha=alpha,
                linewidths=0,
                label=style.shorten(name, 18),
            )
        axes.set_xlabel(axis_names[0])
        axes.set_ylabel(axis_names[1])
        axes.margins(0.04)
        if names != [""]:
            legend = figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", handletextpad=0.2)
            for handle in legend.legend_handles:
                if handle is not None:
                    handle.set_alpha(1)
                    handle.set_sizes([36])  # type: ignore[attr-defined]
    return style.finish(figure, path)
