"""Intervals that keep their promise: adaptive conformal calibration from past forecasts and what came of them.

A forecast's own band at level 90 % need not hold 90 % of outcomes. Conformal calibration asks how past outcomes fell
into past forecasts (their probability-integral transforms) and widens or narrows the level that is read off the
samples. The adaptive form follows drift: it needs no exchangeability, its long-run coverage is right by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from foliocast.core.belief import Forecast
from foliocast.core.errors import ConfigError, DataError


class AdaptiveConformal(BaseEstimator):
    """Adaptive conformal inference on the levels of central intervals, asset by asset.

    Parameters
    ----------
    levels : tuple of float
        Nominal coverages.
    gamma : float
        Step of the adaptation: the level moves by ``gamma`` times the surprise of each outcome.

    Attributes
    ----------
    used_ : ndarray, shape (level, asset)
        Level that is read off the samples to cover the nominal one now.
    covered_ : ndarray, shape (level, asset)
        Share of past outcomes inside the adapted intervals.

    Notes
    -----
    Gibbs & Candes (2021), "Adaptive conformal inference under distribution shift":
    ``alpha[t+1] = alpha[t] + gamma (alpha - missed[t])``, where alpha is one minus the level. After n outcomes the
    miss rate differs from alpha by at most ``(1 + gamma) / (gamma n)``. Outcomes must be known: a forecast of h bars
    enters h bars after it was made, and with h > 1 overlapping outcomes enter one by one.
    """

    def __init__(self, levels: Sequence[float] = (0.8, 0.9, 0.95), gamma: float = 0.01) -> None:
        self.levels = levels
        self.gamma = gamma

    def fit(self, pits: np.ndarray, y: object = None) -> Self:
        """Start anew and learn from past forecasts, oldest first.

        Parameters
        ----------
        pits : ndarray, shape (forecast, asset)
            Probability of each outcome under its forecast (`foliocast.stats.scoring.pit`); NaN where there was none.
        """
        if not all(0 < level < 1 for level in self.levels) or self.gamma <= 0:
            raise ConfigError(f"levels lie between 0 and 1, gamma is positive; found {self.levels}, {self.gamma}")
        shape = (len(self.levels), np.asarray(pits).shape[1])
        self.used_ = np.repeat(np.asarray(self.levels, dtype=float)[:, None], shape[1], axis=1)
        self.hits_, self.seen_ = np.zeros(shape), np.zeros(shape[1])
        return self.partial_fit(pits)

    def partial_fit(self, pits: np.ndarray, y: object = None) -> Self:
        """Learn from newer forecasts whose outcomes have become known."""
        if not hasattr(self, "used_"):
            return self.fit(pits)
        nominal = np.asarray(self.levels, dtype=float)[:, None]
        for row in np.asarray(pits, dtype=float):
            known = np.isfinite(row)
            # a level above one is the whole line, one below zero is empty; both are left by the next outcomes
            inside = (np.abs(row - 0.5) <= self.used_ / 2) & (self.used_ > 0) | (self.used_ >= 1)
            self.used_ = self.used_ + np.where(known, self.gamma * (nominal - inside), 0.0)
            self.hits_ += inside & known
            self.seen_ += known
        self.covered_ = self.hits_ / np.maximum(self.seen_, 1)
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
        used = np.clip(self.used_[tuple(self.levels).index(level)], 0.0, 1.0)
        if len(used) != len(forecast.assets):
            raise DataError(f"calibrated on {len(used)} assets, the forecast has {len(forecast.assets)}")
        bands = [forecast.quantile([(1 - u) / 2, (1 + u) / 2], cumulative)[:, :, j] for j, u in enumerate(used)]
        low, high = np.stack(bands, axis=2)
        return low, high
