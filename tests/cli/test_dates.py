import numpy as np
import polars as pl
import pytest

from lamina.cli.work.dates import find_dates
from lamina.core.errors import DataError
from lamina.data.tables import TableSchema


def found(**columns):
    """What is found in a table, and the table; beside the columns it has one of numbers."""
    frame = pl.DataFrame(columns)
    frame = frame.with_columns(x=pl.arange(len(frame)) ** 2)
    return find_dates(frame, TableSchema.infer(frame).columns), frame


@pytest.mark.parametrize(
    ("dates", "step", "cycle", "after"),
    [
        (["2023-11-01", "2023-12-01", "2024-01-01"], "month", 12, ["2024-02-01", "2024-03-01"]),
        (["2023-11-30", "2023-12-31", "2024-01-31"], "month", 12, ["2024-02-29", "2024-03-31"]),
        (["2023-01-15", "2023-04-15", "2023-07-15"], "quarter", 4, ["2023-10-15", "2024-01-15"]),
        (["28.02.2024", "29.02.2024"], "day", 7, ["01.03.2024", "02.03.2024"]),
        (["2024-02-26", "2024-03-04"], "week", 52, ["2024-03-11", "2024-03-18"]),
        (["2024-01-01 22:00", "2024-01-01 23:00"], "hour", 24, ["2024-01-02 00:00", "2024-01-02 01:00"]),
        (["2024-01-01", "2024-01-04", "2024-01-07"], "3 days, 0:00:00", None, ["2024-01-10", "2024-01-13"]),
    ],
)
def test_what_comes_after(dates, step, cycle, after):
    (steps, why), frame = found(when=dates)
    assert (steps.step, steps.cycle, why) == (step, cycle, "")
    last = steps.read(frame, "a")[-1]
    assert steps.text(steps.at(last, np.arange(1, 3))) == after
    assert steps.text(steps.at(last, np.arange(1 - len(dates), 1))) == dates


def test_years_are_dates_by_their_name():
    (steps, _), frame = found(year=[1998, 1999, 2000, 2001])
    assert (steps.step, steps.cycle) == ("year", None)
    assert steps.text(steps.at(steps.read(frame, "a")[-1], np.array([1, 2]))) == ["2002", "2003"]
    assert found(count=[1998, 1999, 2000, 2001])[0][0] is None
    assert found(year=[1, 2, 3, 4])[0][0] is None


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({}, "with no columns of dates"),
        ({"a": ["2024-01-01", "2024-01-02"], "b": ["2024-01-01", "2024-01-02"]}, "with 2 columns of dates"),
        ({"a": ["2024-01-01", "2024-01-02", "2024-01-04"]}, "whose a does not rise evenly from row to row"),
        ({"a": ["2024-01-03", "2024-01-02", "2024-01-01"]}, "whose a does not rise evenly from row to row"),
        ({"a": ["2024-01-01", None, "2024-01-03"]}, "whose a does not rise evenly from row to row"),
        ({"a": ["2024-01-15", "2024-02-15", "2024-03-16"]}, "whose a does not rise evenly from row to row"),
    ],
)
def test_dates_that_are_none_or_uneven(columns, why):
    assert found(**columns, y=["p", "q", "p"][: len(columns.get("a", "ppp"))])[0] == (None, why)


def test_other_steps_are_refused():
    (days, _), _ = found(when=["2024-01-01", "2024-01-02"])
    with pytest.raises(DataError, match=r"a\.csv: when is expected to rise by one day from row to row"):
        days.read(pl.DataFrame({"when": ["2024-01-01", "2024-01-03"]}), "a.csv")
    with pytest.raises(DataError, match="no column 'when'"):
        days.read(pl.DataFrame({"then": ["2024-01-01"]}), "a.csv")
