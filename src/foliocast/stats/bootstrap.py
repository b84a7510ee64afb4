"""Intervals for the measures of a track record: the stationary bootstrap of Politis and Romano (1994).

Blocks of random (geometric) length are drawn with replacement and wrapped around the end, so that dependence from one
bar to the next survives and the resampled series stays stationary. All strategies of a comparison share the resampled
dates, which keeps them comparable and makes intervals for ten strategies nearly as cheap as for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.time import TRADING_DAYS, periods_per_year
from foliocast.stats import measures

_GONE = np.log(1e-20)  # log wealth of one that lost everything: finite, so that counting it zero times gives zero
_TAIL = 0.95


class Interval(NamedTuple):
    """An estimate with its confidence bounds."""

    value: float
    low: float
    high: float


def optimal_block(series: np.ndarray) -> float:
    """Mean block length that suits a series: Politis and White (2004) with the correction of Patton et al. (2009).

    Parameters
    ----------
    series : ndarray, shape (n,)
        Finite.

    Returns
    -------
    float
        Between 1 and ``min(3 sqrt(n), n / 3)``; 1 for a constant series.

    Notes
    -----
    The flat-top window reaches to twice the last lag before a run of insignificant autocorrelations.
    ``arch.bootstrap.optimal_block_length`` counts one lag more and takes seconds to import.
    """
    x = np.asarray(series, dtype=float) - np.mean(series)
    n = len(x)
    if n < 8 or float(x @ x) <= 1e-28 * n:
        return 1.0
    longest = float(np.ceil(min(3 * np.sqrt(n), n / 3)))
    run = max(5, int(np.log10(n)))
    last = min(int(np.ceil(np.sqrt(n))) + run, n - 1)
    acov = np.array([x[: n - k] @ x[k:] for k in range(last + 1)]) / n
    loud = np.abs(acov[1:]) >= 2 * np.sqrt(np.log10(n) / n) * acov[0]  # lags 1, 2, ...
    quiet = [k for k in range(len(loud) - run + 1) if not loud[k : k + run].any()]
    reach = min(2 * max(1, quiet[0]), last) if quiet else last
    lags = np.arange(1, reach + 1)
    taper = np.minimum(1.0, 2.0 * (1.0 - lags / reach)) * acov[1 : reach + 1]
    slope, spectrum = 2.0 * float(lags @ taper), float(acov[0] + 2.0 * taper.sum())
    if spectrum <= 0:
        return longest
    return float(np.clip((n * (slope / spectrum) ** 2) ** (1.0 / 3.0), 1.0, longest))


def stationary_bootstrap(n: int, n_resamples: int, block: float, rng: np.random.Generator | int) -> np.ndarray:
    """Resampled positions, int (n, n_resamples): each column is one resample of ``range(n)``.

    Parameters
    ----------
    n : int
        Observations.
    n_resamples : int
    block : float
        Mean block length in bars, at least 1 (1 is the ordinary bootstrap).
    rng : Generator or int
    """
    if block < 1 or n < 1:
        raise ConfigError(f"block = {block} and n = {n}: both must be at least 1")
    rng = np.random.default_rng(rng)
    fresh = rng.random((n, n_resamples), dtype=np.float32) < 1.0 / block
    out = rng.integers(0, n, (n, n_resamples), dtype=np.int32)
    for t in range(1, n):
        out[t] = np.where(fresh[t], out[t], out[t - 1] + 1)
        out[t][out[t] == n] = 0
    return out


def headline(
    returns: pd.Series | np.ndarray,
    periods: int | None = None,
    held: np.ndarray | None = None,
    flows: Mapping[str, np.ndarray] | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    rng: np.random.Generator | int = 0,
) -> dict[str, Interval]:
    """Every headline measure of one track record with its bootstrap interval; see `headlines`."""
    frame = pd.DataFrame({"one": pd.Series(returns)})
    positions = None if held is None else pd.DataFrame({"one": held}, index=frame.index)
    parts = {name: pd.DataFrame({"one": np.asarray(flow)}, index=frame.index) for name, flow in (flows or {}).items()}
    return headlines(frame, periods, positions, parts, n_resamples, level, rng)["one"]


def headlines(
    returns: pd.DataFrame,
    periods: int | None = None,
    held: pd.DataFrame | None = None,
    flows: Mapping[str, pd.DataFrame] | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    rng: np.random.Generator | int = 0,
) -> dict[str, dict[str, Interval]]:
    """Headline measures of several track records over the same bars, with intervals from shared resamples.

    Parameters
    ----------
    returns : DataFrame (time x strategy)
        Net simple returns per bar, complete.
    periods : int, optional
        Bars a year; read off the index by default.
    held : DataFrame of bool (time x strategy), optional
        Bars with a position, for the win rate; by default those with a return other than zero.
    flows : mapping of name to DataFrame (time x strategy), optional
        Amounts per bar (turnover, cost) whose sums a year are wanted as well.
    n_resamples : int
    level : float
        Of confidence.
    rng : Generator or int

    Returns
    -------
    dict
        ``{strategy: {measure: Interval}}`` with the measures ``sharpe, annual_return, volatility, sortino,
        max_drawdown, calmar, win_rate, var_95, cvar_95`` and the names of ``flows``. VaR and CVaR are per bar.

    Notes
    -----
    Percentile intervals, widened where needed to hold the estimate itself (a drawdown depends on the order of the
    bars, which resampling loosens). The mean block length is the largest that the returns or their sizes of any
    strategy ask for, so that volatility clustering is kept.

    Raises
    ------
    HistoryError
        Fewer than two bars, or missing returns.
    """
    values = returns.to_numpy(float)
    if len(values) < 2 or not np.isfinite(values).all():
        raise HistoryError(
            f"{len(values)} bars of returns, {int((~np.isfinite(values)).sum())} values missing or infinite: "
            "intervals need at least two complete bars"
        )
    if periods is None:
        dated = isinstance(returns.index, pd.DatetimeIndex)
        periods = periods_per_year(returns.index) if dated else TRADING_DAYS  # type: ignore[arg-type]
    positions = values != 0.0 if held is None else held[list(returns.columns)].to_numpy(bool)
    parts = {name: flow[list(returns.columns)].to_numpy(float) for name, flow in (flows or {}).items()}
    block = max(optimal_block(column) for r in values.T for column in (r, np.abs(r)))
    draws = _resample(values, positions, parts, periods, stationary_bootstrap(len(values), n_resamples, block, rng))
    tails = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    out: dict[str, dict[str, Interval]] = {}
    for k, name in enumerate(returns.columns):
        flow = {key: part[:, k] for key, part in parts.items()}
        points = _points(values[:, k], positions[:, k], flow, periods)
        out[str(name)] = {key: _interval(point, draws[key][:, k], tails) for key, point in points.items()}
    return out


def _points(r: np.ndarray, held: np.ndarray, flows: dict[str, np.ndarray], periods: int) -> dict[str, float]:
    return {
        "sharpe": measures.sharpe_ratio(r, periods),
        "annual_return": measures.annual_return(r, periods),
        "volatility": measures.volatility(r, periods),
        "sortino": measures.sortino_ratio(r, periods),
        "max_drawdown": measures.max_drawdown(r),
        "calmar": measures.calmar_ratio(r, periods),
        "win_rate": measures.win_rate(r, held),
        "var_95": measures.value_at_risk(r, _TAIL),
        "cvar_95": measures.cvar(r, _TAIL),
        **{name: float(flow.mean() * periods) for name, flow in flows.items()},
    }


def _interval(value: float, draws: np.ndarray, tails: list[float]) -> Interval:
    draws = draws[np.isfinite(draws)]
    if not draws.size or not np.isfinite(value):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(draws, tails)
    return Interval(value, float(min(low, value)), float(max(high, value)))


def _resample(
    r: np.ndarray, held: np.ndarray, flows: dict[str, np.ndarray], periods: int, index: np.ndarray
) -> dict[str, np.ndarray]:
    """Each measure on each resample, (resample, strategy).

    All but the drawdown depend only on how often each bar was drawn, so they are products with a table of counts.
    """
    n = len(r)
    counts = _counts(index)
    log = np.log(np.maximum(1.0 + r, np.exp(_GONE)))
    gains = (r > 0) & held
    fall = np.minimum(r, 0.0) ** 2
    table = np.concatenate([r, r**2, fall, log, gains, held, *flows.values()], axis=1)
    sums = np.split(counts @ table, table.shape[1] // r.shape[1], axis=1)
    total, squares, falls, growth, wins, bars = sums[:6]
    mean = total / n
    spread = np.sqrt(np.maximum(squares - n * mean**2, 0.0) / (n - 1))
    annual, worst = np.exp(growth * periods / n) - 1.0, _max_drawdowns(log, index)
    var, shortfall = _tails(r, counts)
    return {
        "sharpe": _safe(mean, spread) * np.sqrt(periods),
        "annual_return": annual,
        "volatility": spread * np.sqrt(periods),
        "sortino": _safe(mean, np.sqrt(falls / n)) * np.sqrt(periods),
        "max_drawdown": worst,
        "calmar": _safe(annual, -worst),
        "win_rate": _safe(wins, bars),
        "var_95": var,
        "cvar_95": shortfall,
        **{name: flow / n * periods for name, flow in zip(flows, sums[6:])},
    }


def _counts(index: np.ndarray) -> np.ndarray:
    """How often each bar is in each resample, float (resample, bar)."""
    n, n_resamples = index.shape
    flat = index.T + n * np.arange(n_resamples)[:, None]
    return np.bincount(flat.ravel(), minlength=n * n_resamples).reshape(n_resamples, n).astype(float)


def _max_drawdowns(log: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Deepest drawdown of each resampled path, (resample, strategy): one step a bar, all paths at once."""
    level = np.zeros((index.shape[1], log.shape[1]))
    below = np.zeros_like(level)  # log distance from the peak so far
    worst = np.zeros_like(level)
    for rows in index:
        np.take(log, rows, axis=0, out=level, mode="clip")
        below += level
        np.minimum(below, 0.0, out=below)
        np.minimum(worst, below, out=worst)
    return np.exp(worst) - 1.0


def _tails(r: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """VaR and CVaR of each resample, (resample, strategy), as `measures` defines them."""
    n, mass = len(r), (1.0 - _TAIL) * len(r)
    var, shortfall = np.empty((2, len(counts), r.shape[1]))
    for k, column in enumerate(r.T):
        order = np.argsort(column, kind="stable")
        for depth in (min(n, int(4 * mass) + 32), n):  # the tail nearly always lies in the worst fifth
            worst = order[:depth]
            drawn = counts[:, worst]
            before = np.cumsum(drawn, axis=1) - drawn
            if (before[:, -1] > mass).all() or depth == n:
                break
        share = np.minimum(np.maximum(mass - before, 0.0), drawn)
        shortfall[:, k] = -(share @ column[worst]) / mass
        inside = (before <= mass + 1e-9 * n) & (drawn > 0)
        last = depth - 1 - np.argmax(inside[:, ::-1], axis=1)
        var[:, k] = -column[worst][last]
    return var, shortfall


def _safe(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 1e-14)
