"""A table's cells: reading them from files, and turning them into numbers, texts and dates."""

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina.core.errors import DataError, nearest
from lamina.core.memory import memory_left

if TYPE_CHECKING:
    import polars as pl

#: cells that stand for "not known", in any case
MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
#: how dates may be written; the first form that reads every value of a column is the column's
DATE_FORMATS = (
    *(
        day + time
        for time, day in product(
            ("", " %H:%M", "T%H:%M", " %H:%M:%S%.f", "T%H:%M:%S%.f", "T%H:%M:%S%.f%#z"),
            ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y"),
        )
    ),
    "%Y-%m",
    "%Y/%m",
)
ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class Column:
    """What a column of a table means.

    Attributes:
        name: its name.
        kind: ``"number"``, ``"category"``, ``"date"`` or ``"dropped"``.
        dtype: what its values are: ``"integer"``, ``"float"``, ``"boolean"``, ``"date"``, ``"text"`` or ``"other"``.
        format: how dates, or ``","`` as decimal point, are written in text.
        parts: the numbers taken from a date.
        reason: why it is dropped, or what is remarkable about it.
    """

    name: str
    kind: str
    dtype: str
    format: str = ""
    parts: tuple[str, ...] = ()
    reason: str = ""


def read_table(
    source: Any, delimiter: str | None = None, encoding: str | None = None, name: str | None = None
) -> "pl.DataFrame":
    """Read a table.

    Args:
        source: the path of a ``.csv``, ``.tsv``, ``.txt`` or ``.parquet`` file; a polars or pandas table; or a
            dictionary ``column -> values``.
        delimiter: what stands between values; found from the first line if None: a comma, semicolon, tab or ``|``.
        encoding: of a text file; UTF-8 or, with its mark at the start, UTF-16 if None.
        name: the table's name in error messages; the path if None.

    Returns:
        a polars table. Columns of a text file are text, stripped of spaces. Empty cells, NaN, and the texts in
        :data:`MISSING` are null.

    Raises:
        DataError: if the file cannot be read or is not a table, naming its line.
    """
    import polars as pl

    if isinstance(source, str | os.PathLike):
        frame = _read_file(Path(source), delimiter, encoding)
        name = name or str(source)
    elif type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns"):
        frame = _from_pandas(source)
    elif isinstance(source, pl.DataFrame | pl.LazyFrame | Mapping):
        try:
            frame = (
                source.lazy().collect() if not isinstance(source, Mapping) else pl.DataFrame(dict(source), strict=False)
            )
        except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
            raise DataError(f"{name or 'the table'}: this is not a table: {error}") from None
    else:
        raise DataError(
            "expected a path, a polars or pandas table, or a dictionary column -> values; "
            f"received {type(source).__name__}"
        )
    if not frame.height or not frame.width:
        raise DataError(f"{name or 'the table'}: there are no rows in it")
    return frame.with_columns(_normal(frame[key]) for key in frame.columns)


def known(column: str, columns: list[str], name: str, what: str = "column") -> None:
    """An error that names the nearest column, if ``column`` is not among them."""
    if column not in columns:
        what = f"target column {column!r}" if what == "target" else f"column {column!r}"
        raise DataError(f"{name}: there is no {what}. {nearest(str(column), columns)}")


def refuse(series: "pl.Series", bad: "pl.Series", where: str, why: str) -> None:
    """An error that names the first row where ``bad`` is true, if there is one."""
    rows = bad.fill_null(False).arg_true()
    if len(rows):
        value = series[rows[0]]
        more = f" (and in {len(rows) - 1} more rows)" if len(rows) > 1 else ""
        shown = "" if value is None else f": {str(value)[:60]!r}"
        raise DataError(f"{where}, row {rows[0] + 1}{more}: {why}{shown}")


def float32(series: "pl.Series", name: str) -> np.ndarray:
    """Numbers as float32, NaN for null; an error names the first row that is too large for it."""
    too_large = series.abs() > np.finfo("float32").max
    refuse(series, too_large, f"{name}, column {series.name!r}", "expected a number that float32 can hold")
    return series.to_numpy().astype("float32")


def dtype_of(values: "pl.Series") -> tuple[str, str]:
    """What values without nulls are (:attr:`Column.dtype`), and how they are written (:attr:`Column.format`)."""
    import polars as pl

    if values.dtype.is_integer():
        return "integer", ""
    if values.dtype.is_float():
        return _float_or_integer(values), ""
    if values.dtype == pl.Boolean:
        return "boolean", ""
    if isinstance(values.dtype, pl.Date | pl.Datetime):
        return "date", ""
    if values.dtype not in (pl.String, pl.Null):
        return "other", ""
    if not len(values):
        return "text", ""
    if values.str.to_lowercase().is_in(["true", "false"]).all():
        return "boolean", ""
    # a number that starts with a needless 0 is a code: a postcode, a telephone number
    if not values.str.contains(r"^[+-]?0\d").any():
        numbers = values.cast(pl.Float64, strict=False)
        if numbers.is_not_null().all():
            return _float_or_integer(numbers), ""
        # 1,234 may be a thousand: only other numbers of digits make a comma a decimal point
        if values.str.contains(r"^[+-]?\d*,?\d+$").all() and values.str.contains(r",(\d{1,2}|\d{4,})$").any():
            return "float", ","
    for form in DATE_FORMATS:
        if _dates(values.head(100), form).is_not_null().all() and _dates(values, form).is_not_null().all():
            return "date", form
    return "text", ""


