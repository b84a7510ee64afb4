"""What the report says of rules: limits, where data and models came from, conventions."""

from __future__ import annotations

from typing import Any

import pandas as pd

from foliocast.workflows.report_parts import fact_list, section, text_table
from foliocast.workflows.run_tables import Run

_EXECUTION = {
    "next_open": "Decided after the close of a bar, filled at the open of the next.",
    "next_close": "Decided after the close of a bar, filled at the close of the next.",
    "same_close": "Decided and filled at the same close: optimistic, chosen explicitly in the config.",
}


def limits(run: Run) -> str:
    """What the risk limits did."""
    table = run.of("actions")
    if table.empty:
        if not run.about.get("limits"):
            return ""
        return section("Limits", "The limits were never breached.", key="limits")
    counts = table.groupby(["strategy", "limit"], sort=False).size() if {"strategy", "limit"} <= set(table) else None
    summary = (
        ""
        if counts is None
        else text_table(
            ("Strategy", "Limit", "Actions"), [(*key, n) for key, n in zip(counts.index.tolist(), counts.tolist())]
        )
    )
    recent = table.sort_values("date").tail(60)
    columns = [c for c in ("date", "strategy", "limit", "kind", "reason") if c in recent]
    rows = [
        [f"{v:%Y-%m-%d}" if isinstance(v, pd.Timestamp) else v for v in row] for row in recent[columns].to_numpy(object)
    ]
    listed = text_table([c.title() for c in columns], rows)
    log = f"<details><summary>the last {len(rows)} of {len(table)}</summary>{listed}</details>"
    return section("Limits", "One action a breach; measured by the limits' own model.", summary, log, key="limits")


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
    return section(
        "Data and model card",
        "",
        "<h3>Data</h3>",
        fact_list(data),
        "<h3>Strategies and models</h3>" if model else "",
        fact_list(model),
        "<h3>Run</h3>",
        fact_list(process),
        key="cards",
    )


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
    return section("Conventions", "", fact_list(rules), key="conventions")
