"""What is diffused: returns divided by a causal volatility, and what is known of each asset when a window begins.

Volatility and correlation are filtered, not learnt by the network (`stats.volatility`, `stats.correlation`); the
innovations ``z = log(1 + r) / sigma`` are near white in time, near N(0, C) across assets, and of no unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foliocast.core.scenario_base import Bars
from foliocast.models.diffusion.clues import Clues, Priced, clues
from foliocast.stats.correlation import CorrelationFilter
from foliocast.stats.drift import expected_drift
from foliocast.stats.variances import FLOOR, bar_variance, ewma_before
from foliocast.stats.volatility import CEILING, VolatilityFilter

if TYPE_CHECKING:
    from foliocast.models.diffusion.departures import ScaleHead

RECENT = 21  # bars of innovations an asset's state looks back on
SLOW = 500.0  # half-life of the level that volatility is compared with
STRIDE = 21  # bars between two correlation matrices of the training windows
PRIOR_BARS = 250
FARTHEST = 10.0  # innovations beyond are learnt from as this large: one merger in ten years may not set all tails
WILDEST = 20.0  # the same where the tails are read off by class (`sizes`), not by a network
N_STATE = 10
FADING = 20.0  # half-life, in bars, of a departure beyond the bars ahead that it was learnt for


@dataclass(frozen=True)
class Origin:
    """Everything a simulation starts from.

    Attributes
    ----------
    volatility : VolatilityFilter
    state : its state after the last bar
    slow : ndarray (asset,)
        Slow volatility level.
    scale : ndarray (asset,)
        Root mean square of the asset's innovations: what a pooled filter gets wrong about its level.
    recent : ndarray (RECENT, asset)
        Last innovations.
    correlation : ndarray (asset, asset)
    ceiling : ndarray (asset,)
        Volatility that no simulated bar passes.
    drift : ndarray (asset,)
        Mean log return of a bar.
    departure : ndarray (bar, asset), optional
        Factors on the volatility of the next bars (`departures`); the last fades from there on.
    """

    volatility: VolatilityFilter
    state: Any
    slow: np.ndarray
    scale: np.ndarray
    recent: np.ndarray
    correlation: np.ndarray
    ceiling: np.ndarray
    drift: np.ndarray
    departure: np.ndarray | None = None

    def sigma(self, state: Any, bar: int) -> np.ndarray:
        """Volatility of the bar that follows a state ``bar`` bars ahead of the origin, (batch, asset)."""
        return np.minimum(self.volatility.sigma(state) * self.scale * self.factor(bar), self.ceiling)

    def factor(self, bar: int) -> np.ndarray | float:
        """Departure of that bar's volatility; the recursion goes on without it, as it did when it was learnt.

        What is known now wears off beyond the bars that it was learnt for.
        """
        if self.departure is None:
            return 1.0
        beyond = max(bar - len(self.departure) + 1, 0)
        factor: np.ndarray = self.departure[min(bar, len(self.departure) - 1)] ** (0.5 ** (beyond / FADING))
        return factor


@dataclass(frozen=True)
class History:
    """Innovations of a fitting sample with what was known before each of them.

    Attributes
    ----------
    z : ndarray (time, asset)
    state : ndarray (time, asset, N_STATE)
        Known before the bar.
    correlations : ndarray (k, asset, asset)
        As of bars 0, STRIDE, 2 STRIDE, ...; the first is the long-run matrix.
    """

    z: np.ndarray
    state: np.ndarray
    correlations: np.ndarray


def variance_proxy(bars: Bars) -> np.ndarray | None:
    """Range-based variance of each bar where the history has prices."""
    return bar_variance(bars.prices)


def own_scale(z: np.ndarray) -> np.ndarray:
    """Root mean square of each asset's innovations, shrunk to one as if `PRIOR_BARS` rows of unit size came before."""
    capped = np.minimum(z**2, 25.0)
    return np.sqrt((capped.sum(axis=0) + PRIOR_BARS) / (len(z) + PRIOR_BARS))


def innovations(
    volatility: VolatilityFilter, bars: Bars, head: ScaleHead | None = None
) -> tuple[np.ndarray, np.ndarray, Any]:
    """z (time, asset) from the first bar the filter knows, their sigma, and the filter's state after the last bar."""
    z, sigma, state, _ = _standardise(volatility, bars, head)
    return z, sigma, state


