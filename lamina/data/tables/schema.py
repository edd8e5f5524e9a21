"""What a table's columns mean, what the task is, and columns as arrays.

A CSV file's cells stay text until :meth:`TableSchema.infer` has decided what each column is. The schema keeps the
decision, so that a new table is read in the same way as the one that a model was trained on.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina.core.errors import ConfigError, DataError, nearest
from lamina.data.tables.base import Column, convert, dtype_of, float32, known, read_table, refuse

if TYPE_CHECKING:
    import polars as pl

KINDS = ("number", "category", "date", "dropped")
TASKS = ("classification", "regression")
DATE_PARTS = ("year", "month", "day", "weekday", "hour", "minute")
#: whole numbers of at most this many different values are classes, if there are three rows for each
MOST_CLASSES = 20


@dataclass(frozen=True)
class TableSchema:
    """What the columns of a table mean, and what is to be learnt from them.

    Attributes:
        columns: all columns but the target, in the table's order.
        target: the column to predict; None if there is none.
        task: ``"classification"`` or ``"regression"``; ``""`` without a target.
        class_names: the classes as text, sorted; whole numbers in numeric order.
        reason: why this task.
    """

    columns: tuple[Column, ...]
    target: Column | None = None
    task: str = ""
    class_names: tuple[str, ...] = ()
    reason: str = ""

    @property
    def reasons(self) -> dict[str, str]:
        """Why columns are dropped, and what else is remarkable, by column."""
        return {column.name: column.reason for column in self.columns if column.reason}

    @classmethod
    def infer(
        cls,
        table: Any,
        target: str | None = None,
        kinds: Mapping[str, str] | None = None,
        task: str | None = None,
        name: str = "the table",
    ) -> "TableSchema":
        """Find out what the columns of a table mean.

        Numbers and booleans become numbers, dates the numbers in :data:`DATE_PARTS`, text categories. Dropped are
        columns without values or with one value only, row counters, and text that is different in most rows.

        Args:
            table: whatever :func:`read_table` reads.
            target: the column to predict.
            kinds: column -> kind, where it is known better.
            task: ``"classification"`` or ``"regression"``; from the target if None: text, booleans and whole numbers
                with few different values are classes, other numbers are regressed.
            name: the table's name in error messages.

        Raises:
            DataError: if the target is missing or cannot be learnt, or no column is left to learn from.
            ConfigError: for a kind or task that is not one of those named.

        >>> flowers = {"petal": [1.4, 4.7, 1.3, 4.5], "species": ["setosa", "versicolor", "setosa", "versicolor"]}
        >>> schema = TableSchema.infer(flowers, target="species")
        >>> schema.task, schema.class_names, schema.reason
        ('classification', ('setosa', 'versicolor'), 'species has 2 different texts: classification')
        """
        frame = read_table(table, name=name)
        kinds = dict(kinds or {})
        for key, kind in kinds.items():
            known(key, frame.columns, name)
            if kind not in KINDS:
                raise ConfigError(f"kinds[{key!r}]={kind!r} is not known. {nearest(str(kind), KINDS)}")
        if task is not None and task not in TASKS:
            raise ConfigError(f"task={task!r} is not known. {nearest(str(task), TASKS)}")
        if target is not None:
            known(target, frame.columns, name, "target")
        columns = tuple(_column(frame[key], kinds.get(key), name) for key in frame.columns if key != target)
        if all(column.kind == "dropped" for column in columns):
            why = "; ".join(f"{column.name}: {column.reason}" for column in columns) or "it has the target only"
            raise DataError(f"{name}: there is no column to learn from ({why})")
        if target is None:
            return cls(columns)
        return cls(columns, *_task(frame[target], task, name))

    def to_dict(self) -> dict[str, Any]:
        """The schema as plain values, which JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "TableSchema":
        """The schema that :meth:`to_dict` gave.

        Raises:
            DataError: if these are not the fields of a schema.
        """
        try:
            columns = [Column(**{**column, "parts": tuple(column["parts"])}) for column in saved["columns"]]
            target = saved["target"] and Column(**{**saved["target"], "parts": ()})
            schema = cls(tuple(columns), target, saved["task"], tuple(saved["class_names"]), saved["reason"])
            texts = [schema.task, schema.reason, *schema.class_names]
            for column in [*columns, target] if target else columns:
                texts += [column.name, column.kind, column.dtype, column.format, column.reason, *column.parts]
            valid = all(isinstance(text, str) for text in texts) and schema.task in ("", *TASKS)
            valid = valid and all(c.kind in KINDS and set(c.parts) <= set(DATE_PARTS) for c in columns)
        except (TypeError, KeyError, AttributeError):
            valid = False
        if not valid:
            raise DataError("this is not a table's schema as TableSchema.to_dict gives it")
        return schema


