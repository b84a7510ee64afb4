"""skfolio's optimisers on our scenarios, our models inside skfolio's optimisers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from skfolio import RiskMeasure
from skfolio.optimization import (
    HierarchicalEqualRiskContribution,
    HierarchicalRiskParity,
    MaximumDiversification,
    MeanRisk,
    NestedClustersOptimization,
    ObjectiveFunction,
    RiskBudgeting,
)

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import SolverError
from foliocast.portfolio.bridge import SkfolioPolicy, as_observations, skfolio_prior
from foliocast.portfolio.optimize import Optimized
from foliocast.scenarios.bootstrap import BlockBootstrap
from markets import make_panel

S = ScenarioSet.from_returns(0.0005 + np.random.default_rng(0).standard_t(5, (400, 5)) * np.linspace(0.005, 0.02, 5))


@pytest.mark.parametrize(
    "estimator",
    [
        MeanRisk(risk_measure=RiskMeasure.CVAR),
        RiskBudgeting(),
        HierarchicalRiskParity(),
        HierarchicalEqualRiskContribution(),
        MaximumDiversification(),
        NestedClustersOptimization(),
    ],
    ids=lambda e: type(e).__name__,
)
def test_skfolio_optimisers_are_policies(estimator: object) -> None:
    weights = SkfolioPolicy(estimator).allocate(S, pd.Series(0.2, index=list(S.assets)))
    assert list(weights.index) == list(S.assets)
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert weights.min() >= -1e-9


def test_min_cvar_of_both_agrees() -> None:
    theirs = SkfolioPolicy(MeanRisk(risk_measure=RiskMeasure.CVAR)).allocate(S)
    np.testing.assert_allclose(theirs, Optimized().allocate(S), atol=1e-4)


def test_previous_weights_and_costs_reach_skfolio() -> None:
    held = pd.Series([1.0, 0, 0, 0, 0], index=list(S.assets))
    policy = SkfolioPolicy(MeanRisk(objective_function=ObjectiveFunction.MAXIMIZE_UTILITY, transaction_costs=0.1))
    assert policy.allocate(S, held)["A0"] > 0.99


def test_probabilities_become_repetitions() -> None:
    p = np.random.default_rng(1).dirichlet(np.full(400, 0.5))
    believed = S.reweighted(p)
    rows = as_observations(believed)
    assert len(rows) == 400
    counts = rows.groupby(list(rows.columns)).size()
    assert counts.max() == pytest.approx(400 * p.max(), abs=1)
    assert as_observations(S).equals(S.to_frame())


def test_a_scenario_model_is_a_prior() -> None:
    returns = make_panel(300, 4).returns()
    model = MeanRisk(prior_estimator=skfolio_prior(BlockBootstrap(random_state=0), 500)).fit(returns)
    assert model.prior_estimator_.return_distribution_.returns.shape == (500, 4)
    assert model.weights_.sum() == pytest.approx(1)
    event = skfolio_prior(BlockBootstrap(random_state=0), 200, A0=-0.05)
    drawn = MeanRisk(prior_estimator=event).fit(returns).prior_estimator_.return_distribution_.returns
    np.testing.assert_allclose(drawn[:, 0], -0.05, atol=1e-5)  # skfolio perturbs what it cannot factor


def test_failure_is_typed() -> None:
    with pytest.raises(SolverError, match="MeanRisk failed"):
        SkfolioPolicy(MeanRisk(min_weights=0.5)).allocate(S)
