"""Live: the state of a feed when one runs; how to start one when none does."""

from __future__ import annotations

import streamlit as st


def page() -> None:
    """An honest empty state."""
    st.title("Live")
    st.markdown("The loop of the backtest on a feed, on paper or for real.")
    st.info(
        "No feed is running: this version has no live or paper loop yet. Its state will stand here when it has one; "
        "until then the loop runs over the past, on the page Backtest.",
        icon=":material/sensors_off:",
    )
