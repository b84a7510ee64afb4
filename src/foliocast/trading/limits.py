"""Limits: what an account may not do. They cut wishes before they become orders, and what is held when it breaches.

One breach, one action: a limit that has acted waits until its order is filled before it measures again, and a wish that
is cut at the very bar of a breach is not a second action. The limits themselves are in `caps` (what can be read off the
weights) and `risk` (what a scenario model has to measure).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from foliocast.core.errors import ConfigError
from foliocast.core.protocols import Rule
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
    assets : tuple of str
    adv : ndarray or None, shape (asset,)
        Average value traded a day, in money, known one bar before.
    """

    bar: int
    equity: float
    weights: np.ndarray
    past_returns: np.ndarray | None
    cut_in_flight: bool = False
    assets: tuple[str, ...] = ()
    adv: np.ndarray | None = None


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


def check(name: str, value: float, low: float = 0.0, high: float = np.inf) -> None:
    """Refuse a number outside (low, high]."""
    if not (np.isfinite(value) and low < value <= high):
        bound = f"above {low:g}" + ("" if np.isinf(high) else f" and at most {high:g}")
        raise ConfigError(f"{name} = {value}, expected a number {bound}")


def as_limit(given: Any) -> Limit:
    """A limit, or a constraint of the optimiser read as one: ``CVaR(0.95) <= 0.02``, ``Turnover() <= 0.25``.

    Raises
    ------
    ConfigError
        Neither.
    """
    if hasattr(given, "guard"):
        return given
    if isinstance(given, Rule):
        from foliocast.trading.risk import RuleLimit

        return RuleLimit(given)
    raise ConfigError(
        f"{given} cannot guard an account; expected a limit such as DrawdownLimit(0.2), or a constraint with a measure "
        "such as CVaR(0.95) <= 0.02, Turnover() <= 0.25, Leverage(1)"
    )


def needs_volume(limits: Sequence[Limit | Rule]) -> bool:
    """Whether any of these limits reads traded volumes."""
    return any(getattr(limit, "needs_volume", False) for limit in limits)


@dataclass(frozen=True)
class Guards:
    """All limits of an account, in the order in which they act."""

    guards: list[Guard] = field(default_factory=list)

    @classmethod
    def of(cls, limits: Sequence[Limit | Rule]) -> Guards:
        """Limits on the way (turnover) first: what other limits demand is not slowed down."""
        made = [as_limit(limit) for limit in limits]
        ordered = sorted(made, key=lambda limit: not getattr(limit, "slows_trading", False))
        return cls([limit.guard() for limit in ordered])

    def before_trade(
        self, targets: np.ndarray, now: Situation, acted: Sequence[Action] = ()
    ) -> tuple[np.ndarray, list[Action]]:
        """Targets within all limits; limits among ``acted`` have recorded their breach of this bar already."""
        spoken = {action.limit for action in acted if action.kind == "breach"}
        actions = []
        for guard in self.guards:
            targets, action = guard.before_trade(targets, now)
            if action is not None and action.limit not in spoken:
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
