"""What is wanted of a portfolio, as terms that compose: ``ExpectedReturn() - 2 * CVaR(0.95) - TransactionCost(bps=5)``.

A term is optimised, charged and read by the same object: ``term.value(weights, scenarios, previous)`` is its number. An
expression is a utility and is maximised; risks and costs therefore stand in it with a minus sign. ``<=`` and ``>=``
make limits. Returns are over the whole horizon of the scenario set.

Weights are fractions of equity; the rest is cash that earns nothing. ``previous`` are the weights held now (drifted);
None means that no holdings are known: trading then costs nothing and turnover is not limited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError
from foliocast.portfolio.market import Market
from foliocast.portfolio.pieces import (
    Block,
    EntropicTail,
    Growth,
    Peak,
    Quadratic,
    Tail,
    Trade,
    _tilted,
    evar_level,
)

Weights = pd.Series | np.ndarray
PerAsset = float | Mapping[str, float] | pd.Series


def spread(value: PerAsset | None, assets: Iterable[str], default: float) -> np.ndarray:
    """A number, or a number an asset, as an array (asset,); assets that are not named get ``default``."""
    names = list(assets)
    if value is None or np.isscalar(value):
        return np.full(len(names), default if value is None else float(value))  # type: ignore[arg-type]
    series = pd.Series(value, dtype=float)
    unknown = [str(a) for a in series.index if a not in names]
    if unknown:
        raise ConfigError(
            f"values are given for {', '.join(unknown[:5])}, which are not among the assets: {', '.join(names[:8])}"
        )
    return series.reindex(names).fillna(default).to_numpy()


class Sum:
    """Arithmetic shared by terms and expressions."""

    def parts(self) -> tuple[tuple[float, Term], ...]:
        raise NotImplementedError

    def __add__(self, other: Sum) -> Expression:
        return Expression(self.parts() + other.parts())

    def __sub__(self, other: Sum) -> Expression:
        return self + (-1.0) * other

    def __mul__(self, factor: float) -> Expression:
        return Expression(tuple((float(factor) * coef, term) for coef, term in self.parts()))

    __rmul__ = __mul__

    def __neg__(self) -> Expression:
        return (-1.0) * self

    def __le__(self, bound: float | Sum) -> Limit:
        if isinstance(bound, Sum):
            return Limit(Expression((self - bound).parts()), 0.0)
        return Limit(Expression(self.parts()), float(bound))

    def __ge__(self, bound: float | Sum) -> Limit:
        if isinstance(bound, Sum):
            return bound <= self
        return Limit(Expression((-self).parts()), -float(bound))

    def charges(self) -> dict[str, Any]:
        """Arguments of the broker's `Costs` for a sum of costs, so that it charges what was optimised.

        Raises
        ------
        ConfigError
            A term that is no cost, or one that is scaled: a broker charges costs as they are.
        """
        found: dict[str, Any] = {}
        for coef, term in self.parts():
            own = term.charged()
            if coef != 1.0 or own is None or set(own) & set(found):
                raise ConfigError(f"a broker cannot charge {coef:g} * {term}; expected TransactionCost + MarketImpact")
            found.update(own)
        return found

    def value(self, weights: Weights, scenarios: ScenarioSet, previous: Weights | None = None) -> float:
        """The number of this term for these weights."""
        return self.measure(Market.of(scenarios, previous), _array(weights, scenarios.assets))

    def measure(self, market: Market, w: np.ndarray) -> float:
        """The number for weights (asset,) on a prepared market."""
        return sum(coef * term.measure(market, w) for coef, term in self.parts())


def _array(weights: Weights, assets: tuple[str, ...]) -> np.ndarray:
    if isinstance(weights, pd.Series):
        return weights.reindex(list(assets)).fillna(0.0).to_numpy(float)
    return np.asarray(weights, dtype=float)


@dataclass(frozen=True)
class Expression(Sum):
    """A weighted sum of terms."""

    terms: tuple[tuple[float, Term], ...]

    def parts(self) -> tuple[tuple[float, Term], ...]:
        return self.terms

    def __str__(self) -> str:
        text = ""
        for coef, term in self.terms:
            sign = "-" if coef < 0 else "+"
            size = "" if abs(coef) == 1.0 else f"{abs(coef):g} * "
            text += f" {sign} {size}{term}" if text else f"{'-' if coef < 0 else ''}{size}{term}"
        return text


class Term(Sum):
    """Base of the terms: one measure of a portfolio. ``shape`` is +1 convex, -1 concave, 0 linear in the weights."""

    shape = 1

    def parts(self) -> tuple[tuple[float, Term], ...]:
        return ((1.0, self),)

    def measure(self, market: Market, w: np.ndarray) -> float:
        raise NotImplementedError

    def linear(self, market: Market) -> np.ndarray:
        """Coefficients of a linear term, (asset,)."""
        raise NotImplementedError

    def charged(self) -> dict[str, Any] | None:
        """The term in the broker's words; None if it is no cost."""
        return None

    def unit(self, market: Market) -> float:
        """Size of the term's natural unit: what makes the optimiser blind to daily, annual or percent."""
        return market.scale

    def block(self, market: Market, coef: np.ndarray) -> Block:
        """The optimiser's block; its value times `unit` (times `shape` when concave) is the term."""
        raise NotImplementedError

    def __str__(self) -> str:
        return repr(self)


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
        return _tilted(market.p, -self.theta * market.portfolio(w))[0] / self.theta

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
        return t * (_tilted(market.p, -r / t)[0] + tail)

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


