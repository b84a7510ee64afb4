"""The one loop of backtest, paper and live trading: they differ in the clock, the feed and the broker handed to it.

A bar, in order: finance what was held, fill what is due at the open, mark to the close, fill what is due at the close,
sell what left the universe, let the limits look, decide, cut the decision to the limits, and keep it for the next bar
(or fill it at this very close if that was chosen). Equity is cash plus units times last known prices, always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from foliocast.core.book import Book
from foliocast.core.errors import ConfigError
from foliocast.core.panel import Panel
from foliocast.core.protocols import Charge, Rule
from foliocast.core.time import periods_per_year
from foliocast.trading.broker import Broker, Liquidity, Quote, SimulatedBroker
from foliocast.trading.costs import Costs, as_costs
from foliocast.trading.ledger import Action, Ledger
from foliocast.trading.limits import Guards, Limit, Situation, needs_volume
from foliocast.trading.result import BacktestResult

EXECUTIONS = ("next_open", "next_close", "same_close")


@dataclass(frozen=True)
class Bar:
    """What the feed says of one bar; arrays of shape (asset,).

    Attributes
    ----------
    time : Timestamp
    close : ndarray
        NaN where there is no quote.
    member : ndarray of bool
        Who may be held.
    past_returns : ndarray or None, shape (time, asset)
        Returns up to this bar, zeros at gaps, for the limits.
    open, volume, adv, volatility : ndarray or None
        Opens; value traded in the bar, average daily value and daily volatility, for the broker.
    """

    time: pd.Timestamp
    close: np.ndarray
    member: np.ndarray
    past_returns: np.ndarray | None = None
    open: np.ndarray | None = None
    volume: np.ndarray | None = None
    adv: np.ndarray | None = None
    volatility: np.ndarray | None = None

    def quote(self, price: np.ndarray) -> Quote:
        return Quote(price, self.volume, self.adv, self.volatility)


class Clock(Protocol):
    """Time outside: a backtest has none, live trading waits."""

    def wait_for(self, time: pd.Timestamp) -> None: ...


class NoClock:
    """History does not wait."""

    def wait_for(self, time: pd.Timestamp) -> None:
        return None


Decide = Callable[[Bar, "Engine"], "np.ndarray | None"]


class Engine:
    """An account and the step function that moves it by one bar.

    Parameters
    ----------
    assets : tuple of str
    broker : Broker
    limits : sequence of Limit
    execution : {"next_open", "next_close", "same_close"}
    cash : float
        Starting equity.
    """

    def __init__(
        self,
        assets: tuple[str, ...],
        broker: Broker,
        limits: Sequence[Limit | Rule] = (),
        execution: str = "next_close",
        cash: float = 1.0,
    ) -> None:
        if execution not in EXECUTIONS:
            raise ConfigError(f"execution = '{execution}', expected one of {', '.join(EXECUTIONS)}")
        self.assets, self.broker, self.execution = assets, broker, execution
        self.book = Book(assets, cash)
        self.ledger = Ledger(assets, broker.costs)
        self.guards = Guards.of(limits)
        self.marks = np.zeros(len(assets))
        self.pending: np.ndarray | None = None
        self.pending_reason = "rebalance"
        self.wanted: np.ndarray | None = None
        self.ruined = False
        self.record: list[tuple[float, float, float, np.ndarray]] = []
        self._traded = self._paid = 0.0

    # ---- reading
    @property
    def equity(self) -> float:
        """Cash and holdings at last known prices."""
        return float(self.book.cash + self.book.units @ self.marks)

    @property
    def held(self) -> np.ndarray:
        """Weights held now, at last known prices."""
        equity = self.equity
        return self.book.units * self.marks / equity if equity > 0 else np.zeros(len(self.assets))

    # ---- one bar
    def step(self, bar: Bar, decide: Decide) -> None:
        """Move the account by one bar."""
        self.ledger.open_bar(bar.time)
        self._traded = self._paid = 0.0
        if self.record:  # nothing was held before the first bar
            self._finance()
        if self.execution == "next_open" and bar.open is not None:
            self._fill(bar.quote(bar.open))
        self.marks = np.where(np.isfinite(bar.close), bar.close, self.marks)
        if self.execution == "next_close":
            self._fill(bar.quote(bar.close))
        self._expel(bar.member)
        if self.equity <= 0:
            self._ruin()
        if not self.ruined:
            self._decide(bar, decide)
            if self.execution == "same_close":
                self._fill(bar.quote(bar.close))
        self.record.append((self.equity, self._traded, self._paid, self.held))

    def _decide(self, bar: Bar, decide: Decide) -> None:
        in_flight = self.pending is not None and self.pending_reason != "rebalance"
        now = Situation(len(self.record), self.equity, self.held, bar.past_returns, in_flight, self.assets, bar.adv)
        cut, actions = self.guards.after_close(now)
        wish = decide(bar, self)
        if wish is not None:
            self.wanted = np.where(bar.member, np.nan_to_num(wish), 0.0)
        if wish is not None or any(action.kind == "re-entry" for action in actions):
            targets = now.weights if self.wanted is None else self.wanted
            self.pending, more = self.guards.before_trade(targets, now, actions)
            self.pending_reason = "rebalance"
            actions = [*actions, *more]
        elif cut is not None:
            self.pending = cut
            self.pending_reason = "limit: " + ", ".join(a.limit for a in actions if a.kind == "breach")
        for action in actions:
            self.ledger.add_action(action)

    # ---- money
    def _finance(self) -> None:
        borrow, funding, interest = self.broker.financing(self.book, self.marks)
        if borrow or funding or interest:
            self.book.cash += borrow + funding + interest
            self.ledger.add_financing(borrow, funding, interest)

    def _fill(self, quote: Quote) -> None:
        """Trade towards what is pending; what cannot be filled stays pending."""
        if self.pending is None or self.ruined:
            return
        reference = np.where(np.isfinite(quote.price), quote.price, self.marks)
        equity = float(self.book.cash + self.book.units @ reference)
        if equity <= 0:
            return
        done = self.broker.rebalance(self.book, equity, self.pending, quote)
        self._settle(done.units, quote.price, done.impact, equity, self.pending_reason)
        self.pending = np.where(done.open_part, self.pending, np.nan) if done.open_part.any() else None

    def _settle(
        self, units: np.ndarray, price: np.ndarray, impact: np.ndarray | None, equity: float, reason: str
    ) -> None:
        which = np.flatnonzero(units)
        if not len(which):
            return
        units, price = units[which], price[which]
        impact = None if impact is None else impact[which]
        value = units * price
        size = float(np.abs(value).sum())
        cost = self.broker.costs.rate * size + (0.0 if impact is None else float(impact.sum()))
        self.book.units[which] += units
        self.book.cash -= float(value.sum()) + cost
        self._traded += size / equity
        self._paid += cost / equity
        self.ledger.add_fills(which, units, price, impact, reason)

    def _expel(self, member: np.ndarray) -> None:
        """Sell what is held of assets that left the universe, at their last known price."""
        gone = ~member & (self.book.units != 0)
        if gone.any() and self.equity > 0:
            self._settle(np.where(gone, -self.book.units, 0.0), self.marks, None, self.equity, "left the universe")
        if self.pending is not None and not member.all():
            self.pending = np.where(member, self.pending, np.nan)

    def _ruin(self) -> None:
        """Nothing is left: the account is closed at last known prices."""
        if not self.ruined:
            which = np.flatnonzero(self.book.units)
            units = -self.book.units[which]
            self.book.cash -= float(units @ self.marks[which])
            self.book.units[:] = 0.0
            cost = self.broker.costs.rate * float(np.abs(units * self.marks[which]).sum())
            self.book.cash -= cost
            self.ledger.add_fills(which, units, self.marks[which].copy(), None, "ruin")
            self.ledger.add_action(Action("equity", "ruin", self.equity, 0.0, 0.0, "equity reached zero"))
        self.ruined, self.pending = True, None

    # ---- outcome
    def result(self, marks: np.ndarray, times: pd.Index) -> BacktestResult:
        """What the account went through."""
        equity, traded, paid = (np.array([row[k] for row in self.record]) for k in range(3))
        equity[0] = 1.0
        weights = np.array([row[3] for row in self.record])
        return BacktestResult(
            times,
            self.assets,
            equity,
            traded,
            paid,
            self.broker.costs,
            self.execution,
            marks,
            _weights=weights,
            ledger=self.ledger,
        )


def run(feed: Iterable[Bar], engine: Engine, decide: Decide, clock: Clock | None = None) -> Engine:
    """Drive an account through a feed."""
    clock = NoClock() if clock is None else clock
    for bar in feed:
        clock.wait_for(bar.time)
        engine.step(bar, decide)
    return engine


class PanelFeed:
    """Bars of a panel, from row ``start`` to ``stop``; earlier rows are the limits' and the broker's history."""

    def __init__(
        self, panel: Panel, costs: Costs, start: int = 0, stop: int | None = None, limits: Sequence[Limit | Rule] = ()
    ) -> None:
        self.panel, self.start = panel, start
        self.stop = len(panel) if stop is None else stop
        volumes = costs.needs_volume or needs_volume(limits)
        self.liquidity = Liquidity.of(panel, costs.lookback) if volumes else None

    def __iter__(self) -> Iterator[Bar]:
        panel, liquid = self.panel, self.liquidity
        close, member, times = panel.array("close"), panel.universe.mask, panel.times
        opens = panel.array("open") if "open" in panel.fields else None
        returns = np.nan_to_num(panel.return_array())
        for t in range(self.start, self.stop):
            rows = (None, None, None) if liquid is None else (liquid.value[t], liquid.adv[t], liquid.volatility[t])
            yield Bar(times[t], close[t], member[t], returns[1 : t + 1], None if opens is None else opens[t], *rows)


def run_decisions(
    panel: Panel,
    bars: np.ndarray,
    targets: np.ndarray,
    *,
    costs: Costs | Charge | None = None,
    limits: Sequence[Limit | Rule] = (),
    execution: str = "next_close",
    start: int = 0,
    stop: int | None = None,
) -> BacktestResult:
    """Run given decisions through the loop.

    Parameters
    ----------
    panel : Panel
    bars : ndarray of int, shape (decision,)
        Rows of the panel at whose close the targets were decided.
    targets : ndarray, shape (decision, asset)
        Fractions of equity.
    costs, limits, execution
        As in `foliocast.walk_forward`.
    start, stop : int
        Rows of the panel that are simulated; equity is 1.0 at ``start``.
    """
    costs = as_costs(costs)
    if execution == "next_open" and "open" not in panel.fields:
        raise ConfigError(f"execution = 'next_open' needs opens, '{panel.name}' has {', '.join(panel.fields)}")
    decision = dict(zip(panel.times[bars], targets))

    def decide(bar: Bar, engine: Engine) -> np.ndarray | None:
        return decision.get(bar.time)

    broker = SimulatedBroker(costs, periods_per_year(panel.times))
    engine = Engine(panel.assets, broker, limits, execution)
    run(PanelFeed(panel, costs, start, stop, limits), engine, decide)
    close = panel.array("close")[start:stop]
    return engine.result(close, panel.times[start:stop])
