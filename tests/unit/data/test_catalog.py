"""The catalog: whole or not at all, the same numbers back, and nothing outside its folder."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import foliocast.data.catalog as module
from foliocast.core.errors import DataError
from foliocast.core.panel import Panel
from foliocast.data import Catalog, Provenance, Rules, load_panel
from foliocast.data.bars import Bars
from markets import make_panel


@pytest.fixture(scope="module")
def market() -> Panel:
    """Three years, one asset listed late and one delisted."""
    base = make_panel(700, 3)
    fields = {key: base.array(key).copy() for key in base.fields}
    for values in fields.values():
        values[:100, 1] = np.nan
        values[650:, 2] = np.nan
    return Panel(fields, base.times, base.assets, name="m")


@pytest.fixture
def catalog(market: Panel) -> Catalog:
    catalog = Catalog()
    catalog.add(Bars.from_panel(market), "m", provenance=Provenance("made up", "CC0", "Not real."))
    return catalog


def test_what_goes_in_comes_out(catalog: Catalog, market: Panel) -> None:
    panel = catalog.load("m")
    assert panel.data_hash == market.data_hash
    assert (panel.name, panel.notice) == ("m", "Not real.")
    card = catalog.show("m")
    assert (card.data_hash, card.rows, card.bars) == (market.data_hash, 700 * 3 - 150, 700)
    assert (card.source, card.licence, card.fields) == ("made up", "CC0", market.fields)
    assert load_panel("m").data_hash == market.data_hash


def test_only_the_rows_and_columns_asked_for(catalog: Catalog, market: Panel) -> None:
    part = catalog.load("m", assets=["A2", "A0"], start="2016-01-01", end=market.times[500], fields=["close"])
    want = market.select(["A2", "A0"]).between("2016-01-01", market.times[500])
    assert (part.assets, part.fields) == (("A2", "A0"), ("close",))
    np.testing.assert_array_equal(part.array("close"), want.array("close"))
    assert (part.times == want.times).all()
    assert catalog.load("m", fields=["volume"]).fields == ("close", "volume")
    for panel in (load_panel("m", assets=["A1"], end="2015-12-31"),):
        assert (panel.assets, str(panel.times[-1].date())) == (("A1",), "2015-12-31")


def test_what_is_not_there_is_said(catalog: Catalog) -> None:
    with pytest.raises(DataError, match=r"no data set 'x' in the catalog, it holds: m"):
        catalog.load("x")
    with pytest.raises(DataError, match=r"no asset ZZ in 'm': it holds 3 \(A0, A1, A2\)"):
        catalog.load("m", assets=["A0", "ZZ"])
    with pytest.raises(DataError, match=r"no field vwap in 'm': it holds 5"):
        catalog.load("m", fields=["vwap"])
    with pytest.raises(DataError, match=r"no rows between 1999-01-01 and 1999-12-31: 'm' covers 2015-01-01"):
        catalog.load("m", start="1999-01-01", end="1999-12-31")
    with pytest.raises(DataError, match=r"no data named 'nope': samples are sample, .*; the catalog holds m"):
        load_panel("nope")


def test_partitions_are_plain_parquet(catalog: Catalog) -> None:
    files = sorted((catalog.folder / "m").glob("year=*/bars.parquet"))
    assert [f.parent.name for f in files] == ["year=2015", "year=2016", "year=2017"]
    table = pq.ParquetFile(files[0]).read().to_pandas()
    assert list(table.columns) == ["date", "asset", "known_at", "open", "high", "low", "close", "volume"]
    assert (table["date"] == table["known_at"]).all()
    assert (table["date"].dt.year == 2015).all()


def test_intraday_and_known_at_survive(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        "time,ticker,close,known_at\n2020-12-31 23:00:00Z,A,1,2020-12-31 23:00:00Z\n"
        "2021-01-01 00:00:00Z,A,1.1,2021-01-01 02:00:00Z\n2021-01-01 01:00:00Z,A,1.2,2021-01-01 01:00:00Z\n"
    )
    card = Catalog().import_file(path)
    assert (card.name, card.intraday, card.source) == ("x", True, "file x.csv")
    panel = load_panel("x")
    assert str(panel.times.tz) == "UTC"
    assert panel.data_hash == load_panel(path).data_hash
    assert panel.asof(pd.Timestamp("2021-01-01 01:00", tz="UTC")).close()["A"].isna().tolist() == [False, True, False]
    assert len(load_panel("x", end="2021-01-01")) == 3
    assert len(load_panel("x", start="2021-01-01")) == 2
    Catalog().check("x")


def test_same_data_same_bytes(market: Panel, tmp_path: Path) -> None:
    bars = Bars.from_panel(market)
    first, second = (Catalog(tmp_path / name).add(bars, "m") for name in "ab")
    assert first.files == second.files


@pytest.mark.parametrize("where", ["write_json", "_write_years", "card_of"])
def test_a_crash_leaves_nothing(market: Panel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("pulled the plug")

    catalog = Catalog(tmp_path / "c")
    monkeypatch.setattr(module, where, crash)
    with pytest.raises(RuntimeError, match="plug"):
        catalog.add(Bars.from_panel(market), "m")
    assert catalog.names() == ()
    assert list(catalog.folder.iterdir()) == []


def test_a_crash_while_overwriting_keeps_the_old(
    catalog: Catalog, market: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        catalog.add(Bars.from_panel(market.rows(0, 200)), "m", overwrite=True)
    assert catalog.load("m").data_hash == market.data_hash


def test_a_refused_file_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("date,A,B\n2020-01-02,0,1\n")
    with pytest.raises(DataError, match="close is 0"):
        Catalog().import_file(path)
    assert not Catalog().folder.exists()


def test_leftovers_of_a_killed_import_are_swept_and_never_listed(catalog: Catalog, market: Panel) -> None:
    left = catalog.folder / ".n.abc"
    left.mkdir()
    (left / "card.json").write_text("{}")
    assert catalog.names() == ("m",)
    catalog.add(Bars.from_panel(market), "fresh")
    assert left.exists()  # may belong to an import that runs now
    old = time.time() - 3 * 86_400
    os.utime(left, (old, old))
    catalog.add(Bars.from_panel(market), "o")
    assert not left.exists()


def test_names_are_plain_and_not_taken_twice(catalog: Catalog, market: Panel) -> None:
    bars = Bars.from_panel(market)
    for name in ("../evil", "a/b", "..", "", ".hidden", "sample", "a b", "x" * 65, "c:\\x"):
        with pytest.raises(DataError, match="cannot name a data set"):
            catalog.add(bars, name)
        with pytest.raises(DataError, match="cannot name a data set"):
            catalog.remove(name)
    with pytest.raises(DataError, match=r"already holds a data set 'm'; .*--overwrite"):
        catalog.add(bars, "m")
    assert catalog.add(bars, "m", overwrite=True).name == "m"
    catalog.remove("m")
    assert catalog.list() == []


def test_check_finds_what_was_changed(catalog: Catalog) -> None:
    assert catalog.check("m").repairs == ()
    victim = catalog.folder / "m" / "year=2016" / "bars.parquet"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(DataError, match=r"data set 'm': year=2016/bars\.parquet was changed since the import of"):
        catalog.check("m")
    victim.unlink()
    with pytest.raises(DataError, match=r"year=2016/bars\.parquet is missing since"):
        catalog.check("m")
    shutil.copytree(catalog.folder / "m" / "year=2015", catalog.folder / "m" / "year=2014")
    with pytest.raises(DataError, match=r"year=2014/bars\.parquet was not imported"):
        catalog.check("m")


def test_damaged_card_is_said(catalog: Catalog) -> None:
    (catalog.folder / "m" / "card.json").write_text('{"name": "m"')
    with pytest.raises(DataError, match="the card of data set 'm' is damaged"):
        catalog.load("m")


def test_repairs_travel_with_the_data(tmp_path: Path) -> None:
    path = tmp_path / "wti.csv"
    path.write_text("Date,Price\n2020-04-17,18.3\n2020-04-20,-36.98\n2020-04-21,18.1\n")
    card = Catalog().import_file(path, rules=Rules(repair=True))
    assert card.repairs == ("close is -36.98 for wti on 2020-04-20 (row 3, column 'Price'): drop the bar",)
    assert "Repaired on import: close is -36.98 for wti on 2020-04-20" in load_panel("wti").notice
    Catalog().check("wti")


def test_jumps_that_were_allowed_pass_the_check(tmp_path: Path) -> None:
    path = tmp_path / "doge.csv"
    path.write_text("Date,Price\n2021-01-27,0.0074\n2021-01-28,0.0365\n")
    assert "kept as told" in Catalog().import_file(path, rules=Rules(allow_jumps=True)).warnings[0]
    Catalog().check("doge")
