"""From terms and constraints to weights with a certified gap.

The program is scaled to its own units before it is solved, so the answer does not depend on daily, annual or percent.
Mean-variance within bounds and a budget goes to the active set (exact); everything else to the interior point. When
neither reaches its accuracy the general solver (cvxpy with Clarabel) is called, with a warning and a mark in the
result.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, InfeasibleError, SolverError
from foliocast.portfolio import terms as t
from foliocast.portfolio.activeset import box_quadratic
from foliocast.portfolio.interior import ROUGH, Outcome, Program, solve
from foliocast.portfolio.market import Market
from foliocast.portfolio.products import ROUGH_FROM

GUESS = 10  # scenarios an asset that are enough for a first guess
FEASIBLE = 1e-7  # a constraint may be missed by this much of its own size


@dataclass(frozen=True)
class Solution:
    """A portfolio and the proof of how good it is.

    Attributes
    ----------
    weights : Series
        By asset.
    value : float
        Utility reached (the expression that was maximised; for ``min_risk`` minus the risk).
    gap : float
        No portfolio that meets the constraints has a utility above ``value + gap``.
    seconds : float
        Wall time.
    solver : str
        ``"active-set"``, ``"interior-point"``, ``"clarabel"`` or ``"highs-mip"``.
    status : str
        ``"optimal"``, or ``"heuristic"`` where cardinality is met by a search without proof.
    iterations : int
    fallback : str
        Why the general solver had to be called; empty when it was not.
    """

    weights: pd.Series
    value: float
    gap: float
    seconds: float
    solver: str
    status: str = "optimal"
    iterations: int = 0
    fallback: str = ""


@dataclass
class Model:
    """Utility and constraints on one market, sorted by kind, in the units of the returns."""

    market: Market
    objective: t.Expression
    lower: np.ndarray
    upper: np.ndarray
    equalities: list[tuple[np.ndarray, float, str]]
    limits: list[tuple[t.Expression | None, np.ndarray, float, str]]
    bounds: list[tuple[np.ndarray, np.ndarray, str]]

    @property
    def bound_names(self) -> list[str]:
        """Names of the constraints that bound single weights."""
        return list(dict.fromkeys(name for _, _, name in self.bounds))


def optimise(
    scenarios: ScenarioSet,
    utility: t.Sum,
    constraints: Iterable[t.Constraint] = (),
    previous: pd.Series | np.ndarray | None = None,
    device: str | None = None,
    tol: float = 1e-9,
    start: pd.Series | None = None,
) -> Solution:
    """Maximise a utility of terms under constraints.

    Parameters
    ----------
    scenarios : ScenarioSet
        Returns over its whole horizon and its probabilities are used.
    utility : Expression or Term
        To be maximised; concave.
    previous : Series or ndarray, optional
        Weights held now; None leaves trading terms out.
    device : str, optional
        Torch device of the products with the scenario matrix; None computes on the host.
    tol : float
        Relative gap to reach.
    start : Series, optional
        Weights to start near, such as the last solution.

    Raises
    ------
    ConfigError
        A risk that is rewarded, a limit from the wrong side: the problem is not convex.
    InfeasibleError
        No portfolio meets the constraints, or nothing bounds the utility; the message names them.
    SolverError
        No solver reached the accuracy.
    """
    began = time.perf_counter()
    market = Market.of(scenarios, previous)
    market.device = device
    model = build(market, utility, constraints)
    solution = solve_model(model, tol, None if start is None else start.reindex(market.assets).fillna(0.0).to_numpy())
    return replace(solution, seconds=time.perf_counter() - began)


def build(market: Market, utility: t.Sum, constraints: Iterable[t.Constraint]) -> Model:
    """Sort constraints by kind and check that the problem is convex."""
    n = market.n
    objective = t.Expression(_merged(utility, market))
    _check_shape(objective, "the utility")
    model = Model(market, objective, np.full(n, -np.inf), np.full(n, np.inf), [], [], [])
    for constraint in constraints:
        _add(model, constraint)
    if (model.lower > model.upper + 1e-12).any():
        worst = market.assets[int(np.argmax(model.lower - model.upper))]
        raise InfeasibleError(
            f"{' and '.join(model.bound_names)} contradict each other: {worst} must be at least "
            f"{model.lower[market.assets.index(worst)]:g} and at most {model.upper[market.assets.index(worst)]:g}"
        )
    fixed = model.upper - model.lower < 1e-12
    if np.count_nonzero(fixed):
        market.fix(fixed, model.lower)
    return model


def _merged(expression: t.Sum, market: Market) -> tuple[tuple[float, t.Term], ...]:
    """Equal terms added up; trading terms without known holdings left out."""
    found: list[tuple[float, t.Term]] = []
    for coef, term in expression.parts():
        if coef == 0.0 or (isinstance(term, t.Traded) and term.reference(market) is None):
            continue
        for i, (other, same) in enumerate(found):
            if same is term or repr(same) == repr(term):
                found[i] = (other + coef, same)
                break
        else:
            found.append((coef, term))
    return tuple(found)


def _check_shape(utility: t.Expression, where: str) -> None:
    for coef, term in utility.terms:
        if coef * term.shape > 0:
            raise ConfigError(
                f"{coef:g} * {term} in {where} is not convex: risks and costs are subtracted from a utility, bounded "
                "from above, growth is added and bounded from below"
            )


def _add(model: Model, constraint: t.Constraint) -> None:
    market, n, name = model.market, model.market.n, str(constraint)
    ones = np.ones(n)
    match constraint:
        case t.LongOnly():
            _bound(model, np.zeros(n), np.full(n, np.inf), name)
        case t.Bounds():
            _bound(
                model,
                t.spread(constraint.lower, market.assets, -np.inf),
                t.spread(constraint.upper, market.assets, np.inf),
                name,
            )
        case t.Budget():
            model.equalities.append((ones, constraint.total, name))
        case t.NetExposure():
            _between(model, ones, constraint.lower, constraint.upper, name)
        case t.Linear():
            row = t.spread(constraint.coefficients, market.assets, 0.0)
            _between(model, row, constraint.lower, constraint.upper, name)
        case t.Groups():
            for group in sorted(set(constraint.members.values())):
                row = np.array([float(constraint.members.get(a) == group) for a in market.assets])
                low, high = (
                    side.get(group, default) if not np.isscalar(side) else side  # type: ignore[union-attr]
                    for side, default in ((constraint.lower, -np.inf), (constraint.upper, np.inf))
                )
                _between(model, row, float(low), float(high), f"Groups({group})")  # type: ignore[arg-type]
        case t.Leverage():
            limit = t.GrossExposure() <= constraint.limit
            model.limits.append((limit.expression, np.zeros(n), constraint.limit, name))
        case t.Limit():
            kept = t.Expression(_merged(constraint.expression, market))
            _check_shape(-kept, f"the limit {name}")
            if kept.terms:
                model.limits.append((kept, np.zeros(n), constraint.bound, name))
        case _:
            raise ConfigError(
                f"{constraint!r} is not a constraint of the optimiser; see foliocast.portfolio.terms for those that are"
            )


def _bound(model: Model, lower: np.ndarray, upper: np.ndarray, name: str) -> None:
    model.lower, model.upper = np.maximum(model.lower, lower), np.minimum(model.upper, upper)
    model.bounds.append((lower, upper, name))


def _between(model: Model, row: np.ndarray, low: float, high: float, name: str) -> None:
    if low > high:
        raise InfeasibleError(f"{name} contradicts itself: its lower end {low:g} is above its upper end {high:g}")
    if low == high:
        model.equalities.append((row, low, name))
        return
    if np.isfinite(high):
        model.limits.append((None, row, high, name))
    if np.isfinite(low):
        model.limits.append((None, -row, -low, name))


# ---- solving


def solve_model(model: Model, tol: float, start: np.ndarray | None = None, general: bool = True) -> Solution:
    """Solve a prepared model; ``general`` allows the fallback."""
    market = model.market
    if market.held.all():
        return _finished(model, market.base, 0.0, "active-set", 0)
    quick = _active_set(model, start)
    if quick is not None:
        return _finished(model, quick[0], quick[1], "active-set", 0)
    solution, outcome = _interior(model, tol, start)
    if solution is not None:
        return solution
    if not general:
        raise SolverError(
            f"the interior point stopped after {outcome.iterations} iterations without reaching its accuracy; "
            "loosen tol, or look for terms that differ by many orders of magnitude"
        )
    return _fall_back(model, outcome)


def _all_terms(model: Model) -> list[t.Term]:
    found = [term for _, term in model.objective.terms]
    return found + [term for limit in model.limits if limit[0] is not None for _, term in limit[0].terms]


def _interior(model: Model, tol: float, start: np.ndarray | None) -> tuple[Solution | None, Outcome]:
    """The interior point's portfolio, or None when it is not certified even in double precision from its start."""
    market = model.market
    first = _guess(model) if start is None else start if market.free is None else start[market.free]
    entropic = any(isinstance(term, t.EVaR) for term in _all_terms(model))
    outcome: Outcome | None = None
    for rough_above in (ROUGH, np.inf):
        for flat in (False, True)[: 1 + entropic]:
            market.flat_tails = flat
            solution, found = _attempt(model, tol, first, rough_above)
            market.flat_tails = False
            if solution is not None:
                return solution, found
            outcome = found if outcome is None or not flat else outcome
            if found.diverged and not flat:
                return None, found
        if market.n < ROUGH_FROM:
            break
    assert outcome is not None
    return None, outcome


