"""History: a `Panel` is everything on record, a `View` is what was known at one time.

A decision is only ever handed a `View`; it holds no row, and no value, that was not known yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.errors import DataError
from foliocast.core.market import Universe

PRICE_FIELDS = ("open", "high", "low", "close")
FIELDS = (*PRICE_FIELDS, "volume")


def _frozen(values: np.ndarray) -> np.ndarray:
    out = values.view()
    out.setflags(write=False)
    return out


class Panel:
    """Time x asset x field, read-only, with the time each row became known.

    Parameters
    ----------
    fields : mapping of str to ndarray, shape (time, asset)
        ``close`` is required. Prices are split- and dividend-adjusted (proportionally, so that ratios of prices are
        total returns); volume in shares or units. NaN means "no quote"; it is kept, never filled.
    times : DatetimeIndex
        Strictly increasing event times. Daily bars carry tz-naive session dates, as exchange calendars do; intraday
        bars are tz-aware UTC.
    assets : sequence of str
    known_at : mapping of field to datetime array, shape (time,), optional
        When the values of a field became known. Default: at the bar's own time.
    universe : Universe, optional
        Membership by date; default: causal presence of quotes.
    name, notice : str
        Shown in reports.

    Raises
    ------
    DataError
        On duplicate or unsorted times, duplicate assets, or shapes that disagree.
    """

    def __init__(
        self,
        fields: Mapping[str, np.ndarray],
        times: pd.DatetimeIndex,
        assets: Iterable[str],
        *,
        known_at: Mapping[str, np.ndarray] | None = None,
        universe: Universe | None = None,
        name: str = "panel",
        notice: str = "",
    ) -> None:
        self.assets: tuple[str, ...] = tuple(str(a) for a in assets)
        self.times = pd.DatetimeIndex(times)
        self.name, self.notice = name, notice
        self._fields = {key: _frozen(np.ascontiguousarray(v, dtype=float)) for key, v in fields.items()}
        self._known_at = dict(known_at or {})
        self._check()
        self.universe = Universe.from_prices(self._fields["close"]) if universe is None else universe
        if self.universe.mask.shape != self.shape:
            raise DataError(f"universe mask has shape {self.universe.mask.shape}, the panel has {self.shape}")

    def _check(self) -> None:
        if "close" not in self._fields:
            raise DataError(f"a panel needs the field 'close', found {sorted(self._fields)}")
        if len(set(self.assets)) != len(self.assets):
            twice = sorted({a for a in self.assets if self.assets.count(a) > 1})
            raise DataError(f"assets appear twice: {', '.join(twice[:5])}")
        if not self.times.is_monotonic_increasing or self.times.has_duplicates:
            raise DataError("times of a panel must be strictly increasing and unique; sort them and drop duplicates")
        for key, values in self._fields.items():
            if values.shape != self.shape:
                raise DataError(f"field '{key}' has shape {values.shape}, expected (time, asset) = {self.shape}")
        for key, stamps in self._known_at.items():
            if len(stamps) != len(self.times):
                raise DataError(f"known_at of '{key}' has {len(stamps)} rows, the panel has {len(self.times)}")

    # ---- making
    @classmethod
    def from_frames(cls, frames: Mapping[str, pd.DataFrame], **options: Any) -> Panel:
        """From one wide frame (time x asset) a field, all with the same index and columns as ``close``."""
        close = frames["close"]
        arrays = {key: f.reindex(index=close.index, columns=close.columns).to_numpy(float) for key, f in frames.items()}
        return cls(arrays, pd.DatetimeIndex(close.index), close.columns, **options)

    def replace(
        self,
        fields: Mapping[str, np.ndarray] | None = None,
        universe: Universe | None = None,
        name: str | None = None,
    ) -> Panel:
        """Copy with other values (same times and assets)."""
        return Panel(
            self._fields if fields is None else fields,
            self.times,
            self.assets,
            known_at=self._known_at,
            universe=self.universe if universe is None else universe,
            name=self.name if name is None else name,
            notice=self.notice,
        )

    # ---- reading
    @property
    def shape(self) -> tuple[int, int]:
        return len(self.times), len(self.assets)

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(self._fields)

    @property
    def has_late_values(self) -> bool:
        """Whether some values became known only after their own bar."""
        return any(bool((pd.DatetimeIndex(stamps) > self.times).any()) for stamps in self._known_at.values())

    @property
    def delayed(self) -> tuple[str, ...]:
        """Fields that become known later than at their bar: only `asof` may be used to decide from them."""
        return tuple(key for key in self._known_at if key in self._fields)

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        span = f"{self.times[0].date()}..{self.times[-1].date()}" if len(self) else "empty"
        return (
            f"Panel('{self.name}', {len(self)} bars {span}, {len(self.assets)} assets, fields {', '.join(self.fields)})"
        )

    def array(self, field: str = "close") -> np.ndarray:
        """Values of a field, read-only, shape (time, asset)."""
        if field not in self._fields:
            raise DataError(f"panel '{self.name}' has no field '{field}', it has: {', '.join(self.fields)}")
        return self._fields[field]

    def frame(self, field: str = "close") -> pd.DataFrame:
        """A field as a wide DataFrame (time x asset); a copy that may be changed."""
        return pd.DataFrame(self.array(field).copy(), index=self.times, columns=list(self.assets))

    def close(self) -> pd.DataFrame:
        """Adjusted closes, wide (time x asset)."""
        return self.frame("close")

    def return_array(self) -> np.ndarray:
        """Simple close-to-close returns per bar as fractions, (time, asset); NaN in the first row and at gaps."""
        close = self.array("close")
        out = np.full_like(close, np.nan)
        out[1:] = close[1:] / close[:-1] - 1.0
        return out

    def returns(self) -> pd.DataFrame:
        """Simple close-to-close returns, wide, without the first (empty) row; NaN where a quote is missing."""
        return pd.DataFrame(self.return_array()[1:], index=self.times[1:], columns=list(self.assets))

    def to_pandas(self) -> pd.DataFrame:
        """All fields side by side: columns are a MultiIndex (field, asset)."""
        return pd.concat({key: self.frame(key) for key in self.fields}, axis=1, names=["field", "asset"])

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of names, times, values and membership: the identity of a data set."""
        digest = hashlib.sha256()
        digest.update("\x1f".join(self.assets).encode())
        digest.update(np.ascontiguousarray(self.times.as_unit("ns").asi8).tobytes())
        for key in sorted(self._fields):
            digest.update(key.encode())
            digest.update(self._fields[key].tobytes())
        digest.update(np.packbits(self.universe.mask).tobytes())
        return digest.hexdigest()

    # ---- cutting
    def rows(self, start: int, stop: int) -> Panel:
        """Rows ``start`` to ``stop`` (half-open), sharing memory."""
        return Panel(
            {key: values[start:stop] for key, values in self._fields.items()},
            self.times[start:stop],
            self.assets,
            known_at={key: stamps[start:stop] for key, stamps in self._known_at.items()},
            universe=Universe(self.universe.mask[start:stop]),
            name=self.name,
            notice=self.notice,
        )

    def between(self, start: str | pd.Timestamp | None = None, end: str | pd.Timestamp | None = None) -> Panel:
        """Rows from ``start`` to ``end``, both included."""
        low = 0 if start is None else int(self.times.searchsorted(self.stamp(start), side="left"))
        high = len(self) if end is None else int(self.times.searchsorted(self.stamp(end), side="right"))
        if high <= low:
            raise DataError(
                f"no rows between {start} and {end}: '{self.name}' covers {self.times[0]} to {self.times[-1]}"
            )
        return self.rows(low, high)

    def select(self, assets: Iterable[str]) -> Panel:
        """Only these assets, in this order.

        Raises
        ------
        DataError
            If one of them is not in the panel.
        """
        wanted = [str(a) for a in assets]
        missing = [a for a in wanted if a not in self.assets]
        if missing:
            have = ", ".join(self.assets[:8]) + (", ..." if len(self.assets) > 8 else "")
            near = [a for a in self.assets if a.upper() in {m.upper() for m in missing}]
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise DataError(
                f"no data for {', '.join(missing)}: '{self.name}' holds {len(self.assets)} assets ({have}){hint}"
            )
        columns = [self.assets.index(a) for a in wanted]
        return Panel(
            {key: values[:, columns] for key, values in self._fields.items()},
            self.times,
            wanted,
            known_at=self._known_at,
            universe=Universe(self.universe.mask[:, columns]),
            name=self.name,
            notice=self.notice,
        )

    def stamp(self, when: str | pd.Timestamp) -> pd.Timestamp:
        """A time in the panel's own convention (naive dates or UTC)."""
        time = pd.Timestamp(when)
        if self.times.tz is None:
            return time.tz_convert("UTC").tz_localize(None) if time.tz is not None else time
        return time.tz_localize(self.times.tz) if time.tz is None else time.tz_convert(self.times.tz)

    def position(self, when: str | pd.Timestamp) -> int:
        """Position of the last bar at or before a time.

        Raises
        ------
        DataError
            If the time lies before the first bar.
        """
        found = int(self.times.searchsorted(self.stamp(when), side="right")) - 1
        if found < 0:
            raise DataError(f"nothing was known at {when}: '{self.name}' begins at {self.times[0]}")
        return found

    def asof(self, when: str | pd.Timestamp) -> View:
        """What was known at a time: rows with event time and known-at no later than it."""
        return View(self, self.stamp(when))


