"""The structured solver against an independent model of the same problem, written out in cvxpy by hand."""

from __future__ import annotations

import warnings

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, InfeasibleError
from foliocast.portfolio import terms as t
from foliocast.portfolio.solver import Solution, optimise

LONG = (t.LongOnly(), t.Budget())


def heavy(n_scenarios: int, n_assets: int, seed: int) -> np.ndarray:
    """Daily returns of a heavy-tailed factor model."""
    rng = np.random.default_rng(seed)
    load = 1 + rng.normal(0, 0.5, (n_assets, 3))
    common = rng.standard_t(4, (n_scenarios, 3)) * 0.006
    own = rng.standard_t(4, (n_scenarios, n_assets)) * rng.uniform(0.004, 0.015, n_assets)
    return rng.normal(0.0004, 0.0004, n_assets) + common @ load.T + own


R = heavy(800, 12, 1)
S = ScenarioSet.from_returns(R)
HELD = np.full(12, 1 / 12)


def best(goal, constraints=(), w=None) -> float:
    problem = cp.Problem(cp.Minimize(100 * goal), list(constraints))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "may be inaccurate": tighter than Clarabel promises, good enough for 1e-6
        try:
            problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        except cp.error.SolverError:
            problem.solve(solver=cp.CLARABEL)
    return problem.value / 100


def cvar_of(w, alpha=0.95):
    level = cp.Variable()
    return level + cp.sum(cp.pos(-R @ w - level)) / (len(R) * (1 - alpha))


def certified(solution: Solution) -> Solution:
    assert solution.status == "optimal"
    assert not solution.fallback
    assert solution.gap <= 1e-6 * max(abs(solution.value), 1e-6)
    return solution


def simplex() -> tuple[cp.Variable, list]:
    w = cp.Variable(12)
    return w, [w >= 0, cp.sum(w) == 1]


@pytest.mark.parametrize("alpha", [0.8, 0.95, 0.99])
def test_min_cvar_equals_the_dual_linear_program_of_highs(alpha: float) -> None:
    # max nu  s.t.  nu <= -(R' q)_i,  0 <= q <= 1 / (S (1 - alpha)),  sum q = 1
    n_scenarios, n = R.shape
    rows = np.column_stack([R.T, np.ones(n)])
    answer = linprog(
        np.r_[np.zeros(n_scenarios), -1.0],
        A_ub=rows,
        b_ub=np.zeros(n),
        A_eq=np.r_[np.ones(n_scenarios), 0.0][None],
        b_eq=[1.0],
        bounds=[(0, 1 / (n_scenarios * (1 - alpha)))] * n_scenarios + [(None, None)],
        method="highs",
    )
    found = certified(optimise(S, -t.CVaR(alpha), LONG))
    assert -found.value == pytest.approx(-answer.fun, rel=1e-7)


@pytest.mark.parametrize("n_assets", [8, 40])
def test_many_scenarios_are_solved_on_those_near_the_tail_and_certified_on_all(n_assets: int) -> None:
    returns = heavy(6000, n_assets, 4)
    scenarios = ScenarioSet.from_returns(returns)
    found = certified(optimise(scenarios, -t.CVaR(0.95), LONG))
    n = returns.shape[1]
    answer = linprog(
        np.r_[np.zeros(6000), -1.0],
        A_ub=np.column_stack([returns.T, np.ones(n)]),
        b_ub=np.zeros(n),
        A_eq=np.r_[np.ones(6000), 0.0][None],
        b_eq=[1.0],
        bounds=[(0, 1 / 300)] * 6000 + [(None, None)],
        method="highs",
    )
    assert -found.value == pytest.approx(-answer.fun, rel=1e-8)
    assert found.gap <= 1e-8 * abs(found.value)
    again = certified(optimise(scenarios, -t.CVaR(0.95), LONG, start=found.weights))
    assert again.iterations < 20
    assert again.value == pytest.approx(found.value, rel=1e-8)


def test_min_variance_is_exact_whatever_the_units() -> None:
    daily = certified(optimise(S, -t.Variance(), LONG))
    assert daily.solver == "active-set"
    covariance = np.cov(R, rowvar=False, bias=True)
    slope = covariance @ daily.weights
    held = daily.weights > 0
    assert np.ptp(slope[held]) <= 1e-12 * slope.mean()
    assert (slope[~held] >= slope[held].min() - 1e-16).all()
    for unit in (1e-4, 100.0):
        other = optimise(ScenarioSet.from_returns(R * unit), -t.Variance(), LONG)
        np.testing.assert_allclose(other.weights, daily.weights, atol=1e-12)


