"""Adaptive conformal calibration covers what it promises, whatever the forecaster does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from foliocast.core.belief import Forecast
from foliocast.core.errors import ConfigError, DataError
from foliocast.models.conformal import AdaptiveConformal

GAMMA, N = 0.01, 3000


def drifting_pits(seed: int = 0) -> np.ndarray:
    """Forecasts that are far too narrow at first, then far too wide, for two assets; the third is calibrated."""
    rng = np.random.default_rng(seed)
    spread = np.where(np.arange(N) < N // 2, 2.0, 0.5)[:, None] * [1.0, 1.3]
    return np.hstack([norm.cdf(rng.standard_normal((N, 2)) * spread), rng.uniform(size=(N, 1))])


def test_long_run_coverage_keeps_its_bound() -> None:
    pits = drifting_pits()
    conformal = AdaptiveConformal(gamma=GAMMA).fit(pits)
    nominal = np.array(conformal.levels)[:, None]
    assert (np.abs(conformal.covered_ - nominal) <= (1 + GAMMA) / (GAMMA * N)).all()
    raw = np.array([[(np.abs(p - 0.5) <= level / 2).mean() for p in pits.T] for level in conformal.levels])
    assert np.abs(raw[:, :2] - nominal).max() > 0.05  # without it the promise is broken


def test_a_calibrated_forecast_is_left_nearly_alone() -> None:
    used = AdaptiveConformal(gamma=0.002).fit(drifting_pits()).used_[:, 2]
    np.testing.assert_allclose(used, [0.8, 0.9, 0.95], atol=0.04)


def test_the_adapted_level_is_the_normal_one() -> None:
    """Forecasts half as wide as the truth: covering 80 % takes the level whose normal quantile is twice as large."""
    pits = norm.cdf(2.0 * np.random.default_rng(1).standard_normal((6000, 1)))
    used = AdaptiveConformal(levels=(0.8,), gamma=0.002).fit(pits).used_[0, 0]
    assert used == pytest.approx(2 * norm.cdf(2 * norm.ppf(0.9)) - 1, abs=0.01)


def test_learning_in_pieces_is_learning_at_once() -> None:
    pits = drifting_pits()
    pits[::7, 1] = np.nan
    whole = AdaptiveConformal().fit(pits)
    pieces = AdaptiveConformal().partial_fit(pits[:1000]).partial_fit(pits[1000:])
    assert whole.used_.tobytes() == pieces.used_.tobytes()
    assert whole.covered_.tobytes() == pieces.covered_.tobytes()
    assert AdaptiveConformal().fit(pits).fit(pits).used_.tobytes() == whole.used_.tobytes()


def test_bands_are_read_off_at_the_adapted_level() -> None:
    samples = np.random.default_rng(0).normal(0, 0.01, (4000, 2, 3))
    forecast = Forecast(pd.Timestamp("2020"), ("A", "B", "C"), np.zeros((2, 3)), samples)
    conformal = AdaptiveConformal().fit(drifting_pits())
    low, high = conformal.interval(forecast, 0.9, cumulative=False)
    used = conformal.used_[1]
    np.testing.assert_array_equal(high[:, 0], np.quantile(samples[:, :, 0], (1 + min(used[0], 1)) / 2, axis=0))
    assert (low < high).all()
    with pytest.raises(ConfigError, match=r"level 0.5 was not calibrated"):
        conformal.interval(forecast, 0.5)
    with pytest.raises(DataError, match="calibrated on 2 assets"):
        AdaptiveConformal().fit(drifting_pits()[:, :2]).interval(forecast, 0.9)
    with pytest.raises(ConfigError, match="gamma"):
        AdaptiveConformal(gamma=0.0).fit(drifting_pits())
