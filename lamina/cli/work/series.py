"""Series: a table with a date in each row, and a number that is forecast."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from lamina import report
from lamina.cli.work.base import TEST_SPLIT, Examples, Result, Rows, Work
from lamina.cli.work.dates import Dates
from lamina.core.errors import ConfigError, DataError
from lamina.data.tables import Column, read_table
from lamina.data.tables.base import convert, known
from lamina.families.rnn_forecaster import numbers, without_the_obvious

if TYPE_CHECKING:
    import polars as pl

#: the probability that a value falls between the bounds of its forecast, and the errors of the past that it takes to tell
LEVEL, ERRORS = 0.8, 4
#: how many steps of a series a model file keeps at least, to be drawn before its forecasts
KEPT = 200


@dataclass(kw_only=True)
class Series(Work):
    """One number over time.

    Attributes:
        dates: how the dates rise.
        target: the column of the number.
        end: the series, or its last steps: what a forecast goes on from.
    """

    kind = "series"
    unit = "steps"
    does = "forecasts a series"
    use = "forecast RUN"
    estimators: ClassVar[Mapping[str, str]] = {"rnn": "RNNForecaster"}

    dates: Dates
    target: Column
    end: Examples = field(default_factory=lambda: Examples([]))

    @classmethod
    def find(
        cls, data: Path, frame: "pl.DataFrame", target: Column, dates: Dates, family: str
    ) -> tuple["Series", Examples]:
        """What the table holds."""
        work = cls(family=family, dates=dates, target=target)
        work.end = work._examples(frame, data)
        others = [name for name in frame.columns if name not in (dates.column, target.name)]
        work.reason = (
            f"{len(frame):,} rows; {dates.column} rises by one {dates.step} from row to row and {target.name} is a number: a "
            f"recurrent network (RNN) that forecasts {target.name}"
        )
        if others:
            work.reason += f"\n  not learnt from: {', '.join(others)} (--family fcnn predicts {target.name} from them)"
        return work, work.end

    # -- training ------------------------------------------------------------------------------------------------------

    def split(self, examples: Examples, share: float | None, seed: int) -> tuple[Examples, Examples | None]:
        """The beginning and the end of the series; forecasts of the end look back on the beginning."""
        cut = int(len(examples) * (1 - (TEST_SPLIT if share is None else share)))
        if not 0 < cut < len(examples):
            raise DataError(f"{len(examples)} steps are too few to train on some and test on others")
        learnt = Examples(examples.x[:cut], names=examples.names[:cut])
        return learnt, Examples(examples.x, names=examples.names, start=cut)

    def estimator(self, settings: Mapping[str, Any], learnt: Examples, unseen: Examples | None) -> Any:
        """The horizon is chosen by the dates; season and trend by what foretells best without a network."""
        assert unseen is not None
        horizon = settings.get("horizon", max(1, min(self.dates.cycle or 5, len(unseen), len(learnt) // 8)))
        if horizon > len(unseen):
            raise ConfigError(
                f"{horizon} steps ahead are more than the {len(unseen)} held back for the test; give a smaller --horizon "
                "or a larger --test-split"
            )
        chosen = _obvious(numbers("y", learnt.x), horizon, self.dates.cycle, settings)
        found = self.estimator_class()(**{"horizon": horizon, **chosen, **settings})
        self.reason += (
            f"\n  {horizon} steps ahead, with season={found.season} and trend={found.trend}: what foretells best alone"
        )
        return found

    def examine(self, estimator: Any, examples: Examples) -> Result:
        """The error of the forecasts from every step on, beside that of the simplest ones."""
        steps, horizon, season = len(examples.x), estimator.horizon, estimator.season
        start = max(examples.start, estimator.window_)
        if steps < start + horizon:
            raise DataError(
                f"{steps} steps are too few: the model looks at {estimator.window_}, and forecasts {horizon} ahead"
            )
        found, truth = estimator.backtest(examples.x, start=start)
        series = numbers("y", examples.x)[:, 0]
        origins, ahead = np.arange(start, steps - horizon + 1)[:, None], np.arange(horizon)
        simple = series[origins - season + ahead % season] if season else series[origins - 1] + 0 * ahead
        again = "the last season" if season else "the last value"
        scores = {
            "root mean squared error": float(np.sqrt(np.square(found - truth).mean())),
            f"that of {again} again": float(np.sqrt(np.square(simple - truth).mean())),
        }
        reach = _reach(estimator)
        if reach is not None:
            scores[f"share inside the {LEVEL:.0%} interval"] = float(np.mean(np.abs(found - truth) <= reach))
        return Result(scores, predicted=found)

    def draw(self, folder: Path, estimator: Any, unseen: Examples | None, result: Result | None) -> list[str]:
        """The end of the series with forecasts one after the other, each from what came before it."""
        assert unseen is not None
        assert result is not None
        horizon, start = estimator.horizon, max(unseen.start, estimator.window_)
        reach, pieces = _reach(estimator), result.predicted[::horizon]
        if horizon == 1:  # points in a row are a line
            pieces, reach = pieces.reshape(1, -1), None if reach is None else np.repeat(reach, len(pieces))
        drawn = []
        for i, piece in enumerate(pieces):
            times = unseen.names[start + i * horizon :][: len(piece)]
            drawn.append((times, piece, None if reach is None else (piece - reach, piece + reach)))
        shown = slice(max(0, start - 2 * (len(unseen.x) - start)), None)
        path = folder / "forecast.png"
        report.forecast(unseen.names[shown], unseen.x[shown], drawn, path, self.target.name, LEVEL)
        return ["forecast.png"]

    # -- the model file ------------------------------------------------------------------------------------------------

    def to_dict(self, estimator: Any) -> dict[str, Any]:
        """With the end of the series, missing values filled in."""
        values = numbers("y", self.end.x)[-max(KEPT, estimator.window_) :, 0].tolist()
        end = {"values": values, "last": str(self.end.names[-1])}
        return super().to_dict(estimator) | {"dates": asdict(self.dates), "target": asdict(self.target), "end": end}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        dates, values = Dates(**saved["dates"]), np.array(saved["end"]["values"])
        target = Column(**{**saved["target"], "parts": tuple(saved["target"]["parts"])})
        last = np.datetime64(saved["end"]["last"], "s")
        end = Examples(values, names=dates.at(last, np.arange(1 - len(values), 1)))
        return cls(family=saved["family"], dates=dates, target=target, end=end)

    def about(self, estimator: Any) -> list[str]:
        last = self.dates.text(self.end.names[-1:])[0]
        return [
            f"For tables whose {self.dates.column} rises by one {self.dates.step}: forecasts {self.target.name}, "
            f"{estimator.horizon} steps ahead; those trained on end with {last}"
        ]

    # -- the commands --------------------------------------------------------------------------------------------------

    def read(self, data: Path, estimator: Any, answers: bool = True) -> Examples:
        return self._examples(read_table(data), data)

    def forecast(self, estimator: Any, data: Path | None, horizon: int | None, picture: Path) -> Rows:
        steps = horizon or estimator.horizon
        if steps > estimator.horizon:
            raise ConfigError(
                f"the model forecasts {estimator.horizon} steps ahead. For more, write:  lamina train DATA --horizon {steps}"
            )
        past = self.end if data is None else self.read(data, estimator)
        if len(past) < estimator.window_:
            raise DataError(f"{data}: {len(past)} steps are too few: the model looks at the last {estimator.window_}")
        middle, reach = estimator.predict(past.x)[:steps], _reach(estimator)
        found = {self.target.name: middle}
        if reach is not None:
            found |= {f"low {LEVEL:.0%}": middle - reach[:steps], f"high {LEVEL:.0%}": middle + reach[:steps]}
        times = self.dates.at(past.names[-1], np.arange(steps + 1))
        shown = slice(-max(4 * steps, 2 * (estimator.season or 0), 20), None)
        # drawn from the last value on
        line, *bounds = (np.concatenate([past.x[-1:], row]) for row in found.values())
        drawn = times, line, bounds or None
        report.forecast(past.names[shown], past.x[shown], [drawn], picture, self.target.name, LEVEL)
        columns = [self.dates.text(times[1:]), *([f"{value:.6g}" for value in row] for row in found.values())]
        return [self.dates.column, *found], [list(row) for row in zip(*columns, strict=True)]

    def _examples(self, frame: "pl.DataFrame", data: Path) -> Examples:
        known(self.target.name, frame.columns, str(data))
        values = convert(frame[self.target.name], self.target, str(data)).to_numpy()
        return Examples(values, names=self.dates.read(frame, data))


def _reach(estimator: Any) -> np.ndarray | None:
    """How far the bounds lie from a forecast, for each step ahead; ``None`` if too few errors are known."""
    if len(estimator.errors_) < ERRORS:
        return None
    low, high = estimator.predict_interval(LEVEL)
    return (high - low) / 2


def _obvious(series: np.ndarray, horizon: int, cycle: int | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Season, trend and window: those with which it is best to forecast that nothing changes.

    A window is made smaller where the series would be too short for it, and the part that is watched over training larger
    where it would give too few errors for intervals.
    """
    seasons = [settings["season"]] if "season" in settings else [None, cycle] if cycle else [None]
    trends = [settings["trend"]] if "trend" in settings else [False, True]
    choices = []
    for season in seasons:
        usual = max(3 * season if season else 2 * horizon, 12)
        for window in [settings["window"]] if "window" in settings else [usual, season or horizon]:
            windows = len(series) - window - (season or 0) - horizon + 1
            if windows - max(0.1 * windows, ERRORS) - horizon >= 10:
                choices += [(season, trend, window, windows) for trend in trends]
                break
    first = max((window + (season or 0) for season, _, window, _ in choices), default=0)
    origins = np.unique(np.linspace(first, len(series) - horizon, 500).astype(int))
    truth = np.stack([series[t : t + horizon] for t in origins])
    errors = []
    for season, trend, window, _ in choices:
        past = np.stack([series[t - window - (season or 0) : t] for t in origins])
        mean = without_the_obvious(past, horizon, season, trend)[0].mean((0, 1))
        errors.append(np.square(without_the_obvious(past, horizon, season, trend, mean)[1] - truth).mean())
    if not choices:
        return {}
    season, trend, window, windows = choices[int(np.argmin(errors))]
    chosen = {"season": season, "trend": trend, "window": window}
    if 20 <= windows < 10 * ERRORS:
        chosen["validation_fraction"] = ERRORS / windows
    return chosen
