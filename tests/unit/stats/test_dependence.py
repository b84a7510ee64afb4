from __future__ import annotations

import numpy as np
import pytest

from foliocast.core.errors import ConfigError
from foliocast.stats.correlation import CorrelationFilter, as_correlation, long_run_correlation, matrix_power
from foliocast.stats.drift import earned, expected_drift
from foliocast.stats.tails import copula_degrees, radius_degrees, rank_correlation, t_degrees, uniform_ranks

SIGMA = np.array([[1.0, 0.6, 0.3], [0.6, 1.0, 0.5], [0.3, 0.5, 1.0]])


def student(n: int, nu: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    normal = rng.multivariate_normal(np.zeros(3), SIGMA, size=n)
    return normal * np.sqrt(nu / rng.chisquare(nu, (n, 1)))


def test_powers_colour_and_whiten() -> None:
    np.testing.assert_allclose(matrix_power(SIGMA, 0.5) @ matrix_power(SIGMA, 0.5), SIGMA, atol=1e-12)
    stack = matrix_power(np.stack([SIGMA, np.eye(3)]), -0.5)
    np.testing.assert_allclose(stack[0] @ SIGMA @ stack[0], np.eye(3), atol=1e-12)


def test_long_run_correlation_is_shrunk_only_when_rows_are_few() -> None:
    z = student(20_000, 30)
    np.testing.assert_allclose(long_run_correlation(z), SIGMA, atol=0.04)
    few = long_run_correlation(np.random.default_rng(0).standard_normal((20, 60)))
    assert np.linalg.eigvalsh(few).min() > 0


def test_the_filter_follows_a_change_and_whitens() -> None:
    rng = np.random.default_rng(0)
    calm = rng.standard_normal((1500, 3))
    tight = rng.multivariate_normal(np.zeros(3), 0.2 * np.eye(3) + 0.8, size=500)
    z = np.concatenate([calm, tight])
    f = CorrelationFilter().fit(z)
    now = f.current(z)
    assert now[0, 1] > 0.5
    assert f.current(calm)[0, 1] < 0.3
    np.testing.assert_allclose(np.diag(now), 1)
    white = f.whiten(z)
    assert abs(np.corrcoef(white[1800:].T)[0, 1]) < 0.25
    changed = z.copy()
    changed[1000:] *= -3
    np.testing.assert_array_equal(f.whiten(changed)[:1000], white[:1000])


def test_correlation_has_unit_diagonal() -> None:
    np.testing.assert_allclose(as_correlation(4 * SIGMA), SIGMA)


@pytest.mark.parametrize("nu", [4.0, 8.0])
def test_degrees_of_freedom_are_recovered(nu: float) -> None:
    x = student(6000, nu)
    assert radius_degrees(x) == pytest.approx(nu, rel=0.3)
    assert t_degrees(x[:, 0]) == pytest.approx(nu, rel=0.5)
    u = uniform_ranks(x)
    correlation = rank_correlation(u)
    np.testing.assert_allclose(correlation, SIGMA, atol=0.06)
    assert copula_degrees(u, correlation) == pytest.approx(nu, rel=0.4)


def test_rank_correlation_of_copies_is_still_positive_definite() -> None:
    x = np.repeat(np.random.default_rng(0).standard_normal((300, 1)), 3, axis=1)
    assert np.linalg.eigvalsh(rank_correlation(uniform_ranks(x))).min() > 0


def test_drift_shrinks_noise_and_keeps_what_is_plain() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.01, (1000, 10))
    assert np.abs(expected_drift(noise)).max() < 0.5 * np.abs(noise.mean(axis=0)).max()
    plain = noise + np.linspace(-0.01, 0.01, 10)
    np.testing.assert_allclose(expected_drift(plain), plain.mean(axis=0), atol=5e-4)
    assert (expected_drift(noise, "zero") == 0).all()
    assert np.ptp(expected_drift(plain, "common")) == 0.0
    np.testing.assert_array_equal(expected_drift(noise, "sample"), noise.mean(axis=0))
    with pytest.raises(ConfigError, match="choose one of shrunk"):
        expected_drift(noise, "momentum")


def test_modules_do_not_hide_the_functions_of_their_name() -> None:
    import foliocast as fc
    import foliocast.stats.correlation
    import foliocast.stats.volatility

    assert fc.stats.volatility(np.array([0.01, -0.01, 0.02])) > 0
    np.testing.assert_allclose(fc.stats.correlation(4 * SIGMA), SIGMA)


def test_an_estimate_keeps_what_its_t_statistic_supports() -> None:
    assert earned(0.3, 0.09) == pytest.approx(0.15)  # t = 1: half of it
    assert earned(-3.0, 0.09) == pytest.approx(-3.0 * 100 / 101)
    assert earned(2.0, 0.0) == 2.0
    assert earned(0.0, 0.0) == 0.0
