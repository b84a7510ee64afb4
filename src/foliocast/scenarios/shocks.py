"""Laws of the standardised shock of one bar: where the randomness of a classical model comes from.

A law draws shocks (scenario, asset), and draws them given the shocks of some assets. `paths.simulate_log` turns them
into paths by putting the volatility back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from foliocast.stats.conditioning import regression_gain

CANDIDATES = 24  # dates compared for each scenario when some assets are given


class Shocks(Protocol):
    """One bar's joint shock. ``memory`` is the law's own (blocks remember where they are)."""

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """(n, asset)"""
        ...

    def draw_given(self, columns: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(n, asset) with ``columns`` equal to ``target`` (n, column)."""
        ...


@dataclass
class EmpiricalShocks:
    """Rows drawn from a bank, whole, so that the dependence of a date stays together.

    Parameters
    ----------
    bank : ndarray (row, asset)
    block : float
        Expected length of a block of consecutive rows (stationary bootstrap of Politis & Romano 1994); 1 is i.i.d.
    nu : float
        Degrees of freedom of the common radius: how much wider the others move when the given shock is extreme.

    Notes
    -----
    Given some assets, each scenario takes the nearest of a handful of random dates, and the other assets are moved by
    regression; their residual is scaled as the conditional law of a multivariate t is.
    """

    bank: np.ndarray
    block: float = 1.0
    nu: float = 6.0
    position: np.ndarray | None = field(default=None, repr=False)

    def fresh(self) -> EmpiricalShocks:
        """The same law at the start of a path."""
        return EmpiricalShocks(self.bank, self.block, self.nu)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.bank[self._rows(n, rng)]

    def _rows(self, n: int, rng: np.random.Generator) -> np.ndarray:
        rows = rng.integers(len(self.bank), size=n)
        if self.block > 1.0:
            if self.position is not None:
                goes_on = rng.random(n) >= 1.0 / self.block
                rows = np.where(goes_on, (self.position + 1) % len(self.bank), rows)
            self.position = rows
        return rows

    def draw_given(self, columns: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        centre = self.bank.mean(axis=0)
        covariance = (self.bank - centre).T @ (self.bank - centre) / len(self.bank)
        inverse = np.linalg.pinv(covariance[np.ix_(columns, columns)], hermitian=True)

        def radius(gap: np.ndarray) -> np.ndarray:
            return np.einsum("...i,ij,...j->...", gap, inverse, gap, optimize=True)

        n = len(target)
        rows = self._nearest(columns, target, inverse, rng)
        shocks = self.bank[rows]
        gain = regression_gain(covariance, columns)
        residual = shocks - centre - (shocks[:, columns] - centre[columns]) @ gain.T
        near = radius(shocks[:, columns] - centre[columns])
        stretch = np.sqrt((self.nu + radius(target - centre[columns])) / (self.nu + near))
        out = centre + (target - centre[columns]) @ gain.T + residual * stretch.reshape(n, 1)
        out[:, columns] = target
        return out

    def _nearest(
        self, columns: np.ndarray, target: np.ndarray, inverse: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The row of each scenario: the nearest of its candidates, or the next of its block."""
        n = len(target)
        picks = rng.integers(len(self.bank), size=(n, CANDIDATES))
        gap = self.bank[:, columns][picks] - target[:, None, :]
        distance = ((gap @ inverse) * gap).sum(axis=-1)
        rows = picks[np.arange(n), distance.argmin(axis=1)]
        if self.block > 1.0:
            if self.position is not None:
                goes_on = rng.random(n) >= 1.0 / self.block
                rows = np.where(goes_on, (self.position + 1) % len(self.bank), rows)
            self.position = rows
        return rows


@dataclass(frozen=True)
class Margins:
    """Monotone map between scores of the copula and shocks, asset by asset, by table.

    Attributes
    ----------
    scores : ndarray (grid,)
        Evenly spaced, the same for every asset.
    shocks : ndarray (grid, asset)
        Increasing down each column; beyond the table the last slope goes on.
    """

    scores: np.ndarray
    shocks: np.ndarray

    def to_shocks(self, scores: np.ndarray) -> np.ndarray:
        """(n, asset) -> (n, asset)"""
        place = (scores - self.scores[0]) / (self.scores[1] - self.scores[0])
        low = np.clip(place.astype(np.int64), 0, len(self.scores) - 2)
        part = place - low
        assets = np.arange(scores.shape[1])
        first, second = self.shocks[low, assets], self.shocks[low + 1, assets]
        return first + part * (second - first)

    def to_scores(self, shocks: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(n, column) -> (n, column), the inverse for these assets."""
        out = np.empty_like(shocks)
        for k, column in enumerate(columns):
            knots = self.shocks[:, column]
            low = np.clip(np.searchsorted(knots, shocks[:, k], side="right") - 1, 0, len(knots) - 2)
            part = (shocks[:, k] - knots[low]) / (knots[low + 1] - knots[low])
            out[:, k] = self.scores[low] + part * (self.scores[1] - self.scores[0])
        return out


@dataclass
class CopulaShocks:
    """Gaussian (``nu`` None) or Student-t copula over tabulated margins; the conditional law in closed form.

    Parameters
    ----------
    correlation : ndarray (asset, asset)
        Of the normal scores, or of the t scores.
    margins : Margins
    nu : float, optional
    """

    correlation: np.ndarray
    margins: Margins
    nu: float | None = None

    def __post_init__(self) -> None:
        self._root = np.linalg.cholesky(self.correlation).T

    def fresh(self) -> CopulaShocks:
        return self

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        scores = rng.standard_normal((n, len(self.correlation))) @ self._root
        if self.nu is not None:
            scores *= np.sqrt(self.nu / rng.chisquare(self.nu, size=(n, 1)))
        return self.margins.to_shocks(scores)

    def draw_given(self, columns: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Conditional normal (t: with nu + k degrees of freedom and the scale stretched by the given radius)."""
        n, free = len(target), np.setdiff1d(np.arange(len(self.correlation)), columns)
        out = np.empty((n, len(self.correlation)))
        given = self.margins.to_scores(target, columns)
        if len(free):
            gain = regression_gain(self.correlation, columns)[free]
            rest = self.correlation[np.ix_(free, free)] - gain @ self.correlation[np.ix_(columns, free)]
            root = np.linalg.cholesky(rest + 1e-10 * np.eye(len(free))).T
            noise = rng.standard_normal((n, len(free))) @ root
            if self.nu is not None:
                inverse = np.linalg.inv(self.correlation[np.ix_(columns, columns)])
                radius = ((given @ inverse) * given).sum(axis=1)
                degrees = self.nu + len(columns)
                noise *= np.sqrt((self.nu + radius) / rng.chisquare(degrees, size=n))[:, None]
            out[:, free] = given[:, :] @ gain.T + noise
        out[:, columns] = given
        shocks = self.margins.to_shocks(out)
        shocks[:, columns] = target
        return shocks
