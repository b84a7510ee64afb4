"""Limits that are read off the weights: position, sector, gross, net, liquidity, turnover."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from foliocast.core.errors import ConfigError
from foliocast.trading.ledger import Action
from foliocast.trading.limits import Guard, Situation, check


class Reading(NamedTuple):
    """A measure of the weights, what it may be, and what it is of (empty for the whole portfolio)."""

    measured: float
    allowed: float
    of: str = ""


class _Setting(Protocol):
    """What the guard of a cap asks of its setting."""

    @property
    def name(self) -> str: ...

    @property
    def tolerance(self) -> float: ...

    def read(self, weights: np.ndarray, now: Situation) -> Reading: ...

    def cut(self, weights: np.ndarray, now: Situation) -> np.ndarray: ...


@dataclass(frozen=True)
class _Cap:
    """A measure of the weights that must not pass a limit."""

    setting: _Setting

    def before_trade(self, targets: np.ndarray, now: Situation) -> tuple[np.ndarray, Action | None]:
        found = self.setting.read(targets, now)
        if found.measured <= found.allowed * (1 + 1e-12):
            return targets, None
        return self.setting.cut(targets, now), self._action("pre-trade", found)

    def after_close(self, now: Situation) -> tuple[np.ndarray | None, Action | None]:
        if now.cut_in_flight:
            return None, None
        found = self.setting.read(now.weights, now)
        if found.measured <= found.allowed * (1 + self.setting.tolerance):
            return None, None
        return self.setting.cut(now.weights, now), self._action("breach", found)

    def _action(self, kind: str, found: Reading) -> Action:
        name = self.setting.name
        whose = f" of {found.of}" if found.of else ""
        reason = f"{name}{whose} {found.measured:.4g} above {found.allowed:.4g}"
        return Action(name, kind, found.measured, found.allowed, found.allowed / found.measured, reason)


@dataclass(frozen=True)
class PositionLimit:
    """No position above a share of equity.

    Parameters
    ----------
    limit : float
        Largest absolute weight.
    tolerance : float
        Holdings may drift above the limit by this share of it before they are cut back.
    """

    limit: float = 0.25
    tolerance: float = 0.1
    name = "position"

    def __post_init__(self) -> None:
        check("PositionLimit.limit", self.limit)

    def guard(self) -> Guard:
        return _Cap(self)

    def read(self, weights: np.ndarray, now: Situation) -> Reading:
        size = np.abs(weights)
        at = int(size.argmax())
        return Reading(float(size[at]), self.limit, now.assets[at] if now.assets else "")

    def cut(self, weights: np.ndarray, now: Situation) -> np.ndarray:
        return np.clip(weights, -self.limit, self.limit)


@dataclass(frozen=True)
class SectorLimit:
    """Sum of absolute weights of a sector at most a share of equity; above it the sector's positions shrink alike.

    Parameters
    ----------
    members : mapping of asset to sector
        Assets that are not named belong to none.
    limit : float or mapping of sector to float
        For all sectors, or by sector (those that are not named are free).
    tolerance : float
        Holdings may drift above the limit by this share of it before they are cut back.
    """

    members: Mapping[str, str]
    limit: float | Mapping[str, float] = 0.4
    tolerance: float = 0.1
    name = "sector"

    def __post_init__(self) -> None:
        for value in self.limit.values() if isinstance(self.limit, Mapping) else [self.limit]:
            check("SectorLimit.limit", value)
        if isinstance(self.limit, Mapping):
            unknown = sorted(set(self.limit) - set(self.members.values()))
            if unknown:
                raise ConfigError(f"SectorLimit: no asset is a member of '{unknown[0]}', which has a limit")

    def guard(self) -> Guard:
        return _Cap(self)

    def _sectors(self, now: Situation) -> dict[str, tuple[np.ndarray, float]]:
        """Who belongs to each limited sector, bool (asset,), and its limit."""
        of = [self.members.get(asset) for asset in now.assets]
        limits = self.limit if isinstance(self.limit, Mapping) else dict.fromkeys(self.members.values(), self.limit)
        return {sector: (np.array([s == sector for s in of]), limit) for sector, limit in limits.items()}

    def read(self, weights: np.ndarray, now: Situation) -> Reading:
        readings = [
            Reading(float(np.abs(weights[inside]).sum()), limit, sector)
            for sector, (inside, limit) in self._sectors(now).items()
        ]
        return max(readings, key=lambda r: r.measured / r.allowed, default=Reading(0.0, np.inf))

    def cut(self, weights: np.ndarray, now: Situation) -> np.ndarray:
        out = weights.copy()
        for inside, limit in self._sectors(now).values():
            out[inside] *= min(1.0, limit / max(float(np.abs(weights[inside]).sum()), 1e-300))
        return out


@dataclass(frozen=True)
class GrossLimit:
    """Leverage: sum of absolute weights at most ``limit``; above it every position shrinks alike."""

    limit: float = 1.0
    tolerance: float = 0.1
    name = "gross leverage"

    def __post_init__(self) -> None:
        check("GrossLimit.limit", self.limit)

    def guard(self) -> Guard:
        return _Cap(self)

    def read(self, weights: np.ndarray, now: Situation) -> Reading:
        return Reading(float(np.abs(weights).sum()), self.limit)

    def cut(self, weights: np.ndarray, now: Situation) -> np.ndarray:
        return weights * min(1.0, self.limit / max(float(np.abs(weights).sum()), 1e-300))


@dataclass(frozen=True)
class NetLimit:
    """Absolute sum of weights at most ``limit``; the side in excess shrinks."""

    limit: float = 1.0
    tolerance: float = 0.1
    name = "net exposure"

    def __post_init__(self) -> None:
        check("NetLimit.limit", self.limit)

    def guard(self) -> Guard:
        return _Cap(self)

    def read(self, weights: np.ndarray, now: Situation) -> Reading:
        return Reading(float(abs(weights.sum())), self.limit)

    def cut(self, weights: np.ndarray, now: Situation) -> np.ndarray:
        net = weights.sum()
        excess = (weights > 0) == (net > 0)
        side = abs(weights[excess].sum())
        if abs(net) <= self.limit or side == 0:
            return weights
        return np.where(excess, weights * (1.0 - (abs(net) - self.limit) / side), weights)


@dataclass(frozen=True)
class LiquidityLimit:
    """Every position can be sold within some days without being more than a share of the market's volume.

    Days to sell are ``abs(w) * equity * capital / (participation * ADV)``.

    Parameters
    ----------
    days : float
    participation : float
        Share of the average value traded a day (ADV) that a sale may be.
    capital : float
        Money that equity 1.0 stands for; the same as in `Costs`.
    tolerance : float
        Holdings may need longer by this share before they are cut back.
    """

    days: float = 1.0
    participation: float = 0.1
    capital: float = 1_000_000.0
    tolerance: float = 0.1
    name = "liquidity"
    needs_volume = True

    def __post_init__(self) -> None:
        check("LiquidityLimit.days", self.days)
        check("LiquidityLimit.participation", self.participation, high=1.0)
        check("LiquidityLimit.capital", self.capital)

    def guard(self) -> Guard:
        return _Cap(self)

    def _a_day(self, now: Situation) -> np.ndarray:
        """Weights that can be sold in a day, (asset,)."""
        if now.adv is None:
            raise ConfigError("LiquidityLimit needs volumes; the feed has none, drop it or load data with volumes")
        return self.participation * now.adv / (max(now.equity, 1e-300) * self.capital)

    def read(self, weights: np.ndarray, now: Situation) -> Reading:
        days = np.abs(weights) / self._a_day(now)
        at = int(days.argmax())
        return Reading(float(days[at]), self.days, now.assets[at] if now.assets else "")

    def cut(self, weights: np.ndarray, now: Situation) -> np.ndarray:
        most = self.days * self._a_day(now)
        return np.clip(weights, -most, most)


@dataclass(frozen=True)
class TurnoverLimit:
    """Trade at most this much of equity in one rebalance (bought plus sold); the way to the targets is shortened.

    Cuts demanded by other limits are not slowed down.
    """

    limit: float = 0.5
    slows_trading = True

    def __post_init__(self) -> None:
        check("TurnoverLimit.limit", self.limit)

    def guard(self) -> Guard:
        return _Turnover(self.limit)


@dataclass(frozen=True)
class _Turnover:
    limit: float

    def before_trade(self, targets: np.ndarray, now: Situation) -> tuple[np.ndarray, Action | None]:
        trade = targets - now.weights
        size = float(np.abs(trade).sum())
        if size <= self.limit * (1 + 1e-12):
            return targets, None
        scale = self.limit / size
        reason = f"turnover {size:.4g} above {self.limit:.4g}"
        return now.weights + scale * trade, Action("turnover", "pre-trade", size, self.limit, scale, reason)

    def after_close(self, now: Situation) -> tuple[np.ndarray | None, Action | None]:
        return None, None
