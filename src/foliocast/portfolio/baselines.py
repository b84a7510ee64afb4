"""Portfolios that every model has to beat: they need no forecast, or only the past.

All but `BuyAndHold` rebalance every ``rebalance`` bars, counted from the end of their training rows, and look back over
a trailing window. In between they leave the holdings alone; asked without holdings (``previous=None``) they always say
what they want to hold. An asset takes part from the date on which it is a member, quoted, and has enough history.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from foliocast.core.errors import ConfigError, SolverError
from foliocast.core.panel import Panel, View

ENOUGH = 0.9  # share of the window that must be quoted


class Scheduled(BaseEstimator):
    """Rebalances every ``rebalance`` bars; subclasses say how much of each eligible asset.

    Attributes
    ----------
    knowledge_until_ : Timestamp
        Last training row: the schedule counts from here.
    """

    path_dependent = False
    knowledge_until_: pd.Timestamp
    rebalance: int
    window: int

    def fit(self, panel: Panel, y: object = None) -> Self:
        """Note where training ends; nothing else is learnt.

        Raises
        ------
        ConfigError
            On a window or a schedule that makes no sense.
        """
        if self.rebalance < 1 or self.window < 2:
            raise ConfigError(f"{self}: rebalance must be at least 1 bar and window at least 2")
        self.knowledge_until_ = panel.times[-1]
        return self

    def decide(self, view: View, previous: pd.Series | None = None) -> pd.Series | None:
        """Target weights by asset; None between two dates of the schedule if something is held."""
        check_is_fitted(self, "knowledge_until_")
        row = len(view) - 1
        if previous is not None and not self._due(view.panel.times, np.array([row]))[0]:
            return None
        weights = self._at(view.panel, row)
        return None if weights is None else pd.Series(weights, index=list(view.assets))

    def decide_many(self, panel: Panel, times: pd.DatetimeIndex) -> pd.DataFrame:
        """Target weights (time x asset) on the dates of the schedule, NaN rows in between."""
        check_is_fitted(self, "knowledge_until_")
        rows = panel.times.get_indexer(times)
        out = np.full((len(rows), len(panel.assets)), np.nan)
        for number in np.flatnonzero(self._due(panel.times, rows)):
            known = panel.asof(times[int(number)]).panel if "close" in panel.delayed else panel
            weights = self._at(known, int(rows[number]))
            if weights is not None:
                out[number] = weights
        return pd.DataFrame(out, index=times, columns=list(panel.assets))

    def _due(self, times: pd.DatetimeIndex, rows: np.ndarray) -> np.ndarray:
        trained = int(times.searchsorted(self.knowledge_until_, side="right")) - 1
        return (rows - trained) % self.rebalance == 0

    def _at(self, panel: Panel, row: int) -> np.ndarray | None:
        """Weights of all assets at a row, from rows up to it; None if no asset is eligible."""
        returns, eligible = trailing(panel, row, self.window)
        if not eligible.any():
            return None
        out = np.zeros(len(eligible))
        out[eligible] = self._weigh(returns[:, eligible])
        return out

    def _weigh(self, returns: np.ndarray) -> np.ndarray:
        """Weights of the eligible assets from their past returns (time, asset)."""
        raise NotImplementedError


def trailing(panel: Panel, row: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns of the last ``window`` bars up to a row, zeros at gaps, and which assets take part.

    An asset takes part if it is a member, quoted at the row, has moved, and is quoted on 90 % of the bars (of those
    there are, and of at least a quarter of the window).
    """
    first = max(0, row - window)
    close = panel.array("close")[first : row + 1].copy()
    returns = close[1:] / close[:-1] - 1.0
    there = np.isfinite(returns)
    enough = there.sum(axis=0) >= ENOUGH * len(returns)
    long_enough = len(returns) >= min(window, max(2, window // 4))
    returns = np.where(there, returns, 0.0)
    eligible = panel.universe.mask[row] & np.isfinite(close[-1]) & enough & long_enough
    return returns, eligible & (returns != 0).any(axis=0) if len(returns) else eligible & False


class EqualWeight(Scheduled):
    """The same weight in every member that is quoted. DeMiguel, Garlappi and Uppal (2009) tell why it is hard to beat.

    Parameters
    ----------
    rebalance : int
        Bars between rebalances.
    """

    window = 2

    def __init__(self, rebalance: int = 21) -> None:
        self.rebalance = rebalance

    def _at(self, panel: Panel, row: int) -> np.ndarray | None:
        return _equal(panel, row)


def _equal(panel: Panel, row: int) -> np.ndarray | None:
    eligible = panel.universe.mask[row] & np.isfinite(panel.array("close")[row])
    return eligible / eligible.sum() if eligible.any() else None


class BuyAndHold(BaseEstimator):
    """Buys the same amount of every member once and never trades again; what is delisted stays in cash."""

    path_dependent = True
    knowledge_until_: pd.Timestamp

    def fit(self, panel: Panel, y: object = None) -> Self:
        """Nothing is learnt."""
        self.knowledge_until_ = panel.times[-1]
        return self

    def decide(self, view: View, previous: pd.Series | None = None) -> pd.Series | None:
        """Equal weights if nothing was ever bought (``previous`` is None), else None."""
        weights = None if previous is not None else _equal(view.panel, len(view) - 1)
        return None if weights is None else pd.Series(weights, index=list(view.assets))

    def decide_many(self, panel: Panel, times: pd.DatetimeIndex) -> pd.DataFrame:
        """Equal weights at the first time at which there is something to buy, then NaN."""
        out = np.full((len(times), len(panel.assets)), np.nan)
        for number, time in enumerate(times):
            weights = _equal(panel.asof(time).panel, -1)
            if weights is not None:
                out[number] = weights
                break
        return pd.DataFrame(out, index=times, columns=list(panel.assets))


class InverseVolatility(Scheduled):
    """Weights proportional to one over the volatility of the trailing window.

    Parameters
    ----------
    window : int
        Bars.
    rebalance : int
    """

    def __init__(self, window: int = 63, rebalance: int = 21) -> None:
        self.window = window
        self.rebalance = rebalance

    def _weigh(self, returns: np.ndarray) -> np.ndarray:
        inverse = 1.0 / returns.std(axis=0)
        return inverse / inverse.sum()


class MinimumVariance(Scheduled):
    """Long-only, fully invested portfolio of least variance, exact whatever the scale of the returns.

    Parameters
    ----------
    window : int
        Bars of the sample covariance.
    rebalance : int
    shrinkage : float
        Share of the diagonal in the covariance, in [0, 1].
    """

    def __init__(self, window: int = 504, rebalance: int = 21, shrinkage: float = 0.0) -> None:
        self.window = window
        self.rebalance = rebalance
        self.shrinkage = shrinkage

    def _weigh(self, returns: np.ndarray) -> np.ndarray:
        return minimum_variance(_covariance(returns, self.shrinkage))


class MeanVariance(Scheduled):
    """Markowitz's tangency portfolio of the past: the long-only portfolio with the highest trailing Sharpe ratio.

    Where no asset has gained over the window there is none, and the portfolio of least variance is held instead.

    Parameters
    ----------
    window : int
        Bars of the sample mean and covariance.
    rebalance : int
    shrinkage : float
        Share of the diagonal in the covariance, in [0, 1].
    """

    def __init__(self, window: int = 504, rebalance: int = 21, shrinkage: float = 0.0) -> None:
        self.window = window
        self.rebalance = rebalance
        self.shrinkage = shrinkage

    def _weigh(self, returns: np.ndarray) -> np.ndarray:
        covariance, mean = _covariance(returns, self.shrinkage), returns.mean(axis=0)
        if not (mean > 0).any():
            return minimum_variance(covariance)
        scale = np.sqrt(np.diag(covariance))
        x = nonnegative_quadratic(covariance / np.outer(scale, scale), mean / scale / (mean / scale).max()) / scale
        return x / x.sum()


class HierarchicalRiskParity(Scheduled):
    """Lopez de Prado's (2016) hierarchical risk parity, by skfolio.

    Parameters
    ----------
    window : int
        Bars.
    rebalance : int
    """

    def __init__(self, window: int = 252, rebalance: int = 21) -> None:
        self.window = window
        self.rebalance = rebalance

    def _weigh(self, returns: np.ndarray) -> np.ndarray:
        if returns.shape[1] < 3:
            inverse = 1.0 / returns.var(axis=0)
            return inverse / inverse.sum()
        from skfolio.optimization import HierarchicalRiskParity as Peer

        fitted: Any = Peer().fit(pd.DataFrame(returns))
        return np.asarray(fitted.weights_, dtype=float)


# ---- the quadratic programme behind minimum variance and tangency ---------------------------------------------------


def _covariance(returns: np.ndarray, shrinkage: float) -> np.ndarray:
    """Sample covariance, blended with its diagonal; a relative 1e-10 of it keeps more assets than bars solvable."""
    if not 0.0 <= shrinkage <= 1.0:
        raise ConfigError(f"shrinkage = {shrinkage}, expected a share in [0, 1]")
    centred = returns - returns.mean(axis=0)
    sample = centred.T @ centred / max(1, len(returns) - 1)
    diagonal = np.diag(np.diag(sample))
    return (1.0 - shrinkage) * sample + (shrinkage + 1e-10) * diagonal


def minimum_variance(covariance: np.ndarray) -> np.ndarray:
    """Weights w >= 0, sum w = 1, of least ``w' C w``.

    With w = x / sum x the problem is ``min x'Cx / 2 - sum x`` over x >= 0, which does not depend on the scale of C.
    """
    scale = np.sqrt(np.diag(covariance))
    x = nonnegative_quadratic(covariance / np.outer(scale, scale), 1.0 / scale * scale.min()) / scale
    return x / x.sum()


def nonnegative_quadratic(matrix: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Minimiser of ``x' A x / 2 - b' x`` over x >= 0 by an active set.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        Symmetric, positive definite, with a diagonal of about one.
    linear : ndarray, shape (n,)

    Returns
    -------
    ndarray, shape (n,)
        Exact up to rounding: on the support the gradient vanishes, off it it is non-negative.

    Raises
    ------
    SolverError
        If it does not end, which a positive definite matrix rules out.

    Notes
    -----
    Lawson and Hanson (1974), on the normal equations as in Bro and de Jong (1997): the most violated variable enters,
    and a step that would leave the orthant stops at its border. The objective falls at every step, so no support comes
    twice. The work grows with the support, which is small where many assets are correlated.
    """
    n = len(linear)
    x, free, stuck = np.zeros(n), np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    tolerance = 1e-12 * max(1e-300, float(np.abs(linear).max()))
    for _ in range(10 * n + 50):
        push = np.where(free | stuck, -np.inf, linear - matrix[:, free] @ x[free])
        entering = int(np.argmax(push))
        if push[entering] <= tolerance:
            return x
        free[entering] = True
        while True:
            wanted = np.linalg.solve(matrix[np.ix_(free, free)], linear[free])
            if wanted.min() > 0:
                x[free] = wanted
                break
            now = x[free]
            falling = wanted <= 0
            step = float((now[falling] / (now[falling] - wanted[falling])).min())
            moved = now + step * (wanted - now)
            moved[falling & (moved <= 1e-15 * max(1e-300, float(now.max())))] = 0.0
            x[free] = moved
            free &= x > 0
            if not free.any():
                break
        stuck = stuck & ~free[entering]
        stuck[entering] = not free[entering]  # left at once: its gradient was rounding
    raise SolverError(f"no solution after {10 * n + 50} steps: the covariance of {n} assets is not positive definite")
