"""One ticker as a page shows it: where its price stands, its candles and averages, and where a network looked.

Forecasters are imported where they are used: a price and its candles are shown before they are needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.panel import Panel

YEAR = pd.Timedelta(days=365)
AVERAGES = (50, 200)
USUAL = 30  # bars of volume that today's is held against


def quote(panel: Panel, ticker: str) -> dict[str, Any]:
    """The last price and its surroundings.

    Returns
    -------
    dict
        ``ticker, date, price, change`` (to the bar before), ``high, low`` (of the last 365 days: of the bars where
        the panel has them, else of closes), ``volume`` and ``usual_volume`` (mean of 30 bars), None without volumes.

    Raises
    ------
    HistoryError
        Fewer than two quotes.
    """
    alone = panel.select([ticker])
    close = alone.close()[ticker].dropna()
    if len(close) < 2:
        raise HistoryError(f"{ticker} has {len(close)} quotes in '{panel.name}', two are needed")
    last = close.index[-1]
    ranges = {side: alone.frame(side if side in panel.fields else "close")[ticker] for side in ("high", "low")}
    year = {side: values[values.index > last - YEAR].dropna() for side, values in ranges.items()}
    volume = alone.frame("volume")[ticker].dropna() if "volume" in panel.fields else pd.Series(dtype=float)
    return {
        "ticker": ticker,
        "date": last,
        "price": float(close.iloc[-1]),
        "change": float(close.iloc[-1] / close.iloc[-2] - 1.0),
        "high": float(year["high"].max()),
        "low": float(year["low"].min()),
        "volume": float(volume.iloc[-1]) if len(volume) else None,
        "usual_volume": float(volume.tail(USUAL).mean()) if len(volume) else None,
    }


def candles(panel: Panel, ticker: str, days: int = 180) -> pd.DataFrame:
    """Bars of the last ``days`` calendar days with their 50- and 200-bar averages.

    Returns
    -------
    DataFrame
        ``close``, the other fields that the panel has, and ``average_50``, ``average_200`` (NaN before there are so
        many bars), by date.
    """
    alone = panel.select([ticker])
    table = pd.DataFrame({field: alone.frame(field)[ticker] for field in alone.fields})
    for window in AVERAGES:
        table[f"average_{window}"] = table["close"].rolling(window).mean()
    return table[table.index > table.index[-1] - pd.Timedelta(days=days)]


def regime(panel: Panel) -> dict[str, Any]:
    """The regime of the panel's equally weighted market now, by the volatility and trend rule.

    Returns
    -------
    dict
        ``label`` (one of `foliocast.features.regimes.RULE_LABELS`, None while the windows are not full),
        ``volatility`` per bar over 30 bars, ``threshold`` above which the market is stressed (upper quartile of the
        last five years), ``trend`` (mean log return of 60 bars).

    Raises
    ------
    HistoryError
        Too few bars for a volatility.
    """
    from foliocast.features.regimes import VolatilityTrendRegime
    from foliocast.workflows.forecast import TRAIN_BARS

    recent = panel.rows(max(0, len(panel) - TRAIN_BARS), len(panel))
    rule = VolatilityTrendRegime().fit(recent)
    now = rule.transform(recent).iloc[-1]
    return {
        "label": None if pd.isna(now["regime"]) else str(now["regime"]),
        "volatility": float(now["volatility"]),
        "threshold": rule.threshold_,
        "trend": float(now["trend"]),
    }


def attention(panel: Panel, ticker: str, model: str = "attention_lstm", bars: int = 60, seed: int = 0) -> pd.DataFrame:
    """Where the network looked at each of the last ``bars`` decisions.

    Returns
    -------
    DataFrame (date x lag)
        Lag 0 is the latest bar; rows sum to one.

    Raises
    ------
    ConfigError
        The model has no attention to show.
    """
    from foliocast.workflows.forecast import TRAIN_BARS, fitted_model

    fitted = fitted_model(panel, model, seed)
    if not hasattr(fitted, "attention"):
        raise ConfigError(f"the model {model} has no attention to show; choose attention_lstm")
    recent = panel.select([ticker]).rows(max(0, len(panel) - TRAIN_BARS), len(panel))
    table = fitted.attention(recent, recent.times[-bars:])
    return table.xs(ticker, level="asset")


def attends(panel: Panel, model: str, seed: int = 0) -> bool:
    """Whether a forecaster can show where it looked."""
    from foliocast.workflows.forecast import fitted_model

    return hasattr(fitted_model(panel, model, seed), "attention")


def card(panel: Panel, model: str, seed: int = 0) -> dict[str, Any]:
    """What there is to know of a forecaster fitted on this panel, in plain words and numbers."""
    from foliocast.workflows.forecast import TRAIN_BARS, fitted_model

    fitted = fitted_model(panel, model, seed)
    settings = {k: v for k, v in fitted.get_params(deep=False).items() if isinstance(v, str | int | float | bool)}
    assets = tuple(getattr(fitted, "trained_assets_", panel.assets))
    return {
        "model": type(fitted).__name__,
        "fitted on": f"{len(assets)} assets, the last {min(TRAIN_BARS, len(panel)):,} bars of '{panel.name}'",
        "knows data up to": f"{pd.Timestamp(fitted.knowledge_until_):%d %b %Y}",
        "data hash": panel.data_hash[:12],
        "seed": seed,
        "settings": {k: v for k, v in settings.items() if not (isinstance(v, float) and not np.isfinite(v))},
    }
