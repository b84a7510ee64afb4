"""Pictures hold what they are given, where it belongs, and are well-formed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from foliocast.apps.cli.main import app
from foliocast.workflows.pictures import bars, fan, lines

DATES = pd.bdate_range("2024-01-01", periods=30)
SVG = "{http://www.w3.org/2000/svg}"


def _polyline(element: ET.Element) -> np.ndarray:
    return np.array([[float(v) for v in point.split(",")] for point in element.attrib["points"].split()])


def test_a_fan_begins_at_the_last_price_and_holds_its_path() -> None:
    history = pd.Series(np.linspace(90.0, 100.0, 30), DATES)
    middle = np.array([101.0, 102.0, 103.0])
    width = np.array([1.0, 2.0, 3.0])
    bands = {"80 %": (middle - width, middle + width), "95 %": (middle - 2 * width, middle + 2 * width)}
    picture = ET.fromstring(fan(history, list(pd.bdate_range("2024-02-12", periods=3)), middle, bands, "A < B & C"))
    past, ahead = (_polyline(line) for line in picture.iter(f"{SVG}polyline"))
    assert len(past) == 30
    assert len(ahead) == 4
    np.testing.assert_allclose(ahead[0], past[-1])
    assert (np.diff(past[:, 1]) < 0).all(), "rising prices go up, which is towards zero"
    wide, narrow = (_polyline(band) for band in picture.iter(f"{SVG}polygon"))
    assert np.ptp(wide[:, 1]) > np.ptp(narrow[:, 1])
    for k in range(1, 4):
        assert narrow[narrow[:, 0] == ahead[k, 0], 1].min() < ahead[k, 1] < narrow[narrow[:, 0] == ahead[k, 0], 1].max()


def test_lines_and_bars_show_every_name_and_missing_values_are_gaps() -> None:
    table = pd.DataFrame({"one": np.arange(30.0), "two & three": np.full(30, np.nan)}, DATES)
    text = "".join(ET.fromstring(lines(table, "T")).itertext())
    assert "one" in text
    assert "two & three" in text
    drawn = ET.fromstring(bars(pd.Series({"A": 0.75, "B": 0.25}), "W"))
    widths = [float(bar.attrib["width"]) for bar in drawn.iter(f"{SVG}rect")]
    assert widths[0] == pytest.approx(3 * widths[1], rel=1e-3)
    assert "75.0%" in "".join(drawn.itertext())


def test_forecast_draws_its_picture(tmp_path: Path) -> None:
    words = ["forecast", "NVDA", "--model", "naive", "--days", "5", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    picture = ET.fromstring((tmp_path / "NVDA-forecast.svg").read_text())
    assert "NVDA" in picture.attrib["aria-label"]
    assert len(list(picture.iter(f"{SVG}polygon"))) == 2
