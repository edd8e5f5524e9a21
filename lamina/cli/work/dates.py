"""Dates that rise evenly, from row to row of a table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lamina.core.errors import DataError
from lamina.data.tables import Column
from lamina.data.tables.base import convert, dtype_of, known

if TYPE_CHECKING:
    import polars as pl

DAY = 86_400
#: (months, seconds) of a step -> its name, and how many steps make a cycle that series often have
STEPS = {
    (12, 0): ("year", None),
    (3, 0): ("quarter", 4),
    (1, 0): ("month", 12),
    (0, 7 * DAY): ("week", 52),
    (0, DAY): ("day", 7),
    (0, 3600): ("hour", 24),
    (0, 60): ("minute", 60),
}
#: how whole numbers are written that are years
YEARS = "%Y"


@dataclass(frozen=True)
class Dates:
    """A column of dates that rise evenly.

    Attributes:
        column: its name.
        format: how its dates are written; ``""`` if they are no text.
        months: the length of a step in months, or 0.
        seconds: its length in seconds, if it is none of months.
        ends: whether every date is the last day of its month.
    """

    column: str
    format: str
    months: int
    seconds: int
    ends: bool

    @property
    def step(self) -> str:
        """What a step is called."""
        if (self.months, self.seconds) in STEPS:
            return STEPS[self.months, self.seconds][0]
        return f"{self.months} months" if self.months else f"{np.timedelta64(self.seconds, 's').item()}"

    @property
    def cycle(self) -> int | None:
        """How many steps make a cycle that series often have, as 12 months."""
        return STEPS.get((self.months, self.seconds), ("", None))[1]

    def at(self, date: np.datetime64, steps: np.ndarray) -> np.ndarray:
        """The dates so many steps from a date."""
        if not self.months:
            return date + steps * np.timedelta64(self.seconds, "s")
        month = date.astype("M8[M]")
        clock = date - date.astype("M8[D]")
        day = (date.astype("M8[D]") - month.astype("M8[D]")).astype(int)
        months = month + steps * self.months
        last = ((months + 1).astype("M8[D]") - months.astype("M8[D]")).astype(int) - 1
        return (months.astype("M8[D]") + (last if self.ends else np.minimum(day, last))).astype("M8[s]") + clock

    def text(self, dates: np.ndarray) -> list[str]:
        """The dates as the column has them."""
        form = self.format.replace("%.f", "").replace("%#z", "+00:00")
        if not form:
            form = "%Y-%m-%d" if self.months or self.seconds % DAY == 0 else "%Y-%m-%d %H:%M:%S"
        return [date.strftime(form) for date in np.asarray(dates, "M8[s]").tolist()]

    def read(self, frame: "pl.DataFrame", data: Path) -> np.ndarray:
        """The dates of a table ``(rows,)``.

        Raises:
            DataError: if they do not rise as these do.
        """
        known(self.column, frame.columns, str(data))
        dates = _dates(frame[self.column], self.format, str(data))
        if _evenly(dates) != (self.months, self.seconds, self.ends):
            raise DataError(f"{data}: {self.column} is expected to rise by one {self.step} from row to row")
        return dates


def find_dates(frame: "pl.DataFrame", columns: Sequence[Column]) -> tuple[Dates | None, str]:
    """The one column of dates in a table, if they rise evenly; otherwise why there is none.

    Args:
        frame: the table.
        columns: what its columns mean.
    """
    forms = {column.name: column.format for column in columns if column.kind == "date"}
    forms |= {column.name: YEARS for column in columns if is_year(frame[column.name])}
    if len(forms) != 1:
        return None, f"with {len(forms) or 'no'} columns of dates"
    ((name, form),) = forms.items()
    dates = _dates(frame[name], form, "the table")
    found = _evenly(dates)
    if found is not None:
        return Dates(name, form, *found), ""
    return None, f"whose {name} does not rise evenly from row to row"


def is_year(series: "pl.Series") -> bool:
    """Whether a column holds years, by its name and its values."""
    values = series.drop_nulls()
    if not len(values) or not re.search("year", series.name, re.IGNORECASE) or dtype_of(values)[0] != "integer":
        return False
    years = values.cast(float).to_numpy()
    return bool(years.min() >= 1000 and years.max() < 3000 and (np.diff(years) > 0).all())


def _dates(series: "pl.Series", form: str, name: str) -> np.ndarray:
    """A column as dates of NumPy, in seconds; NaT where a value is missing."""
    if form == YEARS:
        years = convert(series, Column(series.name, "number", "integer"), name).to_numpy()
        return np.array([f"{year:.0f}" if year == year else "NaT" for year in years], "M8[Y]").astype("M8[s]")
    column = Column(series.name, "date", "date", form)
    return convert(series, column, name).to_numpy().astype("M8[s]")


def _evenly(dates: np.ndarray) -> tuple[int, int, bool] | None:
    """By how many months or seconds dates rise, and whether they are the ends of months; ``None`` if unevenly."""
    if len(dates) < 2 or np.isnat(dates).any():
        return None
    months = dates.astype("M8[M]")
    within = dates - months.astype("M8[s]")
    ends = bool(((dates.astype("M8[D]") + 1).astype("M8[D]") == (months + 1).astype("M8[D]")).all())
    if ends or (within == within[0]).all():
        rises = set(np.diff(months).astype(int).tolist())
        if len(rises) == 1 and min(rises) > 0:
            return rises.pop(), 0, ends
    rises = set(np.diff(dates).astype(int).tolist())
    return (0, rises.pop(), False) if len(rises) == 1 and min(rises) > 0 else None
