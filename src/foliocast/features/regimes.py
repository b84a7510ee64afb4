"""Market regimes, causal: thresholds and states are learnt on training rows, probabilities are filtered.

Smoothed (Viterbi or forward-backward) states use the future of every row; they are the classic leak of regime
switching back-tests and are not offered.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.panel import Panel
from foliocast.features.windows import rolling_mean, rolling_std

RULE_LABELS = ("calm_down", "calm_up", "stressed_down", "stressed_up")


def market_returns(panel: Panel) -> np.ndarray:
    """Log return of the equally weighted market of members quoted at both ends of the bar, (time,); NaN if none."""
    returns = np.where(panel.universe.mask, panel.return_array(), np.nan)
    count = np.isfinite(returns).sum(axis=1)
    total = np.where(np.isfinite(returns), returns, 0.0).sum(axis=1)
    return np.where(count > 0, np.log1p(total / np.maximum(count, 1)), np.nan)


class VolatilityTrendRegime(BaseEstimator):
    """Four regimes by rule: calm or stressed volatility, falling or rising trend.

    Parameters
    ----------
    volatility_window : int
        Bars of the market's realised volatility.
    trend_window : int
        Bars over which the market's mean log return gives the sign of the trend.
    quantile : float
        Of the training rows' volatility: above it the market is stressed.

    Attributes
    ----------
    threshold_ : float
        Volatility per bar that separates calm from stressed.
    knowledge_until_ : Timestamp
    """

    knowledge_until_: pd.Timestamp

    def __init__(self, volatility_window: int = 30, trend_window: int = 60, quantile: float = 0.75) -> None:
        self.volatility_window = volatility_window
        self.trend_window = trend_window
        self.quantile = quantile

    def fit(self, panel: Panel, y: object = None) -> Self:
        """Learn the threshold from these rows."""
        if not 0 < self.quantile < 1 or min(self.volatility_window, self.trend_window) < 2:
            raise ConfigError("a regime rule needs 0 < quantile < 1 and windows of at least 2 bars")
        volatility = self._measures(panel)[0]
        known = volatility[np.isfinite(volatility)]
        if not len(known):
            raise HistoryError(
                f"{len(panel)} bars give no volatility over {self.volatility_window} bars; use more rows"
            )
        self.threshold_ = float(np.quantile(known, self.quantile))
        self.knowledge_until_ = panel.times[-1]
        return self

    def transform(self, panel: Panel) -> pd.DataFrame:
        """Row t from rows <= t: ``volatility``, ``trend`` (mean log return a bar) and ``regime``.

        ``regime`` is one of `RULE_LABELS`, missing until the windows are full.
        """
        check_is_fitted(self, "threshold_")
        volatility, trend = self._measures(panel)
        known = np.isfinite(volatility) & np.isfinite(trend)
        code = 2 * (volatility > self.threshold_) + (trend > 0)
        labels = pd.Categorical.from_codes(np.where(known, code, -1), categories=pd.Index(RULE_LABELS))
        return pd.DataFrame({"volatility": volatility, "trend": trend, "regime": labels}, index=panel.times)

    def _measures(self, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
        market = market_returns(panel)[:, None]
        return rolling_std(market, self.volatility_window)[:, 0], rolling_mean(market, self.trend_window)[:, 0]


class GaussianHMMRegime(BaseEstimator):
    """Hidden Markov regimes of the market's return, ordered from the calmest to the most volatile.

    Parameters
    ----------
    n_states : int
    n_starts : int
        Runs of EM from different beginnings; the most likely is kept.
    random_state : int

    Attributes
    ----------
    transition_ : ndarray, shape (state, state)
    mean_, sigma_ : ndarray, shape (state,)
        Of the market's log return per bar; ``sigma_`` increases.
    stationary_ : ndarray, shape (state,)
        Long-run probabilities: the belief before the first row.
    knowledge_until_ : Timestamp

    Notes
    -----
    Fitted by EM (hmmlearn) on training rows. ``transform`` runs the forward recursion of Hamilton (1989) alone:
    ``p_t ~ (p_{t-1} A) * N(x_t; mean, sigma)``.
    """

    knowledge_until_: pd.Timestamp

    def __init__(self, n_states: int = 2, n_starts: int = 3, random_state: int = 0) -> None:
        self.n_states = n_states
        self.n_starts = n_starts
        self.random_state = random_state

    def fit(self, panel: Panel, y: object = None) -> Self:
        """Learn the chain from these rows.

        Raises
        ------
        HistoryError
            Fewer than 30 returns a state.
        """
        if self.n_states < 2 or self.n_starts < 1:
            raise ConfigError(f"n_states = {self.n_states}, n_starts = {self.n_starts}: at least 2 states and 1 start")
        market = market_returns(panel)
        known = market[np.isfinite(market)]
        if len(known) < 30 * self.n_states:
            raise HistoryError(f"{len(known)} market returns are too few for {self.n_states} states; use more rows")
        scale = float(known.std())
        if scale == 0:
            raise HistoryError("the market never moved in these rows: there are no regimes to tell apart")
        best = self._most_likely(known[:, None] / scale)
        order = np.argsort(best.covars_.reshape(self.n_states))
        self.mean_ = best.means_[order, 0] * scale
        self.sigma_ = np.sqrt(best.covars_.reshape(self.n_states)[order]) * scale
        transition = best.transmat_[np.ix_(order, order)]
        self.transition_ = transition / transition.sum(axis=1, keepdims=True)
        self.stationary_ = _stationary(self.transition_)
        self.knowledge_until_ = panel.times[-1]
        return self

    def _most_likely(self, x: np.ndarray) -> Any:
        from hmmlearn.hmm import GaussianHMM

        fits = []
        with _quiet("hmmlearn"):
            for start in range(self.n_starts):
                seed = int(np.random.default_rng([self.random_state, start]).integers(2**31))
                # params "mct": a start probability learnt from one sequence is one observation's worth of knowledge
                hmm = GaussianHMM(self.n_states, "diag", n_iter=200, tol=1e-4, params="mct", random_state=seed)
                fits.append(hmm.fit(x))
        return max(fits, key=lambda hmm: hmm.score(x))

    def transform(self, panel: Panel) -> pd.DataFrame:
        """Row t from rows <= t: ``state`` (most probable) and ``probability_0`` ... ordered by volatility.

        A bar without a market return moves the belief by the transition alone.
        """
        check_is_fitted(self, "transition_")
        belief = self._filter(market_returns(panel))
        table = pd.DataFrame(
            belief, index=panel.times, columns=[f"probability_{state}" for state in range(self.n_states)]
        )
        table.insert(0, "state", belief.argmax(axis=1))
        return table

    def _filter(self, market: np.ndarray) -> np.ndarray:
        z = (market[:, None] - self.mean_) / self.sigma_
        logs = np.where(np.isfinite(z), -0.5 * z**2 - np.log(self.sigma_), 0.0)
        likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
        belief = np.empty_like(likelihood)
        now = self.stationary_
        for row, seen in enumerate(likelihood):
            now = (now @ self.transition_) * seen
            now = now / now.sum()
            belief[row] = now
        return belief


def _stationary(transition: np.ndarray) -> np.ndarray:
    """Left eigenvector of the transition matrix for the eigenvalue one, by least squares."""
    n = len(transition)
    system = np.vstack([transition.T - np.eye(n), np.ones(n)])
    solution = np.linalg.lstsq(system, np.append(np.zeros(n), 1.0), rcond=None)[0]
    positive = np.maximum(solution, 0.0)
    return positive / positive.sum()


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without a library's remarks on convergence: the likeliest of several runs is taken anyway."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
