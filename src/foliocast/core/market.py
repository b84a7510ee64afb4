"""What is traded: instruments and the universe they form at a date."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from foliocast.core.errors import DataError


class AssetClass(StrEnum):
    """Kinds of asset the product knows how to value and trade."""

    EQUITY = "equity"
    ETF = "etf"
    INDEX = "index"
    BOND = "bond"
    COMMODITY = "commodity"
    CRYPTO = "crypto"
    FX = "fx"
    OPTION = "option"
    FUTURE = "future"


@dataclass(frozen=True)
class Instrument:
    """One tradable thing.

    Parameters
    ----------
    symbol : str
        The name used as a column everywhere.
    asset_class : AssetClass
    currency : str
        ISO code of the quotes.
    calendar : str
        Exchange calendar code of ``exchange_calendars`` ("XNYS", "24/7", ...).
    """

    symbol: str
    asset_class: AssetClass = AssetClass.EQUITY
    currency: str = "USD"
    calendar: str = "XNYS"


@dataclass(frozen=True)
class Universe:
    """Who is a member when.

    Parameters
    ----------
    mask : ndarray of bool, shape (time, asset)
        True where the asset belongs to the investable universe at the bar. A strategy may hold only members;
        holdings in an asset that leaves are sold at its last known price.
    """

    mask: np.ndarray

    def __post_init__(self) -> None:
        if self.mask.dtype != bool or self.mask.ndim != 2:
            raise DataError(
                f"universe mask is {self.mask.dtype} with {self.mask.ndim} axes, expected bool (time, asset)"
            )
        self.mask.setflags(write=False)

    @classmethod
    def from_prices(cls, prices: np.ndarray) -> Universe:
        """Membership from the first to the last quote of each asset.

        Notes
        -----
        Whether an asset still trades at *t* must not depend on rows after *t*: a missing quote *today* means
        "not tradable today", and an asset is taken to have left once it has been silent for more than 5 bars.
        The rule is causal, so a delisting becomes known only as it happens.
        """
        quoted = np.isfinite(prices)
        bars = np.arange(len(prices))[:, None]
        last_quote = np.maximum.accumulate(np.where(quoted, bars, -(10**9)), axis=0)
        return cls((bars - last_quote) <= 5)
