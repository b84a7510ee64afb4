"""The report of a run: one HTML file that needs nothing else, written from the tables of its folder.

`write_report` reads what `foliocast.workflows.backtest` wrote and adds no number that is not in those files or follows
from them by a formula named in the text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.errors import DataError
from foliocast.core.time import periods_per_year
from foliocast.runtime.files import whole_file
from foliocast.workflows import report_sections as sections
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
        order = sorted(found, key=lambda name: -_or(sections.estimate(found[name].get("sharpe"))[0], -np.inf))
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


SECTIONS: tuple[Callable[[Run], str], ...] = (
    sections.headline,
    sections.evidence,
    sections.growth,
    sections.rolling,
    sections.costs,
    sections.detail,
    sections.forecasts,
    sections.regimes,
    sections.attention,
    sections.limits,
    sections.cards,
    sections.conventions,
)


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run folder, whole or not at all.

    Parameters
    ----------
    run_dir : Path
        A folder with ``metrics.json``; ``run.json`` and the Parquet tables add their sections where they are.

    Returns
    -------
    Path
        The file. It loads nothing from any network.
    """
    run = Run.read(Path(run_dir))
    body = sections.opening(run) + "".join(section(run) for section in SECTIONS)
    page = _PAGE.format(
        title=escape(str(run.about.get("name") or run.folder.name)),
        style=_asset("report.css"),
        script=_asset("report.js"),
        body=body,
        version=escape(str((run.about.get("versions") or {}).get("foliocast", ""))),
    )
    target = run.folder / "report.html"
    with whole_file(target) as aside:
        aside.write_text(page, encoding="utf-8")
    return target


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="referrer" content="no-referrer"><title>{title} · Foliocast</title><style>{style}</style></head>
<body><main>{body}<footer>Foliocast {version} · research, not investment advice · this page is self-contained</footer>
</main><script>{script}</script></body></html>
"""


def _asset(name: str) -> str:
    return (resources.files("foliocast.workflows") / "page" / name).read_text(encoding="utf-8")


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _table(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.is_file() else pd.DataFrame()


def _or(value: float | None, other: float) -> float:
    return other if value is None else value
