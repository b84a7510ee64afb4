"""The sections of the report, each a function from a run to markup; a section without its data says nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from foliocast.workflows.charts import (
    COLOURS,
    Line,
    axis,
    bar_chart,
    heat_map,
    legend,
    line_chart,
    stacked_chart,
)
from foliocast.workflows.run_tables import Run, estimate

# key in metrics.json, heading, unit
COLUMNS = (
    ("sharpe", "Sharpe", ""),
    ("deflated_sharpe", "Deflated", "p"),
    ("annual_return", "Return / yr", "%"),
    ("volatility", "Volatility", "%"),
    ("max_drawdown", "Max drawdown", "%"),
    ("calmar", "Calmar", ""),
    ("sortino", "Sortino", ""),
    ("win_rate", "Win rate", "%"),
    ("cvar_95", "CVaR 95", "%"),
    ("turnover", "Turnover / yr", "x"),
    ("cost", "Cost / yr", "%"),
    ("n_days", "Days", "n"),
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Year")
_WINDOW = 126  # bars of the rolling measures, half a year
_TOP_ASSETS = 8
_EXECUTION = {
    "next_open": "Decided after the close of a bar, filled at the open of the next.",
    "next_close": "Decided after the close of a bar, filled at the close of the next.",
    "same_close": "Decided and filled at the same close: optimistic, chosen explicitly in the config.",
}


def number(value: float | None, unit: str = "", digits: int | None = None) -> str:
    """A figure as it is printed everywhere in the report."""
    if value is None or not np.isfinite(value):
        return "–" if value is None or value != value else "∞"
    if unit == "%":
        text = f"{value * 100:.{1 if digits is None else digits}f} %"
    elif unit == "n":
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{2 if digits is None else digits}f}" + ("×" if unit == "x" else "")
    return text.replace("-", "−")


def _section(title: str, note: str, *parts: str, key: str = "") -> str:
    hint = f'<p class="note">{note}</p>' if note else ""
    return f'<section id="{key}"><h2>{escape(title)}</h2>{hint}{"".join(parts)}</section>'


def _name(run: Run, name: str) -> str:
    entry = run.strategies.get(name, {})
    tags = '<span class="tag">baseline</span>' if entry.get("baseline") else ""
    if entry.get("contaminated"):
        tags += '<span class="tag bad">knew the future</span>'
    colour = run.colour(name) % COLOURS
    return f'<span title="{escape(name)}"><i class="dot s{colour}"></i>{escape(name)}</span>{tags}'


# ---- opening ---------------------------------------------------------------------------------------------------------


def opening(run: Run) -> str:
    """Title, what was run, and the outcome in two sentences."""
    about, data = run.about, run.about.get("data") or {}
    audit = run.metrics.get("audit") or {}
    chips = [_audit_chip(audit)]
    chips += (
        [f'<span class="chip">{number(run.metrics["trials"], "n")} trials on these data</span>']
        if isinstance(run.metrics.get("trials"), int)
        else []
    )
    if len(run.dates):
        chips.append(f'<span class="chip">{run.dates[0]:%Y-%m-%d} to {run.dates[-1]:%Y-%m-%d}</span>')
    if data.get("name"):
        chips.append(f'<span class="chip">{escape(str(data["name"]))}, {len(data.get("assets") or [])} assets</span>')
    if about.get("execution"):
        style = "chip warn" if about["execution"] == "same_close" else "chip"
        chips.append(f'<span class="{style}">fills: {escape(str(about["execution"]))}</span>')
    if any(entry.get("contaminated") for entry in run.strategies.values()):
        chips.append('<span class="chip bad">holds results of models that had seen the test period</span>')
    notice = f'<p class="note">{escape(str(data["notice"]))}</p>' if data.get("notice") else ""
    return (
        f'<header><div class="brand">Foliocast</div><h1>{escape(str(about.get("name") or run.folder.name))}</h1>'
        f'<p class="lead">{_outcome(run)}</p><div class="chips">{"".join(chips)}</div>{notice}</header>'
    )


def _audit_chip(audit: Mapping[str, Any]) -> str:
    if audit.get("passed") is None:
        return '<span class="chip warn">not audited</span>'
    good = bool(audit["passed"])
    return f'<span class="chip {"good" if good else "bad"}">look-ahead audit {"passed" if good else "FAILED"}</span>'


def _outcome(run: Run) -> str:
    """The best strategy that is not a baseline, beside the best baseline, with no more certainty than there is."""
    ranked = [(name, entry) for name, entry in run.strategies.items() if estimate(entry.get("sharpe"))[0] is not None]
    judged = [item for item in ranked if not item[1].get("baseline")]
    plain = [item for item in ranked if item[1].get("baseline")]
    if not ranked:
        return "No strategy has a Sharpe ratio."
    best, entry = (judged or ranked)[0]
    text = f"<b>{escape(best)}</b> has a Sharpe ratio of {_with_range(entry.get('sharpe'))}"
    if judged and plain:
        rival, other = plain[0]
        mine, theirs = estimate(entry["sharpe"])[0] or 0.0, estimate(other["sharpe"])[0] or 0.0
        verb = "more than" if mine > theirs else "less than"
        text += f", {verb} the best baseline, <b>{escape(rival)}</b>, with {_with_range(other.get('sharpe'))}"
    text += "."
    sure = estimate(entry.get("deflated_sharpe"))[0]
    if sure is not None:
        verdict = "enough to rule out luck" if sure >= 0.95 else "not enough to rule out luck"
        text += f" With every trial counted, the probability that this is more than luck is {number(sure)}: {verdict}."
    return text


def _with_range(entry: Any) -> str:
    value, low, high = estimate(entry)
    return number(value) + (f" [{number(low)}, {number(high)}]" if low is not None and high is not None else "")


# ---- numbers ---------------------------------------------------------------------------------------------------------


def headline(run: Run) -> str:
    """Every strategy and baseline, with intervals."""
    if not run.strategies:
        return _section("Headline", "The run recorded no strategies.", key="headline")
    ranges = [estimate(entry.get("sharpe")) for entry in run.strategies.values()]
    known = [x for triple in ranges for x in triple if x is not None] + [0.0]
    low, span = min(known), (max(known) - min(known)) or 1.0
    head = "<th>Strategy</th><th>Sharpe, 95 %</th>" + "".join(f"<th>{escape(title)}</th>" for _, title, _ in COLUMNS)
    rows = []
    for name, entry in run.strategies.items():
        bar = _interval_bar(estimate(entry.get("sharpe")), low, span, run.colour(name) % COLOURS)
        cells = "".join(_cell(key, entry.get(key), unit) for key, _, unit in COLUMNS)
        rows.append(f"<tr><td>{_name(run, name)}</td><td>{bar}</td>{cells}</tr>")
    note = (
        "Net of all costs, highest Sharpe ratio first; losing results stand beside the others. Small figures are 95 % "
        "intervals of the stationary bootstrap. <em>Deflated</em> is the probability that the Sharpe ratio is above "
        "what the best of all trials would show by luck; 0.95 is the usual bar."
    )
    return _section("Headline", note, _markup_table(head, rows), key="headline")


def _cell(key: str, entry: Any, unit: str) -> str:
    value, low, high = estimate(entry)
    small = f"<small>{number(low, unit)} … {number(high, unit)}</small>" if low is not None and high is not None else ""
    raw = "" if value is None else f' data-v="{value!r}"'
    style = ' class="neg"' if value is not None and value < 0 and key != "max_drawdown" else ""
    return f'<td data-k="{key}"{raw}{style}>{number(value, unit)}{small}</td>'


def _interval_bar(triple: tuple[float | None, float | None, float | None], low: float, span: float, colour: int) -> str:
    value, left, right = triple
    if value is None:
        return ""
    left, right = value if left is None else left, value if right is None else right
    place = [f"{(x - low) / span * 100:.1f}%" for x in (left, value, 0.0)]
    return (
        f'<span class="span s{colour}"><u style="left:{place[2]}"></u>'
        f'<i style="left:{place[0]};width:{(right - left) / span * 100:.1f}%"></i>'
        f'<b style="left:{place[1]}"></b></span>'
    )


def evidence(run: Run) -> str:
    """Audit verdict, trials, overfitting, superiority."""
    metrics = run.metrics
    facts = [_fact(number(metrics.get("trials"), "n"), "strategies ever tried on these data, this run included")]
    pbo = estimate(metrics.get("pbo"))[0]
    if pbo is not None:
        facts.append(_fact(number(pbo), "probability of backtest overfitting (about 0.5 for noise, near 0 for skill)"))
    spa = metrics.get("spa") or {}
    p_value = estimate(spa.get("p_value", spa.get("consistent")))[0]
    if p_value is not None:
        against = f" than {spa['benchmark']}" if spa.get("benchmark") else " than the benchmark"
        facts.append(
            _fact(number(p_value), f"p-value that none is better{against} (Hansen's SPA; small speaks for skill)")
        )
    best = next((e for e in run.strategies.values() if not e.get("baseline")), None)
    bars = estimate((best or {}).get("min_track_record"))[0]
    if best is not None and "min_track_record" in best:
        text = "years of track record that the best strategy's Sharpe ratio needs to be above zero at 95 %"
        facts.append(_fact(number(None if bars is None else bars / run.periods, digits=1), text))
    return _section(
        "Evidence",
        "",
        _audit_box(metrics.get("audit") or {}),
        f'<div class="facts">{"".join(facts)}</div>',
        key="evidence",
    )


def _fact(value: str, text: str) -> str:
    return f'<div class="fact"><strong>{value}</strong><span>{escape(text)}</span></div>'


def _audit_box(audit: Mapping[str, Any]) -> str:
    if audit.get("passed") is None:
        return '<div class="verdict bad"><strong>Not audited</strong><p>No look-ahead audit is recorded.</p></div>'
    good, checks = bool(audit["passed"]), list(audit.get("checks") or [])
    failed = [c for c in checks if not c.get("passed")]
    text = (
        "Rewriting the future changed no past decision, and no model decided before its knowledge cut-off."
        if good
        else f"{len(failed)} of {len(checks)} checks failed: do not trust the numbers on this page."
    )
    items = "".join(
        f'<li class="{"" if c.get("passed") else "bad"}"><b>{escape(str(c.get("name", "")))}</b> '
        f"{escape(str(c.get('detail') or ''))}</li>"
        for c in failed + [c for c in checks if c.get("passed")]
    )
    return (
        f'<div class="verdict {"good" if good else "bad"}">'
        f"<strong>Look-ahead audit {'passed' if good else 'FAILED'}</strong>"
        f"<p>{text}</p><details{'' if good else ' open'}><summary>{len(checks)} checks</summary>"
        f'<ul class="checks">{items}</ul></details></div>'
    )


# ---- paths -----------------------------------------------------------------------------------------------------------


def growth(run: Run) -> str:
    """Equity on a log scale and drawdowns, with the regimes behind."""
    if run.equity.empty:
        return ""
    values = {str(name): run.equity[name].to_numpy(float) for name in run.equity}
    lines = [run.line(name, path) for name, path in values.items()]
    falls = [run.line(name, path / np.fmax.accumulate(path) - 1.0) for name, path in values.items()]
    bands, _ = _bands(run)
    return _section(
        "Growth and drawdown",
        "One unit of money at the start, net of costs; log scale. Thin lines are baselines; press a name to hide it."
        + (" Shades are the regimes of the section below." if bands else ""),
        legend(lines),
        line_chart(run.dates, lines, axis([x.values for x in lines], log=True), bands, 1.0, "equity of each strategy"),
        "<h3>Drawdown from the highest point so far</h3>",
        line_chart(
            run.dates, falls, axis([x.values for x in falls], "%", zero=True), label="drawdown of each strategy"
        ),
        key="growth",
    )


def rolling(run: Run) -> str:
    """Sharpe ratio and volatility over a moving window."""
    if len(run.equity) < _WINDOW + 20:
        return ""
    window = run.returns.rolling(_WINDOW)
    mean, spread = window.mean(), window.std()
    scale = np.sqrt(run.periods)
    charts = []
    for title, table, unit in (
        ("Sharpe ratio", (mean / spread.where(spread > 1e-9)) * scale, ""),
        ("Volatility", spread * scale, "%"),
    ):
        lines = [run.line(str(name), table[name].to_numpy(float)[_WINDOW - 1 :]) for name in table]
        mark = 0.0 if unit == "" else None
        chart = line_chart(run.dates[_WINDOW:], lines, axis([x.values for x in lines], unit), mark=mark, label=title)
        charts.append(f"<div><h3>{title}</h3>{chart}</div>")
    note = f"Annualised, over the {_WINDOW} bars up to each day."
    return _section("Rolling risk and reward", note, f'<div class="two">{"".join(charts)}</div>', key="rolling")


def costs(run: Run) -> str:
    """What trading and financing took, part by part."""
    trades = run.of("trades")
    if trades.empty or run.equity.empty:
        return ""
    years = max(len(run.equity) - 1, 1) / run.periods
    parts: dict[str, dict[str, float]] = {}
    for table, names in ((trades, ("commission", "spread", "impact")), (run.of("financing"), ("borrow", "funding"))):
        if table.empty:
            continue
        wealth = run.equity.reindex(pd.DatetimeIndex(table["date"]))
        for strategy in run.equity:
            mine = (table["strategy"] == strategy).to_numpy()
            base = wealth[strategy].to_numpy(float)[mine]
            for name in names:
                if name in table:
                    paid = np.abs(table[name].to_numpy(float)[mine]) / base
                    parts.setdefault(str(strategy), {})[name] = float(np.nansum(paid) / years)
    kinds = [k for k in ("commission", "spread", "impact", "borrow", "funding") if any(k in p for p in parts.values())]
    top = max((sum(p.values()) for p in parts.values()), default=0.0) or 1.0
    rows = []
    for name in [n for n in run.strategies if n in parts] or list(parts):
        paid_for = parts[name]
        total = sum(paid_for.values())
        bar = "".join(
            f'<i class="s{k}" style="width:{paid_for.get(kind, 0.0) / top * 100:.2f}%"></i>'
            for k, kind in enumerate(kinds)
        )
        cells = "".join(f"<td>{number(paid_for.get(kind, 0.0) * 1e4, digits=1)}</td>" for kind in kinds)
        rows.append(
            f'<tr><td>{_name(run, name)}</td><td><div class="bar">{bar}</div></td>{cells}'
            f"<td><b>{number(total * 1e4, digits=1)}</b></td></tr>"
        )
    head = "".join(f"<th>{kind}</th>" for kind in kinds)
    return _section(
        "Where the costs went",
        "Basis points of equity a year, already taken out of every figure above.",
        legend([Line(kind, np.zeros(0), k) for k, kind in enumerate(kinds)], switch=False),
        f'<div class="scroll"><table><thead><tr><th>Strategy</th><th></th>{head}<th>Total</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>",
        key="costs",
    )


def detail(run: Run) -> str:
    """Weights and monthly returns of a strategy to choose."""
    names = [str(n) for n in run.strategies if n in run.equity] or [str(n) for n in run.equity]
    if not names:
        return ""
    options = "".join(f'<option value="{k}">{escape(name)}</option>' for k, name in enumerate(names))
    blocks = []
    for k, name in enumerate(names):
        inside = _weights(run, name) + "<h3>Return by month, %</h3>" + _months(run.equity[name])
        blocks.append(f'<div data-of="{k}"{" hidden" if k else ""}>{inside}</div>')
    choose = (
        f'<div class="pick"><label for="pick" class="muted">Strategy</label><select id="pick">{options}</select></div>'
    )
    return _section("Strategy by strategy", "", choose, *blocks, key="detail")


def _weights(run: Run, name: str) -> str:
    rows = run.of("weights", name)
    if rows.empty:
        return '<p class="note">No positions recorded.</p>'
    values, assets = _grid(rows, run.dates, "asset", "weight")
    wide = pd.DataFrame(np.nan_to_num(values), run.dates, assets)
    size = wide.abs().mean().sort_values(ascending=False)
    top = list(size.index[:_TOP_ASSETS])
    layers = [Line(str(asset), wide[asset].to_numpy(), k) for k, asset in enumerate(top)]
    if len(size) > len(top):
        rest = wide.drop(columns=top).sum(axis=1).to_numpy()
        layers.append(Line(f"{len(size) - len(top)} others", rest, COLOURS - 1))
    return (
        "<h3>Weights held</h3>"
        + legend(layers, switch=False)
        + stacked_chart(run.dates, layers, label=f"weights of {name}")
        + '<p class="note">Fractions of equity; what is missing to 100 % is cash.</p>'
    )


def _grid(rows: pd.DataFrame, dates: pd.DatetimeIndex, column: str, value: str) -> tuple[np.ndarray, list[Any]]:
    """Long rows as a table (date, column) with NaN where there is none, and its columns."""
    codes, names = pd.factorize(rows[column])
    place = dates.get_indexer(pd.DatetimeIndex(rows["date"]))
    there = place >= 0
    out = np.full((len(dates), len(names)), np.nan)
    out[place[there], codes[there]] = rows[value].to_numpy(float)[there]
    return out, list(names)


def _months(equity: pd.Series) -> str:
    """A row a year; the first bar's equity is the base of its month."""
    ends = equity.groupby([equity.index.year, equity.index.month]).last()  # type: ignore[attr-defined]
    monthly = ends / ends.shift(1).fillna(float(equity.iloc[0])) - 1.0
    year_ends = equity.groupby(equity.index.year).last()  # type: ignore[attr-defined]
    yearly = year_ends / year_ends.shift(1).fillna(float(equity.iloc[0])) - 1.0
    rows = []
    for year in year_ends.index:
        cells = "".join(_shade(monthly.get((year, month)), 0.02) for month in range(1, 13))
        rows.append(f"<tr><td>{year}</td>{cells}{_shade(yearly[year], 0.08)}</tr>")
    head = "".join(f"<th>{m}</th>" for m in _MONTHS)
    return (
        f'<div class="scroll"><table class="months"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _shade(value: float | None, step: float) -> str:
    if value is None or value != value:
        return "<td>"
    level = min(5, int(np.ceil(abs(value) / step)))
    style = f' class="{"p" if value > 0 else "n"} o{level}"' if level else ""
    return f"<td{style}>{number(value * 100, digits=1)}"


# ---- models ----------------------------------------------------------------------------------------------------------


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
    return _section("Predictions and outcomes", note, *parts, key="forecasts")


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
            f"<tr><td>{_name(run, name)}</td>{''.join(cells)}<td>{number(ic, digits=4)}{plus}</td>"
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
    _, names = _bands(run)
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
    return _section("Regimes", note, *parts, key="regimes")


def _labels(run: Run) -> pd.Series | None:
    """The rule's label of every day; the first column of words."""
    table = run.of("regimes")
    words = [c for c in table.columns if c != "date" and not pd.api.types.is_numeric_dtype(table[c])]
    if table.empty or not words:
        return None
    return table.set_index("date")[words[0]].astype(object).reindex(run.dates).ffill()


def _bands(run: Run) -> tuple[list[tuple[int, int, int]], list[str]]:
    labels = _labels(run)
    if labels is None:
        return [], []
    codes, names = pd.factorize(labels, sort=True)
    change = np.flatnonzero(np.diff(codes)) + 1
    edges = np.r_[0, change, len(codes)]
    bands = [(int(a), int(b), int(codes[a])) for a, b in pairwise(edges) if codes[a] >= 0]
    return (bands if len(bands) <= 400 else []), [str(name) for name in names]


def _by_regime(run: Run, names: list[str]) -> str:
    labels = _labels(run)
    assert labels is not None
    known = labels.shift(1).iloc[1:].astype(str)  # the regime known when the bar's position was taken
    rows = []
    for strategy in [n for n in run.strategies if n in run.returns] or [str(n) for n in run.returns]:
        by = run.returns[strategy].groupby(known.to_numpy()).mean() * run.periods
        cells = "".join(f"<td>{number(by.get(name), '%')}</td>" for name in names)
        rows.append(f"<tr><td>{_name(run, str(strategy))}</td>{cells}</tr>")
    share = known.value_counts(normalize=True)
    head = "".join(f"<th>{escape(name)}<br>{number(share.get(name, 0.0), '%', 0)} of days</th>" for name in names)
    return "<h3>Mean return a year in the days after each regime</h3>" + _markup_table(f"<th>Strategy</th>{head}", rows)


def attention(run: Run) -> str:
    """What the attention layer looked at."""
    table = run.of("attention")
    if table.empty or not {"date", "lag", "weight"} <= set(table.columns):
        return ""
    parts = []
    for name in table["strategy"].unique() if "strategy" in table else [""]:
        rows = run.of("attention", name)
        dates = pd.DatetimeIndex(rows["date"].unique()).sort_values()
        grid, found = _grid(rows, dates, "lag", "weight")
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
    return _section("Attention on the past", "", *parts, key="attention")


# ---- rules and cards -------------------------------------------------------------------------------------------------


def limits(run: Run) -> str:
    """What the risk limits did."""
    table = run.of("actions")
    if table.empty:
        if not run.about.get("limits"):
            return ""
        return _section("Limits", "The limits were never breached.", key="limits")
    counts = table.groupby(["strategy", "limit"], sort=False).size() if {"strategy", "limit"} <= set(table) else None
    summary = (
        ""
        if counts is None
        else _table(
            ("Strategy", "Limit", "Actions"), [(*key, n) for key, n in zip(counts.index.tolist(), counts.tolist())]
        )
    )
    recent = table.sort_values("date").tail(60)
    columns = [c for c in ("date", "strategy", "limit", "kind", "reason") if c in recent]
    rows = [
        [f"{v:%Y-%m-%d}" if isinstance(v, pd.Timestamp) else v for v in row] for row in recent[columns].to_numpy(object)
    ]
    listed = _table([c.title() for c in columns], rows)
    log = f"<details><summary>the last {len(rows)} of {len(table)}</summary>{listed}</details>"
    return _section("Limits", "One action a breach; measured by the limits' own model.", summary, log, key="limits")


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = "".join(f"<th>{escape(str(h))}</th>" for h in heads)
    return _markup_table(head, ["<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row) + "</tr>" for row in rows])


def _markup_table(head: str, rows: Iterable[str]) -> str:
    body = "".join(rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def cards(run: Run) -> str:
    """Where the data came from and what was fitted on them."""
    about, data = run.about, dict(run.about.get("data") or {})
    assets = [str(a) for a in data.pop("assets", None) or []]
    if assets:
        data["assets"] = f"{len(assets)}: {', '.join(assets[:30])}{' …' if len(assets) > 30 else ''}"
    model: dict[str, Any] = {}
    known = about.get("knowledge_until") or {}
    for name, spec in (about.get("strategies") or {}).items():
        model[name] = str(spec) + (f"; knows data until {known[name]}" if known.get(name) else "")
    for name, spec in {**(about.get("forecasters") or {})}.items():
        model[f"{name}, forecaster"] = spec
    for name, until in known.items():
        model.setdefault(name, f"knows data until {until}" if until else "fitted on nothing")
    process = {key: about.get(key) for key in ("id", "created", "seed", "git_commit", "versions", "timings")}
    return _section(
        "Data and model card",
        "",
        "<h3>Data</h3>",
        _facts(data),
        "<h3>Strategies and models</h3>" if model else "",
        _facts(model),
        "<h3>Run</h3>",
        _facts(process),
        key="cards",
    )


def _facts(values: Mapping[str, Any]) -> str:
    items = "".join(
        f"<dt>{escape(str(key).replace('_', ' '))}</dt><dd>{escape(_plainly(value))}</dd>"
        for key, value in values.items()
        if value not in (None, "", [], {})
    )
    return f"<dl>{items}</dl>"


def _plainly(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plainly(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return "; ".join(_plainly(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def conventions(run: Run) -> str:
    """How to read the numbers."""
    about = run.about
    execution = str(about.get("execution") or "")
    rules = {
        "fills": _EXECUTION.get(execution, execution),
        "costs": about.get("costs"),
        "limits": about.get("limits") or "none",
        "schedule": about.get("schedule"),
        "returns": "Simple, per bar, net of costs; wealth compounds. The risk-free rate is taken as zero.",
        "annualisation": f"{run.periods} bars a year; returns geometrically, volatility and Sharpe ratio by the root.",
        "Sharpe": "Mean over standard deviation (n − 1). Sortino: over the root mean square of losses, all bars.",
        "drawdown": "From the highest compounded wealth so far, start included. Calmar is the return over its depth.",
        "win rate": "Gains among the days with a position.",
        "CVaR 95": "Mean loss of the worst 5 % of days; positive is a loss.",
        "turnover": "Buys plus sells as a multiple of equity, a year.",
        "intervals": "95 %, stationary bootstrap, 1,000 resamples of common dates, block length from the data.",
        "weights": "Drift with prices between trades.",
    }
    return _section("Conventions", "", _facts(rules), key="conventions")