class Traded(Term):
    """Base of the terms in ``|w - reference|``: ``sum k |d| + c |d|^1.5``."""

    def rates(self, market: Market) -> tuple[np.ndarray, np.ndarray]:
        """Linear and 3/2-power rates, (asset,) each."""
        raise NotImplementedError

    def reference(self, market: Market) -> np.ndarray | None:
        return market.previous

    def measure(self, market: Market, w: np.ndarray) -> float:
        ref = self.reference(market)
        if ref is None:
            return 0.0
        k, c = self.rates(market)
        d = np.abs(w - ref)
        return float(k @ d + c @ d**1.5)

    def unit(self, market: Market) -> float:
        k, c = self.rates(market)
        return float(max(k.max(initial=0.0), c.max(initial=0.0))) or 1.0

    def block(self, market: Market, coef: np.ndarray) -> Block:
        ref = self.reference(market)
        assert ref is not None  # the compiler leaves the term out otherwise
        k, c = self.rates(market)
        size, free = self.unit(market), slice(None) if market.free is None else market.free
        return Trade(coef, ref[free], k[free] / size, c[free] / size)


@dataclass(frozen=True)
class Turnover(Traded):
    """``sum |w - previous|``: everything bought plus everything sold, as a fraction of equity."""

    def rates(self, market: Market) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(len(market.assets)), np.zeros(len(market.assets))


@dataclass(frozen=True)
class GrossExposure(Traded):
    """``sum |w|``."""

    def rates(self, market: Market) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(len(market.assets)), np.zeros(len(market.assets))

    def reference(self, market: Market) -> np.ndarray | None:
        return np.zeros(len(market.assets))


@dataclass(frozen=True)
class TransactionCost(Traded):
    """Proportional cost of getting from ``previous`` to the weights, in fractions of equity.

    Parameters
    ----------
    bps : float or mapping
        Basis points of the traded value, for all assets or an asset.
    costs : object, optional
        Anything with ``commission_bps`` and ``half_spread_bps``, such as the cost model that a backtest is charged by;
        takes the place of ``bps``.
    """

    bps: PerAsset = 5.0
    costs: Any = None

    def rates(self, market: Market) -> tuple[np.ndarray, np.ndarray]:
        if self.costs is None:
            bps = spread(self.bps, market.assets, 0.0)
        else:
            both = (getattr(self.costs, name, 0.0) for name in ("commission_bps", "half_spread_bps"))
            bps = sum((spread(part, market.assets, 0.0) for part in both), np.zeros(len(market.assets)))
        return bps * 1e-4, np.zeros(len(market.assets))

    def charged(self) -> dict[str, Any]:
        if self.costs is not None:
            names = ("commission_bps", "half_spread_bps")
            return {name: getattr(self.costs, name) for name in names if hasattr(self.costs, name)}
        if not np.isscalar(self.bps):
            raise ConfigError("TransactionCost has a rate an asset; a broker charges one rate, give bps as a number")
        return {"commission_bps": self.bps}


@dataclass(frozen=True)
class MarketImpact(Traded):
    """Cost of moving the price: ``coefficient * sigma * |d| * sqrt(|d| * capital / adv)``, or linear in ``|d|``.

    Parameters
    ----------
    kind : {"sqrt", "linear"}
        The square-root law (Almgren et al., 2005) or a constant fraction of one bar's volatility.
    coefficient : float
    capital : float
        Equity, in the currency of ``adv``.
    adv : float or mapping, optional
        Money traded a bar, by asset; None takes it equal to ``capital``.
    sigma : float or mapping, optional
        Volatility a bar; None takes it from the scenarios.
    """

    kind: str = "sqrt"
    coefficient: float = 1.0
    capital: float = 1.0
    adv: PerAsset | None = None
    sigma: PerAsset | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("sqrt", "linear"):
            raise ConfigError(f"MarketImpact kind is '{self.kind}', expected 'sqrt' or 'linear'")

    def charged(self) -> dict[str, Any]:
        """Volatility and volumes are the broker's own, from the bars before the fill."""
        return {"impact": self.kind, "impact_coefficient": self.coefficient, "capital": self.capital}

    def rates(self, market: Market) -> tuple[np.ndarray, np.ndarray]:
        sigma = market.bar_volatility if self.sigma is None else spread(self.sigma, market.assets, 0.0)
        rate, none = self.coefficient * sigma, np.zeros(len(market.assets))
        if self.kind == "linear":
            return rate, none
        adv = spread(self.adv, market.assets, self.capital)
        return none, rate * np.sqrt(self.capital / adv)


