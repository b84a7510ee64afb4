"""How much to bet: Kelly on joint scenarios, Kelly an asset, volatility target and drawdown throttle."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError
from foliocast.core.time import TRADING_DAYS
from foliocast.portfolio import terms as t
from foliocast.portfolio.market import Market
from foliocast.portfolio.solver import Solution, optimise


class Kelly(BaseEstimator):
    """Weights of greatest expected log growth on the joint scenarios (Kelly, 1956; Breiman, 1961).

    Parameters
    ----------
    fraction : float
        1 is full Kelly; 0.5 gives up a quarter of the growth for half of the volatility. The rest is cash.
    observations : float, optional
        Independent observations behind the expected returns. When given, the bet shrinks by
        ``theta2 / (theta2 + N / observations)``, the estimation-risk factor of Kan and Zhou (2007) with the bias of the
        squared Sharpe ratio theta2 taken out; None takes the scenarios as the truth.
    constraints : sequence of Constraint
        Default: long only without leverage; cash is allowed.
    costs : Term or Expression, optional
        Subtracted from growth.

    Attributes
    ----------
    shrinkage_ : float
        What the weights were multiplied by for uncertainty.
    solution_ : Solution
        Of full Kelly.
    """

    solution_: Solution
    shrinkage_: float

    def __init__(
        self,
        fraction: float = 1.0,
        observations: float | None = None,
        constraints: Sequence[t.Constraint] = (t.LongOnly(), t.NetExposure(upper=1.0)),
        costs: t.Sum | None = None,
    ) -> None:
        self.fraction = fraction
        self.observations = observations
        self.constraints = constraints
        self.costs = costs

    @property
    def path_dependent(self) -> bool:
        """Whether the weights held enter the answer."""
        return t.knows_holdings(self._utility(), self.constraints)

    def _utility(self) -> t.Sum:
        return t.LogGrowth() if self.costs is None else t.LogGrowth() - self.costs

    def allocate(self, scenarios: ScenarioSet, previous: pd.Series | None = None) -> pd.Series:
        """Target weights by asset; what they leave to one is cash.

        Raises
        ------
        InfeasibleError
            Growth is unbounded (an arbitrage on these scenarios) or constraints contradict each other.
        """
        if not 0.0 < self.fraction <= 1.0:
            raise ConfigError(f"fraction is {self.fraction}, expected above 0 and at most 1 (full Kelly)")
        self.solution_ = optimise(scenarios, self._utility(), tuple(self.constraints), previous)
        self.shrinkage_ = 1.0 if self.observations is None else estimation_shrinkage(scenarios, self.observations)
        return self.solution_.weights * (self.fraction * self.shrinkage_)


def estimation_shrinkage(scenarios: ScenarioSet, observations: float) -> float:
    """``theta2 / (theta2 + N / T)`` with ``theta2 = max(((T - N - 2) mu' C^-1 mu - N) / T, 0)`` (Kan and Zhou, 2007).

    Scenarios over a horizon of H bars carry H times the squared Sharpe ratio of one bar, and T observations of one bar
    are T / H of them; the ratio is the same.
    """
    market = Market.of(scenarios)
    n, periods = market.n, observations / market.horizon
    if periods <= n + 2:
        return 0.0
    squared = float(market.mean @ np.linalg.pinv(market.covariance) @ market.mean)
    unbiased = max(((periods - n - 2) * squared - n) / periods, 0.0)
    return unbiased / (unbiased + n / periods) if unbiased > 0 else 0.0


def kelly_fraction(
    returns: np.ndarray, probabilities: np.ndarray | None = None, low: float = 0.0, high: float = np.inf
) -> float:
    """The single bet f in [low, high] of greatest ``E log(1 + f r)``, by Newton safeguarded by bisection.

    Parameters
    ----------
    returns : ndarray, shape (scenario,)

    Raises
    ------
    ConfigError
        No loss (or no gain) and no bound: growth has no maximum.
    """
    r = np.asarray(returns, dtype=float)
    p = np.full(len(r), 1.0 / len(r)) if probabilities is None else np.asarray(probabilities, dtype=float)
    worst, best = float(r.min()), float(r.max())
    top = min(high, -1.0 / worst if worst < 0 else np.inf)
    bottom = max(low, -1.0 / best if best > 0 else -np.inf)
    if not (np.isfinite(top) and np.isfinite(bottom)):
        raise ConfigError("returns never lose (or never gain), so growth has no maximum; set low and high")

    def slope(f: float) -> float:
        with np.errstate(divide="ignore"):
            return float(p @ (r / (1.0 + f * r)))

    inside = 1e-12 * max(1.0, top - bottom)
    if bottom == low and slope(bottom) <= 0:
        return bottom
    if top == high and 1.0 + top * worst > 0 and slope(top) >= 0:
        return top
    lower, upper = bottom + (0 if bottom == low else inside), top - (0 if top == high else inside)
    f = min(max(float(p @ r) / max(float(p @ r**2), 1e-300), lower), upper)
    for _ in range(200):
        d = slope(f)
        lower, upper = (f, upper) if d > 0 else (lower, f)
        new = f + d / float(p @ (r / (1.0 + f * r)) ** 2)
        new = new if lower < new < upper else 0.5 * (lower + upper)
        if abs(new - f) <= 1e-15 * max(1.0, abs(f)):
            break
        f = new
    return f


class PerAssetKelly(BaseEstimator):
    """The simple variant: each asset's own Kelly bet, blind to the others.

    Bets are capped, and what hits the cap is reported: weights that sit at their cap are the cap's choice and not
    Kelly's. When the bets add up to more than ``gross`` they are scaled down together.

    Parameters
    ----------
    cap : float
        Largest bet on an asset.
    gross : float
        Largest sum of the bets.
    fraction : float
    long_only : bool

    Attributes
    ----------
    pinned_ : tuple of str
        Assets whose bet is at the cap. A warning is given when they are more than half of those held.
    raw_ : Series
        Bets before ``gross`` and ``fraction``.
    """

    path_dependent = False
    pinned_: tuple[str, ...]
    raw_: pd.Series

    def __init__(self, cap: float = 1.0, gross: float = 1.0, fraction: float = 0.5, long_only: bool = True) -> None:
        self.cap = cap
        self.gross = gross
        self.fraction = fraction
        self.long_only = long_only

    def allocate(self, scenarios: ScenarioSet, previous: pd.Series | None = None) -> pd.Series:
        """Target weights by asset; the rest is cash."""
        returns, p = scenarios.cumulative().astype(float), scenarios.probabilities
        low = 0.0 if self.long_only else -self.cap
        bets = [kelly_fraction(column, p, low, self.cap) for column in returns.T]
        self.raw_ = pd.Series(bets, index=list(scenarios.assets))
        self.pinned_ = tuple(str(a) for a, f in self.raw_.items() if abs(f) >= self.cap * (1.0 - 1e-9))
        held = int((self.raw_.abs() > 0).sum())
        if len(self.pinned_) * 2 > held > 0:
            warnings.warn(
                f"{len(self.pinned_)} of {held} per-asset Kelly bets sit at their cap of {self.cap:g} "
                f"({', '.join(self.pinned_[:5])}): the cap decides, not the forecast; use Kelly on the joint scenarios",
                UserWarning,
                stacklevel=2,
            )
        weights = self.raw_ * self.fraction
        total = float(weights.abs().sum())
        return weights * (self.gross / total) if total > self.gross else weights


def lookback_kelly(returns: pd.DataFrame, lookback: int = 252, cap: float = 1.0, fraction: float = 0.5) -> pd.Series:
    """Per-asset Kelly on the last ``lookback`` bars of returns (assets without a full window get nothing)."""
    recent = returns.tail(lookback)
    full = recent.columns[recent.notna().all()] if len(recent) == lookback else recent.columns[:0]
    if not len(full):
        return pd.Series(0.0, index=returns.columns)
    bets = PerAssetKelly(cap=cap, fraction=fraction).allocate(ScenarioSet.from_returns(recent[full]))
    return bets.reindex(returns.columns).fillna(0.0)


class VolatilityTarget(BaseEstimator):
    """Scales another policy's weights to a target volatility, measured on the joint scenarios.

    Parameters
    ----------
    policy : Policy
    target : float
        Annual volatility.
    max_leverage : float
        Largest gross exposure.
    periods : int
        Bars a year.
    """

    def __init__(
        self, policy: Any, target: float = 0.1, max_leverage: float = 1.0, periods: int = TRADING_DAYS
    ) -> None:
        self.policy = policy
        self.target = target
        self.max_leverage = max_leverage
        self.periods = periods

    @property
    def path_dependent(self) -> bool:
        """As the policy that is scaled."""
        return bool(getattr(self.policy, "path_dependent", True))

    def allocate(self, scenarios: ScenarioSet, previous: pd.Series | None = None) -> pd.Series:
        """Target weights by asset; the rest is cash (or borrowed, when ``max_leverage`` is above one)."""
        weights = self.policy.allocate(scenarios, previous)
        volatility = t.Volatility().value(weights, scenarios) * np.sqrt(self.periods / scenarios.horizon)
        gross = float(weights.abs().sum())
        if volatility == 0 or gross == 0:
            return weights
        return weights * min(self.target / volatility, self.max_leverage / gross)


def cppi_exposure(
    wealth: np.ndarray | pd.Series, floor: float = 0.8, multiplier: float = 4.0, max_exposure: float = 1.0
) -> np.ndarray:
    """Exposure of constant-proportion insurance with a ratchet: ``multiplier`` times the cushion above the floor.

    Parameters
    ----------
    wealth : (time,)
        Up to and including now; entry t of the result depends on entries <= t only.
    floor : float
        Fraction of the running maximum that is protected (Grossman and Zhou, 1993): 0.8 aims at a drawdown of 20 %.
        Between rebalances a fall of more than ``1 / multiplier`` can break it.
    """
    values = np.asarray(wealth, dtype=float)
    cushion = 1.0 - floor * np.maximum.accumulate(values) / values
    return np.clip(multiplier * cushion, 0.0, max_exposure)


def drawdown_throttle(wealth: np.ndarray | pd.Series, start: float = 0.05, stop: float = 0.2) -> np.ndarray:
    """Exposure that falls in a straight line from one to zero as drawdown goes from ``start`` to ``stop``."""
    if not 0 <= start < stop:
        raise ConfigError(f"start = {start} and stop = {stop}: expected 0 <= start < stop")
    values = np.asarray(wealth, dtype=float)
    drawdown = 1.0 - values / np.maximum.accumulate(values)
    return np.clip((stop - drawdown) / (stop - start), 0.0, 1.0)
