"""A table with evenly rising dates: from training to forecasts."""

import csv

import numpy as np
import pytest

from lamina.data.pictures import picture_size
from lamina.families import RNNForecaster
from tests.cli.conftest import TINY

MONTHS = np.arange("2010-01", "2020-01", dtype="M8[M]")
STEP = np.arange(len(MONTHS))
SOLD = 50 + 0.2 * STEP + 8 * np.sin(STEP * np.pi / 6) + np.random.default_rng(0).normal(0, 0.3, len(STEP))


def table(sold, first=0):
    rows = [f"{MONTHS[0] + first + i}-01,{value:.3f},{i % 3}" for i, value in enumerate(sold)]
    return "\n".join(["day,sold,shops", *rows]) + "\n"


@pytest.fixture(scope="module")
def trained(place, at):
    (place / "sales.csv").write_text(table(SOLD))
    return at("train", "sales.csv", "--target", "sold", *TINY["series"])


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_training_says_why_and_finds_the_season(trained, place):
    assert "day rises by one month from row to row and sold is a number: a recurrent network (RNN)" in trained
    assert "12 steps ahead, with season=12 and trend=False" in trained
    assert "not learnt from: shops (--family fcnn predicts sold from them)" in trained
    assert "Other families that fit (--family): fcnn" in trained
    assert "96 steps to learn from, 24 to test on" in trained
    scores = dict(part.rsplit(" ", 1) for part in trained.split("Test: ")[1].split(", on ")[0].split(", "))
    assert float(scores["root mean squared error"]) < 1.5 < float(scores["that of the last season again"]) < 4
    assert 0 <= float(scores["share inside the 80% interval"]) <= 1
    assert picture_size(place / "runs/sales/forecast.png")[1] > 1000


def test_forecasts_begin_after_the_last_row(trained, place, at):
    out = at("forecast", "runs/sales", "--out", "next.csv")
    assert out == "next.csv: 12 steps.\nforecast.png: the series and its forecast.\n"
    rows = read(place / "next.csv")
    assert [row["day"] for row in rows] == [f"2020-{month:02}-01" for month in range(1, 13)]
    assert all(float(row["low 80%"]) <= float(row["sold"]) <= float(row["high 80%"]) for row in rows)
    truth = 50 + 0.2 * (120 + np.arange(12)) + 8 * np.sin((120 + np.arange(12)) * np.pi / 6)
    assert np.abs([float(row["sold"]) for row in rows] - truth).max() < 3
    # the file holds the end of the series, as far as the estimator looks back on it
    estimator = RNNForecaster.load(place / "runs/sales/model.safetensors")
    np.testing.assert_allclose([float(row["sold"]) for row in rows], estimator.predict(SOLD.round(3)), rtol=1e-5)


def test_forecasts_of_later_data(trained, place, at):
    (place / "later.csv").write_text(table(SOLD[:100] + 100, first=30))
    out = at("forecast", "runs/sales", "later.csv", "--horizon", "2")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["day", "sold", "low", "80%", "high", "80%"]
    assert [line[0] for line in lines[1:3]] == ["2020-11-01", "2020-12-01"]
    assert abs(float(lines[1][1]) - (SOLD[100] + 100)) < 3
    out = at("evaluate", "runs/sales", "sales.csv")
    assert "sales.csv: root mean squared error" in out
    assert "forecasts sold, 12 steps ahead; those trained on end with 2019-12-01" in at("inspect", "runs/sales")


def test_wrong_use(trained, place, wrong):
    (place / "short.csv").write_text(table(SOLD[:20]))
    (place / "gap.csv").write_text("\n".join(table(SOLD).splitlines()[:50] + table(SOLD).splitlines()[52:]))
    (place / "quarters.csv").write_text("\n".join(["day,sold,shops", *table(SOLD).splitlines()[1::3]]))
    (place / "words.csv").write_text(table(SOLD).replace("2015-03-01,", "2015-03-01,many"))
    assert "forecasts 12 steps ahead. For more, write:  lamina train" in wrong(
        "forecast", "runs/sales", "--horizon", "13"
    )
    assert "20 steps are too few" in wrong("forecast", "runs/sales", "short.csv")
    assert "20 steps are too few" in wrong("evaluate", "runs/sales", "short.csv")
    assert "day is expected to rise by one month" in wrong("forecast", "runs/sales", "gap.csv")
    assert "day is expected to rise by one month" in wrong("forecast", "runs/sales", "quarters.csv")
    assert "column 'sold', row 63: expected a number" in wrong("forecast", "runs/sales", "words.csv")
    assert wrong("forecast", "runs/sales", "no.csv") == "there is no file or folder no.csv"
    assert "there is no folder none" in wrong("forecast", "runs/sales", "--out", "none/next.csv")
    assert "Write:  lamina forecast RUN" in wrong("predict", "runs/sales", "sales.csv")
    assert "whose day does not rise evenly" in wrong("train", "gap.csv", "--target", "sold", "--family", "rnn")
    assert "24 held back" in wrong("train", "sales.csv", "--target", "sold", "--horizon", "25", "--out", "x")
    assert "--scale is not for a model that forecasts" in wrong(
        "train", "sales.csv", "--target", "sold", "--scale", "2", "--out", "x"
    )
