"""When the structured method stops short: why, and what a general solver makes of it."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from scipy.optimize import linprog

from foliocast.core.errors import InfeasibleError, SolverError
from foliocast.portfolio import terms as t
from foliocast.portfolio.interior import RUNAWAY, Outcome
from foliocast.portfolio.model import Model, misses
from foliocast.portfolio.solver import solve_model


def diagnose(model: Model, outcome: Outcome) -> None:
    """Raise `InfeasibleError` when no portfolio meets the constraints or nothing bounds the utility; else return."""
    names = _conflict(model)
    if names:
        raise InfeasibleError(f"no portfolio meets {_and(names)} together; loosen or drop one of them")
    risky = [limit for limit in model.limits if limit[0] is not None and not _only_trades(limit[0])]
    for limit in risky:
        _check_alone(model, limit)
    if len(risky) > 1:
        _check_together(model, risky)
    if outcome.diverged or np.abs(outcome.w).max(initial=0.0) > 1e5 or _linearly_unbounded(model):
        _unbounded(model)


def _linearly_unbounded(model: Model) -> bool:
    """Whether a utility without any risk in it, under linear limits, has no maximum."""
    goal = np.zeros(3 * model.market.n)
    for coef, term in model.objective.terms:
        if term.shape != 0:
            return False
        goal[: model.market.n] -= coef * term.linear(model.market)
    if any(limit[0] is not None and not _only_trades(limit[0]) for limit in model.limits):
        return False
    return _status(model, _linear_parts(model), model.bounds, goal / max(np.abs(goal).max(), 1e-300)) in (3, 4)


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _unbounded(model: Model) -> NoReturn:
    had = _and(
        [*model.bound_names, *(e[2] for e in model.equalities), *(x[3] for x in model.limits)] or ["no constraint"]
    )
    raise InfeasibleError(
        f"the utility {model.objective} grows without bound under {had}: nothing limits the size of the positions; add "
        "Budget with LongOnly, Bounds, Leverage or a risk limit"
    )


def _only_trades(expression: t.Expression) -> bool:
    return all(term.shape == 0 or isinstance(term, t.Turnover | t.GrossExposure) for _, term in expression.terms)


def _linear_parts(model: Model) -> list[tuple[str, list[tuple[np.ndarray, float, bool]]]]:
    """Named linear constraints over (w, one |.| variable an asset and reference): rows, bounds, equality."""
    n = model.market.n
    refs = [np.zeros(n), np.zeros(n) if model.market.previous is None else model.market.previous]
    parts: list[tuple[str, list[tuple[np.ndarray, float, bool]]]] = []

    def row(w: np.ndarray, gross: float = 0.0, turnover: float = 0.0) -> np.ndarray:
        return np.concatenate([w, np.full(n, gross), np.full(n, turnover)])

    for weights, level, name in model.equalities:
        parts.append((name, [(row(weights), level, True)]))
    for expression, weights, bound, name in model.limits:
        if expression is None or _only_trades(expression):
            w, gross, turnover = weights.copy(), 0.0, 0.0
            for coef, term in () if expression is None else expression.terms:
                if term.shape == 0:
                    w += coef * term.linear(model.market)
                elif isinstance(term, t.GrossExposure):
                    gross += coef
                else:
                    turnover += coef
            parts.append((name, [(row(w, gross, turnover), bound, False)]))
    eye = np.eye(n)
    for i, ref in enumerate(refs):
        rows = []
        for j in range(n):
            for sign in (1.0, -1.0):
                line = row(sign * eye[j])
                line[n * (i + 1) + j] = -1.0
                rows.append((line, sign * ref[j], False))
        parts.append(("", rows))
    return parts


Part = tuple[str, list[tuple[np.ndarray, float, bool]]]
Bound = tuple[np.ndarray, np.ndarray, str]


def _status(model: Model, parts: list[Part], bounds: list[Bound], goal: np.ndarray | None = None) -> int:
    """HiGHS' verdict on linear parts and bounds: 0 solved, 2 infeasible, 3 unbounded."""
    n = model.market.n
    up = [(r, b) for _, rows in parts for r, b, equal in rows if not equal]
    eq = [(r, b) for _, rows in parts for r, b, equal in rows if equal]
    low, high = np.full(n, -np.inf), np.full(n, np.inf)
    for lower, upper, _ in bounds:
        low, high = np.maximum(low, lower), np.minimum(high, upper)
    box = [(a if np.isfinite(a) else None, b if np.isfinite(b) else None) for a, b in zip(low, high)]
    answer = linprog(
        np.zeros(3 * n) if goal is None else goal,
        A_ub=np.array([r for r, _ in up]) if up else None,
        b_ub=np.array([b for _, b in up]) if up else None,
        A_eq=np.array([r for r, _ in eq]) if eq else None,
        b_eq=np.array([b for _, b in eq]) if eq else None,
        bounds=box + [(0, None)] * (2 * n),
        method="highs",
    )
    return int(answer.status)


