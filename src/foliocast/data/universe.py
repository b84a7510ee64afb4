"""Who belonged to an index when: membership tables onto a panel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from foliocast.core.errors import DataError
from foliocast.core.market import Universe
from foliocast.core.panel import Panel
from foliocast.data.sources import names

_START = ("start_date", "start", "from", "from_date", "date_added")
_END = ("end_date", "end", "to", "thru", "to_date", "date_removed")


def universe_from_spells(panel: Panel, table: pd.DataFrame | str | Path) -> Panel:
    """Restrict a panel's universe to membership spells.

    Parameters
    ----------
    panel : Panel
    table : DataFrame or path of a CSV file
        One row a spell: a symbol, a start date and an end date (empty: still a member). A name may have several
        spells. An asset is a member from the start date up to, and without, the end date. ``BRK.B``, ``BRK-B`` and
        ``BRK/B`` are the same symbol.

    Returns
    -------
    panel : Panel
        Members are those in a spell that also have quotes (the panel's own causal presence). Assets without any
        spell are never members.

    Raises
    ------
    DataError
        If a column is missing, a date cannot be read, a spell ends before it begins, or no asset has a spell.
    """
    spells = _spells(
        pd.read_csv(table, keep_default_na=False, dtype="str") if not isinstance(table, pd.DataFrame) else table
    )
    times = panel.times.tz_localize(None) if panel.times.tz is not None else panel.times
    mask = np.zeros(panel.shape, dtype=bool)
    column = {_same(asset): i for i, asset in enumerate(panel.assets)}
    hits = 0
    for symbol, start, end in spells.itertuples(index=False):
        at = column.get(_same(symbol))
        if at is None:
            continue
        hits += 1
        low = int(times.searchsorted(start))
        high = len(times) if pd.isna(end) else int(times.searchsorted(end))
        mask[low:high, at] = True
    if not hits:
        raise DataError(
            f"no asset of '{panel.name}' ({', '.join(panel.assets[:3])}, ...) appears in the membership table "
            f"({', '.join(map(str, spells['symbol'][:3]))}, ...); symbols are probably written differently"
        )
    return panel.replace(universe=Universe(mask & panel.universe.mask))


def _same(symbol: str) -> str:
    return str(symbol).strip().upper().replace(".", "-").replace("/", "-")


def _spells(table: pd.DataFrame) -> pd.DataFrame:
    heads = [str(c) for c in table.columns]
    found = [names.first_of(heads, wanted) for wanted in (names.ASSET, _START, _END)]
    if None in found:
        raise DataError(
            f"a membership table needs the columns ticker, start_date and end_date, found {', '.join(heads[:8])}"
        )
    out = table.iloc[:, [i for i in found if i is not None]].copy()
    out.columns = pd.Index(["symbol", "start", "end"])
    for name in ("start", "end"):
        text = out[name].replace("", None)
        dates = pd.to_datetime(text, format="ISO8601", errors="coerce")
        bad = dates.isna() & (text.notna() if name == "end" else True)
        if bad.any():
            row = int(np.argmax(bad.to_numpy()))
            raise DataError(
                f"membership table: '{out[name].iloc[row]}' is no {name} date (row {row + 2}), expected 2020-01-31"
            )
        out[name] = dates
    backwards = out["end"] < out["start"]
    if backwards.any():
        row = int(np.argmax(backwards.to_numpy()))
        raise DataError(
            f"membership table: {out['symbol'].iloc[row]} ends before it begins (row {row + 2}); correct it"
        )
    return out
