"""The catalog: checked data sets under a name, Parquet on disk, read by column and date through DuckDB.

::

    HOME/catalog/NAME/
        card.json               source, licence, notice, layout, span, repairs, hashes
        year=2020/bars.parquet  date, asset, known_at, open, high, low, close, volume; sorted by asset and date
        year=2021/bars.parquet

A data set is written aside and renamed: it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from foliocast.core.errors import DataError
from foliocast.core.panel import FIELDS, Panel
from foliocast.data.bars import Bars
from foliocast.data.schema import Findings, Rules, validate
from foliocast.data.sources.files import Reading, read_file
from foliocast.data.sources.sheet import stem
from foliocast.runtime.files import whole_folder, write_json
from foliocast.runtime.home import home, now

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
_STALE_SECONDS = 86_400  # an abandoned half-written folder of a killed import


@dataclass(frozen=True)
class Provenance:
    """Where data come from and what may be done with them; all of it is free text."""

    source: str = ""
    licence: str = ""
    notice: str = ""


@dataclass(frozen=True)
class Card:
    """What the catalog knows about a data set.

    Attributes
    ----------
    data_hash : str
        `Panel.data_hash` of the whole data set: the identity that runs and reports quote.
    files : dict of str to str
        SHA-256 of each Parquet file, relative to the data set's folder.
    repairs, warnings, notes : tuple of str
        What validation changed, what it let pass, how the source was read.
    """

    name: str
    source: str
    licence: str
    notice: str
    layout: str
    currency: str
    rows: int
    bars: int
    start: str
    end: str
    intraday: bool
    assets: tuple[str, ...]
    fields: tuple[str, ...]
    repairs: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    allow_jumps: bool
    imported_at: str
    data_hash: str
    files: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def full_notice(self) -> str:
        """What a report must show: the notice of the source, how it was read, and every repair."""
        parts = [self.notice]
        for title, lines in (("As read", self.notes), ("Repaired on import", self.repairs)):
            if lines:
                parts.append(f"{title}: {'; '.join(lines)}.")
        return " ".join(part for part in parts if part)


class Catalog:
    """Named data sets in a folder.

    Parameters
    ----------
    folder : path, optional
        Default: ``catalog`` under ``FOLIOCAST_HOME`` (else ``~/.foliocast``).
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else home() / "catalog"

    # ---- writing
    def import_file(
        self,
        path: str | Path,
        name: str | None = None,
        *,
        rules: Rules | None = None,
        reading: Reading | None = None,
        provenance: Provenance | None = None,
        overwrite: bool = False,
    ) -> Card:
        """Read, validate and store a file.

        Parameters
        ----------
        path : path
        name : str, optional
            Default: the file's name without its endings.
        rules, reading : optional
            See `foliocast.data.schema.Rules` and `foliocast.data.sources.files.Reading`.
        provenance : Provenance, optional
        overwrite : bool
            Replace a data set of that name.

        Raises
        ------
        DataError
            If the name is not a plain name or is taken, or the file is refused; nothing is then left behind.
        """
        path = Path(path)
        name = self._free_name(name or stem(path), overwrite)
        provenance = provenance or Provenance()
        provenance = provenance if provenance.source else replace(provenance, source=f"file {path.name}")
        return self.add(read_file(path, reading), name, rules=rules, provenance=provenance, overwrite=overwrite)

    def add(
        self,
        bars: Bars,
        name: str,
        *,
        rules: Rules | None = None,
        provenance: Provenance | None = None,
        overwrite: bool = False,
    ) -> Card:
        """Validate and store quotes from any source."""
        name = self._free_name(name, overwrite)
        rules = rules or Rules()
        checked, findings = validate(bars, rules)
        provenance = provenance or Provenance(source=bars.origin)
        with whole_folder(self.folder / name) as aside:
            files = _write_years(checked, aside)
            card = card_of(name, checked, findings, rules, provenance, files)
            write_json(aside / "card.json", card.to_dict())
        self._sweep()
        return card

    def remove(self, name: str) -> None:
        """Delete a data set.

        Raises
        ------
        DataError
            If there is none of that name.
        """
        shutil.rmtree(self._existing(name))

    def _sweep(self) -> None:
        for left in self.folder.glob(".*"):
            if left.is_dir() and time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)

    # ---- reading
    def list(self) -> list[Card]:
        """All data sets, by name."""
        return [self.show(name) for name in self.names()]

    def names(self) -> tuple[str, ...]:
        """Names of all data sets."""
        return tuple(sorted(p.parent.name for p in self.folder.glob("[!.]*/card.json")))

    def show(self, name: str) -> Card:
        """What is known about a data set.

        Raises
        ------
        DataError
            If there is none of that name, or its card is damaged.
        """
        try:
            raw: dict[str, Any] = json.loads((self._existing(name) / "card.json").read_text())
            return Card(**{f.name: _frozen(raw[f.name]) for f in fields(Card)})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise DataError(
                f"the card of data set '{name}' is damaged; remove the data set and import it again"
            ) from error

    def load(
        self,
        name: str,
        *,
        assets: Iterable[str] | None = None,
        start: str | pd.Timestamp | None = None,
        end: str | pd.Timestamp | None = None,
        fields: Iterable[str] | None = None,
    ) -> Panel:
        """Read a data set, or only some assets, dates (both ends included) and fields of it.

        Returns
        -------
        panel : Panel
            Assets in the order asked for (else as imported). Bar times on which none of them has a quote are absent.

        Raises
        ------
        DataError
            If the data set, an asset or a field does not exist, or no row lies between the dates.
        """
        card = self.show(name)
        wanted = _known(name, "asset", card.assets, assets)
        kept = _known(name, "field", card.fields, fields)
        if "close" not in kept:
            kept = ("close", *kept)
        bars = _read(self.folder / name, card, wanted, kept, (start, end))
        if not len(bars):
            raise DataError(f"no rows between {start} and {end}: '{name}' covers {card.start} to {card.end}")
        return bars.to_panel(name, card.full_notice())

    def check(self, name: str) -> Findings:
        """Hash the files again, validate the data again.

        Returns
        -------
        findings : Findings
            What validation would warn about.

        Raises
        ------
        DataError
            If a file is missing, was changed, or holds data that break a rule.
        """
        card = self.show(name)
        folder = self.folder / name
        found = {str(p.relative_to(folder)): _sha256(p) for p in sorted(folder.glob("year=*/*.parquet"))}
        for file in sorted(set(card.files) | set(found)):
            if card.files.get(file) != found.get(file):
                state = (
                    "is missing"
                    if file not in found
                    else "was not imported"
                    if file not in card.files
                    else "was changed"
                )
                raise DataError(
                    f"data set '{name}': {file} {state} since the import of {card.imported_at}; remove the data set "
                    "and import it again"
                )
        panel = self.load(name)
        if panel.data_hash != card.data_hash:
            raise DataError(f"data set '{name}' does not hash to what its card says; remove it and import it again")
        return validate(Bars.from_panel(panel), Rules(allow_jumps=card.allow_jumps, repair=bool(card.repairs)))[1]

    # ---- names
    def _existing(self, name: str) -> Path:
        _plain_name(name)
        folder = self.folder / name
        if not (folder / "card.json").exists():
            have = ", ".join(self.names()) or "nothing yet"
            raise DataError(f"no data set '{name}' in the catalog, it holds: {have}")
        return folder

    def _free_name(self, name: str, overwrite: bool) -> str:
        _plain_name(name)
        if (self.folder / name).exists() and not overwrite:
            raise DataError(
                f"the catalog already holds a data set '{name}'; choose another name, or pass "
                "overwrite=True (--overwrite)"
            )
        return name


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain_name(name: str) -> None:
    if not _NAME.match(name) or name == "sample":
        raise DataError(
            f"'{name}' cannot name a data set, expected letters, digits, '_', '-' and '.', beginning with a letter or "
            "digit, and not 'sample', which is taken by the embedded one"
        )


