"""What a track record proves: standard errors, probabilistic and deflated Sharpe ratios, overfitting, comparisons.

Sharpe ratios here are *per bar*, not annualised, unless a docstring says otherwise: their sampling theory is. Kurtosis
is the plain fourth moment (3 for a normal), as in the papers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from foliocast.core.errors import ConfigError, DataError, HistoryError
from foliocast.stats.measures import observed

_EULER = float(np.euler_gamma)


@dataclass(frozen=True)
class TestResult:
    """A test statistic and the probability of one at least as extreme when the null hypothesis holds."""

    __test__ = False  # pytest, this is not a test

    statistic: float
    p_value: float
    null: str


# ---- one Sharpe ratio -----------------------------------------------------------------------------------------------


def sharpe_moments(returns: ArrayLike) -> tuple[float, int, float, float]:
    """Sharpe ratio per bar, number of bars, skewness and (plain) kurtosis: what the formulas below ask for."""
    r = observed(returns)
    if r.size < 2:
        raise HistoryError(f"{r.size} returns found, a Sharpe ratio needs at least two")
    z = r - r.mean()
    variance = float((z**2).mean())
    if variance <= 1e-28:
        return float("nan"), r.size, 0.0, 3.0
    return (
        float(r.mean() / r.std(ddof=1)),
        r.size,
        float((z**3).mean() / variance**1.5),
        float((z**4).mean() / variance**2),
    )


def sharpe_error(returns: ArrayLike, method: str = "non_normal", lags: int | None = None) -> float:
    """Standard error of the Sharpe ratio per bar; times ``sqrt(periods)`` it is that of the annualised one.

    Parameters
    ----------
    returns : array-like, shape (n,)
    method : {"iid", "non_normal", "hac"}
        ``iid``: independent normal returns, Lo (2002) eq. 9. ``non_normal``: independent returns of any shape,
        Mertens (2002). ``hac``: dependent returns, Lo (2002) eq. 21 by GMM with Newey-West weights.
    lags : int, optional
        For ``hac``; ``floor(4 (n / 100)^(2/9))`` by default.
    """
    sharpe, n, skew, kurt = sharpe_moments(returns)
    if method == "iid":
        return iid_sharpe_error(sharpe, n)
    if method == "non_normal":
        return float(np.sqrt(_sharpe_variance(sharpe, skew, kurt) / n))
    if method != "hac":
        raise ConfigError(f"method = '{method}', expected 'iid', 'non_normal' or 'hac'")
    r = observed(returns)
    centred, deviation = r - r.mean(), r.std()
    influence = centred / deviation - sharpe * (centred**2 - deviation**2) / (2.0 * deviation**2)
    return float(np.sqrt(_newey_west(influence, _auto_lags(n) if lags is None else lags) / n))


def iid_sharpe_error(sharpe: float, n: int) -> float:
    """``sqrt((1 + SR^2 / 2) / n)``: Lo (2002), eq. 9."""
    return float(np.sqrt((1.0 + 0.5 * sharpe**2) / n))


def annualisation_factor(returns: ArrayLike | None, q: int, autocorrelations: ArrayLike | None = None) -> float:
    """What to multiply a Sharpe ratio per bar by for one of ``q`` bars when returns are autocorrelated.

    ``eta(q) = q / sqrt(q + 2 sum_{k<q} (q - k) rho_k)``, Lo (2002) eq. 20; ``sqrt(q)`` without autocorrelation.

    Parameters
    ----------
    returns : array-like or None
        From which the autocorrelations are taken when they are not given.
    q : int
        Bars in the longer period.
    autocorrelations : array-like, shape (>= q - 1,), optional
        rho_1, rho_2, ...; missing ones count as zero.
    """
    if autocorrelations is None:
        r = observed(returns if returns is not None else [])
        z = r - r.mean()
        rho = np.array([z[:-k] @ z[k:] for k in range(1, min(q, len(z)))]) / (z @ z)
    else:
        rho = np.asarray(autocorrelations, dtype=float)[: q - 1]
    weights = q - np.arange(1, len(rho) + 1)
    variance = q + 2.0 * float(weights @ rho)
    return float(q / np.sqrt(variance)) if variance > 0 else float("nan")


def probabilistic_sharpe(sharpe: float, n: int, skew: float = 0.0, kurt: float = 3.0, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio is above a benchmark. Bailey and Lopez de Prado (2012), eq. 9.

    Parameters
    ----------
    sharpe, benchmark : float
        Per bar.
    n : int
        Bars.
    skew, kurt : float
        Of the returns; ``kurt`` is 3 for a normal.
    """
    if n < 2 or not np.isfinite(sharpe):
        return float("nan")
    error = np.sqrt(_sharpe_variance(sharpe, skew, kurt) / (n - 1))
    return float(stats.norm.cdf((sharpe - benchmark) / error))


