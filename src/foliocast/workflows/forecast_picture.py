"""A forecast as a picture: the last months, the path ahead and its bands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.panel import Panel
from foliocast.runtime.files import whole_file
from foliocast.workflows.pictures import fan

BARS = 90  # of history shown


def draw(answer: dict[str, Any], panel: Panel, out: Path) -> Path:
    """Write ``TICKER-forecast.svg`` into ``out``; ``answer`` is what `foliocast.workflows.forecast.forecast` gave."""
    ticker, days = answer["ticker"], answer["days"]
    history = panel.close()[ticker].dropna().iloc[-BARS:]
    levels = [q for q in (80, 95) if f"low_{q}" in days[0]]
    bands = {
        f"{q} %": (np.array([row[f"low_{q}"] for row in days]), np.array([row[f"high_{q}"] for row in days]))
        for q in levels
    }
    dates = [pd.Timestamp(row["date"]) for row in days]
    title = f"{ticker}: {len(days)} trading days after {answer['as_of']}"
    path = out / f"{re.sub(r'[^A-Za-z0-9.^=_-]', '_', ticker)}-forecast.svg"
    with whole_file(path) as aside:
        aside.write_text(fan(history, dates, np.array([row["price"] for row in days]), bands, title), encoding="utf-8")
    return path
