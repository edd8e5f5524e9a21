"""Scores: what the probabilities of a sigmoid or a softmax were computed from.

A loss that knows them takes the logarithm of a probability without ever rounding that probability to 0 or 1, whose
gradient would be lost. They travel with the array of probabilities itself, not with what is computed from it.
"""

from typing import Any

from lamina.core.notes import Notes
from lamina.core.state import Array

_scores = Notes()


def get_scores(probabilities: Any, function: str, axis: int = -1) -> Array | None:
    """The scores under ``probabilities``, if they are what ``function`` gave along ``axis``; else ``None``.

    Args:
        probabilities: the output of an activation.
        function: ``"sigmoid"`` or ``"softmax"``.
        axis: the axis of a softmax.
    """
    note = _scores.read(probabilities)
    if note is None or note[0] != function:
        return None
    if function == "softmax" and note[2] % probabilities.ndim != axis % probabilities.ndim:
        return None
    scores: Array = note[1]
    return scores


def set_scores(probabilities: Array, function: str, scores: Array, axis: int = -1) -> Array:
    """``probabilities``, with the ``scores`` that ``function`` computed them from."""
    _scores.write(probabilities, (function, scores, axis))
    return probabilities
