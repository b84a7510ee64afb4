"""``foliocast explain`` from end to end: a run is made, explained, and its report read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from foliocast.apps.cli.main import app
from markets import make_panel
from verbcalls import call, refused

CONFIG = """
name = "small"
baselines = ["equal_weight", "inverse_volatility"]
[data]
source = "{source}"
[schedule]
train = 150
test = 40
[strategies.net]
type = "SignalStrategy"
forecaster = {{ type = "AttentionLSTM", window = 5, hidden = 4, layers = 1, epochs = 1, volatility = "ewma" }}
[strategies.trees]
type = "SignalStrategy"
forecaster = {{ type = "TreesForecaster", iterations = 10, volatility = "ewma" }}
"""


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "prices.csv"
    make_panel(300, 3).to_pandas().stack(level="asset", future_stack=True).rename_axis(["date", "ticker"]).to_csv(path)
    return path


@pytest.fixture(scope="module")
def finished(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    config = folder / "small.toml"
    config.write_text(CONFIG.format(source=market))
    return Path(call("backtest", str(config), "--out", str(folder / "runs"), "--jobs", "1")["folder"])


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may write into."""
    return Path(shutil.copytree(finished, tmp_path / "runs" / finished.name))


def test_a_run_is_explained(run: Path) -> None:
    equity = pd.read_parquet(run / "equity.parquet")
    equity = equity.set_index("date") if "date" in equity else equity
    before = (run / "report.html").read_text()
    answer = call("explain", str(run))
    for name, parts in answer["strategies"].items():
        total = equity[name].iloc[-1] - 1.0
        deviation = equity[name].pct_change().iloc[1:].std(ddof=0)
        assert parts["total_pnl"] == pytest.approx(total, abs=1e-9)
        assert parts["volatility"] == pytest.approx(deviation, abs=1e-9)
        learnt = ("feature",) if name in ("net", "trees") else ()
        for by in ("asset", "cost", "factor", "regime", "year", *learnt):
            assert sum(parts["pnl"][by].values()) == pytest.approx(total, abs=1e-9), (name, by)
        for by in ("asset", "cost", "factor", "regime", "year", *learnt):
            assert sum(parts["risk"][by].values()) == pytest.approx(deviation, abs=1e-9), (name, by)
    assert set(answer["strategies"]["net"]["importance"]) == {"gradients", "shap", "permutation"}
    assert set(answer["strategies"]["trees"]["importance"]) == {"shap", "permutation"}
    assert answer["strategies"]["net"]["reproduced"] < 1e-9
    assert "importance" not in answer["strategies"]["equal_weight"]
    files = {path.name for path in (run / "explain").iterdir()}
    wanted = {"attribution.csv", "importance.csv", "lags.csv", "predictions.csv", "attention.csv", "explain.json"}
    assert files == wanted
    looked = pd.read_csv(run / "explain" / "attention.csv")
    assert looked["weight"].sum() == pytest.approx(1.0, abs=1e-6)  # five lags of one strategy
    rows = pd.read_csv(run / "explain" / "predictions.csv")
    shap = rows[(rows["strategy"] == "net") & (rows["method"] == "shap")]
    assert len(shap) == 3 * (40 + 30)  # every asset on every bar of the last two folds, 40 and 30 bars long
    page = (run / "report.html").read_text()
    assert 'id="explain"' in page
    assert 'id="explain"' not in before
    gain = answer["strategies"]["net"]["pnl"]["asset"]["A0"]
    assert f"profit and loss, A0: {gain * 100:.4f} %".replace("-", "\N{MINUS SIGN}") in page
    again = call("explain", str(run), "--methods", "permutation", "--folds", "1")  # in place of the first
    assert again["strategies"]["inverse_volatility"] == answer["strategies"]["inverse_volatility"]
    assert len(pd.read_csv(run / "explain" / "importance.csv")["method"].unique()) == 1


def test_one_strategy_without_forecasts_and_with_own_factors(market: Path, run: Path) -> None:
    wish = ["explain", run.name, "--out", str(run.parent), "--strategy", "inverse_volatility", "--folds", "0"]
    answer = call(*wish, "--factors", str(market))
    assert list(answer["strategies"]) == ["inverse_volatility"]
    assert {"A0", "A1", "A2", "specific"} <= set(answer["strategies"]["inverse_volatility"]["pnl"]["factor"])


def test_bad_requests_leave_no_file(market: Path, run: Path, tmp_path: Path) -> None:
    assert "no run at" in refused("explain", str(tmp_path / "nothing"))
    assert "no strategy 'tea'" in refused("explain", str(run), "--strategy", "tea")
    assert "choose from gradients" in refused("explain", str(run), "--methods", "tea")
    changed = pd.read_csv(market)
    changed["close"] *= 1.01
    other = tmp_path / "other.csv"
    changed.to_csv(other, index=False)
    text = (run / "config.toml").read_text().replace(str(market), str(other))
    (run / "config.toml").write_text(text)
    assert "has changed since" in refused("explain", str(run))
    assert not (run / "explain").exists()


def test_help_teaches() -> None:
    shown = CliRunner().invoke(app, ["explain", "--help"]).output
    for word in ("attribut", "SHAP", "--folds", "report.html"):
        assert word in shown
