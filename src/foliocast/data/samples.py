"""The embedded samples: real market data that come with the package, no network needed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from foliocast.core.errors import DataError
from foliocast.core.panel import Panel
from foliocast.data.sources.files import read_file

_FOLDER = Path(__file__).parent / "sample"
_SKFOLIO_NOTICE = (
    "Embedded sample from skfolio (BSD-3-Clause): stale adjusted closes (end 2022-12-28), for research and "
    "demonstration only, not for investment or commercial use"
)
_HINDSIGHT = "; the stocks are survivors, so absolute returns are too high"

_SKFOLIO = {
    "sample:sp500": ("sp500_dataset", _HINDSIGHT),
    "sample:index": ("sp500_index", ""),
    "sample:factors": ("factors_dataset", ""),
}

SAMPLES: dict[str, str] = {
    "sample": "6 technology stocks, daily OHLCV, 2013-2023 (the demo; same as sample:tech)",
    "sample:tech": "6 technology stocks, daily OHLCV, 2013-2023",
    "sample:sp500": "20 stocks of the S&P 500, daily adjusted closes, 1990-2022",
    "sample:all": "the 25 stocks of tech and sp500 on their common days, daily adjusted closes, 2013-2022",
    "sample:index": "the S&P 500 index, daily closes, 1990-2022",
    "sample:factors": "5 factor ETFs (MTUM, QUAL, SIZE, USMV, VLUE), daily adjusted closes, 2014-2022",
}


def load_sample(name: str = "sample") -> Panel:
    """One of `SAMPLES` as a panel; its ``notice`` says where it comes from and what it is not for."""
    if name in ("sample", "sample:tech"):
        card = json.loads((_FOLDER / "tech.json").read_text())
        return read_file(_FOLDER / "tech.parquet").to_panel("sample", card["notice"])
    if name == "sample:all":
        return _joined(load_sample("sample:tech"), load_sample("sample:sp500"))
    bars = read_file(_skfolio_folder() / f"{_SKFOLIO[name][0]}.csv.gz")
    return bars.to_panel(name, f"{_SKFOLIO_NOTICE}{_SKFOLIO[name][1]}.")


def _joined(first: Panel, second: Panel) -> Panel:
    """Closes of both on their common days; an asset that is in both comes from the first."""
    left, right = first.close(), second.close()
    both = left.join(right.drop(columns=left.columns.intersection(right.columns)), how="inner")
    return Panel.from_frames({"close": both}, name="sample:all", notice=f"{first.notice} {second.notice}")


def _skfolio_folder() -> Path:
    """Where skfolio keeps its data sets; importing it, with scikit-learn and cvxpy, would take seconds."""
    spec = importlib.util.find_spec("skfolio")
    if spec is None or spec.origin is None:
        raise DataError(
            "this sample comes with skfolio, which is not installed; install foliocast with its dependencies"
        )
    folder = Path(spec.origin).parent / "datasets" / "data"
    if not folder.is_dir():
        raise DataError("the installed skfolio keeps its data sets elsewhere; use 'sample', or skfolio 1.10 to 1.12")
    return folder
