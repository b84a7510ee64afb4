from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

import foliocast as fc
from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, HistoryError, LookAheadError
from foliocast.runtime.compute import Compute
from foliocast.workflows.score import Plan, scorecard
from foliocast.workflows.score_page import _gain_figure, _pit_figure, page
from markets import make_panel


@pytest.fixture(scope="module")
def returns() -> pd.DataFrame:
    """Volatility that grows tenfold every other quarter: a filter must win."""
    rng = np.random.default_rng(0)
    scale = np.where((np.arange(900) // 63) % 2, 0.05, 0.005)[:, None]
    x = scale * rng.multivariate_normal(np.zeros(3), 0.5 * np.eye(3) + 0.5, size=900)
    return pd.DataFrame(x, index=pd.bdate_range("2012-01-02", periods=900), columns=list("ABC"))


MODELS = {"iid": fc.BlockBootstrap(1.0), "filtered": fc.FilteredHistoricalSimulation("ewma")}
SMALL = {"train": 400, "refit": 200, "every": 3, "n_scenarios": 100, "horizons": (1, 5)}


def test_the_better_model_stands_first_and_the_test_says_so(returns: pd.DataFrame) -> None:
    table = fc.score(MODELS, returns, **SMALL)
    assert list(table.index) == ["filtered", "iid"]
    assert table.loc["filtered", "energy_1"] < 0.985 * table.loc["iid", "energy_1"]
    assert table.loc["filtered", "p_energy_1"] < 0.01
    assert table.loc["iid", "p_energy_1"] == 1.0
    assert table["cover_1"].between(0.8, 0.98).all()
    assert (table["origins"] == len(range(400, 896, 3))).all()


def test_every_origin_is_scored_once_and_nothing_looks_ahead(returns: pd.DataFrame) -> None:
    card = scorecard(MODELS, returns, **SMALL)
    times = card.per_origin["iid"].index
    assert times.is_unique
    assert times[0] == returns.index[399]
    future = returns.copy()
    future.iloc[700:] = 0.2
    again = scorecard(MODELS, future, **SMALL)
    for name in MODELS:
        early = card.per_origin[name].index <= returns.index[694]
        pd.testing.assert_frame_equal(card.per_origin[name][early], again.per_origin[name][early])
    gap = card.compare("iid")
    assert gap.loc["filtered", ("energy_1", "difference")] < 0
    assert gap.loc["filtered", ("energy_1", "error")] > 0
    with pytest.raises(ConfigError, match="was not scored"):
        card.compare("best")


def test_workers_change_no_bit(returns: pd.DataFrame) -> None:
    small = {**SMALL, "every": 40}
    pd.testing.assert_frame_equal(
        fc.score(MODELS, returns, **small), fc.score(MODELS, returns, run_tasks=Compute(2), **small)
    )


def test_folds_cover_the_origins() -> None:
    folds = Plan(100, 120, 50, 7, (1, 5), 10, 0).folds(260)
    assert [start for start, _ in folds] == [120, 170, 220]
    assert [o for _, part in folds for o in part] == list(range(120, 256, 7))


def test_a_panel_brings_its_ranges() -> None:
    panel = make_panel(500, 3)
    models = [fc.FilteredHistoricalSimulation("har"), fc.FilteredHistoricalSimulation("gjr")]
    small = {"train": 300, "every": 40, "n_scenarios": 60, "horizons": (1,)}
    with_ranges, closes = fc.score(models, panel, **small), fc.score(models, panel.returns(), **small)
    har, gjr = (" ".join(repr(m).split()) for m in models)
    assert with_ranges.loc[har, "energy_1"] != closes.loc[har, "energy_1"]
    assert with_ranges.loc[gjr, "energy_1"] == closes.loc[gjr, "energy_1"]


class Prophet(BaseEstimator):
    """A model trained on everything, used without a fit."""

    fixed_assets = False

    def __init__(self, seen: str = "2030-01-01") -> None:
        self.seen = seen

    def simulate(
        self,
        history: pd.DataFrame,
        horizon: int = 1,
        n_scenarios: int = 100,
        given: object = None,
        random_state: int = 0,
    ) -> ScenarioSet:
        draws = np.random.default_rng(random_state).normal(0, 0.02, (n_scenarios, horizon, history.shape[1]))
        p = np.full(n_scenarios, 1 / n_scenarios) + np.linspace(-1, 1, n_scenarios) / n_scenarios / 2
        return ScenarioSet(draws, tuple(history.columns), history.index[-1], p / p.sum(), pd.Timestamp(self.seen))


def test_a_model_that_has_seen_the_period_is_refused(returns: pd.DataFrame) -> None:
    with pytest.raises(LookAheadError, match="knows the market up to 2030"):
        fc.score({"prophet": Prophet()}, returns, **SMALL)
    table = fc.score({"prophet": Prophet()}, returns, **SMALL, allow_contaminated=True)
    assert bool(table.loc["prophet", "contaminated"])
    honest = fc.score({"prophet": Prophet("2000-01-01")}, returns, **SMALL)
    assert not honest.loc["prophet", "contaminated"]
    assert np.isfinite(honest.loc["prophet", "energy_1"])


def test_errors(returns: pd.DataFrame) -> None:
    with pytest.raises(HistoryError, match="complete rows"):
        fc.score(MODELS, returns)
    with pytest.raises(HistoryError, match="leave no origin"):
        fc.score(MODELS, returns, start="2015-06-12", **SMALL)
    with pytest.raises(ConfigError, match="not among the models"):
        fc.score(MODELS, returns, reference="gjr", **{**SMALL, "every": 200})
    with pytest.raises(ConfigError, match="same name"):
        fc.score([fc.BlockBootstrap(), fc.BlockBootstrap()], returns)


def test_one_page(returns: pd.DataFrame, tmp_path: Path) -> None:
    card = scorecard(MODELS, returns, **{**SMALL, "every": 40})
    text = card.to_html(str(tmp_path / "card.html"))
    assert (tmp_path / "card.html").read_text(encoding="utf-8") == text
    assert "Scorecard" in text
    assert 'src="http' not in text
    name, other = card.table.index[:2]
    told = page(card, [name])
    gap, p = (float(card.compare(other).loc[name, ("energy_1", k)]) for k in ("difference", "p"))
    assert f"<th>{other}</th><td>{gap / card.table.loc[other, 'energy_1']:+.2%} ({p:.3f})</td>" in told
    assert f"{name} against" not in text
    figures = (_gain_figure(card), _pit_figure(card))
    colours = {(line.name, line.line.color) for figure in figures for line in figure.data}
    assert len(colours) == len({name for name, _ in colours}) == len(card.table)  # a model is of one colour throughout


class Clockwork(fc.BlockBootstrap):
    """Collapsed: the same calm path always."""

    def simulate(self, history=None, horizon=1, n_scenarios=1000, given=None, random_state=None):  # type: ignore[no-untyped-def]
        out = super().simulate(history, horizon, n_scenarios, given, random_state)
        return ScenarioSet(
            0.01 * np.sin(np.zeros_like(out.returns) + np.arange(horizon)[:, None]), out.assets, out.as_of
        )


def test_facts_and_collapse_tell_a_clockwork_from_a_market(returns: pd.DataFrame) -> None:
    plan = {"train": 300, "refit": 120, "every": 6, "n_scenarios": 50, "horizons": (1, 20)}
    card = scorecard({"iid": fc.BlockBootstrap(60.0), "clock": Clockwork()}, returns, **plan)
    assert set(card.facts) == {"iid", "clock"}
    assert {"real", "low", "high", "simulated", "inside"} <= set(card.facts["iid"].columns)
    inside = {name: int(card.table.loc[name, "facts"].split("/")[0]) for name in card.facts}
    assert inside["iid"] > inside["clock"]
    assert card.table.loc["iid", "coverage"] > 0.5 > card.table.loc["clock", "coverage"]
    assert card.table.loc["iid", "copies"] > card.table.loc["clock", "copies"]  # a bootstrap replays what it has seen
    text = card.to_html()
    assert "Stylised facts" in text
    assert "tail_dependence" in text
