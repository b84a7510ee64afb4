"""What is known of an asset before a bar that a volatility filter does not use: clues to its scale.

All are of no unit and causal. Some are of the past as it stands (recent surprises, the level against its own past and
against the others, ranges, gaps, volume), some of the season: companies report every 63 trading days or so, and the
day of the last reports says something about the day of the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from foliocast.core.scenario_base import Bars
from foliocast.stats.variances import FLOOR, bar_variance, ewma_before

HORIZON = 20  # bars ahead for which clues are given
LARGEST = 6.0  # surprises count as this large at most
QUARTERS = ((61, 61), (62, 62), (63, 63), (64, 64), (65, 65), (59, 60), (66, 68), (55, 58), (69, 74), (124, 128))
YEARS = ((187, 191), (245, 249), (250, 251), (252, 252), (253, 254), (255, 258))
EXACT = (62, 63, 64, 252)  # lags at which volume and gap are looked at
SLOW = 500.0
MARKET_MEMORY = 120.0  # half-life of the betas


@dataclass(frozen=True)
class Priced:
    """What prices and volume say of each bar beyond its return, (time, asset) each.

    Attributes
    ----------
    variance : ndarray
        Of the bar, overnight gap and range together (`foliocast.stats.volatility.bar_variance`).
    gap : ndarray
        Log of the open over the close before; NaN counts as none.
    volume : ndarray, optional
    """

    variance: np.ndarray
    gap: np.ndarray
    volume: np.ndarray | None = None

    @classmethod
    def of(cls, bars: Bars) -> Self | None:
        """Of a history; None where it has closes alone."""
        variance = bar_variance(bars.prices)
        if variance is None or bars.prices is None:
            return None
        gap = np.log(bars.prices["open"] / bars.prices["previous"])
        return cls(variance, gap, bars.prices.get("volume"))

    def tail(self, rows: int) -> Priced:
        """The last rows."""
        return Priced(self.variance[-rows:], self.gap[-rows:], None if self.volume is None else self.volume[-rows:])


@dataclass(frozen=True)
class Clues:
    """Clues of every bar of a history and of the bars ahead.

    Attributes
    ----------
    past : ndarray of float32 (time + 1, asset, clue)
        Before each bar and after the last.
    season : ndarray of float32 (time + HORIZON, asset, clue)
        Of each bar and the next ``HORIZON``: the days a quarter or a year before it.
    priced : bool
        Whether ranges, gaps and volume were there; their clues are zero otherwise.
    """

    past: np.ndarray
    season: np.ndarray
    priced: bool

    def ahead(self, rows: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Clues (row, asset, clue) to bar ``row + step - 1`` from what is known before bar ``row`` (steps from 1)."""
        shape = (*self.past.shape[1:2], 1)
        bare = np.zeros((len(rows), *shape), dtype=np.float32)
        step = bare + np.log(steps).astype(np.float32)[:, None, None] / 3.0
        return np.concatenate([self.past[rows], self.season[rows + steps - 1], step, bare + float(self.priced)], axis=2)

    def without_prices(self) -> Clues:
        """The same clues from closes only."""
        past, season = self.past.copy(), self.season.copy()
        past[:, :, N_OWN:], season[:, :, len(QUARTERS + YEARS) :] = 0.0, 0.0
        return Clues(past, season, False)


N_OWN, N_PRICED = 19, 14
N_CLUES = N_OWN + N_PRICED + len(QUARTERS + YEARS) + 2 * len(EXACT) + 2


def clues(z: np.ndarray, sigma: np.ndarray, returns: np.ndarray, priced: Priced | None = None) -> Clues:
    """Clues from surprises and what is known of the bars.

    Parameters
    ----------
    z : ndarray (time, asset)
        Log returns over their volatility forecast.
    sigma : ndarray (time + 1, asset)
        The forecasts, with that of the next bar.
    returns : ndarray (time or more, asset)
        Log returns, of which the last ``time`` rows are meant.
    priced : Priced, optional
        As many rows as ``returns``.
    """
    n = len(z)
    x = returns[-n:]
    size = np.minimum(np.abs(z), LARGEST)
    past = [*_own(z, size), *_levels(sigma, x), *_alone(z, x, sigma[:n])]
    season = [_looked_back(size, low, high) for low, high in QUARTERS + YEARS]
    if priced is not None:
        gap, activity, now = _priced(sigma[:n], priced.tail(n))
        past += now
        season += [_looked_back(v, lag, lag) for v in (activity, gap) for lag in EXACT]
    else:
        past += [np.zeros((n + 1, z.shape[1]))] * N_PRICED
        season += [np.zeros((n + HORIZON, z.shape[1]))] * (2 * len(EXACT))
    return Clues(_stack(past), _stack(season), priced is not None)


