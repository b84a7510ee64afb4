"""Intervals that keep their promise: adaptive conformal calibration from past forecasts and what came of them.

A forecast's own band at level 90 % need not hold 90 % of outcomes. Conformal calibration asks how past outcomes fell
into past forecasts (their probability-integral transforms) and widens or narrows the level that is read off the
samples. The adaptive form follows drift: it needs no exchangeability, its long-run coverage is right by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from foliocast.core.belief import Forecast
from foliocast.core.errors import ConfigError, DataError, HistoryError
from foliocast.core.panel import Panel, View
from foliocast.stats.scoring import pit

LEVELS = (0.8, 0.9, 0.95)
WIDEST = 3.0  # times the nominal width; beyond it a model is wrong, not narrow


class AdaptiveConformal(BaseEstimator):
    """Adaptive conformal inference on the widths of central intervals, asset by asset.

    Parameters
    ----------
    levels : sequence of float
        Nominal coverages.
    gamma : float
        Step of the adaptation of the logarithm of the width: a miss at 95 % widens a band by 0.95 gamma.
    horizon : int
        Rows until the outcome of a forecast is known: a row is judged by the widths of so many rows before.
    start : {"nominal", "pooled"}
        Widths to begin with: those of the forecast, or those that would have covered the first pits of all assets
        together, which spares an asset with few outcomes the way there.

    Attributes
    ----------
    used_ : ndarray, shape (level, asset)
        Level that is read off the samples to cover the nominal one now.
    covered_ : ndarray, shape (level, asset)
        Share of past outcomes inside the intervals that were in force when their forecasts were made.

    Notes
    -----
    An outcome of probability-integral transform u is as far out as ``|z(u)|``, z the normal quantile; the interval of a
    level reaches to ``w z((1 + level) / 2)``. After each outcome ``log w += gamma (missed - (1 - level))``: quantile
    tracking (Angelopoulos, Candes & Tibshirani 2023, "Conformal PID control for time series prediction", sec. 2; Gibbs
    & Candes 2021 move the level itself, which can leave (0, 1)). Summed up, the miss rate of n outcomes differs from
    ``1 - level`` by exactly ``|log w_n - log w_0| / (gamma n)``, whatever the forecaster did, as long as w stays below
    three.
    """

    def __init__(
        self, levels: Sequence[float] = LEVELS, gamma: float = 0.02, horizon: int = 1, start: str = "nominal"
    ) -> None:
        self.levels = levels
        self.gamma = gamma
        self.horizon = horizon
        self.start = start

    def fit(self, pits: np.ndarray, y: object = None) -> Self:
        """Start anew and learn from past forecasts, oldest first.

        Parameters
        ----------
        pits : ndarray, shape (forecast, asset)
            Probability of each outcome under its forecast (`foliocast.stats.scoring.pit`); NaN where there was none.
        """
        if not all(0 < level < 1 for level in self.levels) or self.gamma <= 0 or self.horizon < 1:
            raise ConfigError(
                f"levels lie between 0 and 1, gamma is positive, horizon at least 1; found {self.levels}, "
                f"{self.gamma}, {self.horizon}"
            )
        if self.start not in ("nominal", "pooled"):
            raise ConfigError(f"start = {self.start!r} is unknown; choose 'nominal' or 'pooled'")
        table = np.asarray(pits, dtype=float)
        shape = (len(self.levels), table.shape[1])
        first = self._pooled(table) if self.start == "pooled" else np.zeros(len(self.levels))
        self._log_widths = [np.repeat(first[:, None], shape[1], axis=1)]
        self.hits_, self.seen_ = np.zeros(shape), np.zeros(shape[1])
        return self.partial_fit(table)

    def _pooled(self, pits: np.ndarray) -> np.ndarray:
        out = np.abs(norm.ppf(pits[np.isfinite(pits)]))
        if len(out) < 20:
            return np.zeros(len(self.levels))
        return np.log(np.quantile(out, self.levels) / self._nominal)

    @property
    def _nominal(self) -> np.ndarray:
        return norm.ppf((1.0 + np.asarray(self.levels, dtype=float)) / 2.0)

    def partial_fit(self, pits: np.ndarray, y: object = None) -> Self:
        """Learn from newer forecasts whose outcomes have become known."""
        if not hasattr(self, "_log_widths"):
            return self.fit(pits)
        alpha = 1.0 - np.asarray(self.levels, dtype=float)[:, None]
        for row in np.asarray(pits, dtype=float):
            known = np.isfinite(row)
            then, now = self._log_widths[0], self._log_widths[-1]
            inside = np.abs(norm.ppf(np.where(known, row, 0.5))) <= np.exp(then) * self._nominal[:, None]
            moved = np.where(known, self.gamma * (~inside - alpha), 0.0)
            self._log_widths = [*self._log_widths, np.minimum(now + moved, np.log(WIDEST))][-self.horizon :]
            self.hits_ += inside & known
            self.seen_ += known
        self.covered_ = self.hits_ / np.maximum(self.seen_, 1)
        self.used_ = 2.0 * norm.cdf(np.exp(self._log_widths[-1]) * self._nominal[:, None]) - 1.0
        return self

    def interval(self, forecast: Forecast, level: float, cumulative: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Calibrated central band, two arrays (horizon, asset).

        Raises
        ------
        ConfigError
            The level was not calibrated.
        DataError
            The forecast has other assets than the calibration, or no samples.
        """
        check_is_fitted(self, "used_")
        if level not in tuple(self.levels):
            raise ConfigError(f"level {level} was not calibrated; these were: {', '.join(map(str, self.levels))}")
        used = self.used_[tuple(self.levels).index(level)]
        if len(used) != len(forecast.assets):
            raise DataError(f"calibrated on {len(used)} assets, the forecast has {len(forecast.assets)}")
        bands = [forecast.quantile([(1 - u) / 2, (1 + u) / 2], cumulative)[:, :, j] for j, u in enumerate(used)]
        low, high = np.stack(bands, axis=2)
        return low, high


