"""Keeping account of runs and models: one interface, an MLflow store or a plain folder behind it.

What is kept is made elsewhere (`foliocast.workflows.tracking`); here it is only put away and found again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from foliocast.core.errors import ConfigError
from foliocast.runtime.files import plain, whole_folder, write_json
from foliocast.runtime.home import home, now

_SERVER = re.compile(r"^(https?|sqlite|postgresql|mysql|mssql)(\+\w+)?:", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True)
class Record:
    """What is kept of one run.

    Attributes
    ----------
    id, name : str
        The id is its identity: recording it again replaces what was recorded.
    parameters, tags : mapping of str to str
    metrics : mapping of str to float
        Finite numbers.
    files : tuple of Path
    parts : tuple of Record
        Runs inside the run: one a strategy.
    """

    id: str
    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    parts: tuple[Record, ...] = ()


@dataclass(frozen=True)
class KeptModel:
    """One version of a model in a registry."""

    name: str
    version: str
    digest: str
    card: Mapping[str, Any]
    place: str


@runtime_checkable
class Tracker(Protocol):
    """Where runs and models are put away."""

    def record(self, run: Record) -> str:
        """Keep a run, in place of an earlier one of the same id; says where it is."""
        ...

    def register(self, name: str, folder: Path) -> KeptModel:
        """Keep a saved model (a folder with ``card.json``) as a new version; the same content stays one version."""
        ...

    def runs(self) -> list[dict[str, Any]]:
        """Id, name, parameters, tags and metrics of every run, newest first; parts are not listed by themselves."""
        ...

    def models(self) -> list[KeptModel]:
        """Every version of every model."""
        ...


def tracker(where: str) -> Tracker:
    """The tracker of an address.

    Parameters
    ----------
    where : str
        ``mlflow`` (SQLite in the product's home), an address that MLflow takes (``http://host:8602``,
        ``sqlite:///file.db``, ``postgresql://...``), or a folder, which needs no MLflow.
    """
    if where == "mlflow":
        where = default_store()
    if _SERVER.match(where):
        from foliocast.runtime.tracking_mlflow import MlflowTracker

        return MlflowTracker(where)
    return FolderTracker(Path(where))


def default_store() -> str:
    """MLflow's database in the product's home."""
    return f"sqlite:///{home().absolute() / 'mlflow' / 'mlflow.db'}"


def chosen(where: str | None) -> str | None:
    """What a caller asked for, else ``FOLIOCAST_TRACK``, else nothing."""
    return where or os.environ.get("FOLIOCAST_TRACK") or None


def card_of(folder: Path) -> dict[str, Any]:
    """The card of a saved model.

    Raises
    ------
    ConfigError
        The folder holds no model.
    """
    try:
        return dict(json.loads((folder / "card.json").read_text()))
    except (OSError, ValueError) as error:
        raise ConfigError(f"'{folder}' holds no saved model: it has no readable card.json") from error


def digest_of(folder: Path) -> str:
    """Identity of a folder's content: names and bytes of its files."""
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
        total.update(file.read_bytes())
    return total.hexdigest()


def checked_name(name: str) -> str:
    """A model's name that every store takes."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"'{name[:60]}' cannot name a model: letters, digits, '_', '-' and '.', up to 200")
    return name


class FolderTracker:
    """Runs and models as folders and JSON: no server, no database, readable with any tool.

    ::

        FOLDER/runs/ID/record.json, files/...
        FOLDER/models/NAME/1/card.json, weights.safetensors, ...

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record(self, run: Record) -> str:
        """Keep a run whole, in place of an earlier one of the same id."""
        place = self.folder / "runs" / checked_name(run.id)
        with whole_folder(place) as aside:
            for file in run.files:
                (aside / "files").mkdir(exist_ok=True)
                shutil.copy2(file, aside / "files" / file.name)
            write_json(aside / "record.json", {"recorded": now().isoformat(timespec="seconds"), **_plain(run)})
        return str(place)

    def register(self, name: str, folder: Path) -> KeptModel:
        """Keep a saved model as the next version, unless this very content is one already."""
        card, digest, name = card_of(folder), digest_of(folder), checked_name(name)
        mine = [model for model in self.models() if model.name == name]
        for known in mine:
            if known.digest == digest:
                return known
        version = 1 + max((int(model.version) for model in mine), default=0)
        place = self.folder / "models" / name / str(version)
        with whole_folder(place) as aside:
            shutil.copytree(folder, aside, dirs_exist_ok=True)
        return KeptModel(name, str(version), digest, card, str(place))

    def runs(self) -> list[dict[str, Any]]:
        """Every run, newest first."""
        rows = [json.loads(file.read_text()) for file in (self.folder / "runs").glob("[!.]*/record.json")]
        return sorted(rows, key=lambda row: str(row["recorded"]), reverse=True)

    def models(self) -> list[KeptModel]:
        """Every version, by name and number."""
        places = [file.parent for file in (self.folder / "models").glob("[!.]*/[0-9]*/card.json")]
        places.sort(key=lambda place: (place.parent.name, int(place.name)))
        return [KeptModel(p.parent.name, p.name, digest_of(p), card_of(p), str(p)) for p in places]


def _plain(run: Record) -> dict[str, Any]:
    return dict(
        plain(
            {
                "id": run.id,
                "name": run.name,
                "parameters": dict(run.parameters),
                "tags": dict(run.tags),
                "metrics": dict(run.metrics),
                "parts": [_plain(part) for part in run.parts],
            }
        )
    )
