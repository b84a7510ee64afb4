"""The figures of the dashboard: tables in, Plotly out. Colours hold on light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

COLOURS = ("#3b82f6", "#f97316", "#22a06b", "#a855f7", "#06b6d4", "#ef4444", "#d99a06", "#64748b")
BLUE, ORANGE, GREEN, PURPLE, CYAN, RED, YELLOW, GREY = COLOURS
UP, DOWN = "#22a06b", "#ef4444"
DIVERGING = [[0.0, "#ef4444"], [0.5, "rgba(148,163,184,0.10)"], [1.0, "#3b82f6"]]
FADE = [[0.0, "rgba(59,130,246,0.03)"], [1.0, "#3b82f6"]]


def show(figure: go.Figure, alt: str, key: str | None = None) -> None:
    """Draw a figure across the page, named for screen readers."""
    st.plotly_chart(figure, width="stretch", config={"displayModeBar": False}, alt=alt, key=key)


def styled(figure: go.Figure, height: int = 340, percent: str = "", legend: bool = True) -> go.Figure:
    """Common layout; ``percent`` names the axes that carry fractions, such as ``"xy"``."""
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 30 if legend else 10, "b": 10},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        showlegend=legend,
        xaxis_rangeslider_visible=False,
    )
    if "x" in percent:
        figure.update_xaxes(tickformat=".0%")
    if "y" in percent:
        figure.update_yaxes(tickformat=".0%")
    return figure


# ---- prices


def candles(table: pd.DataFrame, ticker: str) -> go.Figure:
    """Candles (a line where there are only closes), averages and volume."""
    figure = go.Figure()
    if {"open", "high", "low"} <= set(table):
        figure.add_candlestick(
            x=table.index,
            **{field: table[field] for field in ("open", "high", "low", "close")},
            name=ticker,
            increasing={"line": {"color": UP, "width": 1}, "fillcolor": UP},
            decreasing={"line": {"color": DOWN, "width": 1}, "fillcolor": DOWN},
        )
    else:
        _line(figure, table["close"], ticker, BLUE)
    for window, colour in ((50, ORANGE), (200, PURPLE)):
        _line(figure, table[f"average_{window}"], f"{window}-day average", colour, 1.5)
    if "volume" in table:
        figure.add_bar(
            x=table.index,
            y=table["volume"],
            name="volume",
            yaxis="y2",
            marker_color="rgba(100,116,139,0.35)",
            marker_line_width=0,
            showlegend=False,
        )
        top = float(table["volume"].max()) * 5
        figure.update_layout(
            yaxis2={"overlaying": "y", "side": "right", "range": [0, top], "visible": False, "fixedrange": True}
        )
    if not (pd.DatetimeIndex(table.index).day_of_week >= 5).any():
        figure.update_xaxes(rangebreaks=[{"bounds": ["sat", "mon"]}])
    return styled(figure, 380).update_layout(hovermode="x unified")


def _line(figure: go.Figure, values: pd.Series, name: str, colour: str, width: float = 2.0, **options: Any) -> None:
    figure.add_scatter(
        x=values.index, y=values, name=name, mode="lines", line={"color": colour, "width": width}, **options
    )


def bands(
    figure: go.Figure, x: Sequence[Any], table: pd.DataFrame, levels: Sequence[int], rgb: str = "59,130,246"
) -> None:
    """Shade the bands ``low_L`` to ``high_L``, widest first."""
    for level in sorted(levels, reverse=True):
        if f"low_{level}" not in table:
            continue
        figure.add_scatter(
            x=x, y=table[f"high_{level}"], mode="lines", line_width=0, showlegend=False, hoverinfo="skip"
        )
        figure.add_scatter(
            x=x,
            y=table[f"low_{level}"],
            mode="lines",
            line_width=0,
            fill="tonexty",
            name=f"{level} %",
            fillcolor=f"rgba({rgb},{0.14 if level > 90 else 0.2})",
        )


def outlook(past: pd.Series, table: pd.DataFrame) -> go.Figure:
    """The last prices, then the expected path of a forecast with its bands."""
    figure = go.Figure()
    _line(figure, past, "past", GREY)
    start = float(past.iloc[-1])
    now = {column: start for column in table.columns if column == "price" or "_" in column}
    joined = pd.concat([pd.DataFrame([now]), table], ignore_index=True)
    dates = [past.index[-1], *pd.to_datetime(table["date"])]
    bands(figure, dates, joined, (80, 95))
    figure.add_scatter(
        x=dates, y=joined["price"], name="expected", mode="lines+markers", marker_size=4, line_color=BLUE
    )
    return styled(figure, 340).update_layout(hovermode="x unified")


def attention(table: pd.DataFrame) -> go.Figure:
    """Heat map of attention: days decided on by bars looked back, shaded from least to most."""
    figure = go.Figure(
        go.Heatmap(
            z=table.to_numpy(),
            x=[int(lag) for lag in table.columns],
            y=table.index,
            colorscale=FADE,
            colorbar={"tickformat": ".1%", "thickness": 10},
            hovertemplate="decided %{y|%d %b %Y}<br>%{x} bars before: %{z:.2%}<extra></extra>",
        )
    )
    figure.update_xaxes(title="bars before the decision")
    return styled(figure, 340, legend=False)


# ---- scenarios


def fan(table: pd.DataFrame, title: str, past: pd.Series | None = None) -> go.Figure:
    """Bands of a price over the steps ahead, after its past."""
    figure = go.Figure()
    if past is not None:
        _line(figure, pd.Series(past.to_numpy(), index=range(1 - len(past), 1)), "past", GREY)
    bands(figure, list(table.index), table, (50, 80, 95))
    _line(figure, table["median"], "median", BLUE)
    figure.update_xaxes(title="bars ahead")
    figure.update_yaxes(title=title)
    return styled(figure, 360).update_layout(hovermode="x unified")


def infilled(found: Any) -> go.Figure:
    """A hidden stretch: what was drawn with the others shown, without, and what came."""
    figure = go.Figure()
    for side in ("low_80", "high_80"):
        figure.add_scatter(
            x=found.dates,
            y=found.free[side],
            mode="lines",
            line={"color": GREY, "dash": "dot", "width": 1.3},
            name="80 %, nothing shown",
            legendgroup="free",
            showlegend=side == "low_80",
        )
    bands(figure, found.dates, found.told, (50, 80))
    figure.add_scatter(x=found.dates, y=found.told["median"], mode="lines", name="median", line_color=BLUE)
    figure.add_scatter(
        x=found.dates, y=found.actual, mode="lines", name="what came", line={"color": ORANGE, "width": 2.5}
    )
    return styled(figure, 380).update_layout(hovermode="x unified")


def joint(drawn: pd.DataFrame, past: pd.DataFrame, a: str, b: str) -> go.Figure:
    """Joint returns of two assets over the horizon: scenarios on history."""
    figure = go.Figure()
    few = drawn.iloc[:: max(1, len(drawn) // 1500)]
    for table, name, colour, size in ((past, "history", GREY, 4), (few, "scenarios", BLUE, 5)):
        figure.add_scattergl(
            x=table[a], y=table[b], mode="markers", name=name, marker={"size": size, "color": colour, "opacity": 0.45}
        )
    figure.update_xaxes(title=a)
    figure.update_yaxes(title=b)
    return styled(figure, 360, "xy")


def correlation(table: pd.DataFrame) -> go.Figure:
    """Correlations, red to blue; numbers where there is room."""
    text = table.round(2).astype(str).to_numpy() if len(table) <= 10 else None
    figure = go.Figure(
        go.Heatmap(
            z=table.to_numpy(),
            x=list(table.columns),
            y=list(table.index),
            zmin=-1,
            zmax=1,
            colorscale=DIVERGING,
            text=text,
            texttemplate="%{text}" if text is not None else None,
            showscale=False,
            hovertemplate="%{y}, %{x}: %{z:.2f}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    return styled(figure, 360, legend=False)


def distribution(series: Mapping[str, np.ndarray], marks: Mapping[str, float] | None = None) -> go.Figure:
    """Histograms of returns, one a name, with marked losses."""
    figure = go.Figure()
    for (name, values), colour in zip(series.items(), COLOURS):
        figure.add_histogram(
            x=values,
            name=name,
            histnorm="probability",
            nbinsx=60,
            marker_color=colour,
            opacity=0.55,
            marker_line_width=0,
        )
    for name, value in (marks or {}).items():
        figure.add_vline(x=value, line={"color": RED, "dash": "dot"}, annotation_text=name, annotation_position="top")
    return styled(figure, 340, "xy").update_layout(barmode="overlay")


# ---- books


def weights(books: Mapping[str, pd.Series]) -> go.Figure:
    """Weights side by side, largest first."""
    names = list(dict.fromkeys(str(a) for book in books.values() for a in book.index))
    size = pd.Series(0.0, index=names)
    for book in books.values():
        size = size.add(book.abs(), fill_value=0.0)
    order = [str(a) for a in size.sort_values(ascending=False).index[:25]]
    figure = go.Figure()
    for (name, book), colour in zip(books.items(), COLOURS):
        figure.add_bar(x=order, y=book.reindex(order).fillna(0.0), name=name, marker_color=colour, marker_line_width=0)
    return styled(figure, 320, "y").update_layout(barmode="group")


def frontier(line: pd.DataFrame, points: Mapping[str, Mapping[str, float]], risk: str) -> go.Figure:
    """The efficient frontier on scenarios, with books on it and below it."""
    figure = go.Figure()
    assets = [c for c in line.columns if c not in ("risk", "expected_return")]
    hover = [
        "<br>".join(f"{a} {row[a]:.0%}" for a in sorted(assets, key=lambda a: -row[a])[:6] if row[a] > 0.005)
        for _, row in line.iterrows()
    ]
    figure.add_scatter(
        x=line["risk"],
        y=line["expected_return"],
        mode="lines+markers",
        name="efficient",
        line_color=BLUE,
        text=hover,
        hovertemplate="risk %{x:.2%}, return %{y:.2%}<br>%{text}<extra></extra>",
    )
    for (name, at), colour in zip(points.items(), COLOURS[1:]):
        figure.add_scatter(
            x=[at["risk"]],
            y=[at["expected_return"]],
            mode="markers",
            name=name,
            marker={"size": 13, "color": colour, "symbol": "diamond", "line": {"width": 1, "color": "white"}},
            hovertemplate=f"{name}<br>risk %{{x:.2%}}, return %{{y:.2%}}<extra></extra>",
        )
    figure.update_xaxes(title=risk)
    figure.update_yaxes(title="expected return over the horizon")
    return styled(figure, 400).update_xaxes(tickformat=".1%").update_yaxes(tickformat=".1%")


def growth(curve: pd.DataFrame) -> go.Figure:
    """Expected log growth against the size of the bet."""
    finite = curve[np.isfinite(curve["growth"])]
    figure = go.Figure()
    figure.add_scatter(x=finite.index, y=finite["growth"], mode="lines", name="growth", line_color=BLUE)
    figure.add_vline(x=1.0, line={"color": GREY, "dash": "dot"}, annotation_text="this bet", annotation_position="top")
    figure.update_xaxes(title="share of the bet taken")
    figure.update_yaxes(title="expected log growth")
    return styled(figure, 300, legend=False).update_yaxes(tickformat=".2%")


def bars(values: pd.Series, title: str = "", low: Any = None, high: Any = None) -> go.Figure:
    """Horizontal bars of fractions, gains and losses apart, with intervals when given."""
    colours = [DOWN if v < 0 else BLUE for v in values]
    error = None
    if low is not None:
        error = {"type": "data", "symmetric": False, "array": high - values, "arrayminus": values - low, "color": GREY}
    figure = go.Figure(
        go.Bar(
            x=values.to_numpy(),
            y=[str(i) for i in values.index],
            orientation="h",
            marker_color=colours,
            error_x=error,
            text=[f"{v:+.1%}" for v in values] if low is None else None,
            textposition="outside" if low is None else "none",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.2%}<extra></extra>",
        )
    )
    ends = [values, low, high] if low is not None else [values]
    least, most = min(0.0, *(float(e.min()) for e in ends)), max(0.0, *(float(e.max()) for e in ends))
    room = (0.2 if low is None else 0.05) * ((most - least) or 1.0)  # for the numbers beyond the bars
    figure.update_xaxes(title=title, range=[least - room * (least < 0), most + room * (most > 0)])
    figure.update_yaxes(autorange="reversed", type="category")  # names may look like numbers
    return styled(figure, 90 + 30 * len(values), "x", legend=False)


def shares(table: pd.DataFrame) -> go.Figure:
    """Share of the weight beside share of the risk, asset by asset."""
    figure = go.Figure()
    titles = {"weight": "of weight", "share_volatility": "of volatility", "share_cvar": "of CVaR"}
    for (column, name), colour in zip(titles.items(), (GREY, BLUE, ORANGE)):
        figure.add_bar(x=list(table.index), y=table[column], name=name, marker_color=colour, marker_line_width=0)
    return styled(figure, 320, "y").update_layout(barmode="group")


# ---- prompt


def denoising(table: pd.DataFrame, count: int = 14) -> go.Figure:
    """How a portfolio came out of noise: an animation with a button and a slider, in the browser."""
    final = table.iloc[-1].sort_values(ascending=False, kind="stable").index[:count]
    values = table[list(final)]
    top = float(values.to_numpy().max()) * 1.08

    def bar(step: int) -> go.Bar:
        return go.Bar(x=values.iloc[step], y=list(final), orientation="h", marker_color=BLUE, marker_line_width=0)

    names = [f"{noise:.2g}" for noise in table.index]
    figure = go.Figure(bar(len(values) - 1), frames=[go.Frame(data=[bar(i)], name=str(i)) for i in range(len(values))])
    timing = {"frame": {"duration": 250, "redraw": True}, "transition": {"duration": 120}, "mode": "immediate"}
    play = {"label": "Play", "method": "animate", "args": [None, {**timing, "fromcurrent": False}]}
    steps = [
        {
            "label": names[i],
            "method": "animate",
            "args": [[str(i)], {**timing, "frame": {"duration": 0, "redraw": True}}],
        }
        for i in range(len(values))
    ]
    figure.update_layout(
        updatemenus=[{"type": "buttons", "buttons": [play], "x": 0, "y": -0.14, "xanchor": "left", "yanchor": "top"}],
        sliders=[
            {
                "steps": steps,
                "active": len(values) - 1,
                "x": 0.14,
                "len": 0.86,
                "y": -0.06,
                "currentvalue": {"prefix": "noise "},
            }
        ],
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(range=[0, top])
    styled(figure, 470, "x", legend=False)
    return figure.update_layout(margin={"l": 10, "r": 10, "t": 10, "b": 90})


def strip(table: pd.DataFrame, frames: int = 8, count: int = 14) -> go.Figure:
    """The same sequence as a still strip: holdings by noise level, shaded by weight."""
    final = list(table.iloc[-1].sort_values(ascending=False, kind="stable").index[:count])
    chosen = np.unique(np.linspace(0, len(table) - 1, frames).round().astype(int))
    values = table.iloc[chosen][final].T
    figure = go.Figure(
        go.Heatmap(
            z=values.to_numpy(),
            x=[f"{noise:.2g}" for noise in table.index[chosen]],
            y=final,
            colorscale=FADE,
            colorbar={"tickformat": ".0%", "thickness": 10},
            hovertemplate="noise %{x}<br>%{y}: %{z:.2%}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="noise level, falling", type="category")
    return styled(figure, 420, legend=False)


def influence(table: pd.DataFrame) -> go.Figure:
    """What each part of a prompt moved, in weight."""
    reach = float(table.abs().to_numpy().max()) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=table.to_numpy(),
            x=list(table.columns),
            y=list(table.index),
            zmin=-reach,
            zmax=reach,
            colorscale=DIVERGING,
            colorbar={"tickformat": "+.0%", "thickness": 10},
            hovertemplate="%{y} on %{x}: %{z:+.2%}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    return styled(figure, 130 + 32 * len(table), legend=False)


# ---- runs


def curves(table: pd.DataFrame, height: int = 360) -> go.Figure:
    """Equity curves on a logarithmic axis."""
    figure = go.Figure()
    for i, name in enumerate(table.columns):
        _line(figure, table[name].dropna(), str(name), COLOURS[i % len(COLOURS)], 1.8)
    figure.update_yaxes(type="log", title="wealth from 1 (log)")
    return styled(figure, height).update_layout(hovermode="x unified")


def intervals(table: pd.DataFrame) -> go.Figure:
    """Sharpe ratios as points with their intervals, best first."""
    order = table.sort_values("value", ascending=True)
    figure = go.Figure(
        go.Scatter(
            x=order["value"],
            y=[str(i) for i in order.index],
            mode="markers",
            marker={"size": 10, "color": BLUE},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": order["high"] - order["value"],
                "arrayminus": order["value"] - order["low"],
                "color": GREY,
            },
            hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        )
    )
    figure.add_vline(x=0.0, line={"color": GREY, "width": 1})
    figure.update_yaxes(type="category")
    figure.update_xaxes(title="Sharpe ratio a year, with its 95 % interval")
    return styled(figure, 90 + 30 * len(order), legend=False)
