"""What a portfolio is worth and what it risks: terms in its return over the horizon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError
from foliocast.portfolio.algebra import Term, spread
from foliocast.portfolio.entropic import EntropicTail, Growth, evar_level, tilted
from foliocast.portfolio.market import Market
from foliocast.portfolio.pieces import Block, Quadratic
from foliocast.portfolio.tails import Peak, Tail


@dataclass(frozen=True)
class ExpectedReturn(Term):
    """Mean return over the horizon."""

    shape = 0

    def measure(self, market: Market, w: np.ndarray) -> float:
        return float(market.mean @ w)

    def linear(self, market: Market) -> np.ndarray:
        return market.mean


@dataclass(frozen=True)
class Variance(Term):
    """Variance of the return over the horizon (probability-weighted, not divided by S - 1)."""

    def measure(self, market: Market, w: np.ndarray) -> float:
        if market.has_covariance:
            return float(w @ market.covariance @ w)
        r = market.portfolio(w)
        return float(market.p @ (r - market.p @ r) ** 2)

    def unit(self, market: Market) -> float:
        return market.scale**2

    def block(self, market: Market, coef: np.ndarray) -> Block:
        return _quadratic(market, coef, np.zeros(market.n), root=False)


@dataclass(frozen=True)
class Volatility(Term):
    """Standard deviation of the return over the horizon."""

    def measure(self, market: Market, w: np.ndarray) -> float:
        return float(np.sqrt(max(Variance().measure(market, w), 0.0)))

    def block(self, market: Market, coef: np.ndarray) -> Block:
        return _quadratic(market, coef, np.zeros(market.n), root=True)


@dataclass(frozen=True)
class TrackingError(Term):
    """Standard deviation of the return relative to a benchmark's weights over the horizon."""

    benchmark: Mapping[str, float] | pd.Series

    def measure(self, market: Market, w: np.ndarray) -> float:
        return Volatility().measure(market, w - spread(self.benchmark, market.assets, 0.0))

    def block(self, market: Market, coef: np.ndarray) -> Block:
        return _quadratic(market, coef, spread(self.benchmark, market.assets, 0.0), root=True)


def _quadratic(market: Market, coef: np.ndarray, about: np.ndarray, root: bool) -> Quadratic:
    free = market.free
    matrix = market.covariance / market.scale**2
    away = np.where(market.held, market.base - about, 0.0)
    pull = matrix @ away
    inner = matrix if free is None else matrix[np.ix_(free, free)]
    pick = slice(None) if free is None else free
    return Quadratic(coef, inner, about[pick], (pull[pick], float(away @ pull)), root)


@dataclass(frozen=True)
class CVaR(Term):
    """Conditional value at risk: mean loss in the worst ``1 - alpha`` of the scenarios (positive is a loss)."""

    alpha: float = 0.95

    def __post_init__(self) -> None:
        _check_level(self.alpha, "CVaR")

    def measure(self, market: Market, w: np.ndarray) -> float:
        return tail_mean(-market.portfolio(w), market.p, self.alpha)

    def block(self, market: Market, coef: np.ndarray) -> Block:
        return Tail(coef, market.ops, market.p / (1.0 - self.alpha))


def _check_level(alpha: float, name: str) -> None:
    if not 0.0 < alpha < 1.0:
        raise ConfigError(f"{name} level is {alpha}, expected a number between 0 and 1 such as 0.95")


def tail_mean(loss: np.ndarray, p: np.ndarray, alpha: float) -> float:
    """Mean of the worst ``1 - alpha`` of a loss with probabilities p, the scenario at the edge counted in part."""
    order = np.argsort(-loss)
    before = np.cumsum(p[order]) - p[order]
    share = np.clip((1.0 - alpha) - before, 0.0, p[order])
    return float(share @ loss[order] / (1.0 - alpha))


