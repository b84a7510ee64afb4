"""What a tracker is told of a run: its config as parameters, its evidence as metrics, its files."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foliocast.core.errors import ConfigError
from foliocast.runtime.tracking import KeptModel, Record, tracker
from foliocast.workflows.runs import find_run
from foliocast.workflows.saved import find_saved, models_folder

FILES = ("config.toml", "run.json", "metrics.json", "report.html", "equity.parquet", "weights.parquet")


def track_run(run: str | Path, where: str, parent: Path = Path("runs")) -> str:
    """Record a finished run.

    Parameters
    ----------
    run : str or Path
        A run's folder or id.
    where : str
        See `foliocast.runtime.tracking.tracker`.
    parent : Path
        Folder of the runs.

    Returns
    -------
    str
        Where it is now.

    Raises
    ------
    ConfigError
        No such run, or it has not ended.
    FoliocastError
        The store did not take it; the run itself is whole.
    """
    return tracker(where).record(record_of(find_run(Path(run), parent).path))


def track_model(name: str, where: str) -> KeptModel:
    """Register a trained model, by its name or folder, with its card.

    Raises
    ------
    ConfigError
        There is none.
    """
    folder = find_saved(name)
    if folder is None:
        raise ConfigError(f"no saved model '{name}', neither as a folder nor under {models_folder()}")
    return tracker(where).register(folder.name, folder)


def record_of(folder: Path) -> Record:
    """The record of a run folder: one part a strategy."""
    about = json.loads((folder / "run.json").read_text())
    if about.get("status") != "done":
        raise ConfigError(f"run {folder.name} is {about.get('status')}; only a finished run is recorded")
    metrics = json.loads((folder / "metrics.json").read_text())
    config = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
    data = about.get("data", {})
    tags = {
        "data": data.get("name"),
        "data_hash": data.get("hash"),
        "git_commit": about.get("git_commit"),
        "created": about.get("created"),
        "audit": "passed" if metrics.get("audit", {}).get("passed") else "failed",
        **{f"version.{name}": version for name, version in about.get("versions", {}).items()},
    }
    strategies = {name: config.get("strategies", {}).get(name, {}) for name in metrics["strategies"]}
    shared = {key: value for key, value in config.items() if key != "strategies"}
    return Record(
        id=folder.name,
        name=folder.name,
        parameters=_flat(shared),
        tags={key: str(value) for key, value in tags.items() if value is not None},
        metrics=_numbers({key: value for key, value in metrics.items() if key not in ("strategies", "audit")}),
        files=tuple(folder / name for name in FILES if (folder / name).is_file()),
        parts=tuple(
            Record(
                id=f"{folder.name}.{name}",
                name=name,
                parameters=_flat(about.get("strategies", {}).get(name, table)),
                tags={"baseline": str(name not in config.get("strategies", {})).lower()},
                metrics=_numbers(metrics["strategies"][name]),
            )
            for name, table in strategies.items()
        ),
    )


def _flat(table: Mapping[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in _leaves(table)}


def _numbers(table: Mapping[str, Any]) -> dict[str, float]:
    """Finite numbers only: ``{"value", "low", "high"}`` becomes the name, ``name.low`` and ``name.high``."""
    out = {}
    for key, value in _leaves(table):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            out[key.removesuffix(".value")] = float(value)
    return out


def _leaves(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value
