"""Importers of holdings: what is read, what is refused, and with which sentence."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foliocast.core.errors import ConfigError, DataError
from foliocast.data.sources.holdings import combine, from_table, map_tickers, read_ishares, read_plain
from foliocast.data.sources.sec import read_13f_bulk, read_nport_bulk
from foliocast.data.sources.sec_fetch import EdgarClient
from foliocast.data.sources.sec_xml import read_13f_xml, read_nport_xml, value_factor

NS = "http://www.sec.gov/edgar/document/thirteenf/informationtable"
ROW = """<infoTable><nameOfIssuer>{name}</nameOfIssuer><titleOfClass>COM</titleOfClass><cusip>{cusip}</cusip>
<value>{value}</value><shrsOrPrnAmt><sshPrnamt>{shares}</sshPrnamt><sshPrnamtType>SH</sshPrnamtType></shrsOrPrnAmt>
{put}</infoTable>
"""


def info_table(*rows: dict[str, object]) -> str:
    body = "".join(ROW.format(**{"put": "", **row}) for row in rows)
    return f'\n\n<?xml version="1.0"?>\n<informationTable xmlns="{NS}">\n{body}</informationTable>'


A = {"name": "ALPHA", "cusip": "000000001", "value": 1000, "shares": 10}
B = {"name": "BETA", "cusip": "000000002", "value": 3000, "shares": 60}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_of_one_security_are_added_and_puts_stay_apart(tmp_path: Path) -> None:
    put = {**A, "put": "<putCall>Put</putCall>", "value": 9_000}
    path = write(tmp_path, "a.xml", info_table(A, B, A, put))
    frame = read_13f_xml(path, "me", "2023-08-14", "2023-06-30").frame
    shares = frame[frame["put_call"] == ""].set_index("cusip")
    assert shares.loc["000000001", "value"] == 2000
    assert shares.loc["000000001", "shares"] == 20
    assert shares.loc["000000001", "weight"] == pytest.approx(0.4)
    assert frame[frame["put_call"] == "Put"]["weight"].tolist() == [0.0]
    assert (frame["known_at"] == pd.Timestamp("2023-08-14")).all()


def test_values_before_2023_are_thousands_unless_the_prices_say_otherwise(tmp_path: Path) -> None:
    thousands = write(tmp_path, "t.xml", info_table({**A, "value": 1}, {**B, "value": 3}))
    old = read_13f_xml(thousands, "me", "2022-11-14", "2022-09-30")
    assert old.frame["value"].sum() == 4000
    dollars = write(tmp_path, "d.xml", info_table(A, B))
    kept = read_13f_xml(dollars, "me", "2022-11-14", "2022-09-30")
    assert kept.frame["value"].sum() == 4000
    assert "dollars" in kept.notes[0]
    assert value_factor(pd.Timestamp("2024-01-01"), 0.05)[0] == 1000.0
    assert value_factor(pd.Timestamp("2024-01-01"), 50.0) == (1.0, "")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (info_table(A)[:-30], r"bad.xml, line \d+: not well-formed"),
        (info_table({**A, "value": "many"}), r"bad.xml, line 5: value of ALPHA is 'many'"),
        (info_table({**A, "value": ""}), r"value of ALPHA is missing"),
        ('<?xml version="1.0"?>\n<!DOCTYPE x [<!ENTITY a "b">]>\n<x>&a;</x>', r"line 2: .*DTD"),
        ('<!DOCTYPE html PUBLIC "a" "b">\n<html></html>', r"HTML page"),
        ("<other></other>", r"<other>, expected <informationTable>"),
        (info_table(), r"no <infoTable>"),
    ],
)
def test_a_bad_document_is_refused_with_file_and_line(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_13f_xml(write(tmp_path, "bad.xml", text), "me", "2023-08-14")


def test_nport_takes_the_reporting_date_and_keeps_shorts_out_of_the_weights(tmp_path: Path) -> None:
    row = (
        "<invstOrSec><name>{n}</name><cusip>{c}</cusip><identifiers><ticker value='{t}'/></identifiers>"
        "<balance>5</balance><valUSD>{v}</valUSD><payoffProfile>{p}</payoffProfile><assetCat>EC</assetCat></invstOrSec>"
    )
    rows = row.format(n="A", c="000000001", t="AAA", v=75, p="Long")
    rows += row.format(n="B", c="N/A", t="N/A", v=25, p="Long") + row.format(
        n="C", c="000000003", t="C", v=9, p="Short"
    )
    head = "<genInfo><seriesName>S</seriesName><seriesId>S1</seriesId><repPdEnd>2023-12-31</repPdEnd>"
    head += "<repPdDate>2023-06-30</repPdDate></genInfo>"
    doc = f"<edgarSubmission><formData>{head}<invstOrSecs>{rows}</invstOrSecs></formData></edgarSubmission>"
    frame = read_nport_xml(write(tmp_path, "n.xml", doc)).frame
    assert frame["as_of"].unique().tolist() == [pd.Timestamp("2023-06-30")]
    assert frame["known_at"].iloc[0] == pd.Timestamp("2023-08-29")
    assert frame.set_index("issuer")["weight"].to_dict() == {"A": 0.75, "B": 0.25, "C": 0.0}
    assert frame.set_index("issuer")["ticker"].to_dict()["B"] == ""


def bulk(folder: Path, info: list[str] | None = None, date: str = "14-NOV-2023") -> Path:
    rows = ["ACC1\tALPHA\tCOM\t000000001\t1000\t10\tSH\t", "ACC1\tALPHA\tCOM\t000000001\t1000\t10\tSH\t"]
    rows += ["ACC1\tBETA\tCOM\t000000002\t2000\t40\tSH\t", "ACC1\tBETA\tCOM\t000000002\t900\t40\tSH\tCall"]
    tables = {
        "SUBMISSION": [
            "ACCESSION_NUMBER\tFILING_DATE\tSUBMISSIONTYPE\tCIK\tPERIODOFREPORT",
            f"ACC1\t{date}\t13F-HR\t7\t30-SEP-2023",
        ],
        "COVERPAGE": ["ACCESSION_NUMBER\tISAMENDMENT\tAMENDMENTTYPE\tFILINGMANAGER_NAME", "ACC1\tN\t\tManager"],
        "SUMMARYPAGE": ["ACCESSION_NUMBER\tTABLEENTRYTOTAL", "ACC1\t5"],
        "INFOTABLE": [
            "ACCESSION_NUMBER\tNAMEOFISSUER\tTITLEOFCLASS\tCUSIP\tVALUE\tSSHPRNAMT\tSSHPRNAMTTYPE\tPUTCALL",
            *(rows if info is None else info),
        ],
    }
    for name, lines in tables.items():
        write(folder, f"{name}.tsv", "\n".join(lines) + "\n")
    return folder


def test_bulk_13f_groups_rows_joins_filings_and_checks_the_summary(tmp_path: Path) -> None:
    out = read_13f_bulk(bulk(tmp_path), {"000000001": "AAA"})
    frame = out.frame
    assert len(frame) == 3
    assert frame.loc[frame["ticker"] == "AAA", "weight"].tolist() == [0.5]
    assert frame.loc[frame["put_call"] == "Call", "weight"].tolist() == [0.0]
    assert frame["fund"].astype(str).unique().tolist() == ["7"]
    assert frame["known_at"].iloc[0] == pd.Timestamp("2023-11-14")
    assert "4 rows, 5 stated" in out.notes[0]


@pytest.mark.parametrize(
    ("info", "match"),
    [
        (["ACC1\tALPHA\tCOM\t000000001\tmuch\t10\tSH\t"], r"INFOTABLE.tsv, line 2: VALUE is 'much'"),
        (["ACC1\tALPHA\tCOM\t000000001\t1\t10\tSH\t", "ACC1\tAL"], r"INFOTABLE.tsv, line 3: 2 cells found"),
        (["ACC9\tALPHA\tCOM\t000000001\t1\t10\tSH\t"], r"ACC9 first"),
    ],
)
def test_bulk_13f_names_file_and_line(tmp_path: Path, info: list[str], match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_13f_bulk(bulk(tmp_path, info))


def test_bulk_13f_bad_date_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"SUBMISSION.tsv, line 2: FILING_DATE is '14-BLA-2023'"):
        read_13f_bulk(bulk(tmp_path, date="14-BLA-2023"))
    bulk(tmp_path)
    (tmp_path / "COVERPAGE.tsv").unlink()
    with pytest.raises(DataError, match="lacks COVERPAGE"):
        read_13f_bulk(tmp_path)


def test_bulk_nport(tmp_path: Path) -> None:
    tables = {
        "SUBMISSION": "ACCESSION_NUMBER\tFILING_DATE\tSUB_TYPE\tREPORT_DATE\nX\t29-AUG-2023\tNPORT-P\t30-JUN-2023\n",
        "FUND_REPORTED_INFO": "ACCESSION_NUMBER\tSERIES_NAME\tSERIES_ID\nX\tSeries\tS1\n",
        "FUND_REPORTED_HOLDING": "ACCESSION_NUMBER\tHOLDING_ID\tISSUER_NAME\tISSUER_TITLE\tISSUER_CUSIP\tPAYOFF_PROFILE"
        "\tASSET_CAT\tINVESTMENT_COUNTRY\tBALANCE\tCURRENCY_VALUE\n"
        "X\t1\tA\tA\t000000009\tLong\tEC\tUS\t1\t60\nX\t2\tB\tB\t000000000\tLong\tDBT\tUS\t1\t40\n",
        "IDENTIFIERS": "HOLDING_ID\tIDENTIFIER_TICKER\n1\tAAA\n",
    }
    for name, text in tables.items():
        write(tmp_path, f"{name}.tsv", text)
    frame = read_nport_bulk(tmp_path).frame.set_index("issuer")
    assert frame["weight"].to_dict() == {"A": 0.6, "B": 0.4}
    assert frame["ticker"].to_dict() == {"A": "AAA", "B": ""}
    assert frame["asset_class"].to_dict() == {"A": "equity", "B": "debt"}


ISHARES = """\ufeffTest ETF
Fund Holdings as of,"Dec 06, 2024"
Stock,"-"
\xa0
Ticker,Name,Sector,Asset Class,Market Value,Weight (%),Quantity
"AAA","ALPHA","Tech","Equity","1,000.00","75.0","10"
"-","USD CASH","Cash","Cash","333.00","25.0","333"