def _attempt(model: Model, tol: float, start: np.ndarray | None, rough_above: float) -> tuple[Solution | None, Outcome]:
    """One run of the interior point; no solution when it is not certified."""
    program, unit, offset = compile_program(model)
    outcome = solve(program, tol, start=start, rough_above=rough_above, focus=rough_above == ROUGH)
    if not outcome.converged:
        return None, outcome
    w = model.market.base.copy()
    w[slice(None) if model.market.free is None else model.market.free] = _settled(program, outcome)
    solution = _finished(model, w, 0.0, "interior-point", outcome.iterations)
    gap = max(-solution.value - (outcome.bound * unit + offset), 0.0)
    if gap > 1e-6 * max(abs(solution.value), 1e-4 * unit) or misses(model, w) is not None:
        return None, outcome
    return replace(solution, gap=gap), outcome


def _guess(model: Model) -> np.ndarray | None:
    """Where to begin: least variance within the bounds and the budget; it is cheap, and near most other answers."""
    market = model.market
    if not any(isinstance(term, t.CVaR | t.EVaR) for term in _all_terms(model)):
        return None
    if market.held.any() or len(model.equalities) > 1 or np.isinf(model.lower).any():
        return None
    some = market.returns[:: max(1, len(market.returns) // (GUESS * market.n))]
    centred = (some - some.mean(axis=0)) / market.scale
    matrix = centred.T @ centred / len(some)
    matrix[np.diag_indices(market.n)] *= 1.0 + 1e-6
    row, level = (model.equalities[0][0], model.equalities[0][1]) if model.equalities else (None, 0.0)
    found = box_quadratic(matrix, np.zeros(market.n), model.lower, model.upper, row, level)
    return None if found is None else found[0]


def _fall_back(model: Model, outcome: Outcome) -> Solution:
    from foliocast.portfolio.fallback import diagnose, solve_generally

    diagnose(model, outcome)
    reason = f"the interior point did not reach its accuracy in {outcome.iterations} iterations"
    warnings.warn(f"{reason}; solving by cvxpy and Clarabel instead", UserWarning, stacklevel=4)
    w = solve_generally(model)
    miss = misses(model, w)
    if miss is not None:
        raise SolverError(f"no solver met {miss}; the constraints may be feasible at a single point only: loosen one")
    return replace(_finished(model, w, float("nan"), "clarabel", outcome.iterations), fallback=reason)


def _finished(model: Model, w: np.ndarray, gap: float, solver: str, iterations: int) -> Solution:
    value = model.objective.measure(model.market, w)
    return Solution(
        pd.Series(w, index=_index(model.market.assets)), float(value), gap, 0.0, solver, "optimal", iterations
    )


@lru_cache(maxsize=64)
def _index(assets: tuple[str, ...]) -> pd.Index:
    """Immutable, and dear enough to make that a walk-forward feels it."""
    return pd.Index(list(assets))


def misses(model: Model, w: np.ndarray) -> str | None:
    """Name of a constraint that the weights do not meet, None when they meet all."""
    if (w < model.lower - FEASIBLE).any() or (w > model.upper + FEASIBLE).any():
        return " and ".join(model.bound_names)
    for row, level, name in model.equalities:
        if abs(row @ w - level) > FEASIBLE * max(1.0, abs(level)):
            return name
    for expression, row, bound, name in model.limits:
        reached = row @ w + (0.0 if expression is None else expression.measure(model.market, w))
        size = 1.0 if expression is None else sum(abs(c) * term.unit(model.market) for c, term in expression.terms)
        if reached > bound + 10 * FEASIBLE * max(size, abs(bound)):
            return name
    return None


def _active_set(model: Model, start: np.ndarray | None) -> tuple[np.ndarray, float] | None:
    """Exact answer where the utility is mean-variance and there is nothing but bounds and at most one equality."""
    market, kinds = model.market, [term for _, term in model.objective.terms]
    plain = all(isinstance(term, t.ExpectedReturn | t.Variance) for term in kinds)
    if not plain or not any(isinstance(term, t.Variance) for term in kinds):
        return None
    if model.limits or len(model.equalities) > 1 or market.held.any():
        return None
    linear, curve = np.zeros(market.n), 0.0
    for coef, term in model.objective.terms:
        if isinstance(term, t.Variance):
            curve -= coef
        else:
            linear -= coef * market.mean
    size = market.scale**2 * curve
    row, level = (model.equalities[0][0], model.equalities[0][1]) if model.equalities else (None, 0.0)
    matrix = market.covariance * (2 / market.scale**2)
    found = box_quadratic(matrix, linear / size, model.lower, model.upper, row, level, start)
    if found is None or misses(model, found[0]) is not None:
        return None
    return found[0], found[1] * size


def compile_program(model: Model) -> tuple[Program, float, float]:
    """The scaled program, the unit of its objective, and the constant that was left out of it."""
    market = model.market
    free = np.arange(market.n) if market.free is None else market.free
    goal = -model.objective
    rows: list[tuple[t.Expression | None, np.ndarray, float]] = [(goal, np.zeros(market.n), 0.0)]
    rows += [(expression, row, bound) for expression, row, bound, _ in model.limits]
    terms: list[t.Term] = []
    table: list[dict[int, float]] = []
    linear = np.zeros((len(rows), market.n))
    for i, (expression, row, _) in enumerate(rows):
        linear[i] += row
        table.append({})
        for coef, term in expression.terms if expression is not None else ():
            if term.shape == 0:
                linear[i] += coef * term.linear(market)
                continue
            at = next((j for j, other in enumerate(terms) if repr(other) == repr(term)), len(terms))
            if at == len(terms):
                terms.append(term)
            table[i][at] = table[i].get(at, 0.0) + coef * (term.shape if term.shape else 1)
    units = [term.unit(market) for term in terms]
    constant = linear @ market.base
    sizes = np.array(
        [
            max([np.abs(linear[i, free]).max(initial=0.0)] + [abs(c) * units[j] for j, c in table[i].items()]) or 1.0
            for i in range(len(rows))
        ]
    )
    coefs = np.zeros((len(terms), len(rows)))
    for i, entries in enumerate(table):
        for j, c in entries.items():
            coefs[j, i] = c * units[j] / sizes[i]
    blocks = [term.block(market, coefs[j]) for j, term in enumerate(terms)]
    limits = np.array([(bound - constant[i]) / sizes[i] for i, (_, _, bound) in enumerate(rows) if i > 0])
    offset = _outside(model, rows, table, terms)
    limits -= offset[1:] / sizes[1:]
    matrix, level = _equalities(model, free)
    lower, upper = model.lower[free], model.upper[free]
    program = Program(
        market.ops,
        lower,
        upper,
        matrix,
        level,
        linear[:, free] / sizes[:, None],
        limits,
        blocks,
        _box(model, free, matrix, level),
    )
    return program, float(sizes[0]), float(constant[0] + offset[0])


def _outside(model: Model, rows: Sequence[object], table: list[dict[int, float]], terms: list[t.Term]) -> np.ndarray:
    """What positions that are fixed cost in the trading terms, a number a row."""
    out, market = np.zeros(len(rows)), model.market
    if market.free is None:
        return out
    for i, entries in enumerate(table):
        for j, coef in entries.items():
            term = terms[j]
            if isinstance(term, t.Traded):
                ref = term.reference(market)
                k, c = term.rates(market)
                d = np.abs(market.base - (0.0 if ref is None else ref))[market.held]
                out[i] += coef * float(k[market.held] @ d + c[market.held] @ d**1.5)
    return out


def _equalities(model: Model, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, levels = [], []
    for row, level, name in model.equalities:
        size = float(np.abs(row[free]).max(initial=0.0))
        left = level - float(row @ model.market.base)
        if size == 0.0:
            if abs(left) > FEASIBLE:
                raise InfeasibleError(f"{name} cannot hold: {' and '.join(model.bound_names)} fix all assets in it")
            continue
        rows.append(row[free] / size)
        levels.append(left / size)
    return np.array(rows).reshape(len(rows), len(free)), np.array(levels)


def _box(model: Model, free: np.ndarray, matrix: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds that follow from bounds, equalities, gross and turnover limits: where the certificate must hold."""
    low, up = model.lower[free].copy(), model.upper[free].copy()
    for expression, _, bound, _ in model.limits:
        for coef, term in expression.terms if expression is not None else ():
            if len(expression.terms) == 1 and isinstance(term, t.GrossExposure | t.Turnover):  # type: ignore[union-attr]
                ref = term.reference(model.market)
                centre = np.zeros(len(free)) if ref is None else ref[free]
                low, up = np.maximum(low, centre - bound / coef), np.minimum(up, centre + bound / coef)
    for _ in range(2):
        for row, right in zip(matrix, level):
            least = np.where(row > 0, row * low, np.where(row < 0, row * up, 0.0))
            most = np.where(row > 0, row * up, np.where(row < 0, row * low, 0.0))
            with np.errstate(invalid="ignore", divide="ignore"):
                top = (right - (least.sum() - least)) / row
                bottom = (right - (most.sum() - most)) / row
            new_up, new_low = np.where(row > 0, top, bottom), np.where(row > 0, bottom, top)
            up = np.where((row != 0) & np.isfinite(new_up), np.minimum(up, new_up), up)
            low = np.where((row != 0) & np.isfinite(new_low), np.maximum(low, new_low), low)
    return low, up


def _settled(program: Program, outcome: Outcome) -> np.ndarray:
    """The interior point's weights on the bounds they approach, and exactly on the equalities."""
    w = outcome.w
    near = 1e-7
    w = np.where(
        w - program.lower < near * 1e-2, program.lower, np.where(program.upper - w < near * 1e-2, program.upper, w)
    )
    if not len(program.level):
        return w
    for _ in range(3):
        room = np.minimum(np.minimum(w - program.lower, program.upper - w), 1.0)
        room = np.where(room > near, room, 0.0)
        if not room.any():
            return outcome.w
        weighted = program.matrix * room
        change = (
            weighted.T @ np.linalg.lstsq(weighted @ program.matrix.T, program.level - program.matrix @ w, rcond=None)[0]
        )
        w = np.clip(w + change, program.lower, program.upper)
    return w
