"""The root of the command line and the list of its verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from foliocast.apps.cli import (
    allocate,
    augment,
    backtest,
    data,
    explain,
    forecast,
    generate,
    scenarios,
    score,
    search,
    serve,
    stress,
    track,
    train,
)
from foliocast.runtime.compute import one_thread

EPILOG = (
    "Exit codes: 0 ok; 2 bad usage, config or data (one sentence says what to do); "
    "3 interrupted, can be resumed; 1 a bug. Start with: foliocast backtest"
)

app = typer.Typer(
    name="foliocast",
    help="Market data in, portfolios you can defend out: forecasts, generative scenarios, risk-aware allocation and "
    "walk-forward evidence that cannot look ahead.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(backtest.runs_app, name="runs")
app.add_typer(track.app, name="track")
VERBS = (backtest, train, forecast, score, scenarios, stress, allocate, explain, search, generate, serve, augment)
for verb in VERBS:
    verb.register(app)


def _version(show: bool) -> None:
    if show:
        import foliocast

        print(f"foliocast {foliocast.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    one_thread()


def main() -> None:
    """Entry point of the ``foliocast`` command."""
    one_thread()
    app()
