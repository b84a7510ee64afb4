"""One door for all data: a sample, a file or a catalog name becomes a `Panel`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from foliocast.core.errors import DataError
from foliocast.core.panel import Panel
from foliocast.data.bars import Bars
from foliocast.data.catalog import Card, Catalog, Provenance, card_of
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
        bars, card = _from_file(Path(source), rules, Reading(dayfirst=dayfirst, timezone=timezone))
        panel = bars.to_panel(card.name, card.full_notice())
    elif text in Catalog().names():
        return Catalog().load(text, assets=assets, start=start, end=end)
    else:
        raise DataError(_unknown(text))
    if assets is not None:
        panel = panel.select(assets)
    return panel if start is None and end is None else panel.between(start, _end_of_day(panel, end))


def describe(source: str | Path, rules: Rules | None = None, reading: Reading | None = None) -> Card:
    """What is known about a source, without storing anything; a file is read and validated.

    Parameters
    ----------
    source : str or path
        As for `load_panel`.
    rules, reading : optional
        For files.

    Raises
    ------
    DataError
        If there is no such source, or the file breaks a rule.
    """
    text = str(source)
    if text in SAMPLES:
        panel = load_sample(text)
        bars, findings = validate(Bars.from_panel(panel), Rules(allow_jumps=True))
        provenance = Provenance(
            SAMPLES[text], "MIT" if "tech" in text or text == "sample" else "BSD-3-Clause", panel.notice
        )
        return card_of(text, bars, findings, Rules(allow_jumps=True), provenance)
    if is_path(source):
        return _from_file(Path(source), rules or Rules(), reading or Reading())[1]
    if text in Catalog().names():
        return Catalog().show(text)
    raise DataError(_unknown(text))


def is_path(source: str | Path) -> bool:
    """Whether a source names a file rather than a sample or a catalog entry."""
    text = str(source)
    return isinstance(source, Path) or "/" in text or "\\" in text or text.lower().endswith((*TEXT, *PARQUET))


def _from_file(path: Path, rules: Rules, reading: Reading) -> tuple[Bars, Card]:
    bars, findings = validate(read_file(path, reading), rules)
    return bars, card_of(stem(path), bars, findings, rules, Provenance(source=f"file {path.name}"))


def _end_of_day(panel: Panel, end: str | pd.Timestamp | None) -> str | pd.Timestamp | None:
    """A plain date as the end of intraday bars includes its whole day."""
    if end is None or panel.times.tz is None:
        return end
    stamp = panel.stamp(end)
    whole = pd.Timedelta(days=1) - pd.Timedelta(microseconds=1)
    return stamp + whole if stamp == stamp.normalize() else stamp


def _unknown(name: str) -> str:
    have = ", ".join(Catalog().names()) or "nothing yet"
    hint = f"; there is a file of that name, write ./{name}" if Path(name).is_file() else ""
    return f"no data named '{name}': samples are {', '.join(SAMPLES)}; the catalog holds {have}{hint}"
