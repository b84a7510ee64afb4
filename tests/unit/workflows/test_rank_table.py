"""The table of rank correlations: known signals get what they should, leaks are seen, every day is judged once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.market import Universe
from foliocast.core.panel import Panel
from foliocast.core.protocols import serial
from foliocast.core.time import WalkForward
from foliocast.models.linear import LinearForecaster
from foliocast.models.naive import NaiveForecaster
from foliocast.stats.inference import mean_error
from foliocast.stats.measures import rank_ic
from foliocast.workflows.rank_table import DEFAULTS, FEATURES, load_rank_config, make_models, rank_table
from markets import make_panel

SCHEDULE = WalkForward(150, 60)


class Oracle(BaseEstimator):
    """Reads tomorrow's return out of the panel handed to it: what must never work."""

    def fit(self, panel: Panel) -> Oracle:
        self.knowledge_until_ = panel.times[-1]
        return self

    def predict(self, panel: Panel, times: pd.DatetimeIndex | None = None) -> pd.DataFrame:
        ahead = panel.frame("close").pct_change(fill_method=None).shift(-1)
        return ahead if times is None else ahead.loc[times]


def test_figures_are_those_of_the_series() -> None:
    panel = make_panel(330, 6)
    card = rank_table({"last": NaiveForecaster("last"), "linear": LinearForecaster()}, panel, SCHEDULE, (1, 5))
    assert set(card.daily) == {(name, h) for name in ("last", "linear") for h in (1, 5)}
    expected = rank_ic(panel.returns(), panel.close().pct_change(5, fill_method=None).shift(-5)).loc[panel.times[150:]]
    found = card.daily["last", 5]
    pd.testing.assert_series_equal(found, expected, check_freq=False, check_names=False)
    row = card.table.set_index(["model", "horizon"]).loc["last", 5]
    assert row["rank_ic"] == pytest.approx(expected.mean())
    assert row["standard_error"] == pytest.approx(mean_error(expected.dropna(), max(4, int(4 * 1.8 ** (2 / 9)))))
    assert row["days"] == 175  # 180 test days less the five whose outcome lies beyond the panel
    gap = expected - card.daily["linear", 5]
    assert row["beyond_linear"] == pytest.approx(gap.mean())
    assert (card.table["audit"] == "passed").all()


def test_only_members_are_ranked() -> None:
    panel = make_panel(230, 6)
    mask = np.ones(panel.shape, dtype=bool)
    mask[180:, 3:] = False
    members = panel.replace(universe=Universe(mask))
    card = rank_table({"last": NaiveForecaster("last")}, members, SCHEDULE, (1,))
    alone = rank_ic(panel.returns(), panel.returns().shift(-1))
    three = rank_ic(panel.returns().iloc[:, :3], panel.returns().shift(-1).iloc[:, :3])
    daily = card.daily["last", 1]
    np.testing.assert_allclose(daily.iloc[:30], alone.loc[daily.index[:30]])
    np.testing.assert_allclose(daily.iloc[30:-1], three.loc[daily.index[30:-1]])


def test_a_model_that_reads_the_future_gains_nothing_and_fails_the_audit() -> None:
    """It is handed no row after the test days; inside them it reads ahead, and the rewritten future shows it."""
    card = rank_table({"oracle": Oracle()}, make_panel(330, 6), SCHEDULE, (1,))
    row = card.table.iloc[0]
    assert row["rank_ic"] > 0.9
    assert row["audit"] == "FAILED"


def test_workers_change_no_bit() -> None:
    panel = make_panel(270, 5)
    models = {"linear": LinearForecaster(cross_section=True), "mean": NaiveForecaster("mean")}
    one = rank_table(models, panel, SCHEDULE)
    two = rank_table(models, panel, SCHEDULE, run_tasks=lambda f, tasks: list(serial(f, list(tasks))))
    pd.testing.assert_frame_equal(one.table, two.table)


def test_defaults_fit_the_fields_there_are(tmp_path) -> None:  # type: ignore[no-untyped-def]
    panel = make_panel(200, 3)
    closes = Panel({"close": panel.array("close")}, panel.times, panel.assets)
    assert list(make_models({}, panel)["linear"].features) == list(FEATURES)
    assert set(make_models({}, closes)["lstm"].features) == {
        n for n in FEATURES if n.startswith(("log_r", "mom", "vol"))
    } - {
        "volume_z",
        "log_range",
    }
    assert set(make_models({}, panel)) == set(DEFAULTS)
    path = tmp_path / "rank.toml"
    path.write_text(
        'horizons = [2]\n[schedule]\ntrain = 100\ntest = 50\n[models.mine]\ntype = "LinearForecaster"\nahead = 2\n'
    )
    config = load_rank_config(path)
    card = rank_table(make_models(config.models, panel), panel, WalkForward(100, 50), config.horizons)
    assert list(card.table["model"]) == ["mine"]
    assert card.table["beyond_linear"].isna().all()


def test_what_cannot_be_ranked_is_said() -> None:
    with pytest.raises(ConfigError, match="0 models"):
        rank_table({}, make_panel(200, 3))
    with pytest.raises(HistoryError, match="three members"):
        rank_table({"last": NaiveForecaster("last")}, make_panel(200, 2), WalkForward(100, 50))
    with pytest.raises(ConfigError, match="no config file"):
        load_rank_config("nowhere.toml")
