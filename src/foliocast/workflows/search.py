"""Search over a config's ranges: tried inside the first training window, judged once on everything after it.

A value of a strategy's table may be a range, ``{low = 1e-4, high = 1e-2, log = true}`` or ``{choices = [32, 64]}``.
Every trial is walked forward inside the first training window of the config, its models purged from the bars that
judge them, and enters the ledger of trials. The best is then run as any config is: on test bars that no trial has seen,
with the number of trials in its deflated Sharpe ratio.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError, FoliocastError, HistoryError, MissingExtraError
from foliocast.core.panel import Panel
from foliocast.core.time import WalkForward, periods_per_year
from foliocast.runtime.compute import Compute
from foliocast.runtime.files import plain, whole_file
from foliocast.runtime.progress import Report, silent
from foliocast.runtime.trials import Trial, TrialLedger, spec_hash
from foliocast.stats import measures
from foliocast.trading.walkforward import walk_forward
from foliocast.workflows.backtest import Done, run
from foliocast.workflows.config import Config, SearchConfig, build, is_range
from foliocast.workflows.plan import Plan, plan

METRICS = {
    "sharpe": measures.sharpe_ratio,
    "return": measures.annual_return,
    "sortino": measures.sortino_ratio,
    "calmar": measures.calmar_ratio,
}
Keys = tuple[str, ...]


@dataclass(frozen=True)
class Searched:
    """What a search found.

    Attributes
    ----------
    trials : DataFrame
        strategy, number, score, sharpe (per bar, net), n_bars and one column a parameter; a trial that could not be
        run has no score and says why in ``failed``.
    best : dict of strategy to dict of parameter to value
    config : Config
        With the best values in the place of the ranges.
    """

    trials: pd.DataFrame
    best: dict[str, dict[str, Any]]
    config: Config


def search(
    config: Config, out: Path, *, n_trials: int | None = None, jobs: int = 1, report: Report = silent
) -> tuple[Searched, Done]:
    """Search, then run the winner; the run folder also holds ``search.csv``.

    Raises
    ------
    ConfigError
        The config has no range, or one that makes no sense.
    HistoryError
        The first training window is too short for the inner folds.
    MissingExtraError
        optuna is not installed.
    """
    found = find_best(config, n_trials=n_trials, jobs=jobs, report=report)
    done = run(found.config, out, jobs=jobs, report=report)
    with whole_file(done.folder / "search.csv") as aside:
        found.trials.to_csv(aside, index=False)
    return found, done


def find_best(config: Config, *, n_trials: int | None = None, jobs: int = 1, report: Report = silent) -> Searched:
    """The best values of every strategy with ranges; see `search`. Same seed, same values."""
    ranges = {name: dict(_ranges(table)) for name, table in config.strategies.items()}
    ranges = {name: found for name, found in ranges.items() if found}
    if not ranges:
        raise ConfigError(
            "the config has no range to search; write one in a strategy's table, such as "
            "lr = { low = 1e-4, high = 1e-2, log = true } or hidden = { choices = [32, 64] }"
        )
    wish = config.search or SearchConfig()
    wish = wish if n_trials is None else wish.model_copy(update={"trials": n_trials})
    firsts = {
        name: _filled(config.strategies[name], {path: _first(value) for path, value in found.items()})
        for name, found in ranges.items()
    }
    work = plan(config.model_copy(update={"strategies": {**config.strategies, **firsts}}))
    part = work.panel.rows(*work.schedule.folds(len(work.panel))[0].train)
    inner = inner_schedule(wish, len(part))
    tables, best, strategies = [], {}, dict(config.strategies)
    for name, found in ranges.items():
        judge = _Judge(name, config.strategies[name], work, part, inner, wish.metric, Compute(jobs))
        table, values = _study(judge, found, wish.trials, report)
        tables.append(table)
        best[name] = {".".join(path): value for path, value in values.items()}
        strategies[name] = _filled(config.strategies[name], values)
    trials = pd.concat(tables, ignore_index=True)
    return Searched(trials, best, config.model_copy(update={"strategies": strategies, "search": None}))


def inner_schedule(wish: SearchConfig, n_bars: int) -> WalkForward:
    """Folds inside the first training window: by default half of it trains and the rest is judged in three folds.

    Raises
    ------
    HistoryError
        Less than 60 bars would be judged.
    """
    train = wish.train or n_bars // 2
    judged = n_bars - train
    if judged < 60:
        raise HistoryError(
            f"the first training window has {n_bars} bars; with search.train = {train} only {judged} are left to judge "
            "a trial on, and 60 are needed: lengthen schedule.train or shorten search.train"
        )
    return WalkForward(train, wish.test or -(-judged // 3), purge=wish.purge)


# ---- ranges
def _ranges(table: Mapping[str, Any], path: Keys = ()) -> Iterator[tuple[Keys, Mapping[str, Any]]]:
    """Every range of a strategy's table with the keys that lead to it."""
    for key, value in table.items():
        here = (*path, str(key))
        if is_range(value):
            yield here, _checked(value, here)
        elif isinstance(value, Mapping):
            yield from _ranges(value, here)


