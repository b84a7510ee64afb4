"""Forecast: one ticker, its past in candlesticks, its next trading days with bands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from foliocast.apps.dashboard.shared import COLOURS, choose_data, told
from foliocast.core.panel import Panel
from foliocast.workflows.forecast import MODELS, forecast


def page() -> None:
    """Choose above, past on the left, future on the right."""
    st.title("Forecast")
    panel = choose_data("forecast")
    if panel is None:
        return
    ticker = st.sidebar.selectbox("Ticker", panel.assets)
    days = st.sidebar.slider("Trading days ahead", 1, 30, 7)
    history = st.sidebar.slider("Days of history shown", 30, 730, 180)
    model = st.sidebar.selectbox("Model", list(MODELS), index=list(MODELS).index("linear"))
    _price_metrics(panel, ticker)
    st.plotly_chart(candlesticks(panel, ticker, history), width="stretch", config={"displayModeBar": False})
    with told(), st.spinner(f"Fitting {model} on {panel.name} ..."):
        answer = _answer(panel, ticker, days, model)
        _future(panel, answer, min(history, 120))


@st.cache_data(show_spinner=False, max_entries=64, hash_funcs={Panel: lambda p: p.data_hash})
def _answer(panel: Panel, ticker: str, days: int, model: str) -> dict[str, Any]:
    return forecast(panel, ticker, days, model)


def _price_metrics(panel: Panel, ticker: str) -> None:
    close = panel.frame()[ticker].dropna()
    last, before, year = close.iloc[-1], close.iloc[-2], close.iloc[-252:]
    columns = st.columns(4)
    columns[0].metric(f"{ticker}, {close.index[-1]:%d %b %Y}", f"{last:,.2f}", f"{last / before - 1:+.2%}")
    columns[1].metric("52-week high", f"{year.max():,.2f}", f"{last / year.max() - 1:+.1%}", delta_color="off")
    columns[2].metric("52-week low", f"{year.min():,.2f}", f"{last / year.min() - 1:+.1%}", delta_color="off")
    if "volume" in panel.fields:
        volume = panel.frame("volume")[ticker].dropna()
        usual = volume.iloc[-30:].mean()
        columns[3].metric("Volume", f"{volume.iloc[-1] / 1e6:,.1f} M", f"{volume.iloc[-1] / usual - 1:+.0%} to 30 days")


def candlesticks(panel: Panel, ticker: str, history: int) -> go.Figure:
    """Candles (or a line where there are only closes) with the 50- and 200-day averages."""
    close = panel.frame()[ticker]
    shown = slice(-history, None)
    figure = go.Figure()
    if {"open", "high", "low"} <= set(panel.fields):
        prices = {field: panel.frame(field)[ticker].iloc[shown] for field in ("open", "high", "low")}
        figure.add_candlestick(x=close.index[shown], close=close.iloc[shown], name=ticker, **prices)
    else:
        figure.add_scatter(x=close.index[shown], y=close.iloc[shown], name=ticker, line={"color": COLOURS[0]})
    for window, colour in ((50, COLOURS[1]), (200, COLOURS[3])):
        mean = close.rolling(window).mean().iloc[shown]
        figure.add_scatter(x=mean.index, y=mean, name=f"{window}-day average", line={"color": colour, "width": 1.5})
    return _styled(figure, 380)


def _future(panel: Panel, answer: dict[str, Any], history: int) -> None:
    table = pd.DataFrame(answer["days"])
    left, right = st.columns([3, 2])
    with left:
        figure = fan(panel.frame()[answer["ticker"]].iloc[-history:], table)
        st.plotly_chart(figure, width="stretch", config={"displayModeBar": False})
    with right:
        shown = table[["date", "day", "price", "return"]].rename(columns=str.capitalize)
        st.dataframe(
            shown.style.format({"Price": "{:,.2f}", "Return": "{:+.2%}"}), width="stretch", hide_index=True, height=300
        )
    end = table.iloc[-1]
    text = f"Expected {end['return']:+.2%} by {end['date']}"
    if "low_95" in table:
        text += f", with 95 % between {end['low_95']:,.2f} and {end['high_95']:,.2f}"
    st.markdown(f"**{text}.** {answer['model']}.")


def fan(past: pd.Series, table: pd.DataFrame) -> go.Figure:
    """The last prices, the expected path and its bands."""
    figure = go.Figure()
    figure.add_scatter(x=past.index, y=past, name="past", line={"color": "#64748b"})
    dates = [past.index[-1], *pd.to_datetime(table["date"])]
    start = float(past.iloc[-1])
    for level, opacity in ((95, 0.15), (80, 0.3)):
        if f"low_{level}" in table:
            low, high = (np.r_[start, table[f"{side}_{level}"]] for side in ("low", "high"))
            figure.add_scatter(x=dates, y=high, line={"width": 0}, showlegend=False, hoverinfo="skip")
            figure.add_scatter(
                x=dates,
                y=low,
                fill="tonexty",
                line={"width": 0},
                name=f"{level} %",
                fillcolor=f"rgba(37,99,235,{opacity})",
            )
    figure.add_scatter(x=dates, y=np.r_[start, table["price"]], name="expected", line={"color": COLOURS[0]})
    return _styled(figure, 320)


def _styled(figure: go.Figure, height: int) -> go.Figure:
    return figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis_rangeslider_visible=False,
        legend={"orientation": "h", "y": 1.1},
        hovermode="x unified",
    )
