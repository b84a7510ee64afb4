"""Attributions of money and risk add up, to 1e-9, whatever the account did."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import foliocast as fc
from foliocast.core.errors import DataError
from foliocast.explain import attribution as at
from markets import make_panel

PANEL = make_panel(300, 5)


def account(execution: str, costs: fc.Costs, short: bool = True) -> tuple[at.Flows, fc.BacktestResult]:
    rng = np.random.default_rng(3)
    signs = np.array([1.0, 1.0, -0.5 if short else 1.0, 0.8, 0.4])
    strategy_rows = PANEL.times[100:290:7]
    weights = pd.DataFrame(rng.dirichlet(np.ones(5), len(strategy_rows)) * signs, strategy_rows, list(PANEL.assets))
    result = fc.backtest(
        weights,
        PANEL.close().iloc[100:],
        costs,
        execution,
        opens=PANEL.frame("open").iloc[100:] if execution == "next_open" else None,
        volumes=PANEL.frame("volume").iloc[100:] if costs.impact != "none" else None,
    )
    flows = at.account_flows(result.trades(), PANEL.close(), result.equity, result.financing())
    return flows, result


CASES = {
    "closes": ("next_close", fc.Costs(commission_bps=10, half_spread_bps=3)),
    "opens": ("next_open", fc.Costs(commission_bps=10)),
    "same close": ("same_close", fc.Costs(commission_bps=10)),
    "financed": ("next_close", fc.Costs(commission_bps=5, borrow_rate=0.05, funding_rate=0.03, cash_rate=0.02)),
    "impact": ("next_open", fc.Costs(commission_bps=5, impact="sqrt", borrow_rate=0.02)),
}


@pytest.mark.parametrize("case", list(CASES))
def test_every_grouping_of_the_money_adds_up_to_the_change_of_equity(case: str) -> None:
    flows, result = account(*CASES[case])
    total = float(result.equity.iloc[-1]) - 1.0
    assert flows.total == pytest.approx(total, abs=1e-9)
    regimes = pd.Series(np.where(np.arange(300) % 50 < 20, "calm", "wild"), PANEL.times)
    tables = [
        at.attribute_money(flows),
        at.attribute_by(flows, regimes, "regime"),
        at.summed(at.factor_flows(flows, at.statistical_factors(PANEL.returns())), "factor"),
    ]
    sums = pd.concat(tables).groupby("by")["value"].sum()
    assert set(sums.index) == {"asset", "cost", "regime", "factor"}
    assert np.abs(sums - total).max() < 1e-9


@pytest.mark.parametrize("case", list(CASES))
def test_every_grouping_of_the_risk_adds_up_to_the_volatility(case: str) -> None:
    flows, result = account(*CASES[case])
    total = float(result.returns.std(ddof=0))
    regimes = pd.Series(np.where(np.arange(300) % 50 < 20, "calm", "wild"), PANEL.times)
    factors = at.factor_flows(flows, at.statistical_factors(PANEL.returns(), 2))
    tables = [
        at.attribute_risk(flows),
        at.attribute_risk(flows, factors, "factor"),
        at.attribute_risk(flows, at.cost_flows(flows), "cost"),
        at.attribute_risk_by(flows, regimes, "regime"),
    ]
    for table in tables:
        assert table["value"].sum() == pytest.approx(total, abs=1e-9)


def test_costs_are_what_was_charged() -> None:
    flows, result = account("next_close", fc.Costs(commission_bps=10, half_spread_bps=3))
    table = at.attribute_money(flows).set_index(["by", "name"])["value"]
    trades = result.trades()
    assert table["cost", "commission"] == pytest.approx(-trades["commission"].sum())
    assert table["cost", "spread"] == pytest.approx(-trades["spread"].sum())
    assert table["cost", "before costs"] > table["cost"].sum()


def test_a_market_without_costs_has_a_known_attribution() -> None:
    """One asset is bought at the first close and held: all money is its own, whatever it is called."""
    weights = pd.DataFrame([[1.0, 0, 0, 0, 0]], PANEL.times[:1], list(PANEL.assets))
    result = fc.backtest(weights, PANEL.close(), fc.Costs.free(), "same_close")
    flows = at.account_flows(result.trades(), PANEL.close(), result.equity)
    by_asset = at.attribute_money(flows).query("by == 'asset'").set_index("name")["value"]
    assert by_asset["A0"] == pytest.approx(PANEL.close()["A0"].iloc[-1] / PANEL.close()["A0"].iloc[0] - 1)
    assert (by_asset.drop("A0") == 0).all()
    own = at.summed(at.factor_flows(flows, PANEL.returns()[["A0"]]), "factor").set_index("name")["value"]
    assert own["A0"] == pytest.approx(by_asset["A0"], abs=1e-12)
    assert abs(own["specific"]) < 1e-12


def test_another_record_is_refused() -> None:
    result = fc.backtest(
        pd.DataFrame(0.2, PANEL.times[:200:10], list(PANEL.assets)), PANEL.close(), fc.Costs(), "next_close"
    )
    with pytest.raises(DataError, match="changed since the run"):
        at.account_flows(result.trades(), PANEL.close() ** 1.01, result.equity)


def test_what_features_were_expected_to_earn_and_the_surprise_are_what_was_earned() -> None:
    rng = np.random.default_rng(0)
    flows, result = account("next_close", fc.Costs(commission_bps=10))
    times, assets = PANEL.times[200:220], list(PANEL.assets)
    rows = pd.MultiIndex.from_product([times, assets], names=["time", "asset"]).to_frame(index=False)
    parts = {name: rng.normal(0, 0.01, len(rows)) for name in ("base", "momentum_10", "rest")}
    predictions = rows.assign(method="shap", predicted=sum(parts.values()), **parts)
    table = at.feature_flows(flows, predictions, result.weights)
    assert table.sum().sum() == pytest.approx(flows.total, abs=1e-9)
    np.testing.assert_allclose(table.sum(axis=1), flows.bars(), atol=1e-15)
    money = result.weights.loc[times].mul(result.equity.loc[times], axis=0).to_numpy().ravel()
    assert table["momentum_10"].sum() == pytest.approx(float(money @ parts["momentum_10"]))
    after = PANEL.returns().shift(-1).loc[times].to_numpy().ravel()
    expected = table[["base", "momentum_10", "rest", "surprise"]].sum().sum()
    assert expected == pytest.approx(float(money @ after), abs=1e-12)
    risk = at.attribute_risk(flows, table, "feature")
    assert risk["value"].sum() == pytest.approx(float(result.returns.std(ddof=0)), abs=1e-9)
