"""One law of volatility for all assets: running means at several half-lives, of the asset and of the market."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from foliocast.stats.variances import FLOOR, decay, ewma_before, spread_array


@dataclass(frozen=True)
class PooledParameters:
    """log sigma2[t, i] = log slow[t, i] + intercept + features[t, i] . coefficients: one law for all assets.

    Attributes
    ----------
    intercept : float
    coefficients : ndarray, shape (feature,)
        In the order own, market and factor variance by half-life, then own and market leverage by half-life.
    own, leverage : tuple of float
        Half-lives in bars of the variance means and of the signed shocks.
    slow : float
        Half-life of the level that every asset reverts to.
    nu : float
        Degrees of freedom of the Student-t of the standardised returns.
    proxy : tuple of float
        (a, b): expected variance proxy of a simulated bar, a sigma2 + b x^2, where no range is simulated.
    """

    intercept: float
    coefficients: np.ndarray
    own: tuple[float, ...] = (3.0, 12.0, 50.0, 200.0)
    leverage: tuple[float, ...] = (1.0, 6.0, 25.0)
    slow: float = 500.0
    nu: float = 5.0
    proxy: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class PooledState:
    """Running means after the last bar: what the next variance hangs on. Leading axes are scenarios.

    Attributes
    ----------
    own : ndarray (own half-life, ..., asset)
        Means of the variance proxy.
    market : ndarray (own half-life, ...)
        Means of the cross-sectional mean of proxy / slow: how loud the assets are.
    factor : ndarray (own half-life, ...)
        Means of the squared cross-sectional mean of x / sqrt(slow): how much they move as one.
    shocks : ndarray (leverage half-life, ..., asset)
        Means of the standardised return; its cross-sectional mean is the market's.
    slow : ndarray (..., asset)
    bars : int
        Rows behind the means (the weights of a young mean still sum to one).
    """

    own: np.ndarray
    market: np.ndarray
    factor: np.ndarray
    shocks: np.ndarray
    slow: np.ndarray
    bars: int


MEMORY = 0.9  # largest sum of the variance coefficients: beyond it, paths do not come back from a crisis
SCALE_FLOOR = 0.02  # of the slow level: keeps the log of a mean of tiny moves finite
WARM_UP = 21


def pooled_features(p: PooledParameters, state: PooledState) -> list[np.ndarray]:
    """Features (..., asset) or (..., 1), in the order of the coefficients."""
    own = [np.log(mean / state.slow + SCALE_FLOOR) for mean in state.own]
    market = [np.log(mean + SCALE_FLOOR)[..., None] for mean in state.market]
    factor = [np.log(mean + SCALE_FLOOR)[..., None] for mean in state.factor]
    shocks = list(state.shocks)
    crowd = [mean.mean(axis=-1, keepdims=True) for mean in state.shocks]
    return own + market + factor + shocks + crowd


def pooled_variance(p: PooledParameters, state: PooledState) -> np.ndarray:
    """Variance of the bar after a state, (..., asset)."""
    exponent = np.zeros_like(state.slow)
    exponent += state.slow.dtype.type(p.intercept)
    for weight, feature in zip(p.coefficients.astype(state.slow.dtype), pooled_features(p, state)):
        exponent += weight * feature
    return np.maximum(state.slow * np.exp(np.clip(exponent, -6.0, 6.0)), FLOOR)


def pooled_history(p: PooledParameters, x: np.ndarray, proxy: np.ndarray) -> PooledState:
    """States before every bar and after the last: the leading axis of each array is (time + 1)."""
    slow = np.maximum(ewma_before(proxy, p.slow), FLOOR)
    own = np.stack([ewma_before(proxy, h) for h in p.own])
    known = np.where(np.isfinite(slow[:-1]), slow[:-1], np.inf)
    relative = (proxy / known).mean(axis=1)
    relative[0] = 1.0
    market = np.stack([ewma_before(relative, h) for h in p.own])
    together = (x / np.sqrt(known)).mean(axis=1) ** 2
    factor = np.stack([ewma_before(together, h) for h in p.own])
    middle = own[_middle(p)][:-1]
    z = np.where(np.isfinite(middle), x / np.sqrt(np.maximum(middle, FLOOR)), 0.0)
    shocks = np.stack([ewma_before(np.clip(z, -5.0, 5.0), h) for h in p.leverage])
    return PooledState(own, market, factor, shocks, slow, len(x))


def states_at(history: PooledState, rows: np.ndarray | int) -> PooledState:
    """States at some rows of a history."""
    return PooledState(
        history.own[:, rows],
        history.market[:, rows],
        history.factor[:, rows],
        history.shocks[:, rows],
        history.slow[rows],
        history.bars,
    )


def _middle(p: PooledParameters) -> int:
    return min(2, len(p.own) - 1)


def pooled_step(p: PooledParameters, state: PooledState, x: np.ndarray, proxy: np.ndarray) -> PooledState:
    """State after one more bar of returns and variance proxy, each (..., asset)."""
    kind = state.slow.dtype.type

    def blend(old: np.ndarray, new: np.ndarray, half_life: float) -> np.ndarray:
        keep = decay(half_life)
        gain = kind((1.0 - keep) / (1.0 - keep ** (state.bars + 1)))
        return old + gain * (new - old)

    relative = (proxy / state.slow).mean(axis=-1)
    together = (x / np.sqrt(state.slow)).mean(axis=-1) ** 2
    z = np.clip(x / np.sqrt(np.maximum(state.own[_middle(p)], FLOOR)), -5.0, 5.0)
    return PooledState(
        np.stack([blend(old, proxy, h) for old, h in zip(state.own, p.own)]),
        np.stack([blend(old, relative, h) for old, h in zip(state.market, p.own)]),
        np.stack([blend(old, together, h) for old, h in zip(state.factor, p.own)]),
        np.stack([blend(old, z, h) for old, h in zip(state.shocks, p.leverage)]),
        np.maximum(blend(state.slow, proxy, p.slow), FLOOR),
        state.bars + 1,
    )


def fit_pooled(
    returns: np.ndarray,
    proxy: np.ndarray | None = None,
    start: PooledParameters | None = None,
    ridge: float = 1e-3,
    max_numbers: int = 400_000,
) -> PooledParameters:
    """Fit the pooled filter by Student-t quasi-likelihood over all assets and bars at once.

    A heterogeneous autoregression (Corsi 2009) of the log variance on exponentially weighted means of a variance proxy,
    the asset's own and the cross-section's (the market state: how loud the assets are, how much they move as one), and
    on signed shocks, own and market (leverage effect). Everything is relative to the asset's slow level, so the law
    holds for assets it has never seen.

    Parameters
    ----------
    returns : ndarray (time, asset)
        Log returns, finite.
    proxy : ndarray (time, asset), optional
        Variance of each bar (`bar_variance`); default: squared returns.
    start : PooledParameters, optional
        Half-lives to use.
    ridge : float
        Penalty on the coefficients, per observation.
    max_numbers : int
        Rows are thinned evenly beyond so many numbers; a dozen coefficients need no more.
    """
    p = PooledParameters(0.0, np.zeros(0)) if start is None else start
    variance = returns**2 if proxy is None else proxy
    history = pooled_history(p, returns, variance)
    rows = np.arange(min(WARM_UP * 3, len(returns) // 3), len(returns))
    rows = rows[:: max(1, -(-rows.size * returns.shape[1] // max_numbers))]
    past = states_at(history, rows)
    shape = past.slow.shape
    design = np.stack([np.broadcast_to(f, shape).ravel() for f in pooled_features(p, past)], axis=1)
    squared = (returns[rows] ** 2 / past.slow).ravel()
    theta, nu = _fit_t_scale(design, squared, ridge, 3 * len(p.own))
    out = replace(p, intercept=float(theta[0]), coefficients=theta[1:], nu=nu)
    ratio = returns[rows] ** 2 / pooled_variance(out, past)
    level = float(np.log(np.mean(np.minimum(ratio, 50.0))))  # a crash in a thousand may not set the level of all days
    out = replace(out, intercept=out.intercept + level)
    return out if proxy is None else replace(out, proxy=_proxy_law(returns[rows], variance[rows], out, past))


def mean_pooled(fits: Sequence[PooledParameters]) -> PooledParameters:
    """One law from several of the same half-lives: intercept, coefficients, degrees and proxy law are averaged."""
    first, second = (float(np.mean([p.proxy[k] for p in fits])) for k in (0, 1))
    return replace(
        fits[0],
        intercept=float(np.mean([p.intercept for p in fits])),
        coefficients=np.mean([p.coefficients for p in fits], axis=0),
        nu=float(np.mean([p.nu for p in fits])),
        proxy=(first, second),
    )


def _fit_t_scale(design: np.ndarray, squared: np.ndarray, ridge: float, n_variance: int) -> tuple[np.ndarray, float]:
    """Maximise the Student-t likelihood of x / sqrt(slow) with log-linear scale; (intercept, coefficients), nu.

    The first ``n_variance`` coefficients are kept non-negative (a louder past never speaks for a quieter future) and
    their sum below `MEMORY`.
    """
    x = np.column_stack([np.ones(len(design)), design])
    penalty = np.full(x.shape[1], ridge)
    penalty[0] = 0.0
    memory = slice(1, 1 + n_variance)
    bounds = [(None, None), *[(0.0, None)] * n_variance, *[(None, None)] * (design.shape[1] - n_variance)]
    theta, nu = np.zeros(x.shape[1]), 6.0

    def loss(theta: np.ndarray, nu: float) -> tuple[float, np.ndarray]:
        eta = x @ theta
        q = squared * np.exp(-eta) / nu
        excess = max(0.0, float(theta[memory].sum()) - MEMORY)
        value = float(np.mean(eta + (nu + 1) * np.log1p(q))) / 2 + 0.5 * float(penalty @ theta**2) + 50.0 * excess**2
        slope = 0.5 * (1.0 - (nu + 1) * q / (1.0 + q))
        gradient = x.T @ slope / len(x) + penalty * theta
        gradient[memory] += 100.0 * excess
        return value, gradient

    for _ in range(2):
        fit = minimize(loss, theta, args=(nu,), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200})
        theta = fit.x
        nu = _fit_nu(squared * np.exp(-x @ theta))
    return theta, nu


def _fit_nu(q: np.ndarray) -> float:
    """Degrees of freedom that maximise the t likelihood of squared, scaled residuals (scale free), on a grid."""
    from scipy.special import gammaln

    grid = np.array([3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 10.0, 14.0, 20.0, 40.0])
    scores = [
        gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(nu) - (nu + 1) / 2 * np.mean(np.log1p(q / nu))
        for nu in grid
    ]
    return float(grid[int(np.argmax(scores))])


def _proxy_law(returns: np.ndarray, proxy: np.ndarray, p: PooledParameters, past: PooledState) -> tuple[float, float]:
    """Expected proxy given the bar's return: a sigma2 + b x^2, by least squares on standardised values."""
    variance = pooled_variance(p, past)
    z2, target = np.minimum(returns**2 / variance, 50.0).ravel(), np.minimum(proxy / variance, 50.0).ravel()
    b = float(np.cov(z2, target)[0, 1] / np.var(z2))
    a = float(target.mean() - b * z2.mean())
    return (a, b) if a > 0 and b > 0 else (0.0, float(target.mean() / z2.mean()))


def pooled_filter(p: PooledParameters, x: np.ndarray, ranges: np.ndarray | None) -> tuple[np.ndarray, PooledState]:
    """Variance of each bar and of the next, (time + 1, asset), and the state after the last."""
    states = pooled_history(p, x, x**2 if ranges is None else ranges)
    return pooled_variance(p, states), states_at(states, -1)


def expected_proxy(p: PooledParameters, variance: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Expected variance proxy of a simulated bar."""
    a, b = p.proxy
    return returns**2 if (a, b) == (0.0, 1.0) else a * variance + b * returns**2


def spread_pooled(state: PooledState, n: int, dtype: type) -> PooledState:
    """The same state for n scenarios."""

    def wide(values: np.ndarray) -> np.ndarray:
        shape = (len(values), n, *values.shape[1:])
        return np.broadcast_to(values[:, None].astype(dtype), shape)

    slow = spread_array(state.slow, n, dtype)
    return PooledState(wide(state.own), wide(state.market), wide(state.factor), wide(state.shocks), slow, state.bars)
