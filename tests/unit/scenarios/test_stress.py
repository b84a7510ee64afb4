"""Stress on markets whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, DataError, HistoryError, InfeasibleError
from foliocast.core.panel import Panel
from foliocast.scenarios import stress
from foliocast.scenarios.bootstrap import BlockBootstrap
from foliocast.stats.measures import cvar, value_at_risk

RNG = np.random.default_rng(0)


def planted() -> Panel:
    times = pd.bdate_range("2019-01-01", "2021-12-31")
    close = np.full((len(times), 3), 100.0)
    low = times.searchsorted(pd.Timestamp("2020-03-23"))
    high = times.searchsorted(pd.Timestamp("2020-02-19"))
    close[high : low + 1, 0] = np.linspace(100, 60, low - high + 1)
    close[low + 1 :, 0] = 90
    close[:, 1] = np.linspace(100, 130, len(times))
    close[: high + 5, 2] = np.nan
    return Panel({"close": close}, times, ["crash", "up", "late"])


def test_episodes_replay_prices_of_all_assets_at_once() -> None:
    panel = planted()
    table = stress.historical(panel, pd.Series({"crash": 0.5, "up": 0.5}))
    row = table.loc["2020 pandemic"]
    close = panel.close().loc["2020-02-19":"2020-03-23"]
    assert row["return"] == pytest.approx(0.5 * -0.4 + 0.5 * (close["up"].iloc[-1] / close["up"].iloc[0] - 1))
    assert row["bars"] == len(close) - 1
    assert row["max_drawdown"] == pytest.approx(row["return"], abs=1e-3)
    assert row["covered"] == 1
    outside = table.loc["2008 financial crisis"]
    assert outside["bars"] == 0
    assert np.isnan(outside["return"])


def test_what_was_not_quoted_is_said() -> None:
    own = {"mine": ("2020-02-19", "2020-03-23")}
    row = stress.historical(planted(), pd.Series({"crash": 0.75, "late": 0.25}), own).loc["mine"]
    assert row["covered"] == pytest.approx(0.75)
    assert row["missing"] == "late"
    assert row["return"] == pytest.approx(0.75 * -0.4)
    with pytest.raises(DataError, match="nobody"):
        stress.historical(planted(), pd.Series({"nobody": 1.0}))


def test_factor_shock_recovers_betas_and_covers_the_truth() -> None:
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        f = pd.DataFrame(rng.normal(0, 0.01, (120, 2)), columns=["oil", "rates"])
        beta = np.array([[0.5, -1.0], [2.0, 0.3]])
        r = pd.DataFrame(f.to_numpy() @ beta + rng.normal(0, 0.01, (120, 2)), columns=["a", "b"])
        found = stress.factor_shock(r, pd.Series({"a": 0.6, "b": 0.4}), f, {"oil": -0.1, "rates": 0.02}, level=0.9)
        truth = np.array([-0.1, 0.02]) @ beta @ [0.6, 0.4]
        hits += found.low <= truth <= found.high
        assert found.portfolio == pytest.approx(found.assets["response"] @ [0.6, 0.4])
    assert 0.84 < hits / 200 < 0.96


def test_factor_shock_refuses_short_or_unknown() -> None:
    r = pd.DataFrame(RNG.normal(size=(20, 1)), columns=["a"])
    f = pd.DataFrame(RNG.normal(size=(20, 1)), columns=["oil"])
    with pytest.raises(HistoryError, match="20 bars"):
        stress.factor_shock(r, pd.Series({"a": 1.0}), f, {"oil": -0.1})
    with pytest.raises(DataError, match="gold"):
        stress.factor_shock(r, pd.Series({"a": 1.0}), f, {"gold": -0.1})


def test_monte_carlo_is_the_measures_of_the_scenarios() -> None:
    s = ScenarioSet.from_returns(RNG.normal(0, 0.01, (5000, 6, 2)), ["a", "b"], RNG.dirichlet(np.ones(5000)))
    w = pd.Series({"a": 0.7, "b": 0.2})
    out = stress.monte_carlo(s, w, 0.9)
    total = s.portfolio(w)
    assert out.var == pytest.approx(value_at_risk(total, 0.9, s.probabilities))
    assert out.cvar == pytest.approx(cvar(total, 0.9, s.probabilities))
    assert out.mean == pytest.approx(s.probabilities @ total)
    assert out.worst == total.min()
    assert out.deep_drawdown <= out.max_drawdown < 0
    assert out.quantiles["0.5"] == pytest.approx(np.median(total), abs=2e-3)
    assert out.var > 0.005  # rows stay together: shuffled assets and dates would give far less


def test_conditional_keeps_the_event_and_moves_the_rest() -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(0, 0.01, (600, 1))
    r = pd.DataFrame(common + rng.normal(0, 0.005, (600, 2)), columns=["a", "b"])
    r.index = pd.bdate_range("2015-01-01", periods=600)
    model = BlockBootstrap(random_state=0).fit(r)
    out, table = stress.conditional(model, r, pd.Series({"a": 0.5, "b": 0.5}), {"a": -0.1}, 5, 500)
    assert table.loc["a", "mean"] == pytest.approx(-0.1)
    assert table.loc["b", "mean"] < table.loc["b", "unconditional"] - 0.02
    assert table["contribution"].sum() == pytest.approx(out.mean)


def test_reverse_stress_is_the_nearest_point_of_its_plane() -> None:
    cov = np.array([[0.04, 0.01, 0.0], [0.01, 0.09, 0.02], [0.0, 0.02, 0.01]]) * 0.01
    s = ScenarioSet.from_returns(RNG.multivariate_normal([0.001, 0.0, 0.002], cov, 40_000), list("abc"))
    w = pd.Series({"a": 0.5, "b": 0.3, "c": 0.2})
    found = stress.reverse(s, w, 0.03)
    assert found.scenario @ w == pytest.approx(-0.03)
    total = s.cumulative()
    inverse = np.linalg.inv(np.cov(total, rowvar=False, bias=True))

    def far(r: np.ndarray) -> float:
        return float((r - total.mean(0)) @ inverse @ (r - total.mean(0)))

    best = found.scenario.to_numpy()
    assert np.sqrt(far(best)) == pytest.approx(found.distance, rel=1e-9)
    for _ in range(50):
        other = best + RNG.normal(0, 0.01, 3)
        other -= w.to_numpy() * (other @ w + 0.03) / (w @ w)
        assert far(other) >= far(best)
    assert (found.nearest["return"] <= -0.03).all()
    assert found.nearest["distance"].is_monotonic_increasing
    assert found.probability == pytest.approx((total @ w <= -0.03).mean())


def test_reverse_stress_of_cash_and_of_nonsense() -> None:
    s = ScenarioSet.from_returns(RNG.normal(0, 0.01, (100, 2)), ["a", "b"])
    with pytest.raises(InfeasibleError, match="no risk"):
        stress.reverse(s, pd.Series({"a": 0.0}), 0.1)
    with pytest.raises(ConfigError, match="positive"):
        stress.reverse(s, pd.Series({"a": 1.0}), -0.1)


def test_broken_correlation_keeps_margins_and_hits_its_target() -> None:
    s = ScenarioSet.from_returns(RNG.standard_t(4, (20_000, 3)) * 0.01, list("abc"))
    for target in (0.0, 0.5, 0.9):
        moved = stress.break_correlation(s, target)
        np.testing.assert_array_equal(np.sort(moved.cumulative(), axis=0), np.sort(s.cumulative(), axis=0))
        ranks = pd.DataFrame(moved.cumulative()).rank().corr().to_numpy()
        spearman = 6 / np.pi * np.arcsin(target / 2)
        np.testing.assert_allclose(ranks[np.triu_indices(3, 1)], spearman, atol=0.03)
    table = stress.correlation_breakdown(s, pd.Series({"a": 0.4, "b": 0.3, "c": 0.3}))
    assert table["cvar"].loc[["0", "0.3", "0.6", "0.9"]].is_monotonic_increasing
    hedged = stress.correlation_breakdown(s, pd.Series({"a": 0.5, "b": -0.5}))
    assert hedged["cvar"].loc["0.9"] < hedged["cvar"].loc["0"]
    with pytest.raises(ConfigError, match="correlation"):
        stress.break_correlation(s, -0.9)
