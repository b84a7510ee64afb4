"""Make drawn paths meet what is given of the future, exactly, moving everything else as the dependence says.

Matheron's rule: if ``x`` is drawn from a joint law with covariance C, ``x + C A' (A C A')^-1 (b - A x)`` meets
``A x = b`` and, when the law is Gaussian, *is* a draw from the conditional law (Doucet 2010). Beyond the Gaussian it is
the regression adjustment of approximate Bayesian computation (Beaumont, Zhang & Balding 2002), whose error shrinks as
the draws handed in come closer to the target: `nearest_totals` picks them.
"""

from __future__ import annotations

import numpy as np

from foliocast.core.conditions import Condition

RIDGE = 1e-9


def step_covariance(log_paths: np.ndarray) -> np.ndarray:
    """Covariance of the assets at each step over the scenarios, (horizon, asset, asset); steps are independent."""
    centred = log_paths - log_paths.mean(axis=0)
    return np.einsum("shi,shj->hij", centred, centred, optimize=True) / len(centred)


def regression_gain(covariance: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Regression of every asset on these columns, (..., asset, column)."""
    block = covariance[..., columns[:, None], columns]
    size = np.trace(block, axis1=-2, axis2=-1)[..., None, None] / len(columns)
    solid = block + (RIDGE * size + 1e-300) * np.eye(len(columns))
    return np.swapaxes(np.linalg.solve(solid, np.swapaxes(covariance[..., columns], -1, -2)), -1, -2)


def meet(log_paths: np.ndarray, condition: Condition, covariance: np.ndarray | None = None) -> np.ndarray:
    """Paths that meet the condition to rounding error, (scenario, horizon, asset) log returns.

    Parameters
    ----------
    log_paths : ndarray, shape (scenario, horizon, asset)
        Draws from the law without the condition; not changed.
    condition : Condition
    covariance : ndarray (horizon, asset, asset), optional
        Of each step; default: of the draws.
    """
    if condition.empty:
        return log_paths
    x = np.array(log_paths, dtype=float)
    sigma = np.array(step_covariance(x) if covariance is None else covariance)
    fixed = np.isfinite(condition.path)
    values = np.log1p(np.where(fixed, condition.path, 0.0))
    for h in np.flatnonzero(fixed.any(axis=1)):
        columns = np.flatnonzero(fixed[h])
        gain = regression_gain(sigma[h], columns)
        x[:, h] += (values[h, columns] - x[:, h, columns]) @ gain.T
        x[:, h, columns] = values[h, columns]
        sigma[h] -= gain @ sigma[h][columns]
    totals = np.flatnonzero(np.isfinite(condition.total))
    if len(totals):
        _meet_totals(x, np.log1p(condition.total[totals]), totals, sigma)
    return x


def _meet_totals(x: np.ndarray, target: np.ndarray, columns: np.ndarray, sigma: np.ndarray) -> None:
    """Pull the sums over the horizon to the target, in place."""
    whole = sigma.sum(axis=0)[columns[:, None], columns]
    size = np.trace(whole) / len(columns)
    lever = np.linalg.solve(whole + (RIDGE * size + 1e-300) * np.eye(len(columns)), np.eye(len(columns)))
    miss = target - x[:, :, columns].sum(axis=1)
    x += np.einsum("sk,hik->shi", miss @ lever, sigma[:, :, columns], optimize=True)
    share = np.maximum(sigma[:, columns, columns], 0.0) + 1e-300
    rest = target - x[:, :, columns].sum(axis=1)  # what the ridge left over
    x[:, :, columns] += rest[:, None, :] * (share / share.sum(axis=0))


def nearest_totals(log_paths: np.ndarray, condition: Condition, n: int) -> np.ndarray:
    """Positions of the ``n`` scenarios whose totals lie nearest to those given (Mahalanobis), in their own order."""
    columns = np.flatnonzero(np.isfinite(condition.total))
    totals = log_paths[:, :, columns].sum(axis=1)
    target = np.log1p(condition.total[columns])
    spread = np.atleast_2d(np.cov(totals, rowvar=False)) + 1e-300 * np.eye(len(columns))
    gap = totals - target
    distance = np.einsum("sk,sk->s", gap @ np.linalg.pinv(spread), gap)
    return np.sort(np.argpartition(distance, min(n, len(distance)) - 1)[:n])
