"""Tables for the terminal."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table


def audit_table(verdict: dict[str, Any]) -> Table:
    """The checks of an audit, failures first."""
    title = "Look-ahead audit: passed" if verdict["passed"] else "Look-ahead audit: FAILED"
    table = Table("", "check", "what was found", title=title)
    for check in sorted(verdict["checks"], key=lambda c: c["passed"]):
        mark = "[green]ok[/green]" if check["passed"] else "[red]FAIL[/red]"
        table.add_row(mark, escape(check["name"]), escape(check["detail"]))
    return table


def runs_table(runs: list[dict[str, Any]]) -> Table:
    """Runs, newest first."""
    table = Table("run", "status", "data", "strategies", "audit")
    for run in runs:
        audit = {True: "passed", False: "[red]FAILED[/red]", None: ""}[run["audit"]]
        table.add_row(run["id"], run["status"], run["data"] or "", ", ".join(run["strategies"]), audit)
    return table
