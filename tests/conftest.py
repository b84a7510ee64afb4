"""Shared fixtures. One thread per process, set before numpy or torch is imported."""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foliocast.core.panel import Panel


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


def make_panel(n_bars: int = 400, n_assets: int = 4, seed: int = 0) -> Panel:
    """Random OHLCV panel with volatility clustering and business-day dates."""
    rng = np.random.default_rng(seed)
    vol = 0.01 * np.exp(0.3 * np.cumsum(rng.normal(0, 0.1, (n_bars, n_assets)), axis=0))
    returns = np.clip(rng.standard_t(5, (n_bars, n_assets)) * vol, -0.4, 0.4)
    close = 100 * np.cumprod(1 + returns, axis=0)
    open_ = close / (1 + returns * rng.uniform(0.2, 0.8, close.shape))
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, 0.003, close.shape)))
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0, 0.003, close.shape)))
    fields = {"open": open_, "high": high, "low": low, "close": close, "volume": rng.lognormal(13, 0.5, close.shape)}
    times = pd.bdate_range("2015-01-01", periods=n_bars)
    return Panel(fields, times, [f"A{i}" for i in range(n_assets)], name="random")


@pytest.fixture(scope="session")
def panel() -> Panel:
    return make_panel()
