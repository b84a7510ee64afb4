"""Which forecaster ranks assets best: walk-forward rank correlations with standard errors, beside the linear one.

Every model is refitted on the same rows and judged on the same days; nobody is judged on a day that it was fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.panel import Panel
from foliocast.core.protocols import Forecaster, TaskRunner, serial
from foliocast.core.time import Fold, WalkForward
from foliocast.features.transforms import REGISTRY
from foliocast.stats.inference import mean_error
from foliocast.stats.measures import rank_ic
from foliocast.workflows.config import DataConfig, ScheduleConfig, Table, build, checked, read_toml

REFERENCE = "linear"
SUSPICIOUS = 0.06  # a daily rank correlation above this is a leak until proved otherwise
CONTEXT = 260  # bars before the test rows that features and windows may reach back to
FEATURES = (
    "log_return",
    "momentum_5",
    "momentum_20",
    "momentum_60",
    "momentum_120",
    "volatility_10",
    "volatility_30",
    "volume_z",
    "log_range",
    "overnight",
    "intraday",
    "close_in_range",
)
_NET = {"cross_section": True, "volatility": "ewma", "window": 20, "batch_size": 512, "max_steps": 200, "lr": 3e-3}
_LSTM = {**_NET, "hidden": 32, "layers": 1}
_DATES = {"batch_size": 4, "max_steps": 100}  # a batch of dates holds all their assets
_ACROSS = {**_NET, "batch_size": 4, "max_steps": 400}  # steps: chosen on rows before the first day that is judged
# the forecasters of the table: small and bounded in steps, so that twenty years of 500 stocks take minutes
DEFAULTS: dict[str, dict[str, Any]] = {
    REFERENCE: {"type": "LinearForecaster", "cross_section": True, "volatility": "ewma"},
    "linear_5": {"type": "LinearForecaster", "cross_section": True, "volatility": "ewma", "ahead": 5},
    "trees": {"type": "TreesForecaster", "cross_section": True, "volatility": "ewma", "min_samples": 1000},
    "lstm": {"type": "LSTMForecaster", **_LSTM},
    "lstm_ranked": {"type": "LSTMForecaster", **_LSTM, **_DATES, "rank_weight": 1.0},
    "attention_lstm": {"type": "AttentionLSTM", **_LSTM, "max_steps": 1000},
    "transformer": {"type": "TransformerForecaster", **_NET, "patch": 10, "stride": 10, "width": 16, "layers": 1},
    "cross_asset": {"type": "CrossAssetTransformer", **_ACROSS},
    "cross_asset_ranked": {"type": "CrossAssetTransformer", **_ACROSS, "rank_weight": 1.0},
    "mean": {"type": "NaiveForecaster", "kind": "mean", "volatility": "ewma"},
    "last": {"type": "NaiveForecaster", "kind": "last", "volatility": "ewma"},
}


class RankConfig(Table):
    """What is ranked, by whom, when. Without ``models`` the forecasters of `DEFAULTS`."""

    seed: int = 0
    data: DataConfig = Field(default_factory=DataConfig)
    schedule: ScheduleConfig = ScheduleConfig(train=1008, test=1008)
    horizons: tuple[int, ...] = (1, 5)
    models: dict[str, dict[str, Any]] = Field(default_factory=dict)


def load_rank_config(path: str | Path) -> RankConfig:
    """A TOML file with ``[data]``, ``[schedule]``, ``horizons`` and tables ``[models.NAME]``.

    Raises
    ------
    ConfigError
        No such file, not TOML, or a key that does not exist.
    """
    if not Path(path).is_file():
        raise ConfigError(f"no config file at {path}; give a TOML file, or leave it out for all forecasters")
    return checked(RankConfig, read_toml(Path(path)), Path(path).name)


@dataclass(frozen=True)
class RankTask:
    """One model and fold; holds the rows it may see and no others (the outcomes of its last days among them)."""

    name: str
    horizons: tuple[int, ...]
    forecaster: Any
    panel: Panel
    fold: Fold
    audited: bool


@dataclass(frozen=True)
class RankCard:
    """Rank correlations of several forecasters on the same days.

    Attributes
    ----------
    table : DataFrame
        A row a model and horizon: ``rank_ic`` (mean over days), its Newey-West ``standard_error``, ``icir`` (mean over
        standard deviation of the days), ``positive`` (share of days), ``days``, ``assets`` (median a day), the
        difference to the linear forecaster with its standard error, and ``audit``.
    daily : dict of (str, int) to Series
        Rank correlation by day, by model and horizon.
    """

    table: pd.DataFrame
    daily: dict[tuple[str, int], pd.Series] = field(repr=False)


def make_models(tables: Mapping[str, Mapping[str, Any]], panel: Panel) -> dict[str, Any]:
    """Unfitted forecasters from tables with a ``type``; those of `DEFAULTS` where there are none.

    The defaults look at those of `FEATURES` whose fields the panel has.
    """
    if tables:
        return {name: build(table, f"models.{name}") for name, table in tables.items()}
    names = [name for name in FEATURES if set(REGISTRY[name].needs) <= set(panel.fields)]
    made = {name: build(table, f"models.{name}") for name, table in DEFAULTS.items()}
    return {
        name: model.set_params(features=names) if "features" in model.get_params() else model
        for name, model in made.items()
    }


def rank_table(
    models: Mapping[str, Forecaster],
    panel: Panel,
    schedule: WalkForward | None = None,
    horizons: Sequence[int] = (1, 5),
    seed: int = 0,
    run_tasks: TaskRunner = serial,
) -> RankCard:
    """Walk forward: refit, rank the members of every day, compare with what came.

    Parameters
    ----------
    models : mapping of name to forecaster
        Unfitted; cloned for each fold. Each is judged at every horizon by the same predictions.
    panel : Panel
        Only members of its universe are ranked.
    schedule : WalkForward, optional
        Default: four years of training, refitted every four years.
    horizons : sequence of int
        Bars over which the realised return is taken (close to close, compounded).
    seed : int
        Every fold of every model has its own, drawn from this and the fold.
    run_tasks : TaskRunner

    Returns
    -------
    RankCard

    Raises
    ------
    HistoryError
        Fewer bars than the schedule needs, or fewer than three members a day.
    """
    if not models or min(horizons, default=0) < 1:
        raise ConfigError(
            f"{len(models)} models and horizons {tuple(horizons)}: name a model and horizons of 1 or more"
        )
    folds = (schedule or WalkForward(1008, 1008)).folds(len(panel))
    tasks = [task for fold in folds for task in _tasks(models, panel, fold, horizons, seed, fold is folds[-1])]
    parts: dict[tuple[str, int], list[pd.Series]] = {}
    audits: dict[str, bool] = {}
    for task, (found, passed) in zip(tasks, run_tasks(_run, tasks)):
        for horizon, daily in found.items():
            parts.setdefault((task.name, horizon), []).append(daily)
        audits[task.name] = audits.get(task.name, True) and passed
    whole = {key: pd.concat(found) for key, found in parts.items()}
    if all(series.notna().sum() < 3 for series in whole.values()):
        raise HistoryError(f"'{panel.name}' has no day with three members and their returns: nothing can be ranked")
    return RankCard(_table(whole, audits, panel), whole)


def _tasks(
    models: Mapping[str, Any], panel: Panel, fold: Fold, horizons: Sequence[int], seed: int, last: bool
) -> list[RankTask]:
    from sklearn.base import clone

    begin = max(0, min(fold.train[0], fold.test[0] - CONTEXT))
    stop = min(len(panel), fold.test[1] + max(horizons))  # the outcomes of the last days
    rows = panel.rows(begin, stop)
    local = Fold(
        fold.number,
        (fold.train[0] - begin, fold.train[1] - begin),
        (fold.test[0] - begin, fold.test[1] - begin),
    )
    own = int(np.random.SeedSequence([seed, fold.number]).generate_state(1)[0])
    out = []
    for name, model in models.items():
        twin = clone(model)
        if "random_state" in twin.get_params():
            twin.set_params(random_state=own)
        out.append(RankTask(name, tuple(horizons), twin, rows, local, last))
    return out


def _run(task: RankTask) -> tuple[dict[int, pd.Series], bool]:
    """Rank correlation of each test day by horizon, and whether a rewritten future left the predictions alone."""
    panel, (low, high) = task.panel, task.fold.test
    fitted = task.forecaster.fit(panel.rows(*task.fold.train))
    known = panel.rows(0, high)
    predicted = fitted.predict(known, known.times[low:])
    found = {}
    for horizon in task.horizons:
        realised = pd.DataFrame(_outcomes(panel, low, high, horizon), predicted.index, predicted.columns)
        found[horizon] = rank_ic(predicted, realised)
    return found, not task.audited or _unmoved(fitted, known, predicted, low)


def _outcomes(panel: Panel, low: int, high: int, horizon: int) -> np.ndarray:
    """Return of the members over the bars that follow each of these rows, (time, asset); NaN beyond the panel."""
    close = panel.array("close")
    out = np.full((high - low, panel.shape[1]), np.nan)
    days = max(0, min(high, len(panel) - horizon) - low)
    out[:days] = close[low + horizon : low + horizon + days] / close[low : low + days] - 1.0
    return np.where(panel.universe.mask[low:high], out, np.nan)


def _unmoved(fitted: Any, panel: Panel, predicted: pd.DataFrame, low: int) -> bool:
    """Whether predictions up to a day stay the same to the bit when every value after that day is another one."""
    cut = low + (len(panel) - low) // 2
    rng = np.random.default_rng(0)
    fields = {name: panel.array(name).copy() for name in panel.fields}
    for values in fields.values():
        values[cut + 1 :] *= rng.uniform(0.5, 2.0, values[cut + 1 :].shape)
    days = panel.times[max(low, cut - 4) : cut + 1]
    again = fitted.predict(panel.replace(fields), days)
    return bool(again.to_numpy().tobytes() == predicted.loc[days].to_numpy().tobytes())


def _table(daily: Mapping[tuple[str, int], pd.Series], audits: Mapping[str, bool], panel: Panel) -> pd.DataFrame:
    rows = []
    for (name, horizon), series in daily.items():
        other = daily.get((REFERENCE, horizon)) if name != REFERENCE else None
        counts = panel.universe.mask[panel.times.get_indexer(series.index)].sum(axis=1)
        row = {"model": name, "horizon": horizon, **_figures(series, other, horizon), "assets": int(np.median(counts))}
        looks = "passed, but look twice" if row["rank_ic"] > SUSPICIOUS else "passed"
        rows.append({**row, "audit": looks if audits[name] else "FAILED"})
    return pd.DataFrame(rows).sort_values(["horizon", "rank_ic"], ascending=[True, False], ignore_index=True)


def _figures(series: pd.Series, other: pd.Series | None, horizon: int) -> dict[str, Any]:
    """Mean, error and the like of daily rank correlations, and the same of their difference to the other's."""
    lags = max(horizon - 1, int(4 * (len(series) / 100) ** (2 / 9)))
    ic = series.dropna()
    gap = pd.Series(dtype=float) if other is None else (series - other).dropna()
    return {
        "rank_ic": float(ic.mean()) if len(ic) else float("nan"),
        "standard_error": mean_error(ic, lags) if len(ic) > 1 else float("nan"),
        "icir": float(ic.mean() / ic.std()) if len(ic) > 2 and ic.std() > 0 else float("nan"),
        "positive": float((ic > 0).mean()),
        "days": len(ic),
        "beyond_linear": float(gap.mean()) if len(gap) > 1 else None,
        "beyond_linear_error": mean_error(gap, lags) if len(gap) > 1 else None,
    }
