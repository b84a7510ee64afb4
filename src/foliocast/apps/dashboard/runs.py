"""Runs: what was tried, how it ended, and the full report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from foliocast.apps.dashboard import figures
from foliocast.apps.dashboard.jobs import job_cards, submit
from foliocast.apps.dashboard.shared import KEEP, job_store, row, run_folders, told
from foliocast.runtime.tracking import chosen, default_store, tracker
from foliocast.workflows.runs import RunFolder, list_runs

HEADLINES = {
    "sharpe": "Sharpe", "annual_return": "return a year", "volatility": "volatility", "max_drawdown": "drawdown",
    "calmar": "Calmar", "turnover": "turnover", "cost": "cost",
}  # fmt: skip
SHARES = ("return a year", "volatility", "drawdown", "cost")


VIEWS = ("Run folders", "Records", "Models")


def page() -> None:
    """Run folders with their comparison and reports; records and models of the tracking store."""
    st.title("Runs")
    st.markdown("What was tried, how it ended, and what it is worth next to its baselines.")
    tabs = st.tabs(list(VIEWS), key="runs-view", on_change="rerun")
    for tab, show in zip(tabs, (_folders, _records, _models)):
        if tab.open:
            with tab, told():
                show()


def _folders() -> None:
    found = [run for folder in run_folders() for run in list_runs(folder)]
    if not found:
        st.info("No runs yet. Start one on the page Backtest, or with `foliocast backtest`.", icon=":material/info:")
        return
    found.sort(key=lambda run: str(run["created"]), reverse=True)
    _list(found)
    labels = {run["folder"]: f"{run['id']}  ·  {run['data'] or '?'}  ·  {run['status']}" for run in found}
    picked = st.multiselect(
        "Compare",
        list(labels),
        default=[found[0]["folder"]],
        format_func=lambda f: labels.get(f, str(f)),
        key="compare",
        persist_state=KEEP,
    )
    picked = [folder for folder in picked if folder in labels]
    if not picked:
        st.info("Choose one run or several.", icon=":material/info:")
        return
    _comparison(picked)
    _equity(picked)
    for folder in picked:
        _report(Path(folder), labels[folder])
    if any(job.verb == "explain" for job in job_store().list()):
        st.subheader("Explanations")
        job_cards("explain", _explained)


def _explained(result: dict[str, Any]) -> None:
    """Profit and loss by asset of one strategy, and what its forecasts looked at."""
    found = result.get("strategies", {})
    if not found:
        st.info("The job explained nothing.", icon=":material/info:")
        return
    st.caption(f"Tables are in {result['folder']}; the run's report has the charts now, too.")
    name = str(st.selectbox("Strategy", list(found), key=f"explained-{result['run']}", width=240))
    money = pd.Series(found[name]["pnl"].get("asset", {}), dtype=float).sort_values(ascending=False)
    if len(money):
        figures.show(
            figures.bars(money, "part of the return"), f"Return of {name} by asset", key=f"pnl-{result['run']}"
        )
    for method, shares in found[name].get("importance", {}).items():
        st.markdown(f"**What its forecasts looked at, by {method}**")
        order = pd.Series(shares, dtype=float).sort_values(ascending=False)
        figures.show(figures.bars(order, "share"), f"Importance by {method}", key=f"{method}-{result['run']}")


def _store() -> Any:
    """The tracking store that is set or was used here; None (with a message) when there is none."""
    where = chosen(None)
    own = default_store()
    if where is None and Path(own.partition(":///")[2]).is_file():
        where = own
    if where is None:
        st.info(
            "Nothing is tracked yet. `foliocast backtest --track mlflow` keeps runs in MLflow, `--track FOLDER` in a "
            "folder; `FOLIOCAST_TRACK` says it for all, this page included.",
            icon=":material/info:",
        )
        return None
    with st.spinner("Opening the store ..."):
        found = tracker(where)
    st.caption(f"Kept in {where.partition(':///')[2] or where}. `foliocast track serve` opens MLflow's own pages.")
    return found


def _records() -> None:
    store = _store()
    if store is None:
        return
    rows = [
        {
            "run": run["name"],
            "data": run["tags"].get("data"),
            "audit": run["tags"].get("audit"),
            "strategy": part["name"],
            "Sharpe": part["metrics"].get("sharpe"),
            "deflated": part["metrics"].get("deflated_sharpe"),
            "return a year": part["metrics"].get("annual_return"),
        }
        for run in store.runs()
        for part in run["parts"]
    ]
    if not rows:
        st.info("The store holds no runs yet.", icon=":material/info:")
        return
    share, number = st.column_config.NumberColumn(format="percent"), st.column_config.NumberColumn(format="%.2f")
    config = {"Sharpe": number, "deflated": number, "return a year": share}
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=config)


def _models() -> None:
    from foliocast.workflows.forecast import model_cards

    st.markdown("**On this machine**")
    rows = [
        {
            "model": card["name"],
            "kind": str(card.get("kind", card.get("error", "?"))).rpartition(":")[2],
            "knows data up to": str(card.get("knowledge_until", ""))[:10],
            "data": str(card.get("data_hash", ""))[:12],
        }
        for card in model_cards()["cards"]
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True)
    st.markdown("**In the registry**")
    store = _store()
    if store is not None:
        kept = [{"model": m.name, "version": m.version, "digest": m.digest[:12]} for m in store.models()]
        if kept:
            st.dataframe(pd.DataFrame(kept), hide_index=True)
        else:
            st.info("The registry holds no models yet: `foliocast track model NAME`.", icon=":material/info:")


def _list(found: list[dict[str, Any]]) -> None:
    verdicts = {True: "passed", False: "failed"}
    rows = [
        {
            "run": run["id"],
            "status": run["status"],
            "started": str(run["created"])[:16].replace("T", " "),
            "data": run["data"],
            "strategies": len(run["strategies"]),
            "audit": verdicts.get(run["audit"], "–"),
        }
        for run in found
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, height=min(260, 40 + 36 * len(rows)))


def _comparison(folders: list[str]) -> None:
    rows: list[dict[str, Any]] = []
    sharpes: dict[str, dict[str, float]] = {}
    for folder in folders:
        prefix = f"{Path(folder).name}: " if len(folders) > 1 else ""
        for name, values in RunFolder(Path(folder)).read("metrics").get("strategies", {}).items():
            plain = {title: _value(values.get(key)) for key, title in HEADLINES.items()}
            rows.append(
                {
                    "strategy": prefix + name,
                    **plain,
                    "deflated": values.get("deflated_sharpe"),
                    "days": values.get("n_days"),
                }
            )
            sharpes[prefix + name] = {side: values["sharpe"].get(side) for side in ("value", "low", "high")}
    if not rows:
        st.info("These runs have no results: they were stopped, or are still at work.", icon=":material/info:")
        return
    st.subheader("Sharpe ratios")
    figures.show(
        figures.intervals(pd.DataFrame(sharpes).T.astype(float)), "Sharpe ratios with intervals", key="sharpes"
    )
    share, number = st.column_config.NumberColumn(format="percent"), st.column_config.NumberColumn(format="%.2f")
    config = {title: share if title in SHARES else number for title in HEADLINES.values()} | {"deflated": number}
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=config)
    st.caption("Deflated: probability that the Sharpe ratio is above what the best of all trials would show by luck.")


def _value(value: Any) -> Any:
    return value.get("value") if isinstance(value, dict) else value


@st.cache_data(show_spinner=False, max_entries=32)
def _curves(file: str, stamp: float) -> pd.DataFrame:
    return pd.read_parquet(file)


def _equity(folders: list[str]) -> None:
    curves = {}
    for folder in folders:
        file = Path(folder) / "equity.parquet"
        if file.is_file():
            frame = _curves(str(file), file.stat().st_mtime)
            prefix = f"{Path(folder).name}: " if len(folders) > 1 else ""
            curves.update({prefix + str(name): frame[name] for name in frame})
    if curves:
        st.subheader("Wealth")
        figures.show(figures.curves(pd.DataFrame(curves)), "Wealth of each strategy over time", key="equity")


def _report(folder: Path, label: str) -> None:
    file = folder / "report.html"
    if not file.is_file():
        st.warning(f"{label} has no report: it was stopped. Go on with `foliocast backtest --resume {folder}`.")
        return
    shown = st.expander(f"Report of {folder.name}", key=f"report-{folder.name}", on_change="rerun")
    if shown.open:
        with shown:
            text = file.read_text(encoding="utf-8")
            with row():
                name = f"{folder.name}.html"
                st.download_button("Download", text, file_name=name, mime="text/html", key=f"get-{folder}")
                if st.button("Explain what drove it", icon=":material/troubleshoot:", key=f"explain-{folder}"):
                    submit("explain", [str(folder.absolute())])
            st.iframe(text, height=900)
