"""The record of an account: every fill, every financing payment, every action of a limit.

Wealth is not stored beside the record, it follows from it: `Ledger.replay` rebuilds the equity from the fills.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foliocast.core.book import Fill
from foliocast.trading.costs import Costs

TRADES = ("date", "asset", "units", "price", "commission", "spread", "impact", "reason")
FINANCING = ("date", "borrow", "funding", "interest")
ACTIONS = ("date", "limit", "kind", "measured", "allowed", "scale", "reason")


@dataclass(frozen=True)
class Action:
    """What a limit did: one a breach.

    Attributes
    ----------
    limit : str
    kind : str
        "breach" (what is held was cut), "pre-trade" (a wish was cut before it became an order), "re-entry" or "ruin".
    measured, allowed : float
    scale : float
        What the exposure was multiplied by.
    reason : str
    """

    limit: str
    kind: str
    measured: float
    allowed: float
    scale: float
    reason: str


class Ledger:
    """Append-only record, kept in arrays: a fill becomes an object only when somebody asks for it.

    Parameters
    ----------
    assets : tuple of str
    costs : Costs
        Commission and spread follow from it; impact is kept with each fill.
    """

    def __init__(self, assets: tuple[str, ...], costs: Costs) -> None:
        self.assets = assets
        self.costs = costs
        self.times: list[pd.Timestamp] = []
        self._fills: list[tuple[int, str, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]] = []
        self._financing: list[tuple[int, float, float, float]] = []
        self._actions: list[tuple[int, Action]] = []

    # ---- writing
    def open_bar(self, time: pd.Timestamp) -> None:
        """All that follows happens at this bar."""
        self.times.append(time)

    @property
    def bar(self) -> int:
        return len(self.times) - 1

    def add_fills(
        self, which: np.ndarray, units: np.ndarray, prices: np.ndarray, impact: np.ndarray | None, reason: str
    ) -> None:
        """Fills of one order batch: positions of the assets, signed units, prices and impact in equity units."""
        self._fills.append((self.bar, reason, which.astype(np.int32), units, prices, impact))

    def add_financing(self, borrow: float, funding: float, interest: float) -> None:
        """Payments over the bar just ended; positive is money received."""
        self._financing.append((self.bar, borrow, funding, interest))

    def add_action(self, action: Action) -> None:
        self._actions.append((self.bar, action))

    # ---- reading
    @property
    def n_fills(self) -> int:
        return sum(len(which) for _, _, which, _, _, _ in self._fills)

    def _arrays(self) -> dict[str, np.ndarray]:
        """All fills end to end."""
        counts = [len(which) for _, _, which, _, _, _ in self._fills]
        if not counts:
            empty = np.zeros(0)
            return {
                "bar": empty.astype(int),
                "asset": empty.astype(int),
                "units": empty,
                "price": empty,
                "impact": empty,
            }
        return {
            "bar": np.repeat([bar for bar, *_ in self._fills], counts),
            "asset": np.concatenate([f[2] for f in self._fills]),
            "units": np.concatenate([f[3] for f in self._fills]),
            "price": np.concatenate([f[4] for f in self._fills]),
            "impact": np.concatenate([np.zeros(n) if f[5] is None else f[5] for n, f in zip(counts, self._fills)]),
        }

    def trades(self) -> pd.DataFrame:
        """One row a fill: date, asset, signed units, price, commission, spread, impact (equity units), reason."""
        a = self._arrays()
        value = np.abs(a["units"] * a["price"])
        reasons = [reason for _, reason, *_ in self._fills]
        counts = [len(which) for _, _, which, _, _, _ in self._fills]
        codes, names = pd.factorize(np.array(reasons, dtype=object))
        frame = {
            "date": pd.DatetimeIndex(self.times)[a["bar"]],
            "asset": pd.Categorical.from_codes(a["asset"].astype(int), categories=pd.Index(self.assets)),
            "units": a["units"],
            "price": a["price"],
            "commission": value * self.costs.commission,
            "spread": value * self.costs.half_spread,
            "impact": a["impact"],
            "reason": pd.Categorical.from_codes(np.repeat(codes, counts), categories=pd.Index(names)),
        }
        return pd.DataFrame(frame, columns=list(TRADES))

    def fills(self) -> Iterator[Fill]:
        """The fills as objects, made one at a time."""
        for time, asset, *numbers, reason in self.trades().to_numpy():
            units, price, commission, spread, impact = map(float, numbers)
            yield Fill(str(asset), units, price, pd.Timestamp(time), commission, spread, impact, str(reason))

    def financing(self) -> pd.DataFrame:
        """Borrow fees, funding and interest a bar, in equity units; negative is paid."""
        rows = [(self.times[bar], borrow, funding, interest) for bar, borrow, funding, interest in self._financing]
        return pd.DataFrame(rows, columns=list(FINANCING))

    def actions(self) -> pd.DataFrame:
        """What the limits did, and why."""
        rows = [
            (self.times[bar], a.limit, a.kind, a.measured, a.allowed, a.scale, a.reason) for bar, a in self._actions
        ]
        return pd.DataFrame(rows, columns=list(ACTIONS))

    def replay(self, marks: np.ndarray, cash: float = 1.0) -> np.ndarray:
        """Equity at each bar, rebuilt from fills and financing alone.

        Parameters
        ----------
        marks : ndarray, shape (time, asset)
            Last known price of each asset at each bar of the ledger; NaN where it never had one.
        cash : float
            What the account began with.

        Returns
        -------
        ndarray, shape (time,)
        """
        a = self._arrays()
        n_bars = len(self.times)
        units = np.zeros((n_bars, len(self.assets)))
        np.add.at(units, (a["bar"], a["asset"]), a["units"])
        value = a["units"] * a["price"]
        spent = np.bincount(a["bar"], value + np.abs(value) * self.costs.rate + a["impact"], n_bars)
        paid = np.zeros(n_bars)
        for bar, borrow, funding, interest in self._financing:
            paid[bar] += borrow + funding + interest
        held = np.cumsum(units, axis=0)
        return cash + np.cumsum(paid - spent) + np.einsum("ta,ta->t", held, np.nan_to_num(marks))
