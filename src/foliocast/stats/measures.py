"""What a series of returns was worth and what it risked.

Conventions, for every function of this module:

* ``returns`` are simple returns per bar, as fractions, one-dimensional; a missing value (NaN) is a bar that was not
  observed and is left out, an infinite value is refused.
* The risk-free rate is zero: hand in excess returns if it is not.
* ``periods`` is the number of bars a year. Left out, it is read off a DatetimeIndex
  (`foliocast.core.time.periods_per_year`), else 252.
* Standard deviations divide by ``n - 1``.
* A ratio with nothing below the line (no variation, no loss, no drawdown) is NaN, never infinite.
* Value at risk and CVaR are losses: positive is bad. Drawdowns are changes: negative is bad.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from foliocast.core.errors import ConfigError, DataError
from foliocast.core.time import TRADING_DAYS, periods_per_year

_NOTHING = 1e-14  # relative to the size of the returns: a standard deviation below it is rounding


def annual_return(returns: ArrayLike, periods: int | None = None) -> float:
    """Geometric return a year: ``prod(1 + r) ** (periods / n) - 1``.

    Returns
    -------
    float
        A fraction; -1 once wealth is gone, NaN without observations.
    """
    r = observed(returns)
    growth = float(np.prod(1.0 + r))
    if not r.size:
        return float("nan")
    return growth ** (_periods(returns, periods) / r.size) - 1.0 if growth > 0 else -1.0


def volatility(returns: ArrayLike, periods: int | None = None) -> float:
    """Annualised standard deviation: ``std(r, ddof=1) * sqrt(periods)``."""
    r = observed(returns)
    return float(r.std(ddof=1) * np.sqrt(_periods(returns, periods))) if r.size > 1 else float("nan")


def sharpe_ratio(returns: ArrayLike, periods: int | None = None) -> float:
    """Annualised Sharpe ratio: ``mean(r) / std(r, ddof=1) * sqrt(periods)``. Sharpe (1994)."""
    r = observed(returns)
    spread = r.std(ddof=1) if r.size > 1 else 0.0
    return _ratio(r.mean() if r.size else 0.0, spread, r) * float(np.sqrt(_periods(returns, periods)))


def sortino_ratio(returns: ArrayLike, periods: int | None = None, target: float = 0.0) -> float:
    """Annualised Sortino ratio: mean above ``target`` (per bar) over the root mean square of *all* bars' shortfalls.

    The mean square divides by the number of bars, not by the number of losing bars. Sortino and Price (1994).
    """
    r = observed(returns) - target
    shortfall = np.sqrt(np.mean(np.minimum(r, 0.0) ** 2)) if r.size else 0.0
    return _ratio(r.mean() if r.size else 0.0, shortfall, r) * float(np.sqrt(_periods(returns, periods)))


def wealth(returns: ArrayLike) -> np.ndarray:
    """What one unit of money became: compounded, shape (n,), after each bar."""
    return np.cumprod(1.0 + observed(returns))


def drawdown(returns: ArrayLike) -> np.ndarray:
    """Distance of compounded wealth from its highest point so far (the start, 1.0, counts): shape (n,), in [-1, 0]."""
    path = wealth(returns)
    peak = np.maximum(np.maximum.accumulate(path), 1.0) if path.size else path
    return np.maximum(path / peak - 1.0, -1.0)


def max_drawdown(returns: ArrayLike) -> float:
    """Deepest drawdown of compounded wealth, a fraction in [-1, 0]."""
    depths = drawdown(returns)
    return float(depths.min()) if depths.size else float("nan")


def calmar_ratio(returns: ArrayLike, periods: int | None = None) -> float:
    """`annual_return` over the size of `max_drawdown`. Young (1991), over the whole history."""
    depth = max_drawdown(returns)
    return annual_return(returns, periods) / -depth if depth < 0 else float("nan")


def value_at_risk(returns: ArrayLike, level: float = 0.95, probabilities: ArrayLike | None = None) -> float:
    """Loss that is not exceeded with probability ``level``: the smallest x with ``P(loss <= x) >= level``.

    Parameters
    ----------
    returns : array-like, shape (n,)
        Returns of one portfolio, by bar or by scenario.
    level : float
        Between 0 and 1, for example 0.95.
    probabilities : array-like, shape (n,), optional
        Of the scenarios; equal by default.

    Returns
    -------
    float
        A loss; negative where even the tail gains.
    """
    losses, mass = _losses(returns, level, probabilities)
    if not losses.size:
        return float("nan")
    tail = np.cumsum(mass) - mass  # probability of a strictly worse place in the order
    return float(losses[np.flatnonzero(tail <= 1.0 - level + 1e-12)[-1]])


def cvar(returns: ArrayLike, level: float = 0.95, probabilities: ArrayLike | None = None) -> float:
    """Mean loss in the worst ``1 - level`` of probability, exact: the scenario on the border counts in part.

    Rockafellar and Uryasev (2002), eq. 25; also called expected shortfall. Parameters as in `value_at_risk`.
    """
    losses, mass = _losses(returns, level, probabilities)
    if not losses.size:
        return float("nan")
    tail = 1.0 - level
    share = np.clip(tail - (np.cumsum(mass) - mass), 0.0, mass)
    return float(losses @ share / share.sum())


def win_rate(returns: ArrayLike, held: ArrayLike | None = None) -> float:
    """Share of bars with a gain among the bars with a position.

    Parameters
    ----------
    returns : array-like, shape (n,)
    held : array-like of bool, shape (n,), optional
        Whether there was a position. By default a bar with a return of exactly zero is one without.
    """
    r = np.asarray(returns, dtype=float)
    in_market = (r != 0.0) if held is None else np.asarray(held, dtype=bool)
    if in_market.shape != r.shape:
        raise DataError(f"held has shape {in_market.shape}, returns have {r.shape}: one flag a bar is needed")
    counted = in_market & ~np.isnan(r)
    return float((r[counted] > 0).mean()) if counted.any() else float("nan")


def turnover(weights: pd.DataFrame | np.ndarray, returns: pd.DataFrame | np.ndarray | None = None) -> np.ndarray:
    """Traded value a bar as a fraction of equity, buys plus sells: ``sum_i |w_t,i - drifted w_t-1,i|``.

    Parameters
    ----------
    weights : array-like, shape (time, asset)
        Weights after trading at each bar; the book is in cash before the first.
    returns : array-like, shape (time, asset), optional
        Asset returns of each bar, with which the holdings drift before they are traded; without them holdings do
        not drift.

    Returns
    -------
    ndarray, shape (time,)
    """
    target = np.nan_to_num(np.asarray(weights, dtype=float))
    before = np.vstack([np.zeros(target.shape[1]), target[:-1]])
    if returns is not None:
        grown = before * (1.0 + np.nan_to_num(np.asarray(returns, dtype=float)))
        equity = grown.sum(axis=1) + 1.0 - before.sum(axis=1)
        before = grown / equity[:, None]
    return np.abs(target - before).sum(axis=1)


def skewness(returns: ArrayLike) -> float:
    """Skewness with the small-sample correction (adjusted Fisher-Pearson, as pandas); zero for a normal."""
    return float(pd.Series(observed(returns)).skew())  # type: ignore[arg-type]


def kurtosis(returns: ArrayLike) -> float:
    """Excess kurtosis with the small-sample correction (as pandas); zero for a normal."""
    return float(pd.Series(observed(returns)).kurt())  # type: ignore[arg-type]


def information_ratio(returns: ArrayLike, benchmark: ArrayLike, periods: int | None = None) -> float:
    """Annualised Sharpe ratio of the returns above a benchmark's. Pandas series are matched by their index."""
    if isinstance(returns, pd.Series) and isinstance(benchmark, pd.Series):
        returns, benchmark = returns.align(benchmark, join="inner")
    active = pd.Series(np.asarray(returns, dtype=float) - np.asarray(benchmark, dtype=float))
    return sharpe_ratio(active, _periods(returns, periods))