def past_pits(model: Any, panel: Panel, origins: np.ndarray, horizon: int) -> np.ndarray:
    """Where outcomes fell into the forecasts made at past bars, (origin, horizon, asset).

    Parameters
    ----------
    model : fitted forecaster
        Fitted on rows before the first origin, or the pits say less than they seem to.
    origins : ndarray of int
        Rows of the panel at which it forecasts. An asset without a whole window there has no forecast.
    horizon : int
        Returns are compounded from the origin to 1 ... horizon bars ahead.

    Returns
    -------
    ndarray
        NaN where the outcome lies beyond the panel or there was no quote.
    """
    close = panel.array("close")
    out = np.full((len(origins), horizon, len(panel.assets)), np.nan)
    for number, row in enumerate(origins):
        view = panel.rows(max(0, int(row) + 1 - HISTORY), int(row) + 1)
        able = _able(model, view)
        if not able.any():
            continue
        view = view if able.all() else view.select(np.array(panel.assets)[able])
        believed = model.forecast(view.asof(view.times[-1]), horizon)
        cumulative = np.cumprod(1.0 + believed.samples, axis=1) - 1.0
        steps = min(horizon, len(panel) - 1 - int(row))
        came = close[row + 1 : row + 1 + steps][:, able] / close[row, able] - 1.0
        place = pit(cumulative[:, :steps], came)
        out[number, :steps, able] = np.where(np.isfinite(came), place, np.nan).T
    return out


HISTORY = 2600  # bars handed to a past forecast: what its filters remember


def _able(model: Any, panel: Panel) -> np.ndarray:
    """Assets with a forecast at the end of the panel, (asset,)."""
    known = [asset in model.trained_assets_ for asset in panel.assets]
    last = model.predict(panel, panel.times[-1:]).to_numpy()[0]
    return np.isfinite(last) & np.array(known)


