"""GARCH(1,1) and GJR-GARCH(1,1), many assets at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.signal import lfilter

from foliocast.stats.variances import FLOOR


@dataclass(frozen=True)
class GarchParameters:
    """sigma2[t] = omega + (alpha + gamma 1[x<0]) x[t-1]^2 + beta sigma2[t-1]; each of shape (asset,)."""

    omega: np.ndarray
    alpha: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray

    @property
    def persistence(self) -> np.ndarray:
        return self.alpha + 0.5 * self.gamma + self.beta


def garch_variance(returns: np.ndarray, parameters: GarchParameters, start: np.ndarray) -> np.ndarray:
    """Conditional variance of each bar and of the next, (time + 1, asset); row t uses rows < t.

    ``start`` (asset,) is the variance of the first bar.
    """
    squared = returns**2
    shocks = parameters.omega + (parameters.alpha + parameters.gamma * (returns < 0)) * squared
    out = np.empty((len(returns) + 1, returns.shape[1]))
    out[0] = start
    for i, beta in enumerate(parameters.beta):
        out[1:, i] = lfilter([1.0], [1.0, -beta], shocks[:, i], zi=[beta * start[i]])[0]
    return np.maximum(out, FLOOR)


def garch_log_likelihood(returns: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Gaussian log-likelihood of each asset, (asset,); ``variance`` is aligned with ``returns`` (time, asset)."""
    return -0.5 * np.sum(np.log(2 * np.pi * variance) + returns**2 / variance, axis=0)


def fit_garch(returns: np.ndarray, leverage: bool = True) -> GarchParameters:
    """Quasi-maximum likelihood with variance targeting, asset by asset.

    The long-run variance is the sample's (Engle & Mezrich 1996), so two parameters are searched (three with the
    leverage term of Glosten, Jagannathan & Runkle 1993), by L-BFGS with the analytic gradient; every recursion runs
    as a linear filter in C.

    Parameters
    ----------
    returns : ndarray, shape (time, asset)
        Finite, taken to have mean zero.
    """
    columns = [_fit_one_garch(np.ascontiguousarray(returns[:, i]), leverage) for i in range(returns.shape[1])]
    omega, alpha, gamma, beta = (np.array(part) for part in zip(*columns))
    return GarchParameters(omega, alpha, gamma, beta)


def _fit_one_garch(x: np.ndarray, leverage: bool) -> tuple[float, float, float, float]:
    variance = float(np.mean(x**2))
    if variance < FLOOR:
        return FLOOR, 0.0, 0.0, 0.0
    y = x / np.sqrt(variance)  # unit variance: one scale of parameters for every asset
    squared = y**2
    falls = squared * (y < 0) if leverage else np.zeros_like(y)
    share = float(np.mean(falls))  # E[x^2 1(x<0)] / E[x^2], so that the target is met in the sample

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        alpha, gamma, beta = theta
        persistence = alpha + share * gamma + beta
        excess = persistence - 0.9995
        shocks = (1.0 - persistence) + alpha * squared + gamma * falls
        s2 = _lagged_filter(shocks, beta, 1.0)
        s2 = np.maximum(s2, 1e-4)
        slope = (1.0 / s2 - squared / s2**2) / (2 * len(y))
        gradient = np.array(
            [
                slope @ _lagged_filter(squared - 1.0, beta, 0.0),
                slope @ _lagged_filter(falls - share, beta, 0.0),
                slope @ _lagged_filter(s2 - 1.0, beta, 0.0),
            ]
        )
        value = float(np.mean(np.log(s2) + squared / s2)) / 2
        if excess > 0:  # a smooth wall keeps the process stationary
            value += 1e4 * excess**2
            gradient += 2e4 * excess * np.array([1.0, share, 1.0])
        return value, gradient

    starts = ([0.03, 0.08, 0.9], [0.05, 0.1, 0.8]) if leverage else ([0.05, 0.0, 0.93], [0.1, 0.0, 0.8])
    bounds = [(0.0, 0.5), (0.0, 0.6 if leverage else 0.0), (0.0, 0.9995)]
    fits = [minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in starts]
    alpha, gamma, beta = min(fits, key=lambda fit: fit.fun).x
    omega = max(1.0 - alpha - share * gamma - beta, 1e-6) * variance
    return float(omega), float(alpha), float(gamma), float(beta)


def _lagged_filter(shocks: np.ndarray, beta: float, start: float) -> np.ndarray:
    """h[0] = start, h[t] = shocks[t-1] + beta h[t-1]."""
    out = np.empty_like(shocks)
    out[0] = start
    if len(shocks) > 1:
        out[1:] = lfilter([1.0], [1.0, -beta], shocks[:-1], zi=[beta * start])[0]
    return out


def garch_step(p: GarchParameters, variance: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Variance of the bar after one of these returns, each (..., asset)."""
    alpha, gamma, beta, omega = (v.astype(variance.dtype) for v in (p.alpha, p.gamma, p.beta, p.omega))
    slope = np.where(returns < 0, alpha + gamma, alpha)
    return np.maximum(omega + slope * returns**2 + beta * variance, variance.dtype.type(FLOOR))


def garch_columns(p: GarchParameters, columns: list[int]) -> GarchParameters:
    """The law of some of the assets."""
    return GarchParameters(p.omega[columns], p.alpha[columns], p.gamma[columns], p.beta[columns])
