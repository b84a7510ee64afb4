"""13F information tables and N-PORT reports in XML, read as a stream.

Documents with a DTD are refused: no filing has one, and entities are how XML attacks its reader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

import numpy as np
import pandas as pd

from foliocast.core.errors import DataError
from foliocast.data.sources.holdings import Holdings, conform

DOLLARS_SINCE = pd.Timestamp("2023-01-03")
"""From this filing date Form 13F states values in dollars; before, in thousands."""
MAX_BYTES = 512 * 2**20

Record = dict[str, str]


@dataclass
class _Reader:
    """Collects the leaves below every ``record`` element, and single leaves elsewhere, as ``path -> text``."""

    source: str
    record: str
    first_line: int
    parser: expat.XMLParserType = field(default_factory=lambda: expat.ParserCreate(namespace_separator=" "))
    path: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    current: Record | None = None
    depth: int = 0
    records: list[tuple[int, Record]] = field(default_factory=list)
    header: Record = field(default_factory=dict)
    root: str = ""

    def __post_init__(self) -> None:
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text.append
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.buffer_text = True

    @property
    def line(self) -> int:
        return self.parser.CurrentLineNumber + self.first_line - 1

    def doctype(self, name: str, *_: object) -> None:
        if name.lower() == "html":
            raise DataError(
                f"{self.source}, line {self.line}: this is an HTML page made from the filing, not the filing; "
                "download the XML document beside it"
            )
        raise DataError(f"{self.source}, line {self.line}: the document declares a DTD, which no filing has; refused")

    def start(self, name: str, attributes: Record) -> None:
        local = name.rsplit(" ", 1)[-1]
        if not self.path:
            self.root = local
        self.path.append(local)
        self.text.clear()
        if local == self.record and self.current is None:
            self.current, self.depth = {}, len(self.path)
            self.records.append((self.line, self.current))
        for key, value in attributes.items():
            self._keep(f"@{key.rsplit(' ', 1)[-1]}", value)

    def end(self, name: str) -> None:
        text = "".join(self.text).strip()
        if text:
            self._keep("", text)
        self.text.clear()
        if self.current is not None and len(self.path) == self.depth:
            self.current = None
        self.path.pop()

    def _keep(self, suffix: str, value: str) -> None:
        target = self.header if self.current is None else self.current
        below = self.path if self.current is None else self.path[self.depth :]
        target.setdefault("/".join(below[-2:]) + suffix, value)


def _read(path: str | Path, record: str, roots: tuple[str, ...]) -> _Reader:
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file} does not exist; give the path of an XML filing")
    if file.stat().st_size > MAX_BYTES:
        raise DataError(f"{file} has {file.stat().st_size / 2**20:.0f} MiB, more than the {MAX_BYTES >> 20} expected")
    raw = file.read_bytes()
    body = raw.removeprefix(b"\xef\xbb\xbf").lstrip()
    skipped = raw[: len(raw) - len(body)].count(b"\n")  # EDGAR puts blank lines before the XML declaration
    reader = _Reader(str(file), record, 1 + skipped)
    try:
        reader.parser.Parse(body, True)
    except expat.ExpatError as error:
        what = expat.errors.messages.get(error.code, str(error))
        raise DataError(f"{file}, line {error.lineno + skipped}: not well-formed XML ({what}); file cut off?") from None
    if reader.root not in roots:
        raise DataError(f"{file}: the document is a <{reader.root}>, expected <{'> or <'.join(roots)}>")
    if not reader.records:
        raise DataError(f"{file}: no <{record}> in the document: the filing reports no positions")
    return reader


def _column(reader: _Reader, key: str) -> list[str]:
    return [record.get(key, "") for _, record in reader.records]


def _number(reader: _Reader, key: str, required: bool = True) -> np.ndarray:
    out = np.full(len(reader.records), np.nan)
    for i, (line, record) in enumerate(reader.records):
        text = record.get(key, "").replace(",", "")
        if not text and not required:
            continue
        try:
            out[i] = float(text)
        except ValueError:
            shown = repr(text) if text else "missing"
            raise DataError(
                f"{reader.source}, line {line}: {key} of {record.get('nameOfIssuer', record.get('name', 'a position'))}"
                f" is {shown}, expected a number"
            ) from None
    return out


def value_factor(filed: pd.Timestamp | None, implied_price: float) -> tuple[float, str]:
    """Dollars in one unit of a 13F's values, and why.

    The rule is the filing date. Filers err in both directions, so the median of value / shares decides where the rule
    would imply a median share price above 5,000 or below 0.2 dollars.
    """
    factor = 1000.0 if filed is not None and filed < DOLLARS_SINCE else 1.0
    if np.isfinite(implied_price):
        if factor == 1000.0 and implied_price * factor > 5000.0:
            return 1.0, "values are in dollars although the filing date asks for thousands"
        if factor == 1.0 and implied_price < 0.2:
            reason = "the filing date asks for dollars" if filed is not None else "no filing date was given"
            return 1000.0, f"values are in thousands although {reason}"
    return factor, ""


def read_13f_xml(
    path: str | Path,
    fund: str,
    filed: str | pd.Timestamp | None = None,
    as_of: str | pd.Timestamp | None = None,
    tickers: dict[str, str] | None = None,
) -> Holdings:
    """A 13F information table.

    Parameters
    ----------
    path : path of the information table's XML
    fund : str
        Name of the manager; the information table does not carry it.
    filed, as_of : date, optional
        Filing date and quarter-end. Without ``filed`` the unit of the values is judged by the implied share prices.
    tickers : dict CUSIP -> ticker, optional

    Raises
    ------
    DataError
        Not XML, a DTD, another document, a number that is none; names file and line.
    """
    reader = _read(path, "infoTable", ("informationTable",))
    known = None if filed is None else pd.Timestamp(filed)
    value, shares = _number(reader, "value"), _number(reader, "shrsOrPrnAmt/sshPrnamt")
    unit = np.array(_column(reader, "shrsOrPrnAmt/sshPrnamtType"))
    real = (unit != "PRN") & (shares > 0) & (value > 0)
    price = float(np.median(value[real] / shares[real])) if real.any() else np.nan
    factor, why = value_factor(known, price)
    cusip = [c.upper().zfill(9) if c else "" for c in _column(reader, "cusip")]
    rows = pd.DataFrame(
        {
            "fund": fund,
            "form": "13F-HR",
            "as_of": pd.NaT if as_of is None else pd.Timestamp(as_of),
            "known_at": pd.NaT if known is None else known,
            "cusip": cusip,
            "ticker": [(tickers or {}).get(c, "") for c in cusip],
            "issuer": _column(reader, "nameOfIssuer"),
            "title": _column(reader, "titleOfClass"),
            "asset_class": np.where(unit == "PRN", "debt", "equity"),
            "put_call": _column(reader, "putCall"),
            "shares": shares,
            "value": value * factor,
        }
    )
    if known is None and as_of is None:
        raise DataError(f"{path}: an information table carries no date; pass filed= (and as_of=)")
    return conform(rows, (f"{path}: {why}",) if why else ())


_CLASSES = {
    "EC": "equity",
    "EP": "preferred",
    "DBT": "debt",
    "STIV": "cash",
    "RA": "cash",
    "RE": "real estate",
    "COMM": "commodity",
}


def nport_class(code: str) -> str:
    """Plain name of an N-PORT asset category; derivatives begin with D."""
    return _CLASSES.get(code, "derivative" if code.startswith("D") else (code.lower() or "other"))


def read_nport_xml(path: str | Path, filed: str | pd.Timestamp | None = None) -> Holdings:
    """An N-PORT report. ``as_of`` is its reporting date (``repPdDate``), not the end of the fiscal year.

    Without ``filed`` the report counts as known 60 days after its date, the last day it may be filed.
    Short positions and derivatives keep their rows with weight 0.
    """
    reader = _read(path, "invstOrSec", ("edgarSubmission",))
    head = reader.header
    as_of = pd.to_datetime(head.get("genInfo/repPdDate", ""), errors="coerce")
    if pd.isna(as_of):
        raise DataError(f"{path}: no reporting date (repPdDate) in the report")
    series = head.get("genInfo/seriesId", "") or head.get("genInfo/regCik", "")
    value = _number(reader, "valUSD", required=False)
    classes = [nport_class(code) for code in _column(reader, "assetCat")]
    short = np.array(_column(reader, "payoffProfile")) == "Short"
    derivative = np.array(classes) == "derivative"
    cusip = [c if len(c) == 9 and c.strip("0") else "" for c in _column(reader, "cusip")]
    rows = pd.DataFrame(
        {
            "fund": series,
            "fund_name": head.get("genInfo/seriesName") or head.get("genInfo/regName", series),
            "form": head.get("headerData/submissionType", "NPORT-P"),
            "as_of": as_of,
            "known_at": as_of + pd.Timedelta(days=60) if filed is None else pd.Timestamp(filed),
            "cusip": cusip,
            "ticker": _tickers(reader, classes),
            "issuer": _column(reader, "name"),
            "title": _column(reader, "title"),
            "asset_class": classes,
            "country": _column(reader, "invCountry"),
            "put_call": np.where(short, "Short", np.where(derivative, "Derivative", "")),
            "shares": _number(reader, "balance", required=False),
            "value": value,
        }
    )
    return conform(rows)


def _tickers(reader: _Reader, classes: list[str]) -> list[str]:
    """Tickers of shares; what N-PORT calls the ticker of a bond names its issuer only."""
    shares: Callable[[str], bool] = lambda kind: kind in ("equity", "preferred")  # noqa: E731
    given = _column(reader, "identifiers/ticker@value")
    return [t if shares(k) and t.upper() not in ("N/A", "NA") else "" for t, k in zip(given, classes)]
