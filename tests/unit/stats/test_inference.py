from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as st

from foliocast import stats
from foliocast.core.errors import ConfigError, DataError, HistoryError


def test_standard_errors_agree_with_simulation() -> None:
    """10,000 track records of 500 skewed independent returns: the spread of their ratios is Mertens' formula."""
    rng = np.random.default_rng(0)
    r = 0.02 - (rng.gamma(2.0, 1.0, (10_000, 500)) - 2.0) * 0.1
    ratios = r.mean(axis=1) / r.std(axis=1, ddof=1)
    typical = np.median([stats.sharpe_error(row) for row in r[:200]])
    assert ratios.std() == pytest.approx(typical, rel=0.03)
    assert np.median([stats.sharpe_error(row, "hac", lags=0) for row in r[:200]]) == pytest.approx(typical, rel=0.02)


def test_dependence_widens_the_error() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=5000)
    for t in range(1, 5000):
        noise[t] += 0.5 * noise[t - 1]
    r = 0.05 + noise
    assert stats.sharpe_error(r, "hac", lags=40) / stats.sharpe_error(r, "iid") == pytest.approx(np.sqrt(3), rel=0.15)
    with pytest.raises(ConfigError, match="hac"):
        stats.sharpe_error(r, "other")


def test_annualisation_factor_from_returns() -> None:
    rng = np.random.default_rng(1)
    assert stats.annualisation_factor(rng.normal(size=50_000), 12) == pytest.approx(np.sqrt(12), rel=0.03)


def test_probabilistic_sharpe_is_the_normal_quantile_of_its_error() -> None:
    assert stats.probabilistic_sharpe(0.1, 401) == pytest.approx(st.norm.cdf(0.1 * 20 / np.sqrt(1.005)))
    assert stats.probabilistic_sharpe(0.1, 401, benchmark=0.1) == 0.5
    assert np.isnan(stats.probabilistic_sharpe(float("nan"), 100))


def test_minimum_track_record_inverts_the_probability() -> None:
    bars = stats.min_track_record(0.08, skew=-0.5, kurt=6.0, level=0.95)
    n = int(np.ceil(bars))
    assert stats.probabilistic_sharpe(0.08, n, -0.5, 6.0) >= 0.95 > stats.probabilistic_sharpe(0.08, n - 1, -0.5, 6.0)
    assert stats.min_track_record(-0.1) == float("inf")


def test_expected_maximum_against_simulation() -> None:
    rng = np.random.default_rng(0)
    for trials in (5, 50, 500):
        simulated = rng.normal(0, 0.3, (4000, trials)).max(axis=1).mean()
        assert stats.expected_max_sharpe(trials, 0.09) == pytest.approx(simulated, rel=0.05)
    assert stats.expected_max_sharpe(1, 0.09) == 0.0


def test_more_trials_deflate_more() -> None:
    values = [stats.deflated_sharpe(0.1, 1000, trials) for trials in (1, 10, 100, 1000)]
    assert values == sorted(values, reverse=True)
    assert values[0] == stats.probabilistic_sharpe(0.1, 1000)


def test_overfitting_is_near_a_half_on_noise() -> None:
    rng = np.random.default_rng(0)
    found = [stats.pbo(rng.normal(0, 0.01, (800, 20)), n_blocks=10) for _ in range(60)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_overfitting_is_near_zero_with_a_planted_winner() -> None:
    r = np.random.default_rng(0).normal(0, 0.01, (2000, 40))
    r[:, 7] += 0.0025
    assert stats.pbo(r) < 0.01


def test_overfitting_against_a_slow_loop() -> None:
    from itertools import combinations

    r = np.random.default_rng(3).normal(0, 0.01, (120, 5))
    blocks, count, bad = np.array_split(np.arange(120), 6), 0, 0
    for inside in combinations(range(6), 3):
        a = r[np.concatenate([blocks[i] for i in inside])]
        b = r[np.concatenate([blocks[i] for i in range(6) if i not in inside])]
        best = np.argmax(a.mean(0) / a.std(0))
        rank = st.rankdata(b.mean(0) / b.std(0))[best] / 6
        bad += np.log(rank / (1 - rank)) <= 0
        count += 1
    assert stats.pbo(r, n_blocks=6) == pytest.approx(bad / count)
    with pytest.raises(DataError, match="two strategies"):
        stats.pbo(r[:, :1])
    with pytest.raises(HistoryError, match="bars for"):
        stats.pbo(r[:20])


def test_diebold_mariano_without_lags_is_a_t_test() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 1, 80) ** 2, rng.normal(1.4, 1, 80) ** 2
    got = stats.diebold_mariano(a, b)
    expected = st.ttest_rel(a, b)
    assert got.statistic == pytest.approx(expected.statistic, rel=1e-9)  # the correction turns ddof 0 into ddof 1
    assert got.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_diebold_mariano_holds_its_size_on_overlapping_forecasts() -> None:
    rng, rejected = np.random.default_rng(1), 0
    for _ in range(400):
        noise = rng.normal(size=304)
        overlapping = np.convolve(noise, np.ones(5), "valid")
        rejected += stats.diebold_mariano(overlapping, np.zeros(300), horizon=5, lags=8).p_value < 0.05
    assert 0.02 <= rejected / 400 <= 0.12
    assert stats.diebold_mariano(np.ones(30), np.ones(30)).p_value == 1.0
    with pytest.raises(DataError, match="one length"):
        stats.diebold_mariano(np.ones(3), np.ones(4))


@pytest.fixture(scope="module")
def contest() -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(0)
    r = pd.DataFrame(rng.normal(0, 0.01, (1000, 6)), columns=[f"s{i}" for i in range(6)])
    r["s2"] += 0.002
    return r, pd.Series(rng.normal(0, 0.01, 1000))


def test_superior_ability_finds_the_winner_and_nothing_else(contest: tuple[pd.DataFrame, pd.Series]) -> None:
    returns, benchmark = contest
    assert stats.spa_test(returns, benchmark, 300)["p_value"] < 0.01
    assert stats.spa_test(returns.drop(columns="s2"), benchmark, 300)["p_value"] > 0.1
    assert stats.step_m(returns, benchmark, n_resamples=300) == ("s2",)
    members = stats.model_confidence_set(-returns, n_resamples=300)
    assert members["s2"] == 1.0
    assert members.drop("s2").max() < 0.05
    with pytest.raises(DataError, match="same complete bars"):
        stats.spa_test(returns, benchmark[:10])


def test_coverage_tests_hold_their_size() -> None:
    rng = np.random.default_rng(0)
    hits = rng.random((500, 1000)) < 0.05
    assert np.mean([stats.kupiec_test(h, 0.05).p_value < 0.05 for h in hits]) == pytest.approx(0.05, abs=0.025)
    assert stats.kupiec_test(hits[0], 0.10).p_value < 1e-4
    assert stats.kupiec_test(np.zeros(500, bool), 0.05).p_value < 1e-6
    assert stats.christoffersen_test(np.repeat(hits[0], 3)).p_value < 1e-6
