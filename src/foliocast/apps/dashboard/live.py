"""Live: the state of a feed when one runs; how to start one when none does."""

from __future__ import annotations

import streamlit as st


def page() -> None:
    """An honest empty state."""
    st.title("Live")
    st.markdown("The loop of the backtest on a feed, on paper or for real.")
    st.info("No feed is running, and nothing has been recorded.", icon=":material/sensors_off:")
