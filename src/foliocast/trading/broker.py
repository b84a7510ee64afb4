"""Who fills orders: the protocol, and the simulated broker with costs, impact and participation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from foliocast.core.book import Book
from foliocast.core.errors import ConfigError
from foliocast.core.panel import Panel
from foliocast.core.time import periods_per_year
from foliocast.trading.costs import Costs


@dataclass(frozen=True)
class Quote:
    """What can be traded now: prices (NaN where there is no quote), and what impact and participation need.

    Attributes
    ----------
    price : ndarray, shape (asset,)
    volume : ndarray or None, shape (asset,)
        Value traded in this bar, in money.
    adv, volatility : ndarray or None, shape (asset,)
        Average daily value traded and daily volatility, both known one bar before.
    """

    price: np.ndarray
    volume: np.ndarray | None = None
    adv: np.ndarray | None = None
    volatility: np.ndarray | None = None


@dataclass(frozen=True)
class Execution:
    """What came of a request to rebalance.

    Attributes
    ----------
    units : ndarray, shape (asset,)
        Signed units filled.
    impact : ndarray or None, shape (asset,)
        Impact paid, in equity units.
    open_part : ndarray of bool, shape (asset,)
        Assets whose order could not be filled, or not in full.
    """

    units: np.ndarray
    impact: np.ndarray | None
    open_part: np.ndarray


class Broker(Protocol):
    """Turns target weights into fills. The simulated, the paper and a real broker differ here and nowhere else."""

    @property
    def costs(self) -> Costs: ...

    def rebalance(self, book: Book, equity: float, targets: np.ndarray, quote: Quote) -> Execution:
        """Trade towards the targets (fractions of equity; NaN leaves an asset alone)."""
        ...

    def financing(self, book: Book, marks: np.ndarray) -> tuple[float, float, float]:
        """Borrow fee, funding and interest for holding the book one bar; positive is received."""
        ...


@dataclass(frozen=True)
class SimulatedBroker:
    """Fills at the quote, and charges `Costs`.

    After the trade the weights are exactly the targets: the costs come out of equity, and the equity that is left is
    the fixed point ``E' = E - cost(E' * targets - holdings)``.

    Parameters
    ----------
    costs : Costs
    periods : int
        Bars a year, for the annual rates.
    """

    costs: Costs
    periods: int = 252

    def rebalance(self, book: Book, equity: float, targets: np.ndarray, quote: Quote) -> Execution:
        quoted = np.isfinite(quote.price)
        wanted = np.isfinite(targets)
        active = wanted & quoted
        unfilled = wanted & ~quoted & ((targets != 0) | (book.units != 0))
        which = np.flatnonzero(active & ((targets != 0) | (book.units != 0)))
        if not len(which):
            return Execution(np.zeros(len(targets)), None, unfilled)
        price = quote.price[which]
        held = book.units[which] * price
        cap = self._cap(quote, which)
        trade, impact = self._solve(equity, targets[which], held, cap, quote, which)
        units = np.zeros(len(targets))
        # what is sold out is sold to the last unit, so that no dust is left
        gone = (targets[which] == 0) & (trade == -held)
        units[which] = np.where(gone, -book.units[which], trade / price)
        if cap is not None:
            unfilled[which] |= np.abs(trade) >= cap * (1 - 1e-12)
        spread_out = None
        if impact is not None:
            spread_out = np.zeros(len(targets))
            spread_out[which] = impact
        return Execution(units, spread_out, unfilled)

    def _cap(self, quote: Quote, which: np.ndarray) -> np.ndarray | None:
        """Largest value that may be traded of each asset, in equity units."""
        if self.costs.participation is None:
            return None
        if quote.volume is None:
            raise ConfigError("costs: participation needs volumes; the data have none, drop it from the costs")
        return self.costs.participation * np.nan_to_num(quote.volume[which]) / self.costs.capital

    def _solve(
        self,
        equity: float,
        targets: np.ndarray,
        held: np.ndarray,
        cap: np.ndarray | None,
        quote: Quote,
        which: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Values traded and their impact, such that what is left after costs has the target weights."""
        costs, left = self.costs, equity
        has_impact = costs.impact != "none"
        if has_impact and (quote.adv is None or quote.volatility is None):
            raise ConfigError(f"costs: impact = '{costs.impact}' needs volumes; the data have none, use 'none'")
        adv = quote.adv[which] if has_impact and quote.adv is not None else None
        volatility = quote.volatility[which] if has_impact and quote.volatility is not None else None
        impact: np.ndarray | None = None
        for _ in range(200):
            trade = left * targets - held
            if cap is not None:
                trade = np.clip(trade, -cap, cap)
            cost = costs.rate * float(np.abs(trade).sum())
            if has_impact and adv is not None and volatility is not None:
                impact = costs.impact_of(trade, volatility, adv)
                cost += float(impact.sum())
            before, left = left, equity - cost
            if abs(left - before) <= 1e-16 * abs(equity):
                break
        return trade, impact

    def financing(self, book: Book, marks: np.ndarray) -> tuple[float, float, float]:
        costs = self.costs
        short = float(-(book.units * np.nan_to_num(marks))[book.units < 0].sum()) if costs.borrow_rate else 0.0
        borrow = -short * costs.borrow_rate / self.periods
        funding = min(book.cash, 0.0) * costs.funding_rate / self.periods
        interest = max(book.cash, 0.0) * costs.cash_rate / self.periods
        return borrow, funding, interest


@dataclass(frozen=True)
class Liquidity:
    """Trailing volatility and average value traded, known one bar before: (time, asset) each; value traded now."""

    value: np.ndarray
    adv: np.ndarray
    volatility: np.ndarray

    @classmethod
    def of(cls, panel: Panel, lookback: int) -> Liquidity:
        """From closes and volumes.

        An asset too young for an estimate of its own (fewer than 5 bars) is charged the highest volatility and the
        lowest ADV among the assets of that bar.

        Raises
        ------
        ConfigError
            If the panel has no volumes.
        """
        if "volume" not in panel.fields:
            raise ConfigError(
                f"impact and participation need volumes; '{panel.name}' has {', '.join(panel.fields)}: drop them from "
                "the costs or load data with volumes"
            )
        close = pd.DataFrame(panel.array("close"))
        value = close * panel.array("volume")
        adv = value.rolling(lookback, min_periods=5).mean().shift(1).to_numpy()
        returns = close.pct_change(fill_method=None)
        volatility = returns.rolling(lookback, min_periods=5).std().shift(1).to_numpy()
        adv = np.where(np.isfinite(adv) & (adv > 0), adv, np.nan)
        worst_adv = pd.DataFrame(adv).min(axis=1).bfill().fillna(1.0).to_numpy()
        worst_vol = pd.DataFrame(volatility).max(axis=1).bfill().fillna(0.0).to_numpy()
        adv = np.where(np.isfinite(adv), adv, worst_adv[:, None])
        volatility = np.where(np.isfinite(volatility), volatility, worst_vol[:, None])
        bars_a_day = periods_per_year(panel.times) / 252.0
        scale = bars_a_day if bars_a_day > 1.5 else 1.0
        return cls(value.to_numpy(), adv * scale, volatility * np.sqrt(scale))