@dataclass(frozen=True)
class Semivariance(Term):
    """Mean squared shortfall below the mean (``target=None``) or below a target return over the horizon."""

    target: float | None = None

    def measure(self, market: Market, w: np.ndarray) -> float:
        r = market.portfolio(w)
        short = np.minimum(r - (market.p @ r if self.target is None else self.target), 0.0)
        return float(market.p @ short**2)

    def unit(self, market: Market) -> float:
        return market.scale**2

    def block(self, market: Market, coef: np.ndarray) -> Block:
        if self.target is not None:
            return Tail(coef, market.ops, market.p, square=True, target=self.target / market.scale)
        mean = market.mean / market.scale
        fixed = float(mean @ market.base)
        free = slice(None) if market.free is None else market.free
        return Tail(coef, market.ops, market.p, square=True, centre=(mean[free], fixed))


@dataclass(frozen=True)
class MaxLoss(Term):
    """Largest loss of any scenario."""

    def measure(self, market: Market, w: np.ndarray) -> float:
        return float(-market.portfolio(w).min())

    def block(self, market: Market, coef: np.ndarray) -> Block:
        return Peak(coef, market.ops)


@dataclass(frozen=True)
class EntropicRisk(Term):
    """``log E exp(-theta r) / theta``, the certainty equivalent of exponential utility with its sign turned."""

    theta: float = 1.0

    def __post_init__(self) -> None:
        if self.theta <= 0:
            raise ConfigError(f"EntropicRisk has theta = {self.theta}, expected a positive risk aversion")

    def measure(self, market: Market, w: np.ndarray) -> float:
        return tilted(market.p, -self.theta * market.portfolio(w))[0] / self.theta

    def block(self, market: Market, coef: np.ndarray) -> Block:
        return EntropicTail(coef, market.ops, market.p, theta=self.theta * market.scale)


@dataclass(frozen=True)
class EVaR(Term):
    """Entropic value at risk: the tightest exponential bound above VaR and CVaR (Ahmadi-Javid, 2012)."""

    alpha: float = 0.95

    def __post_init__(self) -> None:
        _check_level(self.alpha, "EVaR")

    def measure(self, market: Market, w: np.ndarray) -> float:
        if self._is_peak(market):
            return MaxLoss().measure(market, w)
        r, tail = market.portfolio(w), float(-np.log1p(-self.alpha))
        t = evar_level(r, market.p, tail)
        return t * (tilted(market.p, -r / t)[0] + tail)

    def _is_peak(self, market: Market) -> bool:
        # with less mass in the tail than in any one scenario, the worst distribution sits on the worst scenario
        return 1.0 - self.alpha <= float(market.p.min())

    def block(self, market: Market, coef: np.ndarray) -> Block:
        if self._is_peak(market):
            return Peak(coef, market.ops)
        if market.flat_tails:
            return Peak(coef, market.ops, (market.p, float(-np.log1p(-self.alpha))))
        return EntropicTail(coef, market.ops, market.p, self.alpha)


@dataclass(frozen=True)
class LogGrowth(Term):
    """Expected log growth over the horizon, ``E log(1 + r)`` (Kelly); minus infinity where all can be lost."""

    shape = -1

    def measure(self, market: Market, w: np.ndarray) -> float:
        wealth = 1.0 + market.portfolio(w)
        return float(market.p @ np.log(wealth)) if wealth.min() > 0 else -np.inf

    def block(self, market: Market, coef: np.ndarray) -> Block:
        return Growth(coef, market.ops, market.p, market.scale)


RISKS: dict[str, Any] = {
    "variance": lambda alpha: Variance(),
    "volatility": lambda alpha: Volatility(),
    "semivariance": lambda alpha: Semivariance(),
    "cvar": CVaR,
    "evar": EVaR,
    "max_loss": lambda alpha: MaxLoss(),
    "entropic": lambda alpha: EntropicRisk(),
}


def risk_term(name: str, alpha: float) -> Term:
    """A risk measure by name."""
    if name not in RISKS:
        raise ConfigError(f"risk is '{name}', expected one of: {', '.join(RISKS)}")
    return RISKS[name](alpha)
