"""Laws that hold for any weights and prices."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

import foliocast as fc
from foliocast.trading.loop import run_decisions


@st.composite
def markets_and_weights(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame]:
    n_bars, n_assets = draw(st.integers(2, 30)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    returns = rng.uniform(-0.08, 0.08, (n_bars, n_assets))
    times = pd.bdate_range("2020-01-01", periods=n_bars)
    prices = pd.DataFrame(100 * np.cumprod(1 + returns, axis=0), times, [f"A{i}" for i in range(n_assets)])
    weights = pd.DataFrame(rng.uniform(-1, 1, prices.shape) * 1.5 / n_assets, times, prices.columns)
    keep = rng.random(n_bars) < draw(st.sampled_from([0.1, 0.5, 1.0]))
    weights[~keep] = np.nan
    return weights, prices


@settings(max_examples=60, deadline=None)
@given(markets_and_weights(), st.sampled_from(["same_close", "next_close"]), st.sampled_from([0.0, 5.0, 200.0]))
def test_fast_path_and_loop_agree_and_fills_replay(
    case: tuple[pd.DataFrame, pd.DataFrame], execution: str, bps: float
) -> None:
    weights, prices = case
    costs = fc.Costs(commission_bps=bps)
    fast = fc.backtest(weights, prices, costs, execution)
    given_rows = weights.notna().all(axis=1).to_numpy()
    panel = fc.Panel.from_frames({"close": prices})
    loop = run_decisions(
        panel, np.flatnonzero(given_rows), weights.to_numpy()[given_rows], costs=costs, execution=execution
    )
    assert np.abs(fast.equity / loop.equity - 1).max() < 1e-10
    assert loop.ledger is not None
    replayed = loop.ledger.replay(prices.to_numpy())
    assert np.abs(replayed[1:] - loop.equity_array[1:]).max() < 1e-9


@settings(max_examples=40, deadline=None)
@given(markets_and_weights(), st.floats(1.0, 100.0))
def test_costs_never_help_and_cost_is_rate_times_turnover(case: tuple[pd.DataFrame, pd.DataFrame], bps: float) -> None:
    weights, prices = case
    free, dear = fc.backtest(weights, prices, fc.Costs(0.0)), fc.backtest(weights, prices, fc.Costs(bps))
    assert (dear.equity <= free.equity * (1 + 1e-12)).all()
    assert np.abs(dear.cost - dear.turnover * bps * 1e-4).max() < 1e-14


@settings(max_examples=40, deadline=None)
@given(markets_and_weights(), st.integers(0, 100))
def test_prices_may_be_rescaled_and_assets_reordered(case: tuple[pd.DataFrame, pd.DataFrame], seed: int) -> None:
    weights, prices = case
    rng = np.random.default_rng(seed)
    scaled = prices * rng.uniform(0.01, 100, prices.shape[1])
    order = list(rng.permutation(prices.columns))
    a = fc.backtest(weights, prices).equity
    b = fc.backtest(weights[order], scaled).equity
    assert np.abs(a / b - 1).max() < 1e-11


@settings(max_examples=30, deadline=None)
@given(markets_and_weights())
def test_the_past_of_a_backtest_does_not_depend_on_its_future(case: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    weights, prices = case
    stop = max(2, len(prices) // 2)
    whole = fc.backtest(weights, prices, execution="same_close")
    part = fc.backtest(weights.iloc[:stop], prices.iloc[:stop], execution="same_close")
    assert np.abs(whole.equity.iloc[:stop] / part.equity - 1).max() < 1e-13
