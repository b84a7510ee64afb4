"""Forecast: one ticker, its past in candlesticks, its next trading days with bands, and where a network looked."""

from __future__ import annotations

import sys
import time
from typing import Any

import pandas as pd
import streamlit as st

from foliocast.apps.dashboard import figures
from foliocast.apps.dashboard.shared import KEEP, chosen_data, head, panel, percent, row, told, trained

REACHES = (7, 15, 30)
NAMES = {
    "linear": "Linear (ridge)",
    "naive": "Naive (persistence)",
    "attention_lstm": "Attention LSTM",
    "lstm": "LSTM",
    "transformer": "Transformer",
}


def page() -> None:
    """Choose above, the past below it, then the future."""
    found = head("Forecast", "The next trading days of one ticker: an expected path, and how far off it may be.")
    source = chosen_data()
    with row():
        ticker = st.selectbox("Ticker", found.assets, key=f"ticker-{source}", persist_state=KEEP, width=130)
        options = [*NAMES, *(n for n in trained("forecast") if n not in NAMES)]
        model = st.selectbox(
            "Model", options, key="forecaster", format_func=lambda n: NAMES.get(n, n), persist_state=KEEP, width=210
        )
        days = st.slider("Trading days ahead", 1, 30, 7, key="days", persist_state=KEEP, width=165)
        history = st.slider("Days of history", 30, 730, 180, 10, key="history", persist_state=KEEP, width=165)
    ticker, model = str(ticker or found.assets[0]), str(model or "linear")
    with told():
        _price(source, ticker, history)
    st.subheader(f"Next {days} trading days")
    _let_paint(1.0)  # the imports of a first forecast would keep the server from serving the page's scripts
    with told():
        if _ready(source, model):
            _future(source, ticker, days, model, history)


@st.cache_data(show_spinner=False, max_entries=256)
def _past(source: str, ticker: str, history: int) -> tuple[dict[str, Any], pd.DataFrame]:
    from foliocast.workflows.quote import candles, quote

    return quote(panel(source), ticker), candles(panel(source), ticker, history)


def _price(source: str, ticker: str, history: int) -> None:
    now, table = _past(source, ticker, history)
    price, low, high = now["price"], now["low"], now["high"]
    with row("top"):
        st.metric(f"{ticker}, {now['date']:%d %b %Y}", f"{price:,.2f}", percent(now["change"], 2), width=170)
        st.metric("52-week high", f"{high:,.2f}", percent(price / high - 1), delta_color="off", width=150)
        st.metric("52-week low", f"{low:,.2f}", percent(price / low - 1), delta_color="off", width=150)
        if now["volume"] is not None:
            usual = f"{now['volume'] / now['usual_volume'] - 1:+.0%} to usual"
            st.metric("Volume", f"{now['volume'] / 1e6:,.1f} M", usual, delta_color="off", width=170)
    place = (price - low) / (high - low) if high > low else 0.5
    st.progress(min(1.0, max(0.0, place)), f"{place:.0%} of the way from the 52-week low to the high")
    _let_paint(0.6)  # else the browser reads the scripts of charts before it shows the price
    alt = f"Prices of {ticker} over {history} days with 50- and 200-day averages"
    figures.show(figures.candles(table, ticker), alt, key="candles")


def _let_paint(seconds: float) -> None:
    """Give the first page after a start of the server time to show what it has."""
    if "sklearn" not in sys.modules:
        time.sleep(seconds)


def _ready(source: str, model: str) -> bool:
    """Whether the model is at hand; else offer to fit it."""
    from foliocast.workflows.forecast import fitted_model, is_ready

    if is_ready(panel(source), model):
        return True
    with st.container(border=True):
        name = NAMES.get(model, model)
        st.markdown(f"**{name}** has not been fitted on these data yet. It takes about half a minute, once.")
        if not st.button(f"Fit {name} now", type="primary"):
            return False
        with st.spinner(f"Fitting {name} on {len(panel(source).assets)} assets ..."):
            fitted_model(panel(source), model)
    st.rerun()
    return True


@st.cache_data(show_spinner="Forecasting, and calibrating the bands on past forecasts ...", max_entries=256)
def _reaching(source: str, ticker: str, days: int, model: str) -> dict[str, Any]:
    from foliocast.workflows.forecast import forecast

    return forecast(panel(source), ticker, days, model)


