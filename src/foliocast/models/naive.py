"""Forecasts without learning: the bar that learning has to clear."""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from foliocast.core.belief import Forecast
from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.panel import Panel, View
from foliocast.features.transforms import FeatureSet
from foliocast.models.paths import Law, Shocks, Start, simulate
from foliocast.models.windowed import positions
from foliocast.stats.drift import expected_drift

KINDS = ("zero", "mean", "shrunk", "last")


class NaiveForecaster(BaseEstimator):
    """Persistence of the price, of the mean return, or of the last return.

    Parameters
    ----------
    kind : {"zero", "mean", "shrunk", "last"}
        "zero": the price stays where it is (persistence); "mean": the asset's mean return in training; "shrunk": the
        same, shrunk towards the mean of all assets and that towards zero (`foliocast.stats.drift.expected_drift`), by
        as much as the years at hand cannot tell; "last": tomorrow's return is today's.
    n_paths : int
        Simulated futures of `forecast`.
    volatility : {"blend", "har", "departures", "gjr", "garch", "ewma"}
        Filter that gives simulated paths their volatility; the first three pool all assets and use the ranges of bars.
    random_state : int
    """

    knowledge_until_: pd.Timestamp
    trained_assets_: tuple[str, ...]

    def __init__(
        self, kind: str = "zero", n_paths: int = 500, volatility: str = "blend", random_state: int = 0
    ) -> None:
        self.kind = kind
        self.n_paths = n_paths
        self.volatility = volatility
        self.random_state = random_state

    def fit(self, panel: Panel, y: object = None) -> Self:
        """Learn the means (and the shocks of simulated paths) from these rows."""
        if self.kind not in KINDS:
            raise ConfigError(f"kind = {self.kind!r} is no naive forecast; choose from {', '.join(KINDS)}")
        returns = panel.return_array()
        known = np.isfinite(returns).any(axis=0)
        if not known.any():
            raise HistoryError(f"'{panel.name}' holds no return in {len(panel)} bars; load a longer history")
        count = np.isfinite(returns).sum(axis=0)
        mean = np.nansum(returns, axis=0) / np.maximum(count, 1)
        self.mean_ = np.where(known, _shrunk(returns) if self.kind == "shrunk" else mean, np.nan)
        self.assets_ = panel.assets
        self.trained_assets_ = tuple(a for a, ok in zip(panel.assets, known) if ok)
        self.shocks_ = Shocks.from_history(panel, self.volatility)
        self.knowledge_until_ = panel.times[-1]
        return self

    def predict(self, panel: Panel, times: pd.DatetimeIndex | None = None) -> pd.DataFrame:
        """Expected simple return of the next bar, (time x asset); NaN where an asset has no quote (or no return)."""
        check_is_fitted(self, "mean_")
        rows = np.arange(len(panel)) if times is None else positions(panel, times)
        close, returns = panel.array("close")[rows], panel.return_array()[rows]
        out = np.where(np.isfinite(close), 0.0, np.nan)
        if self.kind == "last":
            out = returns
        elif self.kind != "zero":
            out = out + self.mean_[self._columns(panel.assets)]
        return pd.DataFrame(out, index=panel.times[rows], columns=list(panel.assets))

    def _columns(self, assets: tuple[str, ...]) -> list[int]:
        unknown = [a for a in assets if a not in self.assets_]
        if unknown:
            raise ConfigError(
                f"NaiveForecaster was fitted on {', '.join(self.assets_[:8])} and knows no mean of "
                f"{', '.join(unknown[:5])}; refit it with these assets"
            )
        return [self.assets_.index(a) for a in assets]

    def forecast(self, view: View, horizon: int = 1) -> Forecast:
        """Distribution of the next ``horizon`` returns: filtered historical simulation around the naive mean."""
        check_is_fitted(self, "mean_")
        if horizon < 1:
            raise ConfigError(f"horizon = {horizon} bars; a forecast looks at least one bar ahead")
        first = self.predict(view.panel, view.panel.times[-1:]).to_numpy()[0]
        if not np.isfinite(first).all():
            lacking = [a for a, value in zip(view.assets, first) if not np.isfinite(value)]
            raise HistoryError(f"no forecast for {', '.join(lacking[:5])} at {view.as_of.date()}: not quoted")
        start = Start(view.panel, FeatureSet(("log_return",)), 1, first)
        rng = np.random.default_rng([self.random_state, len(view)])

        def last(features: np.ndarray, unit: np.ndarray) -> np.ndarray:
            return np.expm1(features[-1, :, 0])

        law = Law(last if self.kind == "last" else None, [self.shocks_] * len(first))
        mean, samples = simulate(start, law, horizon, self.n_paths, rng)
        return Forecast(
            view.as_of, view.assets, mean, samples, knowledge_until=self.knowledge_until_, model=type(self).__name__
        )


def _shrunk(returns: np.ndarray) -> np.ndarray:
    """Shrunk means, (asset,); a missing return counts as the mean of the others that day."""
    rows = returns[np.isfinite(returns).any(axis=1)]
    return expected_drift(np.where(np.isfinite(rows), rows, np.nanmean(rows, axis=1, keepdims=True)))
