"""Dates as people write them: one format for a whole column, or a refusal; never a guess row by row.

Conventions
-----------
* A column of daily bars becomes session dates: the calendar date *as written in the file, in the file's own zone*
  ("2020-01-02 00:00:00-05:00" is the session of 2020-01-02), without a zone.
* A column of intraday bars becomes UTC. Times without a zone are read as UTC unless a zone is named.
* ``03/04/2020`` is accepted only if some other row shows which number is the day, or if ``dayfirst`` says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from foliocast.core.errors import DataError

_OFFSET = r"(?<=\d)\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})$"
_MONTH_FIRST = ("%m/%d/%Y", "%m/%d/%y", "%m-%d-%Y")
_DAY_FIRST = ("%d/%m/%Y", "%d/%m/%y", "%d-%m-%Y")
_OTHERS = (
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d.%m.%Y",
    "%d.%m.%y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%d %b %Y",
    "%d %B %Y",
)
_EARLIEST, _LATEST = np.datetime64("1700-01-01", "us"), np.datetime64("2200-01-01", "us")
_EPOCH_UNITS = {10: "s", 13: "ms", 16: "us", 19: "ns"}


@dataclass(frozen=True)
class Stamps:
    """A parsed column: wall-clock times as written, and their distance from UTC where the file states one.

    Attributes
    ----------
    local : ndarray of datetime64[us], shape (row,)
    offset : ndarray of timedelta64[us], shape (row,), or None
        Local time minus UTC; None for times without a zone.
    """

    local: np.ndarray
    offset: np.ndarray | None


def read_stamps(column: pa.ChunkedArray, name: str, first_row: int, origin: str, dayfirst: bool | None) -> Stamps:
    """Parse a column of dates or times, whatever its type.

    Raises
    ------
    DataError
        Naming the row and column of the first value that is no date, of mixed time zones, or of an ambiguous order
        of day and month.
    """
    typed = pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)
    stamps = _typed(column, name, first_row, origin) if typed else _written(column, name, first_row, origin, dayfirst)
    odd = (stamps.local < _EARLIEST) | (stamps.local > _LATEST)
    if odd.any():
        at = int(np.argmax(odd))
        raise DataError(
            f"{origin}: the year {stamps.local[at].astype('datetime64[Y]')} in row {at + first_row}, column '{name}' "
            "is no market's, expected 1700 to 2200; the date is probably mistyped or in another format, correct it"
        )
    return stamps


def _written(column: pa.ChunkedArray, name: str, first_row: int, origin: str, dayfirst: bool | None) -> Stamps:
    """Dates as text or digits: parse each distinct one once."""
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        column = column.cast(pa.int64(), safe=False)
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    words = np.array([str(w).strip() for w in encoded.dictionary.to_pylist()], dtype=object)
    _, where = np.unique(codes, return_index=True)
    rows = dict(zip(codes[where], where))

    def at(code: int) -> str:
        return f"row {rows[code] + first_row}, column '{name}'"

    empty = np.flatnonzero(words == "")
    if (codes < 0).any() or len(empty):
        code = -1 if (codes < 0).any() else int(empty[0])
        raise DataError(f"{origin}: no date in {at(code)}, expected one in every row; delete the row or fill it")
    texts, offsets = _split_offsets(words, at, origin)
    parsed = _parse(texts, at, origin, dayfirst)
    return Stamps(parsed[codes], None if offsets is None else offsets[codes])


def _typed(column: pa.ChunkedArray, name: str, first_row: int, origin: str) -> Stamps:
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy())) + first_row
        raise DataError(
            f"{origin}: no date in row {row}, column '{name}', expected one in every row; delete the row or fill it"
        )
    zone = getattr(column.type, "tz", None)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    plain = column.cast(pa.timestamp(column.type.unit)).to_numpy() if zone else column.to_numpy()
    utc = plain.astype("datetime64[us]")
    if not zone:
        return Stamps(utc, None)
    local = pd.DatetimeIndex(utc, tz="UTC").tz_convert(zone).tz_localize(None).to_numpy().astype("datetime64[us]")
    return Stamps(local, local - utc)


def _split_offsets(words: np.ndarray, at, origin: str) -> tuple[pd.Series, np.ndarray | None]:  # type: ignore[no-untyped-def]
    """Take "+01:00" or "Z" off the end of times; all rows carry one or none does."""
    texts = pd.Series(words, dtype="str")
    timed = texts.str.contains(":", regex=False)
    found = texts.where(timed).str.extract(_OFFSET)[0]
    has = found.notna().to_numpy()
    if not has.any():
        return texts, None
    if not has.all():
        with_zone, without = int(np.argmax(has)), int(np.argmin(has))
        raise DataError(
            f"{origin}: mixed time zones: '{words[with_zone]}' ({at(with_zone)}) names one, '{words[without]}' "
            f"({at(without)}) does not; write all times with a zone, or all without"
        )
    sign = np.where(found.str.startswith("-"), -1, 1)
    digits = found.str.replace(r"\D", "", regex=True).where(lambda s: s != "", "0000")
    minutes = digits.str[:2].astype(int) * 60 + digits.str[-2:].astype(int)
    offsets = (sign * minutes.to_numpy()).astype("timedelta64[m]").astype("timedelta64[us]")
    return texts.str.replace(_OFFSET, "", regex=True), offsets


def _parse(texts: pd.Series, at, origin: str, dayfirst: bool | None) -> np.ndarray:  # type: ignore[no-untyped-def]
    digits = texts.str.fullmatch(r"\d+").to_numpy()
    if digits.all() and texts.str.len().iloc[0] in _EPOCH_UNITS:
        unit = _EPOCH_UNITS[int(texts.str.len().iloc[0])]
        return texts.astype("int64").to_numpy().astype(f"datetime64[{unit}]").astype("datetime64[us]")
    best = _iso(texts)
    orders = {True: _DAY_FIRST, False: _MONTH_FIRST, None: (*_MONTH_FIRST, *_DAY_FIRST)}[dayfirst]
    complete = [best] if best.notna().all() else []
    for form in (*orders, *_OTHERS):
        if complete and form not in _DAY_FIRST:
            continue
        tried = _try(texts, form)
        if tried.notna().sum() > best.notna().sum():
            best = tried
        if tried.notna().all():
            complete.append(tried)
    if not complete:
        code = int(np.argmax(best.isna().to_numpy()))
        shown = " ".join(texts.iloc[code].split())[:40]
        raise DataError(
            f"{origin}: '{shown}' is no date ({at(code)}), expected all rows in one format such as 2020-01-31; correct "
            "or delete the row"
        )
    if len(complete) > 1 and not (complete[0] == complete[1]).all():
        raise DataError(
            f"{origin}: dates such as '{texts.iloc[0]}' ({at(0)}) can be month/day or day/month, and no row tells "
            "which; pass dayfirst=True or dayfirst=False (--dayfirst yes|no), or write them as 2020-01-31"
        )
    return complete[0].to_numpy().astype("datetime64[us]")


def _iso(texts: pd.Series) -> pd.Series:
    try:
        return pd.to_datetime(texts, format="ISO8601", errors="coerce")
    except ValueError:  # a stray offset in some of them, which are then no dates
        return pd.Series([_iso_or_nothing(text) for text in texts], index=texts.index, dtype="datetime64[us]")


def _iso_or_nothing(text: str) -> pd.Timestamp | None:
    stamp = pd.to_datetime(text, format="ISO8601", errors="coerce")
    return None if pd.isna(stamp) or stamp.tz is not None else stamp


def _try(texts: pd.Series, form: str) -> pd.Series:
    """Parse with a format, with or without a time of day, if the first text fits."""
    for clock in ("", " %H:%M", " %H:%M:%S", " %I:%M %p"):
        if pd.notna(pd.to_datetime(texts.iloc[:1], format=form + clock, errors="coerce").iloc[0]):
            return pd.to_datetime(texts, format=form + clock, errors="coerce")
    return pd.Series(pd.NaT, index=texts.index, dtype="datetime64[us]")


@dataclass(frozen=True)
class EventTimes:
    """Event times in the panel's convention: session dates, or UTC when ``intraday``."""

    times: np.ndarray
    intraday: bool
    notes: tuple[str, ...]


