"""Holdings of funds from tables: one schema for all sources, iShares-style CSV, plain CSV/Parquet, CUSIP to ticker.

Every reader returns `Holdings`, whole, or raises: nothing is ever half-imported.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foliocast.core.errors import DataError

COLUMNS = (
    "fund",
    "fund_name",
    "form",
    "as_of",
    "known_at",
    "accession",
    "amendment",
    "cusip",
    "ticker",
    "issuer",
    "title",
    "asset_class",
    "country",
    "put_call",
    "shares",
    "value",
    "weight",
)
"""Columns of `Holdings.frame`. ``value`` in US dollars, ``weight`` a fraction of the filing's long positions without
put/call rows, which carry weight 0; ``as_of`` the date of the positions, ``known_at`` the date of the filing."""

_ALIASES = {
    "fund": ("fund", "fund_id", "fund_ticker", "etf", "etf_ticker", "manager", "portfolio", "series_id"),
    "fund_name": ("fund_name", "etf_name", "manager_name", "fund_long_name", "name_of_fund"),
    "form": ("form", "form_type", "source"),
    "as_of": ("as_of", "date", "report_date", "period_end", "holdings_as_of", "period"),
    "known_at": ("known_at", "filing_date", "filed", "published", "date_scraped"),
    "accession": ("accession", "accession_number"),
    "cusip": ("cusip",),
    "ticker": ("ticker", "symbol", "ric"),
    "issuer": ("issuer", "security_name", "holding", "name"),
    "title": ("title", "title_of_class"),
    "asset_class": ("asset_class", "asset_cat"),
    "country": ("country", "location"),
    "put_call": ("put_call", "putcall"),
    "shares": ("shares", "quantity", "units"),
    "value": ("value", "value_usd", "dollar_value", "market_value"),
    "weight": ("weight", "pct_weight", "weight_(%)", "weight_pct", "percent"),
}


@dataclass(frozen=True)
class Holdings:
    """Positions of one or many filings.

    Parameters
    ----------
    frame : DataFrame
        With the columns `COLUMNS`, one row a filing, security and put/call mark.
    notes : tuple of str
        What was noticed and mended on the way in: unit of the values, rows dropped, filings that do not add up.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def filings(self) -> int:
        return len(self.frame[["fund", "accession"]].drop_duplicates())


def conform(rows: pd.DataFrame, notes: Sequence[str] = ()) -> Holdings:
    """Bring rows to the schema: group the rows of one security in one filing, compute weights.

    Several rows a CUSIP are usual (one a co-manager); they are added up. Puts and calls stay apart from the shares.
    """
    frame = rows.reindex(columns=list(COLUMNS))
    for name in ("cusip", "ticker", "put_call", "amendment", "form", "issuer", "title", "asset_class", "country"):
        frame[name] = frame[name].astype(object).where(frame[name].notna(), "").astype(str).str.strip()
    frame["put_call"] = frame["put_call"].str.title()
    frame["fund_name"] = frame["fund_name"].where(frame["fund_name"].notna(), frame["fund"])
    for name in ("as_of", "known_at"):
        frame[name] = pd.to_datetime(frame[name])
    frame["known_at"] = frame["known_at"].fillna(frame["as_of"])
    frame["as_of"] = frame["as_of"].fillna(_report_date(frame["known_at"]))
    own = frame["accession"].isna()
    if own.any():
        made = frame["fund"].astype(str) + "@" + frame["as_of"].dt.strftime("%Y-%m-%d")
        frame["accession"] = frame["accession"].where(~own, made)
    security = frame["cusip"].where(frame["cusip"] != "", frame["ticker"])
    frame["_security"] = security.where(security != "", frame["issuer"])
    keys = ["fund", "accession", "_security", "put_call"]  # one N-PORT accession may hold several series
    sums = dict.fromkeys(("shares", "value", "weight"), "sum")
    firsts = {name: "first" for name in COLUMNS if name not in (*sums, *keys)}
    given = frame["weight"].notna().any()
    frame = frame.groupby(keys, sort=False, observed=True).agg(firsts | sums).reset_index()
    long = (frame["put_call"] == "") & (frame["value"] > 0 if not given else frame["weight"] > 0)
    base = frame["weight" if given else "value"].where(long, 0.0)
    total = base.groupby([frame["fund"], frame["accession"]], observed=True).transform("sum")
    frame["weight"] = (base / total.where(total > 0)).fillna(0.0)
    return Holdings(frame[list(COLUMNS)].reset_index(drop=True), tuple(notes))


def _report_date(known_at: pd.Series) -> pd.Series:
    """Month-end that a filing most likely reports when it does not say: the last one at least 20 days before."""
    return (known_at - pd.Timedelta(days=20)).dt.to_period("M").dt.start_time - pd.Timedelta(days=1)


