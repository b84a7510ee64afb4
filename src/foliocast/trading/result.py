"""What a backtest leaves: numbers now, tables when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from foliocast.trading.costs import Costs
from foliocast.trading.ledger import ACTIONS, FINANCING, Ledger


@dataclass(frozen=True)
class Track:
    """Arrays of a finished simulation; shape (time,) unless said otherwise. ``targets`` is (trade, asset)."""

    equity: np.ndarray
    turnover: np.ndarray
    cost: np.ndarray
    trade_bars: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """Outcome of a backtest, indexed like its prices.

    Attributes
    ----------
    times : DatetimeIndex, shape (time,)
    assets : tuple of str
    equity_array, turnover_array, cost_array : ndarray, shape (time,)
        Equity (the first is 1.0); value traded and cost of trading as fractions of the equity before the trade.
    costs : Costs
    execution : str
    """

    times: pd.Index
    assets: tuple[str, ...]
    equity_array: np.ndarray = field(repr=False)
    turnover_array: np.ndarray = field(repr=False)
    cost_array: np.ndarray = field(repr=False)
    costs: Costs
    execution: str
    marks: np.ndarray = field(repr=False)
    _weights: np.ndarray | None = field(default=None, repr=False)
    _track: Track | None = field(default=None, repr=False)
    ledger: Ledger | None = field(default=None, repr=False)
    predictions: pd.DataFrame | None = field(default=None, repr=False)
    contaminated: bool = False

    @classmethod
    def from_track(
        cls, track: Track, times: pd.Index, assets: tuple[str, ...], close: np.ndarray, costs: Costs, execution: str
    ) -> BacktestResult:
        """From the arrays of the vectorised path."""
        return cls(times, assets, track.equity, track.turnover, track.cost, costs, execution, marks=close, _track=track)

    # ---- series
    @cached_property
    def equity(self) -> pd.Series:
        """Wealth at each bar, after the trades of the bar; the first is 1.0."""
        return pd.Series(self.equity_array, index=self.times, name="equity")

    @cached_property
    def returns(self) -> pd.Series:
        """Simple net return of each bar but the first: one a scored bar."""
        e = self.equity_array
        return pd.Series(e[1:] / e[:-1] - 1.0, index=self.times[1:], name="returns")

    @cached_property
    def turnover(self) -> pd.Series:
        """Value traded at each bar (bought plus sold) over the equity before the trade."""
        return pd.Series(self.turnover_array, index=self.times, name="turnover")

    @cached_property
    def cost(self) -> pd.Series:
        """Cost of the trades of each bar over the equity before the trade."""
        return pd.Series(self.cost_array, index=self.times, name="cost")

    @cached_property
    def weights(self) -> pd.DataFrame:
        """Fractions of equity held after the trades of each bar (time x asset); they drift between trades."""
        values = self._weights if self._weights is not None else self._drifted()
        return pd.DataFrame(values, index=self.times, columns=list(self.assets))

    def _drifted(self) -> np.ndarray:
        track = self._track
        out = np.zeros((len(self.times), len(self.assets)))
        if track is None or not len(track.trade_bars):
            return out
        first = int(track.trade_bars[0])
        since = np.searchsorted(track.trade_bars, np.arange(first, len(out)), side="right") - 1
        held = track.targets[since]
        ratio = np.where(held != 0, self.marks[first:] / self.marks[track.trade_bars[since]], 0.0)
        value = held * ratio
        out[first:] = value / (1.0 - held.sum(axis=1) + value.sum(axis=1))[:, None]
        return out

    # ---- records
    def trades(self) -> pd.DataFrame:
        """One row a fill: date, asset, signed units, price, commission, spread, impact, reason.

        Money is in units of the starting equity. For the vectorised path the fills follow from the weights.
        """
        if self.ledger is not None:
            return self.ledger.trades()
        return self._implied_ledger().trades()

    def _implied_ledger(self) -> Ledger:
        """The fills that the vectorised path stands for."""
        book = Ledger(self.assets, self.costs)
        trade_bars = set() if self._track is None else set(self._track.trade_bars.tolist())
        units = np.zeros(len(self.assets))
        weights = self.weights.to_numpy()
        level = self.equity_array.copy()
        level[0] -= self.cost_array[0]
        for bar, time in enumerate(self.times):
            book.open_bar(time)
            if bar in trade_bars:
                wanted = np.where(weights[bar] != 0, weights[bar] * level[bar] / self.marks[bar], 0.0)
                which = np.flatnonzero(wanted != units)
                book.add_fills(which, (wanted - units)[which], self.marks[bar][which], None, "rebalance")
                units = wanted
        return book

    def actions(self) -> pd.DataFrame:
        """What limits did: date, limit, kind, measured, allowed, scale, reason."""
        return pd.DataFrame(columns=list(ACTIONS)) if self.ledger is None else self.ledger.actions()

    def financing(self) -> pd.DataFrame:
        """Borrow fees, funding and interest by bar; negative is paid."""
        return pd.DataFrame(columns=list(FINANCING)) if self.ledger is None else self.ledger.financing()

    def positions(self) -> pd.Series:
        """Gross exposure after each bar: sum of absolute weights."""
        return self.weights.abs().sum(axis=1).rename("gross")

    def metrics(self) -> dict[str, float]:
        """Headline numbers of the net returns, without intervals.

        Returns
        -------
        dict
            ``final_equity``, ``annual_return``, ``volatility``, ``sharpe``, ``sortino``, ``calmar``, ``max_drawdown``,
            ``win_rate`` (among bars with a position), ``turnover`` (value traded a year over equity), ``cost`` (a year,
            over equity), ``value_at_risk`` and ``cvar`` (95 %, one bar), ``skewness``, ``kurtosis``, ``n_days``.
        """
        from foliocast.core.time import periods_per_year
        from foliocast.stats import measures

        r = self.returns.to_numpy()
        periods = periods_per_year(self.times) if isinstance(self.times, pd.DatetimeIndex) else 252
        years = max(1, self.n_days) / periods
        held = (self.positions().to_numpy()[:-1] > 0) | (r != 0)
        return {
            "final_equity": float(self.equity_array[-1]),
            "annual_return": measures.annual_return(r, periods),
            "volatility": measures.volatility(r, periods),
            "sharpe": measures.sharpe_ratio(r, periods),
            "sortino": measures.sortino_ratio(r, periods),
            "calmar": measures.calmar_ratio(r, periods),
            "max_drawdown": measures.max_drawdown(r),
            "win_rate": measures.win_rate(r, held),
            "turnover": float(self.turnover_array.sum() / years),
            "cost": float(self.cost_array.sum() / years),
            "value_at_risk": measures.value_at_risk(r),
            "cvar": measures.cvar(r),
            "skewness": measures.skewness(r),
            "kurtosis": measures.kurtosis(r),
            "n_days": self.n_days,
        }

    @property
    def n_days(self) -> int:
        """Scored bars."""
        return len(self.times) - 1

    def __repr__(self) -> str:
        span = f"{self.times[0]}..{self.times[-1]}" if len(self.times) else "empty"
        return (
            f"BacktestResult({self.n_days} scored bars {span}, {len(self.assets)} assets, {self.execution}, "
            f"final equity {self.equity_array[-1]:.6g})"
        )