def test_min_variance_of_500_assets_in_daily_units_is_the_optimum() -> None:
    # several well-known optimisers are 40 to 57 % above it here
    wide = ScenarioSet.from_returns(heavy(1500, 500, 2))
    found = certified(optimise(wide, -t.Variance(), LONG))
    total = wide.returns[:, 0, :]
    slope = np.cov(total, rowvar=False, bias=True) @ found.weights.to_numpy()
    # the duality gap, written out: w' slope - min slope is zero only at the optimum
    assert found.weights @ slope - slope.min() <= 1e-9 * -found.value
    assert found.weights.min() >= 0
    assert found.weights.sum() == pytest.approx(1, abs=1e-12)


def test_the_interior_point_agrees_with_the_active_set() -> None:
    exact = optimise(S, -t.Variance(), LONG)
    inner = certified(optimise(S, -t.Variance(), (*LONG, t.NetExposure(0.0, 2.0))))
    assert inner.solver == "interior-point"
    assert inner.value == pytest.approx(exact.value, rel=1e-8)


@pytest.mark.parametrize("risk", ["volatility", "semivariance", "max_loss", "entropic", "evar", "growth"])
def test_each_risk_reaches_its_optimum(risk: str) -> None:
    w, rules = simplex()
    p = np.full(len(R), 1 / len(R))
    centred = (R - R.mean(0)) / np.sqrt(len(R))
    if risk == "volatility":
        goal, utility = cp.norm(centred @ w), -t.Volatility()
    elif risk == "semivariance":
        goal, utility = cp.sum_squares(cp.pos(-np.sqrt(len(R)) * centred @ w)) / len(R), -t.Semivariance()
    elif risk == "max_loss":
        goal, utility = cp.max(-R @ w), -t.MaxLoss()
    elif risk == "entropic":
        goal, utility = cp.log_sum_exp(-30 * R @ w + np.log(p)) / 30, -t.EntropicRisk(30.0)
    elif risk == "growth":
        goal, utility = -cp.sum(cp.log(1 + R @ w)) / len(R), t.LogGrowth()
    else:
        level, shift, u = cp.Variable(nonneg=True), cp.Variable(), cp.Variable(len(R))
        goal, utility = (shift - level * np.log(0.05)) / 100, -t.EVaR()  # Clarabel needs percent
        rules += [cp.sum(u) / len(R) <= level, cp.ExpCone(-100 * R @ w - shift, level * np.ones(len(R)), u)]
    found = certified(optimise(S, utility, LONG))
    assert -found.value == pytest.approx(best(goal, rules), rel=1e-6)


def test_costs_impact_and_turnover_together() -> None:
    w, rules = simplex()
    d = cp.abs(w - HELD)
    sigma = R.std(axis=0)
    goal = -R.mean(0) @ w + cvar_of(w) + 5e-4 * cp.sum(d) + (0.5 * sigma) @ cp.power(d, 1.5)
    utility = t.ExpectedReturn() - t.CVaR() - t.TransactionCost(bps=5) - 0.5 * t.MarketImpact("sqrt")
    limits = (*LONG, t.Turnover() <= 0.25)
    found = certified(optimise(S, utility, limits, HELD))
    assert -found.value == pytest.approx(best(goal, [*rules, cp.sum(d) <= 0.25]), rel=1e-6)
    assert np.abs(found.weights - HELD).sum() <= 0.25 + 1e-8


def test_risk_limits_long_short_and_groups() -> None:
    w = cp.Variable(12)
    rules = [cvar_of(w) <= 0.015, cp.norm1(w) <= 1.4, cp.sum(w) == 0.4, w >= -0.2, w <= 0.3]
    rules += [cp.sum(w[:4]) <= 0.1, cp.norm((R - R.mean(0)) @ (w - HELD)) / np.sqrt(len(R)) <= 0.012]
    limits = (
        t.CVaR(0.95) <= 0.015,
        t.Leverage(1.4),
        t.Budget(0.4),
        t.Bounds(-0.2, 0.3),
        t.Groups({f"A{i}": "tech" for i in range(4)}, upper=0.1),
        t.TrackingError({f"A{i}": 1 / 12 for i in range(12)}) <= 0.012,
    )
    found = certified(optimise(S, t.ExpectedReturn(), limits))
    assert found.value == pytest.approx(-best(-R.mean(0) @ w, rules), rel=1e-6)
    assert t.CVaR(0.95).value(found.weights, S) <= 0.015 * (1 + 1e-6)


