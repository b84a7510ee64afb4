"""From predictions to positions: the pipeline between a forecaster and the loop.

Smoothing over 3 bars -> ``tanh(prediction / target volatility)`` -> confidence gate -> volatility target -> regime
filter -> clip. The threshold of the gate and everything the regime filter knows are fitted on training rows only;
next-bar execution and costs belong to the loop.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.panel import Panel, View
from foliocast.features.windows import rolling_std


class PositionPipeline(BaseEstimator):
    """Turns predicted returns into positions between -1 and 1, asset by asset.

    Parameters
    ----------
    smoothing : int
        Bars over which predictions are averaged (the last ones).
    target_volatility : float
        Per bar; scales both the tanh and the position.
    keep : float
        Share of the training rows' signals that is strong enough to trade: the gate is their ``1 - keep`` quantile
        of |signal|, over all assets.
    volatility_window : int
        Bars of the realised volatility that the position is scaled by.

    Attributes
    ----------
    threshold_ : float
        Smallest |signal| that is traded.
    """

    def __init__(
        self,
        smoothing: int = 3,
        target_volatility: float = 0.01,
        keep: float = 0.6,
        volatility_window: int = 21,
    ) -> None:
        self.smoothing = smoothing
        self.target_volatility = target_volatility
        self.keep = keep
        self.volatility_window = volatility_window

    def fit(self, predictions: np.ndarray, y: object = None) -> Self:
        """Learn the gate from predictions on training rows, (time, asset).

        Raises
        ------
        ConfigError
            On settings that make no sense.
        HistoryError
            If there is no finite prediction.
        """
        if self.smoothing < 1 or self.volatility_window < 2 or self.target_volatility <= 0 or not 0 < self.keep <= 1:
            raise ConfigError(
                f"{self}: needs smoothing >= 1, volatility_window >= 2, target_volatility > 0, keep in (0, 1]"
            )
        strength = np.abs(self.signal(np.asarray(predictions, dtype=float)))
        strength = strength[np.isfinite(strength)]
        if not strength.size:
            raise HistoryError("the gate has no prediction on the training rows to learn from; use a longer window")
        self.threshold_ = float(np.quantile(strength, 1.0 - self.keep))
        return self

    def signal(self, predictions: np.ndarray) -> np.ndarray:
        """``tanh(smoothed / target)``: (time, asset) in [-1, 1]; NaN where no prediction is near."""
        smoothed = np.full(predictions.shape, np.nan)
        there = np.isfinite(predictions)
        values = np.where(there, predictions, 0.0)
        for row in range(len(predictions)):  # few rows, and each row's bits depend on its own window only
            first = max(0, row + 1 - self.smoothing)
            count = there[first : row + 1].sum(axis=0)
            total = values[first : row + 1].sum(axis=0)
            smoothed[row] = np.where(there[row], total / np.maximum(count, 1), np.nan)
        return np.tanh(smoothed / self.target_volatility)

    def transform(
        self, predictions: np.ndarray, volatility: np.ndarray, exposure: np.ndarray | float = 1.0
    ) -> np.ndarray:
        """Positions, (time, asset), in [-1, 1]; zero where the prediction or the volatility is missing.

        Parameters
        ----------
        predictions : ndarray, shape (time, asset)
            Expected return of the next bar; the first ``smoothing - 1`` rows are smoothed over what there is.
        volatility : ndarray, shape (time, asset)
            Realised volatility per bar.
        exposure : ndarray, shape (time,), or float
            The regime filter: share of the position that is taken.
        """
        check_is_fitted(self, "threshold_")
        signal = self.signal(np.asarray(predictions, dtype=float))
        gated = np.where(np.abs(signal) >= self.threshold_, signal, 0.0)
        scale = self.target_volatility / np.where(volatility > 0, volatility, np.nan)
        share = np.asarray(exposure, dtype=float).reshape(-1, 1)
        return np.clip(np.nan_to_num(gated * scale * share), -1.0, 1.0)


class SignalStrategy(BaseEstimator):
    """A forecaster, the position pipeline and a regime filter, as a strategy.

    Parameters
    ----------
    forecaster : estimator
        ``fit(panel)``, ``predict(panel, times)``. Fitted on the training rows; one that is fitted already and has no
        need of fitting brings its own ``knowledge_until_``.
    pipeline : PositionPipeline, optional
    regime : {"rule", "hmm", None} or estimator
        Scales positions down in stressed markets: `VolatilityTrendRegime`, `GaussianHMMRegime`, no filter, or an
        estimator with ``fit(panel)`` and ``transform(panel)`` that gives a column ``regime`` or ``probability_k``.
    stressed_exposure : float
        Share of the position that is kept in a stressed regime; with probabilities, in proportion to that of the most
        volatile state.
    gross : float
        Positions are divided by the number of members and multiplied by this, so that the sum of absolute weights
        never exceeds it.

    Attributes
    ----------
    forecaster_, pipeline_, regime_ : fitted
    knowledge_until_ : Timestamp
    """

    path_dependent = False
    knowledge_until_: pd.Timestamp

    def __init__(
        self,
        forecaster: Any,
        pipeline: PositionPipeline | None = None,
        regime: Any = "rule",
        stressed_exposure: float = 0.5,
        gross: float = 1.0,
    ) -> None:
        self.forecaster = forecaster
        self.pipeline = pipeline
        self.regime = regime
        self.stressed_exposure = stressed_exposure
        self.gross = gross

    def fit(self, panel: Panel, y: object = None) -> Self:
        """Fit the forecaster, the regimes and the gate on these rows."""
        self.forecaster_ = clone(self.forecaster).fit(panel)
        self.regime_ = self._regime()
        if self.regime_ is not None:
            self.regime_.fit(panel)
        self.pipeline_ = PositionPipeline() if self.pipeline is None else clone(self.pipeline)
        self.pipeline_.fit(self.forecaster_.predict(panel).to_numpy(dtype=float))
        self.knowledge_until_ = max(panel.times[-1], getattr(self.forecaster_, "knowledge_until_", panel.times[-1]))
        return self

    def _regime(self) -> Any:
        if self.regime is None or not isinstance(self.regime, str):
            return None if self.regime is None else clone(self.regime)
        from foliocast.features import regimes

        known = {"rule": regimes.VolatilityTrendRegime, "hmm": regimes.GaussianHMMRegime}
        if self.regime not in known:
            raise ConfigError(f"regime = '{self.regime}', expected 'rule', 'hmm', None or an estimator")
        return known[self.regime]()

    # ---- deciding
    def decide(self, view: View, previous: pd.Series | None = None) -> pd.Series | None:
        """Target weights now."""
        return self.decide_many(view.panel, view.panel.times[-1:]).iloc[0]

    def decide_many(self, panel: Panel, times: pd.DatetimeIndex) -> pd.DataFrame:
        """Target weights (time x asset); each row from what was known at its time."""
        check_is_fitted(self, "pipeline_")
        if panel.delayed and len(times) > 1:
            return pd.DataFrame([self.decide(panel.asof(time)) for time in times], index=times)
        rows = panel.times.get_indexer(times)
        before = self.pipeline_.smoothing - 1
        wanted = np.unique((rows[:, None] - np.arange(before, -1, -1)).clip(0))
        predictions = self.forecaster_.predict(panel, panel.times[wanted]).to_numpy(dtype=float)
        volatility = self._volatility(panel)[wanted]
        exposure = self._exposure(panel)[wanted]
        positions = np.empty((len(rows), len(panel.assets)))
        for number, row in enumerate(rows):
            last = int(np.searchsorted(wanted, row)) + 1
            part = slice(max(0, last - 1 - min(before, int(row))), last)
            positions[number] = self.pipeline_.transform(predictions[part], volatility[part], exposure[part])[-1]
        member = panel.universe.mask[rows]
        count = np.maximum(member.sum(axis=1), 1)[:, None]
        weights = np.where(member, self.gross * positions / count, 0.0)
        return pd.DataFrame(weights, index=times, columns=list(panel.assets))

    def _volatility(self, panel: Panel) -> np.ndarray:
        return rolling_std(panel.return_array(), self.pipeline_.volatility_window)

    def _exposure(self, panel: Panel) -> np.ndarray:
        """Share of the position taken at each bar, (time,)."""
        if self.regime_ is None:
            return np.ones(len(panel))
        table = self.regime_.transform(panel)
        if "regime" in table:
            stressed = table["regime"].astype(str).str.startswith("stressed").to_numpy(dtype=float)
        else:
            columns = sorted(
                (c for c in table if str(c).startswith("probability_")), key=lambda c: int(c.split("_")[1])
            )
            stressed = table[columns[-1]].to_numpy(dtype=float)
        return 1.0 - (1.0 - self.stressed_exposure) * stressed

    # ---- what is behind the decision
    def predict(self, panel: Panel, times: pd.DatetimeIndex | None = None) -> pd.DataFrame:
        """The forecaster's expected return of the next bar, before the pipeline."""
        check_is_fitted(self, "forecaster_")
        return self.forecaster_.predict(panel, times)

    @available_if(lambda self: hasattr(self.forecaster, "attention"))  # type: ignore[untyped-decorator]
    def attention(self, panel: Panel, times: pd.DatetimeIndex | None = None) -> pd.DataFrame:
        """The forecaster's attention weights."""
        check_is_fitted(self, "forecaster_")
        return self.forecaster_.attention(panel, times)
