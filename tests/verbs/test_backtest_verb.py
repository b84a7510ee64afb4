"""``foliocast backtest`` end to end: the run folder, resume after kill -9, bad input, the trial ledger."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from markets import make_panel

SMALL = """
name = "small"
seed = 3
[data]
source = "{source}"
[schedule]
train = 150
test = 40
[strategies.linear]
type = "SignalStrategy"
forecaster = {{ type = "LinearForecaster" }}
"""
TABLES = ("equity", "weights", "trades", "predictions")


def command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "foliocast", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    panel = make_panel(400, 4, seed=5)
    rows = []
    for asset in panel.assets:
        frame = pd.DataFrame({f: panel.frame(f)[asset] for f in panel.fields}).rename_axis("date").reset_index()
        rows.append(frame.assign(Name=asset))
    path = tmp_path_factory.mktemp("prices") / "prices.csv"
    pd.concat(rows).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def config(csv: Path) -> Path:
    path = csv.with_name("small.toml")
    path.write_text(SMALL.format(source=csv))
    return path


@pytest.fixture(scope="module")
def run(config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("out")
    home = tmp_path_factory.mktemp("home")
    done = command("backtest", str(config), "--out", str(out), "--json", "--jobs", "1", env=_env(home))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return Path(answer["folder"]), answer


def _env(home: Path) -> dict[str, str]:
    return {**os.environ, "FOLIOCAST_HOME": str(home)}


def test_the_run_folder_is_as_pinned(run: tuple[Path, dict]) -> None:
    folder, _ = run
    for name in ("config.toml", "run.json", "metrics.json", "report.html", *(f"{t}.parquet" for t in TABLES)):
        assert (folder / name).is_file(), name
    assert not (folder / "folds").exists()
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]
    about = json.loads((folder / "run.json").read_text())
    assert about["status"] == "done"
    assert {"id", "seed", "versions", "data", "git_commit", "timings", "knowledge_until"} <= about.keys()


def test_every_strategy_is_scored_on_every_test_day(run: tuple[Path, dict]) -> None:
    folder, answer = run
    strategies = answer["strategies"]
    baselines = {"equal_weight", "buy_and_hold", "inverse_volatility", "minimum_variance", "mean_variance", "hrp"}
    assert baselines | {"linear"} == set(strategies)
    assert {s["n_days"] for s in strategies.values()} == {400 - 150}
    for values in strategies.values():
        for key in ("sharpe", "annual_return", "volatility", "max_drawdown", "sortino", "win_rate", "turnover", "cost"):
            assert values[key]["low"] <= values[key]["value"] <= values[key]["high"], key
        assert 0 <= values["deflated_sharpe"] <= values["probabilistic_sharpe"] + 1e-12
    equity = pd.read_parquet(folder / "equity.parquet")
    assert (equity.iloc[0] == 1.0).all()
    assert len(equity) == 400 - 150 + 1
    assert set(answer["forecasts"]["linear"]) >= {"mae", "mse", "rmse", "mape", "persistence"}
    assert answer["audit"]["passed"]
    assert answer["trials"] == 7


def test_equity_replays_from_the_trades(run: tuple[Path, dict], csv: Path) -> None:
    folder, _ = run
    equity = pd.read_parquet(folder / "equity.parquet")["linear"]
    trades = pd.read_parquet(folder / "trades.parquet").query("strategy == 'linear'")
    close = pd.read_csv(csv, parse_dates=["date"]).pivot(index="date", columns="Name", values="close")
    cash, units = 1.0, pd.Series(0.0, index=close.columns)
    by_day = dict(tuple(trades.groupby("date")))
    for day in equity.index:
        for fill in by_day.get(day, trades.iloc[:0]).itertuples():
            units[fill.asset] += fill.units
            cash -= fill.units * fill.price + fill.commission + fill.spread + fill.impact
        assert cash + float(units @ close.loc[day]) == pytest.approx(equity[day], abs=1e-9)


def test_killed_at_any_moment_it_resumes_to_the_same_bits(config: Path, run: tuple[Path, dict], tmp_path: Path) -> None:
    whole, _ = run
    for pause in (0, 9):
        out = tmp_path / str(pause)
        arguments = [sys.executable, "-m", "foliocast", "backtest", str(config), "--out", str(out), "--jobs", "1"]
        process = subprocess.Popen(
            arguments, env=_env(tmp_path / f"home{pause}"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(6000):
            if len(list(out.glob("*/folds/*/*"))) >= pause and list(out.glob("*/run.json")):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        (folder,) = out.iterdir()
        done = command("backtest", "--resume", str(folder), "--jobs", "2", env=_env(tmp_path / f"home{pause}"))
        assert done.returncode == 0, done.stderr
        for table in TABLES:
            left, right = (f / f"{table}.parquet" for f in (whole, folder))
            assert left.read_bytes() == right.read_bytes(), table
        assert (whole / "metrics.json").read_bytes() == (folder / "metrics.json").read_bytes()


def test_the_same_run_again_is_no_new_trial(config: Path, tmp_path: Path) -> None:
    counts = []
    for seed in ("3", "3", "4"):
        done = command(
            "backtest", str(config), "--out", str(tmp_path / "o"), "--seed", seed, "--json", env=_env(tmp_path)
        )
        counts.append(json.loads(done.stdout)["trials"])
    assert counts == [7, 7, 14]
    listed = json.loads(command("runs", "trials", "--json", env=_env(tmp_path)).stdout)["trials"]
    (data,) = listed
    reset = command("runs", "reset-trials", data[:12], "--reason", "a fresh start", "--json", env=_env(tmp_path))
    assert json.loads(reset.stdout)["forgotten"] == 14
    assert json.loads(command("runs", "trials", "--json", env=_env(tmp_path)).stdout)["trials"] == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", "unknown key 'colour'"),
        ("[schedule]\ntrian = 3", "did you mean 'train'"),
        ("[data]\nsource = 'nowhere.csv'", "nowhere.csv"),
        ("[data]\nassets = ['NVDA', 'NOSUCH']", "NOSUCH"),
        ("[schedule]\ntrain = 100000", "load a longer history"),
        ("[strategies.x]\ntype = 'EqualWieght'", "did you mean 'EqualWeight'"),
        ("[strategies.x]\ntype = 'EqualWeight'\nspeed = 3", "no argument 'speed'"),
        ("[costs]\ncommission_bps = -1", "commission_bps"),
        ("execution = 'yesterday'", "execution"),
        ("baselines = ['luck']", "no baseline called 'luck'"),
        ("not toml at all", "not valid TOML"),
    ],
)
def test_bad_configs_end_in_one_sentence_and_leave_nothing(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    done = command("backtest", str(path), "--out", str(tmp_path / "out"), "--json", env=_env(tmp_path))
    assert done.returncode == 2, done.stderr
    assert said in json.loads(done.stdout)["error"]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 8, b"date,close\n2020-01-01,zero\n"])
def test_bad_files_end_in_one_sentence_and_leave_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(content)
    done = command("backtest", "--data", str(path), "--out", str(tmp_path / "out"), env=_env(tmp_path))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_late_and_delisted_assets_are_handled_by_date(tmp_path: Path) -> None:
    panel = make_panel(300, 4, seed=6)
    close = panel.close()
    close.iloc[:180, 1] = np.nan
    close.iloc[220:, 2] = np.nan
    path = tmp_path / "wide.csv"
    close.rename_axis("date").to_csv(path)
    config = tmp_path / "c.toml"
    config.write_text(SMALL.format(source=path).replace("[strategies", "execution = 'next_close'\n[strategies", 0))
    done = command("backtest", str(config), "--out", str(tmp_path / "out"), "--json", env=_env(tmp_path))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {s["n_days"] for s in answer["strategies"].values()} == {150}
    weights = pd.read_parquet(Path(answer["folder"]) / "weights.parquet")
    late = weights.query("asset == 'A1'")["date"]
    gone = weights.query("asset == 'A2'")["date"]
    assert late.min() >= close.index[180]
    assert gone.max() <= close.index[226]


def test_an_audit_of_a_leaking_config_exits_with_2(csv: Path, config: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def weights(panel):\n    close = panel.close()\n"
        "    return (close / close.rolling(11, center=True, min_periods=1).mean() < 1).astype(float) / 4\n"
    )
    text = f"baselines = false\n[data]\nsource = '{csv}'\n[schedule]\ntrain = 150\ntest = 40\n"
    text += "[strategies.mine]\ntype = 'function'\npath = 'mine.py'\n"
    (tmp_path / "leak.toml").write_text(text)
    done = command("audit", "leak.toml", "--json", "--cuts", "3", env=_env(tmp_path), cwd=tmp_path)
    verdict = json.loads(done.stdout)
    assert done.returncode == 2
    assert not verdict["passed"]
    honest = command("audit", str(config), "--json", "--cuts", "2", env=_env(tmp_path))
    assert honest.returncode == 0, honest.stdout
