"""A piece of work: data of one kind, how they become arrays, and how results are shown. One class per kind of data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lamina import report
from lamina.core.errors import ConfigError, DataError, FileError
from lamina.data.pictures import SUFFIXES, find_pictures, load_pictures, read_pictures
from lamina.data.tables import TableEncoder, TableSchema, read_table, split_target
from lamina.families import cnn, fcnn

TABLES = (".csv", ".tsv", ".parquet", ".pq")


@dataclass
class Examples:
    """Features and targets as arrays; each feature with the examples along its first axis."""

    x: Any
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: np.ndarray) -> "Examples":
        """The examples at ``index``."""
        x = {k: v[index] for k, v in self.x.items()} if isinstance(self.x, dict) else self.x[index]
        return Examples(x, self.y[index])


@dataclass
class Pictures:
    """Work on pictures: a folder per class.

    Attributes:
        class_names: the names of the folders.
        size: height and width that every picture is brought to.
        color: ``"grayscale"`` or ``"rgb"``.
        reason: what was found in the data.
    """

    class_names: tuple[str, ...]
    size: tuple[int, int]
    color: str
    reason: str = ""
    kind: str = field(default="pictures", init=False)
    family = "CNN"
    task = "classification"
    unit = "pictures"

    @classmethod
    def find(cls, data: Path, target: str | None = None) -> "tuple[Pictures, Examples]":
        """What the folder holds."""
        if target is not None:
            raise ConfigError("--target is for tables; in a folder of pictures the folders' names are the classes")
        found = read_pictures(data)
        height, width = found.size
        reason = (
            f"{len(found):,} {'gray' if found.color == 'grayscale' else 'color'} pictures of {height} x {width} in "
            f"{len(found.class_names)} folders: a convolutional network (CNN) that tells "
            f"{len(found.class_names)} classes apart"
        )
        return cls(found.class_names, found.size, found.color, reason), Examples(found.pictures, found.labels)

    def read(self, data: Path) -> Examples:
        """Pictures with their classes, for evaluation."""
        if not data.is_dir():
            raise DataError(f"{data}: the model was trained on folders of pictures, so a folder is expected")
        found = read_pictures(data, self.size, self.color)
        unknown = sorted(set(found.class_names) - set(self.class_names))
        if unknown:
            raise DataError(f"{data}: class {unknown[0]!r} is not one that the model knows")
        place = np.array([self.class_names.index(name) for name in found.class_names], "int32")
        return Examples(found.pictures, place[found.labels])

    def read_features(self, data: Path) -> tuple[list[str], Any]:
        """Names and features of pictures without classes: one file, or all below a folder."""
        paths = find_pictures(data)[0] if data.is_dir() else [data]
        if not paths:
            raise DataError(f"{data}: there are no pictures in it")
        if not data.is_dir() and data.suffix.lower() not in SUFFIXES:
            raise DataError(f"{data}: the model was trained on pictures, and this is not one by its name")
        return [str(path) for path in paths], load_pictures(paths, self.size, self.color)

    def network(self, examples: Examples) -> Any:
        """The network for these examples."""
        return cnn.network(examples.x.shape[1:], len(self.class_names))

    recipe = cnn

    def to_dict(self) -> dict[str, Any]:
        """What the model file keeps."""
        return {"kind": "pictures", "class_names": list(self.class_names), "size": list(self.size), "color": self.color}

    def draw(self, folder: Path, examples: Examples, outputs: np.ndarray) -> list[str]:
        """Leave the pictures that a person would want to look at; returns their names."""
        predicted = classes_of(outputs)
        report.confusion_matrix(examples.y, predicted, self.class_names, folder / "confusion.png")
        wrong = np.flatnonzero(predicted != examples.y)[:12]
        right = np.flatnonzero(predicted == examples.y)
        evenly = np.linspace(0, len(right) - 1, min(24 - len(wrong), len(right))).astype(int)
        shown = np.concatenate([wrong, right[evenly]])
        titles = [
            self.class_names[predicted[i]]
            + (f" (is {self.class_names[examples.y[i]]})" if predicted[i] != examples.y[i] else "")
            for i in shown
        ]
        report.picture_grid(examples.x[shown], titles, folder / "examples.png", wrong=(predicted != examples.y)[shown])
        return ["confusion.png", "examples.png"]


@dataclass
class Table:
    """Work on a table: one column is predicted from the others.

    Attributes:
        schema: what the columns mean.
        reason: what was found in the data.
    """

    schema: TableSchema
    reason: str = ""
    kind: str = field(default="table", init=False)
    family = "FCNN"
    unit = "rows"
    recipe = fcnn

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes; none for regression."""
        return self.schema.class_names

    @property
    def task(self) -> str:
        """``"classification"`` or ``"regression"``."""
        return self.schema.task

    @classmethod
    def find(cls, data: Path, target: str | None = None) -> "tuple[Table, Examples]":
        """What the table holds."""
        frame = read_table(data)
        if target is None:
            raise ConfigError(
                f"{data}: say which column to predict, as --target {frame.columns[-1]!r}; there are: "
                + ", ".join(frame.columns)
            )
        schema = TableSchema.infer(frame, target, name=str(data))
        network = "a fully connected network (FCNN)"
        used = sum(column.kind != "dropped" for column in schema.columns)
        reason = f"{len(frame):,} rows, {used} columns to learn from; {schema.reason}, by {network}"
        for name, why in schema.reasons.items():
            reason += f"\n  {name}: {why}"
        work = cls(schema, reason)
        frame, y = split_target(frame, schema, str(data))
        return work, Examples(work._features(frame, data), y)

    def _features(self, frame: Any, data: Path) -> dict[str, np.ndarray]:
        return fcnn.columns(TableEncoder(self.schema).encode(frame, str(data)))

    def read(self, data: Path) -> Examples:
        """Rows with their targets, for evaluation."""
        frame, y = split_target(read_table(data), self.schema, str(data))
        return Examples(self._features(frame, data), y)

    def read_features(self, data: Path) -> tuple[list[str], Any]:
        """Numbers and features of rows, with or without a target."""
        frame = read_table(data)
        return [str(i + 1) for i in range(len(frame))], self._features(frame, data)

    def network(self, examples: Examples) -> Any:
        """The network for these examples."""
        features = {k: v[:, 0] if v.dtype.kind == "U" else v for k, v in examples.x.items()}
        return fcnn.network(self.schema, features, examples.y)

    def to_dict(self) -> dict[str, Any]:
        """What the model file keeps."""
        return {"kind": "table", "schema": self.schema.to_dict()}

    def draw(self, folder: Path, examples: Examples, outputs: np.ndarray) -> list[str]:
        """Leave the picture that a person would want to look at; returns its name."""
        if self.task == "regression":
            assert self.schema.target is not None
            name = self.schema.target.name
            report.predicted_against_true(examples.y, outputs[:, 0], folder / "predicted.png", name)
            return ["predicted.png"]
        report.confusion_matrix(examples.y, classes_of(outputs), self.class_names, folder / "confusion.png")
        return ["confusion.png"]