class View:
    """What was known at ``as_of``; the only thing a decision is handed.

    Attributes
    ----------
    as_of : Timestamp
    panel : Panel
        Rows up to ``as_of``; values whose known-at lies later are NaN.
    """

    def __init__(self, panel: Panel, as_of: pd.Timestamp) -> None:
        stop = panel.position(as_of) + 1
        known = panel.rows(0, stop)
        late = {
            key: np.asarray(pd.DatetimeIndex(stamps) > as_of)
            for key, stamps in known._known_at.items()
            if key in known.fields
        }
        if any(mask.any() for mask in late.values()):
            fields = {key: known.array(key) for key in known.fields}
            for key, mask in late.items():
                fields[key] = np.where(mask[:, None], np.nan, fields[key])
            known = known.replace(fields)
        self.as_of = as_of
        self.panel = known

    @property
    def assets(self) -> tuple[str, ...]:
        return self.panel.assets

    @property
    def members(self) -> np.ndarray:
        """Who may be held now: bool, shape (asset,)."""
        return self.panel.universe.mask[-1]

    def __len__(self) -> int:
        return len(self.panel)

    def __repr__(self) -> str:
        return f"View(as_of={self.as_of}, {len(self)} bars, {len(self.assets)} assets)"

    def close(self) -> pd.DataFrame:
        return self.panel.close()

    def returns(self) -> pd.DataFrame:
        return self.panel.returns()

    def tail(self, bars: int) -> Panel:
        """The last bars, as a panel."""
        return self.panel.rows(max(0, len(self) - bars), len(self))
