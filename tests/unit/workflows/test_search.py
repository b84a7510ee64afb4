"""The search over ranges: seeded, purged, inside the first training window, and counted."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from foliocast.apps.cli.main import app
from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.panel import Panel
from foliocast.runtime.trials import TrialLedger
from foliocast.workflows.backtest import run
from foliocast.workflows.config import SearchConfig, load_config
from foliocast.workflows.search import find_best, inner_schedule, search
from markets import make_panel

CONFIG = """
name = "searched"
seed = 3
baselines = ["equal_weight"]
regimes = false
[data]
source = "{source}"
[schedule]
train = 240
test = 60
[search]
trials = 6
[strategies.tuned]
type = "SignalStrategy"
pipeline = {{ type = "PositionPipeline", keep = {{ choices = [0.3, 0.6, 1.0] }} }}
[strategies.tuned.forecaster]
type = "LinearForecaster"
volatility = "ewma"
alpha = {{ low = 1e-3, high = 10.0, log = true }}
window = {{ low = 1, high = 4 }}
[strategies.fixed]
type = "InverseVolatility"
"""
FIRST_TEST = 240


def write(panel: Panel, path: Path) -> Path:
    table = panel.to_pandas().stack(level="asset", future_stack=True)
    table.rename_axis(["date", "ticker"]).to_csv(path)
    return path


def config_of(folder: Path, panel: Panel, text: str = CONFIG) -> Path:
    path = folder / "searched.toml"
    path.write_text(text.format(source=write(panel, folder / "prices.csv")))
    return path


def test_the_future_changes_no_trial(tmp_path: Path) -> None:
    """Everything after the first training window rewritten: the same trials, the same scores, the same winner."""
    panel = make_panel(330, 4)
    fields = {name: panel.array(name).copy() for name in panel.fields}
    for values in fields.values():
        values[FIRST_TEST:] = values[FIRST_TEST:][::-1] * 1.3
    fields["close"][FIRST_TEST:] = fields["open"][FIRST_TEST:]
    first, second = tmp_path / "a", tmp_path / "b"
    found = []
    for folder, market in ((first, panel), (second, panel.replace(fields))):
        folder.mkdir()
        config = load_config(config_of(folder, market))
        config = config.model_copy(
            update={"data": config.data.model_copy(update={"repair": True, "allow_jumps": True})}
        )
        found.append(find_best(config))
    assert found[0].best == found[1].best
    assert found[0].trials.equals(found[1].trials)
    # and it is the past that decides: with another past the scores are others
    (tmp_path / "c").mkdir()
    other = find_best(load_config(config_of(tmp_path / "c", make_panel(330, 4, seed=9))))
    assert not other.trials["score"].equals(found[0].trials["score"])


def test_trials_are_seeded_counted_and_deflate_the_winner(tmp_path: Path) -> None:
    config = load_config(config_of(tmp_path, make_panel(330, 4)))
    found, done = search(config, tmp_path / "runs")
    assert len(found.trials) == 6
    assert set(found.best["tuned"]) == {"forecaster.alpha", "forecaster.window", "pipeline.keep"}
    assert found.trials["score"].max() == found.trials.loc[found.trials["score"].idxmax(), "score"]
    assert found.trials["n_bars"].eq(120).all()  # half of the first training window is judged, every bar once
    counted = TrialLedger().counts()
    distinct = len(found.trials.drop_duplicates(["forecaster.alpha", "forecaster.window", "pipeline.keep"]))
    assert list(counted.values()) == [distinct + 3]  # with the winner, the fixed strategy and the baseline
    assert done.metrics["trials"] == distinct + 3
    assert pd.read_csv(done.folder / "search.csv")["score"].round(9).tolist() == found.trials["score"].round(9).tolist()
    kept = load_config(done.folder / "config.toml")
    assert kept.strategies["tuned"]["forecaster"]["alpha"] == found.best["tuned"]["forecaster.alpha"]
    assert find_best(config).trials.equals(found.trials)  # same seed, same trials
    assert list(TrialLedger().counts().values()) == [distinct + 3]  # told again, nothing new
    again = run(kept, tmp_path / "again")  # the written config is the run
    assert again.metrics["strategies"]["tuned"]["sharpe"] == done.metrics["strategies"]["tuned"]["sharpe"]


def test_a_trial_that_cannot_run_is_counted_and_passed_over(tmp_path: Path) -> None:
    text = CONFIG.replace("window = {{ low = 1, high = 4 }}", "window = {{ choices = [1, 5000] }}")
    found = find_best(load_config(config_of(tmp_path, make_panel(330, 4), text)))
    failed = found.trials[found.trials["forecaster.window"] == 5000]
    assert len(failed)
    assert failed["score"].isna().all()
    assert failed["failed"].str.contains("no training sample").all()
    assert found.best["tuned"]["forecaster.window"] == 1


def test_a_backtest_of_ranges_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="foliocast search"):
        run(load_config(config_of(tmp_path, make_panel(330, 4))), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("high = 10.0", "high = 1e-4", "low < high"),
        ("low = 1e-3", "low = 0", "log needs low > 0"),
        ("choices = [0.3, 0.6, 1.0]", "choices = []", "must be a list"),
        ("low = 1, high = 4", "low = 1, high = 4, steps = 2", "may have log"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        find_best(load_config(config_of(tmp_path, make_panel(330, 4), CONFIG.replace(old, new))))


def test_inner_folds_lie_in_the_window_and_are_purged() -> None:
    inner = inner_schedule(SearchConfig(purge=7), 240)
    for fold in inner.folds(240):
        assert fold.train[1] + 7 == fold.test[0]
        assert fold.test[1] <= 240
    with pytest.raises(HistoryError, match="60 are needed"):
        inner_schedule(SearchConfig(train=200), 240)


def test_the_verb(tmp_path: Path) -> None:
    path = config_of(tmp_path, make_panel(330, 4))
    done = CliRunner().invoke(
        app, ["search", str(path), "--trials", "3", "--jobs", "1", "--out", str(tmp_path / "runs"), "--json"]
    )
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["searched"]) == 3
    assert answer["trials"] == 6
    assert (Path(answer["folder"]) / "search.csv").is_file()
    bad = CliRunner().invoke(app, ["search", "demo", "--json"])
    assert bad.exit_code == 2
    assert "no range to search" in json.loads(bad.stdout)["error"]
    shown = CliRunner().invoke(app, ["search", "--help"]).output
    assert "choices" in shown
    assert "deflated" in shown