def _known(name: str, what: str, have: tuple[str, ...], wanted: Iterable[str] | None) -> tuple[str, ...]:
    if wanted is None:
        return have
    chosen = tuple(dict.fromkeys(str(w) for w in wanted))
    missing = [w for w in chosen if w not in have]
    if missing:
        shown = ", ".join(have[:8]) + (", ..." if len(have) > 8 else "")
        raise DataError(f"no {what} {', '.join(missing)} in '{name}': it holds {len(have)} ({shown})")
    return chosen


# ---- Parquet
def _write_years(bars: Bars, folder: Path) -> dict[str, str]:
    """One file a year, sorted by asset and time. Files hold no clock and no path: same data, same bytes."""
    years = bars.times.astype("datetime64[Y]").astype(int) + 1970
    names = pa.array(bars.assets, pa.string())
    hashes = {}
    for year in np.unique(years):
        part = bars.take(np.flatnonzero(years == year))
        stamp = pa.timestamp("us", tz="UTC") if bars.intraday else pa.timestamp("us")
        known = part.times if part.known_at is None else part.known_at
        columns: dict[str, pa.Array] = {
            "date": pa.array(part.times, pa.timestamp("us")).cast(stamp),
            "asset": pa.DictionaryArray.from_arrays(pa.array(part.codes, pa.int32()), names),
            "known_at": pa.array(known, pa.timestamp("us")).cast(stamp),
        }
        columns |= {key: pa.array(part.fields[key]) for key in FIELDS if key in part.fields}
        target = folder / f"year={year}" / "bars.parquet"
        target.parent.mkdir()
        pq.write_table(pa.table(columns), target, compression="zstd", row_group_size=1 << 18)
        hashes[str(target.relative_to(folder))] = _sha256(target)
    return hashes


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def card_of(
    name: str,
    bars: Bars,
    findings: Findings,
    rules: Rules,
    provenance: Provenance,
    files: dict[str, str] | None = None,
) -> Card:
    """Describe validated quotes; ``files`` are those they were stored in, if they were."""
    panel = bars.to_panel(name)
    return Card(
        name=name,
        **asdict(provenance),
        layout=bars.layout,
        currency=bars.currency,
        rows=len(bars),
        bars=len(panel),
        start=str(panel.times[0].date()),
        end=str(panel.times[-1].date()),
        intraday=bars.intraday,
        assets=bars.assets,
        fields=panel.fields,
        repairs=findings.repairs,
        warnings=findings.warnings,
        notes=bars.notes,
        allow_jumps=rules.allow_jumps,
        imported_at=f"{now():%Y-%m-%d %H:%M:%S} UTC" if files else "",
        data_hash=panel.data_hash,
        files=files or {},
    )


