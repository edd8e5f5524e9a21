"""Plots of the rows: every framework beside Lamina, and how the time of a step grows."""

import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import FRAMEWORKS
from benchmarks.report import Row
from benchmarks.works import GROWTH, PRODUCT
from lamina.report.style import MANY, add_grid, finish, house, new_figure

COLORS = dict(zip(FRAMEWORKS, MANY, strict=False))


def plot_times(rows: Sequence[Row], path: Path, where: str) -> None:
    """Each framework's time beside Lamina's, a line for each work."""
    times = {(row.work, row.framework): row.milliseconds for row in rows}
    works = [row.work for row in rows if row.framework == "lamina" and row.work != PRODUCT.name]
    with house():
        figure = new_figure(7.5, 1.2 + 0.3 * len(works))
        axes = figure.subplots()
        for framework, color in COLORS.items():
            places = [i for i, work in enumerate(works) if (work, framework) in times]
            if places:
                beside = [times[works[i], framework] / times[works[i], "lamina"] for i in places]
                axes.plot(beside, places, "o", color=color, label=framework, alpha=0.85)
        axes.set_xscale("log")
        axes.set_xlim(*_decades(axes.get_xlim()))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_yticks(range(len(works)), works)
        axes.invert_yaxis()
        axes.set_xlabel("time of a step; Lamina's is 1")
        axes.set_title(where)
        add_grid(axes, "both")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    finish(figure, path)


def plot_growth(rows: Sequence[Row], path: Path) -> None:
    """The time of a step as something grows: a panel for each list of ``GROWTH`` that was measured."""
    times = {(row.work, row.framework): row.milliseconds for row in rows}
    measured = {row.work for row in rows}
    panels = {title: works for title, works in GROWTH.items() if measured & {work.name for work in works.values()}}
    with house():
        height = -(-len(panels) // 3)
        figure = new_figure(9, 0.8 + 2.6 * height)
        grid = list(figure.subplots(height, 3, squeeze=False).flat)
        for axes, (title, works) in zip(grid, panels.items(), strict=False):
            for framework, color in COLORS.items():
                found = {n: times.get((work.name, framework)) for n, work in works.items()}
                points = [(n, time) for n, time in found.items() if time is not None]
                if points:
                    axes.loglog(*zip(*points, strict=True), "o-", color=color, label=framework, markersize=3)
            axes.set_xticks(list(works), list(works), fontsize=7)
            axes.set_xticks([], minor=True)
            axes.set_ylim(*_decades(axes.get_ylim()))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
            axes.set_title(title)
            axes.set_ylabel("ms a step")
            add_grid(axes, "both")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        named = {label: line for axes in grid for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=5)
    finish(figure, path)


def _decades(limits: tuple[float, float]) -> tuple[float, float]:
    """Limits at powers of ten, so that there are at least two to read."""
    return 10 ** math.floor(math.log10(limits[0])), 10 ** math.ceil(math.log10(limits[1]))
