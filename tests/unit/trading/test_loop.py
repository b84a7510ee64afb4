"""The event loop: money adds up, fills replay, costs and financing follow their formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import foliocast as fc
from foliocast.core.book import Book
from foliocast.core.errors import ConfigError
from foliocast.trading.broker import Liquidity, SimulatedBroker
from foliocast.trading.loop import Engine, PanelFeed, run, run_decisions
from markets import make_panel

EVERYTHING = fc.Costs(
    commission_bps=3,
    half_spread_bps=2,
    impact="sqrt",
    participation=0.1,
    borrow_rate=0.03,
    funding_rate=0.05,
    cash_rate=0.02,
    capital=5e8,
)


def decisions(panel: fc.Panel, seed: int = 0, every: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(30, len(panel), every)
    return rows, np.random.default_rng(seed).normal(0.2, 0.4, (len(rows), len(panel.assets)))


@pytest.mark.parametrize("execution", ["next_open", "next_close", "same_close"])
def test_wealth_replays_from_fills_with_all_costs(execution: str, panel: fc.Panel) -> None:
    result = run_decisions(panel, *decisions(panel), costs=EVERYTHING, execution=execution)
    ledger = result.ledger
    assert ledger is not None
    replayed = ledger.replay(panel.array("close"))
    assert np.abs(replayed[1:] - result.equity_array[1:]).max() < 1e-9
    book = Book(panel.assets)  # and once more from the long table alone
    for fill in ledger.fills():
        book.apply(fill)
    book.cash += ledger.financing()[["borrow", "funding", "interest"]].to_numpy().sum()
    assert book.equity(panel.array("close")[-1]) == pytest.approx(result.equity.iloc[-1], abs=1e-9)
    assert len(ledger.financing()) > 0


def test_cash_and_positions_are_equity_at_every_bar(panel: fc.Panel) -> None:
    rows, targets = decisions(panel)
    wish = dict(zip(panel.times[rows], targets))
    engine = Engine(panel.assets, SimulatedBroker(EVERYTHING), (), "next_open")
    for bar in PanelFeed(panel, EVERYTHING):
        engine.step(bar, lambda now, _: wish.get(now.time))
        assert engine.record[-1][0] == pytest.approx(engine.book.equity(bar.close), abs=1e-9)
        assert engine.record[-1][3] == pytest.approx(engine.book.weights(bar.close).to_numpy(), abs=1e-9)


def test_batch_equals_step_by_step(panel: fc.Panel) -> None:
    """What a live account does bar by bar is what the backtest did."""
    rows, targets = decisions(panel)
    whole = run_decisions(panel, rows, targets, costs=EVERYTHING, limits=(fc.GrossLimit(1.5),))
    wish = dict(zip(panel.times[rows], targets))
    engine = Engine(panel.assets, SimulatedBroker(EVERYTHING), (fc.GrossLimit(1.5),))
    for row in range(len(panel)):
        known = panel.rows(0, row + 1)  # a feed that has nothing but the past
        engine = run(PanelFeed(known, EVERYTHING, row), engine, lambda bar, _: wish.get(bar.time))
    assert (engine.result(panel.array("close"), panel.times).equity_array == whole.equity_array).all()


def test_next_open_fills_at_the_open_of_the_next_bar(panel: fc.Panel) -> None:
    result = run_decisions(
        panel, np.array([5]), np.array([[1.0, 0, 0, 0]]), costs=fc.Costs.free(), execution="next_open"
    )
    trade = result.trades().iloc[0]
    assert trade["date"] == panel.times[6]
    assert trade["price"] == panel.array("open")[6, 0]
    gain = panel.array("close")[6, 0] / panel.array("open")[6, 0]
    assert result.equity.iloc[6] == pytest.approx(gain, rel=1e-13)


def test_zero_trade_costs_nothing_and_a_rebalance_is_idempotent(panel: fc.Panel) -> None:
    costs = replace(EVERYTHING, participation=None)
    broker = SimulatedBroker(costs)
    bar = next(iter(PanelFeed(panel, EVERYTHING, 60)))
    book, price = Book(panel.assets), panel.array("close")[60]
    target = np.array([0.001, -0.001, 0.002, 0.0])
    first = broker.rebalance(book, 1.0, target, bar.quote(price))
    value = first.units * price
    book.units = book.units + first.units
    book.cash -= value.sum() + costs.rate * np.abs(value).sum() + first.impact.sum()
    assert book.weights(price).to_numpy() == pytest.approx(target, abs=1e-15)
    again = broker.rebalance(book, book.equity(price), target, bar.quote(price))
    assert np.abs(again.units * price).max() < 1e-15
    nothing = broker.rebalance(Book(panel.assets), 1.0, np.zeros(4), bar.quote(price))
    assert (nothing.units == 0).all()


@pytest.mark.parametrize(("law", "power"), [("sqrt", 0.5), ("linear", 1.0)])
def test_impact_follows_its_law_with_causal_volatility_and_volume(law: str, power: float, panel: fc.Panel) -> None:
    costs = fc.Costs(commission_bps=0, impact=law, impact_coefficient=0.7, capital=1e8)
    result = run_decisions(panel, np.array([99]), np.array([[0.5, 0, 0, 0]]), costs=costs)
    trade = result.trades().iloc[0]
    close, volume = panel.close()["A0"], panel.frame("volume")["A0"]
    sigma = close.pct_change().iloc[79:100].std()  # 21 returns up to bar 99, the fill is at bar 100
    adv = (close * volume).iloc[79:100].mean()
    value = abs(trade["units"] * trade["price"])
    assert trade["impact"] == pytest.approx(0.7 * sigma * value * (value * 1e8 / adv) ** power, rel=1e-9)
    assert trade["date"] == panel.times[100]


def test_liquidity_does_not_know_the_bar_of_the_fill(panel: fc.Panel) -> None:
    whole, cut = Liquidity.of(panel, 21), Liquidity.of(panel.rows(0, 101), 21)
    assert (whole.adv[:101] == cut.adv).all()
    fields = {key: panel.array(key).copy() for key in panel.fields}
    fields["close"][100:] *= 3
    other = Liquidity.of(panel.replace(fields), 21)
    assert (other.adv[:101] == whole.adv[:101]).all()
    assert (other.volatility[:101] == whole.volatility[:101]).all()


def test_participation_fills_in_parts_until_done(panel: fc.Panel) -> None:
    costs = fc.Costs(commission_bps=0, participation=0.05, capital=1e9)
    result = run_decisions(panel, np.array([50]), np.array([[0.2, 0, 0, 0]]), costs=costs)
    trades = result.trades()
    assert len(trades) > 3
    share = trades["units"] * trades["price"] * 1e9
    traded = (panel.close()["A0"] * panel.frame("volume")["A0"]).loc[trades["date"]].to_numpy()
    assert (share <= 0.05 * traded * (1 + 1e-9)).all()
    assert result.weights["A0"].max() == pytest.approx(0.2, abs=0.02)


def test_financing_of_shorts_leverage_and_cash() -> None:
    prices = np.full((3, 2), 10.0)
    panel = fc.Panel({"close": prices}, pd.bdate_range("2020-01-01", periods=3), ["A", "B"])
    short = run_decisions(
        panel, np.array([0]), np.array([[-0.5, 0.0]]), costs=fc.Costs(0, borrow_rate=0.252), execution="same_close"
    )
    assert short.equity.iloc[1] == pytest.approx(1 - 0.5 * 0.001, abs=1e-12)
    geared = run_decisions(
        panel, np.array([0]), np.array([[1.0, 1.0]]), costs=fc.Costs(0, funding_rate=0.252), execution="same_close"
    )
    assert geared.equity.iloc[1] == pytest.approx(1 - 0.001, abs=1e-12)
    idle = run_decisions(
        panel, np.array([0]), np.array([[0.25, 0.0]]), costs=fc.Costs(0, cash_rate=0.252), execution="same_close"
    )
    assert idle.equity.iloc[1] == pytest.approx(1 + 0.75 * 0.001, abs=1e-12)


def test_only_members_are_held(panel: fc.Panel) -> None:
    mask = np.ones(panel.shape, dtype=bool)
    mask[:, 2] = False
    mask[200:, 1] = False
    from foliocast.core.market import Universe

    result = run_decisions(panel.replace(universe=Universe(mask)), np.arange(100, 300), np.full((200, 4), 0.25))
    assert (result.weights["A2"] == 0).all()
    assert (result.weights["A1"].iloc[200:] == 0).all()
    assert result.weights["A1"].iloc[150] > 0


def test_costs_refuse_nonsense() -> None:
    with pytest.raises(ConfigError, match="basis points"):
        fc.Costs(commission_bps=5000)
    with pytest.raises(ConfigError, match="borrow_rate"):
        fc.Costs(borrow_rate=-0.1)
    with pytest.raises(ConfigError, match="expected 'none', 'sqrt' or 'linear'"):
        fc.Costs(impact="cubic")
    with pytest.raises(ConfigError, match="participation"):
        fc.Costs(participation=0.0)
    prices = make_panel(50, 2).close()
    weights = pd.DataFrame(0.5, prices.index, prices.columns)
    with pytest.raises(ConfigError, match="need volumes"):
        fc.backtest(weights, prices, fc.Costs(impact="sqrt"))
