"""What a sequence of portfolios earned, net, inside the graph: drift between trades, costs of trades, losses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foliocast.core.errors import ConfigError
from foliocast.core.panel import Panel
from foliocast.core.time import TRADING_DAYS

OBJECTIVES = ("return", "sharpe", "log", "utility", "mean_variance", "cvar", "drawdown")
EXECUTIONS = ("next_open", "next_close", "same_close")


@dataclass(frozen=True)
class Frictions:
    """What a trade costs, on |change of weight|.

    Parameters
    ----------
    proportional : float
        Fraction of the value traded (5 bps = 0.0005).
    quadratic : float
        Cost of a trade is ``quadratic / 2 * sum of squared changes of weight``: linear impact.
    """

    proportional: float = 0.0005
    quadratic: float = 0.0

    def of(self, trade: Tensor) -> Tensor:
        """(batch, asset) -> (batch,), fraction of equity."""
        cost = self.proportional * trade.abs().sum(dim=1)
        return cost if self.quadratic == 0 else cost + 0.5 * self.quadratic * (trade**2).sum(dim=1)


def legs(panel: Panel, execution: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns from a decision to its fill and from its fill to the next decision, two (time, asset) arrays.

    Row t belongs to the decision at the close of bar t and reaches to the close of t + 1, no further: the last row is
    NaN. A missing quote moves nothing; without an open the fill is taken to be at the close.

    Raises
    ------
    ConfigError
        Fills at the open of a panel without opens.
    """
    close = panel.array("close")
    step = np.full_like(close, np.nan)
    step[:-1] = np.nan_to_num(close[1:] / close[:-1] - 1.0)
    still = np.where(np.isnan(step), np.nan, 0.0)
    if execution == "same_close":
        return still, step
    if execution == "next_close":
        return step, still
    if "open" not in panel.fields:
        raise ConfigError(f"execution = 'next_open' needs opens, '{panel.name}' has {', '.join(panel.fields)}")
    before = np.full_like(close, np.nan)
    before[:-1] = panel.array("open")[1:] / close[:-1] - 1.0
    before = np.where(np.isfinite(before), before, step)
    return before, (1.0 + step) / (1.0 + before) - 1.0


def period(
    held: Tensor, wanted: Tensor, before: Tensor, after: Tensor, frictions: Frictions, free: bool = False
) -> tuple[Tensor, Tensor]:
    """One bar of an account: hold, trade, hold.

    Returns
    -------
    held : Tensor, shape (batch, asset)
        Weights at the next decision.
    earned : Tensor, shape (batch,)
        Net return from this decision to the next.
    """
    first = (held * before).sum(dim=1)
    waiting = held * (1.0 + before) / _positive(1.0 + first)
    kept = torch.ones_like(first)
    for _ in range(0 if free else 2):  # equity after costs is a fixed point: costs are paid out of what is traded
        kept = 1.0 - frictions.of(wanted * kept[:, None] - waiting)
    second = (wanted * after).sum(dim=1)
    return wanted * (1.0 + after) / _positive(1.0 + second), (1.0 + first) * kept * (1.0 + second) - 1.0


def _positive(growth: Tensor) -> Tensor:
    """An account that is all but lost is not divided by."""
    return growth.clamp(min=0.05)[:, None]


@dataclass(frozen=True)
class Objective:
    """What a portfolio is judged by, as a loss on net returns (segment, time); smaller is better, annual units.

    Parameters
    ----------
    name : one of `OBJECTIVES`
        "return": mean. "sharpe": mean over standard deviation. "log": mean log growth. "utility": power utility of
        one-bar wealth with constant relative risk aversion. "mean_variance": mean less ``risk_aversion`` / 2 times
        the variance. "cvar": mean less ``risk_aversion`` times the CVaR of one bar. "drawdown": log growth of a
        segment less ``risk_aversion`` times its maximum drawdown, per bar.
    risk_aversion : float
    level : float
        Of CVaR.
    """

    name: str = "sharpe"
    risk_aversion: float = 1.0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise ConfigError(f"objective = {self.name!r} does not exist; choose from {', '.join(OBJECTIVES)}")
        if self.risk_aversion < 0 or not 0 < self.level < 1:
            raise ConfigError(f"risk_aversion = {self.risk_aversion} must not be negative, level lie within (0, 1)")

    def __call__(self, returns: Tensor) -> Tensor:
        r = returns.reshape(-1)
        if self.name == "sharpe":
            return -math.sqrt(TRADING_DAYS) * r.mean() / (r.var(unbiased=False) + 1e-12).sqrt()
        return -TRADING_DAYS * self._per_bar(returns, r)

    def _per_bar(self, returns: Tensor, r: Tensor) -> Tensor:
        gamma = self.risk_aversion
        if self.name == "return":
            return r.mean()
        if self.name == "mean_variance":
            return r.mean() - 0.5 * gamma * r.var(unbiased=False)
        if self.name == "cvar":
            return r.mean() - gamma * tail_loss(r, self.level)
        growth = torch.log1p(returns.clamp(min=-0.95))
        if self.name == "drawdown":
            wealth = torch.cumsum(growth, dim=1)
            peak = torch.cummax(wealth, dim=1).values.clamp(min=0.0)
            worst = (1.0 - torch.exp(wealth - peak)).amax(dim=1)
            return (growth.mean(dim=1) - gamma * worst / returns.shape[1]).mean()
        if self.name == "log" or gamma == 1.0:
            return growth.mean()
        return (torch.expm1((1.0 - gamma) * growth) / (1.0 - gamma)).mean()


def tail_loss(returns: Tensor, level: float) -> Tensor:
    """CVaR of equally likely returns (sample,): mean loss of the worst ``1 - level`` of them, the last one in part."""
    size = (1.0 - level) * len(returns)
    whole = int(size + 1e-9)
    worst = torch.topk(returns, min(whole + 1, len(returns)), largest=False).values
    share = torch.ones_like(worst)
    share[whole:] = size - whole
    return -(share * worst).sum() / size
