from __future__ import annotations

import numpy as np
import pytest

from foliocast.core.errors import ConfigError, DataError
from foliocast.stats.garch import fit_garch, garch_log_likelihood, garch_variance
from foliocast.stats.variances import bar_variance, ewma_before, range_variance
from foliocast.stats.volatility import KINDS, VolatilityFilter


def garch_sample(n: int, seed: int, alpha: float, gamma: float, beta: float, assets: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    omega = 1e-4 * (1 - alpha - gamma / 2 - beta)
    variance, out = np.full(assets, 1e-4), np.empty((n, assets))
    for t in range(n):
        out[t] = np.sqrt(variance) * rng.standard_normal(assets)
        variance = omega + (alpha + gamma * (out[t] < 0)) * out[t] ** 2 + beta * variance
    return out


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    return garch_sample(1500, 0, 0.05, 0.08, 0.88, assets=3)


def slow_gjr(x: np.ndarray, omega: float, alpha: float, gamma: float, beta: float, start: float) -> list[float]:
    out = [start]
    for value in x:
        out.append(omega + (alpha + gamma * (value < 0)) * value**2 + beta * out[-1])
    return out


def test_the_fast_recursion_is_the_slow_one(returns: np.ndarray) -> None:
    p = fit_garch(returns)
    start = returns.var(axis=0)
    fast = garch_variance(returns, p, start)
    for i in range(3):
        slow = slow_gjr(returns[:, i], p.omega[i], p.alpha[i], p.gamma[i], p.beta[i], start[i])
        np.testing.assert_allclose(fast[:, i], slow, rtol=1e-10)


@pytest.mark.parametrize("leverage", [True, False])
def test_quasi_likelihood_is_as_high_as_that_of_arch(returns: np.ndarray, leverage: bool) -> None:
    from arch import arch_model

    p = fit_garch(returns, leverage)
    start = np.mean(returns**2, axis=0)
    ours = garch_log_likelihood(returns, garch_variance(returns, p, start)[:-1])
    for i in range(2):
        peer = arch_model(returns[:, i] * 100, mean="Zero", vol="GARCH", p=1, o=int(leverage), q=1)
        theirs = peer.fit(disp="off", backcast=float(start[i]) * 1e4).loglikelihood + len(returns) * np.log(100)
        assert ours[i] > theirs - 3.0  # variance targeting costs a little, and no more
        assert ours[i] < theirs + 0.5


def test_parameters_are_recovered() -> None:
    p = fit_garch(garch_sample(20_000, 1, 0.04, 0.1, 0.88))
    np.testing.assert_allclose(p.beta, 0.88, atol=0.03)
    np.testing.assert_allclose(p.gamma, 0.1, atol=0.03)
    assert (p.persistence < 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_scale_is_causal_and_the_step_continues_it(kind: str, returns: np.ndarray) -> None:
    f = VolatilityFilter(kind).fit(returns)
    scale, state = f.filter(returns[:800])
    changed = returns[:800].copy()
    changed[500:] *= 9
    assert np.array_equal(f.scale(changed)[: 500 + 1], scale[: 500 + 1], equal_nan=True)
    assert not np.allclose(f.scale(changed)[501], scale[501])
    longer, after = f.filter(returns[:801])
    np.testing.assert_allclose(f.sigma(state), longer[800], rtol=1e-12)
    np.testing.assert_allclose(f.sigma(f.step(state, returns[800])), f.sigma(after), rtol=1e-9)
    np.testing.assert_allclose(f.next_scale(returns[:800]), longer[800], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_scenarios_step_as_one_path_does(kind: str, returns: np.ndarray) -> None:
    f = VolatilityFilter(kind).fit(returns)
    state = f.state(returns)
    many = f.spread(state, 4, np.float32)
    paths = np.random.default_rng(0).normal(0, 0.01, (4, 3, 3))
    one = state
    for h in range(3):
        many = f.step(many, paths[:, h].astype(np.float32))
        one = f.step(one, paths[2, h])
    assert f.sigma(many).dtype == np.float32
    np.testing.assert_allclose(f.sigma(many)[2], f.sigma(one), rtol=2e-4)


def test_a_pooled_filter_is_scale_free_and_serves_unseen_assets(returns: np.ndarray) -> None:
    f = VolatilityFilter("har").fit(returns)
    other = garch_sample(600, 9, 0.05, 0.08, 0.88, assets=5) * 4
    z = other[100:] / f.scale(other)[100:]
    assert 0.8 < z.std() < 1.2
    np.testing.assert_allclose(f.scale(other * 3)[30:], 3 * f.scale(other)[30:], rtol=1e-6)


def test_shocks_leave_the_pooled_variance_finite_and_it_comes_back(returns: np.ndarray) -> None:
    f = VolatilityFilter("har").fit(returns)
    calm = f.sigma(f.state(returns))
    state = f.step(f.state(returns), np.full(3, -0.5))
    assert (f.sigma(state) > 2 * calm).all()
    for _ in range(1500):
        state = f.step(state, f.sigma(state))
    assert (f.sigma(state) < 20 * calm).all()
    assert np.isfinite(f.sigma(state)).all()


def test_range_estimators_on_brownian_motion() -> None:
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 0.02 / np.sqrt(1000), (2000, 1000)).cumsum(axis=1)
    path = np.exp(np.concatenate([np.zeros((2000, 1)), steps], axis=1))
    bar = (path[:, 0], path.max(axis=1), path.min(axis=1), path[:, -1])
    for kind in ("parkinson", "garman_klass", "rogers_satchell"):
        estimate = range_variance(*bar, kind=kind)
        assert np.mean(estimate) == pytest.approx(4e-4, rel=0.08)  # discrete bars miss a little of the range
        assert estimate.std() < 0.75 * (np.log(path[:, -1]) ** 2).std()
    with pytest.raises(ConfigError, match="choose parkinson"):
        range_variance(*bar, kind="yang")


def test_ranges_inform_the_pooled_filter_and_gaps_fall_back() -> None:
    prices = {key: np.array([[100.0], [101.0]]) for key in ("open", "high", "low", "close", "previous")}
    prices["high"] = np.array([[102.0], [np.nan]])
    prices["previous"] = np.array([[99.0], [100.0]])
    out = bar_variance(prices)
    assert out is not None
    expected = np.log(100 / 99) ** 2 + np.log(1.02) ** 2 / (4 * np.log(2))
    np.testing.assert_allclose(out, [[expected], [np.log(1.01) ** 2]])
    assert bar_variance(None) is None
    rng = np.random.default_rng(0)
    sigma = 0.01 * np.exp(np.sin(np.arange(1500) / 40))[:, None] * np.ones(2)
    x, ranges = sigma * rng.standard_normal((1500, 2)), sigma**2 * rng.chisquare(10, (1500, 2)) / 10
    plain = VolatilityFilter("har").fit(x).scale(x)[100:]
    informed = VolatilityFilter("har").fit(x, ranges).scale(x, ranges)[100:]
    assert np.abs(np.log(informed / sigma[100:])).mean() < 0.9 * np.abs(np.log(plain / sigma[100:])).mean()


def test_ewma_of_what_came_before() -> None:
    x = np.random.default_rng(0).normal(size=(30, 2))
    fast = ewma_before(x, 5.0)
    keep = 0.5 ** (1 / 5)
    weights = keep ** np.arange(16, -1, -1)
    np.testing.assert_allclose(fast[17], weights @ x[:17] / weights.sum())
    assert np.isnan(fast[0]).all()


def test_errors() -> None:
    with pytest.raises(ConfigError, match="choose one of ewma"):
        VolatilityFilter("arch")
    with pytest.raises(DataError, match="finite"):
        VolatilityFilter("ewma").fit(np.array([[np.nan]]))
    with pytest.raises(DataError, match="fitted on 2 assets"):
        VolatilityFilter("gjr").fit(garch_sample(300, 0, 0.05, 0.0, 0.9)).scale(np.zeros((9, 3)))
