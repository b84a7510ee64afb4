"""The outside world enters here: samples, files, the catalog, Yahoo; all of it becomes a `Panel`."""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "load_panel": "foliocast.data.load",
    "describe": "foliocast.data.load",
    "SAMPLES": "foliocast.data.samples",
    "load_sample": "foliocast.data.samples",
    "Catalog": "foliocast.data.catalog",
    "Provenance": "foliocast.data.catalog",
    "Rules": "foliocast.data.schema",
    "Findings": "foliocast.data.schema",
    "check_panel": "foliocast.data.schema",
    "Reading": "foliocast.data.sources.files",
    "read_file": "foliocast.data.sources.files",
    "universe_from_spells": "foliocast.data.universe",
    "fetch_yahoo": "foliocast.data.sources.yahoo",
    "YAHOO": "foliocast.data.sources.yahoo",
    "Yahoo": "foliocast.data.sources.yahoo",
    "trading_days": "foliocast.data.sources.exchange",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'foliocast.data' has no attribute '{name}'")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
