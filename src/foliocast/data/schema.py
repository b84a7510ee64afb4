"""What data may look like: every rule either passes, refuses in one sentence, or repairs and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from foliocast.core.errors import ConfigError, DataError
from foliocast.core.panel import Panel
from foliocast.data.bars import Bars

JUMP = 0.6
"""One-bar move above which an unadjusted split is more likely than a market."""

_NEAR_BARS = np.timedelta64(7, "D")
_ROUNDING = 1e-6  # relative; prices stored as float32 or rounded to four places


@dataclass(frozen=True)
class Rules:
    """What to do with data that break a rule.

    Parameters
    ----------
    repair : bool
        Mend what can be mended without inventing a number, and list every repair: rows are sorted, duplicate rows
        dropped (the last one stays), impossible cells emptied, bars without a usable close dropped, empty assets
        dropped. No price is ever filled in.
    allow_jumps : bool
        Accept moves above 60 % from one bar to the next. Nothing is changed.
    gaps : {"refuse", "keep"}
        What an empty price between two quotes of an asset means: a fault, or a day without a quote. Empty cells
        before the first and after the last quote always mean "not listed", and a row that is simply absent from a
        long file always means "no quote".
    """

    repair: bool = False
    allow_jumps: bool = False
    gaps: str = "refuse"

    def __post_init__(self) -> None:
        if self.gaps not in ("refuse", "keep"):
            raise ConfigError(f"gaps = {self.gaps!r} is not known; expected 'refuse' or 'keep'")


@dataclass(frozen=True)
class Findings:
    """What validation changed (``repairs``) and what it let pass but a reader should know (``warnings``)."""

    repairs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def validate(bars: Bars, rules: Rules | None = None) -> tuple[Bars, Findings]:
    """Check quotes, and hand them back adjusted and sorted by asset and time.

    Parameters
    ----------
    bars : Bars
    rules : Rules, optional
        Default: refuse everything that breaks a rule.

    Returns
    -------
    bars : Bars
        Adjusted (``adj_close`` has scaled open, high, low and close, and is gone), unique and sorted; every row has a
        positive, finite close.
    findings : Findings

    Raises
    ------
    DataError
        One sentence with the row and column of the first fault: duplicate (date, asset), dates out of order, prices
        that are zero, negative, infinite or missing, an asset without any price, high below low, negative volume,
        a value known before it happened, a move above 60 % from one bar to the next.
    """
    log = _Log(bars.origin, rules or Rules())
    if not len(bars):
        raise DataError(f"{bars.origin} holds no rows of data, expected at least one date with a price")
    steps: tuple[Callable[[Bars, _Log], Bars], ...] = (
        _in_order,
        _no_empty_assets,
        _usable_closes,
        _usable_fields,
        _known_after_event,
        _adjusted,
        _high_above_low,
        _no_jumps,
        _worth_knowing,
    )
    for step in steps:
        bars = step(bars, log)
        if not len(bars):
            raise DataError(f"{bars.origin} has no usable price left after repair; the file holds no price history")
    return bars, Findings(tuple(log.repairs), tuple(log.warnings))


def check_panel(panel: Panel, rules: Rules | None = None) -> Findings:
    """Validate a panel that was made elsewhere; jumps pass unless ``rules`` say otherwise."""
    return validate(Bars.from_panel(panel), rules or Rules(allow_jumps=True))[1]


class _Log:
    """Refuses, or repairs and writes it down."""

    def __init__(self, origin: str, rules: Rules) -> None:
        self.origin, self.rules = origin, rules
        self.repairs: list[str] = []
        self.warnings: list[str] = []

    def fault(self, found: str, repair: str, advice: str) -> None:
        """Note the repair when repairs are allowed, else raise."""
        if not self.rules.repair:
            raise DataError(f"{self.origin}: {found}; {advice}, or import with repair=True (--repair) to {repair}")
        self.repairs.append(f"{found}: {repair}")


def _count(mask: np.ndarray, what: str) -> str:
    more = int(mask.sum()) - 1
    return f" and {more} more {what}" if more else ""


def _first(mask: np.ndarray) -> int:
    return int(np.argmax(mask))


def _in_order(bars: Bars, log: _Log) -> Bars:
    """Sort by (asset, time); duplicates and dates that run to and fro are faults, newest-first files are not."""
    by_asset = np.argsort(bars.codes, kind="stable")
    bars = bars.take(by_asset)
    same = bars.codes[1:] == bars.codes[:-1]
    step = np.diff(bars.times).astype(np.int64)
    if (step[same] > 0).all():
        return bars
    newest_first = bool((step[same] < 0).all())
    order = np.lexsort((bars.rows, bars.times, bars.codes))
    ordered = bars.take(order)
    twice = np.r_[False, (np.diff(ordered.codes) == 0) & (np.diff(ordered.times).astype(np.int64) == 0)]
    if twice.any():
        at = _first(twice)
        log.fault(
            f"{ordered.cell(at)} appears twice, first in row {ordered.rows[at - 1]}{_count(twice, 'duplicates')}",
            "keep the last of each",
            "expected one row for each date and asset; the file was probably appended to itself, remove the copies",
        )
        keep = np.r_[~twice[1:], True]
        ordered = ordered.take(keep)
    back = np.r_[False, same & (step < 0)]
    if back.any() and not newest_first:
        at = _first(back)
        log.fault(
            f"dates run backwards at {bars.cell(at)}, which follows {bars.when(at - 1)}{_count(back, 'places')}",
            "sort the rows",
            "expected dates in order for each asset; sort the file",
        )
    return ordered


def _no_empty_assets(bars: Bars, log: _Log) -> Bars:
    quoted = np.bincount(bars.codes[np.isfinite(bars.fields["close"])], minlength=len(bars.assets)) > 0
    if quoted.all():
        return bars
    empty = [asset for asset, has in zip(bars.assets, quoted) if not has]
    named = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
    log.fault(
        f"no price at all for {named}",
        "drop " + ("it" if len(empty) == 1 else "them"),
        "expected at least one price an asset; the symbol is probably wrong or its download failed, remove it",
    )
    kept = bars.take(quoted[bars.codes])
    new_code = np.cumsum(quoted) - 1
    return replace(
        kept,
        codes=new_code[kept.codes].astype(np.int32),
        assets=tuple(asset for asset, has in zip(bars.assets, quoted) if has),
    )


def _usable_closes(bars: Bars, log: _Log) -> Bars:
    """Every bar keeps a finite, positive close: faults are dropped bars, empty cells are bars without a quote."""
    bad = np.zeros(len(bars), dtype=bool)
    for name in ("close", "adj_close"):
        if name in bars.fields:
            bad |= _impossible(bars, name, "drop the bar", log)
    close = bars.fields["close"]
    missing = np.isnan(close)
    inside = missing & _inside_life(bars.codes, ~missing)
    if inside.any() and log.rules.gaps == "refuse":
        at = _first(inside)
        log.fault(
            f"close is empty for {bars.cell(at)}{_count(inside, 'cells')} between two quotes of the asset",
            "keep such days as days without a quote",
            "expected a price; pass gaps='keep' (--gaps keep) if the market was shut that day",
        )
    adjusted = bars.fields.get("adj_close")
    if adjusted is not None:
        unknown = np.isnan(adjusted) & ~missing
        if unknown.any():
            log.fault(
                f"adjusted close is empty for {bars.cell(_first(unknown), 'adj_close')}{_count(unknown, 'cells')}",
                "drop the bar",
                "expected a price wherever there is a close; fill it or delete the column",
            )
        missing = missing | unknown
    return bars.take(~(bad | missing))


def _impossible(bars: Bars, name: str, repair: str, log: _Log) -> np.ndarray:
    values = bars.fields[name]
    with np.errstate(invalid="ignore"):
        bad = np.isinf(values) | (values <= 0)
    if bad.any():
        at = _first(bad)
        log.fault(
            f"{name} is {values[at]:g} for {bars.cell(at, name)}{_count(bad, 'cells')}",
            repair,
            "expected a positive, finite price; it is probably a placeholder for a missing quote, correct it",
        )
    return bad


def _inside_life(codes: np.ndarray, quoted: np.ndarray) -> np.ndarray:
    """Rows between the first and the last quote of their asset; rows are sorted by asset."""
    at = np.flatnonzero(quoted)
    n_assets = int(codes.max()) + 1
    first, last = np.full(n_assets, len(codes)), np.full(n_assets, -1)
    last[codes[at]] = at
    first[codes[at[::-1]]] = at[::-1]
    rows = np.arange(len(codes))
    return (rows > first[codes]) & (rows < last[codes])


def _usable_fields(bars: Bars, log: _Log) -> Bars:
    """Open, high and low: impossible or lone empty cells are faults; a field an asset never has is not."""
    fields = dict(bars.fields)
    for name in ("open", "high", "low"):
        if name not in fields:
            continue
        bad = _impossible(bars, name, "leave it empty", log)
        fields[name] = np.where(bad, np.nan, fields[name])
        empty = np.isnan(fields[name]) & ~bad
        has_field = np.bincount(bars.codes[~np.isnan(fields[name])], minlength=len(bars.assets)) > 0
        lone = empty & has_field[bars.codes]
        if lone.any():
            log.fault(
                f"{name} is empty for {bars.cell(_first(lone), name)}{_count(lone, 'cells')}, which has a close",
                "leave it empty",
                "expected a price; fill it or delete the row",
            )
    fields.update(_volume(bars, log))
    return replace(bars, fields={key: values for key, values in fields.items() if not np.isnan(values).all()})


def _volume(bars: Bars, log: _Log) -> dict[str, np.ndarray]:
    if "volume" not in bars.fields:
        return {}
    volume = bars.fields["volume"]
    with np.errstate(invalid="ignore"):
        bad = (volume < 0) | np.isinf(volume)
    if bad.any():
        at = _first(bad)
        log.fault(
            f"volume is {volume[at]:g} for {bars.cell(at, 'volume')}{_count(bad, 'cells')}",
            "leave it empty",
            "expected zero or more shares; correct it",
        )
    return {"volume": np.where(bad, np.nan, volume)}


def _known_after_event(bars: Bars, log: _Log) -> Bars:
    if bars.known_at is None:
        return bars
    empty = np.isnat(bars.known_at)
    day = bars.known_at if bars.intraday else bars.known_at.astype("datetime64[D]").astype("datetime64[us]")
    early = (day < bars.times) | empty
    if early.any():
        at = _first(early)
        said = "is empty" if empty[at] else f"is {np.datetime_as_string(bars.known_at[at], unit='D')}"
        raise DataError(
            f"{log.origin}: known_at {said} for {bars.cell(at, 'known_at')}{_count(early, 'cells')}, expected the "
            "bar's own time or later; nothing is known before it happens, correct the column"
        )
    return bars


def _adjusted(bars: Bars, log: _Log) -> Bars:
    """Scale open, high, low and close by adjusted/raw close, so that ratios are total returns."""
    if "adj_close" not in bars.fields:
        return bars
    fields = dict(bars.fields)
    ratio = fields.pop("adj_close") / fields["close"]
    for name in ("open", "high", "low", "close"):
        if name in fields:
            fields[name] = fields[name] * ratio
    return replace(bars, fields=fields)


def _high_above_low(bars: Bars, log: _Log) -> Bars:
    if "high" not in bars.fields or "low" not in bars.fields:
        return bars
    high, low = bars.fields["high"], bars.fields["low"]
    with np.errstate(invalid="ignore"):
        crossed = high < low * (1 - _ROUNDING)
    if not crossed.any():
        return bars
    at = _first(crossed)
    log.fault(
        f"high {high[at]:g} is below low {low[at]:g} for {bars.cell(at, 'high')}{_count(crossed, 'bars')}",
        "leave both empty",
        "expected high >= low; the columns are probably swapped, correct them",
    )
    fields = dict(bars.fields)
    for name in ("high", "low"):
        fields[name] = np.where(crossed, np.nan, fields[name])
    return replace(bars, fields=fields)


def _moves(bars: Bars) -> tuple[np.ndarray, np.ndarray]:
    """Ratio of each close to the one before, and whether both belong to one asset and stand within a week."""
    close = bars.fields["close"]
    ratio = np.r_[1.0, close[1:] / close[:-1]]
    near = np.r_[False, (np.diff(bars.codes) == 0) & (np.diff(bars.times) <= _NEAR_BARS)]
    return ratio, near


def _no_jumps(bars: Bars, log: _Log) -> Bars:
    ratio, near = _moves(bars)
    jump = near & (np.abs(ratio - 1.0) > JUMP)
    if not jump.any():
        return bars
    at = _first(jump)
    count = f"{_count(jump, 'such moves')}"
    found = f"close moves by {ratio[at] - 1:+.0%} in one bar for {bars.cell(at)}{count}"
    if log.rules.allow_jumps:
        log.warnings.append(f"{found}: kept as told")
        return bars
    raise DataError(
        f"{log.origin}: {found}, which is likely an unadjusted split{_split(ratio[at])}; import adjusted prices or, if "
        "the move is real, say so once: foliocast data import FILE --allow-jumps (load_panel: allow_jumps=True)"
    )


def _split(ratio: float) -> str:
    times = ratio if ratio > 1 else 1 / ratio
    whole = round(times)
    if abs(times / whole - 1) > 0.05:
        return ""
    return f" ({whole}-for-1)" if ratio < 1 else f" (1-for-{whole}, reverse)"


def _worth_knowing(bars: Bars, log: _Log) -> Bars:
    """Oddities that real data have and that are let pass, with a warning."""
    ratio, near = _moves(bars)
    halved = near & (np.abs(ratio - 0.5) < 0.01)
    if halved.any():
        log.warnings.append(
            f"close halves in one bar for {bars.cell(_first(halved))}{_count(halved, 'times')}: an unadjusted 2-for-1 "
            "split looks like this"
        )
    for name in ("open", "close"):
        if {name, "high", "low"} <= set(bars.fields):
            value, high, low = (bars.fields[key] for key in (name, "high", "low"))
            with np.errstate(invalid="ignore"):
                out = (value > high * (1 + _ROUNDING)) | (value < low * (1 - _ROUNDING))
            if out.any():
                log.warnings.append(
                    f"{name} lies outside low..high for {bars.cell(_first(out), name)}{_count(out, 'bars')}"
                )
    _absent_days(bars, log)
    return bars


def _absent_days(bars: Bars, log: _Log) -> None:
    stamps = np.unique(bars.times)
    starts = np.flatnonzero(np.r_[True, np.diff(bars.codes) != 0])
    stops = np.r_[starts[1:], len(bars)]
    life = np.searchsorted(stamps, bars.times[stops - 1]) - np.searchsorted(stamps, bars.times[starts]) + 1
    absent = life - (stops - starts)
    if absent.any():
        at = int(np.argmax(absent))
        worst = bars.assets[bars.codes[starts[at]]]
        log.warnings.append(
            f"{int((absent > 0).sum())} of {len(bars.assets)} assets have bars without a quote between their first "
            f"and last ({int(absent.sum())} in all, most for {worst}: {int(absent[at])})"
        )
