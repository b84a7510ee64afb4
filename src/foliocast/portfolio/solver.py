"""From terms and constraints to weights with a certified gap.

The program is scaled to its own units before it is solved, so the answer does not depend on daily, annual or percent.
Mean-variance within bounds and a budget goes to the active set (exact); everything else to the interior point. When
neither reaches its accuracy the general solver (cvxpy with Clarabel) is called, with a warning and a mark in the
result.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import SolverError
from foliocast.portfolio import terms as t
from foliocast.portfolio.activeset import box_quadratic
from foliocast.portfolio.interior import ROUGH, Outcome, Program, solve
from foliocast.portfolio.market import Market
from foliocast.portfolio.model import Model, build, compile_program, misses
from foliocast.portfolio.products import ROUGH_FROM

GUESS = 10  # scenarios an asset that are enough for a first guess


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
