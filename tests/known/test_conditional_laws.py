"""Conditioning against closed forms: Matheron's rule, the Gaussian and the Student-t copula."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as st

import foliocast as fc
from foliocast.core.conditions import Condition
from foliocast.scenarios.copula import fit_margins
from foliocast.scenarios.shocks import CopulaShocks, EmpiricalShocks, Margins
from foliocast.stats.conditioning import meet, nearest_totals

SIGMA = np.array([[1.0, 0.6, 0.3], [0.6, 1.0, 0.5], [0.3, 0.5, 1.0]])


def straight() -> Margins:
    grid = np.linspace(-8, 8, 401)
    return Margins(grid, np.repeat(grid[:, None], 3, axis=1))


def test_matheron_draws_from_the_conditional_gaussian() -> None:
    """Two steps of a Gaussian: one point and one total are given; mean and covariance in closed form."""
    rng = np.random.default_rng(0)
    scale = 0.02
    x = rng.multivariate_normal(np.zeros(3), SIGMA * scale**2, size=(200_000, 2))
    condition = Condition.parse({"A": [np.nan, 0.03], "B": -0.05}, ["A", "B", "C"], 2)
    y = meet(x, condition, np.stack([SIGMA * scale**2] * 2))
    np.testing.assert_allclose(y[:, 1, 0], np.log1p(0.03), atol=1e-15)
    np.testing.assert_allclose(y[:, :, 1].sum(axis=1), np.log1p(-0.05), atol=1e-12)
    whole = np.kron(np.eye(2), SIGMA * scale**2)  # (step, asset) flattened
    a = np.zeros((2, 6))
    a[0, 3], a[1, [1, 4]] = 1, 1
    gain = whole @ a.T @ np.linalg.inv(a @ whole @ a.T)
    mean, cov = gain @ np.log1p([0.03, -0.05]), whole - gain @ a @ whole
    flat = y.reshape(len(y), 6)
    np.testing.assert_allclose(flat.mean(axis=0), mean, atol=4 * scale / np.sqrt(len(y)))
    np.testing.assert_allclose(np.cov(flat.T), cov, atol=0.01 * scale**2)


def test_plain_replacement_would_fail_the_slope() -> None:
    """The slope of the others on the given value is one times the regression's, from crash to rally."""
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal(np.zeros(3), SIGMA * 4e-4, size=(20_000, 5))
    answers = []
    for value in (-0.2, 0.2):
        y = meet(x, Condition.parse({"A": value}, ["A", "B", "C"], 5))
        answers.append(y.sum(axis=1).mean(axis=0))
    slope = (answers[1] - answers[0]) / (np.log1p(0.2) - np.log1p(-0.2))
    np.testing.assert_allclose(slope, [1, 0.6, 0.3], atol=0.02)


def test_nearest_totals_are_the_nearest() -> None:
    x = np.random.default_rng(0).normal(0, 0.02, (500, 4, 3))
    picked = nearest_totals(x, Condition.parse({"B": -0.05}, ["A", "B", "C"], 4), 50)
    gap = np.abs(x[:, :, 1].sum(axis=1) - np.log1p(-0.05))
    assert set(picked) == set(np.argsort(gap)[:50])


def test_gaussian_copula_conditions_in_closed_form() -> None:
    law = CopulaShocks(SIGMA, straight())
    draws = law.draw_given(np.array([0]), np.full((200_000, 1), 2.0), np.random.default_rng(0))
    assert (draws[:, 0] == 2.0).all()
    np.testing.assert_allclose(draws.mean(axis=0)[1:], [1.2, 0.6], atol=0.01)
    np.testing.assert_allclose(np.cov(draws[:, 1:].T), SIGMA[1:, 1:] - np.outer([0.6, 0.3], [0.6, 0.3]), atol=0.01)


def test_student_copula_conditions_in_closed_form() -> None:
    """Location as the Gaussian's; scale (nu + delta) / (nu + k) of it, nu + k degrees of freedom."""
    nu, law = 6.0, CopulaShocks(SIGMA, straight(), 6.0)
    given = np.array([3.0, -1.0])
    draws = law.draw_given(np.array([0, 1]), np.tile(given, (200_000, 1)), np.random.default_rng(0))[:, 2]
    block = SIGMA[:2, :2]
    gain = np.linalg.solve(block, SIGMA[:2, 2])
    radius = given @ np.linalg.solve(block, given)
    scale = np.sqrt((nu + radius) / (nu + 2) * (1 - gain @ SIGMA[:2, 2]))
    truth = st.t(nu + 2, loc=gain @ given, scale=scale)
    assert st.kstest(draws[:5000], truth.cdf).pvalue > 0.01
    assert draws.mean() == pytest.approx(gain @ given, abs=0.02)


def test_conditioning_on_the_empirical_law_agrees_with_the_gaussian_it_came_from() -> None:
    rng = np.random.default_rng(0)
    law = EmpiricalShocks(rng.multivariate_normal(np.zeros(3), SIGMA, size=20_000), nu=1e6)
    draws = law.draw_given(np.array([0]), np.full((20_000, 1), 4.5), rng)  # beyond anything in the bank
    np.testing.assert_allclose(draws.mean(axis=0), [4.5, 2.7, 1.35], atol=0.1)
    assert draws[:, 1].std() == pytest.approx(0.8, abs=0.08)


def test_margins_are_monotone_and_invert() -> None:
    z = np.random.default_rng(0).standard_t(4, (2000, 2))
    margins = fit_margins(z, None)
    assert (np.diff(margins.shocks, axis=0) > 0).all()
    shocks = np.random.default_rng(1).normal(size=(50, 2))
    back = margins.to_shocks(margins.to_scores(shocks, np.array([0, 1])))
    np.testing.assert_allclose(back, shocks, atol=1e-8)
    scores = np.random.default_rng(2).standard_normal((100_000, 2))
    assert np.quantile(margins.to_shocks(scores)[:, 0], 0.05) == pytest.approx(np.quantile(z[:, 0], 0.05), rel=0.05)
    assert (np.abs(margins.to_shocks(np.array([[5.5, -5.5]]))) > np.abs(z).max() * 0.7).all()  # tails go on


def test_the_conditional_answer_has_the_size_of_the_historical_one() -> None:
    """On Gaussian returns with a known beta, every model's answer to a shock is beta times the shock."""
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal(np.zeros(3), SIGMA * 1e-4, size=1500)
    returns = pd.DataFrame(np.expm1(x), columns=list("ABC"), index=pd.bdate_range("2010-01-01", periods=1500))
    for model in (fc.BlockBootstrap(1.0), fc.FilteredHistoricalSimulation("garch"), fc.GaussianCopula("garch")):
        scenarios = model.fit(returns).simulate(horizon=5, n_scenarios=3000, given={"A": -0.05}, random_state=0)
        log = np.log1p(scenarios.cumulative())
        np.testing.assert_allclose(log.mean(axis=0)[1:] / np.log1p(-0.05), [0.6, 0.3], atol=0.12)
        assert log[:, 1].std() == pytest.approx(0.8 * 0.01 * np.sqrt(5), rel=0.12)