def test_a_return_floor_is_a_limit_from_below() -> None:
    w, rules = simplex()
    floor = float(np.quantile(R.mean(0), 0.8))
    found = certified(optimise(S, -t.CVaR(), (*LONG, t.ExpectedReturn() >= floor)))
    assert -found.value == pytest.approx(best(cvar_of(w), [*rules, R.mean(0) @ w >= floor]), rel=1e-6)


def test_probabilities_count_and_empty_scenarios_do_not() -> None:
    p = np.random.default_rng(3).dirichlet(np.ones(len(R)))
    p[::7] = 0
    p /= p.sum()
    w, rules = simplex()
    level = cp.Variable()
    found = certified(optimise(ScenarioSet.from_returns(R, probabilities=p), -t.CVaR(0.9), LONG))
    assert -found.value == pytest.approx(best(level + p @ cp.pos(-R @ w - level) / 0.1, rules), rel=1e-6)


def test_longer_horizons_are_compounded() -> None:
    paths = heavy(400, 15, 5).reshape(400, 3, 5)
    total = np.prod(1 + paths, axis=1) - 1
    a = optimise(ScenarioSet.from_returns(paths), -t.CVaR(), LONG)
    b = optimise(ScenarioSet.from_returns(total), -t.CVaR(), LONG)
    np.testing.assert_allclose(a.weights, b.weights, atol=1e-9)


def test_fixed_positions_are_left_out_and_still_count() -> None:
    w, rules = simplex()
    pins = {"A0": 0.2, "A3": 0.0}
    d = cp.abs(w - HELD)
    goal = cp.quad_form(w, np.cov(R, rowvar=False, bias=True) * 50) + cvar_of(w) + 1e-3 * cp.sum(d)
    utility = -50 * t.Variance() - t.CVaR() - t.TransactionCost(bps=10)
    found = certified(optimise(S, utility, (*LONG, t.Bounds(pins, pins)), HELD))
    assert found.weights["A0"] == 0.2
    assert found.weights["A3"] == 0.0
    assert -found.value == pytest.approx(best(goal, [*rules, w[0] == 0.2, w[3] == 0]), rel=1e-6)


def test_evar_of_an_overfitted_sample_is_certified_at_its_limit() -> None:
    small = heavy(120, 40, 6)
    found = certified(optimise(ScenarioSet.from_returns(small), -t.EVaR(0.9), LONG))
    w = cp.Variable(40)
    level, shift, u = cp.Variable(nonneg=True), cp.Variable(), cp.Variable(120)
    cone = cp.ExpCone(-small @ w - shift, level * np.ones(120), u)
    goal = shift - level * np.log(0.1)
    reference = best(goal, [w >= 0, cp.sum(w) == 1, cp.sum(u) / 120 <= level, cone])
    assert -found.value <= reference * (1 + 1e-6)


def test_a_torch_device_gives_the_same_answer() -> None:
    host = optimise(S, -t.CVaR(), LONG)
    there = certified(optimise(S, -t.CVaR(), LONG, device="cpu"))
    assert there.value == pytest.approx(host.value, rel=1e-8)


def test_without_known_holdings_trading_is_free() -> None:
    utility = -t.CVaR() - t.TransactionCost(bps=50)
    found = optimise(S, utility, (*LONG, t.Turnover() <= 0.01))
    assert found.value == pytest.approx(optimise(S, -t.CVaR(), LONG).value, rel=1e-8)


# ---- what cannot be solved is named


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ((t.LongOnly(), t.Budget(), t.Bounds(upper=0.05)), ["Budget", "Bounds"]),
        ((*LONG, t.CVaR(0.95) <= 1e-4), ["CVaR", "<= 0.0001", "the best that they allow is"]),
        ((*LONG, t.Turnover() <= 0.1, t.Bounds(lower={"A0": 0.5})), ["Turnover", "Bounds"]),
        ((t.LongOnly(), t.Bounds(upper=-0.1)), ["LongOnly", "Bounds", "A0"]),
        ((*LONG, t.ExpectedReturn() >= 1.0), ["ExpectedReturn", ">= 1"]),
        ((t.Budget(1.0), t.Leverage(0.5)), ["Budget", "Leverage"]),
        ((*LONG, t.Groups({"A0": "x", "A1": "x"}, 0.9), t.Bounds(upper=0.2)), ["Groups(x)", "Bounds"]),
    ],
)
def test_contradictions_are_named(limits: tuple, words: list[str]) -> None:
    with pytest.raises(InfeasibleError) as caught:
        optimise(S, -t.CVaR(), limits, HELD)
    for word in words:
        assert word in str(caught.value)


