"""The tables of a run folder, long and plain, so that any tool can read them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from foliocast.core.panel import Panel
from foliocast.core.time import WalkForward
from foliocast.trading.result import BacktestResult
from foliocast.trading.walkforward import FoldDecision


def weights(results: dict[str, BacktestResult]) -> pd.DataFrame:
    """Weights held at each close: date, strategy, asset, weight; zero positions are left out."""
    parts = {name: _long(result.weights, "weight") for name, result in results.items()}
    table = _stacked(parts)
    return table[table["weight"] != 0.0].reset_index(drop=True)


def ledger(results: dict[str, BacktestResult], kind: str) -> pd.DataFrame:
    """A table of the ledger ("trades", "financing", "actions") of every strategy."""
    return _stacked({name: getattr(result, kind)() for name, result in results.items()})


def predictions(decisions: dict[str, list[FoldDecision]], panel: Panel) -> pd.DataFrame:
    """Predicted and realised return of the next bar: date (of the decision), strategy, asset, prediction, outcome."""
    outcome = panel.returns().shift(-1)
    parts = {}
    for name, folds in decisions.items():
        frames = [fold.predictions for fold in folds if fold.predictions is not None]
        if frames:
            table = _long(pd.concat(frames), "prediction")
            rows = panel.times.get_indexer(pd.DatetimeIndex(table["date"]))
            columns = pd.Index(panel.assets).get_indexer(pd.Index(table["asset"]))
            table["outcome"] = outcome.reindex(panel.times).to_numpy()[rows, columns]
            parts[name] = table
    return _stacked(parts, ["date", "strategy", "asset", "prediction", "outcome"])


def attention(decisions: dict[str, list[FoldDecision]]) -> pd.DataFrame:
    """Attention on the past, averaged over assets, lag by lag (0 = latest bar): strategy, date, lag, weight."""
    parts = {}
    for name, folds in decisions.items():
        frames = [fold.attention for fold in folds if fold.attention is not None]
        if frames:
            daily = pd.concat(frames).groupby(level="time").mean()
            table = _long(daily, "weight").rename(columns={"asset": "lag"})
            parts[name] = table.assign(lag=-table["lag"].astype(int))
    return _stacked(parts, ["strategy", "date", "lag", "weight"])


def regimes(panel: Panel, schedule: WalkForward) -> pd.DataFrame:
    """Regimes of the market, each fold's by models fitted on its training rows, filtered and never smoothed."""
    from foliocast.features.regimes import GaussianHMMRegime, VolatilityTrendRegime

    parts = []
    for fold in schedule.folds(len(panel)):
        train, known = panel.rows(*fold.train), panel.rows(fold.train[0], fold.test[1])
        rule = VolatilityTrendRegime().fit(train).transform(known).rename(columns={"regime": "rule"})
        states = GaussianHMMRegime(random_state=0).fit(train).transform(known)
        states = states.drop(columns="state").rename(columns=lambda name: name.replace("probability", "p"))
        parts.append(pd.concat([rule, states], axis=1).iloc[-(fold.test[1] - fold.test[0]) :])
    table = pd.concat(parts).rename_axis("date").reset_index()
    return table.assign(rule=table["rule"].astype(object).where(table["rule"].notna(), None))


def _long(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """Wide (time x asset) as rows of date, asset, value; NaN rows are dropped."""
    values = frame.to_numpy(float)
    times = np.repeat(frame.index.to_numpy(), values.shape[1])
    names = np.tile(np.asarray(frame.columns, dtype=object), len(frame))
    table = pd.DataFrame({"date": times, "asset": names, value: values.ravel()})
    return table[np.isfinite(table[value])].reset_index(drop=True)


def _stacked(parts: dict[str, pd.DataFrame], columns: list[str] | None = None) -> pd.DataFrame:
    rows = [table.assign(strategy=name) for name, table in parts.items() if len(table)]
    if not rows:
        return pd.DataFrame(columns=columns or ["date", "strategy", "asset"])
    table = pd.concat(rows, ignore_index=True)
    return table if columns is None else table[columns]
