"""Where the product keeps what outlives a run, and what time it is."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path


def home() -> Path:
    """Catalog, caches and the trial ledger: ``FOLIOCAST_HOME``, else ``~/.foliocast``."""
    return Path(os.environ.get("FOLIOCAST_HOME") or Path.home() / ".foliocast")


def now() -> datetime:
    """The only wall clock; UTC."""
    return datetime.now(UTC)
