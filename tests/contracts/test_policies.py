"""Every policy keeps the contract: assets in order, the same answer twice, inputs untouched, fit for a strategy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from skfolio.optimization import HierarchicalRiskParity, MeanRisk
from sklearn.base import clone

import foliocast as fc
from foliocast.core.protocols import Policy
from foliocast.portfolio import terms as t
from markets import make_panel

LONG = (t.LongOnly(), t.Budget())
POLICIES: dict[str, Callable[[], Any]] = {
    "min_cvar": fc.Optimized,
    "min_variance": lambda: fc.Optimized(risk="variance"),
    "evar_utility": lambda: fc.Optimized("max_utility", "evar", 0.8),
    "terms_with_costs": lambda: fc.Optimized(
        t.ExpectedReturn() - 2 * t.CVaR(0.9) - t.TransactionCost(bps=5) - t.MarketImpact("sqrt")
    ),
    "turnover": lambda: fc.Optimized(constraints=(*LONG, t.Turnover() <= 0.3)),
    "cardinality": lambda: fc.Optimized(risk="variance", constraints=(*LONG, t.Cardinality(2))),
    "kelly": lambda: fc.Kelly(0.5),
    "per_asset_kelly": lambda: fc.PerAssetKelly(cap=5.0),
    "volatility_target": lambda: fc.VolatilityTarget(fc.Optimized(), 0.1),
    "skfolio_hrp": lambda: fc.SkfolioPolicy(HierarchicalRiskParity()),
    "skfolio_mean_risk": lambda: fc.SkfolioPolicy(MeanRisk()),
}
S = fc.ScenarioSet.from_returns(
    0.0005 + np.random.default_rng(0).standard_t(4, (150, 3, 4)) * [0.01, 0.02, 0.005, 0.01], list("wxyz")
)
HELD = pd.Series({"z": 0.4, "w": 0.3, "x": 0.3})


@pytest.fixture(params=sorted(POLICIES))
def policy(request: pytest.FixtureRequest) -> Any:
    return POLICIES[request.param]()


@pytest.mark.parametrize("previous", [None, HELD], ids=["from_nothing", "from_holdings"])
def test_weights_are_valid_and_repeatable(policy: Any, previous: pd.Series | None) -> None:
    assert isinstance(policy, Policy)
    before = None if previous is None else previous.copy()
    weights = policy.allocate(S, previous)
    assert list(weights.index) == list(S.assets)
    assert np.isfinite(weights).all()
    assert weights.min() >= -1e-9
    assert weights.sum() <= 1 + 1e-6
    pd.testing.assert_series_equal(clone(policy).allocate(S, previous), weights)
    if previous is not None:
        pd.testing.assert_series_equal(previous, before)


def test_probabilities_are_believed(policy: Any) -> None:
    # all the weight on the first fifty scenarios is the same as having only those
    p = np.zeros(150)
    p[:50] = 1 / 50
    few = fc.ScenarioSet(S.returns[:50], S.assets)
    # skfolio's clusters answer to repeated rows as to more data, so only nearly the same
    np.testing.assert_allclose(policy.allocate(S.reweighted(p)), policy.allocate(few), atol=2e-3)


def test_a_policy_makes_a_strategy(policy: Any) -> None:
    panel = make_panel(130, 4)
    strategy = fc.ScenarioStrategy(fc.BlockBootstrap(), policy, horizon=3, n_scenarios=60, rebalance=5, window=60)
    weights = strategy.fit(panel.rows(0, 120)).decide(panel.asof(panel.times[119]), None)
    assert weights is not None
    assert weights.sum() <= 1 + 1e-6


def test_a_policy_that_does_not_look_at_holdings_says_so(policy: Any) -> None:
    assert isinstance(policy.path_dependent, bool)
    other = pd.Series(0.25, index=list(S.assets))
    from_equal, from_held = (policy.allocate(S, held) for held in (other, HELD))
    moved = float((from_equal - from_held).abs().max())
    assert moved < 1e-9 or policy.path_dependent
    strategy = fc.ScenarioStrategy(fc.BlockBootstrap(), policy)
    assert strategy.path_dependent == policy.path_dependent


def test_which_policies_look_at_holdings() -> None:
    looking = {name for name, make in POLICIES.items() if make().path_dependent}
    assert looking == {"terms_with_costs", "turnover"}
    assert fc.SkfolioPolicy(MeanRisk(transaction_costs=0.001)).path_dependent
    assert fc.Kelly(costs=t.TransactionCost()).path_dependent
