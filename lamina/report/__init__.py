"""Pictures of a training run and of what a model predicts."""

from lamina.report.pictures import picture_grid, picture_rows
from lamina.report.plots import confusion_matrix, curves, forecast, plane, predicted_against_true
from lamina.report.style import png

__all__ = [
    "confusion_matrix",
    "curves",
    "forecast",
    "picture_grid",
    "picture_rows",
    "plane",
    "png",
    "predicted_against_true",
]
