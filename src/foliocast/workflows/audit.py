"""The look-ahead audit: rewrite the future, and see whether the past decides otherwise.

What is put to the test is not the code's good intention but its bits: everything after a time *t* is replaced by other
values, the whole procedure runs again, and every decision up to *t* must come out identical.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError, LookAheadError
from foliocast.core.market import Universe
from foliocast.core.panel import Panel
from foliocast.core.protocols import TaskRunner, serial
from foliocast.core.time import Fold, WalkForward
from foliocast.runtime.progress import Report, silent
from foliocast.stats.measures import rank_ic

if TYPE_CHECKING:
    from foliocast.trading.walkforward import FoldDecision
    from foliocast.workflows.config import Config

SUSPICIOUS_IC = 0.2  # daily equity models that work reach 0.04 to 0.054; an oracle has 1


@dataclass(frozen=True)
class Check:
    """One thing that was tested."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class AuditReport:
    """The verdict of an audit and what it rests on."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in ``metrics.json``."""
        checks = [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in self.checks]
        return {"passed": self.passed, "checks": checks}

    def __repr__(self) -> str:
        lines = [f"AuditReport({'passed' if self.passed else 'FAILED'})"]
        lines += [f"  {'ok  ' if c.passed else 'FAIL'} {c.name}: {c.detail}" for c in self.checks]
        return "\n".join(lines)


def audit(
    strategy: Any,
    panel: Panel,
    *,
    schedule: WalkForward | None = None,
    cuts: int = 6,
    execution: str = "next_close",
    seed: int = 0,
) -> AuditReport:
    """Prove that a procedure does not look ahead, or show where it does.

    Parameters
    ----------
    strategy : object
        Anything that goes from a `Panel` to rows in time: a strategy (``fit``, ``decide_many``) or forecaster (``fit``,
        ``predict``), which are walked forward over ``schedule``; or a feature or plain function
        ``panel -> DataFrame | ndarray`` (rows = bars), the form of a notebook, which is handed the whole panel.
    panel : Panel
    schedule : WalkForward, optional
        For what is fitted; by default a quarter of the panel trains and the rest is tested in four folds.
    cuts : int
        How many times the future is rewritten.
    execution : {"next_open", "next_close", "same_close"}
        With "same_close" the high, low and volume of the decision bar itself are rewritten too: they are not known
        when an order for that close has to be in.
    seed : int

    Returns
    -------
    AuditReport
    """
    if _is_walked(strategy):
        folds = (schedule or _default_schedule(panel)).folds(len(panel))
        tasks = fold_tasks("audit", strategy, panel, folds, cuts, execution, seed)
        checks = list(fold_checks("", map(run_task, tasks)))
    else:
        checks = _audit_function(strategy, panel, cuts, execution, seed)
    checks.append(alignment(panel, execution))
    return AuditReport(tuple(checks))


def _audit_function(target: Any, panel: Panel, cuts: int, execution: str, seed: int) -> list[Check]:
    """A procedure that is handed the whole panel: its rows up to a cut must not know what comes after."""
    rng = np.random.default_rng(seed)
    first = _rows(target, panel)
    checks = [_same("repeatable", first, _rows(target, panel), panel.times[-1], "two runs on the same data")]
    for cut in _cut_times(first, panel, cuts):
        other = _rows(target, rewrite_future(panel, cut, rng, execution))
        checks.append(_same(f"future after {cut:%Y-%m-%d} rewritten", first, other, cut, "the rows up to it"))
    checks.append(_plausible_skill("plausible skill", first, panel))
    return checks


@dataclass(frozen=True)
class FoldAudit:
    """One fold, run on the record and on a record whose future after ``cut`` is rewritten. Picklable."""

    name: str
    strategy: Any
    panel: Panel
    fold: Fold
    cut: pd.Timestamp
    execution: str
    seed: int
    recorded: pd.DataFrame | None = None


def fold_tasks(
    name: str,
    strategy: Any,
    panel: Panel,
    folds: list[Fold],
    cuts: int,
    execution: str,
    seed: int,
    recorded: Sequence[FoldDecision] = (),
) -> list[FoldAudit]:
    """Cuts in the middle of folds that are spread over the record; each fold is cut elsewhere.

    With what a run has ``recorded`` of each fold only the rewritten future has to be run.
    """
    chosen = sorted({int(k) for k in np.linspace(0, len(folds) - 1, cuts)})
    tasks = []
    for order, number in enumerate(chosen):
        fold = folds[number]
        share = (order + 1) / (len(chosen) + 1)
        cut = panel.times[fold.test[0] - 1 + int(share * (fold.test[1] - 1 - fold.test[0]))]
        rows = panel.rows(fold.train[0], fold.test[1])
        said = said_rows(recorded[number]) if len(recorded) == len(folds) else None
        tasks.append(FoldAudit(name, strategy, rows, _shifted(fold), cut, execution, seed, said))
    return tasks


