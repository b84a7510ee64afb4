"""Do simulated paths look like markets? Stylised facts with a band, coverage of the data, and memorisation.

Facts are computed on windows of one length, real and simulated alike, because most of them are biased in short samples:
like is compared with like.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from foliocast.core.errors import HistoryError

LAGS = 10
TAIL = 0.1  # share of the sample that the tail index and tail dependence look at


def windows(returns: np.ndarray, length: int) -> np.ndarray:
    """Non-overlapping windows of a history, the latest kept whole, (window, length, asset).

    Raises
    ------
    HistoryError
        Not one full window.
    """
    count = len(returns) // length
    if count < 1:
        raise HistoryError(f"{len(returns)} rows hold no window of {length} bars; use shorter windows")
    return returns[len(returns) - count * length :].reshape(count, length, -1)


def hill(x: np.ndarray, share: float = TAIL) -> np.ndarray:
    """Hill's tail index of |x| along axis 1 (smaller is heavier), (window, asset) from (window, time, asset)."""
    ordered = np.sort(np.abs(x), axis=1)[:, ::-1]
    k = max(2, int(share * x.shape[1]))
    top = np.maximum(ordered[:, : k + 1], 1e-12)
    return 1.0 / np.maximum(np.log(top[:, :k] / top[:, k : k + 1]).mean(axis=1), 1e-12)


def _autocorrelation(x: np.ndarray, y: np.ndarray, lags: int) -> np.ndarray:
    """Mean over lags 1..lags of corr(x[t], y[t + lag]) along axis 1, (window, asset)."""
    a, b = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    scale = np.sqrt((a**2).mean(axis=1) * (b**2).mean(axis=1)) + 1e-300
    total = sum((a[:, :-k] * b[:, k:]).sum(axis=1) for k in range(1, lags + 1))
    return np.asarray(total) / (lags * x.shape[1] * scale)


def _tail_dependence(x: np.ndarray, share: float) -> np.ndarray:
    """Mean over pairs of P(both in the lower tail | one is), (window,)."""
    low = x <= np.quantile(x, share, axis=1, keepdims=True)
    n = x.shape[2]
    if n < 2:
        return np.full(len(x), np.nan)
    together = np.einsum("wti,wtj->wij", low, low, dtype=float)
    each = np.einsum("wii->wi", together)
    pairs = (together.sum(axis=(1, 2)) - each.sum(axis=1)) / (n * (n - 1))
    return pairs / np.maximum(each.mean(axis=1), 1.0)


