"""Classes as numbers from 0, and how much each of them counts."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lamina.core.errors import ConfigError, DataError, ShapeError


def encoded(y: Any, rows: int, least: int = 2, before: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The classes that occur, sorted, and the place of each example's class among them.

    Args:
        y: the class of each example.
        rows: how many examples there are.
        least: how many examples each class needs.
        before: the classes of an earlier training that goes on: they stay, and no others may occur.

    Returns:
        The classes, and int32 ``(rows,)``.

    Raises:
        DataError: if a class is missing, there is but one, or one has too few examples.
        ShapeError: if there is not one class for each example.

    >>> encoded(["b", "a", "b", "a"], 4)[1].tolist()
    [1, 0, 1, 0]
    """
    if y is None:
        raise DataError("fit expects the class of each example.\nWrite:  fit(X, y)")
    y = np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.shape != (rows,):
        raise ShapeError(f"y is expected to hold one class for each of {rows} examples; received shape {y.shape}")
    refuse_missing(y)
    try:
        classes, places, counts = np.unique(y, return_inverse=True, return_counts=True)
    except TypeError:
        raise DataError(
            "y mixes classes of several types, as texts and numbers.\nWrite:  y = [str(v) for v in y]"
        ) from None
    if before is not None:
        new = [name for name in classes.tolist() if name not in before.tolist()]
        if new:
            raise DataError(
                f"with warm_start, the classes are those of before: {before.tolist()}; received {new[0]!r}.\n"
                "Write:  set_params(warm_start=False)"
            )
        return before, np.searchsorted(before, y).astype("int32")
    if len(classes) < 2:
        raise DataError(f"every example has the class {str(classes[0])!r}; a classifier needs at least two classes.")
    if counts.min() < least:
        few, count = classes[counts.argmin()], int(counts.min())
        raise DataError(
            f"class {str(few)!r} has {count} example{'s' * (count != 1)}; at least {least} are needed.\n"
            "Leave the class out, or join it with another."
        )
    return classes, places.astype("int32")


def refuse_missing(y: np.ndarray) -> None:
    """Refuse classes that are None or NaN.

    Raises:
        DataError: naming the first one.
    """
    for i, value in enumerate(y.ravel().tolist()):
        # "<NA>" is how pandas writes its own missing value, which cannot be compared
        if not isinstance(value, str) and (value is None or str(value) == "<NA>" or value != value):
            raise DataError(f"y holds missing classes (None or NaN); the first is y[{i}].\nLeave those examples out.")


def class_weights(
    weight: Mapping[Any, float] | str | None, classes: np.ndarray, y: np.ndarray
) -> dict[int, float] | None:
    """The factor of each class, by its place in ``classes``.

    Args:
        weight: ``"balanced"`` for factors that give every class the same sum; a factor for each class (1 for those that
            are not named); or ``None``.
        classes: the classes.
        y: the place of each example's class among them.

    Raises:
        ConfigError: for anything else, or a class that there is not.

    >>> class_weights("balanced", np.array(["a", "b"]), np.array([0, 0, 0, 1]))
    {0: 0.6666666666666666, 1: 2.0}
    """
    if weight is None:
        return None
    if isinstance(weight, str) and weight == "balanced":
        counts = np.maximum(np.bincount(y, minlength=len(classes)), 1)
        return {k: len(y) / (len(classes) * int(n)) for k, n in enumerate(counts)}
    if not isinstance(weight, Mapping):
        raise ConfigError(f'class_weight is "balanced", a dictionary class -> factor, or None; received {weight!r}')
    known = classes.tolist()
    for name, value in weight.items():
        if name not in known:
            raise ConfigError(f"class_weight names {name!r}, which is not a class. There are: {known}")
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ConfigError(f"class_weight is a number of at least 0 for each class; received {value!r} for {name!r}")
    return {k: float(weight.get(name, 1.0)) for k, name in enumerate(known)}
