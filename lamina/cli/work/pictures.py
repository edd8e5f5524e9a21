"""Pictures, with or without a folder for each class; and those of classes: a convolutional network tells them apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lamina import report
from lamina.cli.work.base import Examples, Result
from lamina.cli.work.classes import Classification, some
from lamina.core.errors import DataError
from lamina.data.pictures import SUFFIXES, find_pictures, load_pictures, read_pictures


@dataclass(kw_only=True)
class Pictures(Classification):
    """Classes of pictures, from a folder for each."""

    kind = "pictures"
    unit = "pictures"
    one = "picture"
    does = "tells pictures apart"
    use = "predict RUN DATA"
    estimators: ClassVar[Mapping[str, str]] = {"cnn": "CNNClassifier"}

    @classmethod
    def find(cls, data: Path, family: str) -> tuple["Pictures", Examples]:
        """What the folder holds."""
        found = read_pictures(data)
        reason = (
            f"{len(found):,} {kind_of(found.pictures.shape[1:])} in {len(found.class_names)} folders: a convolutional "
            f"network (CNN) that tells {len(found.class_names)} classes apart"
        )
        work = cls(family=family, reason=reason, class_names=found.class_names)
        return work, Examples(found.pictures, np.array(found.class_names)[found.labels])

    def about(self, estimator: Any) -> list[str]:
        return [f"For {kind_of(estimator.shape_)}: {some(self.class_names)}"]

    def read(self, data: Path, estimator: Any, answers: bool = True) -> Examples:
        if not answers:
            return read_as(data, estimator.shape_)
        if not data.is_dir():
            raise DataError(f"{data}: the model was trained on folders of pictures, so a folder is expected")
        found = read_pictures(data, estimator.shape_[:2], color_of(estimator.shape_))
        unknown = sorted(set(found.class_names) - set(self.class_names))
        if unknown:
            raise DataError(f"{data}: class {unknown[0]!r} is not one that the model knows")
        return Examples(found.pictures, np.array(found.class_names)[found.labels])

    def draw(self, folder: Path, estimator: Any, unseen: Examples | None, result: Result | None) -> list[str]:
        left = super().draw(folder, estimator, unseen, result)
        assert unseen is not None
        assert result is not None
        predicted = result.predicted
        wrong = np.flatnonzero(predicted != unseen.y)[:12]
        right = np.flatnonzero(predicted == unseen.y)
        evenly = np.linspace(0, len(right) - 1, min(24 - len(wrong), len(right))).astype(int)
        shown = np.concatenate([wrong, right[evenly]])
        titles = [predicted[i] + (f" (is {unseen.y[i]})" if predicted[i] != unseen.y[i] else "") for i in shown]
        report.picture_grid(unseen.x[shown], titles, folder / "examples.png", wrong=(predicted != unseen.y)[shown])
        return [*left, "examples.png"]


def class_folders(folder: Path) -> list[str]:
    """The folders in a folder, which may be those of classes."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def picture_files(data: Path) -> list[Path]:
    """One picture, or all below a folder.

    Raises:
        DataError: if there are none.
    """
    paths = find_pictures(data)[0] if data.is_dir() else [data]
    if not paths:
        raise DataError(f"{data}: there are no pictures in it")
    if paths[0].suffix.lower() not in SUFFIXES:
        raise DataError(f"{data}: a picture is expected, or a folder of pictures; this is none by its name")
    return paths


def read_as(data: Path, shape: tuple[int, ...] | None = None) -> Examples:
    """One picture or all below a folder, with their classes where the folder has one for each.

    Args:
        data: the file or folder.
        shape: height, width and channels that they are to have; as most of them are if ``None``.
    """
    size, color = (None, "auto") if shape is None else (shape[:2], color_of(shape))
    paths = picture_files(data)
    names = [str(path) for path in paths]
    classes = None
    if data.is_dir() and len(class_folders(data)) > 1 and not any(path.parent == data for path in paths):
        classes = np.array([path.relative_to(data).parts[0] for path in paths])
    return Examples(load_pictures(paths, size, color), classes, names)  # type: ignore[arg-type]


def color_of(shape: tuple[int, ...]) -> str:
    """How :func:`load_pictures` calls pictures with so many channels."""
    return "grayscale" if shape[2] == 1 else "rgb"


def kind_of(shape: tuple[int, ...]) -> str:
    """What to call pictures of a height, a width and channels.

    >>> kind_of((28, 28, 1))
    'gray pictures of 28 x 28'
    """
    return f"{'gray' if shape[2] == 1 else 'color'} pictures of {shape[0]} x {shape[1]}"
