"""Recurrent networks that forecast: several steps ahead, several series at once, known future inputs, intervals.

The network forecasts what remains after the obvious: with a season, the change against the same time a season ago; with
a trend, the change against the level of late. Where that is all there is to know, little is left for it to get wrong.
"""

import itertools
from typing import Any, Self

import jax.numpy as jnp
import numpy as np

from lamina.core.errors import ConfigError, DataError, ShapeError, nearest
from lamina.core.state import Array
from lamina.families.base import Family, refuse_text, share, whole
from lamina.layers import GRU, LSTM, Dense, Dropout
from lamina.layers.base import layer
from lamina.models.model import Model
from lamina.optimizers import AdamW
from lamina.schedules import CosineDecay

CELLS = {"gru": GRU, "lstm": LSTM}


@layer
class ForecastNetwork(Model):
    r"""Several small recurrent networks side by side, each with a linear shortcut from the window to the forecast.

    Args:
        horizon: how many steps ahead.
        season: the length of a season, if there is one.
        trend: whether changes are counted from the level of late.
        mean: the mean of the changes, one for each series.
        scale: their standard deviation.
        known_mean: the means of the known inputs; empty where there are none.
        known_scale: their standard deviations.
        cell: ``"gru"`` or ``"lstm"``.
        units: the length of each network's state.
        members: how many networks.
        dropout: the share of each network's state that is dropped in training.

    Input: a dictionary of ``past`` ``(batch, window, series)`` and, if there are known inputs, ``known`` ``(batch, window +
    horizon, inputs)``. Output ``(batch, members, horizon, series)``.
    """

    def __init__(
        self,
        horizon: int,
        season: int | None,
        trend: bool,
        mean: list[float],
        scale: list[float],
        known_mean: list[float],
        known_scale: list[float],
        cell: str = "gru",
        units: int = 32,
        members: int = 5,
        dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.horizon, self.season, self.trend = horizon, season, trend
        self.mean, self.scale, self.known_mean, self.known_scale = mean, scale, known_mean, known_scale
        self.cell, self.units, self.members, self.dropout = cell, units, members, dropout
        numbers = horizon * len(mean)
        self.recurrent = [CELLS[cell](units) for _ in range(members)]
        self.drops = [Dropout(dropout) for _ in range(members)]
        self.heads = [Dense(numbers, kernel_initializer="zeros") for _ in range(members)]
        self.shortcuts = [Dense(numbers, use_bias=False, kernel_initializer="zeros") for _ in range(members)]

    def call(self, inputs: Any) -> Array:
        past = inputs["past"]
        changes, base = without_the_obvious(past, self.horizon, self.season, self.trend, jnp.asarray(self.mean))
        steps = changes / jnp.asarray(self.scale)
        seen = steps.reshape(len(steps), steps.shape[1] * steps.shape[2])
        if self.known_mean:
            known = (inputs["known"] - jnp.asarray(self.known_mean)) / jnp.asarray(self.known_scale)
            before, after = known[:, -self.horizon - steps.shape[1] : -self.horizon], known[:, -self.horizon :]
            steps = jnp.concatenate([steps, before], axis=-1)
            seen = jnp.concatenate([seen, after.reshape(len(after), -1)], axis=-1)
        answers = []
        for recurrent, drop, head, shortcut in zip(self.recurrent, self.drops, self.heads, self.shortcuts, strict=True):
            answer = head(drop(recurrent(steps))) + shortcut(seen)
            answers.append(answer.reshape(len(past), self.horizon, past.shape[2]))
        return base[:, None] + jnp.stack(answers, axis=1) * jnp.asarray(self.scale)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None) -> Array:
        error = (y[:, None] - y_pred) / jnp.asarray(self.scale)
        return jnp.square(error).mean()


