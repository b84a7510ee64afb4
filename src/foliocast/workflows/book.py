"""A book and its rivals: read it, propose another, walk the frontier, and hold them side by side on scenarios."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, DataError
from foliocast.explain.decompose import decompose_risk
from foliocast.portfolio import terms
from foliocast.portfolio.kelly import Kelly
from foliocast.portfolio.optimize import Optimized, efficient_frontier
from foliocast.scenarios.stress import monte_carlo

SMALL = 1e-6


@dataclass(frozen=True)
class Taste:
    """What is wanted of a book, and what it may hold.

    Parameters
    ----------
    objective : str
        ``"min_risk"``, ``"max_utility"``, ``"max_return"``, ``"max_growth"`` (fully invested) or ``"kelly"`` (cash
        allowed).
    risk, alpha, risk_aversion
        See `foliocast.portfolio.optimize.Optimized`.
    max_weight : float
        Largest weight of one asset.
    max_names : int or None
        Most assets held.
    max_turnover : float or None
        Largest sum of |trades|, against the present book.
    cost_bps : float
        Cost of a trade, against the present book.
    short : float
        Largest sum of short weights; 0 is long only.
    kelly_fraction : float
    observations : float or None
        Bars of history behind the scenarios' means: Kelly shrinks for what they cannot know. None: no shrinking.
    """

    objective: str = "min_risk"
    risk: str = "cvar"
    alpha: float = 0.95
    risk_aversion: float = 1.0
    max_weight: float = 1.0
    max_names: int | None = None
    max_turnover: float | None = None
    cost_bps: float = 0.0
    short: float = 0.0
    kelly_fraction: float = 0.5
    observations: float | None = None


@dataclass(frozen=True)
class Proposal:
    """A book that was asked for.

    Attributes
    ----------
    weights : Series
        By asset; what they leave to one is cash.
    gap : float
        Certified relative distance from the best value there is.
    solver : str
    shrinkage : float
        What Kelly's bet was multiplied by for uncertainty (1 for other objectives).
    """

    weights: pd.Series
    gap: float
    solver: str
    shrinkage: float = 1.0


def read_book(source: str | Path | IO[bytes]) -> pd.Series:
    """Weights from a CSV with the columns ``asset`` and ``weight`` (fractions; what they leave to one is cash).

    Raises
    ------
    DataError
        Not such a file; an asset named twice; a weight that is not a number.
    """
    name = getattr(source, "name", str(source))
    try:
        table = pd.read_csv(source, dtype={"asset": str})
    except (OSError, ValueError) as error:
        raise DataError(f"{name} cannot be read as a CSV with the columns asset and weight: {error}") from error
    if not {"asset", "weight"} <= set(table.columns):
        raise DataError(f"{name} has the columns {', '.join(map(str, table.columns))}; expected asset and weight")
    weights = pd.to_numeric(table["weight"], errors="coerce")
    bad = ~np.isfinite(weights) | table["asset"].isna()
    if len(table) == 0 or bad.any():
        where = f"row {int(bad.to_numpy().argmax()) + 2} is not an asset with a number" if len(table) else "no rows"
        raise DataError(f"{name}: {where}; expected lines such as NVDA,0.25")
    if table["asset"].duplicated().any():
        raise DataError(f"{name} names {table['asset'][table['asset'].duplicated()].iloc[0]} twice; add the lines up")
    if weights.abs().sum() > 20:
        raise DataError(f"{name}: weights add up to {weights.sum():g}; expected fractions, 0.25 for a quarter")
    return pd.Series(weights.to_numpy(float), index=table["asset"].to_numpy(str), name="weight")


def rules(taste: Taste, n_assets: int) -> tuple[terms.Constraint, ...]:
    """The constraints of a taste.

    Raises
    ------
    ConfigError
        Weights that cannot add up to one.
    """
    names = n_assets if taste.max_names is None else min(taste.max_names, n_assets)
    if taste.max_weight * names < 1.0 - 1e-12 and taste.objective != "kelly":
        raise ConfigError(
            f"at most {taste.max_weight:.0%} in each of {names} assets cannot add up to 100 %; raise one of the two"
        )
    low = -taste.max_weight if taste.short > 0 else 0.0
    found: list[terms.Constraint] = [terms.LongOnly() if taste.short == 0 else terms.Leverage(1.0 + 2.0 * taste.short)]
    found.append(terms.NetExposure(upper=1.0) if taste.objective == "kelly" else terms.Budget())
    if taste.max_weight < 1.0 or taste.short > 0:
        found.append(terms.Bounds(low, taste.max_weight))
    if taste.max_turnover is not None:
        found.append(terms.Turnover() <= taste.max_turnover)
    if taste.max_names is not None and taste.max_names < n_assets:
        found.append(terms.Cardinality(taste.max_names))
    return tuple(found)


def propose(scenarios: ScenarioSet, taste: Taste, present: pd.Series | None = None) -> Proposal:
    """The best book for a taste on these scenarios.

    Raises
    ------
    ConfigError, InfeasibleError
        Wishes that contradict each other, named.
    """
    limits = rules(taste, len(scenarios.assets))
    costs = terms.TransactionCost(bps=taste.cost_bps) if taste.cost_bps > 0 else None
    before = None if present is None else present.reindex(list(scenarios.assets)).fillna(0.0)
    if taste.objective == "kelly":
        bet = Kelly(taste.kelly_fraction, taste.observations, limits, costs)
        weights, found, shrinkage = bet.allocate(scenarios, before), bet.solution_, bet.shrinkage_
    else:
        policy = Optimized(taste.objective, taste.risk, taste.alpha, taste.risk_aversion, limits, costs)
        weights, found, shrinkage = policy.allocate(scenarios, before), policy.solution_, 1.0
    weights = weights.where(weights.abs() > SMALL, 0.0)
    return Proposal(weights, float(found.gap), found.solver, float(shrinkage))


def frontier(
    scenarios: ScenarioSet, taste: Taste, present: pd.Series | None = None, n_points: int = 12
) -> pd.DataFrame:
    """Efficient books from least risk to most return, under the limits of the taste (see `efficient_frontier`)."""
    fully = Taste(**{**vars(taste), "objective": "min_risk", "max_names": None})
    before = None if present is None else present.reindex(list(scenarios.assets)).fillna(0.0)
    limits = rules(fully, len(scenarios.assets))
    return efficient_frontier(scenarios, n_points, taste.risk, taste.alpha, limits, before)


def place(scenarios: ScenarioSet, weights: pd.Series, taste: Taste) -> dict[str, float]:
    """Where a book stands in the frontier's picture: ``risk`` and ``expected_return``."""
    held = weights.reindex(list(scenarios.assets)).fillna(0.0)
    risk = terms.risk_term(taste.risk, taste.alpha).value(held, scenarios)
    return {"risk": float(risk), "expected_return": float(terms.ExpectedReturn().value(held, scenarios))}


