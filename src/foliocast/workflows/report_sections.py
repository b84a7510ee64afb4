"""What the report says of strategies, each section a function from a run to markup; without its data it is empty."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from foliocast.workflows.charts import (
    COLOURS,
    Line,
    axis,
    legend,
    line_chart,
    stacked_chart,
)
from foliocast.workflows.report_parts import grid_of, markup_table, name_tag, number, regime_bands, section
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
        return section("Headline", "The run recorded no strategies.", key="headline")
    ranges = [estimate(entry.get("sharpe")) for entry in run.strategies.values()]
    known = [x for triple in ranges for x in triple if x is not None] + [0.0]
    low, span = min(known), (max(known) - min(known)) or 1.0
    head = "<th>Strategy</th><th>Sharpe, 95 %</th>" + "".join(f"<th>{escape(title)}</th>" for _, title, _ in COLUMNS)
    rows = []
    for name, entry in run.strategies.items():
        bar = _interval_bar(estimate(entry.get("sharpe")), low, span, run.colour(name) % COLOURS)
        cells = "".join(_cell(key, entry.get(key), unit) for key, _, unit in COLUMNS)
        rows.append(f"<tr><td>{name_tag(run, name)}</td><td>{bar}</td>{cells}</tr>")
    note = (
        "Net of all costs, highest Sharpe ratio first; losing results stand beside the others. Small figures are 95 % "
        "intervals of the stationary bootstrap. <em>Deflated</em> is the probability that the Sharpe ratio is above "
        "what the best of all trials would show by luck; 0.95 is the usual bar."
    )
    return section("Headline", note, markup_table(head, rows), key="headline")


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
    return section(
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
    bands, _ = regime_bands(run)
    return section(
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
    return section("Rolling risk and reward", note, f'<div class="two">{"".join(charts)}</div>', key="rolling")


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
            f'<tr><td>{name_tag(run, name)}</td><td><div class="bar">{bar}</div></td>{cells}'
            f"<td><b>{number(total * 1e4, digits=1)}</b></td></tr>"
        )
    head = "".join(f"<th>{kind}</th>" for kind in kinds)
    return section(
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
    return section("Strategy by strategy", "", choose, *blocks, key="detail")


def _weights(run: Run, name: str) -> str:
    rows = run.of("weights", name)
    if rows.empty:
        return '<p class="note">No positions recorded.</p>'
    values, assets = grid_of(rows, run.dates, "asset", "weight")
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
