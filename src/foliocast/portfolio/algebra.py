"""How terms compose: sums, expressions, and the limits that ``<=`` and ``>=`` make of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError
from foliocast.portfolio.market import Market
from foliocast.portfolio.pieces import Block

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
    reads_holdings = False  # whether the weights held now enter the number

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


# ---- constraints


class Constraint:
    """Base of what a portfolio must satisfy."""

    reads_holdings = False


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


def knows_holdings(utility: Sum, constraints: Iterable[Constraint] = ()) -> bool:
    """Whether the weights held now change what is best: through a trading term or a smallest trade."""
    sums: list[Sum] = [utility, *(rule.expression for rule in constraints if isinstance(rule, Limit))]
    traded = any(term.reads_holdings for s in sums for _, term in s.parts())
    return traded or any(rule.reads_holdings for rule in constraints)
