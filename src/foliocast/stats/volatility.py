"""Volatility: causal filters, vectorised over assets, that also run forward along simulated paths.

One interface for every kind: `VolatilityFilter` learns a recursion from returns, gives the volatility of each bar from
the rows before it, and steps the recursion along scenarios. Feed it log returns: they add up and cannot pass -100 %.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from foliocast.core.errors import ConfigError, DataError
from foliocast.stats.garch import GarchParameters, fit_garch, garch_columns, garch_step, garch_variance
from foliocast.stats.pooled_volatility import (
    WARM_UP,
    PooledParameters,
    PooledState,
    expected_proxy,
    fit_pooled,
    pooled_filter,
    pooled_history,
    pooled_step,
    pooled_variance,
    spread_pooled,
    states_at,
)
from foliocast.stats.variances import FLOOR, decay, ewma_before, spread_array

KINDS = ("ewma", "garch", "gjr", "har", "blend")
POOLED_SHARE = 0.5  # of the log variance of a blend
LARGEST = 25.0  # volatilities: beyond, the filter was wrong (a quote had stood still), and the day is not drawn again
CEILING = 2.0  # times the highest volatility so far: a few shocks in a row must not let a simulated recursion run away


@dataclass(frozen=True)
class BlendParameters:
    """A GJR recursion and the pooled filter: their log variances are averaged."""

    garch: GarchParameters
    pooled: PooledParameters


class BlendState(NamedTuple):
    garch: np.ndarray
    pooled: PooledState


Parameters = GarchParameters | PooledParameters | BlendParameters | None
State = np.ndarray | PooledState | BlendState


def _mixed(garch: np.ndarray, pooled: np.ndarray) -> np.ndarray:
    return garch ** (1.0 - POOLED_SHARE) * pooled**POOLED_SHARE


@dataclass
class VolatilityFilter:
    """Causal volatility of each bar and its recursion along simulated paths.

    Parameters
    ----------
    kind : {"ewma", "garch", "gjr", "har", "blend"}
        ``ewma``: one exponentially weighted mean of squared returns. ``garch``, ``gjr``: by quasi-likelihood, asset by
        asset. ``har``: the pooled filter with market state and leverage (`fit_pooled`); it uses ranges, and it can be
        applied to assets it was not fitted on (so can ``ewma``). ``blend``: half har, half gjr in log variance, which
        steadies the recursion over many steps.
    half_life : float
        Of the EWMA, in bars.

    Attributes
    ----------
    parameters_ : GarchParameters, PooledParameters, BlendParameters or None
    level_ : ndarray, shape (asset,)
        Variance of the fitting sample: where a GARCH history starts.

    Notes
    -----
    ``returns`` everywhere: (time, asset), log returns recommended, finite, mean taken as zero. ``ranges``: variance of
    each bar (`bar_variance`), (time, asset), or None.
    """

    kind: str = "gjr"
    half_life: float = 11.0
    parameters_: Parameters = field(default=None, repr=False)
    level_: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"volatility filter '{self.kind}' is unknown; choose one of {', '.join(KINDS)}")

    def fit(self, returns: np.ndarray, ranges: np.ndarray | None = None) -> VolatilityFilter:
        """Learn the recursion; ``ranges`` serves the pooled filter only."""
        x = _finite(returns)
        self.level_ = np.maximum(np.mean(x**2, axis=0), FLOOR)
        if self.kind in ("garch", "gjr"):
            self.parameters_ = fit_garch(x, leverage=self.kind == "gjr")
        elif self.kind == "har":
            self.parameters_ = fit_pooled(x, ranges)
        elif self.kind == "blend":
            self.parameters_ = BlendParameters(fit_garch(x), fit_pooled(x, ranges))
        return self

    def filter(self, history: np.ndarray, ranges: np.ndarray | None = None) -> tuple[np.ndarray, State]:
        """`scale` of every bar, (time, asset), and the `state` after the last."""
        x = _finite(history)
        p, young = self.parameters_, min(WARM_UP, len(x))
        state: State
        if isinstance(p, BlendParameters):
            slow, first = self._garch(p.garch, x)
            quick, second = pooled_filter(p.pooled, x, ranges)
            variance, state = _mixed(slow, quick), BlendState(first, second)
        elif isinstance(p, PooledParameters):
            variance, state = pooled_filter(p, x, ranges)
        elif isinstance(p, GarchParameters):
            variance, state = self._garch(p, x)
        else:
            variance = np.maximum(ewma_before(x**2, self.half_life), FLOOR)
            state = variance[-1].copy()
        if not isinstance(p, GarchParameters):
            variance[:young] = np.nan
        return np.sqrt(variance[:-1]), state

    def scale(self, history: np.ndarray, ranges: np.ndarray | None = None) -> np.ndarray:
        """Volatility of each bar of the history from the rows before it, (time, asset).

        All but ``garch`` and ``gjr`` know nothing at the first bars: their first 21 rows are NaN.
        """
        return self.filter(history, ranges)[0]

    def state(self, history: np.ndarray, ranges: np.ndarray | None = None) -> State:
        """What the recursion remembers after the history."""
        return self.filter(history, ranges)[1]

    def states(self, history: np.ndarray, ranges: np.ndarray | None, rows: np.ndarray) -> State:
        """What the recursion remembered before each of these rows, stacked: scenarios that start at different times."""
        x, p = _finite(history), self.parameters_
        if isinstance(p, BlendParameters):
            pooled = pooled_history(p.pooled, x, x**2 if ranges is None else ranges)
            return BlendState(self._garch(p.garch, x)[0][rows], states_at(pooled, rows))
        if isinstance(p, PooledParameters):
            return states_at(pooled_history(p, x, x**2 if ranges is None else ranges), rows)
        if isinstance(p, GarchParameters):
            return self._garch(p, x)[0][rows]
        return np.maximum(ewma_before(x**2, self.half_life)[rows], FLOOR)

    def next_scale(self, history: np.ndarray, ranges: np.ndarray | None = None) -> np.ndarray:
        """Volatility of the bar after the history, (asset,)."""
        return self.sigma(self.state(history, ranges))

    def sigma(self, state: State) -> np.ndarray:
        """Volatility of the next bar, (..., asset)."""
        return np.sqrt(self._next_variance(state))

    def step(self, state: State, returns: np.ndarray, ranges: np.ndarray | None = None) -> State:
        """State after one more bar of returns (..., asset), in the state's dtype. A new state; the old one is kept.

        ``ranges``: the simulated bar's variance proxy; where the filter was fitted on ranges and none is simulated, its
        expectation given the return stands in.
        """
        p = self.parameters_
        if isinstance(state, BlendState):
            assert isinstance(p, BlendParameters)
            proxy = expected_proxy(p.pooled, self._next_variance(state), returns) if ranges is None else ranges
            return BlendState(
                garch_step(p.garch, state.garch, returns), pooled_step(p.pooled, state.pooled, returns, proxy)
            )
        if isinstance(state, PooledState):
            assert isinstance(p, PooledParameters)
            proxy = expected_proxy(p, self._next_variance(state), returns) if ranges is None else ranges
            return pooled_step(p, state, returns, proxy)
        if isinstance(p, GarchParameters):
            return garch_step(p, state, returns)
        keep = state.dtype.type(decay(self.half_life))
        return np.maximum(keep * state + (1 - keep) * returns**2, state.dtype.type(FLOOR))

    def select(self, columns: list[int]) -> VolatilityFilter:
        """The fitted filter of some of its assets, in this order; what is pooled over assets stays as it is."""
        p = self.parameters_
        if isinstance(p, GarchParameters):
            p = garch_columns(p, columns)
        elif isinstance(p, BlendParameters):
            p = BlendParameters(garch_columns(p.garch, columns), p.pooled)
        level = None if self.level_ is None else self.level_[columns]
        return VolatilityFilter(self.kind, self.half_life, p, level)

    def spread(self, state: State, n: int, dtype: type = np.float64) -> State:
        """The state repeated for ``n`` scenarios, (n, asset), in the dtype to simulate in."""
        if isinstance(state, BlendState):
            return BlendState(spread_array(state.garch, n, dtype), spread_pooled(state.pooled, n, dtype))
        if isinstance(state, PooledState):
            return spread_pooled(state, n, dtype)
        return spread_array(state, n, dtype)

    def _next_variance(self, state: State) -> np.ndarray:
        p = self.parameters_
        if isinstance(state, BlendState):
            assert isinstance(p, BlendParameters)
            return _mixed(state.garch, pooled_variance(p.pooled, state.pooled))
        if isinstance(state, PooledState):
            assert isinstance(p, PooledParameters)
            return pooled_variance(p, state)
        return state

    def _garch(self, p: GarchParameters, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Variance of each bar and the next, (time + 1, asset), and the last row."""
        if self.level_ is None or x.shape[1] != len(p.beta):
            raise DataError(f"the filter was fitted on {len(p.beta)} assets, the history has {x.shape[1]}")
        variance = garch_variance(x, p, self.level_)
        return variance, variance[-1].copy()


def _finite(returns: np.ndarray) -> np.ndarray:
    x = np.asarray(returns, dtype=float)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise DataError(f"volatility needs finite returns (time, asset), found shape {x.shape} or missing values")
    return x
