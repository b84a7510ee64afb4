"""Entry of the dashboard: navigation, the data that all pages share, and a warm start."""

from __future__ import annotations

import gc
import importlib
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from foliocast.apps.dashboard.shared import choose_data, told

ICON, LOGO = (Path(__file__).with_name(name) for name in ("icon.svg", "logo.svg"))
STYLE = "<style>.stMainBlockContainer {padding-top: 3.6rem; padding-bottom: 4rem}</style>"
PAGES = {
    "Futures": [
        ("forecast", "Forecast", ":material/trending_up:"),
        ("scenarios", "Scenarios", ":material/airwave:"),
    ],
    "Book": [
        ("portfolio", "Portfolio", ":material/pie_chart:"),
        ("stress", "Stress", ":material/thunderstorm:"),
        ("prompt", "Prompt to portfolio", ":material/edit_note:"),
    ],
    "Evidence": [
        ("backtest", "Backtest", ":material/history:"),
        ("runs", "Runs", ":material/folder_open:"),
    ],
    "Trading": [("live", "Live", ":material/sensors:")],
}


def main() -> None:
    """Lay out the navigation and run the chosen page."""
    st.set_page_config(page_title="Foliocast", page_icon=str(ICON), layout="wide")
    st.logo(str(LOGO), size="medium", icon_image=str(ICON))
    st.html(STYLE)
    pages = {
        section: [
            st.Page(_page(module), title=title, icon=icon, url_path=module, default=module == "forecast")
            for module, title, icon in entries
        ]
        for section, entries in PAGES.items()
    }
    chosen = st.navigation(pages)
    with told():
        choose_data()
        chosen.run()
    if st.runtime.exists():
        warm()


def _page(module: str) -> Callable[[], None]:
    """A page that is imported when it is first shown."""

    def show() -> None:
        try:
            with told():
                importlib.import_module(f"foliocast.apps.dashboard.{module}").page()
        except Exception as error:
            traceback.print_exc()
            st.error(
                f"This is a bug in Foliocast, please report it: {type(error).__name__}: {error}. The other pages work, "
                "the whole story is in the terminal.",
                icon=":material/bug_report:",
            )

    show.__name__ = module
    return show


@st.cache_resource(show_spinner=False)
def warm() -> threading.Thread:
    """Import what the other pages need, behind the first page's back, so that they answer at once."""

    def load() -> None:
        time.sleep(3.0)
        for name in ("simulate", "book", "stress", "generate"):
            importlib.import_module(f"foliocast.workflows.{name}")
        for name in (module for entries in PAGES.values() for module, _, _ in entries):
            importlib.import_module(f"foliocast.apps.dashboard.{name}")
            time.sleep(0.05)
        gc.collect()
        gc.freeze()  # Streamlit collects garbage after every run: going through all imports took longer than the run

    thread = threading.Thread(target=load, daemon=True, name="warm")
    thread.start()
    return thread


main()
