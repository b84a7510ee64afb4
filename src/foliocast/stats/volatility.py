"""Volatility: causal filters, vectorised over assets, that also run forward along simulated paths.

One interface for every kind: `VolatilityFilter` learns a recursion from returns, gives the volatility of each bar from
the rows before it, and steps the recursion along scenarios. Feed it log returns: they add up and cannot pass -100 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.signal import lfilter

from foliocast.core.errors import ConfigError, DataError

KINDS = ("ewma", "garch", "gjr", "har", "blend")
POOLED_SHARE = 0.5  # of the log variance of a blend
LARGEST = 25.0  # volatilities: beyond, the filter was wrong (a quote had stood still), and the day is not drawn again
CEILING = 2.0  # times the highest volatility so far: a few shocks in a row must not let a simulated recursion run away
FLOOR = 1e-10  # variance floor: a stuck quote must not divide by zero


# ---- range-based variance of a bar ----------------------------------------------------------------------------------


def range_variance(
    open_: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray, kind: str = "parkinson"
) -> np.ndarray:
    """Variance of the open-to-close move from the bar's range, elementwise; NaN where a price is missing.

    Parameters
    ----------
    open_, high, low, close : ndarray of one shape
        Prices of the same adjustment.
    kind : {"parkinson", "garman_klass", "rogers_satchell"}
        Parkinson (1980), Garman & Klass (1980), Rogers & Satchell (1991; unbiased under drift). They are 5, 7 and 6
        times as efficient as the squared return under Brownian motion. The overnight gap is not in it.
    """
    if kind == "parkinson":
        return np.log(high / low) ** 2 / (4.0 * np.log(2.0))
    if kind == "garman_klass":
        return 0.5 * np.log(high / low) ** 2 - (2.0 * np.log(2.0) - 1.0) * np.log(close / open_) ** 2
    if kind == "rogers_satchell":
        up, down = np.log(high / open_), np.log(low / open_)
        body = np.log(close / open_)
        return up * (up - body) + down * (down - body)
    raise ConfigError(f"range variance '{kind}' is unknown; choose parkinson, garman_klass or rogers_satchell")


def bar_variance(prices: Mapping[str, np.ndarray] | None, kind: str = "parkinson") -> np.ndarray | None:
    """Close-to-close variance of each bar: overnight gap squared plus the range variance, (time, asset).

    ``prices`` holds ``open high low close previous`` (as `core.scenario_base.Bars` does); None gives None. Where a
    price is missing or the bar has no range, the squared log return stands in.
    """
    if prices is None:
        return None
    gap = np.log(prices["open"] / prices["previous"]) ** 2
    inside = range_variance(prices["open"], prices["high"], prices["low"], prices["close"], kind)
    total = gap + np.maximum(inside, 0.0)
    squared = np.log(prices["close"] / prices["previous"]) ** 2
    return np.where(np.isfinite(total) & (total > 0), total, squared)


# ---- exponentially weighted recursions ------------------------------------------------------------------------------


def decay(half_life: float) -> float:
    """Weight kept from one bar to the next: 0.5 ** (1 / half_life)."""
    return float(0.5 ** (1.0 / half_life))


def ewma_before(values: np.ndarray, half_life: float) -> np.ndarray:
    """Exponentially weighted mean of the rows *before* each row, (time + 1, ...); weights sum to one from the start.

    Row 0 is NaN (nothing came before); the last row is the mean after all values: the forecast of the next bar.
    """
    keep = decay(half_life)
    n = len(values)
    total = lfilter([1.0 - keep], [1.0, -keep], values, axis=0)
    weight = 1.0 - keep ** np.arange(1, n + 1)
    out = np.full((n + 1, *values.shape[1:]), np.nan)
    out[1:] = total / weight.reshape(-1, *[1] * (values.ndim - 1))
    return out


# ---- GARCH(1,1) and GJR-GARCH(1,1) ----------------------------------------------------------------------------------


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


# ---- the pooled filter ----------------------------------------------------------------------------------------------


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


def _pooled_features(p: PooledParameters, state: PooledState) -> list[np.ndarray]:
    """Features (..., asset) or (..., 1), in the order of the coefficients."""
    own = [np.log(mean / state.slow + SCALE_FLOOR) for mean in state.own]
    market = [np.log(mean + SCALE_FLOOR)[..., None] for mean in state.market]
    factor = [np.log(mean + SCALE_FLOOR)[..., None] for mean in state.factor]
    shocks = list(state.shocks)
    crowd = [mean.mean(axis=-1, keepdims=True) for mean in state.shocks]
    return own + market + factor + shocks + crowd


def _pooled_variance(p: PooledParameters, state: PooledState) -> np.ndarray:
    exponent = np.zeros_like(state.slow)
    exponent += state.slow.dtype.type(p.intercept)
    for weight, feature in zip(p.coefficients.astype(state.slow.dtype), _pooled_features(p, state)):
        exponent += weight * feature
    return np.maximum(state.slow * np.exp(np.clip(exponent, -6.0, 6.0)), FLOOR)


def _pooled_history(p: PooledParameters, x: np.ndarray, proxy: np.ndarray) -> PooledState:
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


def _at(history: PooledState, rows: np.ndarray | int) -> PooledState:
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


def _pooled_step(p: PooledParameters, state: PooledState, x: np.ndarray, proxy: np.ndarray) -> PooledState:
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
    history = _pooled_history(p, returns, variance)
    rows = np.arange(min(WARM_UP * 3, len(returns) // 3), len(returns))
    rows = rows[:: max(1, -(-rows.size * returns.shape[1] // max_numbers))]
    past = _at(history, rows)
    shape = past.slow.shape
    design = np.stack([np.broadcast_to(f, shape).ravel() for f in _pooled_features(p, past)], axis=1)
    squared = (returns[rows] ** 2 / past.slow).ravel()
    theta, nu = _fit_t_scale(design, squared, ridge, 3 * len(p.own))
    out = replace(p, intercept=float(theta[0]), coefficients=theta[1:], nu=nu)
    ratio = returns[rows] ** 2 / _pooled_variance(out, past)
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
    variance = _pooled_variance(p, past)
    z2, target = np.minimum(returns**2 / variance, 50.0).ravel(), np.minimum(proxy / variance, 50.0).ravel()
    b = float(np.cov(z2, target)[0, 1] / np.var(z2))
    a = float(target.mean() - b * z2.mean())
    return (a, b) if a > 0 and b > 0 else (0.0, float(target.mean() / z2.mean()))


# ---- both at once ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlendParameters:
    """A GJR recursion and the pooled filter: their log variances are averaged."""

    garch: GarchParameters
    pooled: PooledParameters


class BlendState(NamedTuple):
    garch: np.ndarray
    pooled: PooledState


Parameters = GarchParameters | PooledParameters | BlendParameters | None
State = np.ndarray | PooledState | BlendState


def _mixed(garch: np.ndarray, pooled: np.ndarray) -> np.ndarray:
    return garch ** (1.0 - POOLED_SHARE) * pooled**POOLED_SHARE


# ---- one interface --------------------------------------------------------------------------------------------------


@dataclass
class VolatilityFilter:
    """Causal volatility of each bar and its recursion along simulated paths.

    Parameters
    ----------
    kind : {"ewma", "garch", "gjr", "har", "blend"}
        ``ewma``: one exponentially weighted mean of squared returns. ``garch``, ``gjr``: by quasi-likelihood, asset by
        asset. ``har``: the pooled filter with market state and leverage (`fit_pooled`); it uses ranges, and it can be
        applied to assets it was not fitted on (so can ``ewma``). ``blend``: half har, half gjr in log variance, which
        steadies the recursion over many steps.
    half_life : float
        Of the EWMA, in bars.

    Attributes
    ----------
    parameters_ : GarchParameters, PooledParameters, BlendParameters or None
    level_ : ndarray, shape (asset,)
        Variance of the fitting sample: where a GARCH history starts.

    Notes
    -----
    ``returns`` everywhere: (time, asset), log returns recommended, finite, mean taken as zero. ``ranges``: variance of
    each bar (`bar_variance`), (time, asset), or None.
    """

    kind: str = "gjr"
    half_life: float = 11.0
    parameters_: Parameters = field(default=None, repr=False)
    level_: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"volatility filter '{self.kind}' is unknown; choose one of {', '.join(KINDS)}")

    def fit(self, returns: np.ndarray, ranges: np.ndarray | None = None) -> VolatilityFilter:
        """Learn the recursion; ``ranges`` serves the pooled filter only."""
        x = _finite(returns)
        self.level_ = np.maximum(np.mean(x**2, axis=0), FLOOR)
        if self.kind in ("garch", "gjr"):
            self.parameters_ = fit_garch(x, leverage=self.kind == "gjr")
        elif self.kind == "har":
            self.parameters_ = fit_pooled(x, ranges)
        elif self.kind == "blend":
            self.parameters_ = BlendParameters(fit_garch(x), fit_pooled(x, ranges))
        return self

    def filter(self, history: np.ndarray, ranges: np.ndarray | None = None) -> tuple[np.ndarray, State]:
        """`scale` of every bar, (time, asset), and the `state` after the last."""
        x = _finite(history)
        p, young = self.parameters_, min(WARM_UP, len(x))
        state: State
        if isinstance(p, BlendParameters):
            slow, first = self._garch(p.garch, x)
            quick, second = _pooled(p.pooled, x, ranges)
            variance, state = _mixed(slow, quick), BlendState(first, second)
        elif isinstance(p, PooledParameters):
            variance, state = _pooled(p, x, ranges)
        elif isinstance(p, GarchParameters):
            variance, state = self._garch(p, x)
        else:
            variance = np.maximum(ewma_before(x**2, self.half_life), FLOOR)
            state = variance[-1].copy()
        if not isinstance(p, GarchParameters):
            variance[:young] = np.nan
        return np.sqrt(variance[:-1]), state

    def scale(self, history: np.ndarray, ranges: np.ndarray | None = None) -> np.ndarray:
        """Volatility of each bar of the history from the rows before it, (time, asset).

        All but ``garch`` and ``gjr`` know nothing at the first bars: their first 21 rows are NaN.
        """
        return self.filter(history, ranges)[0]

    def state(self, history: np.ndarray, ranges: np.ndarray | None = None) -> State:
        """What the recursion remembers after the history."""
        return self.filter(history, ranges)[1]

    def states(self, history: np.ndarray, ranges: np.ndarray | None, rows: np.ndarray) -> State:
        """What the recursion remembered before each of these rows, stacked: scenarios that start at different times."""
        x, p = _finite(history), self.parameters_
        if isinstance(p, BlendParameters):
            pooled = _pooled_history(p.pooled, x, x**2 if ranges is None else ranges)
            return BlendState(self._garch(p.garch, x)[0][rows], _at(pooled, rows))
        if isinstance(p, PooledParameters):
            return _at(_pooled_history(p, x, x**2 if ranges is None else ranges), rows)
        if isinstance(p, GarchParameters):
            return self._garch(p, x)[0][rows]
        return np.maximum(ewma_before(x**2, self.half_life)[rows], FLOOR)

    def next_scale(self, history: np.ndarray, ranges: np.ndarray | None = None) -> np.ndarray:
        """Volatility of the bar after the history, (asset,)."""
        return self.sigma(self.state(history, ranges))

    def sigma(self, state: State) -> np.ndarray:
        """Volatility of the next bar, (..., asset)."""
        return np.sqrt(self._next_variance(state))

    def step(self, state: State, returns: np.ndarray, ranges: np.ndarray | None = None) -> State:
        """State after one more bar of returns (..., asset), in the state's dtype. A new state; the old one is kept.

        ``ranges``: the simulated bar's variance proxy; where the filter was fitted on ranges and none is simulated, its
        expectation given the return stands in.
        """
        p = self.parameters_
        if isinstance(state, BlendState):
            assert isinstance(p, BlendParameters)
            proxy = _proxy_of(p.pooled, self._next_variance(state), returns) if ranges is None else ranges
            return BlendState(
                _garch_step(p.garch, state.garch, returns), _pooled_step(p.pooled, state.pooled, returns, proxy)
            )
        if isinstance(state, PooledState):
            assert isinstance(p, PooledParameters)
            proxy = _proxy_of(p, self._next_variance(state), returns) if ranges is None else ranges
            return _pooled_step(p, state, returns, proxy)
        if isinstance(p, GarchParameters):
            return _garch_step(p, state, returns)
        keep = state.dtype.type(decay(self.half_life))
        return np.maximum(keep * state + (1 - keep) * returns**2, state.dtype.type(FLOOR))

    def select(self, columns: list[int]) -> VolatilityFilter:
        """The fitted filter of some of its assets, in this order; what is pooled over assets stays as it is."""
        p = self.parameters_
        if isinstance(p, GarchParameters):
            p = _garch_columns(p, columns)
        elif isinstance(p, BlendParameters):
            p = BlendParameters(_garch_columns(p.garch, columns), p.pooled)
        level = None if self.level_ is None else self.level_[columns]
        return VolatilityFilter(self.kind, self.half_life, p, level)

    def spread(self, state: State, n: int, dtype: type = np.float64) -> State:
        """The state repeated for ``n`` scenarios, (n, asset), in the dtype to simulate in."""
        if isinstance(state, BlendState):
            return BlendState(_spread_array(state.garch, n, dtype), _spread_pooled(state.pooled, n, dtype))
        if isinstance(state, PooledState):
            return _spread_pooled(state, n, dtype)
        return _spread_array(state, n, dtype)

    def _next_variance(self, state: State) -> np.ndarray:
        p = self.parameters_
        if isinstance(state, BlendState):
            assert isinstance(p, BlendParameters)
            return _mixed(state.garch, _pooled_variance(p.pooled, state.pooled))
        if isinstance(state, PooledState):
            assert isinstance(p, PooledParameters)
            return _pooled_variance(p, state)
        return state

    def _garch(self, p: GarchParameters, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Variance of each bar and the next, (time + 1, asset), and the last row."""
        if self.level_ is None or x.shape[1] != len(p.beta):
            raise DataError(f"the filter was fitted on {len(p.beta)} assets, the history has {x.shape[1]}")
        variance = garch_variance(x, p, self.level_)
        return variance, variance[-1].copy()


