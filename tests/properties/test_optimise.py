"""Laws of the optimiser over random problems."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foliocast.core.belief import ScenarioSet
from foliocast.portfolio import interior
from foliocast.portfolio import terms as t
from foliocast.portfolio.fallback import solve_generally
from foliocast.portfolio.market import Market
from foliocast.portfolio.model import build, misses
from foliocast.portfolio.solver import optimise

LONG = (t.LongOnly(), t.Budget())
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
RISKS = st.sampled_from([t.CVaR(0.9), t.CVaR(0.95), t.EVaR(0.8), t.Variance(), t.MaxLoss(), t.Semivariance()])


@st.composite
def markets(draw: st.DrawFn) -> np.ndarray:
    """Scenario returns of odd shapes and units."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_scenarios, n = draw(st.integers(20, 200)), draw(st.integers(2, 12))
    unit = 10.0 ** draw(st.integers(-4, -1))
    common = rng.standard_t(3, (n_scenarios, 1)) * draw(st.floats(0, 2))
    scales = rng.uniform(0.2, 3, n)
    return np.clip(unit * (rng.normal(0.05, 0.1, n) + common + rng.standard_t(3, (n_scenarios, n)) * scales), -0.9, 3)


@FEW
@given(markets(), RISKS, st.floats(0.0, 5.0), st.booleans())
def test_feasible_certified_and_no_worse_than_the_general_solver(
    returns: np.ndarray, risk: t.Term, aversion: float, traded: bool
) -> None:
    scenarios = ScenarioSet.from_returns(returns)
    n = returns.shape[1]
    held = np.full(n, 1 / n)
    utility = t.ExpectedReturn() - (0.1 + aversion) * risk - t.TransactionCost(bps=5)
    rules = (*LONG, t.Bounds(upper=max(0.5, 2 / n)), *([t.Turnover() <= 0.4] if traded else []))
    found = optimise(scenarios, utility, rules, held)
    model = build(Market.of(scenarios, held), utility, rules)
    assert misses(model, found.weights.to_numpy()) is None
    reference = solve_generally(model)
    value = utility.value(reference, scenarios, held)
    size = sum(abs(c) * term.unit(model.market) for c, term in utility.terms)
    assert found.value >= value - 1e-6 * size
    if not found.fallback:
        assert 0 <= found.gap <= 1e-5 * size


@FEW
@given(markets(), st.sampled_from([t.CVaR(0.9), t.Variance(), t.MaxLoss()]))
def test_more_aversion_never_buys_more_risk(returns: np.ndarray, risk: t.Term) -> None:
    scenarios = ScenarioSet.from_returns(returns)
    risks, means = [], []
    for aversion in (0.1, 1.0, 10.0, 100.0):
        w = optimise(scenarios, t.ExpectedReturn() - aversion * risk, LONG).weights
        risks.append(risk.value(w, scenarios))
        means.append(t.ExpectedReturn().value(w, scenarios))
    slack = 1e-6 * max(np.abs(risks).max(), 1e-12)
    assert all(b <= a + slack for a, b in pairwise(risks))
    slack = 1e-5 * max(np.abs(returns.mean(0)).max(), 1e-12)
    assert all(b <= a + slack for a, b in pairwise(means))


@FEW
@given(markets(), RISKS, st.randoms(use_true_random=False))
def test_the_order_of_assets_and_scenarios_does_not_matter(returns: np.ndarray, risk: t.Term, random) -> None:
    names = [f"A{i}" for i in range(returns.shape[1])]
    frame = pd.DataFrame(returns, columns=names)
    shuffled = frame[random.sample(names, len(names))].iloc[random.sample(range(len(frame)), len(frame))]
    a = optimise(ScenarioSet.from_returns(frame), -risk, LONG)
    b = optimise(ScenarioSet.from_returns(shuffled), -risk, LONG)
    size = risk.unit(Market.of(ScenarioSet.from_returns(frame)))
    assert abs(a.value - b.value) <= 1e-6 * size


@FEW
@given(markets(), st.sampled_from([t.CVaR(0.9), t.Variance(), t.EVaR(0.8), t.Semivariance()]))
def test_percent_or_fractions_give_the_same_portfolio(returns: np.ndarray, risk: t.Term) -> None:
    a = optimise(ScenarioSet.from_returns(returns), -risk, LONG)
    scaled = ScenarioSet.from_returns(returns * 0.01)
    b = optimise(scaled, -risk, LONG)
    power = 2 if isinstance(risk, t.Variance | t.Semivariance) else 1
    back = optimise(ScenarioSet.from_returns(returns), -risk, LONG, start=b.weights)
    size = risk.unit(Market.of(ScenarioSet.from_returns(returns)))
    assert abs(a.value - b.value * 100**power) <= 1e-6 * size
    assert abs(back.value - a.value) <= 1e-6 * size


@FEW
@given(markets(), st.floats(0.05, 0.5))
def test_limits_hold_and_cost_utility(returns: np.ndarray, share: float) -> None:
    scenarios = ScenarioSet.from_returns(returns)
    low = -optimise(scenarios, -t.CVaR(0.9), LONG).value
    rich = optimise(scenarios, t.ExpectedReturn(), LONG)
    high = t.CVaR(0.9).value(rich.weights, scenarios)
    size = Market.of(scenarios).scale
    if high - low < 1e-3 * size:
        return
    limit = low + share * (high - low)
    found = optimise(scenarios, t.ExpectedReturn(), (*LONG, t.CVaR(0.9) <= limit))
    assert t.CVaR(0.9).value(found.weights, scenarios) <= limit + 1e-6 * size
    assert found.value <= rich.value + 1e-7 * size


@FEW
@given(markets(), st.sampled_from([0.8, 0.95]), st.floats(0.01, 3.0), st.booleans(), st.booleans())
def test_working_on_the_scenarios_near_the_tail_changes_nothing(
    returns: np.ndarray, alpha: float, aversion: float, limited: bool, warm: bool
) -> None:
    scenarios = ScenarioSet.from_returns(returns)
    n = returns.shape[1]
    held = np.full(n, 1 / n)
    utility = t.ExpectedReturn() - aversion * t.CVaR(alpha) - t.MarketImpact("sqrt", coefficient=0.1)
    least = -optimise(scenarios, -t.CVaR(0.9), LONG).value
    rules = (*LONG, *([t.CVaR(0.9) <= least + 0.2 * abs(least)] if limited else []))
    start = pd.Series(np.eye(n)[0], index=list(scenarios.assets)) if warm else None
    values, size = [], float(np.sqrt(np.mean(returns**2)))
    for few in (10**9, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(interior, "WORTH", few)
            found = optimise(scenarios, utility, rules, held, start=start)
        if not found.fallback:
            assert 0 <= found.gap <= 1e-5 * size * (1 + aversion)
        values.append(found.value)
    assert abs(values[0] - values[1]) <= 1e-6 * size * (1 + aversion)
