"""The scenario model of the limits: what an account believes of the next bar, whatever its strategy believes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError
from foliocast.core.protocols import ScenarioModel

DECAY = 0.94  # RiskMetrics' daily decay
MOVES = 0.5  # an asset that moved on fewer bars of the window is too young for a model of its own


@dataclass(frozen=True)
class OwnModel:
    """How a limit draws the next bar.

    Parameters
    ----------
    kind : {"filtered", "history"} or ScenarioModel
        ``history``: past joint returns as they were. ``filtered``: each asset's past returns scaled from the volatility
        of their day to that of today (Hull and White, 1998), so that the measure rises within days of a shock. Or any
        scenario model: a clone of it is fitted on the past and fitted anew every ``refit`` bars.
    window : int
        Past bars used; all, for a scenario model.
    min_bars : int
        With fewer bars there is no measure.
    n_scenarios, refit, seed : int
        For a scenario model.
    """

    kind: str | Any = "filtered"
    window: int = 252
    min_bars: int = 60
    n_scenarios: int = 2000
    refit: int = 63
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.window >= self.min_bars > 1):
            raise ConfigError(f"window = {self.window} and min_bars = {self.min_bars}: expected window >= min_bars > 1")
        if self.kind not in ("filtered", "history") and not isinstance(self.kind, ScenarioModel):
            raise ConfigError(f"model = {self.kind!r}, expected 'filtered', 'history' or a scenario model")

    def start(self) -> NextBar:
        """The model at work in one account."""
        return NextBar(self)


@dataclass
class NextBar:
    """Scenarios of the next bar, from what is known at a close; equally likely."""

    setting: OwnModel
    _fitted: Any = None
    _columns: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    _fitted_at: int = 0
    _drawn: tuple[int, np.ndarray] | None = None

    def returns(self, past: np.ndarray | None, held: np.ndarray) -> np.ndarray | None:
        """Returns (scenario, held asset), or None where there are too few bars.

        Parameters
        ----------
        past : ndarray, shape (time, asset)
            Zeros at gaps.
        held : ndarray of bool, shape (asset,)
        """
        if past is None or len(past) < self.setting.min_bars:
            return None
        if not isinstance(self.setting.kind, str):
            found = self._modelled(past, held)
            if found is not None:
                return found
        recent = past[-self.setting.window :, held]
        return recent if self.setting.kind == "history" else filtered(recent)

    def _modelled(self, past: np.ndarray, held: np.ndarray) -> np.ndarray | None:
        """Draws of the scenario model; None if it cannot know an asset that is held."""
        at = len(past)
        if self._fitted is None or at >= self._fitted_at + self.setting.refit or not self._covers(held):
            self._fit(past, held)
        if not self._covers(held):
            return None
        if self._drawn is None or self._drawn[0] != at:
            frame = pd.DataFrame(past[:, self._columns], columns=self._names())
            rng = np.random.default_rng([self.setting.seed, at])
            drawn = self._fitted.simulate(frame, 1, self.setting.n_scenarios, random_state=rng)
            self._drawn = (at, np.asarray(drawn.returns[:, 0, :], dtype=float))
        where = np.searchsorted(self._columns, np.flatnonzero(held))
        return self._drawn[1][:, where]

    def _fit(self, past: np.ndarray, held: np.ndarray) -> None:
        from sklearn.base import clone

        moved = (past[-self.setting.window :] != 0).mean(axis=0) >= MOVES
        if not moved[held].all():
            return
        self._columns, self._fitted_at, self._drawn = np.flatnonzero(moved), len(past), None
        self._fitted = clone(self.setting.kind).fit(pd.DataFrame(past[:, self._columns], columns=self._names()))

    def _covers(self, held: np.ndarray) -> bool:
        return self._fitted is not None and bool(np.isin(np.flatnonzero(held), self._columns).all())

    def _names(self) -> list[str]:
        return [f"A{column}" for column in self._columns]


@lru_cache(maxsize=4)
def _decays(n: int) -> np.ndarray:
    """Row t: weights of squared returns 0..t-1 in the variance that was expected of t; row n is tomorrow's."""
    age = np.arange(n + 1)[:, None] - 1 - np.arange(n)[None, :]
    weights = np.where(age >= 0, (1 - DECAY) * DECAY ** np.maximum(age, 0), 0.0)
    first = DECAY ** np.arange(n + 1)  # what is left for the start value, the mean over the window
    weights += first[:, None] / n
    weights.setflags(write=False)
    return weights


def filtered(returns: np.ndarray) -> np.ndarray:
    """Past returns (time, asset) at tomorrow's volatility: each is scaled by ``sigma_tomorrow / sigma_of_its_day``.

    The exponentially weighted variance of a day uses the days before it, and starts at the mean of the window.
    """
    variance = _decays(len(returns)) @ returns**2
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.sqrt(variance[-1] / variance[:-1])
    return returns * np.where(np.isfinite(ratio), ratio, 1.0)


def loss_quantile(outcome: np.ndarray, level: float) -> float:
    """Value at risk of equally likely outcomes: the loss that a share ``1 - level`` of them exceeds, not below zero."""
    worst = int(np.floor((1.0 - level) * len(outcome)))
    return max(0.0, -float(np.partition(outcome, worst)[worst]))


def loss_mean(outcome: np.ndarray, level: float) -> float:
    """Conditional value at risk: mean loss of the worst share ``1 - level``, the one at the edge in part."""
    share = (1.0 - level) * len(outcome)
    whole = int(np.floor(share))
    tail = np.sort(np.partition(outcome, whole)[: whole + 1])
    total = float(tail[:whole].sum() + (share - whole) * tail[whole])
    return max(0.0, -total / share)