def _read(folder: Path, card: Card, assets: tuple[str, ...], fields: tuple[str, ...], span: tuple[Any, Any]) -> Bars:
    """Only these columns and rows; assets come back as their position, which saves building millions of strings."""
    import duckdb

    wanted = pa.table({"asset": pa.array(assets, pa.string()), "code": pa.array(range(len(assets)), pa.int32())})
    low, high = (_bound(limit, card.intraday, last) for limit, last in zip(span, (False, True)))
    columns = ", ".join(f'"{field}"' for field in fields if field in FIELDS)
    query = (
        f"SELECT epoch_us(b.date) AS t, w.code, epoch_us(b.known_at) AS k, {columns} "  # names of FIELDS # nosec B608
        "FROM read_parquet($files) b JOIN wanted w ON b.asset = w.asset"
    )
    with duckdb.connect(config={"threads": 1}) as db:
        db.register("wanted", wanted)
        paths = [str(folder / file) for file in card.files if _overlaps(file, low, high)]
        if not paths:
            return _empty(assets)
        where = " WHERE epoch_us(b.date) >= $low AND epoch_us(b.date) <= $high"
        got = db.execute(query + where, {"files": paths, "low": low, "high": high}).fetchnumpy()
    stamps = {key: np.ma.getdata(got[key]).astype("datetime64[us]") for key in "tk"}
    return Bars(
        times=stamps["t"],
        codes=np.ma.getdata(got["code"]).astype(np.int32),
        assets=assets,
        fields={field: np.ma.filled(got[field], np.nan).astype(float) for field in fields},
        rows=np.arange(len(stamps["t"])) + 1,
        intraday=card.intraday,
        known_at=stamps["k"] if (stamps["k"] != stamps["t"]).any() else None,
        origin=card.name,
    )


def _empty(assets: tuple[str, ...]) -> Bars:
    return Bars(np.array([], "datetime64[us]"), np.array([], np.int32), assets, {}, np.array([], int))


def _bound(limit: Any, intraday: bool, last: bool) -> int:
    """A date limit in microseconds since 1970; a plain date as the end includes its whole day."""
    if limit is None:
        return (1 << 62) if last else -(1 << 62)
    stamp = pd.Timestamp(limit)
    if stamp.tz is not None:
        stamp = stamp.tz_convert("UTC").tz_localize(None)
    if last and intraday and stamp == stamp.normalize():
        stamp += pd.Timedelta(days=1) - pd.Timedelta(microseconds=1)
    return int(stamp.to_datetime64().astype("datetime64[us]").astype(np.int64))


def _overlaps(file: str, low: int, high: int) -> bool:
    year = int(file.split("/")[0].removeprefix("year="))
    first, after = (np.datetime64(f"{y:04d}-01-01", "us").astype(np.int64) for y in (year, year + 1))
    return bool(first <= high and after > low)
