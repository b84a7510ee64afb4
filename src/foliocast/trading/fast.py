"""Backtest of given weights without a loop over time.

Right after a rebalance the weights *are* the targets, so the weights drifted to the next rebalance depend only on these
targets and on the returns in between. What is left is the cost factor k (equity after the trade over equity before),
the root of ``k = 1 - c * sum_i |k * w_i - d_i|`` with w the targets and d the drifted weights: a contraction with
factor ``c * sum |w|``, solved for all rebalances at once. Costs that are not a fixed fraction of the trade, missing
quotes of held assets and fills at the open go through the event loop (`foliocast.trading.loop`), which agrees with this
path to 1e-10.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError, DataError
from foliocast.core.protocols import Charge
from foliocast.trading.costs import Costs, as_costs
from foliocast.trading.result import BacktestResult, Track

EXECUTIONS = ("same_close", "next_close", "next_open")
_BLOCK = 131_072  # numbers worked on at a time: one megabyte an array stays near the core


def backtest(
    weights: pd.DataFrame,
    prices: pd.DataFrame,
    costs: Costs | Charge | None = None,
    execution: str = "next_close",
    *,
    opens: pd.DataFrame | None = None,
    volumes: pd.DataFrame | None = None,
) -> BacktestResult:
    """Trade given target weights against given prices.

    Parameters
    ----------
    weights : DataFrame (time x asset)
        Target fractions of equity, decided at the close of the row's time; what is missing to one stays in cash, a
        sum above one is borrowed. Rows may be a subset of the times of ``prices``: in between, and on rows that are
        all NaN, holdings drift with prices. A NaN beside numbers is a zero. Columns are aligned by name; assets of
        ``prices`` without a column are not held.
    prices : DataFrame (time x asset)
        Adjusted closes, positive; NaN where there is no quote.
    costs : Costs
        Charged on |trade|; default 5 bps commission.
    execution : {"next_close", "same_close", "next_open"}
        When a decision is traded: at the close of the next bar, at the very close it was decided on, or at the next
        bar's open (needs ``opens``).
    opens, volumes : DataFrame (time x asset), optional
        Adjusted opens; volumes in units, needed for impact and participation.

    Returns
    -------
    BacktestResult
        ``equity`` is indexed like ``prices`` and starts at 1.0, the capital brought in; a trade at the very first
        close is paid for out of it, which shows in the second row (and in ``cost`` and ``turnover`` of the first).

    Notes
    -----
    An asset without a quote at a bar cannot be traded there: the order waits for the next quote or the next decision.
    An asset that has been silent for more than 5 bars has left; what is held of it is sold at its last price.
    An account whose equity reaches zero is closed.

    Raises
    ------
    DataError
        Unknown assets, weights at times that ``prices`` does not have, unusable prices.
    ConfigError
        Unknown execution, or one that needs data that are not there.
    """
    costs = as_costs(costs)
    close, bars, targets = _aligned(weights, prices)
    if execution not in EXECUTIONS:
        raise ConfigError(f"execution = '{execution}', expected one of {', '.join(EXECUTIONS)}")
    if execution == "next_open" and opens is None:
        raise ConfigError("execution = 'next_open' needs the opens of the bars: pass opens=, or use 'next_close'")
    if execution != "next_open" and costs.proportional:
        track = fast_track(bars + (execution == "next_close"), targets, close, costs.rate)
        if track is not None:
            return BacktestResult.from_track(
                track, prices.index, tuple(map(str, prices.columns)), close, costs, execution
            )
    return _by_loop(bars, targets, prices, costs, execution, opens, volumes)


def _by_loop(
    bars: np.ndarray,
    targets: np.ndarray,
    prices: pd.DataFrame,
    costs: Costs,
    execution: str,
    opens: pd.DataFrame | None,
    volumes: pd.DataFrame | None,
) -> BacktestResult:
    from foliocast.core.panel import Panel
    from foliocast.trading.loop import run_decisions

    frames = {"close": prices, "open": opens, "volume": volumes}
    panel = Panel.from_frames({key: frame for key, frame in frames.items() if frame is not None}, name="prices")
    result = run_decisions(panel, bars, targets, costs=costs, execution=execution)
    return replace(result, times=prices.index)


def backtest_many(
    weights: np.ndarray, prices: pd.DataFrame, costs: Costs | Charge | None = None, execution: str = "next_close"
) -> pd.DataFrame:
    """Equity of many weight matrices on the same prices: the engine of a parameter sweep.

    Parameters
    ----------
    weights : ndarray, shape (variant, time, asset)
        Targets a bar, without NaN, in the order of the columns of ``prices``.
    prices : DataFrame (time x asset)
        Without gaps.
    costs : Costs
        Proportional ones only.
    execution : {"next_close", "same_close"}

    Returns
    -------
    DataFrame (time x variant)
        Each column as `backtest` would give it.
    """
    costs = as_costs(costs)
    close = np.ascontiguousarray(prices.to_numpy(float))
    if weights.ndim != 3 or weights.shape[1:] != close.shape:
        raise DataError(f"weights have shape {weights.shape}, expected (variant, {close.shape[0]}, {close.shape[1]})")
    if execution not in ("next_close", "same_close") or not costs.proportional:
        raise ConfigError("a sweep trades at closes with proportional costs; use backtest() for anything else")
    bars = np.arange(len(close)) + (execution == "next_close")
    equity = np.empty((len(close), len(weights)))
    for number, targets in enumerate(weights):
        track = fast_track(bars, targets, close, costs.rate)
        if track is None:
            raise DataError(f"variant {number} holds an asset without a quote or loses everything; use backtest()")
        equity[:, number] = track.equity
    return pd.DataFrame(equity, index=prices.index)


def _aligned(weights: pd.DataFrame, prices: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Closes (time, asset), positions of the decisions, targets (decision, asset) in the order of the prices."""
    close = prices.to_numpy(dtype=float)
    lowest = close.min(initial=np.inf) if close.size else np.nan
    if not lowest > 0:
        lowest = _checked_prices(close, prices)
    if not prices.index.is_monotonic_increasing or prices.index.has_duplicates:
        raise DataError("prices: times must be strictly increasing and unique; sort them and drop duplicates")
    targets = _columns(weights, prices)
    if weights.index is prices.index or weights.index.equals(prices.index):
        bars = np.arange(len(prices))
    else:
        bars = prices.index.get_indexer(weights.index)
        if (bars < 0).any() or weights.index.has_duplicates:
            raise DataError(
                f"weights are given at {weights.index[int(np.argmin(bars))]}, which is not a time of the prices (or "
                "twice); align them to the bars on which they were decided"
            )
        order = np.argsort(bars, kind="stable")
        bars, targets = bars[order], targets[order]
    with np.errstate(invalid="ignore"):
        complete = np.isfinite(targets.sum())
    if complete:
        return close, bars, targets
    if np.isinf(targets).any():
        raise DataError("weights hold infinite values")
    empty = np.isnan(targets)
    decided = ~empty.all(axis=1)
    return close, bars[decided], np.where(empty, 0.0, targets)[decided]


