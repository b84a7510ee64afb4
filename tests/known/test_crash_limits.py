"""Limits in the crashes of 2008 and 2020 and on a day of minus eight sigma: on, they hold; off, they are passed.

What a limit did is counted against breaches that are found here again, from the account's weights and equity.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import foliocast as fc
from foliocast.trading.loop import run_decisions

CRASHES = {"2008": ("2007-10-09", "2009-12-31"), "2020": ("2020-01-02", "2020-12-31")}
HISTORY, MONTH = 300, 21
TECHNOLOGY = {"AAPL": "technology", "AMD": "technology", "MSFT": "technology"}


def replay(panel: fc.Panel, first: str, last: str, limits: Sequence[Any], leverage: float = 1.0) -> fc.BacktestResult:
    """Equal weights every month through a crash; the limits have a year of history to measure with."""
    start, stop = (int(panel.times.searchsorted(pd.Timestamp(date))) for date in (first, last))
    part = panel.rows(start - HISTORY, stop)
    bars = np.arange(HISTORY - 1, len(part), MONTH)
    weights = np.full((len(bars), len(part.assets)), leverage / len(part.assets))
    execution = "next_open" if "open" in part.fields else "next_close"
    return run_decisions(part, bars, weights, limits=limits, execution=execution, start=HISTORY - 1)


def drawdowns(result: fc.BacktestResult) -> list[tuple[float, float]]:
    """Of every stay in the market: the deepest drawdown, and the loss of the bar on which the cut was filled."""
    equity, actions = result.equity, result.actions()
    entries = [equity.index[0], *actions.query("kind == 're-entry'")["date"]]
    out = []
    for entry, end in zip(entries, [*entries[1:], equity.index[-1]]):
        stay = equity.loc[entry:end]
        cut = actions.query("kind == 'breach' and @entry <= date <= @end")["date"]
        after = equity.index.get_loc(cut.iloc[0]) + 1 if len(cut) else 0
        out.append((-float((stay / stay.cummax() - 1).min()), -min(0.0, float(result.returns.iloc[after - 1]))))
    return out


def recounted(result: fc.BacktestResult, panel: fc.Panel, limit: fc.DrawdownLimit) -> int:
    """Breaches of a drawdown limit, found anew from equity and weights; re-entries are taken as they came."""
    past = np.nan_to_num(panel.return_array())
    back = set(result.actions().query("kind == 're-entry'")["date"])
    gauge = fc.CVaRLimit(0.5, level=limit.ahead)
    count, peak, outside = 0, 0.0, False
    for time, equity in result.equity.items():
        if outside:
            outside = time not in back
            peak = equity
            continue
        peak = max(peak, equity)
        fallen = 1 - equity / peak
        row = panel.times.get_loc(time)
        bad_bar = gauge.measure(result.weights.loc[time].to_numpy(), past[1 : row + 1])
        if fallen >= limit.limit or (fallen >= limit.limit / 2 and fallen + bad_bar >= limit.limit):
            count, outside = count + 1, True
    return count


@pytest.fixture(scope="module")
def stocks() -> fc.Panel:
    return fc.load_panel("sample:sp500")


@pytest.mark.parametrize("allowed", [0.1, 0.15, 0.2])
@pytest.mark.parametrize("crash", CRASHES)
def test_a_drawdown_limit_holds_in_a_real_crash(stocks: fc.Panel, crash: str, allowed: float) -> None:
    limit = fc.DrawdownLimit(allowed)
    free, held = (replay(stocks, *CRASHES[crash], limits) for limits in ((), (limit,)))
    assert -free.metrics()["max_drawdown"] > allowed - free.returns.min()  # without the limit it falls through
    for fallen, gap in drawdowns(held):
        assert fallen <= allowed + gap
    breaches = held.actions().query("kind == 'breach'")
    assert len(breaches) == recounted(held, stocks, limit) >= 1
    assert len(held.actions()) - len(breaches) in (len(breaches), len(breaches) - 1)  # each is followed by a re-entry
    assert breaches["reason"].str.contains("drawdown").all()


@pytest.fixture(scope="module")
def fifty(dev_data: Path) -> fc.Panel:
    """Open, close and volume of the first fifty stocks, by name, that have a price on every day."""
    table = pd.read_parquet(dev_data / "equities" / "sp500_ohlcv_adj_2000_2022.parquet", columns=["date", "ticker"])
    count = table.groupby("ticker").size()
    names = sorted(count.index[count == count.max()])[:50]
    fields = ["open", "close", "volume"]
    rows = pd.read_parquet(
        dev_data / "equities" / "sp500_ohlcv_adj_2000_2022.parquet",
        columns=["date", "ticker", *fields],
        filters=[("ticker", "in", names)],
    )
    return fc.Panel.from_frames({f: rows.pivot(index="date", columns="ticker", values=f) for f in fields})


@pytest.mark.devdata
@pytest.mark.parametrize("crash", CRASHES)
def test_a_drawdown_limit_holds_on_fifty_stocks_traded_at_the_open(fifty: fc.Panel, crash: str) -> None:
    limit = fc.DrawdownLimit(0.15)
    free, held = (replay(fifty, *CRASHES[crash], limits) for limits in ((), (limit,)))
    assert -free.metrics()["max_drawdown"] > 0.15 - free.returns.min()
    for fallen, gap in drawdowns(held):
        assert fallen <= 0.15 + gap
    assert len(held.actions().query("kind == 'breach'")) == recounted(held, fifty, limit) >= 1


@pytest.mark.devdata
def test_a_liquidity_limit_keeps_every_position_saleable(fifty: fc.Panel) -> None:
    limit = fc.LiquidityLimit(days=1, participation=0.1, capital=5e8, tolerance=0.0)
    free, held = (replay(fifty, *CRASHES["2008"], limits) for limits in ((), (limit,)))
    traded = (fifty.close() * fifty.frame("volume")).rolling(21, min_periods=5).mean().shift(1)
    days = [(r.weights.mul(r.equity, axis=0).abs() * 5e8 / (0.1 * traded.loc[r.weights.index])) for r in (free, held)]
    assert days[0].max().max() > 10
    sold = held.actions()
    assert not sold["date"].duplicated().any()
    quiet = ~days[1].index.isin(sold["date"]) & ~days[1].index.to_series().shift(1).isin(sold["date"]).to_numpy()
    assert days[1][quiet].max().max() <= 1 + 1e-9  # at every close at which nothing was cut
    assert list(sold.query("kind == 'breach'")["date"]) == list(days[1].index[days[1].max(axis=1) > 1 + 1e-12])


def test_minus_eight_sigma_costs_one_day_and_no_more() -> None:
    rng = np.random.default_rng(1)
    returns = 0.0003 + 0.01 * rng.standard_normal((700, 5)) @ np.linalg.cholesky(0.7 + 0.3 * np.eye(5)).T
    sigma = float((returns @ np.full(5, 0.2)).std())
    returns[500] = -8 * sigma
    returns[501:540] -= 0.012  # and it goes on
    close = 100 * np.cumprod(1 + returns, axis=0)
    panel = fc.Panel({"close": close}, pd.bdate_range("2015-01-01", periods=700), list("ABCDE"))
    limit = fc.DrawdownLimit(0.1)
    bars = np.arange(HISTORY, 700, MONTH)
    free, held = (
        run_decisions(panel, bars, np.full((len(bars), 5), 0.2), limits=limits, start=HISTORY)
        for limits in ((), (limit,))
    )
    assert -free.metrics()["max_drawdown"] > 0.3
    assert -held.metrics()["max_drawdown"] <= 0.1 + 8 * sigma
    (fallen, gap), *_ = drawdowns(held)
    assert fallen <= 0.1 + gap
    assert len(held.actions().query("kind == 'breach'")) == recounted(held, panel, limit) == 1


LIMITS: dict[str, Any] = {
    "value at risk": lambda: fc.ValueAtRiskLimit(0.02),
    "value at risk, past as it was": lambda: fc.ValueAtRiskLimit(0.02, model="history"),
    "conditional value at risk": lambda: fc.CVaRLimit(0.03),
    "sector": lambda: fc.SectorLimit(TECHNOLOGY, 0.15, tolerance=0.0),
    "position": lambda: fc.PositionLimit(0.055, tolerance=0.0),
    "gross leverage": lambda: fc.GrossLimit(1.0, tolerance=0.0),
}


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("crash", CRASHES)
def test_one_breach_is_one_action(stocks: fc.Panel, crash: str, name: str) -> None:
    limit = LIMITS[name]()
    held = replay(stocks, *CRASHES[crash], (limit,), leverage=1.02)
    actions = held.actions()
    assert len(actions)
    assert not actions["date"].duplicated().any()
    assert (actions["measured"] > actions["allowed"]).all()
    found = [time for time in held.equity.index if excess(limit, held, stocks, time) > 1]
    assert list(actions.query("kind == 'breach'")["date"]) == found


def excess(limit: Any, result: fc.BacktestResult, panel: fc.Panel, time: pd.Timestamp) -> float:
    """What is measured of the weights held at a close over what is allowed, without asking the account."""
    w = result.weights.loc[time]
    if isinstance(limit, fc.ValueAtRiskLimit):
        row = panel.times.get_loc(time)
        return limit.measure(w.to_numpy(), np.nan_to_num(panel.return_array())[1 : row + 1]) / limit.limit
    if isinstance(limit, fc.SectorLimit):
        return float(w.reindex(list(limit.members)).abs().sum()) / limit.limit
    return float(w.abs().max() if isinstance(limit, fc.PositionLimit) else w.abs().sum()) / limit.limit


def test_risk_limits_cut_what_the_crash_would_have_cost(stocks: fc.Panel) -> None:
    """Under a CVaR limit the worst days are half as bad, and the crash costs less."""
    free = replay(stocks, *CRASHES["2008"], ())
    held = replay(stocks, *CRASHES["2008"], (fc.CVaRLimit(0.02),))
    assert held.metrics()["max_drawdown"] > 0.7 * free.metrics()["max_drawdown"]
    worst = 1.0 - 0.05
    tail = [r[r <= r.quantile(1 - worst)].mean() for r in (free.returns, held.returns)]
    assert tail[0] < -0.04
    assert tail[1] > -0.026
