"""Heaviness of joint tails: degrees of freedom of a multivariate Student-t, and correlations from ranks."""

from __future__ import annotations

import numpy as np
from scipy import stats as st
from scipy.special import gammaln

GRID = np.array([2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0, 40.0])
ROWS = 3000  # rows that degrees of freedom are read from


def _log_constant(nu: np.ndarray | float, n: int) -> np.ndarray | float:
    return gammaln((nu + n) / 2) - gammaln(nu / 2) - 0.5 * n * np.log(nu * np.pi)


def radius_degrees(x: np.ndarray) -> float:
    """Degrees of freedom of the multivariate t that best fits the Mahalanobis radii of x (time, asset)."""
    y = x[-ROWS:] - x[-ROWS:].mean(axis=0)
    n = y.shape[1]
    covariance = y.T @ y / len(y)
    solid = covariance + 1e-9 * np.trace(covariance) / n * np.eye(n)
    radius = np.einsum("ti,ti->t", y, np.linalg.solve(solid, y.T).T)
    scores = []
    for nu in GRID:
        shrink = (nu - 2) / nu  # covariance = scatter / shrink
        scores.append(
            _log_constant(nu, n) - 0.5 * n * np.log(shrink) - (nu + n) / 2 * np.mean(np.log1p(radius / shrink / nu))
        )
    return float(GRID[int(np.argmax(scores))])


def uniform_ranks(x: np.ndarray) -> np.ndarray:
    """Ranks of each column scaled into (0, 1), (time, asset); ties broken by order."""
    return (np.argsort(np.argsort(x, axis=0, kind="stable"), axis=0, kind="stable") + 0.5) / len(x)


def rank_correlation(u: np.ndarray) -> np.ndarray:
    """Correlation of an elliptical copula from Spearman's rho (2 sin(pi rho / 6)), nudged to be positive definite."""
    n_rows, n = u.shape
    rho = np.atleast_2d(np.corrcoef(u, rowvar=False))
    matrix = 2.0 * np.sin(np.pi * rho / 6.0)
    weight = 1.0 / (n_rows + 1.0)
    matrix = (1.0 - weight) * matrix + weight * np.eye(n)
    values, vectors = np.linalg.eigh(matrix)
    matrix = (vectors * np.maximum(values, 1e-4)) @ vectors.T
    d = np.sqrt(np.diag(matrix))
    return matrix / np.outer(d, d)


def t_table(nu: float, size: int = 4001) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and quantiles of Student's t, evenly spaced in normal scores: for interpolation."""
    normal = np.linspace(-6.0, 6.0, size)
    u = st.norm.cdf(normal)
    return u, st.t.ppf(u, nu)


def copula_degrees(u: np.ndarray, correlation: np.ndarray) -> float:
    """Degrees of freedom of a t copula by pseudo-likelihood given its correlation (McNeil, Frey & Embrechts 2005, 5.5).

    ``u`` (time, asset): uniform ranks.
    """
    u = u[-ROWS:]
    n = u.shape[1]
    scores = []
    logdet = np.linalg.slogdet(correlation)[1]
    for nu in GRID:
        x = np.interp(u, *t_table(nu))
        radius = np.einsum("ti,ti->t", x, np.linalg.solve(correlation, x.T).T)
        joint = _log_constant(nu, n) - 0.5 * logdet - (nu + n) / 2 * np.log1p(radius / nu)
        single = n * _log_constant(nu, 1) - ((nu + 1) / 2 * np.log1p(x**2 / nu)).sum(axis=1)
        scores.append(float(np.mean(joint - single)))
    return float(GRID[int(np.argmax(scores))])


def t_degrees(z: np.ndarray) -> float:
    """Degrees of freedom of one column, scale matched to its middle half (robust to the scale of z)."""
    width = np.quantile(np.abs(z), 0.5)
    best, out = -np.inf, GRID[0]
    for nu in GRID:
        q = (z / (width / st.t.ppf(0.75, nu))) ** 2
        score = _log_constant(nu, 1) - np.log(width / st.t.ppf(0.75, nu)) - (nu + 1) / 2 * np.mean(np.log1p(q / nu))
        if score > best:
            best, out = float(score), nu
    return float(out)