def _columns(weights: pd.DataFrame, prices: pd.DataFrame) -> np.ndarray:
    """Targets in the order of the price columns."""
    if weights.columns is not prices.columns and not weights.columns.equals(prices.columns):
        unknown = [str(name) for name in weights.columns.difference(prices.columns, sort=False)]
        if unknown:
            raise DataError(f"weights name {', '.join(unknown[:5])}, for which there are no prices")
        if weights.columns.has_duplicates:
            raise DataError("weights have two columns of the same name")
        found = weights.columns.get_indexer(prices.columns)
        values = np.where(found >= 0, weights.to_numpy(dtype=float)[:, found], 0.0)
        none = weights.isna().all(axis=1).to_numpy()
        values[none] = np.nan
        return values
    return weights.to_numpy(dtype=float)


def _checked_prices(close: np.ndarray, prices: pd.DataFrame) -> float:
    """Refuse prices that cannot be traded; NaN are gaps."""
    if not close.size:
        raise DataError(f"prices are empty: {prices.shape[0]} times x {prices.shape[1]} assets")
    bad = (close <= 0) | np.isinf(close)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise DataError(
            f"price of {prices.columns[column]} at {prices.index[row]} is {close[row, column]}, expected a positive "
            "number; repair the data or set it to NaN for 'no quote'"
        )
    silent = np.isnan(close).all(axis=0)
    if silent.any():
        raise DataError(f"prices of {prices.columns[int(np.argmax(silent))]} are all NaN; drop the asset")
    return float(np.nanmin(close))


