"""Backtest: choose or write a config, run it as a job, watch it, stop it, go on with it, compare what came."""

from __future__ import annotations

import time
import tomllib
from typing import Any

import pandas as pd
import streamlit as st

from foliocast.apps.dashboard import figures
from foliocast.apps.dashboard.jobs import job_cards, submit
from foliocast.apps.dashboard.shared import KEEP, SAMPLES, datasets, row, told
from foliocast.runtime.files import whole_file
from foliocast.runtime.home import home
from foliocast.workflows.config import PACKAGED, parse_config

AS_WRITTEN = "as in the config"


def page() -> None:
    """The config above, the jobs below."""
    st.title("Backtest")
    st.markdown("Walk-forward with costs and limits. Every number comes with its interval, its baselines and an audit.")
    with row():
        names = sorted((path.stem for path in PACKAGED.glob("*.toml")), key=lambda n: (n != "demo", n))
        name = str(st.selectbox("Start from", names, key="config", persist_state=KEEP, width=220) or names[0])
        data = st.selectbox(
            "Data",
            [AS_WRITTEN, *datasets()],
            key="backtest-data",
            format_func=lambda n: SAMPLES.get(n, n),
            persist_state=KEEP,
            width=240,
        )
        seed = st.number_input("Seed", min_value=0, max_value=2**31 - 1, value=7, key="backtest-seed", width=120)
        run = st.button("Run", type="primary", icon=":material/play_arrow:")
    with st.expander("Config (TOML)"):
        start = (PACKAGED / f"{name}.toml").read_text(encoding="utf-8")
        text = st.text_area("Config (TOML)", start, height=340, key=f"config-{name}", label_visibility="collapsed")
    if run:
        with told():
            _submit(text, None if data in (None, AS_WRITTEN) else str(data), int(seed))
    st.subheader("Jobs")
    job_cards("backtest", _headline)
    st.page_link(
        st.Page(_runs, title="Compare runs and read their reports", url_path="runs"), icon=":material/folder_open:"
    )


def _runs() -> None:
    """Stands for the page Runs, so that a link can name it."""


def _submit(text: str, data: str | None, seed: int) -> None:
    try:
        parse_config(tomllib.loads(text), "config")
    except tomllib.TOMLDecodeError as error:
        st.error(f"The config is not valid TOML: {error}", icon=":material/error:")
        return
    path = home() / "dashboard" / "configs" / f"{time.time_ns()}.toml"
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")
    submit("backtest", [str(path), "--seed", str(seed), *(["--data", data] if data else [])])


def _headline(result: dict[str, Any]) -> None:
    strategies = result.get("strategies", {})
    if not strategies:
        st.info("The job has left no strategies.", icon=":material/info:")
        return
    sharpe = pd.DataFrame({name: values["sharpe"] for name, values in strategies.items()}).T[["value", "low", "high"]]
    figures.show(figures.intervals(sharpe.astype(float)), "Sharpe ratios with intervals", key=f"sharpe-{id(result)}")
    audit = result.get("audit", {})
    verdict = {True: ":green-badge[audit passed]", False: ":red-badge[audit failed]"}.get(audit.get("passed"), "")
    st.markdown(f"{verdict} {result.get('trials', '?')} trials counted on these data.")
