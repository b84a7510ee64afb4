"""A scenario set as the optimiser and the terms read it: returns over the horizon, probabilities, moments, holdings."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd
from scipy.linalg.blas import dsyrk

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import DataError
from foliocast.portfolio.products import Products, products


class Market:
    """Cumulative scenario returns and what is derived from them, computed once and when asked for.

    Parameters
    ----------
    returns : ndarray, shape (scenario, asset)
        Simple returns over the horizon.
    p : ndarray, shape (scenario,)
    assets : tuple of str
    previous : ndarray, shape (asset,), or None
        Weights held now.
    horizon : int
        Bars the returns span.
    """

    def __init__(
        self,
        returns: np.ndarray,
        p: np.ndarray,
        assets: tuple[str, ...],
        previous: np.ndarray | None = None,
        horizon: int = 1,
    ) -> None:
        self.returns, self.p, self.assets = returns, p, assets
        self.previous, self.horizon = previous, horizon
        self.n = len(assets)
        self.free: np.ndarray | None = None
        self.held = np.zeros(self.n, dtype=bool)
        self.base = np.zeros(self.n)
        self.device: str | None = None
        self.flat_tails = False  # try EVaR at the limit where all of its tail loses the same

    @classmethod
    def of(cls, scenarios: ScenarioSet, previous: pd.Series | np.ndarray | None = None) -> Market:
        """From a scenario set; scenarios without probability are dropped.

        Raises
        ------
        DataError
            If ``previous`` has the wrong length or holds an asset that has no scenarios.
        """
        flat = scenarios.returns[:, 0, :] if scenarios.horizon == 1 else scenarios.cumulative()
        p = scenarios.probabilities
        if p.min() == 0.0:
            flat, p = flat[p > 0], p[p > 0]
        held = None if previous is None else _holdings(previous, scenarios.assets)
        flat = np.ascontiguousarray(flat, dtype=float)
        return cls(flat, p, scenarios.assets, held, scenarios.horizon)

    def fix(self, at: np.ndarray, values: np.ndarray) -> None:
        """Take positions out of the optimisation: bool (asset,) and the weights they stay at."""
        if at.any():
            self.held, self.base, self.free = at, np.where(at, values, 0.0), np.flatnonzero(~at)

    def portfolio(self, w: np.ndarray) -> np.ndarray:
        """Return over the horizon of weights, (scenario,)."""
        return self.returns @ w

    @cached_property
    def mean(self) -> np.ndarray:
        return self.p @ self.returns

    @cached_property
    def scale(self) -> float:
        """Typical size of a return: root mean square over scenarios and assets."""
        size = float(np.sqrt(np.vdot(self.returns, self.returns) / max(self.returns.size, 1)))
        return size if size > 0 else 1.0

    @property
    def has_covariance(self) -> bool:
        return "covariance" in self.__dict__

    @cached_property
    def covariance(self) -> np.ndarray:
        """Probability-weighted covariance over the horizon, (asset, asset); equal to ``np.cov(..., bias=True)``."""
        root = np.sqrt(self.p)
        if len(root) <= 2048:
            centred = (self.returns - self.mean) * root[:, None]
            return centred.T @ centred
        total = np.zeros((self.n, self.n), order="F")
        for start in range(0, len(root), 2048):
            rows = slice(start, start + 2048)
            block = (self.returns[rows] - self.mean) * root[rows, None]
            total = dsyrk(1.0, block.T, beta=1.0, c=total, overwrite_c=1, lower=1)
        return np.tril(total) + np.tril(total, -1).T

    @cached_property
    def bar_volatility(self) -> np.ndarray:
        """Volatility a bar by asset, from the volatility over the horizon."""
        second = self.p @ (self.returns - self.mean) ** 2
        return np.sqrt(second / self.horizon)

    @cached_property
    def ops(self) -> Products:
        """Products with the returns of the free positions; the fixed ones are an offset."""
        if self.free is None:
            return products(self.returns, self.scale, None, self.device)
        offset = self.returns @ self.base if self.base.any() else None
        return products(self.returns[:, self.free], self.scale, offset, self.device)


def _holdings(previous: pd.Series | np.ndarray, assets: tuple[str, ...]) -> np.ndarray:
    if isinstance(previous, pd.Series):
        lost = [str(a) for a, w in previous.items() if a not in assets and abs(w) > 1e-12]
        if lost:
            raise DataError(
                f"previous holds {', '.join(lost[:5])}, which have no scenarios; sell them first or simulate them"
            )
        return previous.reindex(list(assets)).fillna(0.0).to_numpy(float)
    held = np.asarray(previous, dtype=float)
    if held.shape != (len(assets),):
        raise DataError(f"previous has shape {held.shape}, expected ({len(assets)},)")
    return held
