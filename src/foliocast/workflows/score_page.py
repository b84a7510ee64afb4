"""The scorecard as one page: table, who gained when, calibration. Plotly is loaded here and nowhere else in scoring."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from foliocast.workflows.score import ScoreCard

STYLE = """body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;color:#222}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.25rem .6rem;border-bottom:1px solid #ddd;
text-align:right;white-space:nowrap}th:first-child{text-align:left}.wide{overflow-x:auto}"""


# Okabe & Ito (2008): told apart by the colour-blind, too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#999933")


def page(card: ScoreCard, shown: Sequence[str] = ()) -> str:
    """Self-contained HTML (the plotting library is inlined).

    Parameters
    ----------
    shown : sequence of str
        Models whose margins over every other are tabled.
    """
    import plotly.io as pio

    figures = [_gain_figure(card), _pit_figure(card)]
    parts = [
        pio.to_html(figure, full_html=False, include_plotlyjs="inline" if number == 0 else False)
        for number, figure in enumerate(figures)
    ]
    first, last = _span(card)
    head = (
        f"<p>{int(card.table['origins'].max())} origins, {first} to {last}, every {card.every} bars; horizons "
        f"{', '.join(map(str, card.horizons))}. Lower is better; p-values are two-sided Diebold-Mariano against "
        f"<b>{escape(card.reference)}</b>.</p>"
    )
    margins = "".join(_margins(card, name) for name in shown)
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Scorecard</title><style>{STYLE}</style>"
        f"<h1>Scorecard</h1>{head}{_scores(card)}{margins}{_facts(card)}{''.join(parts)}</html>"
    )


def _scores(card: ScoreCard) -> str:
    """A row a score, a column a model."""
    cells = ["<tr><th></th>" + "".join(f"<th>{escape(str(n))}</th>" for n in card.table.index) + "</tr>"]
    for score, row in card.table.items():
        values = "".join(f"<td>{v:.4g}</td>" if isinstance(v, float) else f"<td>{escape(str(v))}</td>" for v in row)
        cells.append(f"<tr><th>{escape(str(score))}</th>{values}</tr>")
    return f"<div class='wide'><table>{''.join(cells)}</table></div>"


def _margins(card: ScoreCard, name: str) -> str:
    """Mean difference of a model to each of the others."""
    table = margins(card, name)
    cells = [f"<tr><th>{escape(name)} against</th>" + "".join(f"<th>{c}</th>" for c in table.columns) + "</tr>"]
    for other, row in table.iterrows():
        cells.append(f"<tr><th>{escape(str(other))}</th>" + "".join(f"<td>{v}</td>" for v in row) + "</tr>")
    return (
        "<h2>Margins</h2><p>Mean difference (p, Diebold-Mariano); negative is better.</p>"
        f"<div class='wide'><table>{''.join(cells)}</table></div>"
    )


def margins(card: ScoreCard, name: str) -> pd.DataFrame:
    """Mean difference of a model to each of the others as text, per cent and p-value: (other, score)."""
    wanted = [f"{score}_{h}" for h in card.horizons for score in ("energy", "portfolio")]
    rows = {}
    for other in card.table.index.drop(name):
        gaps, level = card.compare(other).loc[name], card.table.loc[other]
        rows[other] = [f"{gaps[w, 'difference'] / level[w]:+.2%} ({gaps[w, 'p']:.3f})" for w in wanted]
    return pd.DataFrame.from_dict(rows, orient="index", columns=wanted)


def _colours(card: ScoreCard) -> dict[str, str]:
    """One colour a model in all figures."""
    return {str(name): COLOURS[i % len(COLOURS)] for i, name in enumerate(card.table.index)}


def _facts(card: ScoreCard) -> str:
    """Stylised facts: the data with their band, then every model; outside the band in red."""
    if not card.facts:
        return ""
    first = next(iter(card.facts.values()))
    names = [name for name in card.table.index if name in card.facts]
    cells = [
        "<tr><th>fact</th><th>market</th><th>band</th>" + "".join(f"<th>{escape(n)}</th>" for n in names) + "</tr>"
    ]
    for fact, row in first.iterrows():
        line = f"<th>{escape(str(fact))}</th><td>{row['real']:.3f}</td><td>{row['low']:.3f} to {row['high']:.3f}</td>"
        for name in names:
            made = card.facts[name].loc[str(fact)]
            colour = "" if made["inside"] else " style='color:#b3261e'"
            line += f"<td{colour}>{made['simulated']:.3f}</td>"
        cells.append(f"<tr>{line}</tr>")
    return (
        "<h2>Stylised facts</h2><p>Means over windows from the start of each fold; the band (95 %) resamples the "
        f"market's windows; red lies outside it.</p><div class='wide'><table>{''.join(cells)}</table></div>"
    )


def _span(card: ScoreCard) -> tuple[str, str]:
    times = pd.DatetimeIndex(card.per_origin[card.reference].index)
    return str(times[0].date()), str(times[-1].date())


def _gain_figure(card: ScoreCard) -> object:
    """Cumulative energy score gained on the reference: up is better."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [f"{h}-bar energy score gained on {card.reference}, cumulative" for h in card.horizons]
    figure = make_subplots(rows=1, cols=len(card.horizons), subplot_titles=titles)
    for column, h in enumerate(card.horizons, start=1):
        base = card.per_origin[card.reference][f"energy_{h}"]
        for name in card.table.index:
            gain = (base - card.per_origin[name][f"energy_{h}"]).cumsum()
            line = go.Scatter(x=gain.index, y=gain, name=name, legendgroup=name, showlegend=column == 1)
            figure.add_trace(line.update(line_color=_colours(card)[name]), row=1, col=column)
    return figure.update_layout(height=420, template="plotly_white")


def _pit_figure(card: ScoreCard) -> object:
    """Histogram of the probability integral transform: flat when calibrated."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [f"PIT, {h} bars ahead (flat is calibrated)" for h in card.horizons]
    figure = make_subplots(rows=1, cols=len(card.horizons), subplot_titles=titles)
    edges = np.linspace(0.0, 1.0, 21)
    for column, h in enumerate(card.horizons, start=1):
        for name in card.table.index:
            density = np.histogram(card.pits[name][h], bins=edges, density=True)[0]
            line = go.Scatter(
                x=0.5 * (edges[1:] + edges[:-1]), y=density, name=name, legendgroup=name, showlegend=False, mode="lines"
            )
            figure.add_trace(line.update(line_color=_colours(card)[name]), row=1, col=column)
    return figure.update_layout(height=380, template="plotly_white")
