"""Train once, use later: the model is kept whole, found by name, and refused where it would know the future."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import foliocast as fc
from foliocast.apps.cli.main import app
from foliocast.runtime.progress import listening, tell
from markets import make_panel

CONFIG = """
name = "mine"
seed = 3
[data]
source = "{source}"
end = "{end}"
[model]
type = "{kind}"
{arguments}
"""
SMALL = {"AttentionLSTM": "epochs = 1", "DiffusionScenarios": "training = {type = 'TrainingSpec', max_steps = 5}"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOLIOCAST_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.csv"
    make_panel(n_bars=420, seed=5).to_pandas().to_csv(path)
    return path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--json"])


def config(tmp_path: Path, prices: Path, kind: str, end: str = "2100-01-01") -> str:
    file = tmp_path / "train.toml"
    file.write_text(CONFIG.format(source=prices, end=end, kind=kind, arguments=SMALL[kind]))
    return str(file)


def test_a_trained_forecaster_is_served_by_name(tmp_path: Path, prices: Path, home: Path) -> None:
    done = call("train", config(tmp_path, prices, "AttentionLSTM"))
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["name"] == "mine"
    assert sorted(p.name for p in (home / "models" / "mine").iterdir()) == ["card.json", "weights.safetensors"]
    ticker = answer["assets"][0]
    told = json.loads(call("forecast", ticker, "--data", str(prices), "--model", "mine").stdout)
    assert told["knowledge_until"] == answer["knowledge_until"]
    assert told["model"].startswith("mine")
    assert len(told["days"]) == 7


def test_the_same_seed_trains_the_same_weights(tmp_path: Path, prices: Path, home: Path) -> None:
    file = config(tmp_path, prices, "AttentionLSTM")
    for name in "ab":
        assert call("train", file, "--out", str(tmp_path / name)).exit_code == 0
    assert call("train", file, "--seed", "4", "--out", str(tmp_path / "c")).exit_code == 0
    a, b, c = ((tmp_path / name / "weights.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_trained_scenario_model_simulates_from_its_folder(tmp_path: Path, prices: Path, home: Path) -> None:
    folder = tmp_path / "model"
    done = call("train", config(tmp_path, prices, "DiffusionScenarios"), "--out", str(folder))
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["training"]["*"]["steps"] == 5
    wish = ["simulate", "--data", str(prices), "--model", str(folder), "--horizon", "5", "--n", "50"]
    assert json.loads(call(*wish).stdout)["n_scenarios"] == 50
    wrong = call("forecast", "A0", "--data", str(prices), "--model", str(folder))
    assert wrong.exit_code == 2


def test_a_model_is_refused_on_data_that_end_before_its_knowledge(tmp_path: Path, prices: Path, home: Path) -> None:
    assert call("train", config(tmp_path, prices, "AttentionLSTM")).exit_code == 0
    panel = fc.load_panel(str(prices))
    early = tmp_path / "early.csv"
    panel.rows(0, len(panel) - 30).to_pandas().to_csv(early)
    refused = call("forecast", panel.assets[0], "--data", str(early), "--model", "mine")
    assert refused.exit_code == 2
    assert "has seen data up to" in json.loads(refused.stdout)["error"]


@pytest.mark.parametrize("model", ["EqualWeight", "LinearForecaster"])
def test_what_learns_nothing_worth_keeping_is_refused(tmp_path: Path, model: str, home: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text(f'[model]\ntype = "{model}"\n')
    refused = call("train", str(file))
    assert refused.exit_code == 2
    assert "keeps no weights" in json.loads(refused.stdout)["error"]
    assert not home.exists()


def test_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text('[model]\ntype = "AttentionLSTM"\n[dta]\nsource = "sample"\n')
    error = json.loads(call("train", str(file)).stdout)["error"]
    assert "unknown key 'dta'; did you mean 'data'?" in error


def test_progress_is_heard_inside_the_block_only_and_always_to_the_end() -> None:
    heard: list[tuple[str, int, int]] = []
    tell("before", 1, 1)
    with listening(lambda *word: heard.append(word), seconds=3600):
        for step in range(1, 101):
            tell("work", step, 100)
    tell("after", 1, 1)
    assert heard == [("work", 1, 100), ("work", 100, 100)]
