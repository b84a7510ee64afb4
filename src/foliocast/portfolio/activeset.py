"""Exact minimisation of a convex quadratic within bounds and one equality, by block principal pivoting.

Every pass solves the optimality conditions on the assets between their bounds and exchanges all that disagree
(Kostreva, 1978; Portugal, Judice and Vicente, 1994); when that stops helping it exchanges one at a time. The answer is
exact in the sense of linear algebra and does not depend on units: daily, annual and percent give the same weights.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dposv


def box_quadratic(
    matrix: np.ndarray,
    linear: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    row: np.ndarray | None = None,
    level: float = 0.0,
    start: np.ndarray | None = None,
    max_iter: int = 300,
) -> tuple[np.ndarray, float] | None:
    """``min w' Q w / 2 + c . w`` with ``lower <= w <= upper`` and ``row . w = level``.

    Parameters
    ----------
    matrix : ndarray, shape (asset, asset)
        Positive definite on the assets that end up between their bounds.
    start : ndarray, shape (asset,), optional
        Weights whose bounds are tried first.

    Returns
    -------
    (weights, gap) or None
        ``gap`` bounds how far the objective is above its minimum; None when the method does not apply (a singular
        matrix, no asset left between its bounds) or does not end.
    """
    state = np.zeros(len(linear), dtype=np.int8)  # -1 at lower, 0 between, 1 at upper
    if start is not None:
        state = np.where(start <= lower, -1, np.where(start >= upper, 1, 0)).astype(np.int8)
        state = np.zeros_like(state) if not (state == 0).any() else state
    fewest, patience = len(linear) + 1, 6
    steep, bend = float(np.abs(linear).max()), float(matrix.diagonal().max())
    for _ in range(max_iter):
        found = _on_face(matrix, linear, lower, upper, row, level, state)
        if found is None:
            return None
        w, slope = found
        top = float(np.abs(w).max())
        reach, force = 1e-12 * max(1.0, top), 1e-11 * max(steep, bend * top, 1e-300)
        wrong = _wrong(state, w, slope, lower - reach, upper + reach, force)
        count = int(np.count_nonzero(wrong))
        if count == 0:
            w = np.clip(w, lower, upper)
            with np.errstate(invalid="ignore"):
                loss = np.where(slope > 0, slope * (w - lower), np.where(slope < 0, slope * (w - upper), 0.0))
            return w, float(loss[state != 0].sum())
        if count < fewest:
            fewest, patience = count, 6
        else:
            patience -= 1
        if patience <= 0:
            last = np.flatnonzero(wrong)[-1]
            wrong = np.where(np.arange(len(wrong)) == last, wrong, 0)
        state = np.where(wrong == 0, state, np.where(wrong == 9, 0, wrong)).astype(np.int8)
    return None


def _on_face(
    matrix: np.ndarray,
    linear: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    row: np.ndarray | None,
    level: float,
    state: np.ndarray,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Minimum with the assets at bounds held there: weights and the slope of the Lagrangian."""
    between = (state == 0).nonzero()[0]
    if len(between) == 0:
        return None
    w, nu, all_free = np.zeros(len(state)), 0.0, len(between) == len(state)
    if not all_free:
        np.copyto(w, lower, where=state < 0)
        np.copyto(w, upper, where=state > 0)
    pull = linear if all_free or not np.count_nonzero(w) else linear + matrix @ w
    right = np.empty((len(between), 1 if row is None else 2), order="F")
    right[:, 0] = pull[between]
    if row is not None:
        right[:, 1] = row[between]
    # LAPACK by itself: on twenty assets the checks around it would cost more than the solution
    inner = matrix if all_free else matrix[between[:, None], between]
    _, both, info = dposv(inner, right, lower=1, overwrite_b=1)
    if info != 0:
        return None
    w[between] = -both[:, 0]
    if row is not None:
        bend = float(row[between] @ both[:, 1])
        if bend <= 0:
            return None
        nu = -(level - float(row @ w)) / bend
        w[between] -= nu * both[:, 1]
    slope = linear + matrix @ w
    if row is not None:
        slope += nu * row
    slope[between] = 0.0
    return w, slope


def _wrong(
    state: np.ndarray, w: np.ndarray, slope: np.ndarray, lower: np.ndarray, upper: np.ndarray, force: float
) -> np.ndarray:
    """Where each asset should go: 0 stay, -1 to lower, 1 to upper, 9 between."""
    # at a bound w equals it, so only those between can be outside
    out = (w > upper).view(np.int8) - (w < lower).view(np.int8)
    out[state * slope > force] = 9  # at lower the slope must not be negative, at upper not positive
    return out