def read_plain(path: str | Path, fund: str | None = None, form: str = "table") -> Holdings:
    """A table of holdings in CSV or Parquet with a header of usual names (see `_ALIASES`).

    Needs a security (``ticker`` or ``cusip``) and ``weight`` or ``value``; ``fund`` and a date unless there is one
    fund and the argument names it. Weights may be fractions or percent.

    Raises
    ------
    DataError
        Missing columns, a cell that is no number or no date; names the file and the line.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file} does not exist; give the path of a table of holdings")
    try:
        table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, dtype=str)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{file} cannot be read as a table: {str(error).strip()}") from None
    return from_table(table, str(file), fund, form, 2 if file.suffix != ".parquet" else 1)


def from_table(
    table: pd.DataFrame, source: str = "table", fund: str | None = None, form: str = "table", first_line: int = 1
) -> Holdings:
    """A DataFrame of holdings brought to the schema; see `read_plain`."""
    rows, lines = _renamed(table), np.arange(len(table)) + first_line
    if fund is not None:
        rows["fund"] = fund
    if "form" not in rows:
        rows["form"] = form
    missing = [name for name in ("fund",) if name not in rows]
    missing += [] if {"ticker", "cusip"} & set(rows) else ["ticker or cusip"]
    missing += [] if {"weight", "value"} & set(rows) else ["weight or value"]
    missing += [] if {"as_of", "known_at"} & set(rows) else ["as_of or known_at"]
    if missing:
        found = ", ".join(map(str, table.columns[:12]))
        raise DataError(f"{source}: no column for {', '.join(missing)}; found {found}")
    for name in ("shares", "value", "weight"):
        if name in rows:
            rows[name] = _numbers(rows[name], source, lines, name)
    for name in ("as_of", "known_at"):
        if name in rows:
            rows[name] = _dates(rows[name], source, lines, name)
    dated = rows[[c for c in ("as_of", "known_at") if c in rows]].notna().any(axis=1)
    if not dated.any():
        raise DataError(f"{source}: no position has a date, and without one none can be used")
    notes = []
    if not dated.all():  # a filing that cannot be placed in time would leak, whatever date it were given
        first = lines[int(np.flatnonzero(~dated)[0])]
        notes.append(f"{source}: {int((~dated).sum())} positions without a date left out (line {first} first)")
        rows = rows[dated]
    if "weight" in rows:
        group = [c for c in ("accession", "fund", "as_of", "known_at") if c in rows]
        total = rows.groupby(group, dropna=False, observed=True)["weight"].sum().median()
        if total > 5:
            rows["weight"] /= 100.0
            notes.append(f"{source}: weights add up to {total:.4g} a fund, taken as percent")
    return conform(rows, notes)


def _renamed(table: pd.DataFrame) -> pd.DataFrame:
    names = {str(c).strip().lower().replace(" ", "_"): c for c in table.columns}
    chosen: dict[str, object] = {}
    for target, options in _ALIASES.items():
        for option in options:
            if option in names and names[option] not in chosen.values():
                chosen[target] = names[option]
                break
    return pd.DataFrame({target: table[column].to_numpy() for target, column in chosen.items()})


def _numbers(column: pd.Series, source: str, lines: np.ndarray, name: str) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(float)
    text = column.fillna("").astype(str).str.strip().str.replace(",", "", regex=False).str.rstrip("%")
    numbers = pd.to_numeric(text.where(~text.isin(["", "-", "--"]), np.nan), errors="coerce")
    wrong = numbers.isna() & ~text.isin(["", "-", "--", "nan", "<NA>"])
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(f"{source}, line {lines[at]}: {name} is {column.iloc[at]!r}, expected a number")
    return numbers.astype(float)


def _dates(column: pd.Series, source: str, lines: np.ndarray, name: str) -> pd.Series:
    dates = pd.to_datetime(column, errors="coerce", format=None if column.dtype != object else "mixed")
    wrong = dates.isna() & column.notna() & (column.astype(str).str.strip() != "")
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(f"{source}, line {lines[at]}: {name} is {column.iloc[at]!r}, expected a date like 2023-06-30")
    return dates


def read_ishares(path: str | Path) -> Holdings:
    """An iShares holdings download: a preamble with the fund's name and date, a table, a disclaimer.

    Cash, futures and other rows without a ticker of a share keep their asset class and can be told apart by it.

    Raises
    ------
    DataError
        No date in the preamble, no header row, a row of another width, or a cell that is no number; with the line.
    """
    file = Path(path)
    text = file.read_bytes().decode("utf-8-sig", errors="strict") if file.is_file() else None
    if text is None:
        raise DataError(f"{file} does not exist; give the path of an iShares holdings CSV")
    lines = list(csv.reader(io.StringIO(text)))
    head = next((i for i, row in enumerate(lines) if row and row[0].strip().lower() == "ticker"), None)
    if head is None:
        raise DataError(f"{file}: no header row that begins with Ticker; is this an iShares holdings file?")
    as_of = _preamble_date(lines[:head], str(file))
    name = lines[0][0].strip() if lines and lines[0] else file.stem
    header, rows, numbers = lines[head], [], []
    for number, row in enumerate(lines[head + 1 :], start=head + 2):
        if len(row) < 2:
            break  # the blank line before the disclaimer
        if len(row) != len(header):
            raise DataError(
                f"{file}, line {number}: {len(row)} cells found, the header has {len(header)}; file cut off?"
            )
        rows.append(row)
        numbers.append(number)
    if not rows:
        raise DataError(f"{file}: no holdings below the header in line {head + 1}")
    table = _renamed(pd.DataFrame(rows, columns=header))
    for column in ("weight", "value", "shares"):
        if column in table:
            table[column] = _numbers(table[column], str(file), np.asarray(numbers), column)
    table["weight"] /= 100.0
    table["ticker"] = table["ticker"].replace("-", "")
    fund = re.split(r"[_\s]", file.stem)[0] if re.match(r"^(raw_ishares_)?[A-Z]{2,5}(_|$)", file.stem) else name
    fund = file.stem.removeprefix("raw_ishares_").split("_")[0] if file.stem.startswith("raw_ishares_") else fund
    table = table.assign(fund=fund, fund_name=name, form="ETF", as_of=as_of, known_at=as_of)
    return conform(table)


def _preamble_date(preamble: list[list[str]], source: str) -> pd.Timestamp:
    for number, row in enumerate(preamble, start=1):
        if len(row) > 1 and row[0].lower().startswith("fund holdings as of"):
            date = pd.to_datetime(row[1], errors="coerce")
            if pd.isna(date):
                raise DataError(f"{source}, line {number}: {row[1]!r} is no date; the fund may have no holdings yet")
            return date
    raise DataError(f"{source}: no line 'Fund Holdings as of' before the table; without a date it cannot be used")


@dataclass(frozen=True)
class Mapped:
    """Holdings with tickers filled in, and how much of them that covers."""

    holdings: Holdings
    by_name: float
    by_weight: float
    missing: pd.DataFrame

    @property
    def sentence(self) -> str:
        return (
            f"{self.by_name:.1%} of the positions and {self.by_weight:.1%} of the weight have a ticker; "
            f"{len(self.missing)} securities have none"
        )


def map_tickers(holdings: Holdings, tickers: Mapping[str, str] | None = None) -> Mapped:
    """Fill empty tickers from a CUSIP table, and from other filings that name both; report the coverage.

    Parameters
    ----------
    tickers : mapping CUSIP -> ticker, optional
        CUSIPs of 9 characters. It goes before what other filings say; last, the first 8 characters decide (the ninth
        is a check digit that some filers drop or get wrong) if they name one ticker.

    Notes
    -----
    A CUSIP that other filings map to different tickers takes the one of the latest filing.
    """
    frame = holdings.frame.copy()
    known = frame[(frame["ticker"] != "") & (frame["cusip"] != "")].sort_values("known_at")
    empty = (frame["ticker"] == "") & (frame["cusip"] != "")
    if empty.any():
        latest = known.groupby("cusip")["ticker"].last().to_dict() | dict(tickers or {})
        short = pd.Series(latest)
        short.index = short.index.str[:8]
        unique = short.groupby(level=0).nunique()
        eight = short[short.index.isin(unique[unique == 1].index)].to_dict()
        cusip = frame.loc[empty, "cusip"]
        found = cusip.map(latest).fillna(cusip.str[:8].map(eight)).fillna("")
        frame.loc[empty, "ticker"] = found
    lacking = (frame["ticker"] == "") & (frame["put_call"] == "")
    counted = frame["put_call"] == ""
    by_name = 1.0 - lacking.sum() / max(1, counted.sum())
    by_weight = 1.0 - frame.loc[lacking, "weight"].sum() / max(1e-12, frame.loc[counted, "weight"].sum())
    missing = frame[lacking].groupby(["cusip", "issuer"])[["weight"]].sum().reset_index()
    return Mapped(
        Holdings(frame, holdings.notes),
        float(by_name),
        float(by_weight),
        missing.sort_values("weight", ascending=False).reset_index(drop=True),
    )


def combine(parts: Sequence[Holdings]) -> Holdings:
    """One table of several; a filing that appears twice is taken from the later part."""
    if not parts:
        raise DataError("no holdings to combine")
    frames = []
    seen: set[str] = set()
    for part in reversed(parts):
        key = part.frame["fund"].astype(str) + "|" + part.frame["accession"].astype(str)
        frame = part.frame[~key.isin(seen)]
        seen |= set(key.unique())
        frames.append(frame)
    notes = tuple(note for part in parts for note in part.notes)
    return Holdings(pd.concat(frames[::-1], ignore_index=True), notes)
