"""Pieces that every section of the report is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from foliocast.workflows.charts import COLOURS
from foliocast.workflows.run_tables import Run


def number(value: float | None, unit: str = "", digits: int | None = None) -> str:
    """A figure as it is printed everywhere in the report."""
    if value is None or not np.isfinite(value):
        return "–" if value is None or value != value else "∞"
    if unit == "%":
        text = f"{value * 100:.{1 if digits is None else digits}f} %"
    elif unit == "n":
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{2 if digits is None else digits}f}" + ("×" if unit == "x" else "")
    return text.replace("-", "−")


def section(title: str, note: str, *parts: str, key: str = "") -> str:
    hint = f'<p class="note">{note}</p>' if note else ""
    return f'<section id="{key}"><h2>{escape(title)}</h2>{hint}{"".join(parts)}</section>'


def name_tag(run: Run, name: str) -> str:
    entry = run.strategies.get(name, {})
    tags = '<span class="tag">baseline</span>' if entry.get("baseline") else ""
    if entry.get("contaminated"):
        tags += '<span class="tag bad">knew the future</span>'
    colour = run.colour(name) % COLOURS
    return f'<span title="{escape(name)}"><i class="dot s{colour}"></i>{escape(name)}</span>{tags}'


def text_table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = "".join(f"<th>{escape(str(h))}</th>" for h in heads)
    return markup_table(head, ["<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row) + "</tr>" for row in rows])


def markup_table(head: str, rows: Iterable[str]) -> str:
    body = "".join(rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def fact_list(values: Mapping[str, Any]) -> str:
    items = "".join(
        f"<dt>{escape(str(key).replace('_', ' '))}</dt><dd>{escape(_plainly(value))}</dd>"
        for key, value in values.items()
        if value not in (None, "", [], {})
    )
    return f"<dl>{items}</dl>"


def _plainly(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plainly(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return "; ".join(_plainly(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def grid_of(rows: pd.DataFrame, dates: pd.DatetimeIndex, column: str, value: str) -> tuple[np.ndarray, list[Any]]:
    """Long rows as a table (date, column) with NaN where there is none, and its columns."""
    codes, names = pd.factorize(rows[column])
    place = dates.get_indexer(pd.DatetimeIndex(rows["date"]))
    there = place >= 0
    out = np.full((len(dates), len(names)), np.nan)
    out[place[there], codes[there]] = rows[value].to_numpy(float)[there]
    return out, list(names)


def regime_labels(run: Run) -> pd.Series | None:
    """The rule's label of every day; the first column of words."""
    table = run.of("regimes")
    words = [c for c in table.columns if c != "date" and not pd.api.types.is_numeric_dtype(table[c])]
    if table.empty or not words:
        return None
    return table.set_index("date")[words[0]].astype(object).reindex(run.dates).ffill()


def regime_bands(run: Run) -> tuple[list[tuple[int, int, int]], list[str]]:
    """Stretches of one regime, as (first bar, bar after the last, number of the name), and the names."""
    labels = regime_labels(run)
    if labels is None:
        return [], []
    codes, names = pd.factorize(labels, sort=True)
    change = np.flatnonzero(np.diff(codes)) + 1
    edges = np.r_[0, change, len(codes)]
    bands = [(int(a), int(b), int(codes[a])) for a, b in pairwise(edges) if codes[a] >= 0]
    return (bands if len(bands) <= 400 else []), [str(name) for name in names]
