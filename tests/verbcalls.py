"""A verb called through the command line's own parser: what it answers, or the sentence with which it refuses."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from foliocast.apps.cli.main import app


def call(*arguments: str) -> dict[str, Any]:
    """The one JSON object on stdout of a verb that succeeds."""
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def refused(*arguments: str) -> str:
    """The sentence of a verb that refuses."""
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 2, done.output
    return str(json.loads(done.stdout)["error"])
