"""Predict, then optimise: a forecaster's joint paths are scenarios, and any policy makes weights of them."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError
from foliocast.core.panel import Panel, View
from foliocast.portfolio.baselines import trailing


class ForecastStrategy(BaseEstimator):
    """The two-step strategy: draws the forecaster's distribution of the next bars and lets a policy choose the weights.

    Parameters
    ----------
    forecaster : Forecaster
        Must give samples; those of one draw belong to one day in all assets.
    policy : Policy
        ``allocate(scenarios, previous)``; it is told what is held.
    horizon : int
        Bars the forecast reaches.
    rebalance : int
        Bars between two decisions, counted from the end of the training rows.
    shrink : float
        Share of the forecast's deviation from the mean over assets that is kept, from 0 (no view on single assets)
        to 1: expected returns are the least certain input of any optimiser.

    Attributes
    ----------
    forecaster_ : fitted forecaster
    knowledge_until_ : Timestamp
    """

    path_dependent = True
    knowledge_until_: pd.Timestamp

    def __init__(self, forecaster: Any, policy: Any, horizon: int = 5, rebalance: int = 5, shrink: float = 1.0) -> None:
        self.forecaster = forecaster
        self.policy = policy
        self.horizon = horizon
        self.rebalance = rebalance
        self.shrink = shrink

    def fit(self, panel: Panel, y: object = None) -> Self:
        """Fit the forecaster on these rows.

        Raises
        ------
        ConfigError
            On a schedule or a shrinkage that makes no sense.
        """
        if min(self.horizon, self.rebalance) < 1 or not 0 <= self.shrink <= 1:
            raise ConfigError(f"{self}: horizon and rebalance must be at least 1 and shrink lie between 0 and 1")
        self.forecaster_ = clone(self.forecaster).fit(panel)
        self.trained_until_ = panel.times[-1]
        self.knowledge_until_ = max(panel.times[-1], getattr(self.forecaster_, "knowledge_until_", panel.times[-1]))
        return self

    def decide(self, view: View, previous: pd.Series | None = None) -> pd.Series | None:
        """Target weights by asset; None between two dates of the schedule, or if nothing can be forecast."""
        check_is_fitted(self, "forecaster_")
        panel = view.panel
        passed = len(view) - int(panel.times.searchsorted(self.trained_until_, side="right"))
        if previous is not None and passed % self.rebalance:
            return None
        expected = self.forecaster_.predict(panel, panel.times[-1:]).iloc[0].to_numpy(dtype=float)
        _, eligible = trailing(panel, len(panel) - 1, 60)
        there = [a for a, ok in zip(panel.assets, eligible & np.isfinite(expected)) if ok]
        if not there:
            return None
        forecast = self.forecaster_.forecast(panel.select(there).asof(view.as_of), self.horizon)
        if forecast.samples is None:
            raise ConfigError(f"{type(self.forecaster_).__name__} gives no samples; it cannot be optimised on")
        average = forecast.mean.mean(axis=1, keepdims=True)
        moved = forecast.samples - (1.0 - self.shrink) * (forecast.mean - average)
        scenarios = ScenarioSet(np.maximum(moved, -0.99), tuple(there), as_of=view.as_of)
        held = None if previous is None else previous.reindex(there).fillna(0.0)
        return self.policy.allocate(scenarios, held).reindex(list(panel.assets)).fillna(0.0)

    def decide_many(self, panel: Panel, times: pd.DatetimeIndex) -> pd.DataFrame:
        """As an account would decide that buys at the first time and is told what it holds ever after."""
        held: pd.Series | None = None
        rows, close = [], panel.close()
        empty = pd.Series(np.nan, index=list(panel.assets))
        for before, time in zip(times.insert(0, times[0]), times):
            if held is not None:
                grown = held * np.nan_to_num(close.loc[time].to_numpy() / close.loc[before].to_numpy(), nan=1.0)
                held = grown / (1.0 - held.sum() + grown.sum())
            wish = self.decide(panel.asof(time), held)
            held = held if wish is None else wish
            rows.append(empty if wish is None else wish)
        return pd.DataFrame(rows, index=times)

    def predict(self, panel: Panel, times: pd.DatetimeIndex | None = None) -> pd.DataFrame:
        """The forecaster's expected return of the next bar."""
        check_is_fitted(self, "forecaster_")
        return self.forecaster_.predict(panel, times)
