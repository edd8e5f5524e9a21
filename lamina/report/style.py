"""The house style: colors, sizes, and how a figure becomes a file of always the same bytes."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lamina.core.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2933"
MUTED = "#6b7785"
GRID = "#e6e9ed"
PAPER = "#ffffff"
BLUE = "#2563a8"
ORANGE = "#e07a1f"
GREEN = "#2f8f5b"
RED = "#c8322b"
#: colors that tell up to 20 classes apart
MANY = (
    *(BLUE, ORANGE, GREEN, RED, "#7a4fb5", "#8a5a3c", "#d65fa8", "#5f6b76", "#a8a022", "#1fa8b8"),
    *("#8fb4dc", "#f3b887", "#8fcfab", "#e79a95", "#bfa6e0", "#c7a78f", "#eeb1d6", "#b0b8c0", "#d3ce7a", "#8ed3dc"),
)

DPI = 150
SETTINGS: Any = {
    # the font that comes with matplotlib, so that every machine draws the same letters
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelsize": 9,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#b8c0c9",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "text.color": INK,
    "axes.titlecolor": INK,
    "text.usetex": False,
    "text.parse_math": False,  # class names and columns may have a $ in them
    "xtick.color": "#b8c0c9",
    "ytick.color": "#b8c0c9",
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "lamina",
}
#: what would make two files of the same figure differ
METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@contextmanager
def house() -> Iterator[None]:
    """Within it, figures are drawn in this style; the caller's own settings of matplotlib return afterwards."""
    import matplotlib

    with matplotlib.rc_context(SETTINGS):
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of that many inches, known to no window and to no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.09))
    FigureCanvasAgg(figure)
    return figure


def add_grid(axes: "Axes", axis: Literal["x", "y", "both"] = "y") -> None:
    """Quiet lines behind the data, instead of the marks on the axis."""
    axes.grid(True, axis=axis)
    axes.tick_params(length=0)


def shorten(name: str, length: int = 22) -> str:
    """The name, its end cut off if it is longer than that."""
    return name if len(name) <= length else name[: length - 1] + "…"


def png(figure: "Figure") -> bytes:
    """The figure as a PNG file's bytes: the same ones for the same figure."""
    buffer = io.BytesIO()
    with house():
        figure.savefig(buffer, format="png", dpi=DPI, metadata=METADATA["png"])
    return buffer.getvalue()


def finish(figure: "Figure", path: str | os.PathLike[str] | None) -> "Figure":
    """Settle the figure's layout; if there is a path, write it in the format that its ending says: PNG, SVG or PDF.

    Raises:
        ConfigError: for another ending.
    """
    with house():
        figure.draw_without_rendering()
    # laid out again at every drawing, things would move by a hair each time
    figure.set_layout_engine("none")
    if path is None:
        return figure
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in METADATA:
        raise ConfigError(f"{path}: expected a file that ends in .png, .svg or .pdf")
    path.parent.mkdir(parents=True, exist_ok=True)
    with house():
        figure.savefig(path, format=kind, dpi=DPI, metadata=METADATA[kind])
    return figure
