"""The optimiser's own objects: optimised, charged by the broker, watched by the limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import foliocast as fc
from foliocast.core.errors import ConfigError
from foliocast.trading.costs import as_costs
from foliocast.trading.loop import run_decisions
from foliocast.trading.ownrisk import filtered, loss_mean, loss_quantile


def market(n_bars: int = 420, seed: int = 0) -> fc.Panel:
    """Three assets of different risk; volatility doubles on bar 350."""
    rng = np.random.default_rng(seed)
    returns = 0.0005 + rng.standard_t(5, (n_bars, 3)) * [0.006, 0.01, 0.015]
    returns[350:] *= 2
    close = 100 * np.cumprod(1 + returns, axis=0)
    volume = np.full_like(close, 1e4)
    return fc.Panel({"close": close, "volume": volume}, pd.bdate_range("2015-01-01", periods=n_bars), ["A", "B", "C"])


def history(panel: fc.Panel, row: int, window: int = 252) -> fc.ScenarioSet:
    return fc.ScenarioSet.from_returns(panel.return_array()[1 : row + 1][-window:], list(panel.assets))


RULES: dict[str, Any] = {
    "cvar": lambda: fc.CVaR(0.95) <= 0.012,
    "volatility": lambda: fc.Volatility() <= 0.006,
    "leverage": lambda: fc.Leverage(0.8),
    "turnover": lambda: fc.Turnover() <= 0.25,
}


@pytest.mark.parametrize("name", RULES)
def test_one_object_is_optimised_read_and_watched(name: str) -> None:
    panel, rule = market(), RULES[name]()
    scenarios = history(panel, 300)
    cash = pd.Series(0.0, index=list(panel.assets))
    # optimised
    policy = fc.Optimized(fc.ExpectedReturn(), constraints=(fc.LongOnly(), fc.NetExposure(upper=1), rule))
    weights = policy.allocate(scenarios, cash)
    # read
    measured, allowed = rule.reading(weights, scenarios, cash)
    assert measured == pytest.approx(allowed, rel=1e-5)
    # watched: what just fits passes, half as much again is cut back to it
    for factor, cut in ((1.0 - 1e-6, False), (1.5, True)):
        wish = (weights * factor).to_numpy()[None]
        limit = fc.RuleLimit(rule, model="history", buffer=1.0)
        result = run_decisions(
            panel, np.array([300]), wish, costs=fc.Costs.free(), limits=(limit,), execution="same_close", stop=301
        )
        actions = result.actions()
        assert list(actions["kind"]) == ["pre-trade"] * cut
        if cut:
            got, allowed = rule.reading(result.weights.iloc[-1], scenarios, cash)
            assert got == pytest.approx(allowed, rel=1e-9)
            assert actions["reason"].iloc[0].startswith(str(rule))


def test_a_constraint_can_be_handed_over_as_a_limit() -> None:
    panel = market()
    wish = np.full((6, 3), 0.4)
    rows = np.arange(300, 420, 20)
    rules = (fc.Leverage(1.0), fc.CVaR(0.95) <= 0.02, fc.Turnover() <= 0.5)
    result = run_decisions(panel, rows, wish, limits=rules)
    actions = result.actions()
    assert {"Leverage(1)", "CVaR(alpha=0.95) <= 0.02", "Turnover() <= 0.5"} == set(actions["limit"])
    assert not actions.duplicated(["date", "limit"]).any()
    assert result.positions().max() < 1.05
    cuts = actions.query("kind == 'breach' and limit.str.startswith('CVaR')")
    assert (cuts["date"] >= panel.times[350]).all()  # the shock that its own model sees within days
    assert cuts["date"].iloc[0] <= panel.times[365]


def test_a_rule_that_cash_does_not_meet_is_refused() -> None:
    panel = market()
    with pytest.raises(ConfigError, match="does not hold even when"):
        run_decisions(panel, np.array([300]), np.full((1, 3), 0.3), limits=(fc.ExpectedReturn() >= 0.01,))
    with pytest.raises(ConfigError, match="cannot guard an account"):
        run_decisions(panel, np.array([300]), np.full((1, 3), 0.3), limits=(fc.LongOnly(),))


def test_the_broker_charges_the_terms_that_were_optimised() -> None:
    panel = market()
    terms = fc.TransactionCost(bps=7) + fc.MarketImpact("sqrt", coefficient=0.5, capital=2e5)
    assert as_costs(terms) == fc.Costs(7, impact="sqrt", impact_coefficient=0.5, capital=2e5)
    row, wish = 300, np.array([[0.3, 0.2, 0.1]])
    result = run_decisions(panel, np.array([row]), wish, costs=terms, execution="same_close", stop=row + 1)
    traded = (panel.close() * panel.frame("volume")).rolling(21).mean().shift(1).iloc[row]
    sigma = panel.close().pct_change().rolling(21).std().shift(1).iloc[row]
    told = fc.TransactionCost(bps=7) + fc.MarketImpact("sqrt", 0.5, 2e5, adv=traded, sigma=sigma)
    expected = told.value(wish[0], history(panel, row), np.zeros(3))
    # the broker trades the weights of what is left after costs: a difference of second order
    assert result.cost.iloc[-1] == pytest.approx(expected, rel=2 * expected)
    assert as_costs(fc.TransactionCost(costs=fc.Costs(3, half_spread_bps=2))).rate == pytest.approx(5e-4)
    for bad in (2 * fc.TransactionCost(), fc.TransactionCost() + fc.CVaR(), fc.TransactionCost(bps={"A": 5}), 5):
        with pytest.raises(ConfigError):
            as_costs(bad)


def test_sectors_are_cut_alone_and_each_by_its_own_limit() -> None:
    panel, sectors = market(), {"A": "x", "B": "x", "C": "y"}
    wish = np.array([[0.4, 0.4, 0.2]])
    one = run_decisions(
        panel, np.array([300]), wish, limits=(fc.SectorLimit(sectors, 0.6),), execution="same_close", stop=301
    )
    assert one.weights.iloc[-1].tolist() == pytest.approx([0.3, 0.3, 0.2])
    assert "sector of x 0.8 above 0.6" in one.actions()["reason"].iloc[0]
    own = run_decisions(
        panel, np.array([300]), wish, limits=(fc.SectorLimit(sectors, {"y": 0.1}),), execution="same_close", stop=301
    )
    assert own.weights.iloc[-1].tolist() == pytest.approx([0.4, 0.4, 0.1])
    with pytest.raises(ConfigError, match="no asset is a member of 'z'"):
        fc.SectorLimit(sectors, {"z": 0.1})


def test_liquidity_counts_days_to_sell() -> None:
    panel = market()
    traded = (panel.close() * panel.frame("volume")).rolling(21).mean().shift(1).iloc[300]
    limit = fc.LiquidityLimit(days=2, participation=0.1, capital=1e6)
    result = run_decisions(
        panel, np.array([300]), np.array([[0.5, 0.1, 0.1]]), limits=(limit,), execution="same_close", stop=301
    )
    assert result.weights.iloc[-1]["A"] == pytest.approx(2 * 0.1 * traded["A"] / 1e6, rel=1e-3)
    assert result.actions()["measured"].iloc[0] == pytest.approx(0.5 * 1e6 / (0.1 * traded["A"]))
    dry = fc.Panel({"close": panel.array("close")}, panel.times, panel.assets)
    with pytest.raises(ConfigError, match="volumes"):
        run_decisions(dry, np.array([300]), np.array([[0.5, 0.1, 0.1]]), limits=(limit,))


def test_a_limit_may_measure_with_any_scenario_model() -> None:
    panel = market()
    rows = np.arange(300, 420, 10)
    wish = np.full((len(rows), 3), 1 / 3)
    model = fc.FilteredHistoricalSimulation("ewma", drift="zero")
    results = [run_decisions(panel, rows, wish, limits=(fc.CVaRLimit(0.02, model=model),)) for _ in range(2)]
    assert not hasattr(model, "filter_")  # the caller's model is left alone
    pd.testing.assert_series_equal(results[0].equity, results[1].equity)
    shocked = results[0].actions().query("date >= @panel.times[350]")
    assert len(shocked) >= 1
    assert results[0].positions().iloc[380:].mean() < 0.8


def test_the_limits_own_model_knows_todays_volatility() -> None:
    rng = np.random.default_rng(3)
    returns = rng.normal(0, 0.01, (252, 2))
    returns[-20:] *= 4
    shocked = filtered(returns)
    assert shocked[:200].std() == pytest.approx(0.04, rel=0.25)  # old days at the new volatility
    calm = filtered(rng.normal(0, 0.01, (252, 2)))
    assert calm.std() == pytest.approx(0.01, rel=0.25)
    assert np.isfinite(filtered(np.zeros((100, 1)))).all()


def test_tail_measures_agree_with_the_library() -> None:
    r = np.random.default_rng(4).standard_t(4, 333) * 0.01
    assert loss_mean(r, 0.95) == pytest.approx(fc.stats.measures.cvar(r, 0.95), rel=1e-12)
    assert loss_quantile(r, 0.95) <= loss_mean(r, 0.95)
    assert loss_quantile(r, 0.95) == pytest.approx(fc.stats.measures.value_at_risk(r, 0.95), rel=0.05)


def test_reentry_waits_for_calm() -> None:
    rng = np.random.default_rng(5)
    returns = rng.normal(0.0005, 0.005, (700, 1))
    returns[400:415] -= 0.02
    returns[415:520] = rng.normal(0, 0.03, (105, 1))
    panel = fc.Panel({"close": 100 * np.cumprod(1 + returns, axis=0)}, pd.bdate_range("2015-01-01", periods=700), ["A"])
    rows = np.arange(300, 700, 5)
    back = {}
    for calm in (None, 1.5):
        limit = fc.DrawdownLimit(0.1, cooldown=30, calm=calm)
        actions = run_decisions(panel, rows, np.ones((len(rows), 1)), limits=(limit,)).actions()
        back[calm] = panel.times.get_loc(actions.query("kind == 're-entry'")["date"].iloc[0])
    assert back[None] < 450
    assert 520 < back[1.5] < 600