def _answer(source: str, ticker: str, days: int, model: str) -> dict[str, Any]:
    """The first days of a forecast that reaches 7, 15 or 30: its steps do not depend on how far it goes."""
    answer = _reaching(source, ticker, next(reach for reach in REACHES if days <= reach), model)
    return {**answer, "days": answer["days"][:days]}


def _future(source: str, ticker: str, days: int, model: str, history: int) -> None:
    answer = _answer(source, ticker, days, model)
    table = pd.DataFrame(answer["days"])
    end = table.iloc[-1]
    name, move = NAMES.get(model, model), percent(end["return"], 2)
    text = f"**{name} expects {ticker} at {end['price']:,.2f} ({move}) by {end['date']}**"
    if "low_95" in table:
        text += f", and 95 times in 100 between {end['low_95']:,.2f} and {end['high_95']:,.2f}"
    st.markdown(f"{text}. The width of the band is the honest part: daily returns are close to unpredictable.")
    judged = answer.get("calibration", {}).get("past_forecasts", 0)
    if judged:
        st.caption(f"Bands calibrated on {judged} past forecasts of {answer['calibration']['assets']} assets.")
    _weather(source)
    left, right = st.columns([3, 2])
    with left:
        past = _past(source, ticker, min(history, 120))[1]["close"]
        figures.show(figures.outlook(past, table), f"Forecast of {ticker} with 80 and 95 percent bands", key="outlook")
    with right:
        _table(table)
    with st.expander("Model card"), told():
        _card(source, model)
    if _attends(source, model):
        st.subheader("Where it looked")
        _attention(source, ticker, model)


@st.cache_data(show_spinner=False, max_entries=16)
def _regime(source: str) -> dict[str, Any]:
    from foliocast.workflows.quote import regime

    return regime(panel(source))


def _weather(source: str) -> None:
    now = _regime(source)
    if now["label"] is None:
        return
    mood, way = now["label"].split("_")
    colour = "green" if mood == "calm" else "orange"
    st.markdown(
        f":{colour}-badge[{mood}, {'rising' if way == 'up' else 'falling'}] The market of these data: 30-day "
        f"volatility {now['volatility']:.2%} a day, stressed above {now['threshold']:.2%} (upper quartile of five "
        "years)."
    )


def _table(table: pd.DataFrame) -> None:
    price, share = st.column_config.NumberColumn(format="%.2f"), st.column_config.NumberColumn(format="percent")
    shown = table[["date", "day", "price", "return"]]
    height = min(340, 37 + 35 * len(shown))
    st.dataframe(shown, hide_index=True, height=height, column_config={"price": price, "return": share})
    st.download_button(
        "Download CSV",
        table.to_csv(index=False),
        f"forecast-{table['date'].iloc[0]}.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
    )


@st.cache_data(show_spinner=False, max_entries=64)
def _card_of(source: str, model: str) -> dict[str, Any]:
    from foliocast.workflows.quote import card

    return card(panel(source), model)


def _card(source: str, model: str) -> None:
    card = dict(_card_of(source, model))
    settings = card.pop("settings")
    st.markdown("\n".join(f"- {key}: **{value}**" for key, value in card.items()))
    st.caption("Settings: " + ", ".join(f"{k} = {v}" for k, v in settings.items()))


@st.cache_data(show_spinner=False, max_entries=64)
def _attends(source: str, model: str) -> bool:
    from foliocast.workflows.quote import attends

    return attends(panel(source), model)


@st.cache_data(show_spinner="Reading attention ...", max_entries=64)
def _looked(source: str, ticker: str, model: str) -> pd.DataFrame:
    from foliocast.workflows.quote import attention

    return attention(panel(source), ticker, model)


def _attention(source: str, ticker: str, model: str) -> None:
    table = _looked(source, ticker, model)
    st.markdown(
        f"Attention of the last {len(table)} decisions over the {table.shape[1]} bars before each. Equal attention "
        f"would be {1 / table.shape[1]:.1%} everywhere."
    )
    figures.show(figures.attention(table), f"Attention of the network on the past of {ticker}", key="attention")
