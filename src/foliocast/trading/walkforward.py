"""Walk-forward: fit on the past, decide on what was known, score every test bar once.

Two phases. (1) Decisions: each fold fits a seeded clone of the strategy on its training rows and decides for its test
bars; folds of strategies that do not look at their own holdings are independent tasks and may run anywhere.
(2) Simulation: all decisions go through the one loop, with costs and limits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError, DataError, LookAheadError
from foliocast.core.panel import Panel
from foliocast.core.protocols import Charge, Rule, Strategy, TaskRunner, serial
from foliocast.core.time import Fold, WalkForward
from foliocast.trading.broker import SimulatedBroker
from foliocast.trading.costs import Costs
from foliocast.trading.limits import Limit
from foliocast.trading.loop import Engine, PanelFeed, run_decisions
from foliocast.trading.result import BacktestResult


@dataclass(frozen=True)
class FoldDecision:
    """What a fold decided.

    Attributes
    ----------
    number : int
    weights : DataFrame (time x asset)
        Decided at the row's time, for the test bars that follow it; a row of NaN leaves the holdings alone.
    predictions : DataFrame (time x asset) or None
        Expected return of the bar after the row's time.
    attention : DataFrame or None
    knowledge_until : Timestamp or None
        Last time of any data that shaped the fitted strategy.
    """

    number: int
    weights: pd.DataFrame
    predictions: pd.DataFrame | None = None
    attention: pd.DataFrame | None = None
    knowledge_until: pd.Timestamp | None = None


@dataclass(frozen=True)
class FoldTask:
    """One piece of work, picklable: a strategy, the rows it may see, and the folds to run on them.

    Independent folds are a task each, and its panel holds the fold's rows only; a path-dependent strategy is one task
    with all folds.
    """

    key: str
    name: str
    strategy: Strategy
    panel: Panel
    folds: tuple[Fold, ...]
    seed: int
    execution: str = "next_close"
    allow_contaminated: bool = False


class Store(Protocol):
    """Finished folds, by key; a mapping from ``FoldTask.key`` to `FoldDecision` that may outlive the process."""

    def get(self, key: str) -> FoldDecision | None: ...

    def put(self, key: str, decision: FoldDecision) -> None: ...


class MemoryStore(dict):
    """A `Store` that lives as long as the process."""

    def put(self, key: str, decision: FoldDecision) -> None:
        self[key] = decision


Progress = Callable[[int, int], None]


# ---- phase 1: decisions ---------------------------------------------------------------------------------------------


def seeded_clone(strategy: Any, seed: int, name: str, fold: int) -> Any:
    """Unfitted twin whose every ``random_state`` (nested ones too) is drawn from (seed, name, fold).

    The numbers depend on these three and the parameter's own name, and on nothing else: not on the number of workers,
    not on the other strategies of the run.
    """
    from sklearn.base import clone

    twin = clone(strategy)
    states = sorted(key for key in twin.get_params(deep=True) if key.split("__")[-1].endswith("random_state"))
    drawn = {}
    for key in states:
        entropy = [seed, fold, *hashlib.sha256(f"{name}\x1f{key}".encode()).digest()[:8]]
        drawn[key] = int(np.random.SeedSequence(entropy).generate_state(1)[0] % (2**31 - 1))
    return twin.set_params(**drawn)


def fold_tasks(
    strategies: Mapping[str, Strategy],
    panel: Panel,
    schedule: WalkForward,
    seed: int = 0,
    *,
    execution: str = "next_close",
    allow_contaminated: bool = False,
) -> list[FoldTask]:
    """The decision phase as independent tasks, in the order strategy, fold.

    Parameters
    ----------
    strategies : mapping of name to strategy
    panel : Panel
    schedule : WalkForward
    seed : int
    execution : str
        Only path-dependent strategies need it: what they hold depends on when they trade.
    allow_contaminated : bool
        Accept a strategy that has seen data from after its first decision.

    Raises
    ------
    HistoryError
        If the panel is too short for the schedule.
    """
    folds = schedule.folds(len(panel))
    tasks = []
    for name, strategy in strategies.items():
        groups = [tuple(folds)] if strategy.path_dependent else [(fold,) for fold in folds]
        for group in groups:
            start, stop = group[0].train[0], group[-1].test[1] - 1
            moved = tuple(_moved(fold, start) for fold in group)
            key = f"{name}-{group[0].number:04d}"
            rows = panel.rows(start, stop)
            tasks.append(FoldTask(key, name, strategy, rows, moved, seed, execution, allow_contaminated))
    return tasks


def _moved(fold: Fold, start: int) -> Fold:
    """The fold in the coordinates of a panel that begins at row ``start``."""
    return Fold(
        fold.number,
        (fold.train[0] - start, fold.train[1] - start),
        (fold.test[0] - start, fold.test[1] - start),
    )


def run_fold(task: FoldTask) -> FoldDecision:
    """Fit and decide: the decisions of a task.

    Raises
    ------
    LookAheadError
        If the fitted strategy has seen data from after its first decision.
    """
    return _decide_in_order(task) if task.strategy.path_dependent else _decide_fold(task)


def _fitted(task: FoldTask, fold: Fold) -> Any:
    model = seeded_clone(task.strategy, task.seed, task.name, fold.number).fit(task.panel.rows(*fold.train))
    until, first = _knowledge(model), task.panel.times[fold.test[0] - 1]
    if until is not None and until > first and not task.allow_contaminated:
        raise LookAheadError(
            f"'{task.name}' has seen data up to {until:%Y-%m-%d} and would decide at {first:%Y-%m-%d}; use it on later "
            "data, train one on earlier data, or set allow_contaminated = true and have the report say so"
        )
    return model


def _knowledge(model: Any) -> pd.Timestamp | None:
    return getattr(model, "knowledge_until_", None)


def _decide_fold(task: FoldTask) -> FoldDecision:
    (fold,) = task.folds
    model = _fitted(task, fold)
    times = task.panel.times[fold.test[0] - 1 : fold.test[1] - 1]
    weights = _checked(model.decide_many(task.panel, times), task, times)
    if weights.iloc[0].isna().all():  # a new model's first word: what it wants to hold, whatever is held
        first = model.decide(task.panel.asof(times[0]), None)
        if first is not None:
            weights.iloc[0] = first.reindex(weights.columns).fillna(0.0).to_numpy()
    predictions = model.predict(task.panel, times) if hasattr(model, "predict") else None
    attention = model.attention(task.panel, times) if hasattr(model, "attention") else None
    return FoldDecision(fold.number, weights, predictions, attention, _knowledge(model))


def _checked(weights: pd.DataFrame, task: FoldTask, times: pd.DatetimeIndex) -> pd.DataFrame:
    """Decisions must be one row a time, finite or NaN, and name assets of the panel."""
    unknown = [str(name) for name in weights.columns if name not in task.panel.assets]
    if unknown or not weights.index.equals(times):
        raise DataError(
            f"strategy '{task.name}' decided for {len(weights)} times and the assets {unknown[:3] or 'known'}; "
            f"expected one row for each of {len(times)} times and assets of the panel"
        )
    out = weights.reindex(columns=list(task.panel.assets))
    if np.isinf(out.to_numpy(dtype=float)).any():
        raise DataError(f"strategy '{task.name}' decided infinite weights")
    return out


def _decide_in_order(task: FoldTask) -> FoldDecision:
    """Bar by bar, each decision told what is held; the account that tells it trades without costs or limits."""
    panel = task.panel
    engine = Engine(panel.assets, SimulatedBroker(Costs.free()), (), task.execution)
    starts = {fold.test[0] - 1: fold for fold in task.folds}
    first, times, rows, known = task.folds[0].test[0] - 1, [], [], []
    model: Any = None

    def decide(bar: Any, account: Engine) -> np.ndarray | None:
        nonlocal model
        position = first + len(account.record)
        if position in starts:
            model = _fitted(task, starts[position])
            known.append(_knowledge(model))
        previous = None if account.wanted is None else pd.Series(account.held, index=list(panel.assets))
        wish = model.decide(panel.asof(bar.time), previous)
        times.append(bar.time)
        row = np.full(len(panel.assets), np.nan)
        if wish is not None:
            row = wish.reindex(list(panel.assets)).fillna(0.0).to_numpy(dtype=float)
        rows.append(row)
        return None if wish is None else row

    for bar in PanelFeed(panel, Costs.free(), first):
        engine.step(bar, decide)
    weights = pd.DataFrame(np.array(rows), index=pd.DatetimeIndex(times), columns=list(panel.assets))
    seen = [stamp for stamp in known if stamp is not None]
    return FoldDecision(task.folds[0].number, weights, knowledge_until=max(seen) if seen else None)


def decide_folds(
    tasks: Sequence[FoldTask],
    run_tasks: TaskRunner = serial,
    store: Store | None = None,
    progress: Progress | None = None,
) -> list[FoldDecision]:
    """Run the tasks; those the store already has are not run again.

    Returns
    -------
    list of FoldDecision
        In the order of the tasks.
    """
    done: dict[str, FoldDecision] = {}
    for task in tasks if store is not None else ():
        kept = store.get(task.key) if store is not None else None
        if kept is not None:
            done[task.key] = kept
    todo = [task for task in tasks if task.key not in done]
    for task, decision in zip(todo, run_tasks(run_fold, todo)):
        done[task.key] = decision
        if store is not None:
            store.put(task.key, decision)
        if progress is not None:
            progress(len(done), len(tasks))
    return [done[task.key] for task in tasks]


# ---- phase 2: simulation --------------------------------------------------------------------------------------------


def simulate(
    folds: Sequence[FoldDecision],
    panel: Panel,
    schedule: WalkForward | None = None,
    costs: Costs | Charge | None = None,
    limits: Sequence[Limit | Rule] = (),
    execution: str | None = None,
) -> BacktestResult:
    """Trade the decisions of all folds of one strategy.

    Returns
    -------
    BacktestResult
        Equity is 1.0 at the bar before the first test bar; one return for each test bar, whatever the strategy.

    Raises
    ------
    DataError
        If the decisions do not cover the test bars of the schedule exactly once.
    """
    plan = (schedule or WalkForward()).folds(len(panel))
    start, stop = plan[0].test[0] - 1, plan[-1].test[1]
    decided = pd.concat([fold.weights for fold in folds])
    expected = panel.times[start : stop - 1]
    if not decided.index.equals(expected):
        raise DataError(
            f"{len(decided)} decisions were made for {len(expected)} test bars; every test bar needs exactly one, "
            "made on the bar before it"
        )
    values = decided.reindex(columns=list(panel.assets)).to_numpy(dtype=float)
    given = ~np.isnan(values).all(axis=1)
    result = run_decisions(
        panel,
        np.arange(start, stop - 1)[given],
        np.nan_to_num(values[given]),
        costs=costs,
        limits=limits,
        execution=default_execution(panel) if execution is None else execution,
        start=start,
        stop=stop,
    )
    first = [panel.times[fold.test[0] - 1] for fold in plan]
    # A path-dependent strategy comes in one piece, with the cut-off of its last model.
    known = zip((fold.knowledge_until for fold in folds), first if len(folds) == len(plan) else first[-1:])
    late = any(until is not None and until > at for until, at in known)
    predictions = [fold.predictions for fold in folds if fold.predictions is not None]
    return replace(result, predictions=pd.concat(predictions) if predictions else None, contaminated=late)


def default_execution(panel: Panel) -> str:
    """The next open where there are opens, else the next close."""
    return "next_open" if "open" in panel.fields else "next_close"


def walk_forward(
    strategy: Strategy,
    panel: Panel,
    schedule: WalkForward | None = None,
    costs: Costs | Charge | None = None,
    limits: Sequence[Limit | Rule] = (),
    *,
    execution: str | None = None,
    seed: int = 0,
    name: str = "strategy",
    run_tasks: TaskRunner = serial,
    store: Store | None = None,
    progress: Progress | None = None,
    allow_contaminated: bool = False,
) -> BacktestResult:
    """Fit, decide, trade: the honest test of a strategy.

    Parameters
    ----------
    strategy : Strategy
        Cloned and seeded anew for each fold, fitted on the fold's training rows and on nothing else.
    panel : Panel
    schedule : WalkForward
        Default 504 training and 63 test bars.
    costs : Costs
        Default 5 bps commission.
    limits : sequence of Limit or Rule
        `PositionLimit`, `SectorLimit`, `GrossLimit`, `NetLimit`, `LiquidityLimit`, `TurnoverLimit`, `DrawdownLimit`,
        `ValueAtRiskLimit`, `CVaRLimit`, or constraints of the optimiser such as ``CVaR(0.95) <= 0.02``.
    execution : {"next_open", "next_close", "same_close"}
        When a decision is traded; default the next open where the panel has opens, else the next close.
    seed : int
        Same seed, same bits; on any number of workers.
    name : str
        Names the tasks in the store and enters the seed.
    run_tasks : TaskRunner
        Where independent folds run; `foliocast.runtime.compute.Compute` for processes or a cluster.
    store : Store, optional
        Keeps finished folds.
    progress : callable, optional
        Called with (finished, all) folds.
    allow_contaminated : bool
        Accept a fitted strategy that has seen data from after its first decision; the result is marked.

    Returns
    -------
    BacktestResult
        With one return for each test bar, `predictions` and the ledger.

    Raises
    ------
    HistoryError
        Too few bars for the schedule.
    LookAheadError
        The strategy knows more than it may.
    """
    schedule = WalkForward() if schedule is None else schedule
    execution = default_execution(panel) if execution is None else execution
    if execution == "next_open" and "open" not in panel.fields:
        raise ConfigError(f"execution = 'next_open' needs opens, '{panel.name}' has {', '.join(panel.fields)}")
    tasks = fold_tasks(
        {name: strategy}, panel, schedule, seed, execution=execution, allow_contaminated=allow_contaminated
    )
    folds = decide_folds(tasks, run_tasks, store, progress)
    return simulate(folds, panel, schedule, costs, limits, execution)
