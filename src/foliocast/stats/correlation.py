"""Dynamic correlation of standardised returns: exponentially weighted, shrunk to its long-run level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from foliocast.stats.variances import decay

HALF_LIVES = (40.0, 100.0, 250.0)
BOUND = (
    2.5  # a shock of one asset beyond says no more of its ties to the others: earnings days would loosen all of them
)
PRIOR_SHARE = 6.0  # see `earned_shrinkage`
SEARCHED = 40  # assets on which the half-life is chosen
WORK = 2e9  # N^3 operations that whitening may cost: large universes update their matrix less often


def as_correlation(matrix: np.ndarray) -> np.ndarray:
    """Unit diagonal, symmetric, stacked matrices (..., asset, asset)."""
    d = np.sqrt(np.maximum(np.diagonal(matrix, axis1=-2, axis2=-1), 1e-300))
    out = matrix / (d[..., :, None] * d[..., None, :])
    return 0.5 * (out + np.swapaxes(out, -1, -2))


def long_run_correlation(z: np.ndarray) -> np.ndarray:
    """Sample correlation about zero, shrunk to the constant correlation by N / (T + N)."""
    n_rows, n = z.shape
    sample = as_correlation(z.T @ z / n_rows + 1e-12 * np.eye(n))
    mean = (sample.sum() - n) / max(1, n * (n - 1))
    target = np.full((n, n), np.clip(mean, 0.0, 0.95))
    np.fill_diagonal(target, 1.0)
    weight = n / (n_rows + n)
    return (1 - weight) * sample + weight * target


def matrix_power(correlation: np.ndarray, power: float) -> np.ndarray:
    """Symmetric power of positive definite matrices (..., asset, asset): 0.5 colours, -0.5 whitens."""
    values, vectors = np.linalg.eigh(correlation)
    values = np.maximum(values, 1e-8) ** power
    return (vectors * values[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def earned_shrinkage(n_assets: int, half_life: float) -> float:
    """Weight of the long-run correlation: N / (N + n / 6), n = half_life / log 2 the effective rows of the EWMA.

    Three assets are tied by what happened lately, a hundred mostly by what is usual. The 6 was read off the Student-t
    likelihood of random universes of 3 to 50 US stocks, 2005 to 2012.
    """
    return n_assets / (n_assets + half_life / np.log(2.0) / PRIOR_SHARE)


@dataclass
class CorrelationFilter:
    """C[t] = (1 - shrinkage) EWMA of z z' before t + shrinkage * long-run correlation; z bounded at 2.5.

    Parameters
    ----------
    half_life : float, optional
        None: chosen by the Gaussian likelihood of the next rows in the fitting sample.
    shrinkage : float, optional
        None: `earned_shrinkage` of the number of assets.

    Attributes
    ----------
    long_run_ : ndarray (asset, asset)
    half_life_, shrinkage_ : float
    """

    half_life: float | None = None
    shrinkage: float | None = None
    long_run_: np.ndarray = field(init=False, repr=False)
    half_life_: float = field(init=False)
    shrinkage_: float = field(init=False)

    def fit(self, z: np.ndarray) -> CorrelationFilter:
        """``z`` (time, asset): standardised returns, finite."""
        bounded = np.clip(z, -BOUND, BOUND)
        self.long_run_ = long_run_correlation(bounded)
        self.half_life_ = _choose(bounded, self._share) if self.half_life is None else self.half_life
        self.shrinkage_ = self._share(z.shape[1], self.half_life_)
        return self

    def _share(self, n_assets: int, half_life: float) -> float:
        return earned_shrinkage(n_assets, half_life) if self.shrinkage is None else self.shrinkage

    def current(self, z: np.ndarray) -> np.ndarray:
        """Correlation of the bar after the history, (asset, asset)."""
        window = np.clip(z[-int(8 * self.half_life_) :], -BOUND, BOUND)
        weights = decay(self.half_life_) ** np.arange(len(window) - 1, -1, -1)
        recent = (window * (weights / weights.sum())[:, None]).T @ window
        return _blend(recent, self.long_run_, self.shrinkage_)

    def whiten(self, z: np.ndarray) -> np.ndarray:
        """C[t]^(-1/2) z[t] (symmetric root), with C held for a few bars at a time, (time, asset)."""
        stride = max(5, int(np.ceil(len(z) * z.shape[1] ** 3 * 10 / WORK)))
        out = np.empty_like(z)
        for start, matrices in _history(np.clip(z, -BOUND, BOUND), self.half_life_, stride, self.long_run_):
            roots = matrix_power(_blend(matrices, self.long_run_, self.shrinkage_), -0.5)
            for k, root in enumerate(roots):
                rows = slice(start + k * stride, min(start + (k + 1) * stride, len(z)))
                out[rows] = z[rows] @ root
        return out


def _blend(recent: np.ndarray, long_run: np.ndarray, shrinkage: float) -> np.ndarray:
    return (1 - shrinkage) * as_correlation(recent) + shrinkage * long_run


def _history(z: np.ndarray, half_life: float, stride: int, start: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """EWMA matrices before rows 0, stride, 2 stride, ...: (first row, (k, asset, asset)) by pieces of bounded size."""
    keep = decay(half_life)
    matrix, pieces, block, first = start.copy(), [], [], 0
    weights = keep ** np.arange(stride - 1, -1, -1) * (1 - keep)
    size = max(1, int(4e6 // z.shape[1] ** 2))
    for row in range(0, len(z), stride):
        block.append(matrix)
        part = z[row : row + stride]
        if len(part) == stride:
            matrix = keep**stride * matrix + (part * weights[:, None]).T @ part
        if len(block) == size:
            pieces.append((first, np.stack(block)))
            first, block = row + stride, []
    if block:
        pieces.append((first, np.stack(block)))
    return pieces


def _choose(z: np.ndarray, share: Callable[[int, float], float]) -> float:
    """Half-life under which the second half of these bounded rows is likeliest."""
    columns = np.unique(np.linspace(0, z.shape[1] - 1, min(SEARCHED, z.shape[1])).astype(int))
    y, stride = z[:, columns], 5
    half = len(y) // 2
    long_run = long_run_correlation(y[:half])
    best = (np.inf, HALF_LIVES[0])
    for life in HALF_LIVES:
        matrices = np.concatenate([m for _, m in _history(y, life, stride, long_run)])
        blended = _blend(matrices, long_run, share(y.shape[1], life))
        logdet, inverse = np.linalg.slogdet(blended)[1], np.linalg.inv(blended)
        loss = 0.0
        for k in range(half // stride, len(matrices)):
            rows = y[k * stride : (k + 1) * stride]
            loss += len(rows) * logdet[k] + float(((rows @ inverse[k]) * rows).sum())
        best = min(best, (loss, life))
    return best[1]
