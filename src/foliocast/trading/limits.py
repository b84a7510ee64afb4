"""Limits: what an account may not do. They cut wishes before they become orders, and what is held when it breaches.

One breach, one action: a limit that has acted waits until its order is filled before it measures again. Limits measure
risk with their own model (past joint returns), never with the strategy's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from foliocast.core.errors import ConfigError
from foliocast.trading.ledger import Action


@dataclass(frozen=True)
class Situation:
    """What a limit is shown at a bar's close.

    Attributes
    ----------
    bar : int
        Bars since the account was opened.
    equity : float
    weights : ndarray, shape (asset,)
        Fractions of equity held.
    past_returns : ndarray or None, shape (time, asset)
        Returns of all bars up to now, zeros where there is no quote; the limit takes the tail it needs.
    cut_in_flight : bool
        The order of an earlier breach is not filled yet.
    """

    bar: int
    equity: float
    weights: np.ndarray
    past_returns: np.ndarray | None
    cut_in_flight: bool = False


class Guard(Protocol):
    """A limit at work in one account; it may remember."""

    def before_trade(self, targets: np.ndarray, now: Situation) -> tuple[np.ndarray, Action | None]:
        """Targets that respect the limit, and what was done to them."""
        ...

    def after_close(self, now: Situation) -> tuple[np.ndarray | None, Action | None]:
        """New targets for what is held if it breaches (else None), and what was done."""
        ...


class Limit(Protocol):
    """A setting; ``guard`` starts it in an account."""

    def guard(self) -> Guard: ...


def _check(name: str, value: float, low: float = 0.0, high: float = np.inf) -> None:
    if not (np.isfinite(value) and low < value <= high):
        bound = f"above {low:g}" + ("" if np.isinf(high) else f" and at most {high:g}")
        raise ConfigError(f"{name} = {value}, expected a number {bound}")


# ---- caps on a measure of the weights -------------------------------------------------------------------------------


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

    def __post_init__(self) -> None:
        _check("PositionLimit.limit", self.limit)

    def guard(self) -> Guard:
        return _Cap("position", self.limit, self.tolerance, self._measure, self._cut)

    def _measure(self, weights: np.ndarray) -> float:
        return float(np.abs(weights).max(initial=0.0))

    def _cut(self, weights: np.ndarray) -> np.ndarray:
        return np.clip(weights, -self.limit, self.limit)


@dataclass(frozen=True)
class GrossLimit:
    """Sum of absolute weights at most ``limit``; above it every position shrinks alike."""

    limit: float = 1.0
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        _check("GrossLimit.limit", self.limit)

    def guard(self) -> Guard:
        return _Cap("gross leverage", self.limit, self.tolerance, self._measure, self._cut)

    def _measure(self, weights: np.ndarray) -> float:
        return float(np.abs(weights).sum())

    def _cut(self, weights: np.ndarray) -> np.ndarray:
        return weights * min(1.0, self.limit / max(self._measure(weights), 1e-300))


@dataclass(frozen=True)
class NetLimit:
    """Absolute sum of weights at most ``limit``; the side in excess shrinks."""

    limit: float = 1.0
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        _check("NetLimit.limit", self.limit)

    def guard(self) -> Guard:
        return _Cap("net exposure", self.limit, self.tolerance, self._measure, self._cut)

    def _measure(self, weights: np.ndarray) -> float:
        return float(abs(weights.sum()))

    def _cut(self, weights: np.ndarray) -> np.ndarray:
        net = weights.sum()
        excess = (weights > 0) == (net > 0)
        side = abs(weights[excess].sum())
        if abs(net) <= self.limit or side == 0:
            return weights
        return np.where(excess, weights * (1.0 - (abs(net) - self.limit) / side), weights)


@dataclass(frozen=True)
class _Cap:
    """A measure of the weights that must not pass a limit."""

    name: str
    limit: float
    tolerance: float
    measure: Callable[[np.ndarray], float]
    cut: Callable[[np.ndarray], np.ndarray]

    def before_trade(self, targets: np.ndarray, now: Situation) -> tuple[np.ndarray, Action | None]:
        measured = self.measure(targets)
        if measured <= self.limit * (1 + 1e-12):
            return targets, None
        return self.cut(targets), self._action("pre-trade", measured)

    def after_close(self, now: Situation) -> tuple[np.ndarray | None, Action | None]:
        measured = self.measure(now.weights)
        if now.cut_in_flight or measured <= self.limit * (1 + self.tolerance):
            return None, None
        return self.cut(now.weights), self._action("breach", measured)

    def _action(self, kind: str, measured: float) -> Action:
        reason = f"{self.name} {measured:.4g} above {self.limit:.4g}"
        return Action(self.name, kind, measured, self.limit, self.limit / measured, reason)


# ---- turnover -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TurnoverLimit:
    """Trade at most this much of equity in one rebalance (bought plus sold); the way to the targets is shortened.

    Cuts demanded by other limits are not slowed down.
    """

    limit: float = 0.5

    def __post_init__(self) -> None:
        _check("TurnoverLimit.limit", self.limit)

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


# ---- drawdown -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DrawdownLimit:
    """Cut exposure once when equity has fallen too far below its peak.

    Parameters
    ----------
    limit : float
        Drawdown from the peak, a fraction.
    keep : float
        Share of the exposure that is kept after a breach (0 = cash). Until re-entry wishes are scaled by it, too.
    cooldown : int
        Bars until re-entry; the strategy's wishes are then followed in full again, and the peak starts anew from the
        equity of that bar, so that an old loss cannot trigger a second action.
    """

    limit: float = 0.2
    keep: float = 0.0
    cooldown: int = 21

    def __post_init__(self) -> None:
        _check("DrawdownLimit.limit", self.limit, high=1.0)
        if not 0 <= self.keep < 1 or self.cooldown < 1:
            raise ConfigError(f"DrawdownLimit: keep = {self.keep} must lie in [0, 1), cooldown = {self.cooldown} >= 1")

    def guard(self) -> Guard:
        return _Drawdown(self)


@dataclass
class _Drawdown:
    setting: DrawdownLimit
    peak: float = 0.0
    until: int | None = None

    def before_trade(self, targets: np.ndarray, now: Situation) -> tuple[np.ndarray, Action | None]:
        return (targets, None) if self.until is None else (targets * self.setting.keep, None)

    def after_close(self, now: Situation) -> tuple[np.ndarray | None, Action | None]:
        if self.until is not None:
            return None, self._reenter(now)
        self.peak = max(self.peak, now.equity)
        fallen = 1.0 - now.equity / self.peak
        if fallen < self.setting.limit:
            return None, None
        self.until = now.bar + self.setting.cooldown
        reason = f"drawdown {fallen:.2%} reached the limit of {self.setting.limit:.2%}"
        action = Action("drawdown", "breach", fallen, self.setting.limit, self.setting.keep, reason)
        return now.weights * self.setting.keep, action

    def _reenter(self, now: Situation) -> Action | None:
        if self.until is None or now.bar < self.until:
            return None
        self.until, self.peak = None, now.equity
        reason = f"{self.setting.cooldown} bars after the cut"
        return Action("drawdown", "re-entry", 0.0, self.setting.limit, 1.0, reason)


# ---- value at risk --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValueAtRiskLimit:
    """One-bar value at risk of the portfolio under past joint returns stays below a limit.

    Parameters
    ----------
    limit : float
        Largest loss, as a fraction of equity, that may be exceeded with probability ``1 - level``.
    level : float
        Confidence.
    window : int
        Past bars taken as scenarios, jointly for all assets; at least ``min_bars`` must be there.
    buffer : float
        A breach is cut to ``buffer * limit``, so that it is not at the edge again the next day.
    """

    limit: float = 0.03
    level: float = 0.95
    window: int = 252
    buffer: float = 0.9
    min_bars: int = 60

    def __post_init__(self) -> None:
        _check("ValueAtRiskLimit.limit", self.limit, high=1.0)
        if not (0.5 < self.level < 1 and 0 < self.buffer <= 1 and self.window >= self.min_bars > 1):
            raise ConfigError(f"{self}: expected 0.5 < level < 1, 0 < buffer <= 1 and window >= min_bars > 1")

    def guard(self) -> Guard:
        return _ValueAtRisk(self)

    def measure(self, weights: np.ndarray, past_returns: np.ndarray | None) -> float:
        """Value at risk of weights, a positive fraction; zero with fewer than ``min_bars`` bars."""
        held = weights != 0
        if past_returns is None or len(past_returns) < self.min_bars or not held.any():
            return 0.0
        past = past_returns[-self.window :]
        outcome = past[:, held] @ weights[held]
        worst = int(np.floor((1.0 - self.level) * len(outcome)))
        return max(0.0, -float(np.partition(outcome, worst)[worst]))


@dataclass(frozen=True)
class _ValueAtRisk:
    setting: ValueAtRiskLimit

    def before_trade(self, targets: np.ndarray, now: Situation) -> tuple[np.ndarray, Action | None]:
        risk = self.setting.measure(targets, now.past_returns)
        if risk <= self.setting.limit * (1 + 1e-12):
            return targets, None
        scale = self.setting.limit / risk
        return targets * scale, self._action("pre-trade", risk, scale)

    def after_close(self, now: Situation) -> tuple[np.ndarray | None, Action | None]:
        risk = self.setting.measure(now.weights, now.past_returns)
        if now.cut_in_flight or risk <= self.setting.limit:
            return None, None
        scale = self.setting.buffer * self.setting.limit / risk
        return now.weights * scale, self._action("breach", risk, scale)

    def _action(self, kind: str, risk: float, scale: float) -> Action:
        reason = f"value at risk {risk:.3%} above {self.setting.limit:.3%}"
        return Action("value at risk", kind, risk, self.setting.limit, scale, reason)


@dataclass(frozen=True)
class Guards:
    """All limits of an account, in the order in which they act."""

    guards: list[Guard] = field(default_factory=list)

    @classmethod
    def of(cls, limits: Sequence[Limit]) -> Guards:
        """Turnover first: what other limits demand is not slowed down."""
        ordered = sorted(limits, key=lambda limit: not isinstance(limit, TurnoverLimit))
        return cls([limit.guard() for limit in ordered])

    def before_trade(self, targets: np.ndarray, now: Situation) -> tuple[np.ndarray, list[Action]]:
        actions = []
        for guard in self.guards:
            targets, action = guard.before_trade(targets, now)
            if action is not None:
                actions.append(action)
        return targets, actions

    def after_close(self, now: Situation) -> tuple[np.ndarray | None, list[Action]]:
        """The tightest of what is demanded, asset by asset; and every action."""
        cut, actions = None, []
        for guard in self.guards:
            demanded, action = guard.after_close(now)
            if demanded is not None:
                smaller = demanded if cut is None else np.where(np.abs(demanded) < np.abs(cut), demanded, cut)
                cut = smaller
            if action is not None:
                actions.append(action)
        return cut, actions
