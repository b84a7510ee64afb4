"""Covariances and causal volatilities.

``returns`` are simple returns per bar, (time, asset). Rows with a missing value are left out of joint moments; the
exponentially weighted series skip it and carry the last value on. Nothing is annualised.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError, HistoryError

Table = pd.DataFrame | np.ndarray


def covariance(returns: Table) -> np.ndarray:
    """Sample covariance (ddof = 1), (asset, asset)."""
    return np.atleast_2d(np.cov(_complete(returns), rowvar=False))


def ewma_covariance(returns: Table, halflife: float = 63.0) -> np.ndarray:
    """Covariance around zero with weights that halve every ``halflife`` bars, (asset, asset).

    Weights sum to one; the mean is taken as zero because over a few months its estimate is mostly noise. RiskMetrics
    (1996).
    """
    values = _complete(returns)
    weights = 0.5 ** (np.arange(len(values))[::-1] / _positive(halflife))
    return (values * (weights / weights.sum())[:, None]).T @ values


def ledoit_wolf(returns: Table) -> np.ndarray:
    """Sample covariance shrunk to a scaled identity by the optimal amount. Ledoit and Wolf (2004)."""
    from sklearn.covariance import LedoitWolf

    return LedoitWolf().fit(_complete(returns)).covariance_


def correlation(cov: np.ndarray) -> np.ndarray:
    """Correlations of a covariance matrix; one on the diagonal, zero beside an asset without variance."""
    deviation = np.sqrt(np.diag(cov))
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    out = cov * scale[:, None] * scale
    np.fill_diagonal(out, 1.0)
    return out


def shrink_correlation(cov: np.ndarray, intensity: float = 0.1, target: str = "mean") -> np.ndarray:
    """Pull the correlations of a covariance towards a target and leave the variances as they are.

    Parameters
    ----------
    cov : ndarray, shape (asset, asset)
    intensity : float
        0 keeps the sample, 1 is the target.
    target : {"mean", "identity"}
        One common correlation (Ledoit and Wolf 2003), or none.
    """
    if not 0.0 <= intensity <= 1.0:
        raise ConfigError(f"intensity = {intensity}, a number between 0 (sample) and 1 (target) is needed")
    corr = correlation(cov)
    n = len(corr)
    if target not in ("mean", "identity"):
        raise ConfigError(f"target = '{target}', expected 'mean' or 'identity'")
    common = (corr.sum() - n) / (n * (n - 1)) if target == "mean" and n > 1 else 0.0
    goal = np.full_like(corr, common)
    np.fill_diagonal(goal, 1.0)
    deviation = np.sqrt(np.diag(cov))
    return ((1.0 - intensity) * corr + intensity * goal) * deviation[:, None] * deviation


def nearest_psd(cov: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """The closest symmetric matrix (Frobenius) whose eigenvalues are not below ``floor``. Higham (1988)."""
    values, vectors = np.linalg.eigh((cov + cov.T) / 2.0)
    return (vectors * np.maximum(values, floor)) @ vectors.T


def ewma_volatility(returns: pd.DataFrame, halflife: float = 21.0, min_periods: int = 1) -> pd.DataFrame:
    """Causal volatility per bar: the row of bar t uses returns up to and including t, around a mean of zero.

    To scale the return of bar t by what was known before it, shift the result by one bar.
    """
    return (returns**2).ewm(halflife=_positive(halflife), min_periods=min_periods).mean() ** 0.5


def ewma_mean(values: pd.DataFrame, halflife: float = 21.0, min_periods: int = 1) -> pd.DataFrame:
    """Causal exponentially weighted mean; the row of bar t uses values up to and including t."""
    return values.ewm(halflife=_positive(halflife), min_periods=min_periods).mean()


def _positive(halflife: float) -> float:
    if not halflife > 0:
        raise ConfigError(f"halflife = {halflife}, a positive number of bars is needed")
    return halflife


def _complete(returns: Table) -> np.ndarray:
    values = np.asarray(returns, dtype=float)
    values = values[np.isfinite(values).all(axis=1)]
    if len(values) < 2:
        raise HistoryError(f"{len(values)} complete rows of returns found, at least 2 are needed for a covariance")
    return values
