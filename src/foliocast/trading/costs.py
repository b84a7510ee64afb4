"""What a trade and a holding cost: one object, read by the broker, the optimiser and the report alike."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from foliocast.core.errors import ConfigError
from foliocast.core.protocols import Charge

Impact = Literal["none", "sqrt", "linear"]


@dataclass(frozen=True)
class Costs:
    """Costs of trading, charged on the size of the trade, and rates on what is held or owed.

    Parameters
    ----------
    commission_bps, half_spread_bps : float
        Basis points of the value traded.
    impact : {"none", "sqrt", "linear"}
        Market impact in money: ``c * sigma * |q| * (|q| / ADV) ** p`` with q the value traded, sigma the daily
        volatility, ADV the average daily value traded; p = 1/2 (the square-root law, Almgren et al. 2005) or 1.
    impact_coefficient : float
        c; about 1 for equities.
    participation : float or None
        Largest share of a bar's volume that one order may take. The rest is carried to the next bars until it is
        done or a new decision replaces it.
    borrow_rate : float
        Annual rate paid on the value of short positions.
    funding_rate : float
        Annual rate paid on borrowed cash (leverage).
    cash_rate : float
        Annual rate earned on positive cash.
    capital : float
        Money that equity 1.0 stands for; matters to impact and participation only.
    lookback : int
        Bars of the trailing volatility and ADV; both end one bar before the fill.

    Raises
    ------
    ConfigError
        On a negative cost, an unknown impact law or a participation outside (0, 1].
    """

    commission_bps: float = 5.0
    half_spread_bps: float = 0.0
    impact: Impact = "none"
    impact_coefficient: float = 1.0
    participation: float | None = None
    borrow_rate: float = 0.0
    funding_rate: float = 0.0
    cash_rate: float = 0.0
    capital: float = 1_000_000.0
    lookback: int = 21

    def __post_init__(self) -> None:
        if self.impact not in ("none", "sqrt", "linear"):
            raise ConfigError(f"costs: impact = '{self.impact}', expected 'none', 'sqrt' or 'linear'")
        for key in ("commission_bps", "half_spread_bps", "impact_coefficient", "borrow_rate", "funding_rate"):
            if not (np.isfinite(getattr(self, key)) and getattr(self, key) >= 0):
                raise ConfigError(f"costs: {key} = {getattr(self, key)}, expected a number of 0 or more")
        if self.rate >= 0.5:
            raise ConfigError(
                f"costs: commission and half spread add up to {1e4 * self.rate:g} bps of each trade; are they given "
                "in basis points (5 means 0.05 %)?"
            )
        if self.participation is not None and not 0 < self.participation <= 1:
            raise ConfigError(f"costs: participation = {self.participation}, expected a share of volume in (0, 1]")
        if self.capital <= 0 or self.lookback < 2:
            raise ConfigError(f"costs: capital = {self.capital} and lookback = {self.lookback} must be > 0 and >= 2")

    @classmethod
    def free(cls) -> Costs:
        """No costs at all."""
        return cls(commission_bps=0.0)

    @property
    def commission(self) -> float:
        """Commission as a fraction of the value traded."""
        return self.commission_bps * 1e-4

    @property
    def half_spread(self) -> float:
        """Half spread as a fraction of the value traded."""
        return self.half_spread_bps * 1e-4

    @property
    def rate(self) -> float:
        """Proportional cost, as a fraction of the value traded."""
        return (self.commission_bps + self.half_spread_bps) * 1e-4

    @property
    def proportional(self) -> bool:
        """Whether the cost of a trade is a fixed fraction of it and holding is free: the vectorised path applies."""
        finance = self.borrow_rate or self.funding_rate or self.cash_rate
        return self.impact == "none" and self.participation is None and not finance

    @property
    def needs_volume(self) -> bool:
        return self.impact != "none" or self.participation is not None

    def impact_of(self, trade: np.ndarray, volatility: np.ndarray, adv: np.ndarray) -> np.ndarray:
        """Impact of trades as fractions of equity 1.0, elementwise.

        Parameters
        ----------
        trade : ndarray
            Signed value traded, as a fraction of ``capital`` (a change of weight, for an account of that size).
        volatility : ndarray
            Daily volatility of the asset's return.
        adv : ndarray
            Average daily value traded, in money.
        """
        size = np.abs(trade)
        if self.impact == "none":
            return np.zeros_like(size)
        share = size * self.capital / adv
        power = np.sqrt(share) if self.impact == "sqrt" else share
        return self.impact_coefficient * volatility * size * power

    def of(self, trade: np.ndarray, volatility: np.ndarray | None = None, adv: np.ndarray | None = None) -> np.ndarray:
        """Total cost of trades (commission, half spread, impact), elementwise; units as in `impact_of`."""
        total = self.rate * np.abs(trade)
        if self.impact != "none":
            if volatility is None or adv is None:
                raise ConfigError(f"costs: impact = '{self.impact}' needs the volatility and ADV of each asset")
            total = total + self.impact_of(trade, volatility, adv)
        return total

    def __str__(self) -> str:
        parts = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) != f.default]
        return (
            f"Costs(commission_bps={self.commission_bps:g}"
            + "".join(f", {p}" for p in parts if not p.startswith("commission"))
            + ")"
        )


def as_costs(given: Costs | Charge | None) -> Costs:
    """Costs as they are, or those that a cost term of the optimiser stands for; the default for None.

    ``as_costs(TransactionCost(bps=5) + MarketImpact("sqrt", capital=1e6))`` charges what was optimised.

    Raises
    ------
    ConfigError
        Neither costs nor cost terms.
    """
    if given is None:
        return Costs()
    if isinstance(given, Costs):
        return given
    if isinstance(given, Charge):
        return Costs(**given.charges())
    raise ConfigError(f"costs = {given!r}, expected Costs(...) or a sum of TransactionCost and MarketImpact")
