from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from foliocast import stats
from foliocast.core.errors import ConfigError, DataError


def test_compounding_by_hand() -> None:
    r = [0.1, -0.5, 0.2]
    assert stats.annual_return(r, periods=3) == pytest.approx(1.1 * 0.5 * 1.2 - 1)
    assert stats.max_drawdown(r) == pytest.approx(-0.5)
    assert stats.drawdown([-0.1, 0.0]).tolist() == pytest.approx([-0.1, -0.1])  # the start is a peak


def test_losing_everything() -> None:
    assert stats.annual_return([0.1, -1.0, 0.3]) == -1.0
    assert stats.max_drawdown([0.1, -1.0, 0.3]) == -1.0


def test_nothing_below_the_line_is_not_a_number() -> None:
    flat = np.full(50, 0.001)
    for measure in (stats.sharpe_ratio, stats.sortino_ratio, stats.calmar_ratio):
        assert np.isnan(measure(flat))
    for measure in (stats.sharpe_ratio, stats.annual_return, stats.max_drawdown, stats.cvar, stats.win_rate):
        assert np.isnan(measure([]))


def test_missing_bars_are_left_out_and_infinite_ones_refused() -> None:
    r = pd.Series([np.nan, 0.01, -0.02, np.nan, 0.03])
    assert stats.sharpe_ratio(r) == stats.sharpe_ratio(r.dropna())
    with pytest.raises(DataError, match="infinite"):
        stats.volatility([0.1, np.inf])
    with pytest.raises(DataError, match=r"table\.apply"):
        stats.volatility(np.zeros((3, 2)))


def test_periods_are_read_off_the_index() -> None:
    r = np.random.default_rng(0).normal(0, 0.01, 60)
    monthly = pd.Series(r, pd.date_range("2015-01-31", periods=60, freq="ME"))
    assert stats.volatility(monthly) == pytest.approx(r.std(ddof=1) * np.sqrt(12))
    assert stats.volatility(r) == pytest.approx(r.std(ddof=1) * np.sqrt(252))
    with pytest.raises(ConfigError, match="periods"):
        stats.volatility(r, periods=0)


def _judge(returns: np.ndarray, beta: float) -> float:
    """CVaR by a partial sum over the sorted losses."""
    loss = np.sort(-returns)[::-1]
    k = (1 - beta) * len(loss)
    full = int(np.floor(k + 1e-9))
    return float((loss[:full].sum() + (k - full) * (loss[full] if full < len(loss) else 0.0)) / k)


@pytest.mark.parametrize("n", [1, 7, 20, 99, 1000, 1001])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_cvar_is_exact(n: int, level: float) -> None:
    r = np.random.default_rng(n).standard_t(3, n) * 0.01
    assert stats.cvar(r, level) == pytest.approx(_judge(r, level), rel=1e-10)
    assert stats.cvar(r, level) >= stats.value_at_risk(r, level) - 1e-15


def test_cvar_with_probabilities_is_that_of_repeated_scenarios() -> None:
    rng = np.random.default_rng(3)
    r, times = rng.normal(0, 0.01, 40), rng.integers(0, 5, 40)
    p = times / times.sum()
    repeated = np.repeat(r, times)
    assert stats.cvar(r, 0.9, p) == pytest.approx(stats.cvar(repeated, 0.9), rel=1e-10)
    assert stats.value_at_risk(r, 0.9, p) == pytest.approx(stats.value_at_risk(repeated, 0.9))
    with pytest.raises(DataError, match="sum to one"):
        stats.cvar(r, 0.9, p * 2)


def test_value_at_risk_is_the_smallest_loss_that_is_enough() -> None:
    r = -np.arange(1.0, 101.0) / 100
    assert stats.value_at_risk(r, 0.95) == pytest.approx(0.95)
    assert (-r <= stats.value_at_risk(r, 0.95)).mean() >= 0.95