def expected_max_sharpe(trials: int, variance: float) -> float:
    """Best Sharpe ratio to expect of ``trials`` strategies without any skill. Bailey and Lopez de Prado (2014), eq. 1.

    Parameters
    ----------
    trials : int
        Independent strategies tried.
    variance : float
        Of their Sharpe ratios (per bar).
    """
    if trials < 1 or variance < 0:
        raise ConfigError(f"trials = {trials} and variance = {variance}: expected at least one trial, no negative")
    if trials == 1:
        return 0.0
    first, second = stats.norm.ppf([1.0 - 1.0 / trials, 1.0 - 1.0 / (trials * np.e)])
    return float(np.sqrt(variance) * ((1.0 - _EULER) * first + _EULER * second))


def deflated_sharpe(
    sharpe: float, n: int, trials: int, variance: float | None = None, skew: float = 0.0, kurt: float = 3.0
) -> float:
    """Probability that a Sharpe ratio picked as the best of several is above what luck gives the best of them.

    Bailey and Lopez de Prado (2014), eq. 2: `probabilistic_sharpe` against `expected_max_sharpe`.

    Parameters
    ----------
    sharpe : float
        Per bar, of the strategy picked.
    n : int
        Bars.
    trials : int
        Strategies tried, all of them.
    variance : float, optional
        Of the trials' Sharpe ratios per bar. By default that of a strategy without skill over ``n`` bars, ``1 / n``.
    skew, kurt : float
        Of the returns of the strategy picked.
    """
    luck = expected_max_sharpe(trials, 1.0 / n if variance is None else variance)
    return probabilistic_sharpe(sharpe, n, skew, kurt, benchmark=luck)


def min_track_record(
    sharpe: float, skew: float = 0.0, kurt: float = 3.0, benchmark: float = 0.0, level: float = 0.95
) -> float:
    """Bars needed before a Sharpe ratio is above a benchmark with confidence. Bailey and Lopez de Prado (2012), eq. 11.

    Infinite when the ratio is not above the benchmark at all.
    """
    if not sharpe > benchmark:
        return float("inf")
    quantile = float(stats.norm.ppf(level))
    return 1.0 + _sharpe_variance(sharpe, skew, kurt) * (quantile / (sharpe - benchmark)) ** 2


# ---- many strategies ------------------------------------------------------------------------------------------------


