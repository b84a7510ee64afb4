"""Entry of the dashboard: navigation and what every page shares."""

from __future__ import annotations

import streamlit as st

from foliocast.apps.dashboard import backtest, runs


def main() -> None:
    """Lay out the navigation and run the chosen page."""
    st.set_page_config(page_title="Foliocast", page_icon=":material/candlestick_chart:", layout="wide")
    pages = {
        "Evidence": [
            st.Page(backtest.page, title="Backtest", icon=":material/history:", url_path="backtest"),
            st.Page(runs.page, title="Runs", icon=":material/folder_open:", url_path="runs"),
        ],
    }
    st.navigation(pages).run()


main()
