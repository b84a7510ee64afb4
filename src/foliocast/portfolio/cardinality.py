"""Whole decisions: at most k assets, no crumbs, no small trades.

Where everything else is piecewise linear (CVaR, largest loss, expected return, proportional costs) and the problem is
small, HiGHS solves the mixed-integer program and proves the answer. Otherwise a search is used, and says so: solve
without the rule, fix what violates it in the order of least weight, solve again, then try swaps; feasible, not proved
best.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, InfeasibleError, OptimisationError
from foliocast.portfolio import terms as t
from foliocast.portfolio.market import Market
from foliocast.portfolio.model import build
from foliocast.portfolio.solver import Solution, optimise

CHOICES = (t.Cardinality, t.MinPosition, t.MinTrade)
_LINEAR = (t.CVaR, t.MaxLoss, t.ExpectedReturn, t.TransactionCost, t.Turnover, t.GrossExposure)
_SMALL = 60_000  # scenarios x assets that HiGHS is trusted with


def solve_choice(
    scenarios: ScenarioSet,
    utility: t.Expression,
    constraints: Sequence[t.Constraint],
    previous: pd.Series | None,
    tol: float,
    time_limit: float,
) -> Solution:
    """Maximise a utility when some constraints are whole decisions; see the module's notes.

    Raises
    ------
    ConfigError
        A position that has no finite bound, or a smallest trade without known holdings.
    InfeasibleError
    """
    began = time.perf_counter()
    rules: list[t.Constraint] = [c for c in constraints if isinstance(c, CHOICES)]
    rest = tuple(c for c in constraints if not isinstance(c, CHOICES))
    parts = [term for _, term in utility.parts()]
    parts += [term for c in rest if isinstance(c, t.Limit) for _, term in c.expression.parts()]
    task = _Task(scenarios, utility, rest, rules, previous, tol)
    exact = all(isinstance(term, _LINEAR) for term in parts)
    if exact and scenarios.n_scenarios * len(scenarios.assets) <= _SMALL:
        solution = _mip(scenarios, utility, rest, rules, previous, time_limit)
        if solution.status != "optimal":
            searched = _search(task, began + 1.5 * time_limit)
            solution = searched if searched.value > solution.value else solution
    else:
        solution = _search(task, began + time_limit)
    return replace(solution, seconds=time.perf_counter() - began)


def _mip(
    scenarios: ScenarioSet,
    utility: t.Expression,
    rest: tuple[t.Constraint, ...],
    rules: list[t.Constraint],
    previous: pd.Series | None,
    time_limit: float,
) -> Solution:
    import cvxpy as cp

    from foliocast.portfolio.fallback import _express

    market = Market.of(scenarios, previous)
    model = build(market, utility, rest)
    low, high = _reach(model.lower, model.upper, rest)
    n = market.n
    w = cp.Variable(n)
    side: list[Any] = [w >= low, w <= high]
    side += [row @ w == level for row, level, _ in model.equalities]
    for expression, row, bound, _ in model.limits:
        side.append(row @ w + _express(expression, market, w, side) <= bound)
    for rule in rules:
        side += _choice(rule, w, low, high, market.previous)
    size = sum(abs(c) * term.unit(market) for c, term in model.objective.terms) or 1.0
    goal = -_express(model.objective, market, w, side) / size
    problem = cp.Problem(cp.Minimize(goal), side)
    problem.solve(solver=cp.HIGHS, time_limit=float(time_limit), mip_rel_gap=1e-6)
    if w.value is None:
        raise InfeasibleError(
            f"no portfolio was found that meets {', '.join(str(r) for r in rules)} with the other constraints "
            f"(HiGHS: {problem.status}); allow more assets, smaller positions or more time"
        )
    found = np.where(np.abs(w.value) < 1e-9, 0.0, w.value)
    value = model.objective.measure(market, found)
    proved = problem.status == "optimal"
    return Solution(
        pd.Series(found, index=list(market.assets)),
        float(value),
        1e-6 * abs(float(value)) if proved else float("nan"),
        0.0,
        "highs-mip",
        "optimal" if proved else "time limit",
    )


def _reach(lower: np.ndarray, upper: np.ndarray, rest: tuple[t.Constraint, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Finite bounds of each weight, which whole decisions need."""
    gross = min([c.limit for c in rest if isinstance(c, t.Leverage)], default=np.inf)
    total = min([c.total for c in rest if isinstance(c, t.Budget)], default=np.inf)
    lower = np.maximum(lower, -gross)
    upper = np.minimum(upper, min(gross, total if (lower >= 0).all() else np.inf))
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise ConfigError(
            "cardinality and smallest sizes need bounded weights: add LongOnly and Budget, Bounds or Leverage"
        )
    return lower, upper


