"""Jobs on a page: submitted, watched with progress, cancelled, resumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import streamlit as st

from foliocast.apps.dashboard.shared import job_store, told
from foliocast.runtime.jobs import ENDED, Job

SHOWN = 6
COLOURS = {"done": "green", "running": "blue", "queued": "gray", "failed": "red"}


def submit(verb: str, arguments: list[str]) -> Job:
    """Queue a verb of the command line."""
    job = job_store().submit(verb, arguments)
    st.toast("Queued", icon=":material/check:")
    return job


def job_cards(verb: str, result: Callable[[dict[str, Any]], None]) -> None:
    """The last jobs of a verb; ``result`` draws what a finished one found. Watched while one is at work."""
    busy = any(job.verb == verb and job.status not in ENDED for job in job_store().list())
    st.fragment(_cards, run_every=1.0 if busy else None)(verb, result, busy)


def _cards(verb: str, result: Callable[[dict[str, Any]], None], busy: bool) -> None:
    jobs = [job for job in job_store().list() if job.verb == verb]
    if busy and all(job.status in ENDED for job in jobs):
        st.rerun()  # all have ended: the whole page, so that the watching ends too
    if not jobs:
        st.info("Nothing has run here yet.", icon=":material/info:")
    for number, job in enumerate(jobs[:SHOWN]):
        with st.container(border=True):
            _head(job)
            with told():
                _body(job, result, number == 0)


def _head(job: Job) -> None:
    store = job_store()
    with st.container(horizontal=True, vertical_alignment="center"):
        when = job.created[:16].replace("T", " ")
        st.markdown(f"**{job.id}**  :{COLOURS.get(job.status, 'orange')}-badge[{job.status}]  :gray[{when} UTC]")
        if job.status not in ENDED and st.button("Cancel", key=f"cancel-{job.id}", icon=":material/stop:"):
            store.cancel(job.id)
            st.rerun()
        stopped = job.status in ("interrupted", "cancelled")
        if stopped and st.button("Resume", key=f"resume-{job.id}", icon=":material/play_arrow:"):
            store.resume(job.id)
            time.sleep(0.1)
            st.rerun()


def _body(job: Job, result: Callable[[dict[str, Any]], None], first: bool) -> None:
    store = job_store()
    if job.status in ("queued", "running"):
        progress = store.progress(job.id)
        if job.status == "queued" or not progress:
            st.progress(0.0, "waiting for its turn" if job.status == "queued" else "starting")
        else:
            done, total = progress["done"], max(1, progress["total"])
            st.progress(min(1.0, done / total), f"{progress['what']}: {done} of {progress['total']}")
    elif job.status == "failed":
        st.error(store.result(job.id).get("error") or store.log(job.id, 400), icon=":material/error:")
    elif job.status == "done":
        with st.expander("Result", expanded=first):
            result(store.result(job.id))
    else:
        st.caption("Stopped. What it finished is kept; Resume goes on from there.")
