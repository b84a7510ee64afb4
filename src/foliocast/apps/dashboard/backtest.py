"""Backtest: choose or write a config, run it as a job, watch it, stop it, go on with it."""

from __future__ import annotations

import json
import time
import tomllib

import streamlit as st

from foliocast.apps.dashboard.shared import datasets, job_store, told
from foliocast.runtime.files import whole_file
from foliocast.runtime.home import home
from foliocast.runtime.jobs import ENDED, Job
from foliocast.workflows.config import PACKAGED, parse_config


def page() -> None:
    """The config editor above, the jobs below."""
    st.title("Backtest")
    st.caption("Walk-forward with costs and limits. Every number comes with its interval, its baselines and an audit.")
    left, right = st.columns([1, 2])
    name = left.selectbox("Start from", sorted(path.stem for path in PACKAGED.glob("*.toml")))
    data = left.selectbox("Data", ["as in the config", *datasets()])
    seed = left.number_input("Seed", min_value=0, max_value=2**31 - 1, value=7)
    text = right.text_area("Config (TOML)", (PACKAGED / f"{name}.toml").read_text(), height=320, key=f"config-{name}")
    if left.button("Run", type="primary", width="stretch"):
        with told():
            _submit(text, None if data == "as in the config" else data, int(seed))
            st.toast("Queued", icon=":material/check:")
    st.subheader("Jobs")
    _jobs()


def _submit(text: str, data: str | None, seed: int) -> None:
    try:
        parse_config(tomllib.loads(text), "config")
    except tomllib.TOMLDecodeError as error:
        st.error(f"The config is not valid TOML: {error}")
        return
    path = home() / "dashboard" / "configs" / f"{time.time_ns()}.toml"
    with whole_file(path) as aside:
        aside.write_text(text)
    job_store().submit("backtest", [str(path), "--seed", str(seed), *(["--data", data] if data else [])])


@st.fragment(run_every=1.0)
def _jobs() -> None:
    jobs = [job for job in job_store().list() if job.verb == "backtest"]
    if not jobs:
        st.info("Nothing has run yet. Press Run: the demo takes a few minutes.", icon=":material/info:")
    for job in jobs[:10]:
        _job(job)


def _job(job: Job) -> None:
    store = job_store()
    with st.container(border=True):
        head, action = st.columns([4, 1])
        head.markdown(f"**{job.id}**  ·  {job.status}  ·  {job.created[:19].replace('T', ' ')}")
        progress = store.progress(job.id)
        if job.status == "running" and progress:
            share = progress["done"] / max(1, progress["total"])
            head.progress(min(1.0, share), f"{progress['what']}: {progress['done']} of {progress['total']}")
        if job.status not in ENDED and action.button("Cancel", key=f"cancel-{job.id}"):
            store.cancel(job.id)
        if job.status in ("interrupted", "cancelled") and action.button("Resume", key=f"resume-{job.id}"):
            store.resume(job.id)
        if job.status == "failed":
            head.error(store.result(job.id).get("error") or store.log(job.id, 400))
        if job.status == "done":
            _headline(json.loads(json.dumps(store.result(job.id))))


def _headline(result: dict) -> None:
    rows = {
        name: {"Sharpe": values["sharpe"]["value"], "low": values["sharpe"]["low"], "high": values["sharpe"]["high"]}
        for name, values in result.get("strategies", {}).items()
    }
    st.dataframe(rows, width="stretch")
