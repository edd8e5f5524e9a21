"""What an estimator keeps in its model file beside the network: as JSON, and checked when it is read."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lamina.core.errors import ConfigError, shown
from lamina.core.registry import array_from
from lamina.data.tables import TableSchema

#: the largest whole number that says how long or how many something is
MOST = 2**20
DTYPES = ("bool", "uint8", "uint16", "uint32", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def encode(value: Any) -> Any:
    """``value`` as JSON holds it; arrays and tuples are marked.

    Raises:
        ConfigError: if it is of another type.
    """
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": "object" if value.dtype == object else value.dtype.str}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {"pairs": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"a setting of type {type(value).__name__} cannot be written to a file: {value!r}")


def decode(value: Any) -> Any:
    """The opposite of :func:`encode`.

    >>> decode(encode({"shape": (2, 3), 1: np.array([0.5], "float32")}))
    {'shape': (2, 3), 1: array([0.5], dtype=float32)}
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return array_from(value["array"], value["dtype"])
    if "tuple" in value:
        return tuple(decode(item) for item in value["tuple"])
    return {decode(key): decode(item) for key, item in value["pairs"]}


def check_fitted(name: str, value: Any, kept: Sequence[str]) -> None:
    """Refuse a value that no ``fit`` would have given the attribute ``name``.

    Args:
        name: the attribute.
        value: its value, from a file.
        kept: the attributes that the estimator keeps.

    Raises:
        ConfigError: naming both.
    """
    if name not in kept:
        raise ConfigError(f"it keeps nothing called {shown(name)}")
    if name in FITTED and not FITTED[name](value):
        raise ConfigError(f"{name} cannot be {shown(value)}")


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _names(value: Any) -> bool:
    return value is None or _texts(value)


def _numbers(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind in "biuf" and array.ndim <= 4 and bool(np.isfinite(array).all())


def _array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and _numbers(value)


def _labels(value: Any) -> bool:
    plain = isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "biufUO"
    return plain and all(isinstance(label, str | int | float | bool) for label in value.tolist())


def _shape(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) <= 4 and all(map(_count, value)) and math.prod(value) <= 2**27


def _dtype(value: Any) -> bool:
    return isinstance(value, str) and value in DTYPES


def _schema(value: Any) -> bool:
    return value is None or isinstance(TableSchema.from_dict(value), TableSchema)  # raises where it is none


def _history(value: Any) -> bool:
    lists = isinstance(value, dict) and all(isinstance(numbers, list) for numbers in value.values())
    return lists and all(isinstance(number, int | float) for numbers in value.values() for number in numbers)


#: attribute -> what it can be, in whichever family
FITTED: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("n_features_in_", "n_iter_", "features_", "channels_", "outputs_"), _count),
    **dict.fromkeys(("steps_", "horizon_", "window_", "context_"), _count),
    **dict.fromkeys(("multilabel_", "single_", "gray_", "text_", "ends_"), _truth),
    **dict.fromkeys(("level_", "task_", "vocabulary_"), _text),
    **dict.fromkeys(("names_", "input_names_"), _names),
    **dict.fromkeys(("mean_", "scale_", "range_"), _numbers),
    **dict.fromkeys(("last_", "last_inputs_", "errors_"), _array),
    **dict.fromkeys(("dtype_", "input_dtype_"), _dtype),
    **dict.fromkeys(("classes_", "feature_names_in_"), _labels),
    "shape_": _shape,
    "tokens_": _texts,
    "schema_": _schema,
    "history_": _history,
    "source_": lambda value: isinstance(value, dict),
}