"The content is a disclaimer"
"""


def test_ishares_preamble_and_disclaimer(tmp_path: Path) -> None:
    frame = read_ishares(write(tmp_path, "TST_holdings.csv", ISHARES)).frame
    assert frame["as_of"].iloc[0] == pd.Timestamp("2024-12-06")
    assert frame["fund_name"].iloc[0] == "Test ETF"
    assert frame.set_index("issuer")["weight"].to_dict() == {"ALPHA": 0.75, "USD CASH": 0.25}
    assert frame["ticker"].tolist() == ["AAA", ""]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('"75.0"', '"lots"', r"line 6: weight is 'lots'"),
        (',"10"', "", r"line 6: 6 cells found, the header has 7"),
        ("Fund Holdings as of", "As of", "Fund Holdings as of"),
        ('"Dec 06, 2024"', '"-"', r"line 2: '-' is no date"),
        ("Ticker,", "Symbol,", "no header row"),
    ],
)
def test_ishares_refuses_with_a_line(tmp_path: Path, old: str, new: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_ishares(write(tmp_path, "TST_holdings.csv", ISHARES.replace(old, new)))


def test_plain_tables_in_percent_and_their_errors(tmp_path: Path) -> None:
    path = write(tmp_path, "p.csv", "Fund,Date,Ticker,Weight\nF,2024-01-31,A,60\nF,2024-01-31,B,40\n")
    out = read_plain(path)
    assert out.frame["weight"].tolist() == pytest.approx([0.6, 0.4])
    assert "percent" in out.notes[0]
    with pytest.raises(DataError, match=r"p.csv, line 3: weight is 'x'"):
        read_plain(write(tmp_path, "p.csv", "Fund,Date,Ticker,Weight\nF,2024-01-31,A,60\nF,2024-01-31,B,x\n"))
    with pytest.raises(DataError, match=r"line 2: as_of is 'soon'"):
        read_plain(write(tmp_path, "p.csv", "Fund,Date,Ticker,Weight\nF,soon,A,60\n"))
    with pytest.raises(DataError, match="no column for fund, as_of or known_at"):
        read_plain(write(tmp_path, "p.csv", "Ticker,Weight\nA,60\n"))


def test_one_accession_with_two_series_is_two_filings_and_undated_rows_are_left_out() -> None:
    table = pd.DataFrame(
        {
            "fund": ["x", "y", "y"],
            "accession": ["A", "A", "B"],
            "filing_date": ["2024-01-31", "2024-01-31", None],
            "ticker": ["T", "T", "T"],
            "weight": [1.0, 1.0, 1.0],
        }
    )
    out = from_table(table)
    assert out.filings == 2
    assert out.frame["weight"].tolist() == [1.0, 1.0]
    assert "1 positions without a date" in out.notes[0]
    assert out.frame["as_of"].iloc[0] == pd.Timestamp("2023-12-31")
    assert combine([out, out]).filings == 2


def test_tickers_are_filled_from_other_filings_and_coverage_is_said() -> None:
    table = pd.DataFrame(
        {
            "fund": ["x", "y", "y"],
            "as_of": "2024-01-31",
            "cusip": ["037833100", "037833100", "594918104"],
            "ticker": ["AAA", "", ""],
            "weight": [1.0, 0.75, 0.25],
        }
    )
    mapped = map_tickers(from_table(table))
    assert mapped.holdings.frame["ticker"].tolist() == ["AAA", "AAA", ""]
    assert mapped.by_name == pytest.approx(2 / 3)
    assert mapped.by_weight == pytest.approx(1.75 / 2)
    assert mapped.missing["cusip"].tolist() == ["594918104"]
    assert "66.7%" in mapped.sentence


class _Edgar(BaseHTTPRequestHandler):
    seen: list[tuple[str, str]] = []  # noqa: RUF012
    busy = 1

    def do_GET(self) -> None:
        type(self).seen.append((self.path, self.headers["User-Agent"]))
        recent = {
            "accessionNumber": ["1-23-1", "1-23-0"],
            "form": ["13F-HR", "8-K"],
            "filingDate": ["2023-08-14", "2023-08-01"],
            "reportDate": ["2023-06-30", ""],
            "primaryDocument": ["p.xml", "q.htm"],
        }
        answers = {
            "/submissions/CIK0000000007.json": json.dumps({"name": "M", "filings": {"recent": recent}}),
            "/a/data/7/1231/index.json": json.dumps(
                {"directory": {"item": [{"name": "primary_doc.xml"}, {"name": "i.xml"}]}}
            ),
            "/a/data/7/1231/i.xml": info_table(A, B),
        }
        if type(self).busy and self.path.endswith("i.xml"):
            type(self).busy -= 1
            self.send_response(503)
            self.end_headers()
            return
        body = answers.get(self.path)
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write((body or "").encode())

    def log_message(self, *_: object) -> None:
        return


def test_edgar_client_against_a_loopback_server(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Edgar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    naps: list[float] = []
    try:
        client = EdgarClient(
            "Jane Doe jane@example.com",
            tmp_path,
            rate=5,
            archives=f"{base}/a",
            data=base,
            clock=lambda: 0.0,
            sleep=naps.append,
        )
        frame = client.holdings(7).frame
        assert frame["value"].sum() == 4000
        assert frame["accession"].unique().tolist() == ["1-23-1"]
        assert frame["fund"].unique().tolist() == ["M"]
        assert {agent for _, agent in _Edgar.seen} == {"Jane Doe jane@example.com"}
        # With the clock standing still request n waits n - 1 slots of 0.2 s; one 503 waits more.
        assert np.allclose([n for n in naps if n != 1.0], [0.2, 0.4, 0.6])
        assert naps.count(1.0) == 1
        before = len(_Edgar.seen)
        client.file(f"{base}/a/data/7/1231/i.xml")
        assert len(_Edgar.seen) == before  # cached
        with pytest.raises(DataError, match="404"):
            client.get(f"{base}/nothing")
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(DataError, match="cannot be reached"):
        client.get(f"{base}/gone")


def test_edgar_client_insists_on_its_rules(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="e-mail"):
        EdgarClient("curl", tmp_path)
    with pytest.raises(ConfigError, match="10 requests"):
        EdgarClient("Jane Doe jane@example.com", tmp_path, rate=50)


@pytest.mark.devdata
def test_real_filings(dev_data: Path) -> None:
    out = read_13f_bulk(dev_data / "sec" / "bulk_13f_2023q4")
    assert out.filings == 74
    totals = out.frame.groupby("accession", observed=True)["weight"].sum()
    assert np.allclose(totals, 1.0)
    xml = read_13f_xml(
        dev_data / "sec/berkshire_xml/berkshire_13F_infotable_filed_2023-08-14.xml",
        "buffett",
        "2023-08-14",
        "2023-06-30",
    ).frame
    table = read_plain(dev_data / "funds" / "managers_13f_holdings.parquet", form="13F-HR").frame
    same = table[(table["fund"] == "buffett") & (table["known_at"] == "2023-08-14")].set_index("cusip")["weight"]
    other = xml.set_index("cusip")["weight"]
    assert np.allclose(same.sort_index(), other.sort_index(), atol=1e-6)
    assert read_ishares(dev_data / "funds" / "raw_ishares_IVV_2024-12-06.csv").frame["weight"].sum() == pytest.approx(1)