class TableEncoder:
    """A table's columns as arrays, ready for layers.

    Args:
        schema: what the columns mean.

    Attributes:
        number_names: what the columns of the matrix of numbers are, as ``("age", "sold month")``.
        category_names: the columns of categories.
        numbers_key: ``"numbers"``, unless that is the name of a category.

    >>> schema = TableSchema.infer({"age": [20, None, 31], "sex": ["f", "m", None], "paid": [1.5, 2.5, 3.0]}, "paid")
    >>> TableEncoder(schema).encode({"sex": ["m", None], "age": [None, 40]})
    {'numbers': array([[nan], [40.]], dtype=float32), 'sex': array(['m', ''], dtype='<U1')}
    """

    def __init__(self, schema: TableSchema) -> None:
        self.schema = schema
        self.category_names = tuple(column.name for column in schema.columns if column.kind == "category")
        names: list[str] = []
        for column in schema.columns:
            if column.kind in ("number", "date"):
                names += [f"{column.name} {part}" for part in column.parts] or [column.name]
        self.number_names = tuple(names)
        self.numbers_key = "numbers"
        while self.numbers_key in self.category_names:
            self.numbers_key += "_"

    def encode(self, table: Any, name: str = "the table") -> dict[str, np.ndarray]:
        """The features of a table.

        Args:
            table: whatever :func:`read_table` reads; the target need not be in it.
            name: the table's name in error messages.

        Returns:
            ``numbers_key``: float32 ``(rows, len(number_names))``, NaN where a value is missing (left out if there are
            no numbers); for each category: text ``(rows,)``, ``""`` where missing.

        Raises:
            DataError: as :func:`check_schema` does, and for numbers that float32 cannot hold.
        """
        frame = check_schema(table, self.schema, name)
        numbers: list[np.ndarray] = []
        for column in self.schema.columns:
            if column.kind == "number":
                numbers.append(float32(frame[column.name], name))
            elif column.kind == "date":
                dates = frame[column.name].dt
                numbers += [getattr(dates, part)().cast(float).to_numpy().astype("float32") for part in column.parts]
        arrays = {self.numbers_key: np.stack(numbers, axis=1)} if numbers else {}
        for key in self.category_names:
            arrays[key] = np.array(frame[key].fill_null("").to_list(), dtype=str)
        return arrays

    def targets(self, table: Any, name: str = "the table") -> np.ndarray:
        """The target of a table: int32 indices into the class names, or float32 numbers, ``(rows,)``.

        Raises:
            DataError: if the target is missing in the table or in a row, or has a class that is not known.
        """
        target = self.schema.target
        if target is None:
            raise DataError(f"{name}: this schema has no target")
        frame = read_table(table, name=name)
        known(target.name, frame.columns, name, "target")
        series = frame[target.name]
        refuse(series, series.is_null(), f"{name}, column {target.name!r}", "the target is missing")
        if self.schema.task == "regression":
            return float32(convert(series, target, name), name)
        text = convert(series, target, name)
        index = {label: i for i, label in enumerate(self.schema.class_names)}
        unknown = ~text.is_in(list(index))
        refuse(text, unknown, f"{name}, column {target.name!r}", "not one of the classes learnt")
        return np.array([index[label] for label in text], "int32")


def check_schema(table: Any, schema: TableSchema, name: str = "the table") -> "pl.DataFrame":
    """The columns that a schema uses, each of the type that it had when the schema was inferred.

    Args:
        table: whatever :func:`read_table` reads. Further columns are left out; the target may be missing.
        schema: what the columns mean.
        name: the table's name in error messages.

    Raises:
        DataError: for a missing column, or a value of another type, naming its column and row (the first row is 1).
    """
    frame = read_table(table, name=name)
    used = [column for column in schema.columns if column.kind != "dropped"]
    for column in used:
        known(column.name, frame.columns, name)
    found = frame.select(convert(frame[column.name], column, name) for column in used)
    for column in used:
        if column.kind == "number":
            float32(found[column.name], name)  # told here, where the table has a name
    return found


def split_target(table: Any, schema: TableSchema, name: str = "the table") -> "tuple[pl.DataFrame, np.ndarray]":
    """The rows that have a target, and their targets as :meth:`TableEncoder.targets` gives them."""
    frame = read_table(table, name=name)
    if schema.target is not None:
        known(schema.target.name, frame.columns, name, "target")
        frame = frame.filter(frame[schema.target.name].is_not_null())
    return frame, TableEncoder(schema).targets(frame, name)


