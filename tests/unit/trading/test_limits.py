"""Limits in simulated crashes: they hold, one action a breach, and the ledger says why."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import foliocast as fc
from foliocast.core.errors import ConfigError
from foliocast.trading.loop import run_decisions


def crash_panel(seed: int = 0, n_bars: int = 700, falls: tuple[int, ...] = (400,)) -> fc.Panel:
    """Two assets that drift up and fall by about 40 % within 20 bars, more than once if wanted."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.0008, 0.005, (n_bars, 2))
    for start in falls:
        returns[start : start + 20] = rng.normal(-0.025, 0.01, (20, 2))
    close = 100 * np.cumprod(1 + returns, axis=0)
    return fc.Panel({"close": close}, pd.bdate_range("2015-01-01", periods=n_bars), ["A", "B"])


def constant(panel: fc.Panel, weight: float = 0.5, start: int = 260) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(start, len(panel))
    return rows, np.full((len(rows), 2), weight)


def kinds(result: fc.BacktestResult, kind: str) -> pd.DataFrame:
    return result.actions().query("kind == @kind")


def test_drawdown_limit_acts_once_and_holds_in_the_crash() -> None:
    panel = crash_panel()
    free = run_decisions(panel, *constant(panel))
    held = run_decisions(panel, *constant(panel), limits=(fc.DrawdownLimit(0.1, cooldown=60, calm=None),))
    assert free.metrics()["max_drawdown"] < -0.3
    r = held.returns
    worst_bar = r.min()
    assert held.metrics()["max_drawdown"] > -0.1 + 2 * worst_bar  # the bar of the breach and the bar of the fill
    assert len(kinds(held, "breach")) == 1
    assert len(kinds(held, "re-entry")) == 1
    breach, back = kinds(held, "breach")["date"].iloc[0], kinds(held, "re-entry")["date"].iloc[0]
    gross = held.positions()
    after = panel.times.get_loc(breach)
    assert (gross.iloc[after + 1 : panel.times.get_loc(back)] == 0).all()
    assert gross.iloc[-1] == pytest.approx(1.0, abs=1e-9)
    assert panel.times.get_loc(back) - after == 60


def test_every_crash_is_one_breach() -> None:
    panel = crash_panel(n_bars=1000, falls=(400, 600, 800))
    result = run_decisions(panel, *constant(panel), limits=(fc.DrawdownLimit(0.1, cooldown=30),))
    assert len(kinds(result, "breach")) == len(kinds(result, "re-entry")) == 3


def test_partial_cut_scales_wishes_until_reentry() -> None:
    panel = crash_panel()
    result = run_decisions(panel, *constant(panel), limits=(fc.DrawdownLimit(0.1, keep=0.25, cooldown=60, calm=None),))
    after = panel.times.get_loc(kinds(result, "breach")["date"].iloc[0])
    gross = result.positions().iloc[after + 1 : after + 59]
    assert gross.to_numpy() == pytest.approx(0.25, abs=1e-9)  # not halved again every day
    assert len(kinds(result, "breach")) == 1


def test_value_at_risk_limit_holds_on_wishes_and_holdings() -> None:
    panel = crash_panel()
    limit = fc.ValueAtRiskLimit(0.01, window=120)
    result = run_decisions(panel, *constant(panel, 1.0), limits=(limit,), execution="same_close")
    past = np.nan_to_num(panel.return_array())
    weights = result.weights.to_numpy()
    risk = [limit.measure(weights[t], past[1 : t + 1]) for t in range(261, len(panel))]
    assert np.max(risk) <= 0.01 * (1 + 1e-9)
    assert np.mean(risk) > 0.008
    actions = result.actions()
    assert (actions["measured"] > actions["allowed"]).all()
    assert not actions.duplicated(["date", "kind"]).any()
    assert actions["reason"].str.contains("value at risk").all()


def test_value_at_risk_breach_of_what_is_held_is_cut_once() -> None:
    panel = crash_panel()
    limit = fc.ValueAtRiskLimit(0.015, window=120, model="history")
    result = run_decisions(panel, np.array([260]), np.array([[0.5, 0.5]]), limits=(limit,))
    breaches = kinds(result, "breach")
    assert len(breaches) >= 1
    trades = result.trades()
    cuts = trades[trades["reason"].astype(str).str.startswith("limit")]
    assert cuts["date"].nunique() == len(breaches)
    positions = panel.times.get_indexer(breaches["date"])
    assert (np.diff(positions) > 1).all()


def test_position_gross_net_and_turnover_limits_cut_wishes() -> None:
    panel = crash_panel(falls=())
    rows, wish = np.array([300, 400]), np.array([[0.9, 0.6], [0.9, -0.1]])
    position = run_decisions(panel, rows, wish, limits=(fc.PositionLimit(0.5),), execution="same_close")
    assert position.weights.iloc[300].tolist() == pytest.approx([0.5, 0.5])
    gross = run_decisions(panel, rows, wish, limits=(fc.GrossLimit(1.0),), execution="same_close")
    assert gross.weights.iloc[300].tolist() == pytest.approx([0.6, 0.4])
    assert gross.weights.iloc[400].tolist() == pytest.approx([0.9, -0.1])
    net = run_decisions(panel, rows, wish, limits=(fc.NetLimit(0.6),), execution="same_close")
    assert net.weights.iloc[300].sum() == pytest.approx(0.6)
    assert net.weights.iloc[400].tolist() == pytest.approx([0.7, -0.1])
    slow = run_decisions(panel, rows, wish, limits=(fc.TurnoverLimit(0.3),), execution="same_close")
    assert slow.weights.iloc[300].tolist() == pytest.approx([0.18, 0.12])
    assert slow.turnover.max() <= 0.3 + 1e-9
    for result in (position, gross, net, slow):
        actions = result.actions()
        assert panel.times[300] in set(kinds(result, "pre-trade")["date"])
        assert set(kinds(result, "pre-trade")["date"]) <= {panel.times[300], panel.times[400]}
        assert not actions["date"].duplicated().any()


def test_gross_limit_cuts_leverage_that_grew_in_a_fall() -> None:
    panel = crash_panel()
    result = run_decisions(panel, np.array([390]), np.array([[1.0, 0.9]]), limits=(fc.GrossLimit(2.0, tolerance=0.1),))
    breaches = kinds(result, "breach")
    assert 1 <= len(breaches) < 8
    assert result.positions().max() < 2.6
    free = run_decisions(panel, np.array([390]), np.array([[1.0, 0.9]]))
    assert free.positions().max() > 4


def test_limits_refuse_nonsense() -> None:
    for bad in (
        lambda: fc.DrawdownLimit(0.0),
        lambda: fc.DrawdownLimit(0.1, keep=1.0),
        lambda: fc.ValueAtRiskLimit(level=0.4),
        lambda: fc.PositionLimit(-1),
    ):
        with pytest.raises(ConfigError):
            bad()
