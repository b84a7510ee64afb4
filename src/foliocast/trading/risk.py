"""Limits that a scenario model has to measure: value at risk, its tail mean, drawdown, and any term of the optimiser.

The model is the limits' own (`ownrisk`), never the strategy's: a strategy that believes in calm cannot talk its limits
out of acting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError
from foliocast.core.protocols import Rule
from foliocast.trading.ledger import Action
from foliocast.trading.limits import Guard, Situation, check
from foliocast.trading.ownrisk import NextBar, OwnModel, loss_mean, loss_quantile

Tail = Callable[[np.ndarray, float], float]


# ---- value at risk and its tail mean --------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValueAtRiskLimit:
    """One-bar value at risk of the portfolio, by the limit's own model, stays below a limit.

    Parameters
    ----------
    limit : float
        Largest loss, as a fraction of equity, that may be exceeded with probability ``1 - level``.
    level : float
        Confidence.
    window, min_bars : int
        Past bars of the model; without ``min_bars`` of them nothing is measured.
    buffer : float
        What exceeds the limit is cut to ``buffer * limit``: an order decided now is filled a bar later, and the measure
        has moved by then. A shock in that bar can still carry the holdings over the limit until the next fill.
    model : {"filtered", "history"} or ScenarioModel
        See `ownrisk.OwnModel`.
    """

    limit: float = 0.03
    level: float = 0.95
    window: int = 252
    buffer: float = 0.9
    min_bars: int = 60
    model: Any = "filtered"
    name = "value at risk"
    tail = staticmethod(loss_quantile)

    def __post_init__(self) -> None:
        check(f"{type(self).__name__}.limit", self.limit, high=1.0)
        if not (0.5 < self.level < 1 and 0 < self.buffer <= 1):
            raise ConfigError(f"{self}: expected 0.5 < level < 1 and 0 < buffer <= 1")
        self._own()

    def guard(self) -> Guard:
        return _TailGuard(self, self._own().start())

    def measure(self, weights: np.ndarray, past_returns: np.ndarray | None) -> float:
        """Risk of weights, a positive fraction; zero with fewer than ``min_bars`` bars."""
        return _tail_of(self._own().start(), weights, past_returns, self.tail, self.level)

    def _own(self) -> OwnModel:
        return OwnModel(self.model, self.window, self.min_bars)


@dataclass(frozen=True)
class CVaRLimit(ValueAtRiskLimit):
    """One-bar conditional value at risk (mean of the worst ``1 - level``) stays below a limit.

    Parameters are those of `ValueAtRiskLimit`; ``limit`` bounds the mean loss of the tail.
    """

    name = "conditional value at risk"
    tail = staticmethod(loss_mean)


def _tail_of(model: NextBar, weights: np.ndarray, past: np.ndarray | None, tail: Tail, level: float) -> float:
    held = weights != 0
    scenarios = model.returns(past, held) if held.any() else None
    return 0.0 if scenarios is None else tail(scenarios @ weights[held], level)


@dataclass(frozen=True)
class _TailGuard:
    setting: ValueAtRiskLimit
    model: NextBar

    def _risk(self, weights: np.ndarray, now: Situation) -> float:
        return _tail_of(self.model, weights, now.past_returns, self.setting.tail, self.setting.level)

    def before_trade(self, targets: np.ndarray, now: Situation) -> tuple[np.ndarray, Action | None]:
        return self._cut("pre-trade", targets, now) or (targets, None)

    def after_close(self, now: Situation) -> tuple[np.ndarray | None, Action | None]:
        if now.cut_in_flight:
            return None, None
        return self._cut("breach", now.weights, now) or (None, None)

    def _cut(self, kind: str, weights: np.ndarray, now: Situation) -> tuple[np.ndarray, Action] | None:
        risk, setting = self._risk(weights, now), self.setting
        if risk <= setting.limit * (1 + 1e-12):
            return None
        scale = setting.buffer * setting.limit / risk
        reason = f"{setting.name} {risk:.3%} above {setting.limit:.3%}"
        return weights * scale, Action(setting.name, kind, risk, setting.limit, scale, reason)


# ---- drawdown -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DrawdownLimit:
    """Cut exposure once when equity has fallen too far below its peak.

    An order decided at a close is filled a bar later, so a cut at the limit itself would be two bad bars late. With
    ``ahead`` the cut comes when one more bad bar would pass the limit: realised drawdown then exceeds it by no more
    than the loss of one bar, unless two bars in a row are worse than the model's tail mean.

    Parameters
    ----------
    limit : float
        Drawdown from the peak, a fraction.
    keep : float
        Share of the exposure that is kept after a breach (0 = cash). Until re-entry wishes are scaled by it, too.
    cooldown : int
        Bars until re-entry; the strategy's wishes are then followed in full again, and the peak starts anew from the
        equity of that bar, so that an old loss cannot trigger a second action. Each re-entry risks the limit anew.
    calm : float or None
        Re-entry also waits until the one-bar CVaR 95 % of what is wished (or was held before the cut), per unit of
        exposure, is at most this multiple of what it was at the peak, so that a crash is not met again halfway. None
        waits for ``cooldown`` only.
    ahead : float or None
        Level of the one-bar CVaR, by the limit's own model, that is added to the drawdown; the cut comes no earlier
        than at half of the limit. None waits until the limit is passed.
    model : {"filtered", "history"} or ScenarioModel
        See `ownrisk.OwnModel`.
    """

    limit: float = 0.2
    keep: float = 0.0
    cooldown: int = 63
    calm: float | None = 1.5
    ahead: float | None = 0.95
    model: Any = "filtered"

    def __post_init__(self) -> None:
        check("DrawdownLimit.limit", self.limit, high=1.0)
        if not 0 <= self.keep < 1 or self.cooldown < 1:
            raise ConfigError(f"DrawdownLimit: keep = {self.keep} must lie in [0, 1), cooldown = {self.cooldown} >= 1")
        if self.calm is not None:
            check("DrawdownLimit.calm", self.calm)
        if self.ahead is not None and not 0.5 < self.ahead < 1:
            raise ConfigError(f"DrawdownLimit: ahead = {self.ahead} must lie in (0.5, 1) or be None")
        OwnModel(self.model)

    def guard(self) -> Guard:
        return _Drawdown(self, OwnModel(self.model).start())


@dataclass
class _Drawdown:
    setting: DrawdownLimit
    model: NextBar
    peak: float = 0.0
    until: int | None = None
    wish: np.ndarray = field(default_factory=lambda: np.zeros(0))
    at_peak: tuple[np.ndarray, np.ndarray | None] | None = None
    usual: float = 0.0

    def before_trade(self, targets: np.ndarray, now: Situation) -> tuple[np.ndarray, Action | None]:
        self.wish = targets
        return (targets, None) if self.until is None else (targets * self.setting.keep, None)

    def after_close(self, now: Situation) -> tuple[np.ndarray | None, Action | None]:
        if self.until is not None:
            return None, self._reenter(now)
        if now.equity >= self.peak:
            self.peak, self.at_peak = now.equity, (now.weights, now.past_returns)
        limit, fallen = self.setting.limit, 1.0 - now.equity / self.peak
        if fallen < 0.5 * limit or (fallen < limit and self.setting.ahead is None):
            return None, None
        tail = (
            0.0
            if fallen >= limit or self.setting.ahead is None
            else self._tail(now.weights, now.past_returns, self.setting.ahead)
        )
        if fallen + tail < limit:
            return None, None
        self.until, self.wish = now.bar + self.setting.cooldown, now.weights.copy()
        self.usual = self._unrest(*(self.at_peak or (now.weights, None)))
        reason = f"drawdown {fallen:.2%}" + (f" and a bad bar's {tail:.2%}" if tail else "")
        reason += f" reach{'' if tail else 'es'} the limit of {limit:.2%}"
        action = Action("drawdown", "breach", fallen + tail, limit, self.setting.keep, reason)
        return now.weights * self.setting.keep, action

    def _tail(self, weights: np.ndarray, past: np.ndarray | None, level: float = 0.95) -> float:
        return _tail_of(self.model, weights, past, loss_mean, level)

    def _unrest(self, weights: np.ndarray, past: np.ndarray | None) -> float:
        """A bad bar per unit of exposure."""
        gross = float(np.abs(weights).sum())
        return self._tail(weights, past) / gross if gross else 0.0

    def _reenter(self, now: Situation) -> Action | None:
        calm = self.setting.calm
        if self.until is None or now.bar < self.until:
            return None
        if calm is not None and self._unrest(self.wish, now.past_returns) > calm * self.usual > 0:
            return None
        waited = now.bar - self.until + self.setting.cooldown
        reason = f"{waited} bars after the cut" + (
            "" if calm is None else f", and a bad bar is at most {calm:g} times what it was at the peak"
        )
        self.until, self.peak = None, now.equity
        return Action("drawdown", "re-entry", 0.0, self.setting.limit, 1.0, reason)


# ---- terms of the optimiser -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RuleLimit:
    """A constraint of the optimiser as a limit: the object that was optimised is the one that is watched.

    Risks and exposures that exceed their bound are scaled towards cash until they meet it; a trade that does (turnover)
    is shortened on its way from what is held. Where nothing is held the rule is met.

    Parameters
    ----------
    rule : Rule
        ``CVaR(0.95) <= 0.02``, ``Volatility() <= 0.01``, ``Turnover() <= 0.25``, ``Leverage(1)``: over one bar.
    window, min_bars : int
    buffer : float
        Risks are cut to this share of their bound.
    model : {"filtered", "history"} or ScenarioModel
        See `ownrisk.OwnModel`.
    """

    rule: Rule
    window: int = 252
    buffer: float = 0.9
    min_bars: int = 60
    model: Any = "filtered"

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Rule):
            raise ConfigError(f"RuleLimit: {self.rule} has no measure; expected e.g. CVaR(0.95) <= 0.02 or Leverage(1)")
        if not 0 < self.buffer <= 1:
            raise ConfigError(f"RuleLimit: buffer = {self.buffer}, expected a share in (0, 1]")
        OwnModel(self.model, self.window, self.min_bars)

    @property
    def slows_trading(self) -> bool:
        return self.rule.path_dependent

    def guard(self) -> Guard:
        return _RuleGuard(self, OwnModel(self.model, self.window, self.min_bars).start())


@dataclass(frozen=True)
class _RuleGuard:
    setting: RuleLimit
    model: NextBar

    def _reader(self, now: Situation) -> Callable[[np.ndarray], tuple[float, float]]:
        rule = self.setting.rule
        everything = np.ones(len(now.weights), dtype=bool)
        drawn = self.model.returns(now.past_returns, everything)
        drawn = np.zeros((1, len(everything))) if drawn is None else drawn
        names = now.assets or tuple(f"A{i}" for i in range(len(everything)))
        scenarios = ScenarioSet(drawn[:, None, :].copy(), names)
        held = pd.Series(now.weights, index=list(names))
        return lambda w: rule.reading(pd.Series(w, index=list(names)), scenarios, held)

    def before_trade(self, targets: np.ndarray, now: Situation) -> tuple[np.ndarray, Action | None]:
        start = now.weights if self.setting.rule.path_dependent else np.zeros(len(targets))
        return self._cut("pre-trade", start, targets, now) or (targets, None)

    def after_close(self, now: Situation) -> tuple[np.ndarray | None, Action | None]:
        if now.cut_in_flight or self.setting.rule.path_dependent:
            return None, None
        return self._cut("breach", np.zeros(len(now.weights)), now.weights, now) or (None, None)

    def _cut(self, kind: str, start: np.ndarray, end: np.ndarray, now: Situation) -> tuple[np.ndarray, Action] | None:
        """The furthest point between start and end that meets the rule, by bisection; None if the end does."""
        read, name = self._reader(now), str(self.setting.rule)
        measured, allowed = read(end)
        slack = 1e-9 * max(abs(allowed), 1e-12)
        if measured <= allowed + slack:
            return None
        if read(start)[0] > allowed + slack:
            raise ConfigError(f"{name} cannot guard an account: it does not hold even when nothing is traded or held")
        exact = self.setting.rule.path_dependent
        goal = allowed if exact or allowed <= 0 else self.setting.buffer * allowed
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = 0.5 * (low + high)
            inside = read(start + middle * (end - start))[0] <= goal
            low, high = (middle, high) if inside else (low, middle)
        reason = f"{name}: {measured:.4g} above {allowed:.4g}"
        return start + low * (end - start), Action(name, kind, measured, allowed, low, reason)
