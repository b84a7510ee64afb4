"""Entry of the dashboard: navigation and what every page shares."""

from __future__ import annotations

import streamlit as st

from foliocast.apps.dashboard import backtest, forecast, runs


def main() -> None:
    """Lay out the navigation and run the chosen page."""
    st.set_page_config(page_title="Foliocast", layout="wide")
    pages = {
        "Futures": [
            st.Page(forecast.page, title="Forecast", icon=":material/trending_up:", url_path="forecast", default=True),
        ],
        "Evidence": [
            st.Page(backtest.page, title="Backtest", icon=":material/history:", url_path="backtest"),
            st.Page(runs.page, title="Runs", icon=":material/folder_open:", url_path="runs"),
        ],
    }
    st.navigation(pages).run()


main()
