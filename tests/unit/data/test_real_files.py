"""Real files of many makes import as documented, or are refused for the documented reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foliocast.core.errors import DataError
from foliocast.data import Catalog, Rules, load_panel, universe_from_spells

pytestmark = pytest.mark.devdata


def test_503_stocks_through_the_catalog(dev_data: Path) -> None:
    path = dev_data / "equities" / "sp500_ohlcv_adj_2000_2022.parquet"
    with pytest.raises(DataError, match=r"-61% in one bar for AIG on 2008-09-15 .* and 17 more .*--allow-jumps"):
        load_panel(path)
    card = Catalog().import_file(path, "sp500", rules=Rules(allow_jumps=True))
    assert (card.bars, len(card.assets), card.rows) == (5787, 499, 2_524_672)
    panel = load_panel("sp500")
    assert panel.data_hash == card.data_hash
    index = universe_from_spells(panel, dev_data / "equities" / "sp500_ticker_start_end.csv")
    members = index.universe.mask.sum(axis=1)
    assert 150 < members[0] < members[-1] < 499
    tsla = panel.assets.index("TSLA")
    assert panel.times[np.argmax(index.universe.mask[:, tsla])].date().isoformat() == "2020-12-21"
    pair = load_panel("sp500", assets=["MSFT", "AAPL"], start="2020-01-01", end="2020-12-31")
    np.testing.assert_array_equal(
        pair.array("close"), panel.select(["MSFT", "AAPL"]).between("2020-01-01", "2020-12-31").array("close")
    )


@pytest.mark.parametrize(
    ("name", "shape", "flags"),
    [
        ("equities/five_tech_2020-01_2023-01.csv", (776, 5), {}),
        ("crypto/binance_25coins_daily.parquet", (2557, 25), {"allow_jumps": True}),
        ("crypto/binance_4coins_1h_2020_2022.parquet", (16319, 4), {}),
        ("commodities/futures_curves_CL_GC_NG_HG_SI_2024_2026.parquet", (506, 121), {}),
        ("commodities/brent_daily.csv", (9958, 1), {}),
        ("commodities/wti_daily.csv", (10225, 1), {"repair": True}),
        ("macro/vix_daily.csv", (9235, 1), {"allow_jumps": True}),
        ("macro/fred_volatility.parquet", (9269, 3), {"allow_jumps": True, "gaps": "keep"}),
    ],
)
def test_real_files(dev_data: Path, name: str, shape: tuple[int, int], flags: dict) -> None:
    panel = load_panel(dev_data / name, **flags)
    assert panel.shape == shape
    if flags:
        with pytest.raises(DataError):
            load_panel(dev_data / name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("equities/sp500_constituents_gics.csv", "has no date column among Symbol, Security"),
        ("news/twitter_financial_news_valid.csv", "has no date column"),
        ("funds/raw_ishares_IVV_2024-12-06.csv", "cells, expected|no date column"),
        ("macro/fred_md.csv", r"'Transform:' is no date \(row 2, column 'sasdate'\)"),
        ("macro/F-F_Research_Data_Factors_daily.csv", "row 26240 has 1 cells, expected 5"),
    ],
)
def test_other_files_are_refused(dev_data: Path, name: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_panel(dev_data / name)
