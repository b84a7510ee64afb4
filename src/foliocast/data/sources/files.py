"""Price files of any common layout, recognised by their content.

==============  =============================================================================================
layout          how it is recognised
==============  =============================================================================================
long            a column that names the asset (ticker, symbol, Name, ...) beside the date and a close
single          a close (or adjusted close) without an asset column: one asset, named after the file
multi-header    two or three header rows, one of field names and one of tickers (yfinance's ``download``)
wide            none of these: a date, and a column of prices for each asset
==============  =============================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from foliocast.core.errors import DataError
from foliocast.data.bars import Bars
from foliocast.data.sources import names
from foliocast.data.sources.dates import event_times, read_stamps
from foliocast.data.sources.sheet import Sheet, is_number, numbers, read_sheet, stem


@dataclass(frozen=True)
class Reading:
    """What a file cannot say about itself.

    Parameters
    ----------
    dayfirst : bool, optional
        Order of day and month in dates such as 03/04/2020, where no row shows it.
    timezone : str, optional
        IANA zone of intraday times that name none; default UTC.
    ticker : str, optional
        Asset of a single-asset file; default: the file's name.
    """

    dayfirst: bool | None = None
    timezone: str | None = None
    ticker: str | None = None


def read_file(path: str | Path, reading: Reading | None = None) -> Bars:
    """Read quotes as they stand in the file; `foliocast.data.schema.validate` comes next.

    Parameters
    ----------
    path : path
        ``.csv``, ``.tsv``, ``.txt`` (or with ``.gz``), ``.parquet``.
    reading : Reading, optional

    Raises
    ------
    DataError
        One sentence: an empty, binary or damaged file, no date column, no prices, dates or numbers that cannot be
        read (with row and column), mixed time zones or currencies, an asset that has two columns.
    """
    path = Path(path)
    reading = reading or Reading()
    sheet = read_sheet(path)
    if not sheet.n_rows:
        raise DataError(f"{path.name} has a header but no data rows, expected dates and prices; download it again")
    if len(sheet.headers[0]) > 1:
        return _multi_header(sheet, reading)
    heads = [h[0] for h in sheet.headers]
    date = _date_column(sheet, heads)
    asset = _asset_column(sheet, heads, date)
    if asset is not None:
        return _long(sheet, heads, date, asset, reading)
    fields = _field_columns(heads, date)
    if "close" in fields:
        return _single(sheet, heads, date, fields, reading, stem(path))
    return _wide(sheet, heads, date, reading)


# ---- finding columns
def _date_column(sheet: Sheet, heads: list[str]) -> int:
    found = names.first_of(heads, names.DATE)
    if found is not None:
        return found
    first = sheet.columns[0].type
    if names.plain(heads[0]) in ("", "index", "unnamed_0") and (
        pa.types.is_temporal(first) or pa.types.is_string(first)
    ):
        return 0
    shown = ", ".join(h or "(blank)" for h in heads[:8]) + (", ..." if len(heads) > 8 else "")
    raise DataError(
        f"{sheet.origin} has no date column among {shown}; expected one named date, datetime or timestamp, rename yours"
    )


def _asset_column(sheet: Sheet, heads: list[str], date: int) -> int | None:
    """The column that names assets; a column of numbers called COIN in a file without closes is a ticker itself."""
    found = names.first_of(heads, names.ASSET)
    if found is None or found == date:
        return None
    first = next((str(v) for v in sheet.columns[found][:50].to_pylist() if v not in (None, "")), "")
    return found if "close" in _field_columns(heads, date, found) or not is_number(first) else None


def _field_columns(heads: list[str], *taken: int) -> dict[str, int]:
    """Column of each field. "Price" and its like mean the close if there is no other, or no other column at all."""
    free = [i for i in range(len(heads)) if i not in taken]
    found: dict[str, int] = {}
    for i in free:
        key = names.FIELD.get(names.plain(heads[i]))
        if key and key not in found:
            found[key] = i
    if "close" not in found:
        price = next((i for i in free if names.plain(heads[i]) in names.PRICE), None)
        if price is not None and (len(free) == 1 or {"open", "high", "low", "volume"} & set(found) or len(taken) > 1):
            found["close"] = price
        elif "adj_close" in found:
            found["close"] = found.pop("adj_close")
    return found


def _ignored(heads: list[str], used: set[int]) -> tuple[str, ...]:
    left = [heads[i] for i in range(len(heads)) if i not in used and heads[i]]
    return (f"columns not used: {', '.join(left[:10])}{', ...' if len(left) > 10 else ''}",) if left else ()


# ---- layouts
def _long(sheet: Sheet, heads: list[str], date: int, asset: int, reading: Reading) -> Bars:
    fields = _field_columns(heads, date, asset)
    if "close" not in fields:
        raise DataError(
            f"{sheet.origin} has a date and a '{heads[asset]}' column but no price, expected one named close, adj "
            "close or price; rename yours"
        )
    codes, assets = _asset_codes(sheet, heads, asset)
    currency, currency_at = _currency(sheet, heads)
    known_at = names.first_of(heads, names.KNOWN_AT)
    stamps = read_stamps(sheet.columns[date], heads[date], sheet.first_row, sheet.origin, reading.dayfirst)
    times = event_times(stamps, codes, sheet.origin, reading.timezone)
    used = {date, asset, *fields.values(), *(i for i in (known_at, currency_at) if i is not None)}
    known = None if known_at is None else _known_at(sheet, heads, known_at, reading)
    return Bars(
        times=times.times,
        codes=codes,
        assets=assets,
        fields={key: numbers(sheet.columns[i], heads[i], sheet.first_row, sheet.origin) for key, i in fields.items()},
        rows=np.arange(sheet.n_rows) + sheet.first_row,
        intraday=times.intraday,
        known_at=known,
        origin=sheet.origin,
        layout="long",
        headers={key: heads[i] for key, i in fields.items()} | {"known_at": heads[known_at or 0]},
        currency=currency,
        notes=(*times.notes, *_adjustment(fields), *_ignored(heads, used)),
    )


def _single(sheet: Sheet, heads: list[str], date: int, fields: dict[str, int], reading: Reading, name: str) -> Bars:
    ticker = reading.ticker or name
    currency, currency_at = _currency(sheet, heads)
    codes = np.zeros(sheet.n_rows, dtype=np.int32)
    stamps = read_stamps(sheet.columns[date], heads[date], sheet.first_row, sheet.origin, reading.dayfirst)
    times = event_times(stamps, codes, sheet.origin, reading.timezone)
    known_at = names.first_of(heads, names.KNOWN_AT)
    used = {date, *fields.values(), *(i for i in (known_at, currency_at) if i is not None)}
    return Bars(
        times=times.times,
        codes=codes,
        assets=(ticker,),
        fields={key: numbers(sheet.columns[i], heads[i], sheet.first_row, sheet.origin) for key, i in fields.items()},
        rows=np.arange(sheet.n_rows) + sheet.first_row,
        intraday=times.intraday,
        known_at=None if known_at is None else _known_at(sheet, heads, known_at, reading),
        origin=sheet.origin,
        layout="single",
        headers={key: heads[i] for key, i in fields.items()} | {"known_at": heads[known_at or 0]},
        currency=currency,
        notes=(*times.notes, *_adjustment(fields), *_ignored(heads, used)),
    )


def _wide(sheet: Sheet, heads: list[str], date: int, reading: Reading) -> Bars:
    columns = [i for i in range(len(heads)) if i != date and heads[i]]
    if not columns:
        raise DataError(
            f"{sheet.origin} has a date column and nothing else, expected prices beside it; check the export"
        )
    assets = _unique_assets([heads[i] for i in columns], sheet.origin)
    values = np.stack([numbers(sheet.columns[i], heads[i], sheet.first_row, sheet.origin) for i in columns], axis=1)
    return _flat(sheet, heads[date], date, assets, {"close": values}, "wide", reading, ())


def _multi_header(sheet: Sheet, reading: Reading) -> Bars:
    """One header row of fields, one of tickers, in either order; the date is the first column."""
    levels = [list(level) for level in zip(*(h for h in sheet.headers[1:]))]
    is_field = [
        bool(level) and all(names.plain(c) in names.FIELD for c in level if c) and any(level) for level in levels
    ]
    rest = [i for i, yes in enumerate(is_field) if not yes and any(levels[i])]
    if not any(is_field) or not rest:
        raise DataError(
            f"{sheet.origin} has {len(levels)} header rows, expected one with field names (Close, Volume, ...) and one "
            "with tickers; export it with a single header row"
        )
    kinds, tickers = levels[is_field.index(True)], levels[rest[0]]
    assets = tuple(dict.fromkeys(t for t in tickers if t))
    code = {asset: i for i, asset in enumerate(assets)}
    values: dict[str, np.ndarray] = {}
    seen: set[tuple[str, str]] = set()
    for i, (kind, ticker) in enumerate(zip(kinds, tickers), start=1):
        if not kind or not ticker:
            continue
        key = names.FIELD[names.plain(kind)]
        if (key, ticker) in seen:
            raise DataError(f"{sheet.origin} has two columns '{kind}' for {ticker}, expected one; remove the copy")
        seen.add((key, ticker))
        column = numbers(sheet.columns[i], f"{kind} {ticker}", sheet.first_row, sheet.origin)
        values.setdefault(key, np.full((sheet.n_rows, len(assets)), np.nan))[:, code[ticker]] = column
    if "close" not in values:
        if "adj_close" not in values:
            raise DataError(
                f"{sheet.origin} has no Close column, expected one for each ticker; download it with closes"
            )
        values["close"] = values.pop("adj_close")
    return _flat(sheet, sheet.headers[0][-1] or "date", 0, assets, values, "multi-header", reading, _adjustment(values))


def _flat(
    sheet: Sheet,
    date_name: str,
    date: int,
    assets: tuple[str, ...],
    values: dict[str, np.ndarray],
    layout: str,
    reading: Reading,
    notes: tuple[str, ...],
) -> Bars:
    """Columns side by side -> one row a quote."""
    n, width = sheet.n_rows, len(assets)
    stamps = read_stamps(sheet.columns[date], date_name, sheet.first_row, sheet.origin, reading.dayfirst)
    times = event_times(stamps, np.zeros(n, dtype=np.int32), sheet.origin, reading.timezone)
    return Bars(
        times=np.tile(times.times, width),
        codes=np.repeat(np.arange(width, dtype=np.int32), n),
        assets=assets,
        fields={key: table.T.ravel() for key, table in values.items()},
        rows=np.tile(np.arange(n) + sheet.first_row, width),
        intraday=times.intraday,
        origin=sheet.origin,
        layout=layout,
        notes=(*times.notes, *notes),
    )


# ---- cells that are not prices
def _asset_codes(sheet: Sheet, heads: list[str], asset: int) -> tuple[np.ndarray, tuple[str, ...]]:
    column = sheet.columns[asset]
    kind = column.type
    if not pa.types.is_dictionary(kind):
        column = column.cast(pa.string()).dictionary_encode()
    encoded = column.unify_dictionaries().combine_chunks()
    words = ["" if w is None else str(w).strip() for w in encoded.dictionary.to_pylist()]
    raw = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    blank = raw < 0
    if "" in words:
        blank |= np.isin(raw, [i for i, w in enumerate(words) if not w])
    if blank.any():
        raise DataError(
            f"{sheet.origin}: no asset named in row {int(np.argmax(blank)) + sheet.first_row}, column "
            f"'{heads[asset]}', expected a symbol in every row; delete the row or fill it"
        )
    used, first = np.unique(raw, return_index=True)
    order = used[np.argsort(first)]
    assets = tuple(dict.fromkeys(words[i] for i in order))
    position = {word: i for i, word in enumerate(assets)}
    lookup = np.array([position.get(word, -1) for word in words], dtype=np.int32)
    return lookup[raw], assets


def _unique_assets(heads: list[str], origin: str) -> tuple[str, ...]:
    twice = sorted({h for h in heads if heads.count(h) > 1})
    if twice:
        raise DataError(f"{origin} has two columns for {', '.join(twice[:5])}, expected one an asset; remove the copy")
    return tuple(heads)


def _currency(sheet: Sheet, heads: list[str]) -> tuple[str, int | None]:
    at = names.first_of(heads, names.CURRENCY)
    if at is None:
        return "", None
    seen = [str(v).strip() for v in sheet.columns[at].unique().to_pylist() if v not in (None, "")]
    if len(seen) > 1:
        words = np.array(sheet.columns[at].cast(pa.string()).to_pylist(), dtype=object)
        row = int(np.argmax(words == seen[1])) + sheet.first_row
        raise DataError(
            f"{sheet.origin}: mixed currencies: {seen[0]} and {seen[1]} (row {row}, column '{heads[at]}'), expected "
            "one; convert the prices or split the file"
        )
    return (seen[0] if seen else ""), at


def _known_at(sheet: Sheet, heads: list[str], at: int, reading: Reading) -> np.ndarray:
    stamps = read_stamps(sheet.columns[at], heads[at], sheet.first_row, sheet.origin, reading.dayfirst)
    return stamps.local if stamps.offset is None else stamps.local - stamps.offset


def _adjustment(fields: dict) -> tuple[str, ...]:
    if "adj_close" not in fields:
        return ()
    return ("open, high, low and close were scaled by adjusted close / close; volume is as in the source",)
