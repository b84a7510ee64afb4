"""Shared fixtures. One thread per process, set before numpy or torch is imported."""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pytest

from foliocast.core.panel import Panel
from markets import make_panel


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catalog and trial ledger of a test never touch the user's."""
    monkeypatch.setenv("FOLIOCAST_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="session")
def dev_data() -> Path:
    """Folder of real development data; tests that use it carry the marker devdata."""
    folder = os.environ.get("FOLIOCAST_DEV_DATA")
    assert folder, "set FOLIOCAST_DEV_DATA to the folder of development data (or deselect with -m 'not devdata')"
    return Path(folder)


@pytest.fixture(scope="session")
def panel() -> Panel:
    return make_panel()
