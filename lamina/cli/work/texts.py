"""Tables with a column of free text: a class is told from what is written there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lamina import families
from lamina.cli.work.base import Examples
from lamina.cli.work.table import Table
from lamina.data.tables import TableSchema, check_schema
from lamina.data.tables.base import dtype_of

if TYPE_CHECKING:
    import polars as pl

#: a column of texts that are mostly different and have so many words is taken for free text, and to be learnt from alone
WORDS = 6
NETWORKS = {"rnn": "a recurrent network (RNN)", "transformer": "a transformer"}


@dataclass(kw_only=True)
class Texts(Table):
    """Classes of texts. Several columns of free text are read one after the other."""

    kind = "texts"
    unit = "texts"
    does = "tells texts apart"
    estimators: ClassVar[Mapping[str, str]] = {"rnn": "RNNClassifier", "transformer": "TransformerClassifier"}
    least_steps = 500

    @classmethod
    def find_texts(
        cls, data: Path, frame: "pl.DataFrame", target: str, columns: list[str], family: str
    ) -> tuple["Texts", Examples]:
        """What the columns of free text hold."""
        kinds = dict.fromkeys(columns, "category")
        schema = TableSchema.infer(frame.select([*columns, target]), target, kinds, "classification", str(data))
        words = int(np.median([len(text.split()) for text in joined(frame.select(columns))]))
        left_out = [name for name in frame.columns if name not in (*columns, target)]
        reason = (
            f"{len(frame):,} rows; {' and '.join(columns)} {'is' if len(columns) == 1 else 'are'} free text, "
            f"about {words} words long: {NETWORKS[family]} that tells the {len(schema.class_names)} classes of {target} "
            "apart"
        )
        if left_out:
            reason += (
                f"\n  not learnt from: {', '.join(left_out)} (--family fcnn learns from them, and not from the text)"
            )
        work = cls(family=family, reason=reason, schema=schema)
        return work, work.examples(frame, data)

    def estimator_class(self) -> Any:
        return getattr(families, self.estimators[self.family])

    def about(self, estimator: Any) -> list[str]:
        columns = " and ".join(column.name for column in self.schema.columns)
        return [f"For tables: {self.target} (classification) from the text in {columns}"]

    def features(self, frame: "pl.DataFrame", data: Path) -> np.ndarray:
        texts = np.empty(len(frame), object)
        texts[:] = joined(check_schema(frame, self.schema, str(data)))
        return texts


def joined(frame: "pl.DataFrame") -> list[str]:
    """The texts of each row as one; a missing one is empty."""
    return [" ".join(text or "" for text in row).strip() for row in frame.iter_rows()]


def text_columns(frame: "pl.DataFrame", least: int) -> list[str]:
    """The columns of texts that are mostly different and mostly have at least so many words."""
    found = []
    for name in frame.columns:
        values = frame[name].drop_nulls()
        if not len(values) or dtype_of(values)[0] != "text" or 2 * values.n_unique() <= len(values):
            continue
        if values.str.count_matches(r"\S+").median() >= least:  # type: ignore[operator]
            found.append(name)
    return found