def mae(outcomes: ArrayLike, predictions: ArrayLike) -> float:
    """Mean absolute error, in the unit of the outcomes; pairs with a missing side are left out."""
    return float(np.abs(_errors(outcomes, predictions)[0]).mean())


def mse(outcomes: ArrayLike, predictions: ArrayLike) -> float:
    """Mean squared error."""
    return float((_errors(outcomes, predictions)[0] ** 2).mean())


def rmse(outcomes: ArrayLike, predictions: ArrayLike) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(mse(outcomes, predictions)))


def mape(outcomes: ArrayLike, predictions: ArrayLike) -> float:
    """Mean absolute error as a fraction of the outcome, over outcomes that are not zero.

    It is a measure for prices. For returns, which pass through zero, it has no meaning.
    """
    error, actual = _errors(outcomes, predictions)
    some = actual != 0
    return float(np.abs(error[some] / actual[some]).mean()) if some.any() else float("nan")


def rank_ic(predictions: pd.DataFrame, outcomes: pd.DataFrame, min_assets: int = 3) -> pd.Series:
    """Information coefficient: Spearman's rank correlation over the assets, bar by bar.

    Parameters
    ----------
    predictions, outcomes : DataFrame (time x asset)
        Matched by index and columns; an asset counts at a bar only where both are there.
    min_assets : int
        Bars with fewer assets, or without any variation, give NaN.

    Returns
    -------
    Series (time,)
    """
    predictions, outcomes = predictions.align(outcomes, join="inner")
    both = predictions.notna() & outcomes.notna()
    ranks = [frame.where(both).rank(axis=1).to_numpy() for frame in (predictions, outcomes)]
    count = both.to_numpy().sum(axis=1)
    centred = [np.nan_to_num(rank - ((count + 1) / 2)[:, None]) for rank in ranks]
    spread = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    good = (count >= min_assets) & (spread > 0)
    together = (centred[0] * centred[1]).sum(axis=1)
    values = np.divide(together, spread, out=np.full(len(count), np.nan), where=good)
    return pd.Series(values, index=predictions.index, name="rank_ic")


