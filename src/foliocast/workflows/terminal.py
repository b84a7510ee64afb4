"""What the terminal prints at the end: the report's headline, in columns that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from foliocast.workflows.report_parts import number
from foliocast.workflows.run_tables import estimate

_COLUMNS = (
    ("sharpe", "Sharpe [95 %]", "", True),
    ("deflated_sharpe", "Deflated", "", False),
    ("annual_return", "Return/yr [95 %]", "%", True),
    ("volatility", "Vol", "%", False),
    ("max_drawdown", "Max DD", "%", False),
    ("calmar", "Calmar", "", False),
    ("win_rate", "Wins", "%", False),
    ("cost", "Cost/yr", "%", False),
    ("n_days", "Days", "n", False),
)


_NARROW = ("sharpe", "deflated_sharpe", "annual_return", "max_drawdown")


def terminal_table(metrics: Mapping[str, Any], width: int = 120) -> Table:
    """Strategies and baselines by Sharpe ratio, highest first, from the content of ``metrics.json``.

    A terminal of fewer than 120 columns gets fewer columns, not cut ones: the report has them all.
    """
    columns = [column for column in _COLUMNS if width >= 120 or column[0] in _NARROW]
    table = Table(title="Net of costs", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("Strategy", no_wrap=True)
    for key, title, _, _ in columns:
        shown = title if width >= 100 or key == "sharpe" else title.split(" [")[0]
        table.add_column(shown, justify="right", no_wrap=True)
    found = metrics.get("strategies") or {}
    for name in sorted(found, key=lambda key: -_value(found[key].get("sharpe"))):
        entry = found[name]
        label = f"[dim]{escape(name)}[/dim]" if entry.get("baseline") else f"[bold]{escape(name)}[/bold]"
        if entry.get("contaminated"):
            label += " [red]knew the future[/red]"
        cells = ((entry.get(key), unit, wide and (width >= 100 or key == "sharpe")) for key, _, unit, wide in columns)
        table.add_row(label, *(_cell(*cell) for cell in cells))
    return table


def audit_table(verdict: Mapping[str, Any]) -> Table:
    """The checks of an audit, failures first."""
    passed = bool(verdict.get("passed"))
    title = "[green]Look-ahead audit passed[/green]" if passed else "[red]Look-ahead audit FAILED[/red]"
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    for column in ("", "Check", "Detail"):
        table.add_column(column, overflow="fold")
    for check in sorted(verdict.get("checks") or [], key=lambda item: bool(item.get("passed"))):
        mark = "[green]ok[/green]" if check.get("passed") else "[red]FAIL[/red]"
        table.add_row(mark, escape(str(check.get("name", ""))), escape(str(check.get("detail") or "")))
    return table


def runs_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    """The runs there are, newest first."""
    table = Table(header_style="bold", pad_edge=False)
    for column in ("Run", "Status", "Data", "Strategies", "Audit"):
        table.add_column(column, overflow="fold")
    for run in runs:
        audit = {True: "[green]passed[/green]", False: "[red]FAILED[/red]"}.get(run.get("audit"), "–")  # type: ignore[arg-type]
        names = ", ".join(run.get("strategies") or [])
        table.add_row(*(escape(str(run.get(key) or "–")) for key in ("id", "status", "data")), escape(names), audit)
    return table


def _value(entry: Any) -> float:
    value = estimate(entry)[0]
    return float("-inf") if value is None else value


def _cell(entry: Any, unit: str, wide: bool) -> str:
    value, low, high = estimate(entry)
    text = number(value, unit)
    if wide and low is not None and high is not None:
        text += f" [dim]\\[{number(low, unit)}, {number(high, unit)}][/dim]"
    return text
