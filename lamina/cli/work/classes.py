"""What all works with classes share: how often they are right, the confusion matrix, predictions with probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from lamina import report
from lamina.cli.work.base import Examples, Result, Rows, Work


@dataclass(kw_only=True)
class Classification(Work):
    """Work whose answers are classes.

    Attributes:
        class_names: the classes.
    """

    #: what an example is called in the table of predictions
    one: ClassVar[str] = "row"

    class_names: tuple[str, ...] = ()

    def to_dict(self, estimator: Any) -> dict[str, Any]:
        return super().to_dict(estimator) | {"class_names": list(self.class_names)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        return cls(family=saved["family"], class_names=tuple(saved["class_names"]))

    def classes_of(self, examples: Examples) -> np.ndarray | None:
        return examples.y

    def examine(self, estimator: Any, examples: Examples) -> Result:
        predicted = estimator.predict(examples.x)
        width = max(len(name) for name in self.class_names)
        lines = []
        for name in self.class_names:
            members = examples.y == name
            if members.any():
                right = int((predicted[members] == name).sum())
                lines.append(f"  {name:<{width}}  {right:>6,} of {int(members.sum()):>6,} right")
        return Result({"accuracy": float(np.mean(predicted == examples.y))}, lines, predicted)

    def draw(self, folder: Path, estimator: Any, unseen: Examples | None, result: Result | None) -> list[str]:
        assert unseen is not None
        assert result is not None
        place = {name: i for i, name in enumerate(self.class_names)}
        true, predicted = (np.array([place[name] for name in some]) for some in (unseen.y, result.predicted))
        report.confusion_matrix(true, predicted, self.class_names, folder / "confusion.png")
        return ["confusion.png"]

    def predict(self, estimator: Any, data: Path) -> Rows:
        examples = self.read(data, estimator, answers=False)
        p = estimator.predict_proba(examples.x)
        answers = estimator.classes_[p.argmax(axis=1)]
        rows = zip(examples.names, answers, p.max(axis=1), strict=True)
        return [self.one, "prediction", "probability"], [[name, str(a), f"{sure:.4f}"] for name, a, sure in rows]


def some(names: Sequence[str], most: int = 12) -> str:
    """The first of the names.

    >>> some(["oak", "elm", "ash"], 2)
    'oak, elm and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
