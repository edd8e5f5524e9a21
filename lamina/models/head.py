"""The output layer, loss and metric that belong to a kind of target."""

from typing import Any, NamedTuple

import numpy as np

from lamina.core.errors import DataError
from lamina.data.batches import to_array
from lamina.layers import Dense, Layer


class Head(NamedTuple):
    """How a network ends for some targets.

    Attributes:
        layer: the output layer.
        loss: the name of the loss.
        metrics: the names of metrics.
        reason: why, in one sentence.
    """

    layer: Layer
    loss: str
    metrics: list[str]
    reason: str


def head_for(y: Any) -> Head:
    """The output layer, loss and metric for targets like ``y``.

    Two classes give ``Dense(1, "sigmoid")`` with binary cross-entropy; n classes ``Dense(n, "softmax")`` with (sparse)
    categorical cross-entropy; several labels at once n sigmoids; numbers ``Dense(n)`` with mean squared error.

    Args:
        y: whole numbers or booleans for classes, one-hot rows, rows of zeros and ones, or real numbers.

    Raises:
        DataError: for texts, for classes that are not ``0..n-1``, and for empty or one-class targets.

    >>> head_for(np.array([0, 2, 1, 1])).loss
    'sparse_categorical_crossentropy'
    """
    y = to_array(y, "y")
    y = np.asarray(y)
    if y.size == 0:
        raise DataError("y is empty; a head is chosen by the targets.")
    if y.dtype.kind in "OSUT":
        raise DataError(
            "y holds texts; a network counts classes from 0.\n"
            "Write:  class_names, y = np.unique(y, return_inverse=True)"
        )
    width = 1 if y.ndim == 1 else y.shape[-1]
    whole = y.dtype.kind in "biu" or bool(np.isin(y, (0, 1)).all())
    if y.ndim > 1 and width > 1 and whole and bool(np.isin(y, (0, 1)).all()):
        if bool((y.sum(-1) == 1).all()):
            reason = f"each row of y has a single 1 among {width}: one-hot classes"
            return Head(Dense(width, activation="softmax"), "categorical_crossentropy", ["accuracy"], reason)
        reason = f"rows of y hold {width} zeros and ones: several labels at once"
        return Head(Dense(width, activation="sigmoid"), "binary_crossentropy", ["binary_accuracy"], reason)
    if whole and width == 1:
        classes = np.unique(y)
        if len(classes) == 1:
            raise DataError(f"every target is {classes[0]}; a classifier needs at least two classes.")
        if classes[0] < 0:
            raise DataError(f"classes are counted from 0; y holds {classes[0]}.")
        count = int(classes[-1]) + 1
        if count == 2:
            reason = "y has two classes"
            return Head(Dense(1, activation="sigmoid"), "binary_crossentropy", ["accuracy"], reason)
        reason = f"y has {count} classes, 0 to {count - 1}"
        return Head(Dense(count, activation="softmax"), "sparse_categorical_crossentropy", ["accuracy"], reason)
    reason = "y holds real numbers" if width == 1 else f"y holds {width} real numbers for each example"
    return Head(Dense(width), "mean_squared_error", ["mean_absolute_error"], reason)
