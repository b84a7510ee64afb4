"""Entropy pooling and Black-Litterman against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, DataError, InfeasibleError
from foliocast.scenarios.views import (
    MeanView,
    ProbabilityView,
    VolatilityView,
    black_litterman,
    effective_scenarios,
    entropy_pooling,
)

RNG = np.random.default_rng(0)
COV = np.array([[0.04, 0.018], [0.018, 0.09]]) * 0.01
Z = RNG.multivariate_normal([0.0, 0.0], np.eye(2), 50_000)
Z = (Z - Z.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(Z, rowvar=False, bias=True))).T
S = ScenarioSet.from_returns(0.001 + Z @ np.linalg.cholesky(COV).T, ["a", "b"])


def moments(s: ScenarioSet) -> tuple[np.ndarray, np.ndarray]:
    x, p = s.cumulative(), s.probabilities
    mean = p @ x
    return mean, ((x - mean) * p[:, None]).T @ (x - mean)


def test_a_mean_view_on_a_normal_law_is_the_regression() -> None:
    mean, covariance = moments(entropy_pooling(S, [MeanView({"a": 1}, 0.01)]))
    assert mean[0] == pytest.approx(0.01, abs=1e-9)
    # exponential tilting of a normal law: b moves by its beta on a, the covariance stays
    assert mean[1] == pytest.approx(0.001 + COV[0, 1] / COV[0, 0] * 0.009, abs=4e-4)
    np.testing.assert_allclose(covariance, COV, rtol=0.06)


def test_tail_and_volatility_views_hold() -> None:
    views = [ProbabilityView({"a": 1, "b": -1}, -0.05, 0.1), VolatilityView({"b": 1}, 0.04), MeanView({"b": 1}, 0.0)]
    q = entropy_pooling(S, views)
    x, p = q.cumulative(), q.probabilities
    assert p[x[:, 0] - x[:, 1] < -0.05].sum() == pytest.approx(0.1, abs=1e-8)
    assert p @ x[:, 1] == pytest.approx(0, abs=1e-8)
    assert np.sqrt(p @ x[:, 1] ** 2) == pytest.approx(0.04, abs=1e-8)
    assert effective_scenarios(q) < effective_scenarios(S) == pytest.approx(50_000)


def test_a_probability_view_scales_both_sides() -> None:
    q = entropy_pooling(S, [ProbabilityView({"a": 1}, -0.03, 0.2)])
    below = S.cumulative()[:, 0] < -0.03
    np.testing.assert_allclose(q.probabilities[below], 0.2 / below.sum())
    np.testing.assert_allclose(q.probabilities[~below], 0.8 / (~below).sum())


def test_inequalities_bind_only_when_they_must() -> None:
    idle = entropy_pooling(S, [MeanView({"a": 1}, 0.0, ">="), MeanView({"b": 1}, 0.5, "<=")])
    np.testing.assert_allclose(idle.probabilities, S.probabilities, rtol=1e-9)
    both = entropy_pooling(S, [MeanView({"a": 1}, 0.005, ">="), MeanView({"b": 1}, 0.002, "<=")])
    mean, _ = moments(both)
    assert mean[0] >= 0.005 - 1e-9
    assert mean[1] <= 0.002 + 1e-9


def test_confidence_mixes() -> None:
    view = [MeanView({"a": 1}, 0.011)]
    mean, _ = moments(entropy_pooling(S, view, confidence=0.5))
    assert mean[0] == pytest.approx(0.006, abs=1e-9)
    assert entropy_pooling(S, []) is S


def test_impossible_and_unknown_views_are_named() -> None:
    with pytest.raises(InfeasibleError, match="do not reach that far"):
        entropy_pooling(S, [MeanView({"a": 1}, 5.0)])
    with pytest.raises(DataError, match="zzz"):
        entropy_pooling(S, [MeanView({"zzz": 1}, 0.0)])
    with pytest.raises(ConfigError, match="sense"):
        entropy_pooling(S, [MeanView({"a": 1}, 0.0, "~")])


def test_black_litterman_is_its_formula_and_keeps_the_shape() -> None:
    tau, c = 0.05, 0.3
    view = MeanView({"a": 1, "b": -1}, 0.02)
    found = black_litterman(S, [view], {"a": 0.004, "b": 0.006}, tau, c)
    prior, pick = np.array([0.004, 0.006]), np.array([[1.0, -1.0]])
    omega = tau * pick @ COV @ pick.T * (1 - c) / c
    left = np.linalg.inv(tau * COV) + pick.T @ np.linalg.inv(omega) @ pick
    right = np.linalg.inv(tau * COV) @ prior + pick.T @ np.linalg.inv(omega) @ [0.02]
    mean, covariance = moments(found)
    np.testing.assert_allclose(mean, np.linalg.solve(left, right), atol=1e-10)
    np.testing.assert_allclose(covariance, COV, atol=1e-12)
    certain, _ = moments(black_litterman(S, [MeanView({"a": 1}, 0.02)], confidence=1.0))
    assert certain[0] == pytest.approx(0.02)


def test_black_litterman_moves_paths_by_their_end() -> None:
    s = ScenarioSet.from_returns(RNG.normal(0, 0.01, (500, 4, 2)), ["a", "b"])
    found = black_litterman(s, [MeanView({"a": 1}, 0.05)], confidence=1.0)
    np.testing.assert_array_equal(found.returns[:, :-1], s.returns[:, :-1])
    assert (found.probabilities @ found.cumulative())[0] == pytest.approx(0.05)