def _conflict(model: Model) -> list[str]:
    """Names of a smallest set of linear constraints that contradict each other; empty when they do not."""
    parts, bounds = _linear_parts(model), list(model.bounds)
    if _status(model, parts, bounds) != 2:
        return []
    for bound in model.bounds:
        fewer = [b for b in bounds if b is not bound]
        if _status(model, parts, fewer) == 2:
            bounds = fewer
    for part in [p for p in parts if p[0]]:
        less = [p for p in parts if p is not part]
        if _status(model, less, bounds) == 2:
            parts = less
    return [name for _, _, name in bounds] + [name for name, _ in parts if name]


def _under(model: Model, expression: t.Expression, others: list[Any]) -> Model:
    """The model with this objective and only the linear limits and ``others``."""
    linear = [x for x in model.limits if x[0] is None or _only_trades(x[0])]
    return Model(
        model.market,
        t.Expression((-expression).terms),
        model.lower,
        model.upper,
        model.equalities,
        linear + others,
        model.bounds,
    )


def _check_alone(model: Model, limit: Any, others: list[Any] | None = None) -> None:
    expression, _, bound, name = limit
    try:
        best = solve_model(_under(model, expression, others or []), 1e-8, general=False)
    except (SolverError, InfeasibleError):
        return
    if -best.value > bound + 1e-9 * max(1e-6, abs(bound)):
        linear = [x[3] for x in model.limits if x[0] is None or _only_trades(x[0])]
        with_ = [*dict.fromkeys(model.bound_names), *(e[2] for e in model.equalities), *linear]
        with_ += [x[3] for x in others or []]
        raise InfeasibleError(
            f"no portfolio meets {name} together with {_and(with_ or ['the other constraints'])}: the best that they "
            f"allow is {_reached(expression, -best.value)}"
        )


def _reached(expression: t.Expression, value: float) -> str:
    if all(coef < 0 for coef, _ in expression.terms):
        return f"{-expression} = {-value:.6g}"
    return f"{expression} = {value:.6g}"


def _check_together(model: Model, risky: list[Any]) -> None:
    for i, limit in enumerate(risky):
        _check_alone(model, limit, risky[:i])


# ---- cvxpy


