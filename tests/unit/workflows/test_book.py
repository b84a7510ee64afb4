"""Books: read, proposed under limits, walked along the frontier, compared."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, DataError
from foliocast.workflows import book as b

CALM, WILD = 0.01, 0.04


@pytest.fixture(scope="module")
def scenarios() -> ScenarioSet:
    rng = np.random.default_rng(0)
    scale, mean = np.array([CALM, 0.02, WILD]), np.array([0.001, 0.003, 0.008])
    return ScenarioSet.from_returns(mean + rng.standard_normal((1500, 3)) * scale, ["CALM", "MID", "WILD"])


def test_a_book_is_read() -> None:
    read = b.read_book(io.BytesIO(b"asset,weight\nNVDA,0.5\nMSFT,-0.1\n"))
    assert read.to_dict() == {"NVDA": 0.5, "MSFT": -0.1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "expected asset and weight"),
        ("asset,weight\nNVDA,much\n", "row 2"),
        ("asset,weight\nA,0.1\nA,0.2\n", "A twice"),
        ("asset,weight\n", "no rows"),
        ("asset,weight\nA,40\nB,60\n", "fractions"),
        ("", "cannot be read"),
    ],
)
def test_a_bad_book_is_told(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        b.read_book(io.BytesIO(text.encode()))


def test_objectives_do_what_they_say(scenarios: ScenarioSet) -> None:
    safe = b.propose(scenarios, b.Taste("min_risk", "volatility"))
    rich = b.propose(scenarios, b.Taste("max_return"))
    assert safe.weights.sum() == pytest.approx(1.0)
    assert safe.weights["CALM"] > 0.6
    assert rich.weights["WILD"] == pytest.approx(1.0)
    assert safe.gap < 1e-6


def test_limits_hold(scenarios: ScenarioSet) -> None:
    present = pd.Series({"CALM": 1.0})
    capped = b.propose(scenarios, b.Taste("max_return", max_weight=0.6)).weights
    assert capped.max() <= 0.6 + 1e-6
    two = b.propose(scenarios, b.Taste("min_risk", max_names=1)).weights
    assert (two > 0).sum() == 1
    slow = b.propose(scenarios, b.Taste("max_return", max_turnover=0.4), present).weights
    assert b.trades(present, slow).abs().sum() <= 0.4 + 1e-6
    dear = b.propose(scenarios, b.Taste("max_return", cost_bps=1000.0), present).weights
    assert dear["CALM"] == pytest.approx(1.0, abs=1e-5)
    both = b.propose(scenarios, b.Taste("max_utility", "volatility", short=0.3)).weights
    assert both.clip(upper=0).sum() >= -0.3 - 1e-6
    with pytest.raises(ConfigError, match="cannot add up"):
        b.propose(scenarios, b.Taste(max_weight=0.2))


def test_kelly_keeps_cash_and_shrinks_for_what_it_cannot_know(scenarios: ScenarioSet) -> None:
    half = b.propose(scenarios, b.Taste("kelly", kelly_fraction=0.5))
    humble = b.propose(scenarios, b.Taste("kelly", kelly_fraction=0.5, observations=60.0))
    assert 0 < half.weights.sum() <= 0.5 + 1e-9
    assert humble.shrinkage < half.shrinkage == 1.0
    assert humble.weights.sum() < half.weights.sum()


def test_the_frontier_rises_and_books_lie_below_it(scenarios: ScenarioSet) -> None:
    taste = b.Taste(risk="cvar")
    line = b.frontier(scenarios, taste, n_points=6)
    assert (np.diff(line["expected_return"]) > 0).all()
    assert (np.diff(line["risk"]) > 0).all()
    even = b.place(scenarios, pd.Series(1 / 3, index=scenarios.assets), taste)
    assert even["expected_return"] < np.interp(even["risk"], line["risk"], line["expected_return"])


def test_comparison_counts_names_cash_and_trades(scenarios: ScenarioSet) -> None:
    now, then = pd.Series({"CALM": 0.5}), pd.Series({"CALM": 0.5, "WILD": 0.5})
    table = b.compare(scenarios, {"now": now, "then": then}, present="now")
    assert table.loc["now", "cash"] == 0.5
    assert table.loc["then", "effective_names"] == pytest.approx(2.0)
    assert table.loc["then", "turnover"] == 0.5
    assert table.loc["then", "cvar"] > table.loc["now", "cvar"] > 0


def test_growth_peaks_at_the_kelly_bet(scenarios: ScenarioSet) -> None:
    full = b.propose(scenarios, b.Taste("kelly", kelly_fraction=1.0, max_weight=1.0)).weights
    curve = b.growth_curve(scenarios, full * 0.5, np.array([0.0, 1.0, 2.0]))
    assert curve["growth"].iloc[0] == 0.0
    assert curve["growth"].is_monotonic_increasing
    ruin = ScenarioSet.from_returns(np.array([[0.5], [-0.9]]), ["A"])
    assert b.growth_curve(ruin, pd.Series({"A": 1.0}))["growth"].iloc[-1] == -np.inf


def test_shares_of_risk_add_up(scenarios: ScenarioSet) -> None:
    shares = b.risk_shares(scenarios, pd.Series({"CALM": 0.5, "WILD": 0.5}))
    assert shares["share_cvar"].sum() == pytest.approx(1.0)
    assert shares.loc["WILD", "share_cvar"] > shares.loc["CALM", "share_cvar"]
