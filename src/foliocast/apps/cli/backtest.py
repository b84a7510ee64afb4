"""``backtest``, ``audit`` and ``runs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from foliocast.apps.cli.common import Data, Jobs, Json, Out, Seed, Track, console, guarded, progress

ConfigName = Annotated[
    Path | None,
    typer.Argument(help="TOML file, or a packaged one: demo, quick, lstm_basket. Default: demo.", show_default=False),
]
runs_app = typer.Typer(help="Runs on disk, and the ledger of every trial.", invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("backtest")(backtest)
    app.command("audit")(audit)


@guarded
def backtest(
    config: ConfigName = None,
    data: Data = None,
    out: Out = None,
    seed: Seed = None,
    jobs: Jobs = 0,
    resume: Annotated[Path | None, typer.Option("--resume", help="Run folder (or id) to go on with.")] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", help="Address of a Ray cluster (extra: scale).")] = None,
    track: Track = None,
    as_json: Json = False,
) -> Any:
    """Walk-forward of strategies with costs and limits; writes a run folder with an audited report.

    [bold]foliocast backtest[/bold] runs an attention LSTM on the embedded sample beside six baselines. Every number
    comes with its interval, its baselines and the number of trials; a killed run goes on with --resume RUN.
    """
    from foliocast.workflows import backtest as work
    from foliocast.workflows.config import load_config
    from foliocast.workflows.plan import adjusted
    from foliocast.workflows.terminal import terminal_table

    with progress(as_json) as report:
        if resume is not None:
            done = work.resume(resume, out or Path("runs"), jobs=jobs, cluster=cluster, report=report)
        else:
            chosen = adjusted(load_config(config or "demo"), data, seed)
            chosen = chosen if track is None else chosen.model_copy(update={"track": track})
            done = work.run(chosen, out or Path("runs"), jobs=jobs, cluster=cluster, report=report)
    screen = console(as_json)
    screen.print(terminal_table(done.metrics, screen.width))
    if done.notice:
        screen.print(f"[yellow]{done.notice}[/yellow]")
    screen.print(f"Audit: {'passed' if done.metrics['audit']['passed'] else '[red]FAILED[/red]'}", end="   ")
    screen.print(f"Trials on this data: {done.metrics['trials']}")
    screen.print(f"Report: {done.folder / 'report.html'}", soft_wrap=True)
    if done.tracked:
        screen.print(done.tracked, soft_wrap=True)
    return {
        "run": done.folder.name,
        "folder": str(done.folder),
        "report": str(done.folder / "report.html"),
        **done.metrics,
    }


@guarded
def audit(
    config: ConfigName = None,
    data: Data = None,
    seed: Seed = None,
    cuts: Annotated[int, typer.Option(help="Times after which the future is rewritten.", min=1)] = 6,
    jobs: Jobs = 0,
    as_json: Json = False,
) -> Any:
    """Look-ahead audit: rewrite the future, past decisions must not change by a bit. Exit 0 only if none does.

    Also tests on your own configuration that an oracle earns exactly what it should and a late one nothing, and that
    no model decides before the date it has seen data up to.
    """
    from foliocast.workflows import audit as work
    from foliocast.workflows.config import load_config
    from foliocast.workflows.plan import adjusted
    from foliocast.workflows.terminal import audit_table

    with progress(as_json) as report:
        chosen = adjusted(load_config(config or "demo"), data, seed)
        verdict = work.audit_config(chosen, cuts=cuts, jobs=jobs, report=report)
    console(as_json).print(audit_table(verdict.to_dict()))
    if as_json:
        from foliocast.apps.cli.common import print_json

        print_json(verdict.to_dict())
    raise typer.Exit(0 if verdict.passed else 2)


@runs_app.callback()
@guarded
def runs(context: typer.Context, out: Out = None, as_json: Json = False) -> Any:
    """List the runs, newest first."""
    if context.invoked_subcommand is not None:
        return None
    from foliocast.workflows.runs import list_runs
    from foliocast.workflows.terminal import runs_table

    found = list_runs(out or Path("runs"))
    console(as_json).print(runs_table(found))
    return {"runs": found}


@runs_app.command("trials")
@guarded
def trials(as_json: Json = False) -> Any:
    """How many strategies were ever evaluated on each data set."""
    from foliocast.runtime.trials import TrialLedger

    counts = TrialLedger().counts()
    for data_hash, count in counts.items():
        console(as_json).print(f"{data_hash[:16]}  {count} trials")
    return {"trials": counts}


@runs_app.command("reset-trials")
@guarded
def reset_trials(
    data_hash: Annotated[str, typer.Argument(help="Hash of the data set (its first characters are enough).")],
    reason: Annotated[str, typer.Option(help="Why; kept in the ledger.")] = "",
    as_json: Json = False,
) -> Any:
    """Forget the trials of one data set. The reset itself is recorded."""
    from foliocast.core.errors import ConfigError
    from foliocast.runtime.trials import TrialLedger

    ledger = TrialLedger()
    full = [known for known in ledger.counts() if known.startswith(data_hash)]
    if len(full) != 1 or len(data_hash) < 6:
        raise ConfigError(f"'{data_hash}' fits {len(full)} data sets with trials; `foliocast runs trials` lists them")
    forgotten = ledger.reset(full[0], reason)
    console(as_json).print(f"forgot {forgotten} trials of {full[0][:16]}")
    return {"data": full[0], "forgotten": forgotten}
