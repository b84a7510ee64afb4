"""Every layout of price files, read to the same numbers."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foliocast.core.errors import DataError
from foliocast.core.panel import Panel
from foliocast.data import load_panel
from foliocast.data.sources.files import Reading, read_file
from markets import make_panel

TWO = "date,AAA,BBB\n2020-01-02,10,20\n2020-01-03,11,21\n2020-01-06,12,22\n"


def write(folder: Path, text: str, name: str = "prices.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def long_frame(panel: Panel, asset: str = "ticker") -> pd.DataFrame:
    table = pd.concat(
        {key: panel.frame(key).rename_axis(index="date", columns=asset).stack() for key in panel.fields}, axis=1
    )
    return table.reset_index()


def same(left: Panel, right: Panel) -> None:
    assert left.assets == right.assets
    assert (left.times == right.times).all()
    assert set(left.fields) == set(right.fields)
    for key in left.fields:
        np.testing.assert_allclose(left.array(key), right.array(key), rtol=1e-12)


@pytest.fixture(scope="module")
def market() -> Panel:
    return make_panel(40, 3)


def test_wide(tmp_path: Path) -> None:
    panel = load_panel(write(tmp_path, TWO))
    assert (panel.assets, panel.fields, panel.name) == (("AAA", "BBB"), ("close",), "prices")
    assert panel.close().iloc[1].tolist() == [11, 21]
    assert panel.times.tz is None


@pytest.mark.parametrize("asset", ["ticker", "Symbol", "Name", "asset"])
def test_long(tmp_path: Path, market: Panel, asset: str) -> None:
    path = tmp_path / "bars.csv"
    long_frame(market, asset).to_csv(path, index=False)
    same(load_panel(path), market)
    assert read_file(path).layout == "long"


def test_long_compressed_and_parquet(tmp_path: Path, market: Panel) -> None:
    table = long_frame(market)
    table.to_csv(tmp_path / "bars.csv.gz", index=False)
    table.to_parquet(tmp_path / "bars.parquet")
    table.astype({"ticker": "category"}).to_parquet(tmp_path / "bars2.parquet")
    table.set_index(["date", "ticker"]).to_parquet(tmp_path / "bars3.parquet")
    for name in ("bars.csv.gz", "bars.parquet", "bars2.parquet", "bars3.parquet"):
        same(load_panel(tmp_path / name), market)


def test_kaggle_all_stocks(tmp_path: Path) -> None:
    text = (
        "date,open,high,low,close,volume,Name\n"
        "2013-02-08,15.07,15.12,14.63,14.75,8407500,AAL\n2013-02-11,14.89,15.01,14.26,14.46,8882000,AAL\n"
        "2013-02-08,67.7142,68.4014,66.8928,67.8542,158168416,AAPL\n"
    )
    panel = load_panel(write(tmp_path, text, "all_stocks_5yr.csv"))
    assert panel.assets == ("AAL", "AAPL")
    assert panel.fields == ("open", "high", "low", "close", "volume")
    assert np.isnan(panel.array("close")[1, 1])


def test_yahoo_single_is_adjusted(tmp_path: Path) -> None:
    text = (
        "Date,Open,High,Low,Close,Adj Close,Volume\n"
        "2020-01-02,100,110,90,104,52,1000\n2020-01-03,104,108,100,106,53,2000\n"
    )
    panel = load_panel(write(tmp_path, text, "AAPL.csv"))
    assert panel.assets == ("AAPL",)
    assert panel.array("close")[:, 0].tolist() == [52, 53]
    assert panel.array("open")[:, 0].tolist() == [50, 52]
    assert panel.array("volume")[:, 0].tolist() == [1000, 2000]
    assert "adjusted close / close" in read_file(tmp_path / "AAPL.csv").notes[0]
    assert read_file(tmp_path / "AAPL.csv", Reading(ticker="APPLE")).assets == ("APPLE",)


def test_yahoo_rows_of_dividends_text_null(tmp_path: Path) -> None:
    text = (
        "Date,Open,High,Low,Close,Adj Close,Volume\n"
        "2020-01-02,1,1,1,1,1,5\n2020-01-03,null,null,null,null,null,null\n2020-01-06,1,1,1,1,1,5\n"
    )
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=r"close is empty for prices on 2020-01-03 \(row 3, column 'Close'\)"):
        load_panel(path)
    assert len(load_panel(path, gaps="keep")) == 2


MULTI = {
    "fields first": "Price,Close,Close,High,High\nTicker,AAA,BBB,AAA,BBB\nDate,,,,\n2020-01-02,10,20,11,21\n",
    "tickers first": "Ticker,AAA,BBB,AAA,BBB\nPrice,Close,Close,High,High\nDate,,,,\n2020-01-02,10,20,11,21\n",
    "two rows": ",Close,Close,High,High\n,AAA,BBB,AAA,BBB\n2020-01-02,10,20,11,21\n",
    "date above": "Date,Close,Close,High,High\n,AAA,BBB,AAA,BBB\n2020-01-02,10,20,11,21\n",
    "adjusted": "Price,Adj Close,Adj Close,Close,Close,High,High\nTicker,AAA,BBB,AAA,BBB,AAA,BBB\nDate,,,,,,\n"
    "2020-01-02,10,20,20,40,22,42\n",
}


@pytest.mark.parametrize("text", MULTI.values(), ids=MULTI.keys())
def test_multi_header(tmp_path: Path, text: str) -> None:
    panel = load_panel(write(tmp_path, text))
    assert panel.assets == ("AAA", "BBB")
    assert panel.array("close").tolist() == [[10, 20]]
    assert panel.array("high").tolist() == [[11, 21]]


def test_multi_header_of_one_ticker(tmp_path: Path) -> None:
    text = "Price,Close,High,Low,Open,Volume\nTicker,AAA,AAA,AAA,AAA,AAA\nDate,,,,,\n2020-01-02,10,11,9,10,500\n"
    panel = load_panel(write(tmp_path, text))
    assert panel.assets == ("AAA",)
    assert panel.array("volume").tolist() == [[500]]


def test_numeric_tickers_under_a_field_row(tmp_path: Path) -> None:
    text = "Price,Close,Close\nTicker,7203.T,0700.HK\nDate,,\n2020-01-02,10,20\n"
    assert load_panel(write(tmp_path, text)).assets == ("7203.T", "0700.HK")


def test_panel_round_trip_through_pandas(tmp_path: Path, market: Panel) -> None:
    market.to_pandas().to_csv(tmp_path / "p.csv")
    market.to_pandas().to_parquet(tmp_path / "p.parquet")
    same(load_panel(tmp_path / "p.csv"), market)
    same(load_panel(tmp_path / "p.parquet"), market)
    market.close().to_parquet(tmp_path / "wide.parquet")
    market.close().to_csv(tmp_path / "wide.csv")
    same(load_panel(tmp_path / "wide.parquet"), load_panel(tmp_path / "wide.csv"))


def test_single_price_column_is_named_after_the_file(tmp_path: Path) -> None:
    assert load_panel(write(tmp_path, "Date,Price\n2020-01-02,60\n2020-01-03,61\n", "brent.csv")).assets == ("brent",)


def test_lowes_in_a_wide_file_is_a_ticker(tmp_path: Path) -> None:
    assert load_panel(write(tmp_path, "date,LOW,OPEN\n2020-01-02,1,2\n")).assets == ("LOW", "OPEN")


def test_a_ticker_called_coin_is_no_asset_column(tmp_path: Path) -> None:
    panel = load_panel(write(tmp_path, "date,AAA,COIN\n2020-01-02,1,200.5\n2020-01-03,1,201\n"))
    assert panel.assets == ("AAA", "COIN")
    assert panel.close()["COIN"].tolist() == [200.5, 201]


def test_tickers_stay_text(tmp_path: Path) -> None:
    text = "date,ticker,close\n2020-01-02,NA,1\n2020-01-02,TRUE,2\n2020-01-02,000001,3\n"
    assert load_panel(write(tmp_path, text)).assets == ("NA", "TRUE", "000001")


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_other_separators(tmp_path: Path, sign: str) -> None:
    same(load_panel(write(tmp_path, TWO.replace(",", sign))), load_panel(write(tmp_path, TWO, "prices2.csv")))


def test_decimal_commas(tmp_path: Path) -> None:
    panel = load_panel(write(tmp_path, "Date;AAA;BBB\n02.01.2020;10,5;20\n13.01.2020;11,25;21\n"))
    assert panel.close().to_numpy().tolist() == [[10.5, 20], [11.25, 21]]
    assert panel.times[0] == pd.Timestamp("2020-01-02")


def test_encodings_line_ends_and_preamble(tmp_path: Path) -> None:
    for name, data in {
        "bom.csv": b"\xef\xbb\xbf" + TWO.encode(),
        "utf16.csv": TWO.encode("utf-16"),
        "latin.csv": TWO.replace("BBB", "Bé").encode("latin-1"),
        "windows.csv": TWO.replace("\n", "\r\n").encode(),
        "preamble.csv": b"Downloaded from somewhere\n" + TWO.encode(),
        "blank_end.csv": TWO.encode() + b"\n\n",
    }.items():
        (tmp_path / name).write_bytes(data)
        assert load_panel(tmp_path / name).close().to_numpy().tolist() == [[10, 20], [11, 21], [12, 22]], name


def test_money_signs_and_suffixes(tmp_path: Path) -> None:
    text = 'Date,Close/Last,Volume,Open,High,Low\n01/31/2020,"$1,077.37",12.5M,$77,$1100,$76\n'
    panel = load_panel(write(tmp_path, text, "X.csv"))
    assert panel.array("close").tolist() == [[1077.37]]
    assert panel.array("volume").tolist() == [[12_500_000]]


def test_newest_first_is_turned_round(tmp_path: Path) -> None:
    lines = TWO.splitlines()
    panel = load_panel(write(tmp_path, "\n".join([lines[0], *lines[:0:-1]])))
    assert panel.close()["AAA"].tolist() == [10, 11, 12]


@pytest.mark.parametrize(
    ("dates", "option"),
    [
        (["20200131", "20200203"], None),
        (["01/31/2020", "02/03/2020"], None),
        (["31/01/2020", "03/02/2020"], None),
        (["31.01.2020", "03.02.2020"], None),
        (["2020/01/31", "2020/02/03"], None),
        (["31-Jan-2020", "03-Feb-2020"], None),
        (['"Jan 31, 2020"', '"Feb 03, 2020"'], None),
        (["2020-01-31 00:00:00", "2020-02-03 00:00:00"], None),
        (["2020-01-31 16:00:00", "2020-02-03 16:00:00"], None),
        (["2020-01-31 00:00:00-05:00", "2020-02-03 00:00:00-05:00"], None),
        (["2020-01-31T00:00:00Z", "2020-02-03T00:00:00Z"], None),
        (["1580428800", "1580688000"], None),
        (["1580428800000", "1580688000000"], None),
        (["31/1/20", "3/2/20"], True),
    ],
)
def test_dates(tmp_path: Path, dates: list[str], option: bool | None) -> None:
    path = write(tmp_path, "date,AAA,BBB\n" + "\n".join(f"{d},1,2" for d in dates))
    panel = load_panel(path, dayfirst=option)
    assert [str(t.date()) for t in panel.times] == ["2020-01-31", "2020-02-03"]
    assert panel.times.tz is None


def test_daylight_saving_is_one_zone(tmp_path: Path) -> None:
    text = "Date,AAA,B\n2020-03-06 00:00:00-05:00,1,2\n2020-03-09 00:00:00-04:00,1,2\n"
    assert [str(t.date()) for t in load_panel(write(tmp_path, text)).times] == ["2020-03-06", "2020-03-09"]
    index = pd.date_range("2020-03-06", periods=3, freq="B", tz="America/New_York", name="Date")
    pd.DataFrame({"AAA": [1.0, 2, 3]}, index=index).to_parquet(tmp_path / "tz.parquet")
    assert [str(t.date()) for t in load_panel(tmp_path / "tz.parquet", allow_jumps=True).times] == [
        "2020-03-06",
        "2020-03-09",
        "2020-03-10",
    ]


def test_intraday_becomes_utc(tmp_path: Path) -> None:
    aware = "time,AAA,B\n2020-01-02 09:30:00-05:00,1,2\n2020-01-02 10:30:00-05:00,1,2\n"
    naive = "time,AAA,B\n2020-01-02 09:30:00,1,2\n2020-01-02 10:30:00,1,2\n"
    first = pd.Timestamp("2020-01-02 14:30", tz="UTC")
    assert load_panel(write(tmp_path, aware)).times[0] == first
    assert load_panel(write(tmp_path, naive), timezone="America/New_York").times[0] == first
    assert load_panel(write(tmp_path, naive)).times[0] == pd.Timestamp("2020-01-02 09:30", tz="UTC")
    assert "times named no zone and were read as UTC" in load_panel(tmp_path / "prices.csv").notice
    assert len(load_panel(tmp_path / "prices.csv", end="2020-01-02")) == 2
    with pytest.raises(DataError, match="cannot be read as 'Mars/Base'"):
        load_panel(tmp_path / "prices.csv", timezone="Mars/Base")


def test_known_at_hides_values_until_then(tmp_path: Path) -> None:
    text = (
        "date,ticker,close,known_at\n2020-01-02,A,1,2020-01-02 21:00\n2020-01-03,A,1.1,2020-01-07\n"
        "2020-01-08,A,1.2,2020-01-08\n"
    )
    panel = load_panel(write(tmp_path, text))
    assert panel.asof("2020-01-02").close()["A"].tolist() == [1]
    assert np.isnan(panel.asof("2020-01-06").close()["A"].iloc[-1])
    assert panel.asof("2020-01-07").close()["A"].iloc[-1] == 1.1


# ---- files that are no price files: one sentence each
REFUSED = {
    "empty.csv": (b"", r"^empty\.csv is an empty file \(0 bytes\)"),
    "blank.csv": (b"\n \n\n", r"^blank\.csv holds nothing but blank lines"),
    "binary.csv": (bytes(range(256)) * 9, r"^binary\.csv is a binary file, expected text"),
    "noise.csv": (bytes((i * 97) % 251 + 1 for i in range(5000)), r"^noise\.csv is a binary file"),
    "parquet.csv": (b"PAR1....", r"^parquet\.csv is not text but a Parquet file; rename it to \.parquet"),
    "zip.csv": (b"PK\x03\x04....", r"^zip\.csv is not text but an Excel workbook"),
    "packed.csv": (
        gzip.compress(TWO.encode()),
        r"^packed\.csv is not text but gzip-compressed; rename it to \.csv\.gz",
    ),
    "bad.csv.gz": (b"not gzip at all", r"^bad\.csv\.gz is damaged or not gzip-compressed"),
    "cut.csv.gz": (gzip.compress(TWO.encode() * 99)[:60], r"^cut\.csv\.gz is damaged"),
    "bad.parquet": (b"nothing of the kind", r"^bad\.parquet cannot be read as Parquet"),
    "prices.xlsx": (b"PK\x03\x04", r"^prices\.xlsx has an unknown ending, expected one of \.csv"),
    "one.csv": (b"hello\nworld\n", r"^one\.csv has a single column"),
    "header.csv": (b"date,AAA\n", r"^header\.csv has a header but no data rows"),
    "nohead.csv": (b"2020-01-02,1\n2020-01-03,2\n", r"row 1 already holds data, expected a header"),
    "nodate.csv": (b"price,volume\n1,2\n", r"^nodate\.csv has no date column among price, volume"),
    "alone.csv": (b"date,\n2020-01-02,\n2020-01-03,\n", r"has a date column and nothing else"),
    "ragged.csv": (b"date,A,B\n2020-01-02,1,2\n2020-01-03,1\n", r"row 3 has 2 cells, expected 3 as in the header"),
    "word.csv": (b"date,A,B\n2020-01-02,1,2\n2020-01-03,x,2\n", r"'x' is no number \(row 3, column 'A'\)"),
    "baddate.csv": (b"date,A,B\n2020-01-02,1,2\nsoon,1,2\n", r"'soon' is no date \(row 3, column 'date'\)"),
    "year.csv": (
        b"date,A,B\n2020-01-02,1,2\n3020-01-03,1,2\n",
        r"the year 3020 in row 3, column 'date' is no market's",
    ),
    "hole.csv": (b"date,A,B\n2020-01-02,1,2\n,1,2\n", r"no date in row 3, column 'date'"),
    "order.csv": (
        b"date,A,B\n01/02/2020,1,2\n02/02/2020,1,2\n",
        r"'01/02/2020' \(row 2, column 'date'\) can be month/day",
    ),
    "zones.csv": (
        b"date,A,B\n2020-01-02 00:00:00-05:00,1,2\n2020-01-03 00:00:00,1,2\n",
        r"mixed time zones: '2020-01-02 00:00:00-05:00' \(row 2, column 'date'\) names one, .* \(row 3, .* does not",
    ),
    "zones2.csv": (
        b"date,A,B\n2020-01-02 00:00:00-05:00,1,2\n2020-01-03 00:00:00+09:00,1,2\n",
        r"mixed time zones: daily bars with offsets from UTC that differ by 14 hours",
    ),
    "money.csv": (
        b"date,ticker,close,currency\n2020-01-02,A,1,USD\n2020-01-02,B,1,EUR\n",
        r"mixed currencies: USD and EUR \(row 3, column 'currency'\)",
    ),
    "signs.csv": (
        "date,A,B\n2020-01-02,$1,2\n2020-01-03,€1,2\n".encode(),
        r"mixed currencies in column 'A': \$ in row 2, € in row 3",
    ),
    "noname.csv": (b"date,ticker,close\n2020-01-02,A,1\n2020-01-03,,1\n", r"no asset named in row 3, column 'ticker'"),
    "noprice.csv": (b"date,ticker,mood\n2020-01-02,A,1\n", r"has a date and a 'ticker' column but no price"),
    "twice.csv": (b"date,A,A\n2020-01-02,1,2\n", r"has two columns for A"),
    "twins.csv": (b"Price,Close,Close\nTicker,A,A\nDate,,\n2020-01-02,1,2\n", r"has two columns 'Close' for A"),
    "noclose.csv": (b"Price,High,High\nTicker,A,B\nDate,,\n2020-01-02,1,2\n", r"has no Close column"),
    "odd.csv": (b"x,Foo,Foo\ny,A,B\n2020-01-02,1,2\n", r"has 2 header rows, expected one with field names"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(tmp_path: Path, name: str) -> None:
    data, said = REFUSED[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=said) as caught:
        load_panel(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_no_such_file_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file at .*gone\.csv; check the path"):
        load_panel(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="is a folder, expected a file"):
        load_panel(tmp_path)