def event_times(stamps: Stamps, codes: np.ndarray, origin: str, timezone: str | None = None) -> EventTimes:
    """Decide between daily and intraday bars, and bring times into the panel's convention.

    Parameters
    ----------
    stamps : Stamps
    codes : ndarray of int, shape (row,)
        Asset of each row; more than one time of day on one date and asset means intraday bars.
    origin : str
    timezone : str, optional
        IANA zone of times that name none.

    Raises
    ------
    DataError
        If daily bars come from several zones, so that one date means different sessions.
    """
    days = stamps.local.astype("datetime64[D]")
    sessions = days.astype("datetime64[us]")
    at_midnight = bool((sessions == stamps.local).all())
    if at_midnight or not _several_a_day(stamps.local, days, codes):
        notes = [] if at_midnight else ["one bar a day with a time of day: its date, as written, is the session"]
        if stamps.offset is not None:
            spread = stamps.offset.max() - stamps.offset.min()
            if spread > np.timedelta64(1, "h"):
                raise DataError(
                    f"{origin}: mixed time zones: daily bars with offsets from UTC that differ by "
                    f"{spread / np.timedelta64(1, 'h'):g} hours, expected one zone; write plain session dates"
                )
            notes.append("dates had a time zone: the date as written, in that zone, is the session")
        return EventTimes(sessions, False, tuple(notes))
    if stamps.offset is not None:
        return EventTimes(stamps.local - stamps.offset, True, ("times were converted to UTC",))
    if timezone:
        return EventTimes(_from_zone(stamps.local, timezone, origin), True, (f"times were read as {timezone}",))
    return EventTimes(stamps.local, True, ("times named no zone and were read as UTC",))


def _several_a_day(local: np.ndarray, days: np.ndarray, codes: np.ndarray) -> bool:
    key = codes.astype(np.int64) * 10_000_000 + days.astype(np.int64)
    order = np.lexsort((local, key))
    same = np.diff(key[order]) == 0
    return bool((same & (np.diff(local[order]).astype(np.int64) != 0)).any())


def _from_zone(local: np.ndarray, timezone: str, origin: str) -> np.ndarray:
    try:
        zoned = pd.DatetimeIndex(local).tz_localize(timezone, ambiguous="infer")
    except (ValueError, KeyError, OSError) as error:
        raise DataError(
            f"{origin}: times cannot be read as '{timezone}' ({_first_line(error)}); write them with their offset"
        ) from error
    return zoned.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")


def _first_line(error: Exception) -> str:
    return re.split(r"[\n.]", str(error))[0]
