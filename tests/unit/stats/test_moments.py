from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foliocast import stats
from foliocast.core.errors import ConfigError, HistoryError


@pytest.fixture
def table() -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.normal(size=(300, 4)) @ rng.normal(size=(4, 4)) * 0.01


def test_sample_covariance_ignores_incomplete_rows(table: np.ndarray) -> None:
    holed = np.vstack([table, [np.nan, 1, 1, 1]])
    assert stats.covariance(holed) == pytest.approx(np.cov(table.T))
    with pytest.raises(HistoryError, match="at least 2"):
        stats.covariance(table[:1])


def test_ewma_covariance_forgets(table: np.ndarray) -> None:
    loud = np.vstack([table * 10, table])
    assert stats.ewma_covariance(loud, halflife=5) == pytest.approx(stats.ewma_covariance(table, halflife=5), rel=1e-6)
    weights = 0.5 ** (np.arange(300)[::-1] / 20)
    by_hand = sum(w * np.outer(r, r) for w, r in zip(weights, table)) / weights.sum()
    assert stats.ewma_covariance(table, 20) == pytest.approx(by_hand)


def test_ledoit_wolf_lies_between_sample_and_identity(table: np.ndarray) -> None:
    sample, shrunk = np.cov(table[:12].T, ddof=0), stats.ledoit_wolf(table[:12])
    assert np.trace(shrunk) == pytest.approx(np.trace(sample))
    assert np.linalg.cond(shrunk) < np.linalg.cond(sample)


@pytest.mark.parametrize("target", ["mean", "identity"])
def test_shrinking_keeps_the_variances(table: np.ndarray, target: str) -> None:
    cov = stats.covariance(table)
    assert np.diag(stats.shrink_correlation(cov, 0.4, target)) == pytest.approx(np.diag(cov))
    assert stats.shrink_correlation(cov, 0.0, target) == pytest.approx(cov)
    full = stats.correlation(stats.shrink_correlation(cov, 1.0, target))[~np.eye(4, dtype=bool)]
    assert np.ptp(full) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ConfigError, match="intensity"):
        stats.shrink_correlation(cov, 1.5)


def test_nearest_psd() -> None:
    broken = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    assert np.linalg.eigvalsh(stats.nearest_psd(broken)).min() > -1e-12
    assert stats.nearest_psd(np.eye(3)) == pytest.approx(np.eye(3))


def test_ewma_volatility_is_causal(table: np.ndarray) -> None:
    frame = pd.DataFrame(table)
    changed = frame.copy()
    changed.iloc[200:] = 9.0
    pd.testing.assert_frame_equal(stats.ewma_volatility(frame)[:200], stats.ewma_volatility(changed)[:200])
    pd.testing.assert_frame_equal(stats.ewma_mean(frame)[:200], stats.ewma_mean(changed)[:200])
    with pytest.raises(ConfigError, match="halflife"):
        stats.ewma_volatility(frame, halflife=0)
