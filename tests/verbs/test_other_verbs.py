"""The verbs beside backtest, through the command line's own parser: JSON out, one sentence for bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import foliocast as fc
from foliocast.apps.cli.main import app
from markets import make_panel
from verbcalls import call, refused


def test_simulate_meets_what_is_given(tmp_path: Path) -> None:
    wish = ["simulate", "--assets", "NVDA,GOOG,MSFT", "--given", "NVDA=-0.2", "--horizon", "10", "--n", "2000"]
    answer = call(*wish, "--out", str(tmp_path))
    assert answer["given"]["NVDA"]["largest_miss"] < 1e-6
    history = np.log1p(fc.load_panel("sample:all").returns()[["NVDA", "GOOG", "MSFT"]]).rolling(10).sum().dropna()
    slope = history.cov()["NVDA"] / history["NVDA"].var()
    for name in ("GOOG", "MSFT"):  # as far as such a fall of NVDA went with theirs
        assert abs(answer["assets"][name]["mean"] - np.expm1(slope[name] * np.log(0.8))) < 0.025
    table = pd.read_parquet(answer["file"])
    total = (1 + table.pivot(index="scenario", columns="step", values="NVDA")).prod(axis=1) - 1
    assert len(total) == 2000
    assert np.abs(total + 0.2).max() < 1e-6


def test_simulate_takes_a_path_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "given.csv"
    pd.DataFrame({"NVDA": [0.01, np.nan, -0.02]}).to_csv(path, index=False)
    answer = call("simulate", "--assets", "NVDA,GOOG", "--horizon", "3", "--n", "300", "--given-file", str(path))
    assert answer["given"]["NVDA"]["largest_miss"] < 1e-6


def test_simulate_with_the_packaged_model_needs_no_training() -> None:
    answer = call("simulate", "--assets", "NVDA,GOOG", "--model", "pretrained", "--horizon", "5", "--n", "200")
    assert answer["knowledge_until"].startswith("2019-12-31")


def test_stress_components_add_up() -> None:
    answer = call("stress", "--weights", "NVDA=.4,MSFT=.3,GOOG=.3", "--given", "NVDA=-0.2", "--horizon", "10")
    assert list(answer["models"]) == ["diffusion", "fhs", "t-copula"]
    for model in answer["models"]:
        parts = answer["models"][model]["components"]
        total = parts.pop("total")["component_cvar"]
        assert sum(row["component_cvar"] for row in parts.values()) == pytest.approx(total, abs=1e-9)
        assert answer["models"][model]["given"]["mean"] < answer["models"][model]["unconditional"]["mean"]


def test_allocate_is_certified_and_within_its_bounds() -> None:
    answer = call("allocate", "--max-weight", "0.4", "--n", "1000")
    weights = np.array(list(answer["weights"].values()))
    assert weights.sum() == pytest.approx(1.0, abs=1e-9)
    assert weights.min() >= -1e-12
    assert weights.max() <= 0.4 + 1e-9
    assert answer["gap"] < 1e-8


def test_forecast_is_on_trading_days() -> None:
    answer = call("forecast", "NVDA", "--days", "5", "--model", "naive")
    dates = pd.DatetimeIndex([row["date"] for row in answer["days"]])
    assert len(dates) == 5
    assert (dates.day_of_week < 5).all()
    assert dates[0] > pd.Timestamp(answer["as_of"])
    for row in answer["days"]:
        assert row["low_95"] < row["low_80"] < row["high_80"] < row["high_95"]


def test_generate_is_valid() -> None:
    answer = call("generate", "Value, Large-Cap, Sep 2023", "--n", "2", "--max-weight", "0.1")
    for sample in answer["weights"].values():
        assert sum(sample.values()) == pytest.approx(1.0, abs=1e-9)
        assert max(sample.values()) <= 0.1 + 1e-12


def test_data_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    panel = make_panel(120, 3)
    panel.close().rename_axis("date").to_csv(path)
    assert call("data", "import", str(path), "--name", "mine")["name"] == "mine"
    assert [card["name"] for card in call("data", "list")["datasets"]] == ["mine"]
    assert call("data", "check", "mine")["valid"]
    assert call("data", "show", "mine")["bars"] == 120
    assert "mine" in refused("data", "import", str(path), "--name", "mine")
    assert call("data", "remove", "mine") == {"removed": "mine"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["simulate", "--assets", "NOSUCH"], "NOSUCH"),
        (["simulate", "--assets", "NVDA", "--given", "NVDA"], "NAME=NUMBER"),
        (["simulate", "--assets", "NVDA", "--given", "NVDA=-1.5"], "above -1"),
        (["simulate", "--model", "crystal-ball"], "crystal-ball"),
        (["stress"], "--weights"),
        (["stress", "--weights", "NVDA=0"], "empty"),
        (["allocate", "--max-weight", "0.01"], "add up to 1"),
        (["allocate", "--objective", "max_luck"], "max_luck"),
        (["forecast", "NOSUCH"], "NOSUCH"),
        (["forecast", "NVDA", "--model", "oracle"], "oracle"),
        (["data", "show", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], said: str) -> None:
    assert said in refused(*arguments)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "example.org"])
def test_the_dashboard_does_not_stand_open_to_a_network(host: str) -> None:
    done = CliRunner().invoke(app, ["app", "--headless", "--host", host])
    assert done.exit_code == 2
    assert "--trusted-network" in done.stderr