def solve_generally(model: Model) -> np.ndarray:
    """Weights by cvxpy and Clarabel; returns are scaled to their own size first.

    Raises
    ------
    InfeasibleError, SolverError
    """
    import cvxpy as cp

    market = model.market
    w = cp.Variable(market.n)
    constraints = [row @ w == level for row, level, _ in model.equalities]
    finite = np.isfinite(model.lower)
    if finite.any():
        constraints.append(w[np.flatnonzero(finite)] >= model.lower[finite])
    finite = np.isfinite(model.upper)
    if finite.any():
        constraints.append(w[np.flatnonzero(finite)] <= model.upper[finite])
    for expression, row, bound, _ in model.limits:
        total, size = _express(expression, market, w, constraints), 1.0
        if expression is not None:
            size = sum(abs(c) * term.unit(market) for c, term in expression.terms)
        constraints.append((row @ w + total) / size <= bound / size)
    size = sum(abs(c) * term.unit(market) for c, term in model.objective.terms) or 1.0
    goal = -_express(model.objective, market, w, constraints)
    problem = cp.Problem(cp.Minimize(goal / size), constraints)
    try:
        problem.solve(solver=cp.CLARABEL)
    except cp.error.SolverError as error:
        raise SolverError(
            f"Clarabel failed on {model.objective}: {error}; simplify the problem or rescale it"
        ) from error
    if problem.status in ("infeasible", "infeasible_inaccurate"):
        names = [*dict.fromkeys(model.bound_names), *(e[2] for e in model.equalities), *(x[3] for x in model.limits)]
        raise InfeasibleError(f"no portfolio meets {_and(names)} together; loosen or drop one of them")
    if problem.status in ("unbounded", "unbounded_inaccurate"):
        _unbounded(model)
    if w.value is None:
        raise SolverError(f"Clarabel ended with status {problem.status} on {model.objective}")
    if np.abs(w.value).max() > RUNAWAY:
        _unbounded(model)
    found = np.clip(np.asarray(w.value, dtype=float), model.lower, model.upper)
    return found if misses(model, found) is None else np.asarray(w.value, dtype=float)


def _express(expression: t.Expression | None, market: Any, w: Any, side: list[Any]) -> Any:
    return 0.0 if expression is None else sum(c * _term(term, market, w, side) for c, term in expression.terms)


def _term(term: t.Term, market: Any, w: Any, side: list[Any]) -> Any:
    """A term in cvxpy's words, in its own size; ``side`` collects the constraints it needs."""
    import cvxpy as cp

    scale, p = market.scale, market.p
    r = (market.returns / scale) @ w
    match term:
        case t.ExpectedReturn():
            return market.mean @ w
        case t.Variance():
            return scale**2 * cp.sum_squares(_root(market) @ w)
        case t.Volatility():
            return scale * cp.norm(_root(market) @ w)
        case t.TrackingError():
            return scale * cp.norm(_root(market) @ (w - t.spread(term.benchmark, market.assets, 0.0)))
        case t.CVaR():
            level = cp.Variable()
            return scale * (level + p @ cp.pos(-r - level) / (1 - term.alpha))
        case t.Semivariance():
            target = (market.mean / scale) @ w if term.target is None else term.target / scale
            return scale**2 * cp.sum(cp.multiply(p, cp.square(cp.pos(target - r))))
        case t.MaxLoss():
            return scale * cp.max(-r)
        case t.EntropicRisk():
            theta = term.theta * scale
            return scale * cp.log_sum_exp(-theta * r + np.log(p)) / theta
        case t.EVaR():
            return scale * _evar(term.alpha, r, p, side)
        case t.LogGrowth():
            return p @ cp.log(1 + scale * r)
        case t.Traded():
            ref = term.reference(market)
            k, c = term.rates(market)
            d = cp.abs(w - ref)
            return k @ d + (c @ cp.power(d, 1.5) if c.any() else 0.0)
    raise SolverError(f"{term} has no form for the general solver")


def _root(market: Any) -> np.ndarray:
    values, vectors = np.linalg.eigh(market.covariance / market.scale**2)
    return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T


def _evar(alpha: float, r: Any, p: np.ndarray, side: list[Any]) -> Any:
    """``min s - t log(1 - alpha)`` with ``p . u <= t`` and ``t exp((-r - s) / t) <= u``: exponential cones."""
    import cvxpy as cp

    level, shift, u = cp.Variable(nonneg=True), cp.Variable(), cp.Variable(len(p))
    side += [p @ u <= level, cp.ExpCone(-r - shift, level * np.ones(len(p)), u)]
    return shift - level * np.log1p(-alpha)
