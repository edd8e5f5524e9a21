"""A piece of work: data of one kind, how they become arrays, and how results are shown. One class per kind of data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lamina import families, report
from lamina.core.errors import ConfigError, DataError, FileError
from lamina.data.pictures import SUFFIXES, find_pictures, load_pictures, read_pictures
from lamina.data.tables import TableSchema, check_schema, read_table, split_target
from lamina.families.base import held_out
from lamina.families.cnn import CNNClassifier
from lamina.families.fcnn import FCNNClassifier, FCNNRegressor
from lamina.families.tokenizer import read_texts
from lamina.families.transformer import TransformerLanguageModel

TABLES = (".csv", ".tsv", ".parquet", ".pq")
TEXTS = (".txt", ".md")


@dataclass
class Examples:
    """What is learnt from, an array, a table or a text; and what is to be learnt, a class name or a number for each."""

    x: Any
    y: Any = None

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: np.ndarray) -> "Examples":
        """The examples at ``index``."""
        return Examples(self.x[index], self.y[index])


@dataclass
class Pictures:
    """Work on pictures: a folder per class.

    Attributes:
        class_names: the names of the folders.
        reason: what was found in the data.
    """

    class_names: tuple[str, ...]
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
        return cls(found.class_names, reason), Examples(found.pictures, np.array(found.class_names)[found.labels])

    def estimator(self, **settings: Any) -> CNNClassifier:
        """The untrained network."""
        return CNNClassifier(**settings)

    def read(self, data: Path, estimator: Any) -> Examples:
        """Pictures with their classes, for evaluation."""
        if not data.is_dir():
            raise DataError(f"{data}: the model was trained on folders of pictures, so a folder is expected")
        found = read_pictures(data, estimator.shape_[:2], _color(estimator))
        unknown = sorted(set(found.class_names) - set(self.class_names))
        if unknown:
            raise DataError(f"{data}: class {unknown[0]!r} is not one that the model knows")
        return Examples(found.pictures, np.array(found.class_names)[found.labels])

    def read_features(self, data: Path, estimator: Any) -> tuple[list[str], Any]:
        """Names and features of pictures without classes: one file, or all below a folder."""
        paths = find_pictures(data)[0] if data.is_dir() else [data]
        if not paths:
            raise DataError(f"{data}: there are no pictures in it")
        if not data.is_dir() and data.suffix.lower() not in SUFFIXES:
            raise DataError(f"{data}: the model was trained on pictures, and this is not one by its name")
        return [str(path) for path in paths], load_pictures(paths, estimator.shape_[:2], _color(estimator))

    def to_dict(self) -> dict[str, Any]:
        """What the model file keeps."""
        return {"kind": "pictures", "class_names": list(self.class_names)}

    def draw(self, folder: Path, examples: Examples, predicted: np.ndarray) -> list[str]:
        """Leave the pictures that a person would want to look at; returns their names."""
        _draw_confusion(self.class_names, examples.y, predicted, folder)
        wrong = np.flatnonzero(predicted != examples.y)[:12]
        right = np.flatnonzero(predicted == examples.y)
        evenly = np.linspace(0, len(right) - 1, min(24 - len(wrong), len(right))).astype(int)
        shown = np.concatenate([wrong, right[evenly]])
        titles = [predicted[i] + (f" (is {examples.y[i]})" if predicted[i] != examples.y[i] else "") for i in shown]
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

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes; none for regression."""
        return self.schema.class_names

    @property
    def task(self) -> str:
        """``"classification"`` or ``"regression"``."""
        return self.schema.task

    @property
    def target(self) -> str:
        """The column that is predicted."""
        assert self.schema.target is not None
        return self.schema.target.name

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
        used = sum(column.kind != "dropped" for column in schema.columns)
        reason = (
            f"{len(frame):,} rows, {used} columns to learn from; {schema.reason}, by a fully connected network (FCNN)"
        )
        for name, why in schema.reasons.items():
            reason += f"\n  {name}: {why}"
        work = cls(schema, reason)
        return work, work._examples(frame, data)

    def estimator(self, **settings: Any) -> FCNNClassifier | FCNNRegressor:
        """The untrained network."""
        return (FCNNRegressor if self.task == "regression" else FCNNClassifier)(**settings)

    def _examples(self, frame: Any, data: Path) -> Examples:
        frame, y = split_target(frame, self.schema, str(data))
        return Examples(self._features(frame, data), np.array(self.class_names)[y] if self.class_names else y)

    def _features(self, frame: Any, data: Path) -> Any:
        return check_schema(frame, self.schema, str(data))

    def read(self, data: Path, estimator: Any) -> Examples:
        """Rows with their targets, for evaluation."""
        return self._examples(read_table(data), data)

    def read_features(self, data: Path, estimator: Any) -> tuple[list[str], Any]:
        """Numbers and features of rows, with or without a target."""
        frame = read_table(data)
        return [str(i + 1) for i in range(len(frame))], self._features(frame, data)

    def to_dict(self) -> dict[str, Any]:
        """What the model file keeps."""
        return {"kind": "table", "schema": self.schema.to_dict()}

    def draw(self, folder: Path, examples: Examples, predicted: np.ndarray) -> list[str]:
        """Leave the picture that a person would want to look at; returns its name."""
        if self.task == "regression":
            report.predicted_against_true(examples.y, predicted, folder / "predicted.png", self.target)
            return ["predicted.png"]
        _draw_confusion(self.class_names, examples.y, predicted, folder)
        return ["confusion.png"]