def _shifted(fold: Fold) -> Fold:
    """The fold in the coordinates of a panel that begins with its first training row."""
    start = fold.train[0]
    return Fold(fold.number, (0, fold.train[1] - start), (fold.test[0] - start, fold.test[1] - start))


@dataclass(frozen=True)
class FoldResult:
    """Rows of a fold on the record, again on the record, and with the future rewritten; the model's cut-off."""

    task: FoldAudit
    first: pd.DataFrame
    again: pd.DataFrame
    other: pd.DataFrame
    knowledge_until: pd.Timestamp | None


def run_task(task: FoldAudit) -> FoldResult:
    """Fit and decide on a rewritten future; on the record too, unless the run has kept what it said there."""
    rng = np.random.default_rng([task.seed, task.fold.number])
    changed = rewrite_future(task.panel, task.cut, rng, task.execution)
    other, until = _walked(task, changed)
    if task.recorded is not None:
        return FoldResult(task, task.recorded, task.recorded, other, until)
    first, again = (_walked(task, task.panel)[0] for _ in range(2))
    return FoldResult(task, first, again, other, until)


def fold_checks(label: str, results: Iterable[FoldResult]) -> Iterable[Check]:
    """The verdicts on audited folds of one strategy."""
    found = list(results)
    for r in found:
        number, when = r.task.fold.number, f"{r.task.cut:%Y-%m-%d}"
        last = r.first.index[-1]
        yield _same(f"{label}repeatable (fold {number})", r.first, r.again, last, "two runs on the same data")
        yield _same(f"{label}future after {when} rewritten", r.first, r.other, r.task.cut, "decisions and predictions")
    yield check_cutoff(f"{label}knowledge cut-off", [(r.knowledge_until, r.first.index[0]) for r in found])
    for r in found[-1:]:
        yield _plausible_skill(f"{label}plausible skill", r.first, r.task.panel)


def strategy_checks(
    strategies: Mapping[str, Any],
    panel: Panel,
    folds: list[Fold],
    cuts: int,
    execution: str,
    seed: int,
    run_tasks: TaskRunner = serial,
    report: Report = silent,
    recorded: Mapping[str, Sequence[FoldDecision]] | None = None,
) -> list[Check]:
    """All checks of several strategies; a user's function is audited in the form of a notebook, with all the data."""
    tasks, checks = [], []
    for name, strategy in strategies.items():
        function = getattr(strategy, "function", None)
        if callable(function):
            own = _audit_function(function, panel, max(3, cuts), execution, seed)
            checks += [replace(check, name=f"{name}: {check.name}") for check in own]
        else:
            kept = () if recorded is None else recorded.get(name, ())
            tasks += fold_tasks(name, strategy, panel, folds, cuts, execution, seed, kept)
    found: dict[str, list[FoldResult]] = {}
    report("audit", 0, len(tasks))
    for done, result in enumerate(run_tasks(run_task, tasks), start=1):
        found.setdefault(result.task.name, []).append(result)
        report("audit", done, len(tasks))
    for name, results in found.items():
        checks += fold_checks(f"{name}: ", results)
    return [*checks, alignment(panel, execution)]


def audit_config(config: Config, cuts: int = 6, jobs: int = 0, report: Report = silent) -> AuditReport:
    """Audit every strategy of a config on its own data, schedule and fill convention."""
    from foliocast.runtime.compute import Compute
    from foliocast.workflows.plan import plan

    work = plan(config)
    folds = work.schedule.folds(len(work.panel))
    checks = strategy_checks(
        work.strategies, work.panel, folds, cuts, work.execution, config.seed, Compute(jobs), report
    )
    return AuditReport(tuple(checks))


