"""Finished pieces of a run, kept on disk so that a killed run goes on where it stopped, with the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from foliocast.runtime.files import plain, whole_folder


class BundleStore:
    """Named bundles of DataFrames and a small JSON record, each whole or absent.

    Parameters
    ----------
    folder : Path
        Made on first use.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, frames: dict[str, pd.DataFrame], meta: dict[str, Any]) -> None:
        """Keep a bundle; an older one of the same name is replaced."""
        with whole_folder(self.folder / key) as aside:
            for name, frame in frames.items():
                frame.to_parquet(aside / f"{name}.parquet")
            (aside / "meta.json").write_text(json.dumps(plain(meta)))

    def get(self, key: str) -> tuple[dict[str, pd.DataFrame], dict[str, Any]] | None:
        """A kept bundle, or None."""
        folder = self.folder / key
        if not (folder / "meta.json").exists():
            return None
        frames = {path.stem: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}
        return frames, json.loads((folder / "meta.json").read_text())

    def clear(self) -> None:
        """Drop everything: the run is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)