def _float_or_integer(values: "pl.Series") -> str:
    # from 2**53 on, every float is a whole number
    return "integer" if ((values == values.round()) & (values.abs() < 2**53)).all() else "float"


def convert(series: "pl.Series", column: Column, name: str) -> "pl.Series":
    """A column's values in its kind: numbers as Float64, categories as text, dates as Datetime.

    Raises:
        DataError: for a value that is none, by column and row.
    """
    import polars as pl

    where = f"{name}, column {column.name!r}"
    if series.dtype.is_nested() or isinstance(series.dtype, pl.Object | pl.Binary):
        raise DataError(f"{where}: expected a {column.kind} in each row; its values are of type {series.dtype}")
    if column.kind == "date":
        form = column.format or dtype_of(series.drop_nulls())[1]
        dates = _dates(series, form)
        refuse(series, dates.is_null() & series.is_not_null(), where, f"expected a date like {form or '%Y-%m-%d'}")
        return dates
    numbers = _numbers(series, column)
    if column.kind == "number":
        refuse(series, numbers.is_null() & series.is_not_null(), where, "expected a number")
        return numbers
    plain = series.cast(pl.String)
    if column.dtype == "boolean":
        text = (numbers == 1).set(~numbers.is_in([0.0, 1.0]), None).cast(pl.String)
    elif column.dtype == "integer":
        # 3, 3.0 and "3" are one class, and long numbers keep all their digits
        whole = numbers.cast(pl.Int64, strict=False)
        whole = whole.set(whole.cast(pl.Float64) != numbers, None)
        if not series.dtype.is_float():
            exact = series.cast(pl.Int64, strict=False)
            whole = exact.zip_with(exact.is_not_null(), whole)
        text = whole.cast(pl.String)
    elif column.dtype == "float":
        text = numbers.cast(pl.String)
    else:
        return plain
    return text.zip_with(text.is_not_null(), plain)


def _numbers(series: "pl.Series", column: Column) -> "pl.Series":
    """Numbers as Float64, null where a value is none."""
    import polars as pl

    if series.dtype == pl.String:
        if column.format == ",":
            series = series.str.replace(",", ".", literal=True)
        if column.dtype == "boolean":
            lower = series.str.to_lowercase()
            series = lower.set(lower == "true", "1").set(lower == "false", "0")
        return series.cast(pl.Float64, strict=False).fill_nan(None)
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        return series.cast(pl.Float64)
    return pl.Series(series.name, [None] * len(series), pl.Float64)


def _dates(series: "pl.Series", form: str) -> "pl.Series":
    """Dates as Datetime in universal time, null where a value is none."""
    import polars as pl

    if isinstance(series.dtype, pl.Date | pl.Datetime):
        return series.cast(pl.Datetime("us"))
    if series.dtype != pl.String or not form:
        return pl.Series(series.name, [None] * len(series), pl.Datetime("us"))
    if "%d" not in form:  # a month stands for its first day
        series, form = series + "-01", form + "-%d"
    dates = series.str.to_datetime(form, time_unit="us", strict=False)
    if form.endswith("z"):
        dates = dates.dt.replace_time_zone(None)
    return dates.set(dates.dt.year() < 1000, None)


def _read_file(path: Path, delimiter: str | None, encoding: str | None) -> "pl.DataFrame":
    import polars as pl

    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".txt", ".parquet", ".pq"):
        raise DataError(f"{path}: expected a .csv, .tsv, .txt or .parquet file")
    try:
        _refuse_too_large(path, _cells_in(path))
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: this file cannot be read: {error.strerror}") from None
    if not content.strip():
        raise DataError(f"{path}: this file is empty")
    if suffix in (".parquet", ".pq"):
        try:
            return _read_parquet(path, content)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise DataError(
                f"{path}: this is not a Parquet file, or a damaged one: {str(error).splitlines()[0]}"
            ) from None
    return _read_csv(path, content, delimiter or ("\t" if suffix == ".tsv" else None), encoding)


def _refuse_too_large(path: Path, cells: float, texts: float = 0) -> None:
    """Refuse a table that does not fit into memory, which is worse to find out on the way.

    Its bytes take four times their number while they are read, as do its texts, and each cell about 50 bytes.

    Args:
        path: the file.
        cells: how many cells it has.
        texts: the bytes of all its texts, where they are more than those of the file.

    Raises:
        DataError: telling how much it takes, and how much there is.
    """
    size = path.stat().st_size
    needed = 4 * max(size, texts) + 50 * cells
    left = memory_left() if needed > 1e7 else None
    if left is not None and needed > left:
        raise DataError(
            f"{path}: this table of {size / 1e6:,.0f} MB takes about {needed / 1e6:,.0f} MB of memory, and there are "
            f"{left / 1e6:,.0f} MB left; take a part of its rows or columns"
        )