def weighted_ic(
    predictions: pd.DataFrame, outcomes: pd.DataFrame, half_life: float = 0.25, min_assets: int = 3
) -> pd.Series:
    """Rank correlation over the assets that weighs most what is predicted best, bar by bar.

    A long-only book holds the top of the list; errors at its bottom cost it nothing. The asset predicted best weighs
    one, and weights halve every ``half_life`` of the list. With equal weights (``half_life = inf``) it is `rank_ic`.

    Parameters
    ----------
    predictions, outcomes : DataFrame (time x asset)
        As in `rank_ic`.
    half_life : float
        As a share of the assets at the bar.
    min_assets : int
        As in `rank_ic`.

    Returns
    -------
    Series (time,)
    """
    predictions, outcomes = predictions.align(outcomes, join="inner")
    both = predictions.notna() & outcomes.notna()
    x, y = (frame.where(both).rank(axis=1).to_numpy() for frame in (predictions, outcomes))
    count = both.to_numpy().sum(axis=1)[:, None]
    weight = np.nan_to_num(0.5 ** ((count - x) / np.maximum(half_life * count, 1e-12)))
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
    x, y = (np.nan_to_num(r - (weight * np.nan_to_num(r)).sum(axis=1, keepdims=True) / total) for r in (x, y))
    spread = np.sqrt((weight * x**2).sum(axis=1) * (weight * y**2).sum(axis=1))
    good = (count[:, 0] >= min_assets) & (spread > 1e-12)
    values = np.divide((weight * x * y).sum(axis=1), spread, out=np.full(len(count), np.nan), where=good)
    return pd.Series(values, index=predictions.index, name="weighted_ic")


def observed(returns: ArrayLike) -> np.ndarray:
    """The returns that are there, float (n,).

    Raises
    ------
    DataError
        If they are not one-dimensional or not finite.
    """
    values = np.asarray(returns, dtype=float)
    if values.ndim != 1:
        raise DataError(
            f"returns have shape {values.shape}, one series is expected; for a table use table.apply(measure)"
        )
    values = values[~np.isnan(values)]
    if np.isinf(values).any():
        raise DataError("returns hold an infinite value, likely a price of zero before it; repair the prices first")
    return values


def _periods(returns: ArrayLike, periods: int | None) -> int:
    if periods is not None:
        if periods < 1:
            raise ConfigError(f"periods = {periods}, a positive number of bars a year is needed (252 for trading days)")
        return periods
    index = getattr(returns, "index", None)
    return periods_per_year(index) if isinstance(index, pd.DatetimeIndex) else TRADING_DAYS


def _ratio(above: float, below: float, r: np.ndarray) -> float:
    size = np.abs(r).max() if r.size else 0.0
    return float(above / below) if below > _NOTHING * size else float("nan")


def _losses(returns: ArrayLike, level: float, probabilities: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Losses from worst to best with their probabilities."""
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level = {level}, a probability such as 0.95 is needed")
    values = np.asarray(returns, dtype=float)
    if probabilities is None:
        losses = np.sort(-observed(values))[::-1]
        return losses, np.full(losses.size, 1.0 / max(1, losses.size))
    mass = np.asarray(probabilities, dtype=float)
    if mass.shape != values.shape or (mass < 0).any() or abs(mass.sum() - 1.0) > 1e-9:
        raise DataError("probabilities must be non-negative, one a return, and sum to one")
    order = np.argsort(values, kind="stable")
    if not np.isfinite(values).all():
        raise DataError("returns with probabilities must all be finite; drop the missing ones and renormalise")
    return -values[order], mass[order]


def _errors(outcomes: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    actual, guess = np.asarray(outcomes, dtype=float), np.asarray(predictions, dtype=float)
    if actual.shape != guess.shape:
        raise DataError(f"outcomes have shape {actual.shape}, predictions {guess.shape}: they must match")
    known = ~(np.isnan(actual) | np.isnan(guess))
    if not known.any():
        raise DataError("no pair of outcome and prediction is complete, so there is no error to measure")
    return (guess - actual)[known], actual[known]
