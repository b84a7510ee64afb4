from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import optimal_block_length

from foliocast import stats
from foliocast.core.errors import ConfigError, HistoryError
from foliocast.stats import bootstrap


def _records(n: int = 400, k: int = 3, seed: int = 0) -> pd.DataFrame:
    r = np.random.default_rng(seed).standard_t(5, (n, k)) * 0.01 + 0.0005
    r[::7, 0] = 0.0
    return pd.DataFrame(r, pd.bdate_range("2020-01-01", periods=n), [f"s{i}" for i in range(k)])


def test_every_resampled_measure_equals_the_slow_loop() -> None:
    records = _records()
    r, held = records.to_numpy(), records.to_numpy() != 0.0
    flow = np.abs(r) * 0.3
    index = stats.stationary_bootstrap(len(r), 25, 8.0, 1)
    fast = bootstrap._resample(r, held, {"turnover": flow}, 252, index)
    for b in range(25):
        rows = index[:, b]
        for k in range(3):
            slow = bootstrap._points(r[rows, k], held[rows, k], {"turnover": flow[rows, k]}, 252)
            for name, value in slow.items():
                assert fast[name][b, k] == pytest.approx(value, rel=1e-9), name


def test_a_bankrupt_record_is_resampled_without_noise() -> None:
    r = _records().iloc[:, :2].copy()
    r.iloc[50, 0] = -1.0
    out = stats.headlines(r, n_resamples=50)
    assert out["s0"]["annual_return"].value == -1.0
    assert out["s0"]["max_drawdown"].low == pytest.approx(-1.0)
    assert out["s1"]["annual_return"].low > -1.0


def test_values_are_the_measures_and_lie_inside() -> None:
    records = _records()
    out = stats.headlines(records, n_resamples=200, flows={"cost": records.abs()}, rng=3)
    for name, series in records.items():
        assert out[name]["sharpe"].value == stats.sharpe_ratio(series)
        assert out[name]["max_drawdown"].value == stats.max_drawdown(series)
        assert out[name]["cost"].value == pytest.approx(series.abs().mean() * 252)
        for value, low, high in out[name].values():
            assert low <= value <= high


def test_same_seed_same_bits_and_one_record_alone() -> None:
    records = _records(k=1)
    first, again, other = (stats.headline(records["s0"], n_resamples=100, rng=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["sharpe"] != other["sharpe"]
    assert first == stats.headlines(records, n_resamples=100, rng=1)["s0"]


def test_interval_of_the_mean_is_as_wide_as_theory() -> None:
    """Independent returns: the interval of the Sharpe ratio is close to plus and minus 1.96 standard errors."""
    r = np.random.default_rng(8).normal(0.0005, 0.01, 2000)
    got = stats.headline(r, n_resamples=2000, rng=0)["sharpe"]
    expected = 2 * 1.96 * stats.sharpe_error(r) * np.sqrt(252)
    assert got.high - got.low == pytest.approx(expected, rel=0.12)


def test_coverage_of_the_true_sharpe_with_dependent_returns() -> None:
    rng, inside = np.random.default_rng(4), 0
    for _ in range(120):
        noise = rng.normal(0, 0.01, 700)
        for t in range(1, 700):
            noise[t] += 0.3 * noise[t - 1]
        truth = 0.001 / (0.01 / np.sqrt(1 - 0.09)) * np.sqrt(252)
        got = stats.headline(0.001 + noise, n_resamples=200, rng=rng)["sharpe"]
        inside += got.low <= truth <= got.high
    assert 0.87 <= inside / 120 <= 1.0


def test_positions_follow_each_other_in_blocks() -> None:
    index = stats.stationary_bootstrap(500, 400, 10.0, 0)
    assert index.min() == 0
    assert index.max() == 499
    follows = (index[1:] == (index[:-1] + 1) % 500).mean()
    assert follows == pytest.approx(0.9, abs=0.01)
    assert np.bincount(index.ravel(), minlength=500).std() / 400 < 0.2  # every bar about equally often


def test_block_length_of_an_autoregression() -> None:
    """Closed form for AR(1): (n (2 rho / (1 - rho^2))^2)^(1/3); `arch` (one lag more) is near, too."""
    rng = np.random.default_rng(0)
    lengths, theirs = [], []
    for _ in range(20):
        x = rng.normal(size=3000)
        for t in range(1, 3000):
            x[t] += 0.5 * x[t - 1]
        lengths.append(stats.optimal_block(x))
        theirs.append(float(optimal_block_length(x)["stationary"].iloc[0]))
    assert np.median(lengths) == pytest.approx((3000 * (1.0 / 0.75) ** 2) ** (1 / 3), rel=0.2)
    assert np.median(lengths) == pytest.approx(np.median(theirs), rel=0.2)
    assert stats.optimal_block(np.ones(100)) == 1.0


def test_bad_requests() -> None:
    with pytest.raises(HistoryError, match="1 values missing"):
        stats.headlines(_records().where(_records() != _records().iloc[3, 1]))
    with pytest.raises(ConfigError, match="block"):
        stats.stationary_bootstrap(10, 5, 0.5, 0)