def _cells_in(path: Path) -> float:
    """About how many cells a text file has, by its first megabyte."""
    with path.open("rb") as file:
        sample = file.read(1 << 20)
    cells = sample.count(b"\n") + max(map(sample.count, (b",", b";", b"\t", b"|")))
    return path.stat().st_size * cells / max(len(sample), 1)


def _read_parquet(path: Path, content: bytes) -> "pl.DataFrame":
    """A Parquet file, of which a few bytes can stand for any number of rows, and rows for a long text each."""
    import polars as pl

    lazy = pl.scan_parquet(io.BytesIO(content))
    schema = lazy.collect_schema()
    _refuse_too_large(path, lazy.select(pl.len()).collect().item() * len(schema))
    frame = pl.read_parquet(io.BytesIO(content))
    texts = [frame[name].str.len_bytes().cast(pl.Float64).sum() for name, dtype in schema.items() if dtype == pl.String]
    _refuse_too_large(path, frame.height * frame.width, sum(map(float, texts)))
    return frame


def _read_csv(path: Path, content: bytes, delimiter: str | None, encoding: str | None) -> "pl.DataFrame":
    import polars as pl

    encoding = encoding or next((ENCODINGS[mark] for mark in ENCODINGS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except (LookupError, UnicodeError) as error:
        line = content.count(b"\n", 0, getattr(error, "start", 0)) + 1
        raise DataError(
            f"{path}, line {line}: this is not {encoding} text. If it is Western European, "
            f'write:  read_table({str(path)!r}, encoding="latin-1")'
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}, line {line}: there is a NUL byte; this is not text, or UTF-16 without its mark")
    text = text.lstrip("\ufeff")
    if not text.strip():
        raise DataError(f"{path}: this file is empty")
    first = re.sub(r'"[^"]*"', "", text.lstrip()[:100_000].splitlines()[0])
    reader = csv.reader(
        (line[0] for line in re.finditer(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+", text)),
        delimiter=delimiter or max(",;\t|", key=first.count),
        skipinitialspace=True,
        strict=True,
    )
    rows = _rows(reader, path)
    names = [cell.strip() or f"column_{i}" for i, cell in enumerate(next(rows), 1)]
    _refuse_twins(names, str(path))
    if all(re.fullmatch(r"[+-]?\d*\.?\d+(e[+-]?\d+)?", column, re.IGNORECASE) for column in names):
        raise DataError(
            f"{path}, line 1: expected the names of the columns; these are numbers: {', '.join(names)[:60]}"
        )
    parts = []
    # rows become columns in portions, so that a large file is never held as Python objects
    while portion := list(islice(rows, 50_000)):
        parts.append(pl.DataFrame(portion, schema=dict.fromkeys(names, pl.String), orient="row"))
    if not parts:
        raise DataError(f"{path}: there is a line of names, but no rows below it")
    return pl.concat(parts)


def _rows(reader: Any, path: Path) -> Iterator[list[str]]:
    """The rows that are not blank, all as long as the first."""
    width = 0
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}, line {start}: this row cannot be read: {error}") from None
        if not row or (len(row) == 1 != width and not row[0].strip()):
            continue
        width = width or len(row)
        if len(row) != width:
            raise DataError(
                f"{path}, line {start}: expected {width} values, as the first line has; there are {len(row)}"
            )
        yield row


def _refuse_twins(names: list[str], where: str) -> None:
    first: dict[str, int] = {}
    for i, column in enumerate(names, 1):
        if first.setdefault(column, i) != i:
            raise DataError(f"{where}: columns {first[column]} and {i} are both named {column!r}")


def _from_pandas(table: Any) -> "pl.DataFrame":
    import polars as pl

    names = [str(name) for name in table.columns]
    _refuse_twins(names, "the pandas table")
    columns = []
    for i, column in enumerate(names):
        series = table.iloc[:, i]
        if getattr(series.dtype, "tz", None) is not None:
            series = series.dt.tz_convert("UTC").dt.tz_localize(None)
        if isinstance(series.dtype, np.dtype) and series.dtype.kind in "iufbM":
            columns.append(pl.Series(column, series.to_numpy()))
            continue
        values = [None if gone else value for value, gone in zip(series.tolist(), series.isna(), strict=True)]
        columns.append(pl.Series(column, values, strict=False))
    return pl.DataFrame(columns)


def _normal(series: "pl.Series") -> "pl.Series":
    """One form for each type of value, and null for what is missing."""
    import polars as pl

    if isinstance(series.dtype, pl.Categorical | pl.Enum):
        series = series.cast(pl.String)
    if isinstance(series.dtype, pl.Decimal):
        series = series.cast(pl.Float64)
    if isinstance(series.dtype, pl.Datetime) and series.dtype.time_zone:
        series = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    if series.dtype.is_float():
        return series.fill_nan(None)
    if series.dtype == pl.String:
        series = series.str.strip_chars()
        return series.set(series.str.to_lowercase().is_in(MISSING), None)
    return series
