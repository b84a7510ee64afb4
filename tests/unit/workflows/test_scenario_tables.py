"""Tables behind the pictures of scenarios: closed forms, and no look ahead."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.panel import Panel
from foliocast.workflows.scenario_tables import correlations, fan, history_totals, infill


def test_a_fan_is_of_the_holding_bought_now_and_held() -> None:
    returns = np.array([[[0.1, 0.0], [0.1, -0.5]], [[-0.1, 0.0], [0.0, 1.0]]])
    table = fan(ScenarioSet.from_returns(returns, ["A", "B"]), pd.Series({"A": 0.5}), 100.0, (0.8,))
    assert table.loc[0].tolist() == [100.0] * 4
    paths = np.array([100 * (1 + 0.5 * 0.21), 100 * (1 - 0.5 * 0.1)])
    assert table.loc[2, "mean"] == pytest.approx(paths.mean())
    assert table.loc[2, "low_80"] == pytest.approx(np.quantile(paths, 0.1))
    assert table.loc[2, "high_80"] == pytest.approx(np.quantile(paths, 0.9))


def test_a_fan_respects_probabilities() -> None:
    sure = ScenarioSet.from_returns(np.array([[[0.1]], [[-0.5]]]), ["A"], probabilities=np.array([1.0, 0.0]))
    table = fan(sure, pd.Series({"A": 1.0}))
    assert np.allclose(table.loc[1], 1.1)


def test_correlations_are_those_of_the_draws(panel: Panel) -> None:
    rng = np.random.default_rng(0)
    draws = rng.multivariate_normal([0, 0], [[1e-4, 6e-5], [6e-5, 1e-4]], size=(400, 5))
    drawn, past = correlations(ScenarioSet.from_returns(draws, ["A0", "A1"]), panel)
    assert drawn.loc["A0", "A1"] == pytest.approx(np.corrcoef(draws.reshape(-1, 2).T)[0, 1])
    assert past.loc["A0", "A1"] == pytest.approx(panel.returns()[["A0", "A1"]].corr().iloc[0, 1])


def test_totals_of_history_compound(panel: Panel) -> None:
    close = panel.close()["A2"]
    totals = history_totals(panel, ["A2"], 10)
    assert totals["A2"].iloc[-1] == pytest.approx(close.iloc[-1] / close.iloc[-11] - 1)


def test_infill_shows_the_others_and_hides_the_one() -> None:
    rng = np.random.default_rng(3)
    common = rng.normal(0, 0.01, (700, 1))
    close = 100 * np.cumprod(1 + np.hstack([common, common + rng.normal(0, 0.001, (700, 1))]), axis=0)
    twins = Panel({"close": close}, pd.bdate_range("2015-01-01", periods=700), ["A", "B"], name="twins")
    found = infill(twins, "A", ["B"], "fhs-ewma", horizon=10, n=400)
    assert found.actual[-1] == close[-1, 0]
    assert found.crps_told < 0.3 * found.crps_free
    last = found.told.iloc[-1], found.free.iloc[-1]
    assert last[0]["high_80"] - last[0]["low_80"] < 0.3 * (last[1]["high_80"] - last[1]["low_80"])

    changed = close.copy()
    changed[-10:, 0] *= np.linspace(1.1, 3.0, 10)
    other = infill(Panel({"close": changed}, twins.times, ["A", "B"], name="twins"), "A", ["B"], "fhs-ewma", 10, 400)
    pd.testing.assert_frame_equal(other.told, found.told)


def test_infill_needs_something_shown_and_quotes(panel: Panel) -> None:
    with pytest.raises(ConfigError, match="other than A0"):
        infill(panel, "A0", ["A0"])
    with pytest.raises(HistoryError, match="quoted"):
        infill(panel, "A0", ["A1"], horizon=5000)