def compare(
    scenarios: ScenarioSet, books: Mapping[str, pd.Series], level: float = 0.95, present: str | None = None
) -> pd.DataFrame:
    """Books side by side over the horizon of the scenarios.

    Parameters
    ----------
    present : str, optional
        Name of the book held now: ``turnover`` is the sum of |trades| from it.

    Returns
    -------
    DataFrame
        By book: ``mean, volatility, var, cvar, probability_of_loss, worst, drawdown`` (fractions; losses of VaR and
        CVaR are positive), ``names``, ``effective_names`` (inverse Herfindahl), ``largest``, ``cash``, ``turnover``.
    """
    rows: dict[str, dict[str, float]] = {}
    for name, book in books.items():
        view = monte_carlo(scenarios, book, level)
        held = book[book.abs() > SMALL]
        rows[name] = {
            "mean": view.mean,
            "volatility": view.volatility,
            "var": view.var,
            "cvar": view.cvar,
            "probability_of_loss": view.probability_of_loss,
            "worst": view.worst,
            "drawdown": view.max_drawdown,
            "names": float(len(held)),
            "effective_names": float(held.abs().sum() ** 2 / (held**2).sum()) if len(held) else 0.0,
            "largest": float(held.abs().max()) if len(held) else 0.0,
            "cash": float(1.0 - book.sum()),
            "turnover": float("nan") if present is None else float(trades(books[present], book).abs().sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("book")


def trades(present: pd.Series, wanted: pd.Series) -> pd.Series:
    """What has to be bought (positive) and sold, as fractions of equity, largest first."""
    both = present.index.union(wanted.index, sort=False)
    change = wanted.reindex(both).fillna(0.0) - present.reindex(both).fillna(0.0)
    return change[change.abs() > SMALL].sort_values(key=np.abs, ascending=False)


def growth_curve(scenarios: ScenarioSet, weights: pd.Series, fractions: np.ndarray | None = None) -> pd.DataFrame:
    """Expected log growth and volatility of log wealth as a bet is scaled: why half a Kelly bet is a good one.

    Returns
    -------
    DataFrame
        ``growth`` (minus infinity where some scenario ruins) and ``volatility`` by ``fraction`` of ``weights``.
    """
    total, p = scenarios.portfolio(weights).astype(float), scenarios.probabilities
    steps = np.linspace(0.0, 2.0, 41) if fractions is None else np.asarray(fractions, dtype=float)
    rows = []
    for fraction in steps:
        wealth = 1.0 + fraction * total
        log = np.log(wealth) if (wealth > 0).all() else None
        mean = -np.inf if log is None else float(p @ log)
        rows.append((fraction, mean, np.nan if log is None else float(np.sqrt(p @ (log - mean) ** 2))))
    return pd.DataFrame(rows, columns=["fraction", "growth", "volatility"]).set_index("fraction")


def risk_shares(scenarios: ScenarioSet, weights: pd.Series, level: float = 0.95) -> pd.DataFrame:
    """Who carries the risk: share of weight, volatility and CVaR by asset held (`decompose_risk`)."""
    table: Any = decompose_risk(weights, scenarios, level).drop(index="total")
    held = table[table["weight"].abs() > SMALL]
    return held[["weight", "share_volatility", "share_cvar", "component_cvar"]]
