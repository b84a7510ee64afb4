"""``python -m foliocast`` is the command line."""

from __future__ import annotations

from foliocast.apps.cli import main

if __name__ == "__main__":
    main()