# ---- constraints


class Constraint:
    """Base of what a portfolio must satisfy."""


@dataclass(frozen=True)
class Limit(Constraint):
    """``expression <= bound``."""

    expression: Expression
    bound: float

    @property
    def path_dependent(self) -> bool:
        """Whether it bounds the trade from what is held."""
        return knows_holdings(self.expression)

    def reading(
        self, weights: pd.Series, scenarios: ScenarioSet, previous: pd.Series | None = None
    ) -> tuple[float, float]:
        """The expression's number for these weights, and its bound."""
        return self.expression.value(weights, scenarios, previous), self.bound

    def __str__(self) -> str:
        if all(coef < 0 for coef, _ in self.expression.terms):
            return f"{-self.expression} >= {-self.bound:g}"
        return f"{self.expression} <= {self.bound:g}"


@dataclass(frozen=True)
class LongOnly(Constraint):
    """No weight below zero."""

    def __str__(self) -> str:
        return "LongOnly()"


@dataclass(frozen=True)
class Bounds(Constraint):
    """Least and largest weight, for all assets or by asset (assets that are not named are left free)."""

    lower: PerAsset | None = None
    upper: PerAsset | None = None

    def __str__(self) -> str:
        return f"Bounds({self.lower}, {self.upper})"


@dataclass(frozen=True)
class Linear(Constraint):
    """``lower <= sum coefficients * w <= upper``; assets that are not named have coefficient zero."""

    coefficients: Mapping[str, float] | pd.Series
    lower: float = -np.inf
    upper: float = np.inf
    name: str = ""

    def __str__(self) -> str:
        return self.name or f"Linear({dict(pd.Series(self.coefficients))}, {self.lower:g}, {self.upper:g})"


@dataclass(frozen=True)
class NetExposure(Constraint):
    """``lower <= sum w <= upper``."""

    lower: float = -np.inf
    upper: float = np.inf

    def __str__(self) -> str:
        return f"NetExposure({self.lower:g}, {self.upper:g})"


@dataclass(frozen=True)
class Budget(Constraint):
    """``sum w = total``: the rest, ``1 - total``, is cash."""

    total: float = 1.0

    def __str__(self) -> str:
        return f"Budget({self.total:g})"


@dataclass(frozen=True)
class Leverage(Constraint):
    """``sum |w| <= limit``."""

    limit: float = 1.0
    path_dependent = False

    def reading(
        self, weights: pd.Series, scenarios: ScenarioSet, previous: pd.Series | None = None
    ) -> tuple[float, float]:
        """The gross exposure of these weights, and its bound."""
        return GrossExposure().value(weights, scenarios), self.limit

    def __str__(self) -> str:
        return f"Leverage({self.limit:g})"


@dataclass(frozen=True)
class Groups(Constraint):
    """Bounds on the summed weight of groups of assets, such as sectors.

    Parameters
    ----------
    members : mapping of asset to group
    lower, upper : mapping of group to number, or one number for all groups
    """

    members: Mapping[str, str]
    lower: float | Mapping[str, float] = -np.inf
    upper: float | Mapping[str, float] = np.inf

    def __str__(self) -> str:
        return f"Groups({', '.join(sorted(set(self.members.values())))})"


@dataclass(frozen=True)
class Cardinality(Constraint):
    """At most ``count`` assets held."""

    count: int

    def __str__(self) -> str:
        return f"Cardinality({self.count})"


@dataclass(frozen=True)
class MinPosition(Constraint):
    """A weight is zero or at least ``size`` in absolute value."""

    size: float

    def __str__(self) -> str:
        return f"MinPosition({self.size:g})"


@dataclass(frozen=True)
class MinTrade(Constraint):
    """A trade is zero or at least ``size`` in absolute value."""

    size: float

    def __str__(self) -> str:
        return f"MinTrade({self.size:g})"


def knows_holdings(utility: Sum, constraints: Iterable[Constraint] = ()) -> bool:
    """Whether the weights held now change what is best: through a trading term or a smallest trade."""
    sums: list[Sum] = [utility, *(rule.expression for rule in constraints if isinstance(rule, Limit))]
    traded = any(
        isinstance(term, Traded) and not isinstance(term, GrossExposure) for s in sums for _, term in s.parts()
    )
    return traded or any(isinstance(rule, MinTrade) for rule in constraints)


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
