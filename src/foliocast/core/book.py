"""Money: orders, fills and the book they leave."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from foliocast.core.errors import DataError


@dataclass(frozen=True)
class Order:
    """A wish to trade: signed units of an asset, decided at a time, for a reason."""

    asset: str
    units: float
    decided_at: pd.Timestamp
    reason: str = "rebalance"


@dataclass(frozen=True)
class Fill:
    """What came of an order: signed units at a price, with what it cost in money, part by part."""

    asset: str
    units: float
    price: float
    time: pd.Timestamp
    commission: float = 0.0
    spread: float = 0.0
    impact: float = 0.0
    reason: str = "rebalance"

    @property
    def cost(self) -> float:
        return self.commission + self.spread + self.impact


@dataclass
class Book:
    """Cash and units held; ``equity = cash + units . prices`` at every bar, to 1e-9.

    Parameters
    ----------
    assets : tuple of str
    units : ndarray, shape (asset,)
        Signed units held.
    cash : float
    """

    assets: tuple[str, ...]
    cash: float = 1.0
    units: np.ndarray = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        self.units = np.zeros(len(self.assets)) if self.units is None else np.asarray(self.units, dtype=float)
        if self.units.shape != (len(self.assets),):
            raise DataError(f"book of {len(self.assets)} assets holds {self.units.shape} units")

    def equity(self, prices: np.ndarray) -> float:
        """Worth at these prices; assets with no units need no price."""
        held = self.units != 0
        return float(self.cash + self.units[held] @ prices[held])

    def weights(self, prices: np.ndarray) -> pd.Series:
        """Fractions of equity, indexed by asset; cash is what is left to one."""
        value = np.where(self.units != 0, self.units * prices, 0.0)
        return pd.Series(value / self.equity(prices), index=list(self.assets))

    def apply(self, fill: Fill) -> None:
        """Settle a fill: units in, money and cost out."""
        self.units[self.assets.index(fill.asset)] += fill.units
        self.cash -= fill.units * fill.price + fill.cost