def _standardise(
    volatility: VolatilityFilter, bars: Bars, head: ScaleHead | None
) -> tuple[np.ndarray, np.ndarray, Any, Clues | None]:
    log_returns = bars.log_returns
    sigma, state = volatility.filter(log_returns, variance_proxy(bars))
    first = int(np.isfinite(sigma).all(axis=1).argmax())
    sigma = sigma[first:]
    z = log_returns[first:] / sigma
    if head is None:
        return z, sigma, state, None
    known = clues(z / own_scale(z), np.vstack([sigma, volatility.sigma(state)]), log_returns, Priced.of(bars))
    factor = np.exp(head.of_history(known))
    return z / factor, sigma * factor, state, known


def study(
    volatility: VolatilityFilter,
    correlation: CorrelationFilter,
    bars: Bars,
    head: ScaleHead | None = None,
    farthest: float = FARTHEST,
) -> History:
    """Innovations, states and correlations of a whole sample, all causal (the filters' few parameters excepted)."""
    z, sigma, _ = innovations(volatility, bars, head)
    z = np.clip(z / own_scale(z), -farthest, farthest)
    slow = _slow(bars.log_returns)[-len(z) - 1 : -1]
    matrices = np.stack(
        [correlation.current(z[:t]) if t > RECENT else correlation.long_run_ for t in range(0, len(z), STRIDE)]
    )
    mean, short, long = _running(z, 5), _running(z**2, 5), _running(z**2, RECENT)
    last = np.vstack([np.zeros_like(z[:1]), z[:-1]])
    nearest = np.abs(matrices).mean(axis=2)[np.arange(len(z)) // STRIDE]
    return History(z, _features(np.log(sigma / slow), mean, short, long, last, nearest), matrices)


def origin(
    volatility: VolatilityFilter, correlation: CorrelationFilter, bars: Bars, head: ScaleHead | None = None
) -> Origin:
    """Where paths that follow the last bar start."""
    z, sigma, state, known = _standardise(volatility, bars, head)
    scale = own_scale(z)
    ceiling = CEILING * sigma.max(axis=0) * scale
    departure = None if head is None or known is None else np.exp(head.of_future(known))
    today = correlation.current(z / scale)
    drift = expected_drift(bars.log_returns, "common")
    slow = _slow(bars.log_returns)[-1]
    return Origin(volatility, state, slow, scale, z[-RECENT:] / scale, today, ceiling, drift, departure)


def state_now(start: Origin, sigma: np.ndarray, recent: np.ndarray) -> np.ndarray:
    """State of each asset before the next bar, (batch, asset, N_STATE).

    Parameters
    ----------
    sigma : ndarray (batch, asset)
        Volatility of the next bar as filtered, before the asset's own scale.
    recent : ndarray (batch, RECENT, asset)
    """
    squares = recent**2
    return _features(
        np.log(sigma / start.slow),
        recent[:, -5:].mean(axis=1),
        squares[:, -5:].mean(axis=1),
        squares.mean(axis=1),
        recent[:, -1],
        np.abs(start.correlation).mean(axis=0),
    )


def _features(
    level: np.ndarray, mean: np.ndarray, short: np.ndarray, long: np.ndarray, last: np.ndarray, nearest: np.ndarray
) -> np.ndarray:
    """Bounded features of order one; own value and the market's (cross-sectional mean) side by side."""
    n_assets = level.shape[-1]
    heat = np.log(short + 0.1)

    def market(values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values.mean(axis=-1, keepdims=True), values.shape)

    columns = [
        level,
        market(level),
        heat,
        market(heat),
        np.log(long + 0.1),
        2 * mean,
        2 * market(mean),
        last / 2,
        np.broadcast_to(2 * nearest - 0.5, level.shape),
        np.full_like(level, np.log(n_assets / 20) / 2),
    ]
    return np.clip(np.stack(columns, axis=-1), -3.0, 3.0).astype(np.float32)


def _slow(log_returns: np.ndarray) -> np.ndarray:
    """Slow volatility before each bar and after the last, (time + 1, asset)."""
    level = np.sqrt(np.maximum(ewma_before(log_returns**2, SLOW), FLOOR))
    level[0] = level[1]
    return level


def _running(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over the ``window`` rows before each row (fewer at the start, zero in the first)."""
    total = np.cumsum(np.vstack([np.zeros_like(values[:1]), values]), axis=0)
    stop = np.arange(len(values))
    start = np.maximum(stop - window, 0)
    count = np.maximum(stop - start, 1)[:, None]
    return (total[stop] - total[start]) / count
