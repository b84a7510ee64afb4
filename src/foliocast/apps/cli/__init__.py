"""The command line. Commands parse, call one workflow and print; heavy imports wait until a command runs."""

from __future__ import annotations

from foliocast.apps.cli.main import main

__all__ = ["main"]
