from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, DataError, LookAheadError
from foliocast.workflows.simulate import LEVELS, MODELS, make_model, simulate, summary
from markets import make_panel

CLASSICAL = [name for name in MODELS if name not in ("diffusion", "pretrained")]


@pytest.mark.parametrize("name", CLASSICAL)
def test_every_name_simulates_what_is_given(name: str) -> None:
    panel = make_panel(300, 3)
    given = {"A0": -0.2}
    scenarios = simulate(panel, name, ["A0", "A2"], horizon=5, n=80, given=given, seed=3)
    assert scenarios.returns.shape == (80, 5, 2)
    assert np.array_equal(scenarios.returns, simulate(panel, name, ["A0", "A2"], 5, 80, given, 3).returns)
    text = json.loads(json.dumps(summary(scenarios, given)))
    assert text["given"]["A0"]["largest_miss"] < 1e-6
    assert text["assets"]["A0"]["mean"] == pytest.approx(-0.2)
    assert text["assets"]["A2"]["standard_deviation"] > 0
    values = [text["assets"]["A2"]["quantiles"][f"{level:g}"] for level in LEVELS]
    assert values == sorted(values)


def test_a_path_is_checked_where_it_is_given() -> None:
    given = {"A1": [0.01, None, -0.02]}
    given = {"A1": np.array([np.nan if v is None else v for v in given["A1"]])}
    scenarios = simulate(make_panel(200, 3), "fhs-ewma", horizon=3, n=40, given=given)
    report = summary(scenarios, given)["given"]["A1"]
    assert report["asked"] == [0.01, None, -0.02]
    assert report["largest_miss"] < 1e-6


def test_probabilities_count() -> None:
    returns = np.array([[-0.1], [0.1], [0.3]])
    told = summary(ScenarioSet.from_returns(returns, ["X"], np.array([0.5, 0.5, 0.0])))["assets"]["X"]
    assert told["mean"] == pytest.approx(0.0)
    assert told["probability_of_loss"] == pytest.approx(0.5)
    assert told["standard_deviation"] == pytest.approx(0.1)
    losses = np.full((2000, 1), -0.1)
    certain = summary(ScenarioSet.from_returns(losses, ["X"], np.full(2000, 1 / 2000)))["assets"]["X"]
    assert certain["probability_of_loss"] <= 1.0  # two thousand roundings add up to more


def test_unfit_requests_are_refused_before_the_fit() -> None:
    panel = make_panel(200, 2)
    with pytest.raises(ConfigError, match="choose one of bootstrap"):
        make_model("crystal-ball")
    with pytest.raises(DataError, match="not among the assets"):
        simulate(panel, given={"TSLA": -0.1})
    with pytest.raises(DataError, match="no data for TSLA"):
        simulate(panel, assets=["TSLA"])

    class Later:
        fixed_assets = False

        def simulate(self, history: object, horizon: int, n: int, given: object, random_state: int) -> ScenarioSet:
            until = pd.Timestamp("2031-01-01")
            return ScenarioSet(np.zeros((n, horizon, 2)), ("A0", "A1"), panel.times[-1], knowledge_until=until)

    with pytest.raises(LookAheadError, match="has seen data up to 2031"):
        simulate(panel, Later())  # type: ignore[arg-type]
