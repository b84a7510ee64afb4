"""Baselines: the optimum is the optimum, at any scale, and assets take part by date."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import foliocast as fc
from foliocast.core.errors import ConfigError
from foliocast.portfolio.baselines import minimum_variance, nonnegative_quadratic, trailing
from markets import make_panel


def random_covariance(n: int, seed: int, bars: int = 400) -> np.ndarray:
    rng = np.random.default_rng(seed)
    factors = rng.normal(0, 0.01, (bars, 2)) @ rng.normal(1, 0.5, (2, n))
    return np.cov(factors + rng.normal(0, 0.01, (bars, n)) * rng.uniform(0.3, 2, n), rowvar=False)


@pytest.mark.parametrize("n", [2, 8, 40])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_minimum_variance_meets_the_optimality_conditions_at_any_scale(n: int, scale: float) -> None:
    covariance = random_covariance(n, n) * scale
    w = minimum_variance(covariance)
    assert w.sum() == pytest.approx(1.0, abs=1e-12)
    assert (w >= 0).all()
    gradient = covariance @ w
    variance = w @ gradient
    assert gradient[w > 0] == pytest.approx(variance, rel=1e-9)
    assert (gradient[w == 0] >= variance * (1 - 1e-9)).all()


def test_minimum_variance_beats_a_general_solver() -> None:
    covariance = random_covariance(6, 3)
    w = minimum_variance(covariance)
    start = np.full(6, 1 / 6)
    other = minimize(
        lambda x: 1e4 * x @ covariance @ x,
        start,
        bounds=[(0, 1)] * 6,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        options={"ftol": 1e-14},
    )
    assert w @ covariance @ w <= other.fun * 1e-4 * (1 + 1e-6)


def test_more_assets_than_bars_still_gives_a_portfolio() -> None:
    rng = np.random.default_rng(0)
    returns = rng.normal(0, 0.01, (30, 60))
    covariance = np.cov(returns, rowvar=False) + 1e-10 * np.diag(returns.var(axis=0))
    w = minimum_variance(covariance)
    assert w.sum() == pytest.approx(1.0)
    assert (w >= 0).all()


def test_nonnegative_quadratic_with_no_gain_anywhere_is_zero() -> None:
    assert (nonnegative_quadratic(np.eye(3), -np.ones(3)) == 0).all()


def test_mean_variance_has_the_highest_trailing_sharpe(panel: fc.Panel) -> None:
    strategy = fc.MeanVariance(window=200).fit(panel)
    weights = strategy.decide(panel.asof(panel.times[-1]))
    assert weights is not None
    r = panel.return_array()[-200:]
    sharpe = [(r @ w).mean() / (r @ w).std() for w in np.random.default_rng(0).dirichlet(np.ones(4), 4000)]
    best = (r @ weights.to_numpy()).mean() / (r @ weights.to_numpy()).std()
    assert best >= max(sharpe) - 1e-6
    falling = panel.replace({"close": np.cumprod(0.99 + 0.001 * np.random.default_rng(1).random(panel.shape), axis=0)})
    assert fc.MeanVariance().fit(falling).decide(falling.asof(falling.times[-1])).sum() == pytest.approx(1.0)


def test_inverse_volatility_and_hrp_are_what_they_say(panel: fc.Panel) -> None:
    weights = fc.InverseVolatility(window=50).fit(panel).decide(panel.asof(panel.times[-1]))
    inverse = 1 / panel.returns().iloc[-50:].std()
    assert weights.to_numpy() == pytest.approx((inverse / inverse.sum()).to_numpy())
    from skfolio.optimization import HierarchicalRiskParity as Peer

    hrp = fc.HierarchicalRiskParity(window=100).fit(panel).decide(panel.asof(panel.times[-1]))
    assert hrp.to_numpy() == pytest.approx(Peer().fit(panel.returns().iloc[-100:]).weights_)


def test_assets_take_part_by_date() -> None:
    base = make_panel(300, 3)
    close = base.array("close").copy()
    close[:200, 1] = np.nan  # comes late
    close[250:, 2] = np.nan  # leaves
    panel = fc.Panel({"close": close}, base.times, base.assets)
    strategy = fc.InverseVolatility(window=63, rebalance=1).fit(panel.rows(0, 100))
    weights = strategy.decide_many(panel, panel.times[100:])
    assert (weights["A1"].loc[: panel.times[250]] == 0).all()
    assert (weights["A1"].loc[panel.times[270] :] > 0).all()
    assert (weights["A2"].loc[panel.times[250] :] == 0).all()
    assert weights.sum(axis=1).to_numpy() == pytest.approx(1.0)
    returns, eligible = trailing(panel, 199, 63)
    assert eligible.tolist() == [True, False, True]
    assert np.isfinite(returns).all()


def test_nobody_eligible_leaves_the_holdings_alone() -> None:
    panel = make_panel(30, 2)
    strategy = fc.MinimumVariance(window=252).fit(panel.rows(0, 10))
    assert strategy.decide(panel.asof(panel.times[15])) is None
    assert strategy.decide_many(panel, panel.times[10:20]).isna().all(axis=None)


def test_bad_settings_are_refused(panel: fc.Panel) -> None:
    with pytest.raises(ConfigError):
        fc.EqualWeight(rebalance=0).fit(panel)
    with pytest.raises(ConfigError, match="shrinkage"):
        fc.MinimumVariance(window=60, shrinkage=2.0).fit(panel).decide(panel.asof(panel.times[-1]))


class Previous:
    """A policy that keeps what it is told it holds, and remembers having been told."""

    def allocate(self, scenarios: fc.ScenarioSet, previous: pd.Series | None = None) -> pd.Series:
        if previous is None:
            return pd.Series(1.0 / len(scenarios.assets), index=list(scenarios.assets))
        return previous


def test_scenario_strategy_tells_the_policy_what_is_held(panel: fc.Panel) -> None:
    strategy = fc.ScenarioStrategy(fc.BlockBootstrap(), Previous(), horizon=5, n_scenarios=20, rebalance=10, window=60)
    result = fc.walk_forward(strategy, panel, fc.WalkForward(100, 50), execution="same_close")
    assert result.turnover.iloc[0] > 0.9
    assert result.turnover.iloc[1:].max() < 1e-12  # asked to keep what is held, there is nothing to trade
    again = fc.walk_forward(strategy, panel, fc.WalkForward(100, 50), execution="same_close")
    assert (again.equity == result.equity).all()
