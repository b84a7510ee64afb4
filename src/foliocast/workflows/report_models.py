"""What the report says of models: forecasts, regimes, attention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from foliocast.workflows.charts import Line, bar_chart, heat_map, legend, stacked_chart
from foliocast.workflows.report_parts import (
    grid_of,
    markup_table,
    name_tag,
    number,
    regime_bands,
    regime_labels,
    section,
)
from foliocast.workflows.run_tables import Run, estimate


def forecasts(run: Run) -> str:
    """Predictions against outcomes."""
    found = {str(k): v for k, v in (run.metrics.get("forecasts") or {}).items() if isinstance(v, Mapping)}
    if not found:
        return ""
    years = sorted({str(year) for entry in found.values() for year in entry.get("ic_by_year") or {}})
    parts = [_errors_table(run, found)]
    if years:
        groups, errors = [], []
        for name, entry in found.items():
            by_year = entry.get("ic_by_year") or {}
            groups.append(run.line(name, np.array([_ic(by_year.get(year))[0] for year in years])))
            errors.append(np.array([_ic(by_year.get(year))[1] for year in years]))
        parts += ["<h3>Rank information coefficient by year, with 95 % whiskers</h3>", legend(groups, switch=False)]
        parts.append(bar_chart(years, groups, errors, label="information coefficient by year"))
    parts.append(_deciles(run, list(found)))
    note = (
        "Persistence predicts that the next close is the last one. A daily rank IC well above 0.06 is a leak until "
        "proved otherwise; models that work on daily shares reach 0.04 to 0.054."
    )
    return section("Predictions and outcomes", note, *parts, key="forecasts")


def _ic(entry: Any) -> tuple[float, float]:
    value = estimate(entry)[0]
    error = entry.get("standard_error", entry.get("se")) if isinstance(entry, Mapping) else None
    return (np.nan if value is None else value), (0.0 if error is None else float(error))


def _errors_table(run: Run, found: Mapping[str, Mapping[str, Any]]) -> str:
    measures = (("mae", "MAE", ""), ("mse", "MSE", ""), ("rmse", "RMSE", ""), ("mape", "MAPE", "%"))
    rows = []
    for name, entry in found.items():
        ic, error = _ic(entry.get("rank_ic"))
        plus = f"<small>± {number(error, digits=4)}</small>" if error else ""
        cells = []
        for key, _, unit in measures:
            mine, theirs = estimate(entry.get(key))[0], estimate((entry.get("persistence") or {}).get(key))[0]
            digits = 3 if unit == "%" else 4
            small = f"<small>persistence {number(theirs, unit, digits)}</small>" if theirs is not None else ""
            cells.append(f"<td>{number(mine, unit, digits)}{small}</td>")
        rows.append(
            f"<tr><td>{name_tag(run, name)}</td>{''.join(cells)}<td>{number(ic, digits=4)}{plus}</td>"
            f"<td>{number(estimate(entry.get('n'))[0], 'n')}</td></tr>"
        )
    head = "".join(f"<th>{title}</th>" for _, title, _ in measures)
    return (
        f'<div class="scroll"><table><thead><tr><th>Model</th>{head}<th>Rank IC</th><th>Pairs</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _deciles(run: Run, names: Iterable[str]) -> str:
    """Mean outcome within each tenth of the predictions: upward if they mean anything."""
    groups, errors = [], []
    for name in names:
        rows = run.of("predictions", name)
        if rows.empty or not {"prediction", "outcome"} <= set(rows.columns):
            continue
        guess, truth = rows["prediction"].to_numpy(float), rows["outcome"].to_numpy(float)
        good = np.isfinite(guess) & np.isfinite(truth)
        if good.sum() < 200:
            continue
        tenths = np.array_split(truth[good][np.argsort(guess[good], kind="stable")], 10)
        groups.append(run.line(name, np.array([part.mean() for part in tenths])))
        errors.append(np.array([part.std() / np.sqrt(len(part)) for part in tenths]))
    if not groups:
        return ""
    chart = bar_chart([str(k) for k in range(1, 11)], groups, errors, "%", "mean outcome by tenth of the predictions")
    return "<h3>Mean next return by tenth of the predictions, lowest to highest</h3>" + chart


def regimes(run: Run) -> str:
    """Regimes of the market over time, and how each strategy did in them."""
    table = run.of("regimes")
    if table.empty or run.equity.empty:
        return ""
    _, names = regime_bands(run)
    parts = []
    if names:
        keys = [Line(name, np.zeros(0), k) for k, name in enumerate(names)]
        parts += [legend(keys, switch=False), _by_regime(run, names)]
    states = [c for c in table.columns if str(c).startswith("p_")]
    if states:
        wide = table.set_index("date")[states].reindex(run.dates).ffill()
        layers = [Line(str(c)[2:], wide[c].to_numpy(float), k + len(names)) for k, c in enumerate(states)]
        parts += ["<h3>Probability of each hidden state</h3>", legend(layers, switch=False)]
        parts.append(stacked_chart(run.dates, layers, label="probability of each hidden state"))
    note = "Known at each day: thresholds and hidden Markov models are fitted on training rows, states are filtered."
    return section("Regimes", note, *parts, key="regimes")


def _by_regime(run: Run, names: list[str]) -> str:
    labels = regime_labels(run)
    assert labels is not None
    known = labels.shift(1).iloc[1:].astype(str)  # the regime known when the bar's position was taken
    rows = []
    for strategy in [n for n in run.strategies if n in run.returns] or [str(n) for n in run.returns]:
        by = run.returns[strategy].groupby(known.to_numpy()).mean() * run.periods
        cells = "".join(f"<td>{number(by.get(name), '%')}</td>" for name in names)
        rows.append(f"<tr><td>{name_tag(run, str(strategy))}</td>{cells}</tr>")
    share = known.value_counts(normalize=True)
    head = "".join(f"<th>{escape(name)}<br>{number(share.get(name, 0.0), '%', 0)} of days</th>" for name in names)
    return "<h3>Mean return a year in the days after each regime</h3>" + markup_table(f"<th>Strategy</th>{head}", rows)


def attention(run: Run) -> str:
    """What the attention layer looked at."""
    table = run.of("attention")
    if table.empty or not {"date", "lag", "weight"} <= set(table.columns):
        return ""
    parts = []
    for name in table["strategy"].unique() if "strategy" in table else [""]:
        rows = run.of("attention", name)
        dates = pd.DatetimeIndex(rows["date"].unique()).sort_values()
        grid, found = grid_of(rows, dates, "lag", "weight")
        order = np.argsort(np.asarray(found, dtype=int))
        lags, values = np.asarray(found, dtype=int)[order], grid[:, order].T
        edges = np.unique(np.linspace(0, values.shape[1], min(240, values.shape[1]) + 1).astype(int))
        shown = np.add.reduceat(np.nan_to_num(values), edges[:-1], axis=1) / np.diff(edges)
        low, high = float(shown.min()), float(shown.max())  # shades from least to most: attention is often near equal
        parts.append(
            f"<h3>{escape(str(name))}</h3>{heat_map(shown - low, f'attention of {name}')}"
            f'<p class="note">Lag {lags[0]} (latest bar) on top, lag {lags[-1]} below; '
            f"{dates[0]:%Y-%m-%d} left, {dates[-1]:%Y-%m-%d} right. Shades run from {low:.2%} to {high:.2%} of the "
            f"attention; equal attention would be {1 / len(lags):.2%}.</p>"
        )
    return section("Attention on the past", "", *parts, key="attention")
