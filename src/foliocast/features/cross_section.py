"""Standardisation across the assets of one date: causal, because it reads that date alone."""

from __future__ import annotations

import numpy as np

FEWEST = 2  # assets that make a cross-section


def standardise_by_date(values: np.ndarray, members: np.ndarray | None = None) -> np.ndarray:
    """Less the mean and over the standard deviation of the members, date by date and feature by feature.

    Parameters
    ----------
    values : ndarray, shape (..., asset, feature)
    members : ndarray of bool, broadcast to (..., asset), optional
        Whose mean and deviation count; the others are measured by them. Default: every asset with a value. Where
        fewer than two members have a value, every asset with one counts.

    Returns
    -------
    ndarray of the same shape
        NaN stays NaN; zero where all members are equal, or alone.
    """
    known = np.isfinite(values)
    counted = known if members is None else known & np.asarray(members)[..., None]
    counted = np.where(counted.sum(axis=-2, keepdims=True) >= FEWEST, counted, known)
    n = np.maximum(counted.sum(axis=-2, keepdims=True), 1)
    mean = np.where(counted, values, 0.0).sum(axis=-2, keepdims=True) / n
    away = values - mean
    deviation = np.sqrt(np.where(counted, away**2, 0.0).sum(axis=-2, keepdims=True) / n)
    return np.where(deviation > 0, away / np.where(deviation > 0, deviation, 1.0), np.where(known, 0.0, np.nan))


def ranks_by_date(values: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks within each date, (date, asset): the k-th of n becomes the normal quantile of
    (k - 1/2) / n. NaN stays NaN; ties go by position.
    """
    from scipy.stats import norm

    known = np.isfinite(values)
    order = np.where(known, values, np.inf).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    n = np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.where(known, norm.ppf(np.clip((order + 0.5) / n, 1e-9, 1 - 1e-9)), np.nan)