def fast_track(bars: np.ndarray, targets: np.ndarray, close: np.ndarray, rate: float) -> Track | None:
    """The vectorised simulation.

    Parameters
    ----------
    bars : ndarray of int, shape (trade,)
        Increasing positions of the bars at whose close the targets are traded; those past the end are ignored.
    targets : ndarray, shape (trade, asset)
    close : ndarray, shape (time, asset)
    rate : float
        Cost as a fraction of the value traded.

    Returns
    -------
    Track or None
        None where this path does not apply: an asset is wanted or held without a quote, or equity reaches zero.
    """
    n_bars = len(close)
    n_trades = int(np.searchsorted(bars, n_bars))
    bars, targets = bars[:n_trades], targets[:n_trades]
    equity, turnover, cost = np.ones(n_bars), np.zeros(n_bars), np.zeros(n_bars)
    if not n_trades:
        return Track(equity, turnover, cost, bars, targets)
    if not np.isfinite(close[-1][targets[-1] != 0]).all():
        return None  # every other missing quote shows in a growth of NaN
    if close.flags.f_contiguous and not targets.flags.f_contiguous:
        targets = np.asfortranarray(targets)  # one memory order for both: pandas hands out either
    growth, kept, traded = np.ones(n_bars), np.empty(n_trades), np.empty(n_trades)
    size = float(np.abs(targets[0]).sum())
    kept[0], traded[0] = 1.0 / (1.0 + rate * size), size / (1.0 + rate * size)
    step = max(1, _BLOCK // close.shape[1])
    grid = _Grid(close, bars, targets, np.ones(close.shape[1]), rate)
    for low in range(int(bars[0]) + 1, n_bars, step):
        if not grid.work(low, min(low + step, n_bars), growth, kept, traded):
            return None
    level = np.cumprod(kept)  # equity right after each trade
    if n_trades < n_bars - bars[0]:
        latest = np.searchsorted(bars, np.arange(bars[0], n_bars), side="right") - 1
        equity[bars[0] :] = level[latest] * growth[bars[0] :]
    equity[bars] = level
    equity[0] = 1.0
    turnover[bars] = traded
    cost[bars] = rate * traded
    return Track(equity, turnover, cost, bars, targets)


@dataclass(frozen=True)
class _Grid:
    """The inputs of the simulation, worked on in blocks of bars."""

    close: np.ndarray
    bars: np.ndarray
    targets: np.ndarray
    ones: np.ndarray
    rate: float

    def work(self, low: int, high: int, growth: np.ndarray, kept: np.ndarray, traded: np.ndarray) -> bool:
        """Bars ``low`` to ``high``: growth since the last trade, and where a bar trades, what is kept and traded.

        False if a held asset has no quote or nothing is left.
        """
        first, last = np.searchsorted(self.bars, (low, high))  # trades inside the block
        every_bar = last - first == high - low and self.bars[first - 1] == low - 1
        since: slice | np.ndarray
        held: slice | np.ndarray
        if every_bar:
            since, held = slice(first - 1, last - 1), slice(low - 1, high - 1)
        else:
            since = np.searchsorted(self.bars, np.arange(low, high), side="left") - 1
            held = self.bars[since]
        wanted = self.targets[since]
        value = self.close[low:high] / self.close[held]
        value *= wanted
        grown = value @ self.ones
        if not np.isfinite(grown).all():
            value[wanted == 0] = 0.0
            grown = value @ self.ones
        grown += 1.0 - wanted @ self.ones
        if not grown.min() > 0:
            return False
        growth[low:high] = grown
        if last > first:
            rows = slice(None) if every_bar else self.bars[first:last] - low
            kept[first:last], traded[first:last] = self._trade(self.targets[first:last], value[rows], grown[rows])
            return bool(kept[first:last].min() > 0)
        return True

    def _trade(self, wanted: np.ndarray, value: np.ndarray, grown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Solve ``K = g - c * sum |K w - v|`` for every row.

        Two values of the sum give its slope, so that the third point is exact unless an asset changes between bought
        and sold on the way; contraction steps then go on until what is left is below rounding.
        """
        work = np.empty_like(value)

        def size(level: np.ndarray) -> np.ndarray:
            np.multiply(wanted, level[:, None], out=work)
            np.subtract(work, value, out=work)
            np.abs(work, out=work)
            return work @ self.ones

        traded = size(grown)
        if not self.rate:
            return grown, traded / grown
        level = grown - self.rate * traded
        again = size(level)
        step = np.where(grown > level, grown - level, 1.0)
        slope = self.rate * (traded - again) / step
        better = level + (grown - self.rate * again - level) / (1.0 + slope)
        for _ in range(200):  # one step, unless costs are enormous
            traded = size(better)
            level, before = grown - self.rate * traded, better
            better = level
            if np.abs(level - before).max() < 1e-14:
                break
        return level, traded / grown
