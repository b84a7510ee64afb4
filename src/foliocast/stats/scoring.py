"""Proper scores and calibration of distributional forecasts. Lower is better for every score.

Samples carry the scenario on their first axis. Scores of finite samples are *fair* by default: their expectation does
not depend on the number of scenarios (Ferro 2014), so models sampled differently can be compared. NaN in, NaN out.
"""

from __future__ import annotations

import numpy as np

from foliocast.core.errors import DataError

PAIRS_AT_ONCE = 1 << 22


def crps(
    samples: np.ndarray, observed: np.ndarray | float, probabilities: np.ndarray | None = None, fair: bool = True
) -> np.ndarray:
    """Continuous ranked probability score, exact in O(n log n), in the units of the data.

    ``E|X - y| - E|X - X'| / 2`` (Gneiting & Raftery 2007, eq. 21).

    Parameters
    ----------
    samples : ndarray, shape (scenario, ...)
    observed : ndarray, shape (...)
    probabilities : ndarray, shape (scenario,), optional
        Weights of the scenarios; the score is then the weighted one, not the fair one.
    """
    x, y = np.asarray(samples, dtype=float), np.asarray(observed, dtype=float)
    n = len(x)
    if probabilities is None:
        rank = (2.0 * np.arange(n) - n + 1.0).reshape(-1, *[1] * (x.ndim - 1))
        spread = (rank * np.sort(x, axis=0)).sum(axis=0) / (n * max(n - 1, 1) if fair else n * n)
        return np.abs(x - y).mean(axis=0) - spread
    order = np.argsort(x, axis=0)
    ordered = np.take_along_axis(x, order, axis=0)
    p = np.asarray(probabilities)[order]
    below = np.cumsum(p, axis=0) - p
    spread = (p * (2.0 * below + p - 1.0) * ordered).sum(axis=0)
    return np.tensordot(probabilities, np.abs(x - y), axes=(0, 0)) - spread


def energy_score(
    samples: np.ndarray, observed: np.ndarray, probabilities: np.ndarray | None = None, fair: bool = True
) -> float:
    """Energy score ``E||X - y|| - E||X - X'|| / 2`` of a vector (Gneiting & Raftery 2007), pairs by chunks.

    Parameters
    ----------
    samples : ndarray, shape (scenario, dimension)
    observed : ndarray, shape (dimension,)
    """
    x, y = np.asarray(samples, dtype=float), np.asarray(observed, dtype=float)
    n = len(x)
    p = np.full(n, 1.0 / n) if probabilities is None else np.asarray(probabilities)
    to_truth = float(p @ np.sqrt(((x - y) ** 2).sum(axis=1)))
    x = x - x.mean(axis=0)
    norms = (x**2).sum(axis=1)
    total, step = 0.0, max(1, PAIRS_AT_ONCE // n)
    for start in range(0, n, step):
        part = slice(start, min(start + step, n))
        squared = norms[part, None] + norms - 2.0 * (x[part] @ x.T)
        np.maximum(squared, 0.0, out=squared)
        rows = np.arange(part.stop - part.start)
        squared[rows, rows + start] = 0.0
        total += float(p[part] @ (np.sqrt(squared, out=squared) @ p))
    if fair and probabilities is None and n > 1:
        total *= n / (n - 1)
    return to_truth - 0.5 * total


def variogram_score(
    samples: np.ndarray, observed: np.ndarray, power: float = 0.5, probabilities: np.ndarray | None = None
) -> float:
    """Variogram score, mean over pairs (Scheuerer & Hamill 2015, eq. 7 with equal weights): tells dependence apart.

    Parameters
    ----------
    samples : ndarray, shape (scenario, dimension)
    observed : ndarray, shape (dimension,)
    """
    x, y = np.asarray(samples, dtype=float), np.asarray(observed, dtype=float)
    first, second = np.triu_indices(x.shape[1], 1)
    if len(first) == 0:
        raise DataError("a variogram score needs at least two dimensions, found one")
    p = np.full(len(x), 1.0 / len(x)) if probabilities is None else np.asarray(probabilities)
    total, step = 0.0, max(1, PAIRS_AT_ONCE // len(x))
    for start in range(0, len(first), step):
        i, j = first[start : start + step], second[start : start + step]
        gap = np.abs(x[:, i] - x[:, j])
        expected = p @ (np.sqrt(gap) if power == 0.5 else gap**power)
        total += float(((np.abs(y[i] - y[j]) ** power - expected) ** 2).sum())
    return total / len(first)


def log_score(samples: np.ndarray, observed: float) -> float:
    """Minus the log density of a sample (scenario,) at what came, by kernel density.

    The kernel is a Student-t with four degrees of freedom, its width Silverman's rule with a robust scale: a Gaussian
    kernel would give a move beyond all draws a density of nothing, and the score would be about that move alone.
    """
    x = np.asarray(samples, dtype=float)
    low, high = np.quantile(x, [0.25, 0.75])
    size = min(float(x.std()), float(high - low) / 1.349) or float(x.std())
    width = 0.9 * size * len(x) ** -0.2
    if width <= 0:
        raise DataError("a log score needs draws that differ; these are all the same")
    u = (observed - x) / width
    return float(np.log(width) - np.log(np.mean(0.375 * (1 + u**2 / 4) ** -2.5)))


def pinball(quantile: np.ndarray, observed: np.ndarray, level: float) -> np.ndarray:
    """Quantile (pinball) loss, elementwise."""
    gap = np.asarray(observed) - np.asarray(quantile)
    return np.maximum(level * gap, (level - 1.0) * gap)


def var_es(samples: np.ndarray, level: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Lower-tail quantile and the mean below it, as returns (negative for a loss); first axis is the scenario."""
    x = np.sort(np.asarray(samples, dtype=float), axis=0)
    cut = np.quantile(x, level, axis=0)
    count = max(1, int(np.floor(level * len(x))))
    return cut, np.minimum(x[:count].mean(axis=0), cut)


def fz0(value_at_risk: np.ndarray, shortfall: np.ndarray, observed: np.ndarray, level: float = 0.05) -> np.ndarray:
    """Fissler-Ziegel loss of a (VaR, ES) pair, zero-degree homogeneous (Patton, Ziegel & Chen 2019, eq. 6).

    All three are returns, lower tail: ``shortfall <= value_at_risk``, ``shortfall < 0``; NaN where it is not.
    """
    v, e, y = (np.asarray(a, dtype=float) for a in (value_at_risk, shortfall, observed))
    e = np.where(e < 0, e, np.nan)
    return v / e - np.where(y <= v, v - y, 0.0) / (level * e) + np.log(-e) - 1.0


def pit(samples: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Probability integral transform, mid-rank, in (0, 1): uniform when the forecasts are calibrated."""
    x = np.asarray(samples)
    below = (x < observed).sum(axis=0) + 0.5 * (x == observed).sum(axis=0)
    return (below + 0.5) / (len(x) + 1.0)


def coverage(pit_values: np.ndarray, level: float = 0.9) -> float:
    """Share of observations inside the central interval of that level."""
    u = np.asarray(pit_values)
    return float(np.mean(np.abs(u - 0.5) <= level / 2))
