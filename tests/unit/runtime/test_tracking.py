"""Runs and models are kept, found again and kept once: in a folder, and in a real MLflow server on SQLite."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from foliocast.apps.cli.main import app
from foliocast.core.errors import ConfigError
from foliocast.models.checkpoint import ModelCard, save_checkpoint
from foliocast.runtime.tracking import FolderTracker, Record, Tracker, tracker
from foliocast.runtime.tracking_mlflow import MlflowTracker, TrackingError
from foliocast.workflows.tracking import record_of, track_run
from runfolders import make_run

NAMES = ("mine", "equal_weight")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """``foliocast track serve``: its address and its folder."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "foliocast", "track", "serve", "--port", str(port), "--folder", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process)
        yield url, folder
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                assert answer.read() == b"OK"
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError("MLflow's server did not come up")


@pytest.fixture(params=["folder", "mlflow"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Tracker:
    if request.param == "folder":
        return FolderTracker(tmp_path / "store")
    url, _ = request.getfixturevalue("server")
    return MlflowTracker(url, experiment=tmp_path.name)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = make_run(tmp_path / "runs" / "20240101-000000-demo", n=300, names=NAMES, resamples=20)
    (folder / "config.toml").write_text(
        'seed = 3\n[strategies.mine]\ntype = "EqualWeight"\n[data]\nsource = "sample"\n'
    )
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(
        json.dumps({**about, "status": "done", "strategies": {n: {"type": n} for n in NAMES}})
    )
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return _model(tmp_path / "a_model", 1.0)


def _model(folder: Path, value: float) -> Path:
    card = ModelCard(kind="Test", knowledge_until="2020-01-31", data_hash="d" * 64, assets=("A",), features=())
    save_checkpoint(folder, {"w": np.full(3, value, np.float32)}, card)
    return folder


def test_a_run_is_kept_with_its_strategies_and_again_replaces_it(store: Tracker, run: Path) -> None:
    record = record_of(run)
    for _ in range(2):
        store.record(record)
    (found,) = store.runs()
    assert found["id"] == run.name
    assert found["parameters"]["data.source"] == "sample"
    assert found["parameters"]["seed"] == "3"
    truth = json.loads((run / "metrics.json").read_text())
    parts = {part["name"]: part for part in found["parts"]}
    assert set(parts) == set(NAMES)
    assert parts["mine"]["metrics"]["sharpe"] == pytest.approx(truth["strategies"]["mine"]["sharpe"]["value"])
    assert parts["mine"]["metrics"]["sharpe.low"] == pytest.approx(truth["strategies"]["mine"]["sharpe"]["low"])
    assert parts["mine"]["tags"]["baseline"] == "false"
    assert parts["equal_weight"]["tags"]["baseline"] == "true"
    assert found["tags"]["audit"] in ("passed", "failed")


def test_a_model_is_registered_with_its_card_and_the_same_one_once(store: Tracker, model: Path, tmp_path: Path) -> None:
    name = f"model-{tmp_path.name}"[:80]
    first, again = store.register(name, model), store.register(name, model)
    other = store.register(name, _model(tmp_path / "other", 2.0))
    assert (first.version, again.version, other.version) == ("1", "1", "2")
    kept = [one for one in store.models() if one.name == name]
    assert [one.version for one in kept] == ["1", "2"]
    assert kept[0].digest != kept[1].digest
    assert kept[0].card["knowledge_until"] == "2020-01-31"
    assert store.runs() == [], "a model is no run"


def test_what_is_not_there_or_not_finished_is_told(store: Tracker, run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no saved model"):
        store.register("m", tmp_path)
    with pytest.raises(ConfigError, match="cannot name a model"):
        store.register("../m", _model(tmp_path / "m", 1.0))
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**about, "status": "running"}))
    with pytest.raises(ConfigError, match="only a finished run"):
        track_run(run, "unused")


def test_both_stores_keep_the_protocol(store: Tracker) -> None:
    assert isinstance(store, Tracker)


def test_the_server_shows_all_of_it_through_mlflows_own_client(
    server: tuple[str, Path], run: Path, model: Path
) -> None:
    """By the command line in, by MLflow's client out: over HTTP, and from the SQLite file itself."""
    from mlflow import MlflowClient

    url, folder = server
    for words in (["track", "run", str(run)], ["track", "model", str(model)]):
        done = CliRunner().invoke(app, [*words, "--to", url, "--json"])
        assert done.exit_code == 0, done.output
    for uri in (url, f"sqlite:///{folder / 'mlflow.db'}"):
        client = MlflowClient(uri, uri)
        experiment = client.get_experiment_by_name("foliocast")
        runs = client.search_runs([experiment.experiment_id])
        parent = next(r for r in runs if r.data.tags.get("foliocast.run") == run.name)
        nested = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert {r.info.run_name for r in nested} == set(NAMES)
        assert all(r.info.status == "FINISHED" for r in (parent, *nested))
        assert client.get_registered_model(model.name).name == model.name
        (version,) = client.search_model_versions(f"name='{model.name}'")
        assert "knowledge_until: 2020-01-31" in version.description
    files = {file.path for file in MlflowClient(url).list_artifacts(parent.info.run_id)}
    assert {"config.toml", "run.json", "metrics.json", "equity.parquet"} <= files
    fetched = MlflowClient(url).download_artifacts(version.run_id, "model/card.json")
    assert json.loads(Path(fetched).read_text())["kind"] == "Test"


def test_a_store_that_does_not_answer_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match="did not answer as it should"):
        tracker("http://127.0.0.1:9").record(Record("x", "x"))


def test_a_backtest_records_itself_and_survives_a_store_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foliocast.workflows.backtest import run as backtest
    from foliocast.workflows.config import parse_config

    monkeypatch.chdir(tmp_path)
    config = {
        "data": {"source": "sample", "assets": ["NVDA", "GOOG"], "start": "2022-06-01"},
        "schedule": {"train": 126, "test": 63},
        "baselines": ["equal_weight", "buy_and_hold"],
        "regimes": False,
    }
    done = backtest(parse_config({**config, "track": "kept"}), tmp_path / "runs")
    assert done.tracked == f"Recorded: {Path('kept', 'runs', done.folder.name)}"
    (found,) = FolderTracker(tmp_path / "kept").runs()
    assert found["id"] == done.folder.name
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FOLIOCAST_TRACK", "file")
    again = backtest(parse_config(config), tmp_path / "runs")
    assert again.tracked.startswith("Not recorded")
    assert (again.folder / "report.html").is_file()