@dataclass
class Text:
    """Work on a text: a language model learns to go on with it.

    Attributes:
        reason: what was found in the data.
    """

    reason: str = ""
    kind: str = field(default="text", init=False)
    family = "TRANSFORMER"
    task = "generation"
    unit = "characters"
    class_names: tuple[str, ...] = ()

    @classmethod
    def find(cls, data: Path, target: str | None = None) -> "tuple[Text, Examples]":
        """What the file holds."""
        if target is not None:
            raise ConfigError("--target is for tables; of a text, what comes next is learnt")
        text = read_texts(data)[0]
        different = len(set(text))
        reason = f"{len(text):,} characters of text, {different} different ones: a transformer that goes on writing"
        return cls(reason), Examples(text)

    def estimator(self, **settings: Any) -> TransformerLanguageModel:
        """The untrained network."""
        return TransformerLanguageModel(**{name: value for name, value in settings.items() if value is not None})

    def read(self, data: Path, estimator: Any) -> Examples:
        """The text, for evaluation."""
        return Text.find(data)[1]

    def read_features(self, data: Path, estimator: Any) -> tuple[list[str], Any]:
        """There is nothing to predict."""
        raise ConfigError("the model goes on writing. Write:  lamina generate RUN")

    def to_dict(self) -> dict[str, Any]:
        """What the model file keeps."""
        return {"kind": "text"}


Work = Pictures | Table | Text


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
    elif data.suffix.lower() in TEXTS:
        kind = Text
    else:
        raise DataError(
            f"{data}: expected a table ({', '.join(TABLES)}), a text ({', '.join(TEXTS)}) or a folder with a folder of "
            "pictures for each class"
        )
    if family is not None and family.upper() != kind.family:
        raise ConfigError(f"--family {family} is not for {kind.unit}; {data} asks for {kind.family.lower()}")
    return kind.find(data, target)


def load_run(run: Path) -> tuple[Any, Work]:
    """The estimator of a run folder (or a model file) and the work it was trained for.

    Raises:
        FileError: if there is none, or it was not trained from the command line.
    """
    path = run / "model.safetensors" if run.is_dir() else run
    if not path.is_file():
        raise FileError(f"{run}: there is no model in it (expected {path.name} as lamina train leaves it)")
    estimator = families.load(path)
    source = getattr(estimator, "source_", {})
    if source.get("kind") == "pictures":
        return estimator, Pictures(tuple(source["class_names"]))
    if source.get("kind") == "table":
        return estimator, Table(TableSchema.from_dict(source["schema"]))
    if source.get("kind") == "text":
        return estimator, Text()
    raise FileError(f"{path}: the model does not say what data it is for; it was not made by lamina train")


def examined(work: Work, estimator: Any, examples: Examples, folder: Path | None = None) -> tuple[str, list[str]]:
    """How good an estimator is on examples, in one line; and the names of what is left in ``folder`` to look at."""
    if isinstance(work, Text):
        loss = -estimator.score(examples.x)
        left = []
        if folder is not None:
            (folder / "sample.txt").write_text(estimator.generate(max_tokens=500, temperature=0.8, random_state=0))
            left = ["sample.txt"]
        return described({"loss": loss, "perplexity": float(np.exp(loss))}), left
    predicted = estimator.predict(examples.x)
    left = [] if folder is None else work.draw(folder, examples, predicted)
    return described(scores(work, examples, predicted)), left


def scores(work: Work, examples: Examples, predicted: np.ndarray) -> dict[str, float]:
    """How good the predictions are, by name."""
    if work.task == "regression":
        error = predicted - examples.y
        spread = float(np.sum((examples.y - examples.y.mean()) ** 2))
        return {
            "root mean squared error": float(np.sqrt(np.mean(error**2))),
            "mean absolute error": float(np.mean(np.abs(error))),
            "R2": 1 - float(np.sum(error**2)) / spread if spread else float("nan"),
        }
    return {"accuracy": float(np.mean(predicted == examples.y))}


def described(numbers: dict[str, float]) -> str:
    """Scores in one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())


def split(work: Work, examples: Examples, share: float, seed: int) -> tuple[Examples, Examples]:
    """What to train on and what to hold back: the same share of each class, by a seed; of a text, its end.

    Raises:
        DataError: if a class has a single example, or a part would be empty.
    """
    if len(examples) * min(share, 1 - share) < 1:
        raise DataError(f"{len(examples)} examples are too few to train on some and test on others")
    if isinstance(work, Text):
        cut = int(len(examples) * (1 - share))
        return Examples(examples.x[:cut]), Examples(examples.x[cut:])
    classes = examples.y if work.task == "classification" else None
    for name in work.class_names:
        if np.sum(examples.y == name) == 1:
            raise DataError(
                f"class {name!r} has 1 example; at least 2 are needed, one to learn from and one to test on"
            )
    kept, away = held_out(len(examples), share, seed, classes)
    return examples.take(kept), examples.take(away)


def _color(estimator: Any) -> str:
    return "grayscale" if estimator.shape_[2] == 1 else "rgb"


def _draw_confusion(names: Sequence[str], true: np.ndarray, predicted: np.ndarray, folder: Path) -> None:
    place = {name: i for i, name in enumerate(names)}
    y, found = (np.array([place[name] for name in some]) for some in (true, predicted))
    report.confusion_matrix(y, found, names, folder / "confusion.png")
