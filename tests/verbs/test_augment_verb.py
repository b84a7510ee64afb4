"""The augment verb on the embedded sample, small: one JSON object out, one sentence for bad input, and resumption."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from foliocast.apps.cli.main import app
from verbcalls import call, refused

SMALL = ["--data", "sample:all", "--strengths", "0.3", "--backbones", "linear", "--seeds", "2", "--target", "20"]
SPAN = ["--start", "2022-03-01", "--train-bars", "250", "--test-bars", "300"]


def test_augment_on_the_embedded_sample(tmp_path: Path) -> None:
    sectors = tmp_path / "sectors.csv"
    sectors.write_text("symbol,sector\nAAPL,Technology\nMSFT,Technology\nXOM,Energy\nJPM,Financials\n")
    command = ["augment", *SMALL, *SPAN, "--sectors", str(sectors), "--out", str(tmp_path / "study")]
    answer = call(*command)
    assert [row["arm"] for row in answer["rows"]] == ["none", "edit 0.3", "guided 0.3", "noise 0.3"]
    gap = answer["rows"][1]["against_none"]["rank_ic"]
    assert gap["low"] <= gap["value"] <= gap["high"]
    assert abs(answer["rows"][0]["rank_ic"]) < 0.5
    first_test = answer["folds"][0]["test"]
    assert all(learnt["knowledge_until"] < first_test for learnt in answer["augmenters"])
    assert "Embedded sample" in answer["notice"]
    assert call(*command)["rows"] == answer["rows"]
    shown = CliRunner().invoke(app, command, env={"COLUMNS": "160"})
    assert "edit 0.3" in shown.stdout
    assert "95 % over seeds" in shown.stdout


def test_bad_requests_end_in_one_sentence(tmp_path: Path) -> None:
    for wrong, told in (
        (["--strengths", "a,b"], "expected numbers separated by commas"),
        (["--strengths", "1.5"], "shares of the schedule"),
        (["--backbones", "forest"], "expected some of linear, lstm, transformer"),
    ):
        assert told in refused("augment", *SMALL, *SPAN, *wrong, "--out", str(tmp_path / wrong[1]))
