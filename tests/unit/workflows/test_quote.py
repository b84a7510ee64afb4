"""One ticker as a page shows it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.panel import Panel
from foliocast.workflows.forecast import is_ready
from foliocast.workflows.quote import attention, candles, card, quote, regime


def test_a_quote_reads_the_year_and_the_day(panel: Panel) -> None:
    found = quote(panel, "A1")
    close, high = panel.close()["A1"], panel.frame("high")["A1"]
    year = close.index > close.index[-1] - pd.Timedelta(days=365)
    assert found["price"] == close.iloc[-1]
    assert found["change"] == pytest.approx(close.iloc[-1] / close.iloc[-2] - 1)
    assert found["high"] == high[year].max() > close[year].max()
    assert found["usual_volume"] == pytest.approx(panel.frame("volume")["A1"].tail(30).mean())


def test_a_quote_without_ranges_takes_closes(panel: Panel) -> None:
    bare = quote(Panel({"close": panel.array("close")}, panel.times, panel.assets), "A1")
    assert bare["volume"] is None
    assert bare["low"] == panel.close()["A1"].tail(261).min()


def test_an_asset_without_quotes_is_told() -> None:
    empty = Panel({"close": np.array([[1.0, np.nan], [1.1, 2.0]])}, pd.bdate_range("2020-01-01", periods=2), ["A", "B"])
    with pytest.raises(HistoryError, match="B has 1 quotes"):
        quote(empty, "B")


def test_candles_carry_averages_that_reach_back_before_what_is_shown(panel: Panel) -> None:
    table = candles(panel, "A0", 60)
    assert table.index[0] > panel.times[-1] - pd.Timedelta(days=60)
    close = panel.close()["A0"]
    assert table["average_200"].iloc[0] == pytest.approx(close[: table.index[0]].tail(200).mean())
    assert {"open", "high", "low", "close", "volume"} <= set(table.columns)


def test_the_regime_is_the_rule_at_the_last_bar(panel: Panel) -> None:
    found = regime(panel)
    market = np.log1p(panel.returns().mean(axis=1))
    assert found["volatility"] == pytest.approx(market.tail(30).std(), rel=0.05)
    calm, rising = found["volatility"] <= found["threshold"], market.tail(60).mean() > 0
    assert found["label"] == f"{'calm' if calm else 'stressed'}_{'up' if rising else 'down'}"


def test_the_card_says_what_the_model_knows(panel: Panel) -> None:
    found = card(panel, "linear")
    assert found["model"] == "LinearForecaster"
    assert found["knows data up to"] == f"{panel.times[-1]:%d %b %Y}"
    assert found["settings"]["alpha"] == 0.1


def test_a_model_without_attention_is_told(panel: Panel) -> None:
    with pytest.raises(ConfigError, match="no attention"):
        attention(panel, "A0", "linear")


def test_a_network_is_ready_once_it_is_kept(panel: Panel) -> None:
    assert is_ready(panel, "linear")
    assert not is_ready(panel, "attention_lstm")
