"""Trading days of exchanges: no weekends, no holidays; every day for markets that never close."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pandas as pd

from foliocast.core.errors import DataError

_HORIZON = 4  # calendar days asked for a trading day wanted; long holidays included


def trading_days(calendar: str, after: str | pd.Timestamp, n: int) -> pd.DatetimeIndex:
    """The next sessions after a date.

    Parameters
    ----------
    calendar : str
        Code of ``exchange_calendars`` ("XNYS", "XLON", ...); "24/7" for crypto.
    after : date
        Excluded.
    n : int
        How many.

    Returns
    -------
    sessions : DatetimeIndex
        Naive dates. Holidays far ahead follow today's rules; one-off closures announced later are unknown.

    Raises
    ------
    DataError
        If there is no such calendar or its rules do not reach that far.
    """
    if n < 0:
        raise DataError(f"{n} trading days asked for, expected 0 or more")
    day = pd.Timestamp(after)
    day = (day.tz_convert("UTC").tz_localize(None) if day.tz is not None else day).normalize()
    if calendar == "24/7":
        return _plain(pd.date_range(day + pd.Timedelta(days=1), periods=n, freq="D"))
    end = day + pd.Timedelta(days=_HORIZON * n + 30)
    sessions = _sessions(calendar, day, end)
    following = sessions[sessions > day][:n]
    if len(following) < n:
        raise DataError(f"calendar {calendar} knows only {len(following)} of {n} sessions after {day.date()}")
    return _plain(following)


def _plain(days: pd.DatetimeIndex) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(days.as_unit("us").to_numpy())


def _sessions(calendar: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DatetimeIndex:
    """Sessions of whole years, so that few calendars are built; the default bounds end a year from today."""
    return _calendar(calendar, start.year, end.year).sessions


@lru_cache(maxsize=32)
def _calendar(calendar: str, first_year: int, last_year: int) -> Any:
    import exchange_calendars
    from exchange_calendars.errors import InvalidCalendarName

    make = exchange_calendars.get_calendar
    try:
        return make(calendar, start=f"{first_year}-01-01", end=f"{last_year}-12-31")
    except InvalidCalendarName as error:
        raise DataError(
            f"no exchange calendar '{calendar}', expected a code such as XNYS, XLON, XTKS, or 24/7"
        ) from error
    except ValueError as error:  # the calendar's rules begin later or end earlier
        try:
            return make(calendar)
        except ValueError:
            raise DataError(f"calendar {calendar} cannot be built for {first_year}-{last_year}") from error
