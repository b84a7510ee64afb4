"""What several pages use: the job store, data sets, colours, and the way errors are shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from foliocast.core.errors import FoliocastError
from foliocast.core.panel import Panel
from foliocast.runtime.home import home
from foliocast.runtime.jobs import JobStore

COLOURS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#0891b2", "#dc2626", "#ca8a04", "#64748b")
SAMPLES = {
    "sample:tech": "Six technology stocks",
    "sample:sp500": "Twenty S&P 500 stocks",
    "sample:factors": "Factor ETFs",
}


@st.cache_resource
def job_store() -> JobStore:
    """One store for all sessions of this server."""
    return JobStore(home() / "dashboard" / "jobs", workers=1)


@st.cache_resource(show_spinner="Reading data ...", max_entries=4)
def panel(source: str) -> Panel:
    """A data set, loaded once for all sessions (panels are read-only)."""
    from foliocast.data import load_panel

    return load_panel(source)


def datasets() -> list[str]:
    """Samples and everything in the catalog."""
    from foliocast.data.catalog import Catalog

    return [*SAMPLES, *(entry.name for entry in Catalog().list())]


def choose_data(key: str) -> Panel | None:
    """A select box of data sets; None (with a message) when the choice cannot be loaded."""
    name = st.sidebar.selectbox("Data", datasets(), key=f"data-{key}", format_func=lambda n: SAMPLES.get(n, n))
    with told():
        found = panel(str(name))
        if found.notice:
            st.sidebar.caption(found.notice)
        return found
    return None


@contextmanager
def told() -> Iterator[None]:
    """Show the one sentence of an error where a traceback would frighten."""
    try:
        yield
    except FoliocastError as error:
        st.error(str(error), icon=":material/error:")


def run_folders() -> list[Path]:
    """Where runs may be: the working folder's and those of the jobs."""
    jobs = sorted((home() / "dashboard" / "jobs").glob("*/runs"))
    return [path for path in (Path("runs"), *jobs) if path.is_dir()]
