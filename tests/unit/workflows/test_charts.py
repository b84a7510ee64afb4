from __future__ import annotations

import base64
import re
import zlib

import numpy as np
import pandas as pd
import pytest

from foliocast.workflows import charts
from foliocast.workflows.charts import HEIGHT, WIDTH, Line

DATES = pd.bdate_range("2010-01-01", periods=3000)


def _points(markup: str) -> np.ndarray:
    d = re.search(r'<path class="l[^>]* d="([^"]*)"', markup)
    assert d is not None
    return np.array(re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", d[1]), dtype=float)


@pytest.mark.parametrize(
    ("values", "kind"),
    [([0.1, 2.0], {}), ([0.5, 40.0], {"log": True}), ([-0.3, -0.1], {"zero": True}), ([1.0, 1.0], {}), ([], {})],
)
def test_an_axis_holds_its_values_and_its_ticks(values: list[float], kind: dict[str, bool]) -> None:
    scale = charts.axis([np.array(values)], **kind)
    heights = scale.place(np.array([*values, *scale.ticks]))
    assert ((heights >= -1e-9) & (heights <= HEIGHT + 1e-9)).all()
    assert 2 <= len(scale.ticks) <= 12
    assert list(scale.ticks) == sorted(scale.ticks)


def test_thinning_keeps_the_ends_and_the_extremes() -> None:
    values = np.random.default_rng(0).normal(size=3000)
    values[1234], values[2345] = 9.0, -9.0
    scale = charts.axis([values])
    points = _points(charts.line_chart(DATES, [Line("a", values, 0)], scale))
    assert len(points) < 500
    assert (np.diff(points[:, 0]) >= 0).all()
    assert points[[0, -1], 0].tolist() == [0, WIDTH]
    assert points[0, 1] == pytest.approx(float(scale.place(values[0])), abs=0.06)
    assert points[:, 1].min() == pytest.approx(float(scale.place(9.0)), abs=0.06)
    assert points[:, 1].max() == pytest.approx(float(scale.place(-9.0)), abs=0.06)


def test_missing_values_are_gaps() -> None:
    values = np.array([1.0, 2.0, np.nan, 3.0, 4.0])
    markup = charts.line_chart(DATES[:5], [Line("a", values, 0)], charts.axis([values]))
    d = re.search(r'<path class="l[^>]* d="([^"]*)"', markup)
    assert d is not None
    assert (d[1].count("M"), d[1].count("L")) == (2, 2)
    assert "[1.0,2.0,null,3.0,4.0]" in markup


def test_layers_add_up() -> None:
    layers = [Line("a", np.full(3000, 0.6), 0), Line("b", np.full(3000, 0.4), 1), Line("short", np.full(3000, -0.2), 2)]
    markup = charts.stacked_chart(DATES, layers)
    scale = charts.axis([np.array([1.0, -0.2])], "%", zero=True)
    starts = [float(y) for y in re.findall(r'class="a s\d" d="M0 (-?\d+)l', markup)]
    assert starts == [round(float(scale.place(v))) for v in (0.6, 1.0, -0.2)]


def test_bars_stand_on_zero_and_reach_their_value() -> None:
    markup = charts.bar_chart(["x", "y"], [Line("a", np.array([1.0, np.nan]), 0)], [np.array([0.1, 0.1])])
    bars = re.findall(r'<rect class="a[^>]* y="([\d.]+)"[^>]* height="([\d.]+)"', markup)
    assert len(bars) == 1
    scale = charts.axis([np.array([0.0, 1.196])], zero=True)
    assert float(bars[0][0]) == pytest.approx(float(scale.place(1.0)), abs=0.1)
    assert markup.count('class="w"') == 1


def test_a_heat_map_is_a_picture_of_its_table() -> None:
    table = np.array([[0.0, 1.0, 2.0], [4.0, np.nan, 4.0]])
    data = base64.b64decode(charts.heat_map(table).split("base64,")[1].split('"')[0])
    assert data.startswith(b"\x89PNG")
    assert np.frombuffer(data[16:24], ">u4").tolist() == [3, 2]
    size = int.from_bytes(data[33:37], "big")
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + size]), np.uint8).reshape(2, -1)[:, 1:].reshape(2, 3, 4)
    assert rows[..., 3].tolist() == [[0, 64, 128], [255, 0, 255]]


def test_names_are_escaped() -> None:
    line = Line("<b>'\"&", np.array([1.0, 2.0, 3.0]), 0)
    for markup in (
        charts.legend([line]),
        charts.line_chart(DATES[:3], [line], charts.axis([line.values]), label=line.name),
        charts.stacked_chart(DATES[:3], [line]),
        charts.bar_chart(["<i>", "b", "c"], [line], [None]),
    ):
        assert "<b>" not in markup
        assert "<i>" not in markup
