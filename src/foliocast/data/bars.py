"""Bars: one row a quote, as sources hand them over and the catalog stores them, before they become a `Panel`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from foliocast.core.panel import FIELDS, Panel


@dataclass(frozen=True)
class Bars:
    """Quotes in long form, with the way back to the cell each came from.

    Attributes
    ----------
    times : ndarray of datetime64[us], shape (row,)
        Session dates (naive), or UTC when ``intraday``.
    codes : ndarray of int, shape (row,)
        Position in ``assets``.
    assets : tuple of str
    fields : mapping of str to float ndarray, shape (row,)
        ``close`` and any of open, high, low, volume, adj_close; NaN where the cell was empty.
    rows : ndarray of int, shape (row,)
        Row of the source, counted as a spreadsheet does (the header is row 1); in Parquet the first record is row 1.
    intraday : bool
    known_at : ndarray of datetime64[us], shape (row,), or None
        When each row became known; None means at the bar's own time.
    origin : str
        File or source name, for messages.
    layout : str
        What the sniffer found: wide, long, single or multi-header.
    headers : mapping of field to column name
        As written in the source. A field without one stands under its asset's name (wide layouts).
    currency : str
    notes : tuple of str
        What a reader should know about how the source was read.
    """

    times: np.ndarray
    codes: np.ndarray
    assets: tuple[str, ...]
    fields: Mapping[str, np.ndarray]
    rows: np.ndarray
    intraday: bool = False
    known_at: np.ndarray | None = None
    origin: str = "data"
    layout: str = "long"
    headers: Mapping[str, str] = field(default_factory=dict)
    currency: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.times)

    def take(self, index: np.ndarray) -> Bars:
        """Rows by position or mask."""
        return replace(
            self,
            times=self.times[index],
            codes=self.codes[index],
            fields={key: values[index] for key, values in self.fields.items()},
            rows=self.rows[index],
            known_at=None if self.known_at is None else self.known_at[index],
        )

    def when(self, position: int) -> str:
        """Event time of a row as text."""
        stamp = pd.Timestamp(self.times[position])
        return f"{stamp:%Y-%m-%d %H:%M} UTC" if self.intraday else f"{stamp:%Y-%m-%d}"

    def cell(self, position: int, name: str = "close") -> str:
        """Where a value stands in the source: ``AAPL on 2020-01-03 (row 7, column 'close')``."""
        asset = self.assets[self.codes[position]]
        column = self.headers.get(name) or (asset if self.layout == "wide" else f"{name} {asset}")
        return f"{asset} on {self.when(position)} (row {self.rows[position]}, column '{column}')"

    @classmethod
    def from_panel(cls, panel: Panel) -> Bars:
        """Quotes of a panel in (asset, time) order; bars without a close are left out."""
        quoted = np.isfinite(panel.array("close")).T
        codes, at = np.nonzero(quoted)
        times = (
            panel.times.tz_convert("UTC").tz_localize(None) if panel.times.tz is not None else panel.times
        ).as_unit("us")
        return cls(
            times=times.to_numpy()[at],
            codes=codes.astype(np.int32),
            assets=panel.assets,
            fields={key: panel.array(key)[at, codes] for key in panel.fields},
            rows=at + 1,
            intraday=panel.times.tz is not None,
            origin=panel.name,
            headers={key: key for key in panel.fields},
        )

    def to_panel(self, name: str, notice: str = "") -> Panel:
        """Dense panel (time x asset x field), NaN where there is no row.

        ``known_at`` of a bar time is the latest over its assets; for daily bars it is a session date: what became
        known during a session counts as known at that session's close.
        """
        stamps, at = _positions(self.times)
        shape = (len(stamps), len(self.assets))
        dense: dict[str, np.ndarray] = {}
        for key in (*FIELDS, *sorted(set(self.fields) - set(FIELDS))):
            if key in self.fields:
                dense[key] = np.full(shape, np.nan)
                dense[key][at, self.codes] = self.fields[key]
        times = pd.DatetimeIndex(stamps, tz="UTC" if self.intraday else None)
        known = self._known(stamps, at)
        late = {} if known is None else dict.fromkeys(dense, pd.DatetimeIndex(known, tz=times.tz))
        return Panel(dense, times, self.assets, known_at=late, name=name, notice=notice)  # type: ignore[arg-type]

    def _known(self, stamps: np.ndarray, at: np.ndarray) -> np.ndarray | None:
        if self.known_at is None:
            return None
        known = self.known_at if self.intraday else self.known_at.astype("datetime64[D]").astype("datetime64[us]")
        latest = stamps.copy()
        np.maximum.at(latest, at, known)
        return latest if (latest > stamps).any() else None


def _positions(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct times and the position of every row among them; hashing beats sorting millions of rows."""
    at, distinct = pd.factorize(times)
    order = np.argsort(distinct)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return np.asarray(distinct)[order].astype("datetime64[us]"), rank[at]
