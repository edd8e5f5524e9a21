"""Pictures of a training run and of what a model predicts."""

from lamina.report.plots import confusion_matrix, curves, picture_grid, predicted_against_true
from lamina.report.style import png

__all__ = ["confusion_matrix", "curves", "picture_grid", "png", "predicted_against_true"]