Work = Pictures | Table


def find_work(data: Path, target: str | None, family: str | None) -> tuple[Work, Examples]:
    """The work that some data ask for.

    Raises:
        DataError: if the data are of no kind that is known.
        ConfigError: if the family asked for is not for them.
    """
    if not data.exists():
        raise DataError(f"there is no file or folder {data}")
    if data.is_dir():
        kind: type[Work] = Pictures
    elif data.suffix.lower() in TABLES:
        kind = Table
    else:
        raise DataError(
            f"{data}: expected a table ({', '.join(TABLES)}) or a folder with a folder of pictures for each class"
        )
    if family is not None and family.upper() != kind.family:
        raise ConfigError(f"--family {family} is not for {kind.unit}; {data} asks for {kind.family.lower()}")
    return kind.find(data, target)


def load_run(run: Path) -> tuple[Any, Work]:
    """The model of a run folder (or a model file) and the work it was trained for.

    Raises:
        FileError: if there is none, or it was not trained from the command line.
    """
    from lamina.saving import load_model

    path = run / "model.safetensors" if run.is_dir() else run
    if not path.is_file():
        raise FileError(f"{run}: there is no model in it (expected {path.name} as lamina train leaves it)")
    model = load_model(path)
    task = model.task or {}
    if task.get("kind") == "pictures":
        height, width = task["size"]
        return model, Pictures(tuple(task["class_names"]), (height, width), task["color"])
    if task.get("kind") == "table":
        return model, Table(TableSchema.from_dict(task["schema"]))
    raise FileError(f"{path}: the model does not say what data it is for; it was not made by lamina train")


def classes_of(outputs: np.ndarray) -> np.ndarray:
    """The class of each row of probabilities: a single column is the probability of class 1."""
    return (outputs[:, 0] > 0.5).astype("int32") if outputs.shape[1] == 1 else outputs.argmax(1).astype("int32")


def scores(work: Work, examples: Examples, outputs: np.ndarray) -> dict[str, float]:
    """How good the outputs are, by name."""
    if work.task == "regression":
        error = outputs[:, 0] - examples.y
        spread = float(np.sum((examples.y - examples.y.mean()) ** 2))
        return {
            "root mean squared error": float(np.sqrt(np.mean(error**2))),
            "mean absolute error": float(np.mean(np.abs(error))),
            "R2": 1 - float(np.sum(error**2)) / spread if spread else float("nan"),
        }
    return {"accuracy": float(np.mean(classes_of(outputs) == examples.y))}


def described(numbers: dict[str, float]) -> str:
    """Scores in one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())


def split(work: Work, examples: Examples, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rows to train on and of those held back: the same share of each class, by a seed.

    Raises:
        DataError: if a class has a single example, or a part would be empty.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    groups: Sequence[np.ndarray] = [np.arange(len(examples))]
    if work.task == "classification":
        groups = [np.flatnonzero(examples.y == label) for label in range(len(work.class_names))]
        for label, members in enumerate(groups):
            if len(members) < 2:
                raise DataError(
                    f"class {work.class_names[label]!r} has {len(members)} example{'s' * (len(members) != 1)}; at least "
                    "2 are needed, one to learn from and one to test on"
                )
    train, test = [], []
    for members in groups:
        members = rng.permutation(members)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        test.append(members[:count])
        train.append(members[count:])
    first, rest = np.concatenate(train), np.concatenate(test)
    if not len(first) or not len(rest):
        raise DataError(f"{len(examples)} examples are too few to train on some and test on others")
    return rng.permutation(first), np.sort(rest)
