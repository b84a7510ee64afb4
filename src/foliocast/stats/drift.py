"""Expected returns for scenario models: shrunk, because a sample mean is mostly noise."""

from __future__ import annotations

import numpy as np

from foliocast.core.errors import ConfigError

DRIFTS = ("shrunk", "common", "sample", "zero")


def earned(estimate: float, variance: float) -> float:
    """An estimate times t^2 / (1 + t^2) for its t-statistic; ``variance`` is that of its error."""
    return estimate * estimate**2 / (estimate**2 + max(variance, 1e-300))


def expected_drift(returns: np.ndarray, kind: str = "shrunk") -> np.ndarray:
    """Mean of each asset per bar, (asset,).

    Parameters
    ----------
    returns : ndarray (time, asset)
        Finite.
    kind : {"shrunk", "common", "sample", "zero"}
        ``common``: the mean of all assets, times t^2 / (1 + t^2) for its t-statistic. ``shrunk``: the same plus each
        asset's deviation times the positive-part James-Stein factor (Efron & Morris 1973), from four assets on.
    """
    if kind not in DRIFTS:
        raise ConfigError(f"drift '{kind}' is unknown; choose one of {', '.join(DRIFTS)}")
    n_rows, n = returns.shape
    if kind == "zero":
        return np.zeros(n)
    mean = returns.mean(axis=0)
    if kind == "sample":
        return mean
    market = returns.mean(axis=1)
    centre = earned(float(market.mean()), float(market.var()) / n_rows)
    if n < 4 or kind == "common":
        return np.full(n, centre)
    gap = mean - mean.mean()
    error = (returns - market[:, None]).var(axis=0).mean() / n_rows
    keep = max(0.0, 1.0 - (n - 3) * error / max(float(gap @ gap), 1e-300))
    return centre + keep * gap
