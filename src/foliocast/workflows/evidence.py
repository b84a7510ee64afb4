"""What a result is worth: intervals, baselines, number of trials, audit; the content of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from foliocast.core.time import periods_per_year
from foliocast.runtime.compute import Compute
from foliocast.runtime.files import plain
from foliocast.runtime.trials import Trial, TrialLedger, spec_hash
from foliocast.stats import inference, measures
from foliocast.stats.bootstrap import headlines
from foliocast.trading.result import BacktestResult
from foliocast.trading.walkforward import FoldDecision
from foliocast.workflows.audit import AuditReport, check_cutoff, strategy_checks

if TYPE_CHECKING:
    from foliocast.workflows.plan import Plan

N_RESAMPLES = 1000


def weigh(
    work: Plan,
    decisions: dict[str, list[FoldDecision]],
    results: dict[str, BacktestResult],
    compute: Compute,
    run: str,
    report: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """The content of ``metrics.json``."""
    returns = pd.DataFrame({name: result.returns for name, result in results.items()})
    trials = _register(work, returns, run)
    return {
        "strategies": _strategies(work, results, returns, trials),
        "trials": len(trials),
        "pbo": _or_none(lambda: inference.pbo(returns)),
        "spa": _superiority(returns, work),
        "audit": fast_audit(work, decisions, compute, report).to_dict(),
        "forecasts": _forecasts(decisions, work),
    }


def _strategies(
    work: Plan, results: dict[str, BacktestResult], returns: pd.DataFrame, trials: list[Trial]
) -> dict[str, dict[str, Any]]:
    rows = returns.index
    held = pd.DataFrame({name: result.positions().shift(1).reindex(rows) > 0 for name, result in results.items()})
    flows = {
        key: pd.DataFrame({name: getattr(result, key).reindex(rows) for name, result in results.items()})
        for key in ("turnover", "cost")
    }
    heads = headlines(returns, held=held, flows=flows, n_resamples=N_RESAMPLES, rng=work.config.seed)
    out: dict[str, dict[str, Any]] = {}
    for name, result in results.items():
        out[name] = {
            **{key: {"value": i.value, "low": i.low, "high": i.high} for key, i in heads[name].items()},
            "total_return": float(result.equity.iloc[-1] - 1.0),
            "n_days": result.n_days,
            **_sharpe_inference(returns[name].to_numpy(), trials, periods_per_year(pd.DatetimeIndex(rows))),
            "baseline": name in work.config.baseline_names,
            "contaminated": result.contaminated,
            "limit_actions": len(result.actions()),
        }
    return out


def _sharpe_inference(r: np.ndarray, trials: list[Trial], periods: int) -> dict[str, Any]:
    """Standard error of the annual Sharpe ratio, and how sure one may be of it after so many trials."""
    sharpe, n, skew, kurt = inference.sharpe_moments(r)
    known = np.array([t.sharpe for t in trials if np.isfinite(t.sharpe)])
    spread = float(known.var(ddof=1)) if len(known) > 1 else 0.0
    error = _or_none(lambda: inference.sharpe_error(r, "hac"))
    return {
        "sharpe_standard_error": None if error is None else error * np.sqrt(periods),
        "probabilistic_sharpe": inference.probabilistic_sharpe(sharpe, n, skew, kurt),
        "deflated_sharpe": inference.deflated_sharpe(sharpe, n, max(1, len(trials)), spread, skew, kurt),
        "min_track_record": inference.min_track_record(sharpe, skew, kurt),
    }


def _register(work: Plan, returns: pd.DataFrame, run: str) -> list[Trial]:
    """Put this run's strategies into the ledger; all trials on the data set, these included."""
    config = work.config.model_dump(exclude={"name", "strategies", "baselines", "regimes", "search"})
    found = []
    for name in returns:
        r = returns[name].to_numpy()
        sharpe = float(r.mean() / r.std(ddof=1)) if r.std() > 0 else float("nan")
        spec = {"strategy": work.specs[str(name)], **plain(config)}
        found.append(Trial(work.source_hash, spec_hash(spec), str(name), sharpe, len(r), run))
    ledger = TrialLedger()
    ledger.record(found)
    return ledger.trials(work.source_hash)


def _superiority(returns: pd.DataFrame, work: Plan) -> dict[str, Any] | None:
    """Hansen's test: does any strategy beat the simplest baseline by more than the best of so many would by luck?"""
    benchmark = next((name for name in ("equal_weight", "buy_and_hold") if name in returns), None)
    others = [name for name in returns if name != benchmark]
    if benchmark is None or not others:
        return None
    found = _or_none(lambda: inference.spa_test(returns[others], returns[benchmark], seed=work.config.seed))
    return None if found is None else {"benchmark": benchmark, **found}


def fast_audit(
    work: Plan,
    decisions: dict[str, list[FoldDecision]],
    compute: Compute,
    report: Callable[[str, int, int], None],
) -> AuditReport:
    """The audit that every backtest runs: a fold of each strategy with its future rewritten, the cut-off of every
    model that decided, and the alignment of signals and returns."""
    folds = work.schedule.folds(len(work.panel))
    checks = strategy_checks(
        work.strategies, work.panel, folds, 1, work.execution, work.config.seed, compute, report, decisions
    )
    first = [work.panel.times[fold.test[0] - 1] for fold in folds]
    for name, found in decisions.items():
        # A path-dependent strategy is one piece with the cut-off of its last model.
        known = [(fold.knowledge_until, at) for fold, at in zip(found, first if len(found) > 1 else first[-1:])]
        checks.append(check_cutoff(f"{name}: knowledge cut-off of every fold", known))
    return AuditReport(tuple(checks))


def _forecasts(decisions: dict[str, list[FoldDecision]], work: Plan) -> dict[str, Any]:
    """Errors of the predicted next close beside persistence, and the rank correlation with outcomes year by year."""
    panel = work.panel
    close, after = panel.close(), panel.close().shift(-1)
    out: dict[str, Any] = {}
    for name, folds in decisions.items():
        frames = [fold.predictions for fold in folds if fold.predictions is not None]
        if not frames:
            continue
        predicted = pd.concat(frames).reindex(columns=list(panel.assets))
        now, then = close.reindex(predicted.index), after.reindex(predicted.index)
        there = (predicted.notna() & now.notna() & then.notna()).to_numpy()
        outcome, persistence = then.to_numpy()[there], now.to_numpy()[there]
        ic = measures.rank_ic(predicted, then / now - 1.0).dropna()
        out[name] = {
            **_errors(outcome, (now * (1.0 + predicted)).to_numpy()[there]),
            "persistence": _errors(outcome, persistence),
            "n": int(there.sum()),
            "rank_ic": {"value": float(ic.mean()), "standard_error": _standard_error(ic)} if len(ic) else None,
            "ic_by_year": {
                str(year): {"value": float(part.mean()), "standard_error": _standard_error(part)}
                for year, part in ic.groupby(pd.DatetimeIndex(ic.index).year)
            },
        }
    return out


def _errors(outcome: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    return {
        "mae": measures.mae(outcome, predicted),
        "mse": measures.mse(outcome, predicted),
        "rmse": measures.rmse(outcome, predicted),
        "mape": measures.mape(outcome, predicted),
    }


def _standard_error(values: pd.Series) -> float | None:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def _or_none(compute: Callable[[], Any]) -> Any:
    """A statistic that these data are too few or too flat for is absent, not invented."""
    try:
        value = compute()
    except (ValueError, ZeroDivisionError):
        return None
    return value
