"""Figures hold what they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from foliocast.apps.dashboard import figures


def test_candles_become_a_line_where_there_are_only_closes() -> None:
    index = pd.bdate_range("2024-01-01", periods=5)
    table = pd.DataFrame({"close": range(5), "average_50": 1.0, "average_200": 2.0}, index=index)
    assert [t.type for t in figures.candles(table, "A").data] == ["scatter"] * 3
    for field in ("open", "high", "low", "volume"):
        table[field] = table["close"]
    assert [t.type for t in figures.candles(table, "A").data] == ["candlestick", "scatter", "scatter", "bar"]


def test_weekends_are_left_out_of_markets_that_close() -> None:
    always = pd.date_range("2024-01-01", periods=9)
    for index, breaks in ((always, 0), (pd.bdate_range("2024-01-01", periods=9), 1)):
        table = pd.DataFrame({"close": 1.0, "average_50": 1.0, "average_200": 1.0}, index=index)
        assert len(figures.candles(table, "A").layout.xaxis.rangebreaks or ()) == breaks


def test_the_animation_has_a_frame_a_noise_level_and_ends_at_the_fund() -> None:
    table = pd.DataFrame(np.array([[0.5, 0.5], [0.2, 0.8], [0.1, 0.9]]), [20.0, 1.0, 0.0], ["A", "B"])
    figure = figures.denoising(table)
    assert len(figure.frames) == len(figure.layout.sliders[0].steps) == 3
    assert list(figure.data[0].y) == ["B", "A"]
    assert list(figure.data[0].x) == [0.9, 0.1]


def test_bars_leave_room_for_their_numbers() -> None:
    low, high = figures.bars(pd.Series({"a": -0.2, "b": -0.1})).layout.xaxis.range
    assert low < -0.22
    assert high == 0.0


def test_a_curve_of_ruin_is_cut_where_it_ends() -> None:
    curve = pd.DataFrame({"growth": [0.0, 0.01, -np.inf], "volatility": [0, 0.1, np.nan]}, index=[0.0, 1.0, 2.0])
    assert len(figures.growth(curve).data[0].x) == 2
