"""What several pages use: data, the book in hand, cached scenarios, and the way errors are shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import streamlit as st

from foliocast.core.errors import FoliocastError
from foliocast.core.panel import Panel
from foliocast.runtime.home import home
from foliocast.runtime.jobs import JobStore

if TYPE_CHECKING:
    from foliocast.core.belief import ScenarioSet

SAMPLES = {
    "sample:tech": "Six technology stocks",
    "sample:sp500": "Twenty S&P 500 stocks",
    "sample:all": "Both: twenty-five stocks",
    "sample:factors": "Factor ETFs",
}
MODEL_NAMES = {
    "fhs": "Filtered historical simulation",
    "fhs-gjr": "FHS with GJR-GARCH",
    "fhs-har": "FHS with ranges (HAR)",
    "t-copula": "Student t copula",
    "gaussian-copula": "Gaussian copula",
    "bootstrap": "Block bootstrap",
    "pretrained": "Diffusion, pretrained",
}
KEEP: Any = "session"  # widgets keep their value when another page is shown


# ---- data


@st.cache_resource(show_spinner="Reading data ...", max_entries=6)
def panel(source: str) -> Panel:
    """A data set, loaded once for all sessions (panels are read-only)."""
    from foliocast.data import load_panel

    return load_panel(source)


def datasets() -> list[str]:
    """Samples and everything in the catalog."""
    from foliocast.data.catalog import Catalog

    return [*SAMPLES, *(entry.name for entry in Catalog().list())]


def choose_data() -> str:
    """The data set that all pages work on, chosen in the sidebar."""
    options = datasets()
    chosen = st.sidebar.selectbox(
        "Data", options, key="data", format_func=lambda n: SAMPLES.get(n, n), persist_state=KEEP
    )
    st.sidebar.caption("Your own prices: `foliocast data import FILE`, then choose them here.")
    return str(chosen or options[0])


def chosen_data() -> str:
    """The data set in hand."""
    return str(st.session_state.get("data") or next(iter(SAMPLES)))


def head(title: str, about: str) -> Panel:
    """A page's title, what it is for, and the data it stands on with their notice."""
    st.title(title)
    st.markdown(about)
    found = panel(chosen_data())
    name = SAMPLES.get(chosen_data(), found.name)
    st.caption(f"**{name}**, to {found.times[-1]:%d %b %Y}. {found.notice}")
    return found


# ---- scenarios


@st.cache_resource(show_spinner="Drawing scenarios ...", max_entries=48)
def scenarios(
    source: str,
    model: str,
    assets: tuple[str, ...],
    horizon: int,
    n: int,
    given: tuple[tuple[str, float], ...] = (),
    seed: int = 0,
) -> ScenarioSet:
    """Scenarios from the end of a data set; the same question is answered once."""
    from foliocast.workflows.simulate import simulate

    return simulate(panel(source), model, list(assets), horizon, n, dict(given) or None, seed)


def choose_model(key: str) -> str:
    """A scenario model by its plain name; those trained here come last."""
    options = [*MODEL_NAMES, *trained("simulate")]
    chosen = st.selectbox(
        "Scenario model",
        options,
        key=key,
        format_func=lambda n: MODEL_NAMES.get(n, f"{n} (trained here)"),
        persist_state=KEEP,
        width=280,
    )
    return str(chosen or options[0])


def trained(ability: str) -> list[str]:
    """Names of models that were trained and kept here, of the kind that can ``forecast`` or ``simulate``."""
    from foliocast.workflows.saved import CARD, models_folder

    home_of = {"forecast": r"foliocast\.models\.\w+:", "simulate": r"foliocast\.models\.diffusion\."}
    found = []
    for file in sorted(models_folder().glob(f"*/{CARD}")):
        try:
            kind = str(json.loads(file.read_text()).get("kind", ""))
        except (OSError, ValueError):
            continue  # a broken card is named on the page Runs
        if re.match(home_of[ability], kind):
            found.append(file.parent.name)
    return found


def row(align: Literal["bottom", "top"] = "bottom") -> Any:
    """A row of controls (or, aligned at the top, of metrics) that wraps where the page is narrow."""
    return st.container(horizontal=True, vertical_alignment=align, gap="small")


# ---- the book in hand


def hold(weights: Mapping[str, float] | pd.Series, name: str) -> None:
    """Make a portfolio the book in hand, for all pages of this session."""
    book = pd.Series(weights, dtype=float)
    st.session_state["book"] = {"weights": book[book.abs() > 1e-9], "name": name}


def in_hand(assets: tuple[str, ...]) -> tuple[pd.Series, str]:
    """The book in hand and its name; an equal-weight one when there is none for these data."""
    found = st.session_state.get("book")
    if found is not None:
        weights: pd.Series = found["weights"]
        inside = weights[[a for a in weights.index if a in assets]]
        if len(inside):
            return inside, str(found["name"])
    first = list(assets[:8])
    return pd.Series(1.0 / len(first), index=first), f"Equal weight of {len(first)}"


def lost(assets: tuple[str, ...]) -> pd.Series:
    """What the book in hand holds and the data do not know."""
    found = st.session_state.get("book")
    weights: pd.Series = pd.Series(dtype=float) if found is None else found["weights"]
    return weights[[a for a in weights.index if a not in assets]]


# ---- service


@st.cache_resource
def job_store() -> JobStore:
    """One store for all sessions of this server."""
    return JobStore(home() / "dashboard" / "jobs", workers=1)


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


def percent(value: float | None, digits: int = 1) -> str:
    """+1.2 %, or a dash where there is nothing to say."""
    return "–" if value is None or value != value else f"{value:+.{digits}%}"
