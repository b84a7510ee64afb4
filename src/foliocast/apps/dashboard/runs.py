"""Runs: what was tried, how it ended, and the full report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from foliocast.apps.dashboard.shared import run_folders
from foliocast.workflows.runs import RunFolder, list_runs

HEADLINES = ("sharpe", "annual_return", "volatility", "max_drawdown", "calmar", "turnover")


def page() -> None:
    """List of runs, comparison of their strategies, and the report of one."""
    st.title("Runs")
    found = [run for folder in run_folders() for run in list_runs(folder)]
    if not found:
        st.info("No runs yet. Start one on the page Backtest, or with `foliocast backtest`.", icon=":material/info:")
        return
    labels = {run["folder"]: f"{run['id']}  ·  {run['data'] or '?'}  ·  {run['status']}" for run in found}
    chosen = st.multiselect("Compare", list(labels), default=[found[0]["folder"]], format_func=labels.__getitem__)
    if not chosen:
        st.info("Choose one run or several.", icon=":material/info:")
        return
    st.dataframe(_comparison(chosen), width="stretch", hide_index=True)
    _equity(chosen)
    for folder in chosen:
        _report(Path(folder), labels[folder])


def _comparison(folders: list[str]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for folder in folders:
        metrics = RunFolder(Path(folder)).read("metrics")
        for name, values in metrics.get("strategies", {}).items():
            row: dict[str, Any] = {"run": Path(folder).name, "strategy": name}
            for key in HEADLINES:
                value = values.get(key)
                row[key] = value.get("value") if isinstance(value, dict) else value
            interval = values.get("sharpe", {})
            row["sharpe, 95 %"] = f"{interval.get('low', float('nan')):.2f} to {interval.get('high', float('nan')):.2f}"
            row["deflated"] = values.get("deflated_sharpe")
            rows.append(row)
    return pd.DataFrame(rows).round(3)


def _equity(folders: list[str]) -> None:
    curves = {}
    for folder in folders:
        file = Path(folder) / "equity.parquet"
        if file.is_file():
            frame = pd.read_parquet(file)
            prefix = f"{Path(folder).name}: " if len(folders) > 1 else ""
            curves.update({prefix + str(name): frame[name] for name in frame})
    if curves:
        st.subheader("Equity")
        st.line_chart(pd.DataFrame(curves), height=320)


def _report(folder: Path, label: str) -> None:
    file = folder / "report.html"
    if not file.is_file():
        st.warning(f"{label} has no report: it was stopped. Go on with `foliocast backtest --resume {folder}`.")
        return
    with st.expander(f"Report of {folder.name}"):
        text = file.read_text(encoding="utf-8")
        st.download_button("Download", text, file_name=f"{folder.name}.html", mime="text/html", key=f"get-{folder}")
        st.components.v1.html(text, height=900, scrolling=True)
