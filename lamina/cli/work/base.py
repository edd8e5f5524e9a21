"""What every command asks of a piece of work: data of one kind, and a network that learns from them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from lamina import families
from lamina.core.errors import ConfigError, DataError

#: a table to print or to write: the names of its columns, and its rows
Rows = tuple[list[str], list[list[str]]]


@dataclass
class Examples:
    """What is learnt from or judged on.

    Attributes:
        x: an array, a table, a text, or a list of pictures.
        y: a class name or a number for each example, if they are known.
        names: what each is called: a row's number, a picture's path, a step's date.
        start: the first example that counts; a forecast looks back on those before it.
    """

    x: Any
    y: Any = None
    names: Any = ()
    start: int = 0

    def __len__(self) -> int:
        return len(self.x) - self.start

    def take(self, index: np.ndarray) -> "Examples":
        """The examples at ``index``."""
        x = [self.x[i] for i in index] if isinstance(self.x, list) else self.x[index]
        y = None if self.y is None else self.y[index]
        return Examples(x, y, [self.names[i] for i in index] if len(self.names) else ())


@dataclass
class Result:
    """How good an estimator is on examples.

    Attributes:
        scores: numbers by name.
        lines: what to say beside them.
        predicted: what the estimator made of the examples; for the pictures that are drawn.
    """

    scores: dict[str, float]
    lines: list[str] = field(default_factory=list)
    predicted: Any = None

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in self.scores.items())


@dataclass(kw_only=True)
class Work:
    """Data of one kind and what is done with them: the one interface that all commands use.

    A subclass has a way to find itself in data (see ``choice.py``) and overrides what has a meaning for it. What has none is
    refused, with the command to write instead.

    Attributes:
        family: the name after ``--family``.
        reason: what was found in the data, and what is made of it.
    """

    #: its name in model files; what its examples are called; what its networks do; the command that uses them
    kind: ClassVar[str]
    unit: ClassVar[str]
    does: ClassVar[str]
    use: ClassVar[str]
    #: name after ``--family`` -> the estimator's class
    estimators: ClassVar[Mapping[str, str]]
    #: few data are passed over more often, until so many steps are made
    least_steps: ClassVar[int] = 0

    family: str
    reason: str = ""

    # -- training ------------------------------------------------------------------------------------------------------

    def split(self, examples: Examples, share: float | None, seed: int) -> tuple[Examples, Examples | None]:
        """What to learn from, and what is held back for the test: a share of each class, by a seed.

        Raises:
            DataError: if there are too few examples.
        """
        share = TEST_SPLIT if share is None else share
        if len(examples) < 2:
            raise DataError(f"{len(examples)} examples are too few to train on some and test on others")
        learnt, unseen = parted(len(examples), share, seed, self.classes_of(examples))
        return examples.take(learnt), examples.take(unseen)

    def classes_of(self, examples: Examples) -> np.ndarray | None:
        """The class of each example, of which the test gets the same share; ``None`` if there are none."""
        return None

    def estimator(self, settings: Mapping[str, Any], learnt: Examples, unseen: Examples | None) -> Any:
        """The untrained estimator.

        Args:
            settings: what its arguments are set to.
            learnt: what it will be trained on, for what is chosen by the data.
            unseen: what it will be tested on.
        """
        found = self.estimator_class()(**settings)
        if "epochs" not in settings and found.epochs is not None:
            wanted = self.least_steps * self.in_a_step(found) / len(learnt)
            found.epochs = max(found.epochs, min(math.ceil(wanted), MOST_EPOCHS))
        return found

    def in_a_step(self, estimator: Any) -> int:
        """How many of what is counted in ``unit`` a step of training takes."""
        return int(estimator.batch_size)

    def estimator_class(self) -> Any:
        """The class of the estimator."""
        return getattr(families, self.estimators[self.family])

    def draw(self, folder: Path, estimator: Any, unseen: Examples | None, result: Result | None) -> list[str]:
        """Leave in ``folder`` what a person would want to look at after training; returns the files' names."""
        return []

    # -- the model file ------------------------------------------------------------------------------------------------

    def to_dict(self, estimator: Any) -> dict[str, Any]:
        """What the model file keeps of the data, beside what the estimator keeps itself."""
        return {"kind": self.kind, "family": self.family}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """The work that :meth:`to_dict` gave."""
        return cls(family=saved["family"])

    def about(self, estimator: Any) -> list[str]:
        """What data the model is for, in lines."""
        return []

    # -- the commands --------------------------------------------------------------------------------------------------

    def read(self, data: Path, estimator: Any, answers: bool = True) -> Examples:
        """New data of the same kind; with ``answers``, they are needed."""
        raise NotImplementedError

    def examine(self, estimator: Any, examples: Examples) -> Result:
        """How good the estimator is on examples."""
        raise self.refusal("evaluate")

    def predict(self, estimator: Any, data: Path) -> Rows:
        """A prediction for each example."""
        raise self.refusal("predict")

    def write(self, estimator: Any, **wishes: Any) -> Iterator[str]:
        """A text, piece by piece."""
        raise self.refusal("generate")

    def sample(self, estimator: Any, **wishes: Any) -> tuple[np.ndarray, list[str]]:
        """Pictures, and their titles if they have some."""
        raise self.refusal("generate")

    def forecast(self, estimator: Any, data: Path | None, horizon: int | None, picture: Path) -> Rows:
        """What comes after the end of a series; also drawn."""
        raise self.refusal("forecast")

    def reduce(self, estimator: Any, data: Path, picture: Path) -> Rows:
        """A few numbers for each example; also drawn."""
        raise self.refusal("reduce")

    def upscale(self, estimator: Any, data: Path, out: Path | None, picture: Path) -> list[Path]:
        """Larger pictures, written; some of them also drawn before and after. Returns their files."""
        raise self.refusal("upscale")

    def refusal(self, command: str) -> ConfigError:
        """The error of a command that has no meaning here."""
        return ConfigError(f"lamina {command} is not for a model that {self.does}. Write:  lamina {self.use}")


#: the share that is held back for the test, and how often data are passed over at most to make a number of steps
TEST_SPLIT, MOST_EPOCHS = 0.2, 300


def parted(size: int, share: float, seed: int, classes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Places of the examples to learn from and of those to test on, at least one of each, by a seed.

    Raises:
        DataError: if a class has a single example.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    groups = [np.arange(size)] if classes is None else [np.flatnonzero(classes == c) for c in np.unique(classes)]
    away = []
    for members in groups:
        if len(members) == 1 and classes is not None:
            raise DataError(
                f"class {str(classes[members[0]])!r} has 1 example; at least 2 are needed, one to learn from and one to "
                "test on"
            )
        members = rng.permutation(members)
        away.append(members[: min(max(round(share * len(members)), size < 20), len(members) - 1)])
    unseen = np.sort(np.concatenate(away))
    return np.setdiff1d(np.arange(size), unseen), unseen
