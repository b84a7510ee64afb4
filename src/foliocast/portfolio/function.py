"""The notebook's form of a strategy: one function from the whole panel to the whole weight matrix."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from sklearn.base import BaseEstimator

from foliocast.core.errors import DataError
from foliocast.core.panel import Panel, View


class FunctionStrategy(BaseEstimator):
    """Runs a user's function on what was known, so that even a careless one cannot look ahead in a backtest.

    Parameters
    ----------
    function : callable
        ``function(panel) -> DataFrame`` (time x asset): target weights decided at each bar. In a walk-forward it is
        only ever handed rows that were known; `audit` hands it the whole panel, as a notebook would, and finds out
        whether it peeks.
    """

    path_dependent = False

    def __init__(self, function: Callable[[Panel], pd.DataFrame]) -> None:
        self.function = function

    def fit(self, panel: Panel) -> FunctionStrategy:
        return self

    def decide(self, view: View, previous: pd.Series | None = None) -> pd.Series | None:
        weights = self._weights(view.panel)
        return None if weights.iloc[-1].isna().all() else weights.iloc[-1]

    def decide_many(self, panel: Panel, times: pd.DatetimeIndex) -> pd.DataFrame:
        rows = [self._weights(panel.asof(t).panel).iloc[-1] for t in times]
        return pd.DataFrame(rows, index=times)

    def _weights(self, panel: Panel) -> pd.DataFrame:
        weights = self.function(panel)
        if not isinstance(weights, pd.DataFrame) or not weights.index.equals(panel.times):
            raise DataError(
                f"{getattr(self.function, '__name__', 'the function')} must return a DataFrame with a row a bar "
                f"({len(panel)}) and a column an asset, found {type(weights).__name__}"
            )
        return weights.reindex(columns=list(panel.assets))