def rewrite_future(panel: Panel, cut: pd.Timestamp, rng: np.random.Generator, execution: str = "next_close") -> Panel:
    """The same past, another future: every value and every membership after ``cut`` is replaced.

    Rows are drawn anew from the whole record and rescaled, so that levels, order, volatility and gaps all change.
    """
    stop = panel.position(cut) + 1
    fields = {key: panel.array(key).copy() for key in panel.fields}
    n_later = len(panel) - stop
    if n_later:
        rows = rng.integers(0, len(panel), n_later)
        scale = np.exp(rng.normal(0.0, 0.3, (n_later, len(panel.assets))).cumsum(axis=0) * 0.1 + 0.5)
        for values in fields.values():
            values[stop:] = values[rows] * scale
    if execution == "same_close":
        for key in set(fields) & {"high", "low", "volume"}:
            fields[key][stop - 1] *= np.exp(rng.normal(0.5, 0.3, len(panel.assets)))
    mask = panel.universe.mask.copy()
    mask[stop:] = rng.random(mask[stop:].shape) < 0.7
    return panel.replace(fields, universe=Universe(mask))


def alignment(panel: Panel, execution: str) -> Check:
    """An oracle on the user's own data and fill convention earns what it should, its negative loses it, and the same
    signal one bar late earns next to nothing."""
    from foliocast.trading.costs import Costs
    from foliocast.trading.fast import backtest

    if execution == "next_open":
        execution = "next_close"  # the lag of a bar is what is tested; opens only move the price of the fill
    prices = panel.close().iloc[:, [int(np.isfinite(panel.array()).sum(axis=0).argmax())]].dropna()
    returns = prices.pct_change().to_numpy()[:, 0]
    lag = 1 if execution == "same_close" else 2
    sign = np.zeros(len(prices))
    sign[:-lag] = np.sign(returns[lag:])
    wealth = {}
    for name, signal in (("oracle", sign), ("anti-oracle", -sign), ("late", np.r_[0.0, sign[:-1]])):
        weights = pd.DataFrame(signal[:, None], index=prices.index, columns=prices.columns)
        wealth[name] = float(
            backtest(weights, prices, costs=Costs(commission_bps=0.0), execution=execution).equity.iloc[-1]
        )
    earned = np.abs(returns[lag:])
    expected = {"oracle": np.prod(1 + earned), "anti-oracle": np.prod(1 - earned)}
    off = max(abs(wealth[k] / expected[k] - 1) for k in expected)
    late = np.log(wealth["late"]) / np.log(wealth["oracle"])
    detail = f"(anti-)oracle within {off:.0e} of the closed form; one bar late earns {late:.1%} of the oracle's growth"
    return Check("alignment of signals and returns", bool(off < 1e-9 and abs(late) < 0.2), detail)


def _is_walked(target: Any) -> bool:
    """Whether the thing is fitted on training rows and then asked bar by bar."""
    known = hasattr(target, "decide_many") or (hasattr(target, "fit") and hasattr(target, "predict"))
    if not known and not hasattr(target, "transform") and not callable(target):
        raise ConfigError(
            f"cannot audit a {type(target).__name__}: expected a strategy, a forecaster, a feature, or a function from "
            "a panel to rows in time"
        )
    return known


def _rows(target: Any, panel: Panel) -> pd.DataFrame:
    return _as_rows(_called(target, panel), panel)


def _called(target: Any, panel: Panel) -> Any:
    if hasattr(target, "transform"):
        return (target.fit(panel) if hasattr(target, "fit") else target).transform(panel)
    return target(panel)


def _as_rows(result: Any, panel: Panel) -> pd.DataFrame:
    if isinstance(result, pd.Series):
        result = result.to_frame()
    if isinstance(result, pd.DataFrame):
        return result
    values = np.asarray(result)
    if values.ndim == 0 or len(values) != len(panel):
        raise ConfigError(
            f"the function returned shape {values.shape}; the audit needs one row for each of {len(panel)} bars"
        )
    return pd.DataFrame(values.reshape(len(panel), -1), index=panel.times)


def _walked(task: FoldAudit, panel: Panel) -> tuple[pd.DataFrame, pd.Timestamp | None]:
    """Rows of the fold and the model's cut-off: strategies as the engine runs them, others by `decisions`."""
    from foliocast.trading.walkforward import FoldTask, run_fold, seeded_clone

    if hasattr(task.strategy, "path_dependent"):
        known = panel.rows(0, task.fold.test[1] - 1)
        done = run_fold(FoldTask("", task.name, task.strategy, known, (task.fold,), task.seed, task.execution, True))
        return said_rows(done), done.knowledge_until
    model = seeded_clone(task.strategy, task.seed, task.name, task.fold.number).fit(panel.rows(*task.fold.train))
    return decisions(model, panel, task.fold), getattr(model, "knowledge_until_", None)


