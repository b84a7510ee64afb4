"""Run folders: made, found and listed."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from foliocast.core.errors import ConfigError
from foliocast.runtime.files import write_json
from foliocast.runtime.home import now

_PACKAGES = ("foliocast", "numpy", "pandas", "scipy", "scikit-learn", "torch", "skfolio")


@dataclass(frozen=True)
class RunFolder:
    """A folder that holds all there is to know of one run."""

    path: Path

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder, or an empty dict."""
        file = self.path / f"{name}.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def update(self, **values: Any) -> None:
        """Merge values into ``run.json``."""
        write_json(self.path / "run.json", {**self.read("run"), **values})


def new_run(parent: Path, name: str, about: dict[str, Any], config_text: str) -> RunFolder:
    """Make a run folder with its config and its identity; its name sorts by time."""
    created = now()
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "run"
    stem = f"{created:%Y%m%d-%H%M%S}-{slug}"
    path = next(p for p in (parent / (stem + (f"-{k}" if k else "")) for k in range(1000)) if not p.exists())
    path.mkdir(parents=True)
    (path / "config.toml").write_text(config_text, encoding="utf-8")
    folder = RunFolder(path)
    folder.update(
        id=path.name,
        name=name,
        created=created.isoformat(timespec="seconds"),
        status="running",
        versions=versions(),
        git_commit=git_commit(),
        **about,
    )
    return folder


def find_run(run: Path, parent: Path) -> RunFolder:
    """A run by its folder or its id.

    Raises
    ------
    ConfigError
        If there is none.
    """
    for path in (run, parent / run):
        if (path / "run.json").is_file():
            return RunFolder(path)
    raise ConfigError(f"no run at '{run}' nor in '{parent}'; `foliocast runs` lists what there is")


def list_runs(parent: Path) -> list[dict[str, Any]]:
    """Identity and headline of every run, newest first."""
    rows = []
    for file in sorted(parent.glob("*/run.json"), reverse=True):
        folder = RunFolder(file.parent)
        about, metrics = folder.read("run"), folder.read("metrics")
        best = metrics.get("strategies", {})
        rows.append(
            {
                "id": about.get("id", file.parent.name),
                "status": about.get("status", "?"),
                "created": about.get("created"),
                "data": about.get("data", {}).get("name"),
                "strategies": list(best),
                "audit": metrics.get("audit", {}).get("passed"),
                "folder": str(file.parent),
            }
        )
    return rows


def versions() -> dict[str, str]:
    """Versions that shaped a run."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Commit of the working folder, with ``+`` when files differ from it; None outside a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
