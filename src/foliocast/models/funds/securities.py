"""What the fund models know of a security besides its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foliocast.core.errors import DataError
from foliocast.features.funds import EPOCH, SECTORS, sector_name

ATTRIBUTES = len(SECTORS) + 5
"""Sector (one of eleven, or none), size, growth, whether each is known, foreign."""


@dataclass(frozen=True)
class Securities:
    """Names, attributes and spans of securities, as arrays.

    Parameters
    ----------
    tickers : tuple of str
    sector : ndarray of int8
        Position in `SECTORS`, -1 unknown.
    size, growth : ndarray of float32
        NaN unknown.
    country : tuple of str
    first, last : ndarray of int32
        Days since 2013 between which the security was seen to exist.
    """

    tickers: tuple[str, ...]
    sector: np.ndarray
    size: np.ndarray
    growth: np.ndarray
    country: tuple[str, ...]
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def from_frame(cls, table: pd.DataFrame) -> Securities:
        """From a table indexed by ticker; columns ``sector, size, growth, country, first, last``, all optional.

        Raises
        ------
        DataError
            A ticker appears twice.
        """
        if table.index.has_duplicates:
            raise DataError(f"security {table.index[table.index.duplicated()][0]} appears twice in the table")
        names = [sector_name(s) for s in _column(table, "sector", "")]
        numbers = {c: pd.to_numeric(_column(table, c, np.nan)).to_numpy(np.float32) for c in ("size", "growth")}
        return cls(
            tuple(table.index.astype(str)),
            np.array([SECTORS.index(n) if n else -1 for n in names], dtype=np.int8),
            numbers["size"],
            numbers["growth"],
            tuple(_column(table, "country", "us").astype(str)),
            _days(_column(table, "first", pd.Timestamp("1990-01-01"))),
            _days(_column(table, "last", pd.Timestamp("2262-01-01"))),
        )

    def __len__(self) -> int:
        return len(self.tickers)

    def attributes(self) -> np.ndarray:
        """(security, ATTRIBUTES), about unit scale, zeros where unknown."""
        out = np.zeros((len(self), ATTRIBUTES), dtype=np.float32)
        known = self.sector >= 0
        out[np.flatnonzero(known), self.sector[known]] = 1.0
        at = len(SECTORS)
        out[:, at] = np.where(np.isfinite(self.size), (self.size - 0.6) / 0.2, 0.0)
        out[:, at + 1] = np.where(np.isfinite(self.growth), self.growth / 0.4, 0.0)
        out[:, at + 2], out[:, at + 3] = np.isfinite(self.size), np.isfinite(self.growth)
        out[:, at + 4] = np.array([c != "us" for c in self.country])
        return out

    def at(self, date: pd.Timestamp) -> np.ndarray:
        """Which existed at a date: bool (security,)."""
        day = (date - EPOCH).days
        return (self.first <= day) & (self.last >= day)

    def joined(self, other: Securities) -> Securities:
        """These, and those of another table that are not among them."""
        seen = set(self.tickers)
        new = [i for i, t in enumerate(other.tickers) if t not in seen]
        pick = lambda a, b: np.concatenate([a, b[new]])  # noqa: E731
        return Securities(
            self.tickers + tuple(other.tickers[i] for i in new),
            pick(self.sector, other.sector),
            pick(self.size, other.size),
            pick(self.growth, other.growth),
            self.country + tuple(other.country[i] for i in new),
            pick(self.first, other.first),
            pick(self.last, other.last),
        )


def _column(table: pd.DataFrame, name: str, default: object) -> pd.Series:
    return table[name] if name in table else pd.Series([default] * len(table), index=table.index)


def _days(dates: pd.Series) -> np.ndarray:
    return ((pd.to_datetime(dates) - EPOCH) / pd.Timedelta(days=1)).to_numpy().astype(np.int32)


def positions(tickers: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Where names are in a list, -1 if not there."""
    return pd.Index(list(tickers)).get_indexer(pd.Index(list(wanted)))
