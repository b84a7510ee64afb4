"""``serve`` and ``app``: the HTTP API and the dashboard."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from foliocast.apps.cli.common import guarded


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("serve")(serve)
    app.command("app")(dashboard)
    app.command("completion")(completion)


@guarded
def serve(
    host: Annotated[str, typer.Option(help="Anything but loopback needs FOLIOCAST_API_TOKEN.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8600,
    workers: Annotated[int, typer.Option(help="Jobs that run at the same time.", min=1)] = 1,
    folder: Annotated[Path | None, typer.Option(help="Where jobs and results are kept.", show_default=False)] = None,
    rate: Annotated[int, typer.Option(help="Requests a minute from one address; 0: no limit.", min=0)] = 1200,
    origin: Annotated[
        list[str] | None, typer.Option(help="Web origin that may call from a browser; may be repeated.")
    ] = None,
) -> None:
    """Serve forecasts and jobs over HTTP; the schema is at /openapi.json.

    Jobs outlive the server: one that is killed leaves them running, and the next one takes them over.
    """
    from foliocast.core.errors import MissingExtraError

    try:
        import uvicorn

        from foliocast.apps.api.app import create_app
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", "app") from error
    from foliocast.apps.api.settings import Settings, check_binding

    settings = Settings(workers=workers, requests_per_minute=rate, origins=tuple(origin or ()))
    settings = settings if folder is None else replace(settings, folder=folder)
    check_binding(host, settings.token)
    print(f"Foliocast API on http://{host}:{port or '(a free port)'}  (schema: /openapi.json)", file=sys.stderr)
    app = create_app(settings)
    uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False, timeout_keep_alive=30)


@guarded
def dashboard(
    port: Annotated[int, typer.Option(help="Port.", min=1, max=65535)] = 8601,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    headless: Annotated[bool, typer.Option("--headless", help="Do not open a browser.")] = False,
    trusted_network: Annotated[
        bool, typer.Option("--trusted-network", help="Bind another address than loopback, without a password.")
    ] = False,
) -> None:
    """Open the dashboard in the browser.

    It has no password, and a backtest may name a Python file: whoever reaches it can run code as you. So it stays on
    this machine unless --trusted-network says that a proxy or a container keeps others out.
    """
    import importlib.util

    from foliocast.apps.binding import is_loopback
    from foliocast.core.errors import ConfigError, MissingExtraError

    if not (trusted_network or is_loopback(host)):
        raise ConfigError(
            f"refusing to show the dashboard on {host}: it has no password and can run code; bind to 127.0.0.1, "
            "or say --trusted-network where a proxy or a container keeps others out"
        )

    if importlib.util.find_spec("streamlit") is None:
        raise MissingExtraError("streamlit", "app")
    options = {
        "server.port": port,
        "server.address": host,
        "server.headless": str(headless).lower(),
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
    }
    flags = [f"--{key}={value}" for key, value in options.items()]
    os.execv(sys.executable, [sys.executable, "-m", "foliocast.apps.dashboard", *flags])


@guarded
def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")],
) -> None:
    """Print the completion script of a shell: eval "$(foliocast completion bash)"."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    from foliocast.core.errors import ConfigError

    if shell not in ("bash", "zsh", "fish"):
        raise ConfigError(f"no completion for '{shell}'; there is one for bash, zsh and fish")
    asked = {"prog_name": "foliocast", "complete_var": "_FOLIOCAST_COMPLETE", "shell": shell}
    print(get_completion_script(**asked))
