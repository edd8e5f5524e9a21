"""Tables: one column is predicted from the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from lamina import families, report
from lamina.cli.work.base import Examples, Result, Rows
from lamina.cli.work.classes import Classification
from lamina.core.errors import ConfigError
from lamina.data.tables import TableSchema, check_schema, read_table, split_target

if TYPE_CHECKING:
    import polars as pl


@dataclass(kw_only=True)
class Table(Classification):
    """Classes or numbers from the columns of a table.

    Attributes:
        schema: what the columns mean.
    """

    kind = "table"
    unit = "rows"
    does = "predicts a column of a table"
    use = "predict RUN DATA"

    schema: TableSchema

    def __post_init__(self) -> None:
        self.class_names = self.schema.class_names

    @classmethod
    def find(cls, data: Path, frame: "pl.DataFrame", target: str | None, family: str) -> tuple["Table", Examples]:
        """What the table holds."""
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
        work = cls(family=family, reason=reason, schema=schema)
        return work, work.examples(frame, data)

    @property
    def target(self) -> str:
        """The column that is predicted."""
        assert self.schema.target is not None
        return self.schema.target.name

    def estimator_class(self) -> Any:
        return families.FCNNClassifier if self.class_names else families.FCNNRegressor

    def to_dict(self, estimator: Any) -> dict[str, Any]:
        return {"kind": self.kind, "family": self.family, "schema": self.schema.to_dict()}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        return cls(family=saved["family"], schema=TableSchema.from_dict(saved["schema"]))

    def about(self, estimator: Any) -> list[str]:
        columns = [
            f"  {column.name}: {column.kind}" + (f" ({column.reason})" if column.reason else "")
            for column in self.schema.columns
        ]
        return [f"For tables: {self.target} ({self.schema.task}) from", *columns]

    # -- reading -------------------------------------------------------------------------------------------------------

    def examples(self, frame: "pl.DataFrame", data: Path) -> Examples:
        """The rows that have a target."""
        frame, y = split_target(frame, self.schema, str(data))
        return Examples(self.features(frame, data), np.array(self.class_names)[y] if self.class_names else y)

    def features(self, frame: "pl.DataFrame", data: Path) -> Any:
        """The columns that are learnt from."""
        return check_schema(frame, self.schema, str(data))

    def read(self, data: Path, estimator: Any, answers: bool = True) -> Examples:
        frame = read_table(data)
        if answers:
            return self.examples(frame, data)
        return Examples(self.features(frame, data), names=[str(i + 1) for i in range(len(frame))])

    # -- numbers in the place of classes -------------------------------------------------------------------------------

    def classes_of(self, examples: Examples) -> np.ndarray | None:
        return examples.y if self.class_names else None

    def examine(self, estimator: Any, examples: Examples) -> Result:
        if self.class_names:
            return super().examine(estimator, examples)
        predicted = estimator.predict(examples.x)
        error = predicted - examples.y
        spread = float(np.sum((examples.y - examples.y.mean()) ** 2))
        scores = {
            "root mean squared error": float(np.sqrt(np.mean(error**2))),
            "mean absolute error": float(np.mean(np.abs(error))),
            "R2": 1 - float(np.sum(error**2)) / spread if spread else float("nan"),
        }
        return Result(scores, predicted=predicted)

    def draw(self, folder: Path, estimator: Any, unseen: Examples | None, result: Result | None) -> list[str]:
        if self.class_names:
            return super().draw(folder, estimator, unseen, result)
        assert unseen is not None
        assert result is not None
        report.predicted_against_true(unseen.y, result.predicted, folder / "predicted.png", self.target)
        return ["predicted.png"]

    def predict(self, estimator: Any, data: Path) -> Rows:
        if self.class_names:
            return super().predict(estimator, data)
        examples = self.read(data, estimator, answers=False)
        numbers = zip(examples.names, estimator.predict(examples.x), strict=True)
        return [self.one, self.target], [[name, f"{value:.6g}"] for name, value in numbers]
