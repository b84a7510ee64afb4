"""Start Streamlit on the dashboard: ``python -m foliocast.apps.dashboard [streamlit options]``.

While the server opens its port and the browser loads its scripts, a thread imports what the first page needs.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

SWITCH = 0.0005  # seconds; files are served between imports and fits, so threads must not wait long for their turn


def main() -> None:
    """Run ``streamlit run main.py`` with a head start."""
    from streamlit.web.cli import main as streamlit

    sys.setswitchinterval(SWITCH)
    threading.Thread(target=_ahead, daemon=True, name="ahead").start()
    sys.argv = ["streamlit", "run", str(Path(__file__).with_name("main.py")), *sys.argv[1:]]
    streamlit()


def _ahead() -> None:
    from foliocast.apps.dashboard import figures, forecast  # noqa: F401 - imported for the second import
    from foliocast.data import load_panel
    from foliocast.workflows.quote import candles

    panel = load_panel("sample")
    figures.candles(candles(panel, panel.assets[0]), panel.assets[0]).to_json()


if __name__ == "__main__":
    main()