def _stack(columns: list[np.ndarray]) -> np.ndarray:
    return np.nan_to_num(np.stack([c.astype(np.float32) for c in columns], axis=-1), posinf=0.0, neginf=0.0)


def _mean(values: np.ndarray, half_life: float) -> np.ndarray:
    """Exponentially weighted mean before each row and after the last; zero before the first."""
    out = ewma_before(values, half_life)
    out[0] = 0.0
    return out


def _lagged(values: np.ndarray, lag: int) -> np.ndarray:
    """Values ``lag`` rows earlier, (time + 1, asset), zero at the start."""
    out = np.zeros((len(values) + 1, values.shape[1]))
    out[lag:] = values[: len(values) + 1 - lag]
    return out


def _own(z: np.ndarray, size: np.ndarray) -> list[np.ndarray]:
    bounded = np.minimum(size, 2.0)
    signed = np.clip(z, -LARGEST, LARGEST)
    return [
        *(_mean(size, h) for h in (1.0, 5.0, 21.0, 63.0, 250.0)),
        *(_mean(bounded, h) for h in (5.0, 21.0)),
        *(_mean(signed, h) for h in (1.0, 5.0, 20.0)),
        *(_lagged(size, k) for k in (1, 2, 3)),
    ]


def _levels(sigma: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
    """The forecast against the asset's slow level and against the other assets."""
    level = np.log(sigma)
    slow = 0.5 * np.log(np.maximum(_mean(x**2, SLOW), FLOOR))
    slow[0] = level[0]
    return [np.clip(level - slow, -2.0, 2.0), np.clip(level - level.mean(axis=1, keepdims=True), -2.0, 2.0)]


def _alone(z: np.ndarray, x: np.ndarray, sigma: np.ndarray) -> list[np.ndarray]:
    """Surprises that were the asset's own: what its beta to the mean of the others leaves."""
    market = x.mean(axis=1, keepdims=True)
    beta = _mean(x * market, MARKET_MEMORY)[:-1] / np.maximum(_mean(market**2, MARKET_MEMORY)[:-1], FLOOR)
    own = np.minimum(np.abs(x - beta * market) / sigma, LARGEST)
    return [_mean(own, h) for h in (1.0, 5.0, 21.0, 63.0)]


def _priced(sigma: np.ndarray, priced: Priced) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Overnight gap and unusual volume of each bar, and the clues of the past from ranges, gaps and volume."""
    reach = np.minimum(np.sqrt(priced.variance) / sigma, 5.0)
    gap = np.minimum(np.abs(priced.gap) / sigma, 5.0)
    gap = np.where(np.isfinite(gap), gap, 0.0)
    activity = _activity(priced.volume, sigma.shape)
    crowd = np.broadcast_to(activity.mean(axis=1, keepdims=True), activity.shape)
    return (
        gap,
        activity,
        [
            *(_mean(reach, h) for h in (1.0, 3.0, 8.0, 21.0, 63.0)),
            *(_mean(gap, h) for h in (1.0, 5.0, 21.0)),
            *(_mean(activity, h) for h in (1.0, 3.0, 10.0)),
            *(_mean(crowd, h) for h in (1.0, 3.0, 10.0)),
        ],
    )


def _activity(volume: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Log volume against its mean of the last months, bounded; zero where there is none."""
    if volume is None:
        return np.zeros(shape)
    level = np.log1p(np.where(np.isfinite(volume), volume, 0.0))
    return np.clip(level - _mean(level, 60.0)[:-1], -2.0, 2.0) * (np.arange(shape[0]) >= 5)[:, None]


def _looked_back(values: np.ndarray, low: int, high: int) -> np.ndarray:
    """Largest of the values ``low`` to ``high`` bars before each bar and the next ones, (time + HORIZON, asset)."""
    n = len(values)
    out = np.zeros((n + HORIZON, values.shape[1]))
    for lag in range(low, high + 1):
        reach = min(n, n + HORIZON - lag)
        if reach > 0:
            np.maximum(out[lag : lag + reach], values[:reach], out=out[lag : lag + reach])
    return out
