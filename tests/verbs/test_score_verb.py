"""``score`` and the calibrated ``forecast``, through the command line's own parser."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from markets import make_panel
from verbcalls import call, refused


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.parquet"
    panel = make_panel(900, 4)
    long = panel.to_pandas().stack("asset", future_stack=True).rename_axis(["date", "ticker"]).reset_index()
    long.to_parquet(path)
    return path


def test_score_ranks_on_members_and_writes_its_table(prices: Path, tmp_path: Path) -> None:
    spells = tmp_path / "spells.csv"
    spells.write_text("ticker,start_date,end_date\nA0,2000-01-01,\nA1,2000-01-01,\nA2,2000-01-01,\n")
    wish = ["score", "--data", str(prices), "--members", str(spells), "--models", "linear,mean", "--jobs", "1"]
    answer = call(*wish, "--train", "300", "--test", "300", "--out", str(tmp_path / "out"))
    rows = {(row["model"], row["horizon"]): row for row in answer["table"]}
    assert set(rows) == {(m, h) for m in ("linear", "mean") for h in (1, 5)}
    assert rows["linear", 1]["assets"] == 3
    assert rows["linear", 1]["days"] == 599
    assert all(row["audit"] == "passed" for row in rows.values())
    written = pd.read_csv(tmp_path / "out" / "rank_ic.csv")
    assert len(written) == 4
    assert len(pd.read_parquet(tmp_path / "out" / "rank_ic_daily.parquet")) == 600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--horizons", "soon"], "whole numbers"),
        (["--models", "oracle"], "oracle"),
        (["nowhere.toml"], "nowhere.toml"),
        (["--members", "nowhere.csv"], "nowhere.csv"),
        (["--train", "100000"], "100001 needed"),
    ],
)
def test_score_refuses_in_one_sentence(prices: Path, arguments: list[str], said: str) -> None:
    assert said in refused("score", "--data", str(prices), *arguments)


def test_forecast_says_on_what_its_bands_were_calibrated(prices: Path) -> None:
    answer = call("forecast", "A1", "--data", str(prices), "--days", "2", "--model", "linear")
    assert answer["calibration"] == {"past_forecasts": 126, "assets": 4}
    again = call("forecast", "A1", "--data", str(prices), "--days", "2", "--model", "linear")
    assert again == answer  # read back from what was kept
    row = answer["days"][-1]
    assert row["low_95"] < row["low_80"] < row["price"] < row["high_80"] < row["high_95"]


def test_forecast_of_a_ticker_that_the_model_was_not_fitted_on_is_refused(prices: Path, tmp_path: Path) -> None:
    """Neither a stranger to the data nor one that a saved model has never seen."""
    assert "NOSUCH" in refused("forecast", "NOSUCH", "--data", str(prices))
    few = tmp_path / "few.toml"
    few.write_text(
        f'name = "few"\n[data]\nsource = "{prices}"\nassets = ["A0", "A1"]\n'
        '[model]\ntype = "LSTMForecaster"\nwindow = 5\nhidden = 4\nlayers = 1\nepochs = 1\n'
    )
    call("train", str(few))
    assert call("forecast", "A0", "--data", str(prices), "--model", "few", "--days", "1")["days"]
    assert "A3" in refused("forecast", "A3", "--data", str(prices), "--model", "few")