def without_the_obvious(past: Any, horizon: int, season: int | None, trend: bool, mean: Any = 0.0) -> tuple[Any, Any]:
    """What changes in a window, and the forecast if nothing did.

    Args:
        past: ``(batch, window, series)``.
        horizon: how many steps ahead.
        season: the length of a season, or ``None``.
        trend: whether changes are counted from the level of late: their mean over the window, or the last value.
        mean: what changes are otherwise counted from.

    Returns:
        The changes, those against a season ago ``(batch, window - season, series)`` if there are seasons, and the forecast
        ``(batch, horizon, series)``: the last value, or the mean of the same time in all seasons of the window.

    >>> changes, forecast = without_the_obvious(np.arange(6.0).reshape(1, 6, 1), 3, season=2, trend=True)
    >>> forecast[0, :, 0].tolist()
    [6.0, 7.0, 8.0]
    """
    if not season:
        level = past[:, -1:] + mean if trend else 0 * past[:, -1:] + mean
        return past - level, level + np.zeros((1, horizon, 1), "float32")
    window = past.shape[1]
    changes = past[:, season:] - past[:, :-season]
    growth = mean + (changes.mean(axis=1, keepdims=True) if trend else 0 * changes[:, :1])
    ahead, seasons = np.arange(horizon), np.arange(1, max(1, (window - season) // season) + 1)
    times = window - season * seasons[:, None] + ahead % season
    grown = (seasons[:, None] + ahead // season).astype("float32")[..., None] * growth[:, None]
    return changes - growth, (past[:, times] + grown).mean(axis=1)


class RNNForecaster(Family):
    """Forecasts of one series, or of several at once.

    Args:
        horizon: how many steps ahead.
        window: how many past steps the network looks at; three seasons, or two horizons, but at least 12, if ``None``. With
            a season, one season more is needed to count changes from.
        season: the length of a season, as 12 for months; changes against a season ago are then what is forecast.
        trend: whether the series has a changing level; changes against the level of late are then what is forecast.
        cell: ``"gru"`` or ``"lstm"``.
        units: the length of each network's state.
        members: how many networks are trained side by side and averaged.
        dropout: the share of each network's state that is dropped in training.
        learning_rate: the largest step; it falls to nothing along a cosine.
        epochs: passes over the windows.
        batch_size: windows in a step.
        validation_fraction: the share of the windows, the last ones, held back to stop early and for intervals.
        patience: epochs without getting better before stopping; a third of all if ``None``, 0 never to stop.
        verbose: 0 for silence, 1 for a bar, 2 for a line an epoch, ``"auto"`` for a bar in a terminal.
        random_state: the seed.
        warm_start: whether ``fit`` goes on from where the last one ended, with the scale of then.

    ``fit(y, X)`` takes a series ``(steps,)`` or several ``(steps, series)``, as arrays or of pandas or polars, equally spaced
    in time, and known inputs ``(steps, inputs)``, as the price or the day of the week. Missing values inside a series are
    filled in along a straight line between their neighbors, those at an end with the nearest value.

    >>> y = np.sin(np.arange(120) / 6)
    >>> model = RNNForecaster(horizon=3, units=4, members=1, epochs=40, random_state=0).fit(y)
    >>> bool(abs(model.predict() - np.sin(np.arange(120, 123) / 6)).max() < 0.2)
    True
    """

    _kept = ("single_", "names_", "input_names_", "horizon_", "window_", "last_", "last_inputs_", "errors_")

    #: whether forecasts have one axis; the names of the series and inputs, if they have any; how many steps are forecast,
    #: and how many are needed
    single_: bool
    names_: list[str] | None
    input_names_: list[str] | None
    horizon_: int
    window_: int
    #: the end of the training series and inputs; the absolute errors on the validation part ``(windows, horizon, series)``
    last_: np.ndarray
    last_inputs_: np.ndarray
    errors_: np.ndarray

    def __init__(
        self,
        horizon: int = 1,
        window: int | None = None,
        season: int | None = None,
        trend: bool = False,
        cell: str = "gru",
        units: int = 32,
        members: int = 5,
        dropout: float = 0.1,
        learning_rate: float = 3e-3,
        epochs: int = 100,
        batch_size: int = 32,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        verbose: int | str = "auto",
        random_state: int | None = None,
        warm_start: bool = False,
    ) -> None:
        self.horizon, self.window, self.season, self.trend = horizon, window, season, trend
        self.cell, self.units, self.members, self.dropout = cell, units, members, dropout
        self.learning_rate, self.epochs, self.batch_size = learning_rate, epochs, batch_size
        self.validation_fraction, self.patience = validation_fraction, patience
        self.verbose, self.random_state, self.warm_start = verbose, random_state, warm_start

    def fit(self, y: Any, X: Any = None) -> Self:
        """Learn from series.

        Args:
            y: ``(steps,)`` or ``(steps, series)``.
            X: inputs known ahead, ``(steps,)`` or ``(steps, inputs)``.

        Raises:
            DataError: for series too short, without any value, or with infinity.
        """
        goes_on = self.warm_start and "model_" in vars(self)
        horizon, epochs = whole("horizon", self.horizon), whole("epochs", self.epochs)
        season = None if self.season is None else whole("season", self.season, 2)
        if goes_on:
            horizon, season = self.horizon_, self.model_.season
        else:
            self.horizon_, self.names_, self.input_names_ = horizon, names_of(y), names_of(X)
            window = (
                max(3 * season if season else 2 * horizon, 12) if self.window is None else whole("window", self.window)
            )
            self.window_ = window + (season or 0)
        share("validation_fraction", self.validation_fraction)
        series, known = self._read(y, X, fitting=not goes_on)
        if not goes_on:
            self.single_ = np.ndim(y) == 1
        origins = np.arange(self.window_, len(series) - horizon + 1)
        watched = self._watched(len(origins))
        if not self._suffices(len(origins)):
            need = next(n for n in itertools.count(1) if self._suffices(len(origins) + n)) + len(series)
            if len(series) < self.window_ + horizon:
                need = self.window_ + horizon + 1
            raise DataError(
                f"y has {len(series)} steps; a window of {self.window_}"
                + (f" (a season of {season} included)" if season else "")
                + f" and {horizon} steps ahead need at least {need}.\nWrite:  RNNForecaster(window=...) with a smaller one"
            )
        learnt = origins[: len(origins) - watched - (horizon - 1)] if watched else origins
        with self._seeded():
            model = self.model_ if goes_on else self._network(series, known, learnt, season)
            batch = min(whole("batch_size", self.batch_size), len(learnt))
            steps = epochs * -(-len(learnt) // batch)
            at = origins[len(origins) - watched :]
            self._train(
                model,
                self._windows(series, known, learnt),
                _ahead(series, learnt, horizon),
                (self._windows(series, known, at), _ahead(series, at, horizon)) if watched else None,
                optimizer=AdamW(CosineDecay(self.learning_rate, steps), weight_decay=1e-2, global_clipnorm=1.0),
                epochs=epochs,
                batch_size=batch,
            )
        self.last_, self.last_inputs_ = series[-self.window_ :], known[-self.window_ :]
        self.errors_ = np.sort(np.abs(self._at(series, known, at) - _ahead(series, at, horizon)), axis=0)
        return self

    def predict(self, y: Any = None, X: Any = None, *, X_future: Any = None) -> np.ndarray:
        """The next ``horizon`` values.

        Args:
            y: the series up to now; those of ``fit`` if ``None``.
            X: the known inputs beside ``y``.
            X_future: the known inputs of the steps to forecast, ``(horizon, inputs)``; needed if ``fit`` got inputs.

        Returns:
            Shape ``(horizon,)`` or ``(horizon, series)``.

        Raises:
            DataError: for a series shorter than the window.
            ShapeError: if the inputs are not those of ``fit``.
        """
        self.model  # noqa: B018 - for its error
        series, known = (self.last_, self.last_inputs_) if y is None else self._read(y, X)
        future = np.zeros((self.horizon_, 0), "float32")
        if self.last_inputs_.shape[1]:
            if X_future is None:
                raise DataError(
                    f"fit got known inputs, so those of the next {self.horizon_} steps are needed.\n"
                    "Write:  predict(X_future=...)"
                )
            future = self._inputs(X_future, "X_future", self.horizon_)
        elif X_future is not None:
            raise DataError("fit got no known inputs, so there is no use for X_future.\nWrite:  fit(y, X)")
        found = self._at(series, np.concatenate([known, future]), np.array([len(series)]))[0]
        return found[:, 0] if self.single_ else found

    def predict_interval(
        self, level: float = 0.9, y: Any = None, X: Any = None, *, X_future: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bounds between which each of the next values falls with probability ``level``.

        They lie as far from the forecast as the errors on the validation part reached, for each step ahead by itself (split
        conformal prediction: Vovk et al., 2005). That holds as far as the future behaves like the validation part.

        Args:
            level: the probability, between 0 and 1.
            y: as for :meth:`predict`.
            X: likewise.
            X_future: likewise.

        Returns:
            The lower and the upper bounds, each as :meth:`predict` gives forecasts.

        Raises:
            ConfigError: for a level that the validation part is too small for.
        """
        if not 0 < level < 1:
            raise ConfigError(f"level is a number between 0 and 1; received {level!r}")
        middle = self.predict(y, X, X_future=X_future)
        rank = _rank(len(self.errors_), level)
        if rank > len(self.errors_):
            need = next(n for n in itertools.count(1) if _rank(n, level) <= n)
            raise ConfigError(
                f"level={level} needs at least {need} windows in the validation part; there are {len(self.errors_)}.\n"
                "Write:  RNNForecaster(validation_fraction=...) with a larger one"
            )
        reach = self.errors_[rank - 1]
        reach = reach[:, 0] if self.single_ else reach
        return middle - reach, middle + reach

    def backtest(self, y: Any, X: Any = None, start: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Forecasts from every step of a series on, each from what came before it, and what really happened.

        Args:
            y: series, at least as long as window and horizon together.
            X: the known inputs beside them.
            start: the first step that is forecast; the earliest possible by default.

        Returns:
            Forecasts and truth, both ``(origins, horizon)`` or ``(origins, horizon, series)``.
        """
        self.model  # noqa: B018 - for its error
        series, known = self._read(y, X)
        first = self.window_ if start is None else whole("start", start)
        horizon = self.horizon_
        if len(series) < self.window_ + horizon:
            raise DataError(
                f"y has {len(series)} steps; a window of {self.window_} and {horizon} steps ahead need at least "
                f"{self.window_ + horizon}.\nGive the series from further back."
            )
        if not self.window_ <= first <= len(series) - horizon:
            raise DataError(
                f"forecasts can start from step {self.window_} to {len(series) - horizon} of {len(series)}, where "
                f"{self.window_} come before and {horizon} follow; received start={start}"
            )
        origins = np.arange(first, len(series) - horizon + 1)
        found, truth = self._at(series, known, origins), _ahead(series, origins, horizon)
        return (found[..., 0], truth[..., 0]) if self.single_ else (found, truth)

    def score(self, y: Any, X: Any = None) -> float:
        """R2 of the forecasts that :meth:`backtest` makes."""
        found, truth = self.backtest(y, X)
        return float(1 - np.square(found - truth).sum() / np.square(truth - truth.mean(axis=(0, 1))).sum())

    # -- inside --------------------------------------------------------------------------------------------------------

    def _network(self, series: np.ndarray, known: np.ndarray, learnt: np.ndarray, season: int | None) -> Model:
        if self.cell not in CELLS:
            raise ConfigError(f"cell={self.cell!r} is not known. {nearest(str(self.cell), CELLS)}")
        past = np.stack([series[t - self.window_ : t] for t in learnt])
        changes = without_the_obvious(past, self.horizon, season, bool(self.trend))[0]
        spread, known_spread = changes.std((0, 1)), known.std(0)
        return ForecastNetwork(
            self.horizon,
            season,
            bool(self.trend),
            changes.mean((0, 1)).tolist(),
            np.where(spread > 0, spread, 1.0).tolist(),
            known.mean(0).tolist(),
            np.where(known_spread > 0, known_spread, 1.0).tolist(),
            self.cell,
            whole("units", self.units),
            whole("members", self.members),
            self.dropout,
        )

    def _watched(self, windows: int) -> int:
        return round(self.validation_fraction * windows) if windows >= 20 else 0

    def _suffices(self, windows: int) -> bool:
        """Whether two windows are left to learn from, which do not reach into the validation part."""
        watched = self._watched(windows)
        return windows - watched - (self.horizon_ - 1 if watched else 0) >= 2

    def _read(self, y: Any, X: Any, fitting: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Series and known inputs as float32 ``(steps, ...)``, filled in."""
        series = numbers("y", y)
        if not fitting:
            self._same("y", names_of(y), self.names_, series.shape[1], self.last_.shape[1])
        if fitting:
            return series, numbers("X", X, len(series)) if X is not None else np.zeros((len(series), 0), "float32")
        if len(series) < self.window_:
            raise DataError(
                f"y has {len(series)} steps; the network looks at the last {self.window_}.\n"
                "Give the series from further back, or fit with a smaller window."
            )
        if self.last_inputs_.shape[1] and X is None:
            raise DataError("fit got known inputs, so they are needed beside y, too.\nWrite:  (y, X)")
        if X is None:
            return series, np.zeros((len(series), 0), "float32")
        return series, self._inputs(X, "X", len(series))

    def _inputs(self, X: Any, name: str, steps: int) -> np.ndarray:
        known = numbers(name, X, steps)
        self._same(name, names_of(X), self.input_names_, known.shape[1], self.last_inputs_.shape[1])
        return known

    def _same(self, what: str, names: Any, before: Any, count: int, wanted: int) -> None:
        if count != wanted:
            raise ShapeError(f"{what} has {count} columns; fit got {wanted}.")
        if names and before and names != before:
            raise DataError(f"{what} has the columns {names}; fit got {before}.")

    def _windows(self, series: np.ndarray, known: np.ndarray, origins: np.ndarray) -> dict[str, np.ndarray]:
        found = {"past": np.stack([series[t - self.window_ : t] for t in origins])}
        if known.shape[1]:
            found["known"] = np.stack([known[t - self.window_ : t + self.horizon_] for t in origins])
        return found

    def _at(self, series: np.ndarray, known: np.ndarray, origins: np.ndarray) -> np.ndarray:
        """Forecasts from each of the steps ``origins`` on, ``(origins, horizon, series)``."""
        if not len(origins):
            return np.zeros((0, self.horizon_, series.shape[1]))
        return self._forward(self._windows(series, known, origins), 64).astype("float64").mean(axis=1)


def numbers(name: str, y: Any, steps: int | None = None) -> np.ndarray:
    """Series as float32 ``(steps, series)``, missing values filled in.

    Raises:
        DataError: for what holds no numbers, infinity, or a series without any value.
        ShapeError: for other shapes.

    >>> numbers("y", [1.0, np.nan, 3.0, np.nan])[:, 0].tolist()
    [1.0, 2.0, 3.0, 3.0]
    """
    for column in y.columns if hasattr(y, "columns") else ():
        if "date" in str(y[column].dtype).lower():
            raise DataError(
                f"{name}, column {column!r} holds dates; a series is numbers, equally spaced in time.\n"
                f"Leave it out, as:  {name}.drop(columns={column!r})  or, of polars:  {name}.drop({column!r})"
            )
    try:
        found = np.asarray(y.to_numpy() if hasattr(y, "to_numpy") else y)
        found = found.astype("float64")
    except (TypeError, ValueError):
        refuse_text(y, name, "Write None for a number that is missing; several series are the columns of one array.")
        raise DataError(
            f"{name} is expected to hold numbers; received {type(y).__name__} with something else."
        ) from None
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2 or not found.size or (steps is not None and len(found) != steps):
        raise ShapeError(
            f"{name} is expected to have shape ({steps or 'steps'},) or ({steps or 'steps'}, columns); received {np.shape(y)}"
        )
    if np.isinf(found).any():
        raise DataError(f"{name} holds infinity, in step {int(np.argwhere(np.isinf(found))[0][0])}.")
    for column, values in enumerate(found.T):
        missing = np.isnan(values)
        if missing.all():
            raise DataError(f"column {column} of {name} holds no value at all.")
        values[missing] = np.interp(np.flatnonzero(missing), np.flatnonzero(~missing), values[~missing])
    return found.astype("float32")


def _rank(count: int, level: float) -> int:
    """Which of so many sorted errors bounds the next one with that probability."""
    return int(np.ceil(round((count + 1) * level, 9)))


def names_of(y: Any) -> list[str] | None:
    """The names of the columns of a data frame; ``None`` for everything else."""
    return [str(name) for name in y.columns] if hasattr(y, "columns") else None


def _ahead(series: np.ndarray, origins: np.ndarray, horizon: int) -> np.ndarray:
    """What follows each origin, ``(origins, horizon, series)``."""
    if not len(origins):
        return np.zeros((0, horizon, series.shape[1]), "float32")
    return np.stack([series[t : t + horizon] for t in origins])
