"""``search``: the best values of a config's ranges, found without looking at what judges them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foliocast.apps.cli.common import Data, Jobs, Json, Out, Seed, console, guarded, progress


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("search")(search)


@guarded
def search(
    config: Annotated[Path, typer.Argument(help="TOML file with ranges in a strategy's table.")],
    trials: Annotated[
        int | None, typer.Option("--trials", "-n", min=1, help="Trials a strategy (default: search.trials, 20).")
    ] = None,
    data: Data = None,
    out: Out = None,
    seed: Seed = None,
    jobs: Jobs = 0,
    as_json: Json = False,
) -> Any:
    """Search the ranges of a config inside its first training window, then walk the winner forward.

    A value may be a range wherever a strategy's table takes a number or a name:

    \b
    \\[strategies.net]
    type = "SignalStrategy"
    \\[strategies.net.forecaster]
    type = "LSTMForecaster"
    lr = { low = 1e-4, high = 1e-2, log = true }
    hidden = { choices = [16, 32, 64] }
    \\[search]
    trials = 30

    No trial sees a bar that the winner is judged on; inner folds are purged; every trial enters the ledger and lowers
    the deflated Sharpe ratio. The run folder holds the winning config.toml and all trials in search.csv.

    Needs the extra: pip install 'foliocast\\[tune]'.
    """
    from foliocast.workflows.config import load_config
    from foliocast.workflows.plan import adjusted
    from foliocast.workflows.search import search as work
    from foliocast.workflows.terminal import terminal_table

    with progress(as_json) as report:
        found, done = work(
            adjusted(load_config(config), data, seed), out or Path("runs"), n_trials=trials, jobs=jobs, report=report
        )
    screen = console(as_json)
    for name, values in found.best.items():
        rows = found.trials[found.trials["strategy"] == name]
        chosen = ", ".join(f"{key} = {value}" for key, value in values.items())
        screen.print(f"{name}: best of {len(rows)} trials, inner score {rows['score'].max():.3f}: {chosen}")
    screen.print(terminal_table(done.metrics, screen.width))
    screen.print(
        f"Trials on this data: {done.metrics['trials']}\nReport: {done.folder / 'report.html'}", soft_wrap=True
    )
    return {
        "run": done.folder.name,
        "folder": str(done.folder),
        "best": found.best,
        "searched": found.trials.astype(object).where(found.trials.notna(), None).to_dict("records"),
        **done.metrics,
    }
