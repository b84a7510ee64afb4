"""Daily bars from Yahoo Finance through `yfinance` (extra ``live``): retried, cached, and never silently empty."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from foliocast.core.errors import DataError, MissingExtraError
from foliocast.data.bars import Bars
from foliocast.data.catalog import Provenance
from foliocast.runtime.files import whole_file
from foliocast.runtime.home import home, now

YAHOO = Provenance(
    source="Yahoo Finance",
    licence="Yahoo's terms of service: personal use",
    notice="Quotes from Yahoo Finance, for personal research, not point in time: history is revised without notice.",
)
_COLUMNS = {
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Adj Close": "adj_close",
    "Volume": "volume",
}
_FIRST = "1990-01-01"
_FRESH = pd.Timedelta(hours=12)


@dataclass(frozen=True)
class Yahoo:
    """How to reach Yahoo.

    Parameters
    ----------
    session : object, optional
        A ``requests`` or ``curl_cffi`` session for `yfinance`; default: its own.
    cache : path, optional
        Folder of answers; default ``cache/yahoo`` under ``FOLIOCAST_HOME``. An answer that reaches up to the day it
        was fetched is asked for again after 12 hours; older history is kept.
    attempts : int
        Tries for each ticker, when Yahoo limits the rate, cannot be reached, or answers with nothing.
    wait : float
        Seconds before the second try; doubled before each further one.
    sleep : callable
        Waits that many seconds.
    """

    session: Any = None
    cache: Path | None = None
    attempts: int = 5
    wait: float = 2.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def bars(
        self, tickers: Iterable[str], start: str | pd.Timestamp = _FIRST, end: str | pd.Timestamp | None = None
    ) -> Bars:
        """Daily bars from ``start`` to ``end`` (both included; default today), with their adjusted closes.

        Raises
        ------
        MissingExtraError
            If `yfinance` is not installed.
        DataError
            Naming the ticker that Yahoo has no prices for, or refuses to serve; nothing is then returned at all.
            Also if the tickers are quoted in different currencies.
        """
        first, last = pd.Timestamp(start).normalize(), pd.Timestamp(end or now().date()).normalize()
        names = tuple(dict.fromkeys(str(t).strip().upper() for t in tickers))
        if not names or first > last:
            raise DataError(f"nothing to fetch: {len(names)} tickers from {first.date()} to {last.date()}")
        answers = [self._one(name, first, last) for name in names]
        currencies = {name: currency for name, (_, currency) in zip(names, answers) if currency}
        if len(set(currencies.values())) > 1:
            listed = ", ".join(f"{name} in {currency}" for name, currency in list(currencies.items())[:6])
            raise DataError(f"Yahoo: mixed currencies: {listed}; fetch tickers of one currency into one data set")
        return _join(names, [frame for frame, _ in answers], next(iter(currencies.values()), ""))

    # ---- one ticker
    def _one(self, ticker: str, first: pd.Timestamp, last: pd.Timestamp) -> tuple[pd.DataFrame, str]:
        path = self._folder() / f"{urllib.parse.quote(ticker, safe='')}.parquet"
        kept = _from_cache(path, first, last)
        if kept is None:
            frame, currency = self._patiently(ticker, first, last)
            _to_cache(path, frame, {"start": str(first), "end": str(last), "at": str(now()), "currency": currency})
            kept = frame, currency
        return kept

    def _folder(self) -> Path:
        return self.cache if self.cache is not None else home() / "cache" / "yahoo"

    def _patiently(self, ticker: str, first: pd.Timestamp, last: pd.Timestamp) -> tuple[pd.DataFrame, str]:
        yfinance = _yfinance(self._folder())
        trouble = "it answered without prices; check the symbol and the dates"
        for attempt in range(self.attempts):
            if attempt:
                self.sleep(self.wait * 2 ** (attempt - 1))
            try:
                frame, currency = _ask(yfinance, ticker, first, last, self.session)
            except yfinance.exceptions.YFRateLimitError:
                trouble = "it limits the rate of requests; wait an hour, or fetch fewer tickers"
            except yfinance.exceptions.YFException:
                trouble = "it answered without prices; check the symbol and the dates"
            except OSError as error:  # what requests and curl_cffi raise
                trouble = f"it cannot be reached ({type(error).__name__}); check the network"
            else:
                if len(frame):
                    return frame, currency
        raise DataError(
            f"no prices of {ticker} from {first.date()} to {last.date()} came from Yahoo after {self.attempts} "
            f"attempts: {trouble}"
        )


def fetch_yahoo(
    tickers: Iterable[str],
    start: str | pd.Timestamp | None = None,
    end: str | pd.Timestamp | None = None,
    *,
    source: Yahoo | None = None,
) -> Bars:
    """Daily bars of tickers, ready for `Catalog.add` (with `YAHOO` as their provenance).

    See `Yahoo.bars`; ``start`` defaults to 1990, ``end`` to today.
    """
    return (source or Yahoo()).bars(tickers, start or _FIRST, end)


def _yfinance(cache: Path) -> Any:
    try:
        import yfinance
    except ImportError as error:
        raise MissingExtraError("yfinance", "live") from error
    folder = cache / "timezones"
    folder.mkdir(parents=True, exist_ok=True)
    yfinance.set_tz_cache_location(str(folder))
    yfinance.config.debug.hide_exceptions = False
    return yfinance


def _ask(yfinance: Any, ticker: str, first: pd.Timestamp, last: pd.Timestamp, session: Any) -> tuple[pd.DataFrame, str]:
    """One request. Prices come unadjusted beside the adjusted close, so that validation sees both."""
    handle = yfinance.Ticker(ticker, session=session)
    got = handle.history(start=first, end=last + pd.Timedelta(days=1), auto_adjust=False, actions=False)
    if got is None or got.empty:
        return pd.DataFrame(), ""
    frame = got[[name for name in _COLUMNS if name in got]].rename(columns=_COLUMNS).astype(float)
    index = pd.DatetimeIndex(got.index)
    frame.index = (index.tz_localize(None) if index.tz is not None else index).normalize().as_unit("us").rename("date")
    return frame, str((handle.history_metadata or {}).get("currency") or "")


def _join(names: tuple[str, ...], frames: list[pd.DataFrame], currency: str) -> Bars:
    table = pd.concat(frames)
    counts = [len(frame) for frame in frames]
    return Bars(
        times=table.index.to_numpy().astype("datetime64[us]"),
        codes=np.repeat(np.arange(len(names), dtype=np.int32), counts),
        assets=names,
        fields={key: table[key].to_numpy(float) for key in _COLUMNS.values() if key in table},
        rows=np.concatenate([np.arange(count) + 1 for count in counts]),
        origin="Yahoo",
        layout="yahoo",
        headers={key: name for name, key in _COLUMNS.items()},
        currency=currency,
        notes=(
            "session dates are the exchange's own",
            "open, high, low and close were scaled by adjusted close / close; volume is as in the source",
        ),
    )


# ---- cache
def _from_cache(path: Path, first: pd.Timestamp, last: pd.Timestamp) -> tuple[pd.DataFrame, str] | None:
    """What is kept, if it covers the dates and is not out of date."""
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
        said = json.loads(table.schema.metadata[b"foliocast"])
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError):
        return None  # damaged: ask again
    begins, ends, at = (pd.Timestamp(said[key]) for key in ("start", "end", "at"))
    settled = ends < at.tz_localize(None).normalize() or pd.Timestamp(now()) - at < _FRESH
    if not (begins <= first and last <= ends and settled):
        return None
    frame = table.to_pandas().set_index("date")
    return frame[(frame.index >= first) & (frame.index <= last)], said["currency"]


def _to_cache(path: Path, frame: pd.DataFrame, said: dict[str, str]) -> None:
    table = pa.Table.from_pandas(frame.reset_index(), preserve_index=False)
    table = table.replace_schema_metadata({b"foliocast": json.dumps(said).encode()})
    with whole_file(path) as aside:
        pq.write_table(table, aside, compression="zstd")
