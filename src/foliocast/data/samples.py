"""The embedded samples: real market data that come with the package, no network needed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from foliocast.core.panel import Panel
from foliocast.data.sources.files import read_file

_FOLDER = Path(__file__).parent / "sample"
_SKFOLIO_NOTICE = (
    "Embedded sample from skfolio (BSD-3-Clause): stale adjusted closes (end 2022-12-28), for research and "
    "demonstration only, not for investment or commercial use"
)
_HINDSIGHT = "; the stocks are survivors, so absolute returns are too high"

SAMPLES: dict[str, str] = {
    "sample": "6 technology stocks, daily OHLCV, 2013-2023 (the demo; same as sample:tech)",
    "sample:tech": "6 technology stocks, daily OHLCV, 2013-2023",
    "sample:sp500": "20 stocks of the S&P 500, daily adjusted closes, 1990-2022",
    "sample:index": "the S&P 500 index, daily closes, 1990-2022",
    "sample:factors": "5 factor ETFs (MTUM, QUAL, SIZE, USMV, VLUE), daily adjusted closes, 2014-2022",
}


def load_sample(name: str = "sample") -> Panel:
    """One of `SAMPLES` as a panel; its ``notice`` says where it comes from and what it is not for."""
    if name in ("sample", "sample:tech"):
        card = json.loads((_FOLDER / "tech.json").read_text())
        return read_file(_FOLDER / "tech.parquet").to_panel("sample", card["notice"])
    from skfolio import datasets

    load, remark = {
        "sample:sp500": (datasets.load_sp500_dataset, _HINDSIGHT),
        "sample:index": (datasets.load_sp500_index, ""),
        "sample:factors": (datasets.load_factors_dataset, ""),
    }[name]
    prices = load()
    return Panel(
        {"close": prices.to_numpy(float)},
        pd.DatetimeIndex(prices.index),
        prices.columns,
        name=name,
        notice=_SKFOLIO_NOTICE + remark + ".",
    )