def _column(series: "pl.Series", kind: str | None, name: str) -> Column:
    """What a column means, unless ``kind`` says it."""
    values = series.drop_nulls()
    dtype, form = dtype_of(values)
    if kind is None:
        kind, reason = _kind(series, values, dtype)
    else:
        reason = "dropped as asked" if kind == "dropped" else ""
    if kind == "number" and dtype in ("text", "date"):
        dtype, form = "float", ""
    if kind == "date" and dtype != "date":
        first = values[0] if len(values) else None
        raise DataError(f"{name}: column {series.name!r} cannot be read as dates; the first value is {first!r}")
    column = Column(series.name, kind, dtype, form, (), reason)
    if kind == "dropped":
        return column
    converted = convert(series, column, name)
    if kind != "date":
        return column
    dates = converted.drop_nulls().dt
    parts = tuple(part for part in DATE_PARTS if getattr(dates, part)().n_unique() > 1)
    return Column(series.name, kind, dtype, form, parts or ("year",), reason)


def _kind(series: "pl.Series", values: "pl.Series", dtype: str) -> tuple[str, str]:
    """A column's kind, and the reason why it is dropped or otherwise remarkable."""
    import polars as pl

    if dtype == "other":
        return "dropped", f"its values are of type {series.dtype}"
    rows, distinct = len(values), values.n_unique()
    if rows == 0:
        return "dropped", "it has no values"
    if distinct == 1 and (rows == len(series) or dtype != "text"):
        return "dropped", f"its only value is {str(values[0])[:60]!r}"
    if dtype == "integer" and distinct == rows >= MOST_CLASSES:
        numbers = values.cast(pl.Float64)
        if (numbers.diff().drop_nulls() == 1).all():
            return "dropped", "it counts the rows"
        if re.search(r"(^|[^a-zA-Z])(id|Id|ID)$|[a-z](Id|ID)$|^[iI]ndex$", series.name):
            return "dropped", "it is an identifier: by its name, and different in every row"
    if dtype == "date":
        return "date", ""
    if dtype != "text":
        return "number", ""
    wrong = values.cast(pl.Float64, strict=False).is_null()
    reason = ""
    if 0 < wrong.sum() <= 0.1 * rows:
        row = (series.is_not_null() & series.cast(pl.Float64, strict=False).is_null()).arg_true()[0]
        reason = f"all but {wrong.sum()} of its {rows} values are numbers; row {row + 1} has {series[row]!r}"
    if distinct > MOST_CLASSES and distinct > 0.5 * rows:
        return "dropped", reason or f"it has {distinct} different texts in {rows} rows: an identifier, or free text"
    return "category", reason


def _task(series: "pl.Series", task: str | None, name: str) -> tuple[Column, str, tuple[str, ...], str]:
    """The target as a column, the task, its classes, and why."""
    values = series.drop_nulls()
    dtype, form = dtype_of(values)
    rows, distinct, target = len(values), values.n_unique(), series.name
    where = f"{name}, target column {target!r}"
    if rows == 0:
        raise DataError(f"{where}: it has no values")
    if distinct == 1:
        raise DataError(f"{where}: every value is {str(values[0])[:60]!r}, so there is nothing to learn")
    if dtype in ("date", "other"):
        raise DataError(f"{where}: expected numbers or classes, not {'dates' if dtype == 'date' else series.dtype}")
    few = dtype == "integer" and (distinct == 2 or (distinct <= MOST_CLASSES and 3 * distinct <= rows))
    what = {"text": "texts", "boolean": "truth values", "integer": "whole numbers"}.get(dtype, "numbers")
    found = f"{target} has {distinct} different {what}"
    if task is None:
        task, reason = ("classification" if few or dtype in ("text", "boolean") else "regression"), found
    else:
        reason = f"asked for; {found}"
    if task == "regression":
        column = Column(target, "number", "float" if dtype == "text" else dtype, form)
        convert(series, column, name)
        return column, task, (), f"{reason}: {task}"
    if dtype == "text" and distinct > MOST_CLASSES and distinct > 0.5 * rows:
        raise DataError(f"{where}: {distinct} different texts in {rows} rows are no classes; is it another column?")
    column = Column(target, "category", dtype, form)
    classes = convert(values, column, name).unique().to_list()
    classes.sort(key=float if dtype in ("integer", "float") else str)
    return column, task, tuple(classes), f"{reason}: {task}"