def test_innocent_constraints_are_not_blamed() -> None:
    with pytest.raises(InfeasibleError) as caught:
        optimise(S, -t.CVaR(), (*LONG, t.Bounds(upper=0.05), t.Groups({"A0": "x"}, upper=0.9), t.Leverage(3.0)))
    assert "LongOnly" not in str(caught.value)
    assert "Groups" not in str(caught.value)
    assert "Leverage" not in str(caught.value)


def test_limits_that_contradict_each_other_only_together() -> None:
    alone = t.ExpectedReturn().value(optimise(S, t.ExpectedReturn(), LONG).weights, S)
    safest = -optimise(S, -t.CVaR(), LONG).value
    with pytest.raises(InfeasibleError, match="together with") as caught:
        optimise(S, -t.Variance(), (*LONG, t.ExpectedReturn() >= 0.99 * alone, t.CVaR() <= 1.05 * safest))
    assert "CVaR" in str(caught.value)


@pytest.mark.parametrize("limits", [(), (t.Budget(),)])
def test_unbounded_utility_is_named(limits: tuple) -> None:
    with pytest.raises(InfeasibleError, match="grows without bound"):
        optimise(S, t.ExpectedReturn(), limits)


def test_unbounded_utility_with_risk_in_it_is_named() -> None:
    sure = np.column_stack([R[:, 0], R[:, 0] + 0.001])  # the difference of the two is free money
    with pytest.raises(InfeasibleError, match="grows without bound"):
        optimise(ScenarioSet.from_returns(sure), t.ExpectedReturn() - t.CVaR(), (t.Budget(),))


def test_rewarding_risk_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not convex"):
        optimise(S, t.ExpectedReturn() + t.CVaR(), LONG)
    with pytest.raises(ConfigError, match="is not convex"):
        optimise(S, t.ExpectedReturn(), (*LONG, t.CVaR() >= 0.01))
    with pytest.raises(ConfigError, match="is not convex"):
        optimise(S, -t.LogGrowth(), LONG)


def test_the_fallback_is_said_aloud_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    from foliocast.portfolio import solver

    wanted = optimise(S, -t.CVaR(), LONG)
    real = solver.solve
    monkeypatch.setattr(solver, "solve", lambda *args, **kw: real(*args, **{**kw, "max_iter": 2}))
    with pytest.warns(UserWarning, match="Clarabel"):
        found = optimise(S, -t.CVaR(), LONG)
    assert found.solver == "clarabel"
    assert found.fallback
    assert found.value == pytest.approx(wanted.value, rel=1e-5)


def test_no_risk_at_all_is_no_crash() -> None:
    calm = ScenarioSet.from_returns(np.zeros((50, 3)))
    assert optimise(calm, -t.CVaR(), LONG).weights.sum() == pytest.approx(1)


def test_one_asset_one_scenario() -> None:
    assert optimise(ScenarioSet.from_returns([[0.01]]), -t.CVaR(), LONG).weights.tolist() == [1.0]  # type: ignore[arg-type]


def test_duplicate_assets_and_more_assets_than_scenarios() -> None:
    twins = np.repeat(heavy(30, 20, 7), 3, axis=1)
    for utility in (-t.CVaR(), -t.Variance(), -t.Volatility(), t.LogGrowth()):
        found = certified(optimise(ScenarioSet.from_returns(twins), utility, LONG))
        alone = optimise(ScenarioSet.from_returns(twins[:, ::3]), utility, LONG)
        assert found.value == pytest.approx(alone.value, rel=1e-5, abs=1e-12)


def test_previous_that_cannot_be_priced_is_refused() -> None:
    with pytest.raises(ValueError, match="no scenarios"):
        optimise(S, -t.CVaR(), LONG, pd.Series({"ZZZ": 0.5}))
