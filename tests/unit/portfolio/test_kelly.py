"""Kelly against closed forms, caps that decide, and throttles that depend on the past only."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import norm

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, InfeasibleError
from foliocast.portfolio import terms as t
from foliocast.portfolio.kelly import (
    Kelly,
    PerAssetKelly,
    VolatilityTarget,
    cppi_exposure,
    drawdown_throttle,
    estimation_shrinkage,
    kelly_fraction,
    lookback_kelly,
)
from foliocast.portfolio.optimize import Optimized


@pytest.mark.parametrize(("p", "odds"), [(0.6, 1.0), (0.4, 2.0), (0.9, 0.3)])
def test_binary_bets_have_their_closed_form(p: float, odds: float) -> None:
    wanted = p - (1 - p) / odds  # Kelly (1956)
    returns = np.array([[odds], [-1.0]])
    bet = ScenarioSet.from_returns(returns, probabilities=np.array([p, 1 - p]))
    assert Kelly(constraints=()).allocate(bet).iloc[0] == pytest.approx(wanted, abs=1e-7)
    assert kelly_fraction(returns[:, 0], bet.probabilities) == pytest.approx(wanted, abs=1e-12)
    assert Kelly(0.5, constraints=()).allocate(bet).iloc[0] == pytest.approx(wanted / 2, abs=1e-7)


def test_two_independent_even_bets() -> None:
    # with p = .6 each, E log(1 + f (x + y)): p^2 2/(1+2f) = q^2 2/(1-2f), so f = (p^2 - q^2) / (2 (p^2 + q^2))
    returns = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=float)
    p = np.array([0.36, 0.24, 0.24, 0.16])
    weights = Kelly(constraints=()).allocate(ScenarioSet.from_returns(returns, probabilities=p))
    np.testing.assert_allclose(weights, (0.36 - 0.16) / (2 * (0.36 + 0.16)), atol=1e-7)


def test_gaussian_bets_approach_inverse_covariance_times_mean() -> None:
    # symmetric quadrature of a bivariate normal in small steps: f -> C^-1 mu as the step shrinks (Merton, 1969)
    grid = norm.ppf((np.arange(60) + 0.5) / 60)
    grid /= grid.std()
    z = np.array(np.meshgrid(grid, grid)).reshape(2, -1).T
    step = 1e-4
    chol = np.linalg.cholesky(np.array([[0.04, 0.012], [0.012, 0.09]]))
    mean = np.array([0.05, 0.08])
    scenarios = ScenarioSet.from_returns(mean * step + np.sqrt(step) * z @ chol.T)
    wanted = np.linalg.solve(chol @ chol.T, mean)
    np.testing.assert_allclose(Kelly(constraints=()).allocate(scenarios), wanted, rtol=2e-3)


def test_joint_kelly_sees_what_per_asset_kelly_does_not() -> None:
    rng = np.random.default_rng(0)
    common = 0.002 + rng.normal(0, 0.02, (4000, 1))
    twins = ScenarioSet.from_returns(common + rng.normal(0, 0.001, (4000, 3)))
    joint = Kelly(constraints=(t.LongOnly(), t.Leverage(50))).allocate(twins)
    alone = PerAssetKelly(cap=50, gross=1000, fraction=1).allocate(twins)
    assert alone.sum() == pytest.approx(3 * joint.sum(), rel=0.15)  # the same bet placed three times


def test_bets_pinned_at_their_cap_are_reported() -> None:
    good = ScenarioSet.from_returns(0.01 + np.random.default_rng(1).normal(0, 0.02, (500, 4)))
    policy = PerAssetKelly(cap=0.2)
    with pytest.warns(UserWarning, match="4 of 4 per-asset Kelly bets sit at their cap"):
        weights = policy.allocate(good)
    assert policy.pinned_ == good.assets
    np.testing.assert_allclose(weights, 0.1)
    bad = ScenarioSet.from_returns(-0.01 + np.random.default_rng(1).normal(0, 0.02, (500, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert policy.allocate(bad).eq(0).all()
    assert policy.pinned_ == ()


def test_uncertainty_shrinks_and_vanishes_with_data() -> None:
    rng = np.random.default_rng(2)
    scenarios = ScenarioSet.from_returns(0.001 + rng.normal(0, 0.01, (20_000, 3)))
    factors = [estimation_shrinkage(scenarios, n) for n in (4, 250, 2500, 10**8)]
    assert factors[0] == 0
    assert factors == sorted(factors)
    assert factors[-1] == pytest.approx(1, abs=1e-4)
    full, shrunk = Kelly(), Kelly(observations=2500)
    np.testing.assert_allclose(shrunk.allocate(scenarios), full.allocate(scenarios) * shrunk.shrinkage_)


def test_estimation_shrinkage_is_near_the_best_multiple() -> None:
    # draw samples of 120 bars, bet C^-1 m of the sample, score by the true Gaussian utility: the best multiple
    rng = np.random.default_rng(3)
    n, periods, sharpe2 = 4, 120, 0.08
    mu = np.full(n, np.sqrt(sharpe2 / n))
    utilities = np.zeros(101)
    grid = np.linspace(0, 1, 101)
    for _ in range(300):
        x = mu + rng.normal(size=(periods, n))
        bet = np.linalg.solve(np.cov(x, rowvar=False, bias=True), x.mean(0))
        utilities += grid * (bet @ mu) - 0.5 * grid**2 * (bet @ bet)
    best = grid[utilities.argmax()]
    exact = (periods - n - 2) * sharpe2 / periods
    formula = exact / (exact + n / periods)
    assert best == pytest.approx(formula, abs=0.1)
    grid_z = rng.normal(size=(200_000, n))
    grid_z = (grid_z - grid_z.mean(0)) / grid_z.std(0)
    # fed a squared Sharpe that already carries the bias N / T, the estimator takes it out again
    biased = np.sqrt((sharpe2 + n / periods) / sharpe2) * mu
    found = estimation_shrinkage(ScenarioSet.from_returns(0.01 * (biased + grid_z)), periods)
    assert found == pytest.approx(formula, abs=0.08)


def test_free_money_is_refused() -> None:
    with pytest.raises(ConfigError, match="no maximum"):
        kelly_fraction(np.array([0.1, 0.2]))
    with pytest.raises(InfeasibleError, match="without bound"):
        Kelly(constraints=()).allocate(ScenarioSet.from_returns(np.array([[0.1], [0.2]])))
    with pytest.raises(ConfigError, match="fraction"):
        Kelly(fraction=2.0).allocate(ScenarioSet.from_returns(np.array([[0.1], [-0.2]])))


def test_lookback_uses_the_window_and_nothing_before() -> None:
    import pandas as pd

    rng = np.random.default_rng(5)
    r = pd.DataFrame(0.001 + rng.normal(0, 0.02, (300, 3)), columns=list("abc"))
    r.iloc[-100, 2] = np.nan
    weights = lookback_kelly(r, 120, cap=100.0)
    changed = r.copy()
    changed.iloc[:180] += 0.05
    changed.iloc[200, 2] = np.nan
    np.testing.assert_array_equal(lookback_kelly(changed, 120, cap=100.0), weights)
    assert weights["c"] == 0
    assert lookback_kelly(r.iloc[:50], 120).eq(0).all()


def test_volatility_target_is_hit_or_capped() -> None:
    s = ScenarioSet.from_returns(np.random.default_rng(6).normal(0, 0.01, (2000, 5, 3)))
    weights = VolatilityTarget(Optimized(risk="variance"), target=0.05).allocate(s)
    assert t.Volatility().value(weights, s) * np.sqrt(252 / 5) == pytest.approx(0.05)
    capped = VolatilityTarget(Optimized(risk="variance"), target=0.9, max_leverage=1.5).allocate(s)
    assert capped.abs().sum() == pytest.approx(1.5)


def test_cppi_keeps_its_floor_when_falls_are_small() -> None:
    rng = np.random.default_rng(7)
    market = np.clip(rng.normal(-0.001, 0.03, 3000), -0.2, 0.2)  # worst fall below 1 / multiplier
    wealth = [1.0]
    for r in market:
        wealth.append(wealth[-1] * (1 + cppi_exposure(np.array(wealth), floor=0.8, multiplier=4)[-1] * r))
    path = np.array(wealth)
    assert (path / np.maximum.accumulate(path)).min() >= 0.8
    assert (np.cumprod(1 + market) / np.maximum.accumulate(np.cumprod(1 + market))).min() < 0.3


def test_throttles_do_not_look_ahead() -> None:
    wealth = np.cumprod(1 + np.random.default_rng(8).normal(0, 0.02, 200))
    other = np.r_[wealth[:150], wealth[150:] * 0.5]
    for rule in (cppi_exposure, drawdown_throttle):
        np.testing.assert_array_equal(rule(wealth)[:150], rule(other)[:150])
        assert rule(wealth).min() >= 0
        assert rule(wealth).max() <= 1
    np.testing.assert_allclose(drawdown_throttle(np.array([1, 0.95, 0.875, 0.8, 0.7])), [1, 1, 0.5, 0, 0], atol=1e-12)
