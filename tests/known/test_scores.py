"""Scores against closed forms, and fast forms against slow ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as st

from foliocast.core.errors import DataError
from foliocast.stats import scoring


def test_crps_of_a_gaussian() -> None:
    """Gneiting & Raftery (2007), eq. 5: s (z (2 Phi - 1) + 2 phi - 1 / sqrt(pi))."""
    draws = st.norm.ppf((np.arange(20_000) + 0.5) / 20_000) * 2 + 1
    for y in (-3.0, 0.0, 1.0, 4.0):
        z = (y - 1) / 2
        exact = 2 * (z * (2 * st.norm.cdf(z) - 1) + 2 * st.norm.pdf(z) - 1 / np.sqrt(np.pi))
        assert scoring.crps(draws, y) == pytest.approx(exact, abs=2e-4)


@pytest.mark.parametrize("fair", [True, False])
def test_crps_is_the_double_sum(fair: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_t(3, (40, 5)), rng.standard_t(3, 5)
    pairs = np.abs(x[:, None] - x[None]).sum(axis=(0, 1)) / (40 * 39 if fair else 40**2)
    np.testing.assert_allclose(scoring.crps(x, y, fair=fair), np.abs(x - y).mean(axis=0) - pairs / 2)


def test_weights_are_repetitions() -> None:
    rng = np.random.default_rng(0)
    x, y, times = rng.normal(size=(8, 3)), rng.normal(size=3), np.array([1, 2, 3, 1, 1, 2, 4, 2])
    repeated, p = np.repeat(x, times, axis=0), times / times.sum()
    np.testing.assert_allclose(scoring.crps(x, y, p), scoring.crps(repeated, y, fair=False))
    assert scoring.energy_score(x, y, p) == pytest.approx(scoring.energy_score(repeated, y, fair=False))
    assert scoring.variogram_score(x, y, probabilities=p) == pytest.approx(scoring.variogram_score(repeated, y))


def test_energy_is_crps_in_one_dimension_and_the_double_sum_in_more(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)), rng.normal(size=4)
    assert scoring.energy_score(x[:, :1], y[:1]) == pytest.approx(float(scoring.crps(x[:, 0], y[0])))
    pairs = np.linalg.norm(x[:, None] - x[None], axis=2).sum() / (60 * 59)
    exact = np.linalg.norm(x - y, axis=1).mean() - pairs / 2
    assert scoring.energy_score(x, y) == pytest.approx(exact)
    monkeypatch.setattr(scoring, "PAIRS_AT_ONCE", 100)
    assert scoring.energy_score(x, y) == pytest.approx(exact)


def test_energy_score_of_a_standard_normal_vector_at_its_mean() -> None:
    """E||X|| - E||X - X'|| / 2 = E chi_d (1 - 1 / sqrt 2)."""
    x = np.random.default_rng(0).standard_normal((4000, 6))
    assert scoring.energy_score(x, np.zeros(6)) == pytest.approx(st.chi.mean(6) * (1 - np.sqrt(0.5)), rel=0.01)


def test_fair_scores_do_not_reward_more_scenarios() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(20_000)
    few, many = rng.standard_normal((4, 20_000)), rng.standard_normal((40, 20_000))
    exact = 1 / np.sqrt(np.pi)  # E CRPS(N, N)
    assert scoring.crps(few, y).mean() == pytest.approx(exact, abs=0.01)
    assert scoring.crps(many, y).mean() == pytest.approx(exact, abs=0.01)
    assert scoring.crps(few, y, fair=False).mean() > exact + 0.05


def test_the_variogram_score_sees_correlation() -> None:
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(np.array([[1, 0.9], [0.9, 1]]))
    truth = rng.standard_normal((300, 2)) @ root.T
    right, wrong = rng.standard_normal((500, 2)) @ root.T, rng.standard_normal((500, 2))
    score = [np.mean([scoring.variogram_score(x, y) for y in truth]) for x in (right, wrong)]
    assert score[0] < 0.8 * score[1]


def test_fz0_is_smallest_at_the_true_pair() -> None:
    y = np.random.default_rng(0).standard_normal(200_000)
    v = st.norm.ppf(0.05)
    e = -st.norm.pdf(v) / 0.05
    best = scoring.fz0(v, e, y).mean()
    for dv, de in ((0.2, 0), (-0.2, 0), (0, 0.2), (0, -0.2), (0.2, 0.2)):
        assert scoring.fz0(v + dv, e + de, y).mean() > best
    assert np.isnan(scoring.fz0(v, 0.1, 0.0))
    var, shortfall = scoring.var_es(y)
    assert (var, shortfall) == (pytest.approx(v, abs=0.02), pytest.approx(e, abs=0.02))


def test_pinball_is_smallest_at_the_quantile_and_pit_is_uniform() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(50_000)
    losses = [scoring.pinball(q, y, 0.1).mean() for q in (-1.6, st.norm.ppf(0.1), -1.0)]
    assert np.argmin(losses) == 1
    u = scoring.pit(rng.standard_normal((200, 5000)), y[:5000])
    assert st.kstest(u, "uniform").pvalue > 0.01
    assert scoring.coverage(u, 0.9) == pytest.approx(0.9, abs=0.02)
    assert scoring.coverage(scoring.pit(0.5 * rng.standard_normal((200, 5000)), y[:5000]), 0.9) < 0.7


def test_the_log_score_is_minus_the_log_density() -> None:
    draws = st.norm.ppf((np.arange(20_000) + 0.5) / 20_000) * 0.02 + 0.001
    for y in (-0.03, 0.0, 0.02):
        assert scoring.log_score(draws, y) == pytest.approx(-st.norm.logpdf(y, 0.001, 0.02), abs=0.02)


def test_a_move_beyond_all_draws_has_a_finite_log_score_that_grows_with_its_distance() -> None:
    draws = np.random.default_rng(0).normal(size=500)
    near, far = scoring.log_score(draws, 6.0), scoring.log_score(draws, 12.0)
    assert 0 < near < far < 25
    with pytest.raises(DataError, match="differ"):
        scoring.log_score(np.ones(9), 1.0)
