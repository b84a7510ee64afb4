"""Synthetic markets whose truth is known, for tests of every room."""

from __future__ import annotations

import numpy as np
import pandas as pd

from foliocast.core.panel import Panel


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
