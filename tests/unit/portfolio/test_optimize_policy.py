"""`Optimized` as a policy: objectives by name, whole decisions, the frontier."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, InfeasibleError
from foliocast.portfolio import terms as t
from foliocast.portfolio.optimize import Optimized, efficient_frontier
from foliocast.portfolio.solver import optimise

RNG = np.random.default_rng(4)
R = 0.0005 + RNG.standard_t(4, (300, 8)) * np.linspace(0.004, 0.02, 8) + RNG.standard_t(4, (300, 1)) * 0.006
R += np.linspace(0, 0.002, 8)
S = ScenarioSet.from_returns(R)
LONG = (t.LongOnly(), t.Budget())


def test_names_stand_for_expressions() -> None:
    pairs = [
        (Optimized(), -t.CVaR(0.95)),
        (Optimized(risk="variance"), -t.Variance()),
        (Optimized("max_utility", alpha=0.9, risk_aversion=3), t.ExpectedReturn() - 3 * t.CVaR(0.9)),
        (Optimized("max_return"), t.ExpectedReturn()),
        (Optimized("max_growth"), t.LogGrowth()),
        (Optimized(t.ExpectedReturn() - 2 * t.EVaR(0.9)), t.ExpectedReturn() - 2 * t.EVaR(0.9)),
    ]
    for policy, utility in pairs:
        weights = clone(policy).allocate(S)
        np.testing.assert_allclose(weights, optimise(S, utility, LONG).weights, atol=1e-7)
        assert list(weights.index) == list(S.assets)


def test_result_carries_its_proof() -> None:
    policy = Optimized()
    policy.allocate(S)
    found = policy.solution_
    assert 0 <= found.gap < 1e-8
    assert found.seconds > 0
    assert found.solver == "interior-point"
    assert found.value == pytest.approx(-t.CVaR().value(found.weights, S), rel=1e-12)


def test_costs_are_subtracted() -> None:
    held = pd.Series(0.125, index=list(S.assets))
    free = Optimized().allocate(S, held)
    dear = Optimized(costs=t.TransactionCost(bps=200)).allocate(S, held)
    assert (dear - held).abs().sum() < 0.5 * (free - held).abs().sum()


def test_unknown_objective_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_utility"):
        Optimized("max_fun").allocate(S)


@pytest.mark.parametrize("risk", ["cvar", "variance"])
def test_cardinality_equals_trying_every_choice(risk: str) -> None:
    from itertools import combinations

    five = S.select(S.assets[:5])
    rules = (*LONG, t.Cardinality(2))
    policy = Optimized(risk=risk, constraints=rules)
    weights = policy.allocate(five)
    assert (weights.abs() > 1e-9).sum() <= 2
    best = max(
        optimise(five.select(pair), -t.risk_term(risk, 0.95), LONG).value for pair in combinations(five.assets, 2)
    )
    if risk == "cvar":
        assert policy.solution_.status == "optimal"
        assert policy.solution_.value == pytest.approx(best, rel=1e-5)
    else:  # a search, without proof: it may lose a little
        assert policy.solution_.status == "heuristic"
        assert best * 1.1 <= policy.solution_.value <= best * (1 - 1e-9)


def test_no_crumbs_and_no_small_trades() -> None:
    weights = Optimized(constraints=(*LONG, t.MinPosition(0.15)), time_limit=10).allocate(S)
    held = weights[weights.abs() > 1e-9]
    assert held.min() >= 0.15 - 1e-7
    before = pd.Series(0.125, index=list(S.assets))
    for risk in ("cvar", "variance"):
        after = Optimized(risk=risk, constraints=(*LONG, t.MinTrade(0.1)), time_limit=10).allocate(S, before)
        trade = (after - before).abs()
        assert trade[trade > 1e-7].min() >= 0.1 - 1e-7
        assert after.sum() == pytest.approx(1, abs=1e-7)


def test_cardinality_needs_bounds() -> None:
    with pytest.raises(ConfigError, match="bounded weights"):
        Optimized(constraints=(t.Budget(), t.Cardinality(2))).allocate(S)


def test_impossible_choice_is_named() -> None:
    with pytest.raises(InfeasibleError, match="Cardinality"):
        Optimized(constraints=(*LONG, t.Bounds(upper=0.2), t.Cardinality(2))).allocate(S)


def test_frontier_trades_risk_for_return() -> None:
    table = efficient_frontier(S, 6)
    assert table["expected_return"].is_monotonic_increasing
    assert table["risk"].is_monotonic_increasing
    assert table["risk"].iloc[0] == pytest.approx(-optimise(S, -t.CVaR(), LONG).value, rel=1e-6)
