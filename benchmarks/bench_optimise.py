"""The optimiser beside skfolio and cvxpy on the same arrays, in one process, by CPU time.

``python benchmarks/bench_optimise.py [--large] [--huge] [--part cvar|walk|others]``: each line is a ratio. ``--large``
adds 10,000 x 500 (skfolio needs a minute or more there), ``--huge`` adds 100,000 x 500 for ours alone. Set
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
import warnings
from collections.abc import Callable

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import cvxpy as cp  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from scipy.optimize import linprog  # noqa: E402
from skfolio import RiskMeasure  # noqa: E402
from skfolio.datasets import load_sp500_dataset  # noqa: E402
from skfolio.model_selection import WalkForward, cross_val_predict  # noqa: E402
from skfolio.optimization import MeanRisk, ObjectiveFunction  # noqa: E402

import foliocast as fc  # noqa: E402


def factor_scenarios(n_scenarios: int, n_assets: int, seed: int, k: int = 8, df: float = 4.0) -> np.ndarray:
    """Heavy-tailed factor model of daily returns, (scenario, asset)."""
    r = np.random.default_rng(seed)
    load = r.normal(0, 1, (n_assets, k)) * np.r_[1.0, np.full(k - 1, 0.35)] + np.r_[1.0, np.zeros(k - 1)]
    f = r.standard_t(df, (n_scenarios, k)) / np.sqrt(df / (df - 2)) * 0.008
    vol = r.uniform(0.006, 0.02, n_assets)
    e = r.standard_t(df, (n_scenarios, n_assets)) / np.sqrt(df / (df - 2)) * vol
    return r.normal(0.0004, 0.0003, n_assets) + f @ load.T + e


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """CPU seconds of this process and the result."""
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def line(name: str, ours: float, theirs: float, peer: str, excess: float, gap: float) -> None:
    print(
        f"{name:28s} ours {ours:8.3f} s  {peer:14s} {theirs:8.3f} s  ratio {theirs / ours:6.1f}x  "
        f"ours above best by {excess:+.1e}  certified gap {gap:.1e}",
        flush=True,
    )


def min_cvar(n_scenarios: int, n_assets: int, seed: int) -> None:
    r = factor_scenarios(n_scenarios, n_assets, seed)
    s = fc.ScenarioSet.from_returns(r)
    x = pd.DataFrame(r, columns=list(s.assets))
    model = MeanRisk(risk_measure=RiskMeasure.CVAR, objective_function=ObjectiveFunction.MINIMIZE_RISK, cvar_beta=0.95)
    theirs, fitted = timed(lambda: model.fit(x).weights_)
    ours, found = timed(lambda: fc.Optimized().solve(s))
    best = min(fc.CVaR(0.95).value(fitted, s), dual_program(r) if r.size <= 10**6 else np.inf)
    gap = found.gap / abs(found.value)
    line(f"min CVaR {n_scenarios} x {n_assets}", ours, theirs, "skfolio", -found.value / best - 1, gap)


def dual_program(r: np.ndarray, alpha: float = 0.95) -> float:
    """Least CVaR by HiGHS on the dual linear program: an oracle that shares nothing with ours."""
    s, n = r.shape
    answer = linprog(
        np.r_[np.zeros(s), -1.0],
        A_ub=np.column_stack([r.T, np.ones(n)]),
        b_ub=np.zeros(n),
        A_eq=np.r_[np.ones(s), 0.0][None],
        b_eq=[1.0],
        bounds=[(0, 1 / (s * (1 - alpha)))] * s + [(None, None)],
        method="highs",
    )
    return float(-answer.fun)


def against_cvxpy(name: str, policy: fc.Optimized, goal: Callable, s: fc.ScenarioSet, held: pd.Series | None) -> None:
    n = len(s.assets)

    def general() -> float:
        w = cp.Variable(n)
        value, rules = goal(w)
        problem = cp.Problem(cp.Minimize(100 * value), [w >= 0, cp.sum(w) == 1, *rules])
        problem.solve(solver=cp.CLARABEL)
        clean = np.maximum(w.value, 0)
        return -policy.utility().value(clean / clean.sum(), s, held)

    theirs, best = timed(general)
    ours, found = timed(lambda: policy.solve(s, held))
    size = abs(found.value)
    line(name, ours, theirs, "cvxpy+Clarabel", (-found.value - best) / size, found.gap / size)


def other_objectives(n_scenarios: int = 2520, n_assets: int = 500) -> None:
    r = factor_scenarios(n_scenarios, n_assets, 1)
    s = fc.ScenarioSet.from_returns(r)
    shape = f"{n_scenarios} x {n_assets}"
    held = pd.Series(1 / n_assets, index=list(s.assets))
    covariance = np.cov(r, rowvar=False, bias=True)

    def evar(w):
        level, shift, u = cp.Variable(nonneg=True), cp.Variable(), cp.Variable(n_scenarios)
        cone = cp.ExpCone(-100 * r @ w - shift, level * np.ones(n_scenarios), u)
        return (shift - level * np.log(0.05)) / 100, [cp.sum(u) / n_scenarios <= level, cone]

    def costly(w):
        level, d = cp.Variable(), cp.abs(w - 1 / n_assets)
        tail = level + cp.sum(cp.pos(-r @ w - level)) / (n_scenarios * 0.05)
        return -r.mean(0) @ w + tail + 5e-4 * cp.sum(d), [cp.sum(d) <= 0.5]

    def variance(w):
        return cp.quad_form(w, cp.psd_wrap(covariance)), []

    def growth(w):
        return -cp.sum(cp.log(1 + r @ w)) / n_scenarios, []

    rules = (fc.LongOnly(), fc.Budget(), fc.Turnover() <= 0.5)
    against_cvxpy(f"min variance {shape}", fc.Optimized(risk="variance"), variance, s, None)
    against_cvxpy(f"Kelly {shape}", fc.Optimized("max_growth"), growth, s, None)
    dear = fc.Optimized("max_utility", constraints=rules, costs=fc.TransactionCost(bps=5))
    against_cvxpy(f"CVaR, costs {shape}", dear, costly, s, held)
    against_cvxpy(f"EVaR {shape}", fc.Optimized(risk="evar"), evar, s, None)


def walk_forward() -> None:
    returns = load_sp500_dataset().pct_change().dropna()
    x = returns.to_numpy()
    policy = fc.Optimized(risk="variance")

    def ours() -> list[pd.Series]:
        starts = range(504, len(x) - 62, 63)
        return [policy.allocate(fc.ScenarioSet.from_returns(x[at - 504 : at])) for at in starts]

    peer = MeanRisk(risk_measure=RiskMeasure.VARIANCE)
    cv = WalkForward(train_size=504, test_size=63)
    theirs, predicted = timed(lambda: cross_val_predict(peer, returns, cv=cv))
    ours()  # warm, as the peer's model is compiled
    mine, weights = timed(ours)
    # its default accuracy leaves weights 1e-3 away from the optimum, so the same peer is asked again, tightly
    exact = {"tol_gap_abs": 1e-14, "tol_gap_rel": 1e-14, "tol_feas": 1e-14}
    tight = MeanRisk(risk_measure=RiskMeasure.VARIANCE, solver_params=exact, scale_objective=1e5)
    again = cross_val_predict(tight, returns, cv=cv).portfolios
    far = max(np.abs(w.to_numpy() - p.weights).max() for w, p in zip(weights, predicted.portfolios))
    near = max(np.abs(w.to_numpy() - p.weights).max() for w, p in zip(weights, again))
    print(
        f"walk-forward min variance, {len(weights)} refits of 20: ours {mine:.3f} s, skfolio {theirs:.3f} s, "
        f"ratio {theirs / mine:.1f}x, largest difference of a weight {far:.1e}, "
        f"{near:.1e} when the peer is asked for 1e-14"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="add 10,000 x 500")
    parser.add_argument("--huge", action="store_true", help="add 100,000 x 500, ours alone")
    parser.add_argument("--part", choices=("cvar", "walk", "others", "all"), default="all", help="run one part only")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    MeanRisk().fit(pd.DataFrame(factor_scenarios(50, 3, 0)))  # imports and first compilation of the peer
    fc.Optimized().solve(fc.ScenarioSet.from_returns(factor_scenarios(50, 3, 0)))
    parts = ("cvar", "walk", "others") if chosen.part == "all" else (chosen.part,)
    if "cvar" in parts:
        for shape in [(1000, 20, 1), (2500, 100, 2), (10_000, 100, 3)] + [(10_000, 500, 4)] * chosen.large:
            min_cvar(*shape)
    if "walk" in parts:
        walk_forward()
    if "others" in parts:
        other_objectives()
    if chosen.huge:
        s = fc.ScenarioSet.from_returns(factor_scenarios(100_000, 500, 5))
        ours, found = timed(lambda: fc.Optimized().solve(s))
        print(f"min CVaR 100000 x 500: ours {ours:.1f} s, relative gap {found.gap / abs(found.value):.1e}")
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
