"""The report's section on what drove a run, from the tables that ``foliocast explain`` left in its folder."""

from __future__ import annotations

from html import escape

import numpy as np
import pandas as pd

from foliocast.workflows.charts import Line, bar_chart, heat_map, legend
from foliocast.workflows.run_tables import Run

GROUPS = (
    ("asset", "By asset, after costs"),
    ("cost", "Before costs, and what they took"),
    ("factor", "By factor"),
    ("regime", "By regime"),
    ("feature", "By feature: what the forecasts expected through it, and the surprise"),
)
MOST = 12  # bars of a chart


def explanations(run: Run) -> str:
    """Nothing, unless the run has been explained."""
    money = _read(run, "attribution")
    if money.empty:
        return ""
    parts = []
    for name in (n for n in run.strategies if n in set(money["strategy"])):
        rows = money[money["strategy"] == name]
        body = "".join(_charts(rows, by, title) for by, title in GROUPS)
        body += _importance(run, name) + _lags(run, name)
        total = rows[(rows["what"] == "pnl") & (rows["by"] == "asset")]["value"].sum()
        parts.append(f"<details><summary>{escape(name)}: {total:+.1%} of the starting equity</summary>{body}</details>")
    note = (
        "Profit and loss in percent of the starting equity, risk as parts of the standard deviation of one bar; every "
        "group of bars adds up to the same total. Written by foliocast explain."
    )
    return f'<section id="explain"><h2>What drove it</h2><p class="note">{note}</p>{"".join(parts)}</section>'


def _read(run: Run, name: str) -> pd.DataFrame:
    file = run.folder / "explain" / f"{name}.csv"
    return pd.read_csv(file) if file.is_file() else pd.DataFrame()


def _charts(rows: pd.DataFrame, by: str, title: str) -> str:
    out = ""
    for what, label in (("pnl", "profit and loss"), ("risk", "risk")):
        part = rows[(rows["what"] == what) & (rows["by"] == by)]
        if part.empty:
            continue
        part = part.reindex(part["value"].abs().sort_values(ascending=False, kind="stable").index).head(MOST)
        line = Line(label, part["value"].to_numpy(float), 0 if what == "pnl" else 3)
        chart = bar_chart([str(n) for n in part["name"]], [line], [None], "%", f"{label} by {by}")
        out += f"<h3>{escape(title)}: {label}</h3>{chart}"
    return out


def _importance(run: Run, name: str) -> str:
    table = _read(run, "importance")
    if table.empty:
        return ""
    table = table[table["strategy"] == name]
    if table.empty:
        return ""
    shares = table.pivot(index="feature", columns="method", values="share")
    shares = shares.loc[shares.mean(axis=1).sort_values(ascending=False).index].head(MOST)
    lines = [Line(str(m), shares[m].to_numpy(float), k) for k, m in enumerate(shares.columns)]
    chart = bar_chart(
        [str(f) for f in shares.index], lines, [None] * len(lines), "%", f"importance of features, {name}"
    )
    note = (
        "Share of each feature in the importance, by method: mean absolute attribution (gradients, SHAP), and the loss "
        "of correlation with outcomes when the feature is that of another time (permutation)."
    )
    return f"<h3>Features behind the forecasts</h3>{legend(lines, switch=False)}{chart}<p class='note'>{note}</p>"


def _lags(run: Run, name: str) -> str:
    table = _read(run, "lags")
    if table.empty:
        return ""
    table = table[(table["strategy"] == name) & (table["lag"] > -250)]
    out = ""
    for method, part in table.groupby("method"):
        grid = part.pivot(index="feature", columns="lag", values="importance")
        if grid.shape[1] < 2:
            continue
        values = np.repeat(grid.to_numpy(float), 8, axis=0)
        names = ", ".join(map(str, grid.index))
        out += (
            f"<h3>When it looked: {escape(str(method))}</h3>{heat_map(values, f'importance by lag, {name}')}"
            f'<p class="note">Rows from the top: {escape(names)}. The oldest bar left, the present one right.</p>'
        )
    return out
