"""Weights that were decided elsewhere: by hand, by an optimiser, or generated from a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError, DataError
from foliocast.core.panel import Panel
from foliocast.portfolio.baselines import Scheduled


def read_book(path: str | Path) -> pd.Series:
    """Weights by asset from a CSV with the columns ``asset`` and ``weight``.

    Returns
    -------
    Series
        ``attrs["knowledge_until"]``: Timestamp, if the file has such a column: up to when whoever made the book had
        seen data.

    Raises
    ------
    DataError
        No such file, other columns, a weight that is no number, or an asset twice.
    """
    try:
        table = pd.read_csv(str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a CSV with the columns asset and weight: {error}") from error
    if not {"asset", "weight"} <= set(table.columns):
        raise DataError(f"{path} has the columns {', '.join(map(str, table.columns))}; expected asset and weight")
    weights = pd.to_numeric(table["weight"], errors="coerce")
    if not np.isfinite(weights).all():
        line = int(np.flatnonzero(~np.isfinite(weights))[0]) + 2
        raise DataError(f"{path}, line {line}: weight is {table['weight'].iloc[line - 2]!r}, expected a number")
    names = table["asset"].astype(str).str.strip()
    if names.duplicated().any():
        raise DataError(f"{path} names {names[names.duplicated()].iloc[0]} twice; add its weights up")
    book = pd.Series(weights.to_numpy(float), index=names.tolist())
    if "knowledge_until" in table and len(table):
        book.attrs["knowledge_until"] = pd.Timestamp(str(table["knowledge_until"].iloc[0]))
    return book


class FixedWeights(Scheduled):
    """Holds given weights, and goes back to them every ``rebalance`` bars.

    Parameters
    ----------
    weights : mapping of asset to weight, or path
        Or a CSV with the columns ``asset, weight``. What is left to one is cash; so is what is not quoted at a date.
        A column ``knowledge_until`` (written by ``foliocast generate``) keeps the book from deciding before that date.
    rebalance : int
        Bars between rebalances, counted from the end of the training rows.
    knowledge_until : str, optional
        The same for weights that come as a mapping.

    Attributes
    ----------
    weights_ : Series
    knowledge_until_ : Timestamp
        The later of the end of the training rows and of what the maker of the weights had seen.
    """

    window = 2
    weights_: pd.Series

    def __init__(
        self, weights: Mapping[str, float] | str | Path, rebalance: int = 63, knowledge_until: str | None = None
    ) -> None:
        self.weights = weights
        self.rebalance = rebalance
        self.knowledge_until = knowledge_until

    def fit(self, panel: Panel, y: object = None) -> Self:
        """Read the weights; nothing is learnt.

        Raises
        ------
        DataError
            The file cannot be read, or holds assets that the panel lacks.
        ConfigError
            No weights.
        """
        super().fit(panel)
        self.trained_until_ = self.knowledge_until_
        read = isinstance(self.weights, (str, Path))
        self.weights_ = read_book(str(self.weights)) if read else pd.Series(dict(self.weights), dtype=float)  # type: ignore[arg-type]
        if not len(self.weights_):
            raise ConfigError("FixedWeights holds nothing; give weights = {AAPL = 0.5, ...} or a CSV of asset, weight")
        absent = [name for name in self.weights_.index if name not in panel.assets]
        if absent:
            share = float(self.weights_[absent].abs().sum() / self.weights_.abs().sum())
            raise DataError(
                f"the data lack {', '.join(absent[:5])}{' and others' if len(absent) > 5 else ''} ({share:.0%} of the "
                "book); take data that have them, or generate the book from the names of these data (--data)"
            )
        seen = self.weights_.attrs.get("knowledge_until") if self.knowledge_until is None else self.knowledge_until
        if seen is not None:
            self.knowledge_until_ = max(self.knowledge_until_, pd.Timestamp(seen))
        return self

    def _due(self, times: pd.DatetimeIndex, rows: np.ndarray) -> np.ndarray:
        trained = int(times.searchsorted(self.trained_until_, side="right")) - 1
        return (rows - trained) % self.rebalance == 0

    def _at(self, panel: Panel, row: int) -> np.ndarray | None:
        quoted = panel.universe.mask[row] & np.isfinite(panel.array("close")[row])
        wanted = self.weights_.reindex(list(panel.assets)).fillna(0.0).to_numpy()
        return np.where(quoted, wanted, 0.0) if (quoted & (wanted != 0)).any() else None