def _checked(value: Mapping[str, Any], path: Keys) -> Mapping[str, Any]:
    name = ".".join(path)
    if "choices" in value:
        if set(value) != {"choices"} or not isinstance(value["choices"], list) or not value["choices"]:
            raise ConfigError(f"range '{name}': choices must be a list of values, alone in its table")
        return value
    numbers = [value.get(key) for key in ("low", "high")]
    unknown = set(value) - {"low", "high", "log", "step"}
    if unknown or not all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers):
        raise ConfigError(f"range '{name}' needs the numbers low and high, and may have log = true or a step")
    low, high = value["low"], value["high"]
    if not low < high or (value.get("log") and (low <= 0 or "step" in value)):
        raise ConfigError(f"range '{name}' goes from {low} to {high}; low < high, and log needs low > 0 and no step")
    return value


def _first(value: Mapping[str, Any]) -> Any:
    return value["choices"][0] if "choices" in value else value["low"]


def _filled(table: Mapping[str, Any], values: Mapping[Keys, Any]) -> dict[str, Any]:
    """The table with values in the place of its ranges."""
    out = copy.deepcopy(dict(table))
    for path, value in values.items():
        place = out
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    return out


def _asked(trial: Any, path: Keys, value: Mapping[str, Any]) -> Any:
    name = ".".join(path)
    if "choices" in value:  # by number: a choice may be a list, which optuna does not take
        return value["choices"][trial.suggest_categorical(name, range(len(value["choices"])))]
    low, high, log = value["low"], value["high"], bool(value.get("log"))
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log, step=value.get("step", 1))
    return trial.suggest_float(name, low, high, log=log, step=value.get("step"))


# ---- trials
@dataclass(frozen=True)
class _Judge:
    """Walks a candidate forward inside the first training window."""

    name: str
    table: Mapping[str, Any]
    work: Plan
    part: Panel
    inner: WalkForward
    metric: str
    compute: Compute

    def __call__(self, table: Mapping[str, Any]) -> tuple[float, np.ndarray]:
        """Score and net returns."""
        work = self.work
        result = walk_forward(
            build(table, f"strategies.{self.name}"),
            self.part,
            self.inner,
            work.costs,
            work.limits,
            execution=work.execution,
            seed=work.config.seed,
            name=self.name,
            run_tasks=self.compute,
            allow_contaminated=work.config.allow_contaminated,
        )
        returns = result.returns.to_numpy()
        return float(METRICS[self.metric](returns, periods_per_year(self.part.times))), returns

    def record(self, table: Mapping[str, Any], returns: np.ndarray) -> float:
        """Into the ledger of trials; the per-bar Sharpe ratio."""
        sharpe = float(returns.mean() / returns.std(ddof=1)) if len(returns) > 1 and returns.std() > 0 else float("nan")
        spec = {
            "search": plain(vars(self.inner)),
            "strategy": plain(table),
            "part": self.part.data_hash,
            "seed": self.work.config.seed,
            "costs": plain(vars(self.work.costs)),
        }
        label = f"search:{self.name}"
        TrialLedger().record([Trial(self.work.source_hash, spec_hash(spec), label, sharpe, len(returns), "search")])
        return sharpe


def _study(
    judge: _Judge, ranges: Mapping[Keys, Mapping[str, Any]], n_trials: int, report: Report
) -> tuple[pd.DataFrame, dict[Keys, Any]]:
    """All trials of one strategy, and the best values."""
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "tune") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=judge.work.config.seed, n_startup_trials=max(5, n_trials // 4))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    rows: list[dict[str, Any]] = []
    best: tuple[float, dict[Keys, Any]] | None = None
    for number in range(n_trials):
        report(f"trials of {judge.name}", number, n_trials)
        trial = study.ask()
        values = {path: _asked(trial, path, value) for path, value in ranges.items()}
        row: dict[str, Any] = {"strategy": judge.name, "number": number}
        table, failed = _filled(judge.table, values), ""
        score, returns = float("nan"), np.zeros(0)
        try:
            score, returns = judge(table)
        except FoliocastError as error:  # two values that do not go together are a bad trial, not the end of the search
            failed = str(error)
        sharpe = judge.record(table, returns)
        named = {".".join(path): value for path, value in values.items()}
        rows.append({**row, "score": score, "sharpe": sharpe, "n_bars": len(returns), **named, "failed": failed})
        if np.isfinite(score):
            study.tell(trial, score)
            best = (score, values) if best is None or score > best[0] else best
        else:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    report(f"trials of {judge.name}", n_trials, n_trials)
    if best is None:
        why = next((row["failed"] for row in rows if row["failed"]), "no trial ever held a position")
        raise ConfigError(f"none of {n_trials} trials of '{judge.name}' could be scored: {why}")
    return pd.DataFrame(rows), best[1]