def test_wins_count_only_days_with_a_position() -> None:
    r = np.array([0.01, 0.0, -0.01, 0.02, 0.0])
    assert stats.win_rate(r) == pytest.approx(2 / 3)
    assert stats.win_rate(r, held=np.array([1, 0, 1, 1, 1])) == pytest.approx(2 / 4)
    with pytest.raises(DataError, match="one flag a bar"):
        stats.win_rate(r, held=np.array([True]))


def test_turnover_counts_drift() -> None:
    weights = np.array([[0.5, 0.5], [0.5, 0.5]])
    assert stats.turnover(weights).tolist() == [1.0, 0.0]
    moved = np.array([[0.0, 0.0], [0.1, -0.1]])
    assert stats.turnover(weights, moved) == pytest.approx([1.0, 0.1])


def test_forecast_errors_by_hand() -> None:
    actual, guess = np.array([1.0, 2.0, np.nan, 4.0]), np.array([1.5, 2.0, 9.0, 2.0])
    assert stats.mae(actual, guess) == pytest.approx(2.5 / 3)
    assert stats.mse(actual, guess) == pytest.approx(4.25 / 3)
    assert stats.rmse(actual, guess) == pytest.approx(np.sqrt(4.25 / 3))
    assert stats.mape(actual, guess) == pytest.approx((0.5 + 0 + 0.5) / 3)
    with pytest.raises(DataError, match="no pair"):
        stats.mae([np.nan], [1.0])


def test_rank_ic_is_spearman_row_by_row() -> None:
    rng = np.random.default_rng(5)
    guess = pd.DataFrame(rng.normal(size=(30, 8)).round(1), columns=list("abcdefgh"))  # rounding makes ties
    truth = guess * 0.2 + pd.DataFrame(rng.normal(size=(30, 8)), columns=list("abcdefgh"))
    truth.iloc[3, :3] = np.nan
    truth.iloc[4, :6] = np.nan
    ic = stats.rank_ic(guess, truth)
    for row in range(30):
        both = truth.iloc[row].notna()
        expected = spearmanr(guess.iloc[row][both], truth.iloc[row][both])[0] if both.sum() >= 3 else np.nan
        assert ic.iloc[row] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(ic.iloc[4])


def test_weighted_ic_weighs_the_top_of_the_list() -> None:
    rng = np.random.default_rng(5)
    guess, noise = (pd.DataFrame(rng.normal(size=(12, 9)), columns=list("abcdefghi")) for _ in range(2))
    truth = guess + noise
    truth.iloc[3, :3] = np.nan
    truth.iloc[4, :7] = np.nan
    assert np.allclose(stats.weighted_ic(guess, truth, half_life=np.inf), stats.rank_ic(guess, truth), equal_nan=True)
    row = 3
    x, y = (f.iloc[row][truth.iloc[row].notna()].rank().to_numpy() for f in (guess, truth))
    weight = 0.5 ** ((len(x) - x) / (0.25 * len(x)))
    expected = np.cov(x, y, aweights=weight)
    assert stats.weighted_ic(guess, truth).iloc[row] == pytest.approx(
        expected[0, 1] / np.sqrt(expected[0, 0] * expected[1, 1])
    )
    order = pd.DataFrame([np.arange(40.0)])
    good, bad = order.copy(), order.copy()
    good.iloc[0, :20] = good.iloc[0, :20].to_numpy()[::-1]  # wrong among the worst
    bad.iloc[0, 20:] = bad.iloc[0, 20:].to_numpy()[::-1]  # wrong among the best
    assert stats.rank_ic(order, good).iloc[0] == pytest.approx(stats.rank_ic(order, bad).iloc[0])
    assert stats.weighted_ic(order, good).iloc[0] > 0.85
    assert stats.weighted_ic(order, bad).iloc[0] < 0.45


def test_names_are_loaded_on_demand() -> None:
    for name in stats.__all__:
        assert getattr(stats, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'sharp'"):
        stats.sharp
