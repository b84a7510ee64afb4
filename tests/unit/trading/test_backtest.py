"""fc.backtest: alignment, self-financing, agreement with a slow loop and with the event loop, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import foliocast as fc
from foliocast.core.errors import ConfigError, DataError
from foliocast.trading.loop import run_decisions
from markets import make_panel

FREE = fc.Costs(commission_bps=0.0)


def slow_wealth(weights: np.ndarray, prices: np.ndarray, rate: float, lag: int) -> np.ndarray:
    """One bar after the other, one fixed point a trade: the definition, not the method."""
    units, cash, out = np.zeros(prices.shape[1]), 1.0, []
    for t in range(len(prices)):
        held = units * prices[t]
        equity = cash + held.sum()
        if t >= lag and np.isfinite(weights[t - lag]).any():
            w, k = weights[t - lag], 1.0
            for _ in range(200):
                k = 1.0 - rate * np.abs(k * w - held / equity).sum()
            units = w * k * equity / prices[t]
            equity *= k
            cash = equity - (units * prices[t]).sum()
        out.append(equity)
    out[0] = 1.0
    return np.array(out)


def market(n_bars: int = 300, n_assets: int = 5, seed: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    prices = make_panel(n_bars, n_assets, seed).close()
    rng = np.random.default_rng(seed)
    weights = rng.normal(0.2, 0.3, prices.shape)
    return pd.DataFrame(weights, prices.index, prices.columns), prices


def test_oracle_anti_oracle_and_late_oracle() -> None:
    prices = make_panel(600, 1, seed=5).close()
    r = prices.pct_change().to_numpy()[1:, 0]
    sign = pd.DataFrame(np.append(np.sign(r), 0.0)[:, None], prices.index, prices.columns)
    oracle = fc.backtest(sign, prices, costs=FREE, execution="same_close")
    anti = fc.backtest(-sign, prices, costs=FREE, execution="same_close")
    assert oracle.equity.iloc[-1] == pytest.approx(np.prod(1 + np.abs(r)), rel=1e-12)
    assert anti.equity.iloc[-1] == pytest.approx(np.prod(1 - np.abs(r)), rel=1e-12)


def test_an_oracle_one_day_late_earns_about_nothing() -> None:
    growth = []
    for seed in range(20):
        prices = make_panel(400, 1, seed=100 + seed).close()
        r = prices.pct_change().to_numpy()[1:, 0]
        sign = pd.DataFrame(np.append(np.sign(r), 0.0)[:, None], prices.index, prices.columns)
        late = fc.backtest(sign, prices, costs=FREE, execution="next_close")
        growth.append(late.returns.mean() / late.returns.std() * np.sqrt(len(late.returns)))
    assert abs(np.mean(growth)) < 3 / np.sqrt(len(growth))


@pytest.mark.parametrize("execution", ["same_close", "next_close"])
@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("bps", [0.0, 5.0, 300.0])
def test_agrees_with_a_slow_loop_and_with_the_event_loop(execution: str, every: int, bps: float) -> None:
    weights, prices = market()
    weights, costs = weights.iloc[3::every], fc.Costs(commission_bps=bps)
    fast = fc.backtest(weights, prices, costs, execution)
    dense = weights.reindex(prices.index).to_numpy()
    slow = slow_wealth(dense, prices.to_numpy(), bps * 1e-4, int(execution == "next_close"))
    assert np.abs(fast.equity.to_numpy() / slow - 1).max() < 1e-12

    panel = fc.Panel.from_frames({"close": prices})
    rows = prices.index.get_indexer(weights.index)
    loop = run_decisions(panel, rows, weights.to_numpy(), costs=costs, execution=execution)
    assert np.abs(fast.equity / loop.equity - 1).max() < 1e-10
    assert np.abs(fast.weights - loop.weights).to_numpy().max() < 1e-10
    assert np.abs(fast.turnover - loop.turnover).max() < 1e-10
    assert np.abs(fast.cost - loop.cost).max() < 1e-10
    assert len(fast.trades()) == len(loop.trades())
    assert np.abs(fast.trades()["units"] - loop.trades()["units"]).max() < 1e-10


def test_post_trade_weights_are_the_targets_and_the_rest_is_cash() -> None:
    weights, prices = market()
    result = fc.backtest(weights, prices, execution="same_close")
    assert np.abs(result.weights - weights).to_numpy().max() < 1e-14
    assert result.equity.iloc[0] == 1.0
    assert list(result.equity.index) == list(prices.index)
    assert len(result.returns) == len(prices) - 1 == result.n_days


def test_first_trade_is_paid_for() -> None:
    prices = pd.DataFrame({"A": [10.0, 10.0, 10.0]}, index=pd.bdate_range("2020-01-01", periods=3))
    weights = pd.DataFrame({"A": [1.0]}, index=prices.index[:1])
    result = fc.backtest(weights, prices, fc.Costs(commission_bps=10), execution="same_close")
    assert result.equity.tolist() == pytest.approx([1.0, 1 / 1.001, 1 / 1.001], abs=1e-15)
    assert result.cost.iloc[0] == pytest.approx(1 - 1 / 1.001)
    late = fc.backtest(weights, prices, fc.Costs(commission_bps=10), execution="next_close")
    assert late.equity.tolist() == pytest.approx([1.0, 1 / 1.001, 1 / 1.001], abs=1e-15)


def test_cost_is_charged_on_the_trade_and_not_on_the_position() -> None:
    prices = make_panel(50, 2).close()
    hold = pd.DataFrame([[0.5, 0.5]], index=prices.index[:1], columns=prices.columns)
    result = fc.backtest(hold, prices, fc.Costs(commission_bps=50))
    assert (result.cost.iloc[2:] == 0).all()
    assert (result.turnover.iloc[2:] == 0).all()
    once = fc.backtest(hold, prices, fc.Costs(commission_bps=50), execution="same_close")
    same = fc.backtest(pd.concat([hold, once.weights.iloc[10:]]), prices, fc.Costs(50), execution="same_close")
    assert np.abs(same.equity / once.equity - 1).max() < 1e-13
    assert same.turnover.iloc[10:].max() < 1e-13


def test_rows_of_nan_hold_and_columns_are_aligned_by_name() -> None:
    weights, prices = market()
    gaps = weights.copy()
    gaps.iloc[1::2] = np.nan
    sparse = fc.backtest(weights.iloc[::2], prices)
    assert fc.backtest(gaps, prices).equity.equals(sparse.equity)
    shuffled = fc.backtest(weights[weights.columns[::-1]], prices)
    assert np.abs(shuffled.equity / fc.backtest(weights, prices).equity - 1).max() < 1e-13
    fewer = fc.backtest(weights[["A1", "A3"]], prices)
    zeros = fc.backtest(weights.assign(A0=0.0, A2=0.0, A4=0.0), prices)
    assert np.abs(fewer.equity / zeros.equity - 1).max() < 1e-13


def test_bad_input_is_named() -> None:
    weights, prices = market(30, 3)
    with pytest.raises(DataError, match="ZZZ"):
        fc.backtest(weights.rename(columns={"A0": "ZZZ"}), prices)
    with pytest.raises(DataError, match="not a time of the prices"):
        fc.backtest(weights.shift(freq="400D"), prices)
    with pytest.raises(DataError, match="all NaN"):
        fc.backtest(weights, prices.assign(A1=np.nan))
    with pytest.raises(DataError, match="price of A2"):
        fc.backtest(weights, prices.assign(A2=prices["A2"].where(prices.index != prices.index[4], 0.0)))
    with pytest.raises(DataError, match="infinite"):
        fc.backtest(weights * np.inf, prices)
    with pytest.raises(ConfigError, match="needs the opens"):
        fc.backtest(weights, prices, execution="next_open")
    with pytest.raises(ConfigError, match="expected one of"):
        fc.backtest(weights, prices, execution="yesterday")


def test_an_asset_that_leaves_is_sold_at_its_last_price() -> None:
    prices = make_panel(60, 2).close()
    prices.iloc[30:, 1] = np.nan
    weights = pd.DataFrame(0.5, prices.index[:1], prices.columns)
    result = fc.backtest(weights, prices, fc.Costs(10.0), execution="same_close")
    sold = result.trades().query("reason == 'left the universe'")
    assert len(sold) == 1
    assert sold["price"].item() == prices.iloc[29, 1]
    assert sold["date"].item() == prices.index[35]  # silent for more than 5 bars
    assert result.weights["A1"].iloc[34] > 0
    assert (result.weights["A1"].iloc[35:] == 0).all()
    cash = result.equity * (1 - result.weights.sum(axis=1))
    assert cash.iloc[-1] == pytest.approx(sold["units"].item() * -prices.iloc[29, 1] * (1 - 1e-3), rel=1e-9)


def test_an_order_waits_for_a_quote() -> None:
    prices = make_panel(20, 2).close()
    prices.iloc[5:8, 1] = np.nan
    weights = pd.DataFrame([[0.5, 0.5]], prices.index[5:6], prices.columns)
    trades = fc.backtest(weights, prices, FREE, execution="same_close").trades()
    assert trades.set_index("asset")["date"].to_dict() == {"A0": prices.index[5], "A1": prices.index[8]}


def test_gaps_of_assets_that_are_not_held_do_not_matter() -> None:
    weights, prices = market()
    weights["A1"] = 0.0
    holes = prices.copy()
    holes.iloc[::9, 1] = np.nan
    assert np.abs(fc.backtest(weights, holes).equity / fc.backtest(weights, prices).equity - 1).max() < 1e-14


def test_ruin_closes_the_account() -> None:
    prices = pd.DataFrame({"A": [100.0, 100.0, 40.0, 80.0]}, index=pd.bdate_range("2020-01-01", periods=4))
    weights = pd.DataFrame({"A": [2.0]}, index=prices.index[:1])
    result = fc.backtest(weights, prices, FREE, execution="same_close")
    assert result.equity.iloc[-1] <= 0
    assert result.equity.iloc[-1] == result.equity.iloc[-2]
    assert result.actions()["kind"].tolist() == ["ruin"]
    assert result.metrics()["max_drawdown"] == -1.0


def test_sweep_equals_single_runs() -> None:
    weights, prices = market(120, 4)
    rng = np.random.default_rng(0)
    many = np.stack([weights.to_numpy() * rng.uniform(0.2, 1.0) for _ in range(5)])
    equity = fc.backtest_many(many, prices)
    for number, values in enumerate(many):
        one = fc.backtest(pd.DataFrame(values, prices.index, prices.columns), prices)
        assert np.abs(equity[number] / one.equity - 1).max() < 1e-14


def test_metrics_are_those_of_the_net_returns() -> None:
    weights, prices = market()
    result = fc.backtest(weights, prices)
    found = result.metrics()
    net = result.equity.pct_change().dropna()
    assert found["sharpe"] == pytest.approx(net.mean() / net.std() * np.sqrt(252), rel=1e-9)
    assert found["max_drawdown"] == pytest.approx((result.equity / result.equity.cummax() - 1).min())
    assert found["n_days"] == len(prices) - 1
    assert found["cost"] == pytest.approx(result.cost.sum() / (len(net) / 252))