def _choice(rule: t.Constraint, w: Any, low: np.ndarray, high: np.ndarray, previous: np.ndarray | None) -> list[Any]:
    import cvxpy as cp

    n = len(low)
    if isinstance(rule, t.Cardinality):
        held = cp.Variable(n, boolean=True)
        return [w <= cp.multiply(high, held), w >= cp.multiply(low, held), cp.sum(held) <= rule.count]
    if isinstance(rule, t.MinTrade) and previous is None:
        return []
    size = rule.size if isinstance(rule, t.MinPosition | t.MinTrade) else 0.0
    centre = np.zeros(n) if isinstance(rule, t.MinPosition) or previous is None else previous
    up, down = cp.Variable(n, boolean=True), cp.Variable(n, boolean=True)
    d = w - centre
    return [
        up + down <= 1,
        d <= cp.multiply(high - centre, up) - size * down,
        d >= cp.multiply(low - centre, down) + size * up,
    ]


# ---- the search


@dataclass(frozen=True)
class _Task:
    """What is searched for: the portfolio best by ``utility`` that meets ``rest`` and the whole-decision ``rules``."""

    scenarios: ScenarioSet
    utility: t.Expression
    rest: tuple[t.Constraint, ...]
    rules: list[t.Constraint]
    previous: pd.Series | None
    tol: float

    def solved(self, pinned: Mapping[str, float] | None = None) -> Solution:
        """The best portfolio without the rules, some weights being pinned."""
        more = (t.Bounds(dict(pinned), dict(pinned)),) if pinned else ()
        return optimise(self.scenarios, self.utility, (*self.rest, *more), self.previous, tol=self.tol)


def _search(task: _Task, deadline: float) -> Solution:
    assets = list(task.scenarios.assets)
    held = pd.Series(0.0, index=assets) if task.previous is None else task.previous.reindex(assets).fillna(0.0)
    pinned: dict[str, float] = {}
    solution = task.solved()
    for _ in range(4 * len(assets)):
        wrong = _violations(solution.weights, held, task.rules, task.previous is not None)
        if not wrong:
            break
        for asset, value in wrong:
            pinned[asset] = value
        solution = task.solved(pinned)
    else:
        raise InfeasibleError(f"the search found no portfolio that meets {', '.join(str(r) for r in task.rules)}")
    return replace(_swap(solution, task, deadline), status="heuristic")


def _violations(w: pd.Series, held: pd.Series, rules: list[t.Constraint], known: bool) -> list[tuple[str, float]]:
    """Assets to pin next, with the weight to pin them to: the least half of what violates a rule."""
    out: list[tuple[str, float]] = []
    for rule in rules:
        size = w.abs()
        if isinstance(rule, t.Cardinality):
            used = size[size > 1e-9].sort_values()
            excess = len(used) - rule.count
            drop = max(1, excess // 2) if excess > 0 else 0
            out += [(str(a), 0.0) for a in used.index[:drop]]
        elif isinstance(rule, t.MinPosition):
            crumbs = size[(size > 1e-9) & (size < rule.size - 1e-9)].sort_values()
            out += [(str(a), 0.0) for a in crumbs.index[: max(1, len(crumbs) // 2)]]
        elif isinstance(rule, t.MinTrade) and known:
            trade = (w - held).abs()
            small = trade[(trade > 1e-9) & (trade < rule.size - 1e-9)].sort_values()
            out += [(str(a), float(held[a])) for a in small.index[: max(1, len(small) // 2)]]
    return out


def _swap(solution: Solution, task: _Task, deadline: float) -> Solution:
    """Exchange the least asset held for the most promising ones left out, while time lasts and it helps."""
    scenarios, rules = task.scenarios, task.rules
    if len(rules) != 1 or not isinstance(rules[0], t.Cardinality):
        return solution
    market = Market.of(scenarios, task.previous)
    left = [a for a in scenarios.assets if abs(solution.weights[a]) <= 1e-9]
    order = np.argsort(-market.mean / np.maximum(market.bar_volatility, 1e-12))
    ranked = [scenarios.assets[i] for i in order if scenarios.assets[i] in left][:10]
    for new in ranked:
        if time.perf_counter() > deadline:
            break
        kept = solution.weights[solution.weights.abs() > 1e-9].abs().sort_values().index
        allowed = {*kept[1:], new} if len(kept) >= rules[0].count else {*kept, new}
        pinned = {a: 0.0 for a in scenarios.assets if a not in allowed}
        try:
            trial = task.solved(pinned)
        except OptimisationError:
            continue
        solution = trial if trial.value > solution.value else solution
    return solution