def _garch_columns(p: GarchParameters, columns: list[int]) -> GarchParameters:
    return GarchParameters(p.omega[columns], p.alpha[columns], p.gamma[columns], p.beta[columns])


def _pooled(p: PooledParameters, x: np.ndarray, ranges: np.ndarray | None) -> tuple[np.ndarray, PooledState]:
    states = _pooled_history(p, x, x**2 if ranges is None else ranges)
    return _pooled_variance(p, states), _at(states, -1)


def _proxy_of(p: PooledParameters, variance: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Expected variance proxy of a simulated bar."""
    a, b = p.proxy
    return returns**2 if (a, b) == (0.0, 1.0) else a * variance + b * returns**2


def _garch_step(p: GarchParameters, variance: np.ndarray, returns: np.ndarray) -> np.ndarray:
    alpha, gamma, beta, omega = (v.astype(variance.dtype) for v in (p.alpha, p.gamma, p.beta, p.omega))
    slope = np.where(returns < 0, alpha + gamma, alpha)
    return np.maximum(omega + slope * returns**2 + beta * variance, variance.dtype.type(FLOOR))


def _spread_array(values: np.ndarray, n: int, dtype: type) -> np.ndarray:
    return np.broadcast_to(values.astype(dtype), (n, *values.shape))


def _spread_pooled(state: PooledState, n: int, dtype: type) -> PooledState:
    def wide(values: np.ndarray) -> np.ndarray:
        shape = (len(values), n, *values.shape[1:])
        return np.broadcast_to(values[:, None].astype(dtype), shape)

    slow = _spread_array(state.slow, n, dtype)
    return PooledState(wide(state.own), wide(state.market), wide(state.factor), wide(state.shocks), slow, state.bars)


def _finite(returns: np.ndarray) -> np.ndarray:
    x = np.asarray(returns, dtype=float)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise DataError(f"volatility needs finite returns (time, asset), found shape {x.shape} or missing values")
    return x
