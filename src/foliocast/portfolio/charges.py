"""What trading costs and how much is traded: terms in the distance from what is held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from foliocast.core.errors import ConfigError
from foliocast.portfolio.algebra import PerAsset, Term, spread
from foliocast.portfolio.market import Market
from foliocast.portfolio.pieces import Block, Trade


class Traded(Term):
    """Base of the terms in ``|w - reference|``: ``sum k |d| + c |d|^1.5``."""

    reads_holdings = True

    def rates(self, market: Market) -> tuple[np.ndarray, np.ndarray]:
        """Linear and 3/2-power rates, (asset,) each."""
        raise NotImplementedError

    def reference(self, market: Market) -> np.ndarray | None:
        return market.previous

    def measure(self, market: Market, w: np.ndarray) -> float:
        ref = self.reference(market)
        if ref is None:
            return 0.0
        k, c = self.rates(market)
        d = np.abs(w - ref)
        return float(k @ d + c @ d**1.5)

    def unit(self, market: Market) -> float:
        k, c = self.rates(market)
        return float(max(k.max(initial=0.0), c.max(initial=0.0))) or 1.0

    def block(self, market: Market, coef: np.ndarray) -> Block:
        ref = self.reference(market)
        assert ref is not None  # the compiler leaves the term out otherwise
        k, c = self.rates(market)
        size, free = self.unit(market), slice(None) if market.free is None else market.free
        return Trade(coef, ref[free], k[free] / size, c[free] / size)


@dataclass(frozen=True)
class Turnover(Traded):
    """``sum |w - previous|``: everything bought plus everything sold, as a fraction of equity."""

    def rates(self, market: Market) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(len(market.assets)), np.zeros(len(market.assets))


@dataclass(frozen=True)
class GrossExposure(Traded):
    """``sum |w|``."""

    reads_holdings = False

    def rates(self, market: Market) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(len(market.assets)), np.zeros(len(market.assets))

    def reference(self, market: Market) -> np.ndarray | None:
        return np.zeros(len(market.assets))


@dataclass(frozen=True)
class TransactionCost(Traded):
    """Proportional cost of getting from ``previous`` to the weights, in fractions of equity.

    Parameters
    ----------
    bps : float or mapping
        Basis points of the traded value, for all assets or an asset.
    costs : object, optional
        Anything with ``commission_bps`` and ``half_spread_bps``, such as the cost model that a backtest is charged by;
        takes the place of ``bps``.
    """

    bps: PerAsset = 5.0
    costs: Any = None

    def rates(self, market: Market) -> tuple[np.ndarray, np.ndarray]:
        if self.costs is None:
            bps = spread(self.bps, market.assets, 0.0)
        else:
            both = (getattr(self.costs, name, 0.0) for name in ("commission_bps", "half_spread_bps"))
            bps = sum((spread(part, market.assets, 0.0) for part in both), np.zeros(len(market.assets)))
        return bps * 1e-4, np.zeros(len(market.assets))

    def charged(self) -> dict[str, Any]:
        if self.costs is not None:
            names = ("commission_bps", "half_spread_bps")
            return {name: getattr(self.costs, name) for name in names if hasattr(self.costs, name)}
        if not np.isscalar(self.bps):
            raise ConfigError("TransactionCost has a rate an asset; a broker charges one rate, give bps as a number")
        return {"commission_bps": self.bps}


@dataclass(frozen=True)
class MarketImpact(Traded):
    """Cost of moving the price: ``coefficient * sigma * |d| * sqrt(|d| * capital / adv)``, or linear in ``|d|``.

    Parameters
    ----------
    kind : {"sqrt", "linear"}
        The square-root law (Almgren et al., 2005) or a constant fraction of one bar's volatility.
    coefficient : float
    capital : float
        Equity, in the currency of ``adv``.
    adv : float or mapping, optional
        Money traded a bar, by asset; None takes it equal to ``capital``.
    sigma : float or mapping, optional
        Volatility a bar; None takes it from the scenarios.
    """

    kind: str = "sqrt"
    coefficient: float = 1.0
    capital: float = 1.0
    adv: PerAsset | None = None
    sigma: PerAsset | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("sqrt", "linear"):
            raise ConfigError(f"MarketImpact kind is '{self.kind}', expected 'sqrt' or 'linear'")

    def charged(self) -> dict[str, Any]:
        """Volatility and volumes are the broker's own, from the bars before the fill."""
        return {"impact": self.kind, "impact_coefficient": self.coefficient, "capital": self.capital}

    def rates(self, market: Market) -> tuple[np.ndarray, np.ndarray]:
        sigma = market.bar_volatility if self.sigma is None else spread(self.sigma, market.assets, 0.0)
        rate, none = self.coefficient * sigma, np.zeros(len(market.assets))
        if self.kind == "linear":
            return rate, none
        adv = spread(self.adv, market.assets, self.capital)
        return none, rate * np.sqrt(self.capital / adv)
