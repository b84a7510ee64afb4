"""The main job: from prices to an audited walk-forward report.

Numbered steps, each one function: (1) plan, (2) decide, (3) simulate, (4) weigh the evidence, (5) write.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w

from foliocast.core.errors import ConfigError, FoliocastError, InterruptedRun
from foliocast.runtime.compute import Compute
from foliocast.runtime.files import plain, whole_file, write_json
from foliocast.runtime.progress import Report, silent
from foliocast.runtime.resume import BundleStore
from foliocast.trading.result import BacktestResult
from foliocast.trading.walkforward import FoldDecision, FoldTask, fold_tasks, run_fold, simulate
from foliocast.workflows.config import Config, load_config
from foliocast.workflows.plan import Plan, plan
from foliocast.workflows.runs import RunFolder, find_run, new_run


@dataclass(frozen=True)
class Done:
    """A finished run."""

    folder: Path
    metrics: dict[str, Any]
    notice: str = ""
    results: dict[str, BacktestResult] = field(default_factory=dict)
    tracked: str = ""


# ---- decide
def decide(work: Plan, compute: Compute, store: BundleStore, report: Report) -> dict[str, list[FoldDecision]]:
    """Decisions of every fold of every strategy; finished folds come from the store."""
    config = work.config
    tasks = fold_tasks(
        work.strategies,
        work.panel,
        work.schedule,
        config.seed,
        execution=work.execution,
        allow_contaminated=config.allow_contaminated,
    )
    found = {task.key: kept for task in tasks if (kept := _kept(store, task)) is not None}
    todo = [task for task in tasks if task.key not in found]
    report("folds", len(found), len(tasks))
    for task, decision in zip(todo, compute(run_fold, todo)):
        _keep(store, task, decision)
        found[task.key] = decision
        report("folds", len(found), len(tasks))
    out: dict[str, list[FoldDecision]] = {name: [] for name in work.strategies}
    for task in tasks:
        out[task.name].append(found[task.key])
    return out


def _keep(store: BundleStore, task: FoldTask, decision: FoldDecision) -> None:
    frames = {"weights": decision.weights}
    if decision.predictions is not None:
        frames["predictions"] = decision.predictions
    if decision.attention is not None:
        frames["attention"] = decision.attention
    until = None if decision.knowledge_until is None else str(decision.knowledge_until)
    store.put(task.key, frames, {"number": decision.number, "knowledge_until": until})


def _kept(store: BundleStore, task: FoldTask) -> FoldDecision | None:
    bundle = store.get(task.key)
    if bundle is None:
        return None
    frames, meta = bundle
    until = None if meta["knowledge_until"] is None else pd.Timestamp(meta["knowledge_until"])
    return FoldDecision(meta["number"], frames["weights"], frames.get("predictions"), frames.get("attention"), until)


# ---- the whole
def run(
    config: Config,
    out: Path,
    *,
    jobs: int = 1,
    cluster: str | None = None,
    report: Report = silent,
) -> Done:
    """Run a config and write its folder under ``out``.

    Returns
    -------
    Done
        The folder, the content of its ``metrics.json`` and one `BacktestResult` a strategy.
    """
    work = plan(config)
    folder = new_run(out, config.name, _about(work), tomli_w.dumps(_toml(config)))
    return _finish(work, folder, jobs, cluster, report)


def resume(run_id: Path, parent: Path, *, jobs: int = 1, cluster: str | None = None, report: Report = silent) -> Done:
    """Go on with a run that was stopped at any moment; ends with the bits of an undisturbed run.

    Raises
    ------
    ConfigError
        No such run, or its data are no longer the same.
    """
    folder = find_run(run_id, parent)
    work = plan(load_config(folder.path / "config.toml"))
    then = folder.read("run").get("data", {}).get("hash")
    if then != work.panel.data_hash:
        raise ConfigError(f"'{work.panel.name}' has changed since {folder.path.name} began; start a new run")
    if folder.read("run").get("status") == "done":
        return Done(folder.path, folder.read("metrics"), work.panel.notice)
    return _finish(work, folder, jobs, cluster, report)


def _finish(work: Plan, folder: RunFolder, jobs: int, cluster: str | None, report: Report) -> Done:
    from foliocast.workflows.evidence import weigh
    from foliocast.workflows.report import write_report

    store = BundleStore(folder.path / "folds")
    compute = Compute(jobs, cluster)
    clock = {"start": time.perf_counter()}
    try:
        decisions = decide(work, compute, store, report)
        clock["decide"] = time.perf_counter()
        results = {name: _simulated(work, folds) for name, folds in decisions.items()}
        clock["simulate"] = time.perf_counter()
        metrics = weigh(work, decisions, results, compute, folder.path.name, report)
        clock["evidence"] = time.perf_counter()
    except KeyboardInterrupt:
        folder.update(status="interrupted")
        raise InterruptedRun(
            f"stopped; what was finished is kept, go on with: foliocast backtest --resume {folder.path}"
        ) from None
    _write(work, folder, decisions, results, metrics)
    timings = {name: round(end - start, 3) for (_, start), (name, end) in pairwise(clock.items())}
    folder.update(status="done", timings=timings, knowledge_until=_knowledge(decisions))
    write_report(folder.path)
    store.clear()
    return Done(folder.path, metrics, work.panel.notice, results, _tracked(folder, work.config.track))


def _tracked(folder: RunFolder, where: str | None) -> str:
    """Record the run where the config, or the environment, says; a store that fails does not fail the run."""
    from foliocast.runtime.tracking import chosen

    where = chosen(where)
    if where is None:
        return ""
    from foliocast.workflows.tracking import track_run

    try:
        return f"Recorded: {track_run(folder.path, where)}"
    except (FoliocastError, OSError) as error:
        return f"Not recorded ({error}); the run is whole, try again with: foliocast track run {folder.path}"


def _simulated(work: Plan, folds: list[FoldDecision]) -> BacktestResult:
    return simulate(
        folds, work.panel, schedule=work.schedule, costs=work.costs, limits=work.limits, execution=work.execution
    )


def _about(work: Plan) -> dict[str, Any]:
    """What ``run.json`` says of a run before it has begun."""
    panel, config = work.panel, work.config
    data = {
        "name": panel.name,
        "hash": panel.data_hash,
        "source_hash": work.source_hash,
        "notice": panel.notice,
        "start": str(panel.times[0]),
        "end": str(panel.times[-1]),
        "n_bars": len(panel),
        "assets": list(panel.assets),
        "fields": list(panel.fields),
    }
    return {
        "seed": config.seed,
        "data": data,
        "schedule": config.schedule.model_dump(),
        "execution": work.execution,
        "costs": plain(vars(work.costs)),
        "limits": list(config.limits),
        "strategies": work.specs,
        "allow_contaminated": config.allow_contaminated,
    }


def _toml(config: Config) -> dict[str, Any]:
    return {key: value for key, value in config.model_dump(exclude_none=True).items() if value not in ({}, [])}


def _knowledge(decisions: dict[str, list[FoldDecision]]) -> dict[str, str | None]:
    """Latest cut-off of each strategy's models."""
    out: dict[str, str | None] = {}
    for name, folds in decisions.items():
        known = [fold.knowledge_until for fold in folds if fold.knowledge_until is not None]
        out[name] = str(max(known)) if known else None
    return out


# ---- 5. write
def _write(
    work: Plan,
    folder: RunFolder,
    decisions: dict[str, list[FoldDecision]],
    results: dict[str, BacktestResult],
    metrics: dict[str, Any],
) -> None:
    """All tables of the run folder, each whole or absent."""
    from foliocast.workflows import tables

    equity = pd.DataFrame({name: result.equity for name, result in results.items()})
    frames = {
        "equity": equity.rename_axis("date"),
        "weights": tables.weights(results),
        "trades": tables.ledger(results, "trades"),
        "financing": tables.ledger(results, "financing"),
        "actions": tables.ledger(results, "actions"),
        "predictions": tables.predictions(decisions, work.panel),
        "attention": tables.attention(decisions),
    }
    if work.config.regimes:
        frames["regimes"] = tables.regimes(work.panel, work.schedule)
    for name, frame in frames.items():
        if len(frame) or name in ("equity", "weights", "trades", "predictions"):
            with whole_file(folder.path / f"{name}.parquet") as aside:
                frame.to_parquet(aside)
    write_json(folder.path / "metrics.json", metrics)
