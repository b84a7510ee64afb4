"""The SEC's quarterly data sets in bulk: Form 13F and Form N-PORT as tab-separated tables.

A quarter of 13F has about three million positions; Arrow reads it column by column and adds up the rows of a
security, so that it takes seconds and little memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from foliocast.core.errors import DataError
from foliocast.data.sources.holdings import COLUMNS, Holdings
from foliocast.data.sources.sec_xml import DOLLARS_SINCE, nport_class

_TEXT, _NUMBER = pa.string(), pa.float64()
_NAMES = pa.dictionary(pa.int32(), pa.string())


def _table(folder: Path, name: str, columns: Mapping[str, pa.DataType]) -> pa.Table:
    file = folder / name
    if not file.is_file():
        raise DataError(f"{folder} lacks {name}; unpack the whole data set of the quarter there")
    with file.open("rb") as handle:
        header = handle.readline().decode("utf-8-sig").rstrip("\r\n").split("\t")
    missing = [c for c in columns if c not in header]
    if missing:
        raise DataError(f"{file}, line 1: no column {', '.join(missing)}; found {', '.join(header[:8])}")
    parse = arrow_csv.ParseOptions(delimiter="\t", quote_char=False, newlines_in_values=False)
    convert = arrow_csv.ConvertOptions(
        column_types=dict(columns), include_columns=list(columns), strings_can_be_null=False
    )
    try:
        return arrow_csv.read_csv(file, arrow_csv.ReadOptions(block_size=16 << 20, use_threads=False), parse, convert)
    except pa.ArrowInvalid as error:
        raise DataError(_explain(file, len(header), columns, str(error))) from None


def _explain(file: Path, width: int, columns: Mapping[str, pa.DataType], message: str) -> str:
    """File, line and cause of what Arrow stumbled over; Arrow counts rows only sometimes, so the file is searched."""
    with file.open("rb") as handle:
        header = handle.readline().decode("utf-8-sig", "replace").rstrip("\r\n").split("\t")
        wanted = [(header.index(c), c) for c, kind in columns.items() if kind == _NUMBER and c in header]
        for number, raw in enumerate(handle, start=2):
            try:
                cells = raw.decode("utf-8").rstrip("\r\n").split("\t")
            except UnicodeDecodeError:
                return f"{file}, line {number}: bytes that are no UTF-8 text; file damaged?"
            if len(cells) != width:
                return f"{file}, line {number}: {len(cells)} cells found, the header has {width}; file cut off?"
            for at, name in wanted:
                if cells[at] and not re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", cells[at]):
                    return f"{file}, line {number}: {name} is {cells[at]!r}, expected a number"
    return f"{file} cannot be read: {message}"


def _dates(column: pd.Series, file: Path, name: str) -> pd.Series:
    """The data sets write 30-SEP-2023."""
    dates = pd.to_datetime(column, format="%d-%b-%Y", errors="coerce")
    dates = dates.fillna(pd.to_datetime(column, format="%Y-%m-%d", errors="coerce"))
    if dates.isna().any():
        at = int(np.flatnonzero(dates.isna())[0])
        raise DataError(f"{file}, line {at + 2}: {name} is {column.iloc[at]!r}, expected a date like 30-SEP-2023")
    return dates


def read_13f_bulk(folder: str | Path, tickers: Mapping[str, str] | None = None) -> Holdings:
    """A quarter of the SEC's 13F data set: SUBMISSION, COVERPAGE, INFOTABLE and, if there, SUMMARYPAGE.

    Parameters
    ----------
    folder : path
        Where the four ``.tsv`` files lie.
    tickers : mapping CUSIP -> ticker, optional

    Returns
    -------
    Holdings
        ``fund`` is the CIK. Amendments keep their form and say in ``amendment`` whether they restate or add.
        The notes list filings in a wrong unit and filings whose number of rows is not what their summary says.

    Raises
    ------
    DataError
        A file or column is missing, a row has another width, a cell is no number or date; with file and line.
    """
    root = Path(folder)
    filings = _filings(root)
    info = _table(
        root,
        "INFOTABLE.tsv",
        {
            "ACCESSION_NUMBER": _NAMES,
            "NAMEOFISSUER": _NAMES,
            "TITLEOFCLASS": _NAMES,
            "CUSIP": _NAMES,
            "VALUE": _NUMBER,
            "SSHPRNAMT": _NUMBER,
            "SSHPRNAMTTYPE": _NAMES,
            "PUTCALL": _NAMES,
        },
    ).unify_dictionaries()
    counts = info.group_by("ACCESSION_NUMBER").aggregate([([], "count_all")]).to_pandas()
    counts = counts.set_index("ACCESSION_NUMBER")["count_all"]
    unknown = counts.index.difference(filings.index)
    if len(unknown):
        raise DataError(
            f"{root / 'INFOTABLE.tsv'}: {len(unknown)} filings ({unknown[0]} first) are not in SUBMISSION.tsv; "
            "do the files belong to one quarter?"
        )
    factor, notes = _factors(info, filings)
    notes += _summary(root, counts)
    keys = ["ACCESSION_NUMBER", "CUSIP", "PUTCALL", "SSHPRNAMTTYPE"]
    info = info.append_column("ROW", pa.array(np.arange(len(info))))
    grouped = info.group_by(keys, use_threads=False).aggregate([("VALUE", "sum"), ("SSHPRNAMT", "sum"), ("ROW", "min")])
    for name in ("NAMEOFISSUER", "TITLEOFCLASS"):
        grouped = grouped.append_column(name, info[name].take(grouped["ROW_min"]))
    del info
    return Holdings(_assemble(grouped, filings, factor, tickers or {}), tuple(notes))


def _filings(root: Path) -> pd.DataFrame:
    names = ("ACCESSION_NUMBER", "FILING_DATE", "SUBMISSIONTYPE", "CIK", "PERIODOFREPORT")
    filings = _table(root, "SUBMISSION.tsv", dict.fromkeys(names, _TEXT)).to_pandas()
    for name in ("FILING_DATE", "PERIODOFREPORT"):
        filings[name] = _dates(filings[name], root / "SUBMISSION.tsv", name)
    cover = _table(
        root,
        "COVERPAGE.tsv",
        dict.fromkeys(("ACCESSION_NUMBER", "ISAMENDMENT", "AMENDMENTTYPE", "FILINGMANAGER_NAME"), _TEXT),
    ).to_pandas()
    twice = filings["ACCESSION_NUMBER"][filings["ACCESSION_NUMBER"].duplicated()]
    if len(twice):
        raise DataError(f"{root / 'SUBMISSION.tsv'}, line {twice.index[0] + 2}: filing {twice.iloc[0]} appears twice")
    return filings.merge(cover.drop_duplicates("ACCESSION_NUMBER"), on="ACCESSION_NUMBER", how="left").set_index(
        "ACCESSION_NUMBER"
    )


def _factors(info: pa.Table, filings: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    """Dollars a unit of VALUE, filing by filing: the rule of `sec_xml.value_factor` for all filings at once."""
    good = pc.and_(pc.greater(info["SSHPRNAMT"], 0.0), pc.greater(info["VALUE"], 0.0))
    good = pc.and_(good, pc.not_equal(info["SSHPRNAMTTYPE"].cast(_TEXT), "PRN"))
    part = info.filter(good)
    price = pa.table({"a": part["ACCESSION_NUMBER"], "p": pc.divide(part["VALUE"], part["SSHPRNAMT"])})
    median = price.group_by("a").aggregate([("p", "approximate_median")]).to_pandas()
    implied = median.set_index("a")["p_approximate_median"].astype(float)
    implied.index = implied.index.astype(str)
    implied = implied.reindex(filings.index)
    factor = pd.Series(np.where(filings["FILING_DATE"] < DOLLARS_SINCE, 1000.0, 1.0), index=filings.index)
    dollars = (factor == 1000.0) & (implied > 5.0)
    thousands = (factor == 1.0) & (implied < 0.2)
    notes = []
    for wrong, unit in ((dollars, "dollars"), (thousands, "thousands")):
        if wrong.any():
            notes.append(f"{int(wrong.sum())} filings state values in {unit} against the rule ({wrong.idxmax()} first)")
    return factor.mask(dollars, 1.0).mask(thousands, 1000.0), notes


def _summary(root: Path, counts: pd.Series) -> list[str]:
    if not (root / "SUMMARYPAGE.tsv").is_file():
        return []
    page = _table(root, "SUMMARYPAGE.tsv", {"ACCESSION_NUMBER": _TEXT, "TABLEENTRYTOTAL": _NUMBER}).to_pandas()
    stated = page.drop_duplicates("ACCESSION_NUMBER").set_index("ACCESSION_NUMBER")["TABLEENTRYTOTAL"]
    found = counts.reindex(stated.index).fillna(0)
    off = stated.notna() & (stated != found)
    if not off.any():
        return []
    first = off.idxmax()
    return [
        f"{int(off.sum())} filings have another number of rows than their summary page says "
        f"({first}: {int(found[first])} rows, {int(stated[first])} stated)"
    ]


def _assemble(grouped: pa.Table, filings: pd.DataFrame, factor: pd.Series, tickers: Mapping[str, str]) -> pd.DataFrame:
    """Grouped positions with what is known of their filings, in the common schema. Texts stay categories."""
    frame = grouped.to_pandas()
    code = filings.index.get_indexer(pd.Index(frame["ACCESSION_NUMBER"].astype(str)))

    def of_filing(name: str) -> pd.Categorical:
        labels = pd.Categorical(filings[name].fillna(""))
        return pd.Categorical.from_codes(labels.codes[code], labels.categories)

    cusip = frame["CUSIP"].cat.rename_categories(lambda c: c.strip().upper()) if _unique(frame["CUSIP"]) else None
    cusip = frame["CUSIP"] if cusip is None else cusip
    known = {c: tickers.get(c, "") for c in cusip.cat.categories}
    ticker = cusip.map(known).astype("category")
    put_call = frame["PUTCALL"].astype(str).str.title().fillna("").astype("category")
    value = frame["VALUE_sum"].to_numpy() * factor.to_numpy()[code]
    long = np.where((put_call == "").to_numpy() & (value > 0), value, 0.0)
    total = np.bincount(code, weights=long, minlength=len(filings))[code]
    amendment = of_filing("AMENDMENTTYPE")
    out = pd.DataFrame(
        {
            "fund": of_filing("CIK"),
            "fund_name": of_filing("FILINGMANAGER_NAME"),
            "form": of_filing("SUBMISSIONTYPE"),
            "as_of": filings["PERIODOFREPORT"].to_numpy()[code],
            "known_at": filings["FILING_DATE"].to_numpy()[code],
            "accession": frame["ACCESSION_NUMBER"],
            "amendment": amendment.rename_categories(lambda c: str(c).lower()),
            "cusip": cusip,
            "ticker": ticker,
            "issuer": frame["NAMEOFISSUER"],
            "title": frame["TITLEOFCLASS"],
            "asset_class": pd.Categorical(np.where(frame["SSHPRNAMTTYPE"] == "PRN", "debt", "equity")),
            "country": pd.Categorical([""] * len(frame)),
            "put_call": put_call,
            "shares": frame["SSHPRNAMT_sum"],
            "value": value,
            "weight": np.divide(long, total, out=np.zeros_like(long), where=total > 0),
        }
    )
    return out[list(COLUMNS)]


def _unique(column: pd.Series) -> bool:
    cleaned = [c.strip().upper() for c in column.cat.categories]
    return len(set(cleaned)) == len(cleaned)


def read_nport_bulk(folder: str | Path) -> Holdings:
    """A quarter of the SEC's N-PORT data set: SUBMISSION, FUND_REPORTED_INFO, FUND_REPORTED_HOLDING, IDENTIFIERS.

    ``fund`` is the series; ``as_of`` the reporting date. Shorts and derivatives keep their rows with weight 0.
    """
    root = Path(folder)
    names = ("ACCESSION_NUMBER", "FILING_DATE", "SUB_TYPE", "REPORT_DATE")
    filings = _table(root, "SUBMISSION.tsv", dict.fromkeys(names, _TEXT)).to_pandas()
    for name in ("FILING_DATE", "REPORT_DATE"):
        filings[name] = _dates(filings[name], root / "SUBMISSION.tsv", name)
    info = _table(
        root, "FUND_REPORTED_INFO.tsv", dict.fromkeys(("ACCESSION_NUMBER", "SERIES_NAME", "SERIES_ID"), _TEXT)
    ).to_pandas()
    filings = filings.merge(info, on="ACCESSION_NUMBER", how="left").set_index("ACCESSION_NUMBER")
    texts = ("ACCESSION_NUMBER", "HOLDING_ID", "ISSUER_NAME", "ISSUER_TITLE", "ISSUER_CUSIP", "PAYOFF_PROFILE")
    kinds = dict.fromkeys((*texts, "ASSET_CAT", "INVESTMENT_COUNTRY"), _TEXT)
    rows = _table(root, "FUND_REPORTED_HOLDING.tsv", kinds | dict.fromkeys(("BALANCE", "CURRENCY_VALUE"), _NUMBER))
    frame = rows.to_pandas()
    if (root / "IDENTIFIERS.tsv").is_file():
        marks = _table(root, "IDENTIFIERS.tsv", dict.fromkeys(("HOLDING_ID", "IDENTIFIER_TICKER"), _TEXT)).to_pandas()
        marks = marks[marks["IDENTIFIER_TICKER"] != ""].drop_duplicates("HOLDING_ID").set_index("HOLDING_ID")
        frame["ticker"] = frame["HOLDING_ID"].map(marks["IDENTIFIER_TICKER"]).fillna("")
    else:
        frame["ticker"] = ""
    strange = ~frame["ACCESSION_NUMBER"].isin(filings.index)
    if strange.any():
        at = int(np.flatnonzero(strange)[0])
        raise DataError(
            f"{root / 'FUND_REPORTED_HOLDING.tsv'}, line {at + 2}: filing {frame['ACCESSION_NUMBER'].iloc[at]} "
            "is not in SUBMISSION.tsv; do the files belong to one quarter?"
        )
    return _nport_rows(frame, filings)


def _nport_rows(frame: pd.DataFrame, filings: pd.DataFrame) -> Holdings:
    from foliocast.data.sources.holdings import conform

    filing = filings.loc[frame["ACCESSION_NUMBER"]]
    kind = frame["ASSET_CAT"].map(nport_class)
    side = np.where(frame["PAYOFF_PROFILE"] == "Short", "Short", np.where(kind == "derivative", "Derivative", ""))
    cusip = frame["ISSUER_CUSIP"].where(frame["ISSUER_CUSIP"].str.strip("0 ").str.len() > 0, "")
    return conform(
        pd.DataFrame(
            {
                "fund": filing["SERIES_ID"].to_numpy(),
                "fund_name": filing["SERIES_NAME"].to_numpy(),
                "form": filing["SUB_TYPE"].to_numpy(),
                "as_of": filing["REPORT_DATE"].to_numpy(),
                "known_at": filing["FILING_DATE"].to_numpy(),
                "accession": frame["ACCESSION_NUMBER"],
                "cusip": cusip.where(cusip.str.len() == 9, ""),
                "ticker": frame["ticker"].where(kind.isin(["equity", "preferred"]), ""),
                "issuer": frame["ISSUER_NAME"],
                "title": frame["ISSUER_TITLE"],
                "asset_class": kind,
                "country": frame["INVESTMENT_COUNTRY"],
                "put_call": side,
                "shares": frame["BALANCE"],
                "value": frame["CURRENCY_VALUE"],
            }
        )
    )
