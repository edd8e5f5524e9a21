"""Forecasts of two series: carbon dioxide month by month, sunspots year by year.

The task is the same for all: from every step of the last 20 % on, forecast the next 12 months (11 years), knowing
everything before that step; the error is the root of the mean square over all these forecasts and all their steps. The
network learns from the first 80 % only; exponential smoothing is even fitted anew at every step.

- persistence: the last value goes on.
- seasonal naive: the value of 12 months (11 years, a sunspot cycle) before.
- exponential smoothing: Holt and Winters's, with additive season and, for carbon dioxide, trend.
- RNNForecaster: recurrent networks for what is left after season and trend.

Needs statsmodels for the data and for exponential smoothing:  pip install statsmodels
"""

import time
import warnings

import numpy as np
from statsmodels.datasets import co2, sunspots
from statsmodels.tsa.holtwinters import ExponentialSmoothing

from lamina.families.rnn import RNNForecaster

SEED = 0
warnings.filterwarnings("ignore", module="statsmodels")  # remarks on how its optimizer fared


def smoothing(y, start, horizon, **form):
    """Forecasts of exponential smoothing, fitted anew at every step to all that came before it."""
    origins = range(start, len(y) - horizon + 1)
    return np.stack([ExponentialSmoothing(y[:t], **form).fit().forecast(horizon) for t in origins])


def compare(title, y, season, trend, forecaster):
    y = np.asarray(y, "float64")
    horizon, start = forecaster.horizon, int(0.8 * len(y))
    started = time.perf_counter()
    forecaster.fit(y[:start])
    network, truth = forecaster.backtest(y, start=start)
    seconds = time.perf_counter() - started
    origins, ahead = range(start, len(y) - horizon + 1), np.arange(horizon)
    forecasts = {
        "persistence": np.stack([np.full(horizon, y[t - 1]) for t in origins]),
        "seasonal naive": np.stack([y[t - season + ahead % season] for t in origins]),
        "exponential smoothing": smoothing(y, start, horizon, trend=trend, seasonal="add", seasonal_periods=season),
        "RNNForecaster": network,
    }
    print(f"\n{title}: {start} steps to learn from, {len(truth)} x {horizon} forecasts; seed {SEED}, {seconds:.0f} s")
    print(f"{'':24}RMSE     one step  {horizon} steps ahead")
    for name, found in forecasts.items():
        error = np.sqrt(np.square(found - truth).mean(axis=0))
        print(f"{name:22}{np.sqrt(np.mean(error**2)):7.3f}  {error[0]:10.3f}  {error[-1]:10.3f}")
    low, high = (
        np.stack(bounds) for bounds in zip(*(forecaster.predict_interval(0.8, y[:t]) for t in origins), strict=True)
    )
    print(f"inside the 80 % interval: {np.mean((low <= truth) & (truth <= high)):.0%}")


months = co2.load().data["co2"].resample("MS").mean().interpolate()  # weekly, with gaps, to monthly
compare(
    "carbon dioxide",
    months,
    season=12,
    trend="add",
    forecaster=RNNForecaster(horizon=12, season=12, trend=True, random_state=SEED, verbose=0),
)
years = sunspots.load().data["SUNACTIVITY"]
compare(
    "sunspots",
    years,
    season=11,
    trend=None,
    forecaster=RNNForecaster(horizon=11, window=11, units=8, dropout=0.3, random_state=SEED, verbose=0),
)