def facts(x: np.ndarray) -> pd.DataFrame:
    """Stylised facts of each window, (window x fact), averaged over assets (Cont 2001).

    ``tail_index`` (Hill, worst tenth of |r|), ``kurtosis`` (excess), ``skewness``, ``acf_abs`` and ``acf_square``
    (mean of lags 1-10), ``acf`` (of returns, lag 1), ``leverage`` (return against later squares; negative in equities),
    ``correlation`` (mean pair), ``first_eigenvalue`` and ``second_eigenvalue`` (shares of the variance of standardised
    returns), ``tail_dependence`` (worst tenth), ``gain_loss`` (mean of the best twentieth over that of the worst).

    Parameters
    ----------
    x : ndarray (window, time, asset)
        Finite simple returns.
    """
    z = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt((z**2).mean(axis=1, keepdims=True)) + 1e-300
    z = z / deviation
    corr = np.einsum("wti,wtj->wij", z, z) / x.shape[1]
    n = x.shape[2]
    values = np.linalg.eigvalsh(corr)[:, ::-1] / n
    ordered = np.sort(z, axis=1)
    k = max(1, x.shape[1] // 20)
    out = {
        "tail_index": hill(z).mean(axis=1),
        "kurtosis": (z**4).mean(axis=(1, 2)) - 3.0,
        "skewness": (z**3).mean(axis=(1, 2)),
        "acf": _autocorrelation(z, z, 1).mean(axis=1),
        "acf_abs": _autocorrelation(np.abs(z), np.abs(z), LAGS).mean(axis=1),
        "acf_square": _autocorrelation(z**2, z**2, LAGS).mean(axis=1),
        "leverage": _autocorrelation(z, z**2, LAGS).mean(axis=1),
        "first_eigenvalue": values[:, 0],
        "gain_loss": (-ordered[:, -k:].mean(axis=1) / ordered[:, :k].mean(axis=1)).mean(axis=1),
    }
    if n > 1:
        out["correlation"] = (corr.sum(axis=(1, 2)) - n) / (n * (n - 1))
        out["second_eigenvalue"] = values[:, 1]
        out["tail_dependence"] = _tail_dependence(z, TAIL)
    return pd.DataFrame(out)


def compare_facts(
    real: np.ndarray,
    simulated: np.ndarray,
    level: float = 0.95,
    n_resamples: int = 1000,
    random_state: int | np.random.Generator = 0,
) -> pd.DataFrame:
    """Facts of the data with a bootstrap band, those of the model, and their distance in standard errors.

    Parameters
    ----------
    real, simulated : ndarray (window, time, asset)
        Windows of one length. The band resamples real windows.

    Returns
    -------
    DataFrame
        By fact: ``real``, ``low``, ``high``, ``simulated``, ``distance`` (in standard errors), ``inside`` (the band).
    """
    if real.shape[1:] != simulated.shape[1:]:
        raise HistoryError(
            f"windows are {real.shape[1:]} and {simulated.shape[1:]} (time, asset); use the same of both"
        )
    rng = np.random.default_rng(random_state)
    truth, made = facts(real), facts(simulated)
    picks = rng.integers(len(truth), size=(n_resamples, len(truth)))
    means = truth.to_numpy()[picks].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    out = pd.DataFrame({"real": truth.mean(), "low": low, "high": high, "simulated": made.mean()})
    out["distance"] = (out["simulated"] - out["real"]) / np.maximum(means.std(axis=0), 1e-12)
    out["inside"] = (out["simulated"] >= out["low"]) & (out["simulated"] <= out["high"])
    return out


def path_features(x: np.ndarray) -> np.ndarray:
    """A window as a point: the log volatility, total, worst and best bar of each asset, and the mean correlation.

    (window, time, asset) -> (window, feature).
    """
    z = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt((z**2).mean(axis=1)) + 1e-12
    unit = z / deviation[:, None]
    n = x.shape[2]
    square = (unit.sum(axis=2) ** 2).mean(axis=1)
    common = (square - n) / max(1, n * (n - 1))
    parts = [np.log(deviation), x.sum(axis=1), x.min(axis=1), x.max(axis=1), common[:, None]]
    return np.concatenate(parts, axis=1)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * a @ b.T
    return np.sqrt(np.maximum(squared, 0.0))


def coverage_precision(real: np.ndarray, simulated: np.ndarray, k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage in a feature space (Naeem et al. 2020); mode collapse lowers coverage.

    Parameters
    ----------
    real, simulated : ndarray (point, feature)
        `path_features`; scaled by the real points' deviation here.

    Returns
    -------
    dict
        ``coverage``: share of real points with a simulated one within reach of their k-th real neighbour. ``density``:
        how crowded those neighbourhoods are (1 is right). ``precision``, ``recall``: share of simulated (real) points
        inside the other's neighbourhoods (Kynkaanniemi et al. 2019).
    """
    if min(len(real), len(simulated)) <= k:
        raise HistoryError(f"{len(real)} and {len(simulated)} points are too few for {k} neighbours")
    centre, scale = real.mean(axis=0), real.std(axis=0) + 1e-12
    a, b = (real - centre) / scale, (simulated - centre) / scale
    reach_a = np.sort(_distances(a, a), axis=1)[:, k]
    reach_b = np.sort(_distances(b, b), axis=1)[:, k]
    cross = _distances(a, b)
    inside = cross <= reach_a[:, None]
    return {
        "coverage": float(inside.any(axis=1).mean()),
        "density": float(inside.sum(axis=0).mean() / k),
        "precision": float(inside.any(axis=0).mean()),
        "recall": float((cross <= reach_b[None, :]).any(axis=1).mean()),
    }


def memorisation(train: np.ndarray, held_out: np.ndarray, simulated: np.ndarray) -> dict[str, float]:
    """Are simulated windows copies of training windows? Nearest-neighbour distances against those of held-out data.

    Parameters
    ----------
    train, held_out, simulated : ndarray (point, ...)
        Windows or features; flattened, scaled by the training deviation.

    Returns
    -------
    dict
        ``nearer``: share of simulated points nearer to a training point than held-out points typically are (about 0.5
        for an honest model, towards 1 for a copier); ``copies``: share nearer than one held-out point in a
        hundred is; ``p``: one-sided Mann-Whitney probability of distances this small in an honest model.
    """
    from scipy.stats import mannwhitneyu

    base, fresh, made = (v.reshape(len(v), -1) for v in (train, held_out, simulated))
    scale = base.std(axis=0) + 1e-12
    near_fresh = _distances(fresh / scale, base / scale).min(axis=1)
    near_made = _distances(made / scale, base / scale).min(axis=1)
    return {
        "nearer": float((near_made < np.median(near_fresh)).mean()),
        "copies": float((near_made < np.quantile(near_fresh, 0.01)).mean()),
        "p": float(mannwhitneyu(near_made, near_fresh, alternative="less").pvalue),
    }
