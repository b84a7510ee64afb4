"""Any price table survives wide, long and catalog form to the bit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from foliocast.core.panel import Panel
from foliocast.data import Catalog, load_panel
from foliocast.data.bars import Bars

TICKERS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ.-0123456789", min_size=1, max_size=6).filter(lambda t: t[0].isalpha())


@st.composite
def panels(draw: st.DrawFn) -> Panel:
    """Prices between 50 and 75 (no jump above 60 %), assets that are listed late or delisted."""
    n_bars, assets = draw(st.integers(2, 30)), draw(st.lists(TICKERS, min_size=2, max_size=4, unique=True))
    close = draw(hnp.arrays(float, (n_bars, len(assets)), elements=st.floats(50, 75)))
    for column in range(len(assets)):
        first = draw(st.integers(0, n_bars - 1))
        last = draw(st.integers(first, n_bars - 1))
        close[:first, column] = np.nan
        close[last + 1 :, column] = np.nan
    quoted = np.isfinite(close).any(axis=1)
    days = draw(st.lists(st.integers(0, 20_000), min_size=n_bars, max_size=n_bars, unique=True))
    times = pd.DatetimeIndex(np.sort(days).astype("datetime64[D]").astype("datetime64[us]"))
    return Panel({"close": close[quoted]}, times[quoted], assets)


@given(panels())
@settings(max_examples=25, deadline=None)
def test_wide_long_and_catalog_agree(panel: Panel) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wide = panel.close().rename_axis(index="date")
        wide.to_csv(folder / "wide.csv")
        long = wide.melt(ignore_index=False, var_name="ticker", value_name="close").reset_index()
        long.to_csv(folder / "long.csv", index=False)
        long.dropna().to_parquet(folder / "long.parquet")
        Catalog(folder / "c").add(Bars.from_panel(panel), "p")
        for again in (
            load_panel(folder / "wide.csv", gaps="keep"),
            load_panel(folder / "long.csv", gaps="keep"),
            load_panel(folder / "long.parquet"),
            Catalog(folder / "c").load("p"),
        ):
            assert again.assets == panel.assets
            assert again.data_hash == panel.data_hash
