"""A run folder as `backtest` writes it, from random numbers, for tests of what reads one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

NAMES = ("attention_lstm", "linear", "equal_weight", "inverse_volatility", "minimum_variance", "buy_and_hold")
ASSETS = ("AAPL", "AMZN", "GOOG", "META", "MSFT", "NFLX", "NVDA")


def make_run(folder: Path, n: int = 1500, names: tuple[str, ...] = NAMES, resamples: int = 100) -> Path:
    """Write every file of a run folder but the report."""
    from foliocast import stats

    rng = np.random.default_rng(0)
    dates = pd.bdate_range("2016-01-04", periods=n, name="date")
    common = rng.standard_t(5, n) * 0.007 * np.exp(0.4 * np.sin(np.arange(n) / 90))
    r = pd.DataFrame(
        {name: common * rng.uniform(0.5, 1.2) + rng.normal(0.0002 * k, 0.004, n) for k, name in enumerate(names)}, dates
    )
    r.iloc[0] = 0.0
    heads = stats.headlines(
        r.iloc[1:], n_resamples=resamples, flows={"turnover": r.abs().iloc[1:], "cost": r.abs()[1:] / 99}
    )
    table = {
        name: {
            **{key: interval._asdict() for key, interval in measures.items()},
            "n_days": n - 1,
            "deflated_sharpe": 0.1 + 0.13 * k,
            "min_track_record": 900.0 + k,
            "baseline": k > 1,
            "contaminated": False,
        }
        for k, (name, measures) in enumerate(heads.items())
    }
    error = {"mae": 1.41, "mse": 4.1, "rmse": 2.02, "mape": 0.0123}
    years = [str(y) for y in range(2016, 2022)]
    forecasts = {
        name: {
            **error,
            "persistence": error,
            "n": 8000,
            "rank_ic": {"value": 0.011, "standard_error": 0.008},
            "ic_by_year": {
                y: {"value": float(v), "standard_error": 0.02} for y, v in zip(years, rng.normal(0, 0.03, 6))
            },
        }
        for name in names[:2]
    }
    checks = [
        {"name": f"{name}: future rewritten", "passed": True, "detail": "0 of 63 decisions changed"} for name in names
    ]
    metrics = {
        "strategies": table,
        "trials": 14,
        "pbo": 0.43,
        "spa": {"benchmark": "equal_weight", "p_value": 0.37},
        "audit": {"passed": True, "checks": checks},
        "forecasts": forecasts,
    }
    about = {
        "id": folder.name,
        "name": "Six technology shares",
        "created": "2024-01-02T03:04:05+00:00",
        "seed": 7,
        "versions": {"foliocast": "0.1.0", "numpy": "2.3"},
        "data": {"name": "sample", "hash": "abc", "notice": "stale, for research", "assets": list(ASSETS), "n_bars": n},
        "schedule": {"train": 504, "test": 63},
        "execution": "next_open",
        "costs": {"commission_bps": 5.0},
        "limits": [{"type": "MaxDrawdown", "limit": 0.2}],
        "strategies": {name: f"Strategy({name!r})" for name in names},
        "knowledge_until": {names[0]: "2021-06-30"},
        "timings": {"decide": 3.2},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "run.json").write_text(json.dumps(about))
    (1 + r).cumprod().to_parquet(folder / "equity.parquet")
    _tables(folder, dates, names, rng)
    return folder


def _tables(folder: Path, dates: pd.DatetimeIndex, names: tuple[str, ...], rng: np.random.Generator) -> None:
    n, k = len(dates), len(ASSETS)
    long = {"date": np.repeat(dates, k), "asset": np.tile(ASSETS, n)}
    parts: dict[str, list[pd.DataFrame]] = {"weights": [], "trades": [], "predictions": []}
    for name in names:
        walk = np.abs(np.cumsum(rng.normal(0, 0.02, (n, k)), axis=0) + 0.3)
        share = walk / walk.sum(axis=1, keepdims=True) * 0.95
        parts["weights"].append(pd.DataFrame({**long, "strategy": name, "weight": share.ravel()}))
        size = np.abs(rng.normal(0, 1e-5, n * k))
        cost = {"commission": size, "spread": size / 2, "impact": size**2 * 1e4}
        parts["trades"].append(
            pd.DataFrame({**long, "strategy": name, "units": 1.0, "price": 1.0, **cost, "reason": "r"})
        )
    for name in names[:2]:
        guess = rng.normal(0, 0.01, n * k)
        outcome = 0.05 * guess + rng.normal(0, 0.01, n * k)
        parts["predictions"].append(pd.DataFrame({**long, "strategy": name, "prediction": guess, "outcome": outcome}))
    for name, tables in parts.items():
        pd.concat(tables).to_parquet(folder / f"{name}.parquet")
    label = np.array(["calm up", "calm down", "stressed"])[(np.sin(np.arange(n) / 90) * 1.4 + 1.5).astype(int)]
    p = (np.sin(np.arange(n) / 90) + 1) / 2
    pd.DataFrame({"date": dates, "regime": label, "p_0": p, "p_1": 1 - p}).to_parquet(folder / "regimes.parquet")
    lags = np.exp(-np.arange(30) / 8) * (1 + 0.5 * np.sin(np.arange(n)[:, None] / 60 + np.arange(30) / 5))
    lags /= lags.sum(axis=1, keepdims=True)
    look = {"date": np.repeat(dates, 30), "lag": np.tile(np.arange(30), n), "weight": lags.ravel()}
    pd.DataFrame({**look, "strategy": names[0]}).to_parquet(folder / "attention.parquet")
    action = {"date": dates[::200], "strategy": names[0], "limit": "MaxDrawdown", "reason": "drawdown 21 % above 20 %"}
    pd.DataFrame(action).to_parquet(folder / "actions.parquet")
