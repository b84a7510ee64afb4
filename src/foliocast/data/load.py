"""One door for all data: a sample, a file or a catalog name becomes a `Panel`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from foliocast.core.errors import DataError
from foliocast.core.panel import Panel
from foliocast.data.catalog import Catalog, notice_of
from foliocast.data.samples import SAMPLES, load_sample
from foliocast.data.schema import Rules, validate
from foliocast.data.sources.files import Reading, read_file
from foliocast.data.sources.sheet import PARQUET, TEXT, stem


def load_panel(
    source: str | Path = "sample",
    *,
    assets: Iterable[str] | None = None,
    start: str | pd.Timestamp | None = None,
    end: str | pd.Timestamp | None = None,
    repair: bool = False,
    allow_jumps: bool = False,
    gaps: str = "refuse",
    dayfirst: bool | None = None,
    timezone: str | None = None,
) -> Panel:
    """Load market data.

    Parameters
    ----------
    source : str or path
        ``"sample"`` (six technology stocks, OHLCV, 2013-2023), ``"sample:sp500"``, ``"sample:index"``,
        ``"sample:factors"``; a file (.csv, .csv.gz, .parquet, ...: the layout is found out); or a name in the catalog.
    assets : iterable of str, optional
        Only these, in this order.
    start, end : date, optional
        Only rows between them, both included.
    repair, allow_jumps, gaps
        For files: see `foliocast.data.schema.Rules`. Repairs are listed in ``panel.notice``.
    dayfirst, timezone
        For files: see `foliocast.data.sources.files.Reading`.

    Returns
    -------
    panel : Panel
        Adjusted prices, NaN where there is no quote. Daily bars carry session dates, intraday bars UTC.

    Raises
    ------
    DataError
        If there is no such source, asset or date, or if the data break a rule.
    """
    text = str(source)
    if text in SAMPLES:
        panel = load_sample(text)
    elif is_path(source):
        rules = Rules(repair=repair, allow_jumps=allow_jumps, gaps=gaps)
        panel = _from_file(Path(source), rules, Reading(dayfirst=dayfirst, timezone=timezone))
    elif text in Catalog().names():
        return Catalog().load(text, assets=assets, start=start, end=end)
    else:
        raise DataError(_unknown(text))
    if assets is not None:
        panel = panel.select(assets)
    return panel if start is None and end is None else panel.between(start, end)


def is_path(source: str | Path) -> bool:
    """Whether a source names a file rather than a sample or a catalog entry."""
    text = str(source)
    return isinstance(source, Path) or "/" in text or "\\" in text or text.lower().endswith((*TEXT, *PARQUET))


def _from_file(path: Path, rules: Rules, reading: Reading) -> Panel:
    bars, findings = validate(read_file(path, reading), rules)
    return bars.to_panel(stem(path), notice_of("", findings.repairs))


def _unknown(name: str) -> str:
    have = ", ".join(Catalog().names()) or "nothing yet"
    hint = f"; there is a file of that name, write ./{name}" if Path(name).is_file() else ""
    return f"no data named '{name}': samples are {', '.join(SAMPLES)}; the catalog holds {have}{hint}"
