"""Copulas with filtered margins: dependence and margins apart, conditional laws in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats as st
from sklearn.base import BaseEstimator

from foliocast.core.conditions import Condition
from foliocast.core.scenario_base import Bars, ScenarioMixin
from foliocast.scenarios.fhs import standardised
from foliocast.scenarios.paths import PathLaw, path_sampler
from foliocast.scenarios.shocks import CopulaShocks, Margins
from foliocast.stats.drift import expected_drift
from foliocast.stats.tails import copula_degrees, rank_correlation, t_degrees, uniform_ranks
from foliocast.stats.variances import bar_variance
from foliocast.stats.volatility import VolatilityFilter

TAIL = 0.02  # beyond this probability a margin is a Student-t tail, before it the data


class _Copula(ScenarioMixin, BaseEstimator):
    """Volatility filter, semi-parametric margins of the shocks, elliptical copula over them."""

    heavy: bool

    def __init__(
        self,
        volatility: str = "gjr",
        drift: str = "shrunk",
        random_state: int | np.random.Generator | None = None,
    ) -> None:
        self.volatility = volatility
        self.drift = drift
        self.random_state = random_state

    def _learn(self, bars: Bars) -> None:
        self.mean_ = expected_drift(bars.log_returns, self.drift)
        x, ranges = bars.log_returns - self.mean_, bar_variance(bars.prices)
        self.filter_ = VolatilityFilter(self.volatility).fit(x, ranges)
        z = standardised(self.filter_, x, ranges)
        z = z - z.mean(axis=0)
        u = uniform_ranks(z)
        self.correlation_ = rank_correlation(u)
        self.nu_ = copula_degrees(u, self.correlation_) if self.heavy else None
        self.margins_ = fit_margins(z, self.nu_)

    def _sampler(
        self, bars: Bars, horizon: int, condition: Condition
    ) -> Callable[[int, np.random.Generator], np.ndarray]:
        x, ranges = bars.log_returns - self.mean_, bar_variance(bars.prices)
        shocks = CopulaShocks(self.correlation_, self.margins_, self.nu_)
        scale, state = self.filter_.filter(x, ranges)
        law = PathLaw(shocks, self.mean_, self.filter_, state, np.nanmax(scale, axis=0))
        return path_sampler(law, horizon, condition)


class GaussianCopula(_Copula):
    """Gaussian copula (no tail dependence) over filtered margins; given assets condition the rest in closed form.

    Parameters
    ----------
    volatility : {"gjr", "garch", "ewma", "har", "blend"}
        See `stats.volatility.VolatilityFilter`.
    drift : {"shrunk", "sample", "zero"}
    random_state : int or Generator, optional

    Attributes
    ----------
    correlation_ : ndarray (asset, asset)
        Of the normal scores, from Spearman's rho.
    margins_ : Margins
    """

    heavy = False


class StudentTCopula(_Copula):
    """Student-t copula (joint crashes) over filtered margins; given assets condition the rest in closed form.

    Parameters
    ----------
    volatility : {"gjr", "garch", "ewma", "har", "blend"}
        See `stats.volatility.VolatilityFilter`.
    drift : {"shrunk", "sample", "zero"}
    random_state : int or Generator, optional

    Attributes
    ----------
    correlation_ : ndarray (asset, asset)
    nu_ : float
        Degrees of freedom of the copula, by pseudo-likelihood.
    margins_ : Margins
    """

    heavy = True


def fit_margins(z: np.ndarray, nu: float | None, size: int = 513) -> Margins:
    """Tables from copula scores to shocks: sample quantiles in the middle, Student-t tails matched at 2 % and 98 %.

    Parameters
    ----------
    z : ndarray (row, asset)
        Standardised returns.
    nu : float or None
        Degrees of freedom of the copula's scores; None for normal scores.
    """
    reach = 6.0 if nu is None else min(float(st.t.isf(1e-7, nu)), 60.0)
    scores = np.linspace(-reach, reach, size) if nu is None else _even(reach, size)
    u = st.norm.cdf(scores) if nu is None else st.t.cdf(scores, nu)
    columns = [_quantiles(z[:, i], u) for i in range(z.shape[1])]
    return Margins(scores, np.maximum.accumulate(np.column_stack(columns), axis=0) + 1e-9 * scores[:, None])


def _even(reach: float, size: int) -> np.ndarray:
    return np.linspace(-reach, reach, max(size, int(2 * reach / 0.03) | 1))


def _quantiles(z: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Quantiles of one margin at probabilities ``u``."""
    degrees = max(t_degrees(z), 3.0)
    out = np.quantile(z, np.clip(u, TAIL, 1 - TAIL))
    edge = st.t.ppf(TAIL, degrees)
    for low in (True, False):
        knot = np.quantile(z, TAIL if low else 1 - TAIL)
        tail = u < TAIL if low else u > 1 - TAIL
        ratio = st.t.ppf(u[tail] if low else 1 - u[tail], degrees) / edge
        out[tail] = knot * np.maximum(ratio, 1.0)
    return out