def said_rows(decision: FoldDecision) -> pd.DataFrame:
    """Weights and predictions of a fold side by side."""
    parts = {"weight": decision.weights}
    if decision.predictions is not None:
        parts["prediction"] = decision.predictions
    return pd.concat(parts, axis=1)


def decisions(model: Any, panel: Panel, fold: Fold) -> pd.DataFrame:
    """What a fitted model decides, and predicts, at the bars of a fold."""
    times = panel.times[fold.test[0] - 1 : fold.test[1] - 1]
    known = panel.rows(0, fold.test[1] - 1)
    parts = {}
    if hasattr(model, "decide_many"):
        parts["weight"] = model.decide_many(known, times)
    if hasattr(model, "predict"):
        parts["prediction"] = model.predict(known, times)
    return pd.concat(parts, axis=1)


def _default_schedule(panel: Panel) -> WalkForward:
    train = max(30, len(panel) // 4)
    return WalkForward(train=train, test=max(1, -(-(len(panel) - train) // 4)))


def _cut_times(result: pd.DataFrame, panel: Panel, cuts: int) -> Iterable[pd.Timestamp]:
    """Spread over the rows that say something: before the first, nothing could leak."""
    said = result.index[result.notna().any(axis=1)]
    said = said[said < panel.times[-1]]
    if not len(said):
        raise ConfigError("the procedure says nothing at all: every row is empty, there is nothing to audit")
    return [said[int(k)] for k in np.linspace(0.1, 0.95, cuts) * (len(said) - 1)]


def _same(name: str, first: pd.DataFrame, second: pd.DataFrame, until: pd.Timestamp, what: str) -> Check:
    """Compare to the bit; NaN equals NaN."""
    left, right = first.loc[:until], second.loc[:until]
    if left.shape != right.shape or not left.index.equals(right.index):
        return Check(name, False, f"{what} changed shape from {left.shape} to {right.shape}")
    a, b = left.to_numpy(dtype=float), right.to_numpy(dtype=float)
    changed = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    if changed.any():
        row = int(np.flatnonzero(changed.any(axis=1))[-1])
        count, when = int(changed.any(axis=1).sum()), left.index[row]
        return Check(
            name, False, f"{count} of {len(left)} rows changed, the last at {when:%Y-%m-%d}: it has seen the future"
        )
    return Check(name, True, f"{what} are the same to the bit ({len(left)} rows)")


def _plausible_skill(name: str, result: pd.DataFrame, panel: Panel) -> Check:
    """Whatever is decided at a bar must not line up with the next return as only an oracle could."""
    part = result["weight"] if isinstance(result.columns, pd.MultiIndex) and "weight" in result.columns else result
    if list(part.columns) != list(panel.assets) or len(panel.assets) < 2:
        return Check(name, True, "not applicable: the rows are not one number an asset")
    daily = rank_ic(pd.DataFrame(part), panel.returns().shift(-1)).dropna()
    ic, error = float(daily.mean()), float(daily.std() / max(1.0, np.sqrt(len(daily))))
    if len(daily) < 20:
        return Check(name, True, "not applicable: the rows hardly differ between assets")
    detail = f"mean daily rank correlation with the next return {ic:+.3f} ± {error:.3f}"
    return Check(name, not (ic > SUSPICIOUS_IC and ic > 6 * error), detail)


def check_cutoff(name: str, knowledge: Iterable[tuple[pd.Timestamp | None, pd.Timestamp]]) -> Check:
    """No fitted model was used before the date up to which it has seen data.

    Parameters
    ----------
    name : str
    knowledge : iterable of (knowledge_until, first_decision)
    """
    pairs = list(knowledge)
    late = [(k, t) for k, t in pairs if k is not None and k > t]
    if late:
        return Check(
            name, False, f"{len(late)} folds decide before their model's cut-off, the first at {late[0][1]:%Y-%m-%d}"
        )
    return Check(name, True, f"{len(pairs)} folds decide at or after the cut-off of their model")


def refuse_early(
    knowledge_until: pd.Timestamp | None, decision: pd.Timestamp, what: str, allowed: bool = False
) -> None:
    """Raise if an artefact is about to be used before the end of the data that shaped it."""
    if knowledge_until is not None and decision < knowledge_until and not allowed:
        raise LookAheadError(
            f"{what} has seen data up to {knowledge_until:%Y-%m-%d} and would decide at {decision:%Y-%m-%d}; "
            "use it later, train one on earlier data, or set allow_contaminated = true and have the report say so"
        )
