"""Filtered historical simulation: past shocks at today's volatility and correlation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.base import BaseEstimator

from foliocast.core.conditions import Condition
from foliocast.core.errors import ConfigError
from foliocast.core.scenario_base import Bars, ScenarioMixin
from foliocast.scenarios.paths import PathLaw, path_sampler
from foliocast.scenarios.shocks import EmpiricalShocks
from foliocast.stats.correlation import CorrelationFilter, matrix_power
from foliocast.stats.drift import expected_drift
from foliocast.stats.tails import radius_degrees
from foliocast.stats.variances import bar_variance
from foliocast.stats.volatility import LARGEST, VolatilityFilter


class FilteredHistoricalSimulation(ScenarioMixin, BaseEstimator):
    """Standardise the past by a volatility filter, resample it by date, scale it by the volatility of today.

    Barone-Adesi, Giannopoulos & Vosper (1999). The filter runs on along every path, so that volatility clusters and
    reverts; dates are drawn whole, so that the dependence of the shocks is theirs.

    Parameters
    ----------
    volatility : {"gjr", "garch", "ewma", "har", "blend"}
        See `stats.volatility.VolatilityFilter`; ``har`` pools all assets, knows the state of the market and uses ranges
        where the history is a `Panel` with prices.
    correlation : None or "ewma"
        ``ewma``: past shocks are whitened by the correlation of their time and coloured by today's.
    block_length : float
        Expected bars of consecutive shocks; 1 draws each bar anew.
    drift : {"shrunk", "sample", "zero"}
        See `stats.drift.expected_drift`.
    random_state : int or Generator, optional

    Attributes
    ----------
    filter_ : VolatilityFilter
    correlation_ : CorrelationFilter or None
    mean_ : ndarray (asset,)
        Drift of the log returns, per bar.
    shocks_ : ndarray (row, asset)
        Standardised (and, with ``correlation``, whitened) past.
    """

    def __init__(
        self,
        volatility: str = "gjr",
        correlation: str | None = None,
        block_length: float = 1.0,
        drift: str = "shrunk",
        random_state: int | np.random.Generator | None = None,
    ) -> None:
        self.volatility = volatility
        self.correlation = correlation
        self.block_length = block_length
        self.drift = drift
        self.random_state = random_state

    def _learn(self, bars: Bars) -> None:
        if self.correlation not in (None, "ewma"):
            raise ConfigError(f"correlation = {self.correlation!r} is unknown; choose None or 'ewma'")
        self.mean_ = expected_drift(bars.log_returns, self.drift)
        x, ranges = bars.log_returns - self.mean_, bar_variance(bars.prices)
        self.filter_ = VolatilityFilter(self.volatility).fit(x, ranges)
        z = standardised(self.filter_, x, ranges)
        self.correlation_ = None if self.correlation is None else CorrelationFilter().fit(z)
        self.shocks_ = z if self.correlation_ is None else self.correlation_.whiten(z)
        self.shocks_ = self.shocks_ - self.shocks_.mean(axis=0)

    def _sampler(
        self, bars: Bars, horizon: int, condition: Condition
    ) -> Callable[[int, np.random.Generator], np.ndarray]:
        x, ranges = bars.log_returns - self.mean_, bar_variance(bars.prices)
        bank = self.shocks_
        scale, state = self.filter_.filter(x, ranges)
        if self.correlation_ is not None:
            z = x / scale
            today = self.correlation_.current(z[np.isfinite(z).all(axis=1)])
            bank = bank @ matrix_power(today, 0.5)
        nu = 6.0 if condition.empty else radius_degrees(bank)
        law = PathLaw(
            EmpiricalShocks(bank, self.block_length, nu), self.mean_, self.filter_, state, np.nanmax(scale, axis=0)
        )
        return path_sampler(law, horizon, condition)


def standardised(filter_: VolatilityFilter, x: np.ndarray, ranges: np.ndarray | None) -> np.ndarray:
    """x over its causal volatility, (row, asset), without the warm-up and rows where a quote had stood still."""
    z = x / filter_.scale(x, ranges)
    return z[(np.abs(z) <= LARGEST).all(axis=1)]