class ConformalForecaster(BaseEstimator):
    """A forecaster whose bands are calibrated on forecasts that it made before, out of sample.

    `fit` fits a twin on all but the last ``calibration`` rows, lets it forecast through them, learns from the outcomes
    how wide bands have to be (`AdaptiveConformal`, an asset and a step ahead each, starting from all assets together),
    and then fits the forecaster itself on every row.

    Parameters
    ----------
    forecaster : estimator
        Any forecaster that draws samples.
    levels : sequence of float
        Levels whose bands are calibrated; between them and beyond, widths are interpolated and kept.
    horizon : int
        Bars ahead that are calibrated; forecasts beyond it take the widths of the last.
    calibration, every : int
        Last training rows that calibrate, and bars between the forecasts in them.
    gamma : float
        Step of the adaptation.
    n_paths : int
        Simulated futures of a calibrating forecast.

    Attributes
    ----------
    forecaster_ : fitted forecaster
    calibrations_ : list of AdaptiveConformal
        By step ahead.
    knowledge_until_ : Timestamp
    trained_assets_ : tuple of str
    """

    def __init__(
        self,
        forecaster: Any,
        levels: Sequence[float] = LEVELS,
        horizon: int = 7,
        calibration: int = 252,
        every: int = 5,
        gamma: float = 0.02,
        n_paths: int = 200,
    ) -> None:
        self.forecaster = forecaster
        self.levels = levels
        self.horizon = horizon
        self.calibration = calibration
        self.every = every
        self.gamma = gamma
        self.n_paths = n_paths

    knowledge_until_: pd.Timestamp

    def fit(self, panel: Panel, y: object = None) -> Self:
        """Calibrate on the last rows, then fit on all of them.

        Raises
        ------
        HistoryError
            The rows are too few to spare the calibration.
        """
        self.look_back(panel)
        self.forecaster_ = clone(self.forecaster).fit(panel)
        self.trained_assets_ = self.forecaster_.trained_assets_
        self.knowledge_until_ = self.forecaster_.knowledge_until_
        return self

    def look_back(self, panel: Panel) -> np.ndarray:
        """Calibrate on forecasts that a twin, fitted before the last ``calibration`` rows, makes in them.

        Returns
        -------
        ndarray, shape (origin, horizon, asset)
            The pits of those forecasts: what `calibrate` learns from.
        """
        first = len(panel) - self.calibration
        if first <= self.calibration // 2:
            raise HistoryError(
                f"{len(panel)} bars leave {max(0, first)} to fit on before {self.calibration} to calibrate on; "
                "load a longer history or lower calibration"
            )
        twin = clone(self.forecaster).fit(panel.rows(0, first))
        twin.set_params(n_paths=self.n_paths)
        pits = past_pits(twin, panel, np.arange(first - 1, len(panel) - 1, self.every), self.horizon)
        self.calibrate(pits, panel.assets)
        return pits

    def calibrate(self, pits: np.ndarray, assets: Sequence[str]) -> Self:
        """Learn the widths from past pits (origin, horizon, asset), ``every`` bars apart."""
        self.calibrations_ = [
            AdaptiveConformal(self.levels, self.gamma, -(-(h + 1) // self.every), "pooled").fit(pits[:, h])
            for h in range(pits.shape[1])
        ]
        self.calibrated_assets_ = tuple(assets)
        return self

    def predict(self, panel: Panel, times: pd.DatetimeIndex | None = None) -> pd.DataFrame:
        """Expected return of the next bar, as the forecaster says."""
        check_is_fitted(self, "forecaster_")
        return self.forecaster_.predict(panel, times)

    def forecast(self, view: View, horizon: int = 1) -> Forecast:
        """The forecaster's distribution, widened or narrowed step by step to its calibrated bands; the same mean."""
        check_is_fitted(self, "forecaster_")
        return self.widened(self.forecaster_.forecast(view, horizon))

    def widened(self, believed: Forecast) -> Forecast:
        """A forecast's samples so that its quantiles at the calibrated levels are the calibrated bands."""
        if believed.samples is None:
            raise DataError(f"{believed.model} is a point forecast: it has no bands to calibrate")
        wealth = np.cumprod(1.0 + believed.samples, axis=1)
        for column, asset in enumerate(believed.assets):
            if asset not in self.calibrated_assets_:
                raise DataError(
                    f"{asset} was not calibrated; the bands of {', '.join(self.calibrated_assets_[:8])} were"
                )
            own = self.calibrated_assets_.index(asset)
            for step in range(believed.horizon):
                used = self.calibrations_[min(step, len(self.calibrations_) - 1)].used_[:, own]
                wealth[:, step, column] = widen(wealth[:, step, column], np.asarray(self.levels, dtype=float), used)
        before = np.concatenate([np.ones_like(wealth[:, :1]), wealth[:, :-1]], axis=1)
        return replace(believed, samples=wealth / before - 1.0, model=f"{believed.model}, calibrated")


def widen(values: np.ndarray, levels: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Samples moved away from, or towards, their median: what bounded ``used`` of them bounds ``levels`` of them.

    Parameters
    ----------
    values : ndarray, shape (sample,)
        Positive (wealth); they are moved on the logarithmic scale, keep their order and stay positive.
    levels, used : ndarray, shape (level,)
        Nominal levels, increasing, and those whose quantiles take their place.
    """
    x = np.log(values)
    middle = np.median(x)
    order = np.argsort(levels)
    stretch = []
    for side in (-1.0, 1.0):
        there = np.quantile(x, 0.5 + side * used[order] / 2) - middle
        nominal = np.quantile(x, 0.5 + side * levels[order] / 2) - middle
        stretch.append((np.abs(nominal), np.divide(there, nominal, out=np.ones_like(there), where=nominal != 0)))
    away = x - middle
    (low, less), (high, more) = stretch
    factor = np.where(away < 0, np.interp(-away, low, less), np.interp(away, high, more))
    return np.exp(middle + away * factor)