def pbo(returns: pd.DataFrame | np.ndarray, n_blocks: int = 16) -> float:
    """Probability of backtest overfitting by combinatorially symmetric cross-validation.

    The share of ways to halve the history in which the strategy that is best (Sharpe ratio) in one half ends at or
    below the median in the other. Near 1/2 for noise, near 0 when one strategy is truly better. Bailey, Borwein,
    Lopez de Prado and Zhu (2017).

    Parameters
    ----------
    returns : table (time, strategy)
        Complete; at least two strategies that differ.
    n_blocks : int
        Even number of contiguous blocks; 16 gives 12,870 halvings.
    """
    values = np.asarray(returns, dtype=float)
    if values.ndim != 2 or values.shape[1] < 2:
        raise DataError(f"returns have shape {values.shape}, at least two strategies side by side are needed")
    if n_blocks % 2 or n_blocks < 2:
        raise ConfigError(f"n_blocks = {n_blocks}, an even number is needed to halve the history")
    if len(values) < 2 * n_blocks or not np.isfinite(values).all():
        raise HistoryError(
            f"{len(values)} bars for {n_blocks} blocks: at least {2 * n_blocks} complete bars are needed"
        )
    blocks = np.array_split(values, n_blocks)
    parts = [np.array([function(block) for block in blocks]) for function in (_count, _total, _squares)]
    chosen = np.zeros((len(list(combinations(range(n_blocks), n_blocks // 2))), n_blocks))
    for row, picked in enumerate(combinations(range(n_blocks), n_blocks // 2)):
        chosen[row, picked] = 1.0
    overfit = 0.0
    for rows in np.array_split(chosen, max(1, chosen.shape[0] * values.shape[1] // 2_000_000)):
        best = np.argmax(_block_sharpe(rows, parts), axis=1)
        outside = _block_sharpe(1.0 - rows, parts)
        mine = outside[np.arange(len(rows)), best][:, None]
        rank = (outside < mine).sum(axis=1) + 0.5 * ((outside == mine).sum(axis=1) - 1) + 1.0
        overfit += float((rank / (values.shape[1] + 1) <= 0.5).sum())
    return overfit / len(chosen)


def diebold_mariano(
    losses: ArrayLike, other_losses: ArrayLike, horizon: int = 1, lags: int | None = None
) -> TestResult:
    """Do two forecasts differ in accuracy? Diebold and Mariano (1995), small samples as Harvey et al. (1997).

    Parameters
    ----------
    losses, other_losses : array-like, shape (n,)
        Loss of each forecast on the same days, in time order. A negative statistic speaks for the first.
    horizon : int
        Bars ahead that were forecast.
    lags : int, optional
        Of the Newey-West variance; ``horizon - 1`` by default.

    Returns
    -------
    TestResult
        Student's t with n - 1 degrees of freedom, two-sided.
    """
    first, second = np.asarray(losses, dtype=float), np.asarray(other_losses, dtype=float)
    if first.shape != second.shape or first.ndim != 1:
        raise DataError(f"losses have shapes {first.shape} and {second.shape}: two series of one length are needed")
    d = observed(first - second)
    n = d.size
    if n <= horizon + 1:
        raise HistoryError(f"{n} pairs of losses for forecasts {horizon} bars ahead: at least {horizon + 2} are needed")
    variance = _newey_west(d - d.mean(), horizon - 1 if lags is None else lags) / n
    null = "equal accuracy"
    if variance <= 0:
        return TestResult(0.0 if d.mean() == 0 else float("nan"), 1.0 if d.mean() == 0 else float("nan"), null)
    correction = np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    statistic = float(d.mean() / np.sqrt(variance) * correction)
    return TestResult(statistic, float(2.0 * stats.t.sf(abs(statistic), n - 1)), null)


def mean_error(values: ArrayLike, lags: int | None = None) -> float:
    """Standard error of the mean of a series whose neighbours depend on each other. Newey and West (1987).

    Parameters
    ----------
    values : array-like, shape (n,)
        In time order; NaN are left out.
    lags : int, optional
        Of the Bartlett weights; by default ``4 (n / 100)^(2/9)``. Averages over overlapping horizons of h bars need at
        least h - 1.
    """
    x = observed(values)
    if x.size < 2:
        raise HistoryError(f"a standard error needs at least two values, found {x.size}")
    return float(np.sqrt(_newey_west(x - x.mean(), _auto_lags(x.size) if lags is None else lags) / x.size))


def spa_test(
    returns: pd.DataFrame, benchmark: pd.Series, n_resamples: int = 1000, block: float | None = None, seed: int = 0
) -> dict[str, float]:
    """Is the best strategy better than the benchmark, given that it is the best of many? Hansen (2005), by `arch`.

    Parameters
    ----------
    returns : DataFrame (time x strategy)
    benchmark : Series (time,)
    n_resamples : int
    block : float, optional
        Mean block length of the stationary bootstrap; found from the data by default.
    seed : int

    Returns
    -------
    dict
        ``p_value`` (consistent), with ``lower`` and ``upper`` bounds.
    """
    from arch.bootstrap import SPA

    losses, block = _losses_and_block(returns, benchmark, block)
    test = SPA(
        -benchmark.to_numpy(float), losses, block_size=block, reps=n_resamples, bootstrap="stationary", seed=seed
    )
    test.compute()
    values = test.pvalues
    return {"p_value": float(values["consistent"]), "lower": float(values["lower"]), "upper": float(values["upper"])}


def step_m(
    returns: pd.DataFrame,
    benchmark: pd.Series,
    size: float = 0.05,
    n_resamples: int = 1000,
    block: float | None = None,
    seed: int = 0,
) -> tuple[str, ...]:
    """Strategies better than the benchmark with the family-wise error held at ``size``. Romano and Wolf (2005)."""
    from arch.bootstrap import StepM

    losses, block = _losses_and_block(returns, benchmark, block)
    frame = pd.DataFrame(losses, columns=[str(name) for name in returns.columns])
    test = StepM(
        pd.Series(-benchmark.to_numpy(float)),
        frame,
        size=size,
        block_size=block,
        reps=n_resamples,
        bootstrap="stationary",
        seed=seed,
    )
    test.compute()
    return tuple(str(name) for name in test.superior_models)


def model_confidence_set(
    losses: pd.DataFrame, size: float = 0.05, n_resamples: int = 1000, block: float | None = None, seed: int = 0
) -> pd.Series:
    """p-value of each model's membership in the set of the best. Hansen, Lunde and Nason (2011), by `arch`.

    Parameters
    ----------
    losses : DataFrame (time x model)
        Smaller is better; for returns hand in their negative.

    Returns
    -------
    Series (model,)
        Models with a p-value above ``size`` cannot be told from the best.
    """
    from arch.bootstrap import MCS

    if block is None:
        block = _common_block((losses.sub(losses.mean(axis=1), axis=0)).to_numpy(float))
    test = MCS(losses, size=size, block_size=max(1, round(block)), reps=n_resamples, bootstrap="stationary", seed=seed)
    test.compute()
    return test.pvalues["Pvalue"].reindex(losses.columns).rename("p_value")


# ---- risk forecasts -------------------------------------------------------------------------------------------------


def kupiec_test(hits: ArrayLike, rate: float) -> TestResult:
    """Do losses pass the VaR as often as they should? Likelihood ratio of Kupiec (1995), chi-squared with 1 degree.

    Parameters
    ----------
    hits : array-like of bool, shape (n,)
        Days on which the loss exceeded the VaR.
    rate : float
        Expected share of such days, 0.05 for a 95 % VaR.
    """
    h = _hits(hits, rate)
    count, n = int(h.sum()), h.size
    ratio = 2.0 * (_log_likelihood(count, n, count / n) - _log_likelihood(count, n, rate))
    return TestResult(ratio, float(stats.chi2.sf(ratio, 1)), "exceedances come at the expected rate")


def christoffersen_test(hits: ArrayLike) -> TestResult:
    """Do exceedances cluster? Likelihood ratio against a first-order Markov chain. Christoffersen (1998).

    Parameters
    ----------
    hits : array-like of bool, shape (n,)
        In time order; the n - 1 transitions from day to day are counted.
    """
    h = _hits(hits, 0.5)
    before, after = h[:-1], h[1:]
    quiet, loud = int((~before).sum()), int(before.sum())
    new, again = int((~before & after).sum()), int((before & after).sum())
    return TestResult(*_independence(quiet, new, loud, again), "exceedances are independent")


def conditional_coverage_test(hits: ArrayLike, rate: float) -> TestResult:
    """Right rate and no clustering at once: Kupiec's ratio plus Christoffersen's, chi-squared with 2 degrees.

    Both are taken over the n - 1 days that have a day before them, so that the sum is a likelihood ratio itself.
    """
    h = _hits(hits, rate)
    ratio = kupiec_test(h[1:], rate).statistic + christoffersen_test(h).statistic
    return TestResult(ratio, float(stats.chi2.sf(ratio, 2)), "exceedances come at the expected rate, independently")


# ---- pieces ---------------------------------------------------------------------------------------------------------


def _sharpe_variance(sharpe: float, skew: float, kurt: float) -> float:
    """n times the variance of the estimator: ``1 - skew SR + (kurt - 1) / 4 SR^2`` (Mertens 2002)."""
    return 1.0 - skew * sharpe + (kurt - 1.0) / 4.0 * sharpe**2


def _auto_lags(n: int) -> int:
    return int(4 * (n / 100.0) ** (2.0 / 9.0))


def _newey_west(x: np.ndarray, lags: int) -> float:
    """Long-run variance of a centred series with Bartlett weights. Newey and West (1987)."""
    total = float(x @ x)
    for k in range(1, min(lags, len(x) - 1) + 1):
        total += 2.0 * (1.0 - k / (lags + 1)) * float(x[:-k] @ x[k:])
    return total / len(x)


def _count(block: np.ndarray) -> np.ndarray:
    return np.full(block.shape[1], float(len(block)))


def _total(block: np.ndarray) -> np.ndarray:
    return block.sum(axis=0)


def _squares(block: np.ndarray) -> np.ndarray:
    return (block**2).sum(axis=0)


def _block_sharpe(chosen: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    n, total, squares = (chosen @ part for part in parts)
    mean = total / n
    spread = np.sqrt(np.maximum(squares / n - mean**2, 0.0))
    return np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 0)


def _common_block(series: np.ndarray) -> float:
    from foliocast.stats.bootstrap import optimal_block

    return max(optimal_block(column) for column in series.T)


def _losses_and_block(returns: pd.DataFrame, benchmark: pd.Series, block: float | None) -> tuple[np.ndarray, int]:
    if len(returns) != len(benchmark) or not (returns.notna().all(axis=None) and benchmark.notna().all()):
        raise DataError(
            f"{len(returns)} rows of returns and {len(benchmark)} of the benchmark: the same complete bars are needed"
        )
    active = returns.to_numpy(float) - benchmark.to_numpy(float)[:, None]
    return -returns.to_numpy(float), max(1, round(_common_block(active) if block is None else block))


def _hits(hits: ArrayLike, rate: float) -> np.ndarray:
    h = np.asarray(hits, dtype=bool)
    if h.ndim != 1 or h.size < 2:
        raise DataError(f"hits have shape {h.shape}, one flag a day for at least two days is needed")
    if not 0.0 < rate < 1.0:
        raise ConfigError(f"rate = {rate}, a probability such as 0.05 is needed")
    return h


def _log_likelihood(count: int, n: int, p: float) -> float:
    return float((count * np.log(p) if count else 0.0) + ((n - count) * np.log1p(-p) if n > count else 0.0))


def _independence(quiet: int, new: int, loud: int, again: int) -> tuple[float, float]:
    """Ratio and p-value from days after a quiet day (of which ``new`` hits) and after a hit (of which ``again``)."""
    pooled = _log_likelihood(new + again, quiet + loud, (new + again) / max(1, quiet + loud))
    apart = _log_likelihood(new, quiet, new / max(1, quiet)) + _log_likelihood(again, loud, again / max(1, loud))
    ratio = max(0.0, 2.0 * (apart - pooled))
    return ratio, float(stats.chi2.sf(ratio, 1))
