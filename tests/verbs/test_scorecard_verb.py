"""``simulate --score``: the walk is the one asked for, and only diffusion is handed the pool."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from foliocast.apps.cli.scenarios import _competitors
from foliocast.core.panel import Panel
from verbcalls import call


def test_the_scorecard_walks_as_asked(tmp_path: Path) -> None:
    words = "simulate --score --assets NVDA,MSFT --model iid --train 300 --start 2021-06-01 --every 60 --n 40 --jobs 1"
    answer = call(*words.split(), "--out", str(tmp_path))
    rows = {row["model"]: row for row in answer["scorecard"]}
    assert {"fhs-gjr", "bootstrap", "fhs", "t-copula", "iid"} == set(rows)
    assert len({row["origins"] for row in rows.values()}) == 1
    assert rows["fhs"]["energy_1"] > 0
    assert Path(answer["file"]).read_text().startswith("<!doctype html>")
    table = pd.read_csv(tmp_path / "scorecard.csv", index_col=0)
    origins = pd.read_parquet(tmp_path / "origins.parquet")
    assert origins.groupby("model")["energy_1"].mean().to_dict() == pytest.approx(table["energy_1"].to_dict())


def test_only_diffusion_learns_from_the_pool() -> None:
    models = _competitors("diffusion,iid", 0, "sample")
    assert isinstance(models["diffusion"].pool, Panel)  # type: ignore[attr-defined]
    assert not hasattr(models["iid"], "pool")
    assert _competitors("diffusion", 0, None)["diffusion"].pool is None  # type: ignore[attr-defined]
