"""What a run folder holds, read back for the report and for whoever compares runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.errors import DataError
from foliocast.core.time import periods_per_year
from foliocast.workflows.charts import Line


@dataclass(frozen=True)
class Run:
    """Everything a run folder holds; tables that were not written are empty."""

    folder: Path
    about: dict[str, Any]
    metrics: dict[str, Any]
    equity: pd.DataFrame
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Run:
        """
        Raises
        ------
        DataError
            If the folder holds no metrics.
        """
        if not (folder / "metrics.json").is_file():
            raise DataError(f"'{folder}' has no metrics.json, so there is nothing to report; is the run finished?")
        names = ("weights", "trades", "financing", "actions", "predictions", "regimes", "attention")
        equity = _table(folder / "equity.parquet")
        if "date" in equity:
            equity = equity.set_index("date")
        if len(equity):
            equity.index = pd.DatetimeIndex(equity.index)
        return cls(
            folder,
            _json(folder / "run.json"),
            _json(folder / "metrics.json"),
            equity,
            {name: _table(folder / f"{name}.parquet") for name in names},
        )

    @cached_property
    def strategies(self) -> dict[str, dict[str, Any]]:
        """Metrics by strategy, the highest Sharpe ratio first; those without one last."""
        found = self.metrics.get("strategies") or {}
        order = sorted(found, key=lambda name: -_or(estimate(found[name].get("sharpe"))[0], -np.inf))
        return {name: found[name] for name in order}

    @cached_property
    def dates(self) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(self.equity.index)

    @cached_property
    def periods(self) -> int:
        return periods_per_year(self.dates)

    @cached_property
    def returns(self) -> pd.DataFrame:
        return self.equity.pct_change().iloc[1:]

    def colour(self, name: str) -> int:
        """Place in the palette; what is judged comes before the baselines."""
        judged = sorted(self.strategies, key=lambda key: bool(self.strategies[key].get("baseline")))
        return judged.index(name) if name in judged else len(judged)

    def line(self, name: str, values: np.ndarray) -> Line:
        return Line(name, values, self.colour(name), bool(self.strategies.get(name, {}).get("baseline")))

    def of(self, table: str, strategy: str | None = None) -> pd.DataFrame:
        """Rows of a long table, of one strategy."""
        rows = self.tables.get(table, pd.DataFrame())
        return rows if strategy is None or "strategy" not in rows else rows[rows["strategy"] == strategy]


def estimate(entry: Any) -> tuple[float | None, float | None, float | None]:
    """Value, low and high of an entry of metrics.json, which may be a number, a mapping or missing."""
    parts = (entry.get("value"), entry.get("low"), entry.get("high")) if isinstance(entry, Mapping) else (entry,) * 1
    numbers = [float(p) if isinstance(p, (int, float)) and p == p else None for p in parts]
    return (*numbers, None, None)[:3]  # type: ignore[return-value]


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _table(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.is_file() else pd.DataFrame()


def _or(value: float | None, other: float) -> float:
    return other if value is None else value
