"""Shocks and a volatility recursion become joint paths, with or without part of the future given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from foliocast.core.conditions import Condition
from foliocast.stats.conditioning import meet, nearest_totals
from foliocast.stats.volatility import CEILING, VolatilityFilter

OVERSAMPLE = 8  # paths drawn for each one kept when totals are given; fewer for hundreds of assets
POOL_WIDTH = 1000  # assets x oversampling


@dataclass(frozen=True)
class PathLaw:
    """x[h] = mean + sigma[h] * shock[h]; sigma follows its recursion along each path (all in log returns).

    Attributes
    ----------
    shocks : a law of `scenarios.shocks`
    mean : ndarray (asset,)
    filter : VolatilityFilter or None
        None: sigma is one throughout, the shocks are returns.
    state : the filter's state after the last known bar
    highest : ndarray (asset,) or None
        Highest volatility so far; no simulated bar has more than `CEILING` times as much.
    """

    shocks: Any
    mean: np.ndarray
    filter: VolatilityFilter | None = None
    state: Any = None
    highest: np.ndarray | None = None

    def sigma(self, state: Any) -> Any:
        """Volatility of the next bar, (n, asset), or one."""
        if self.filter is None:
            return 1.0
        sigma = self.filter.sigma(state)
        return sigma if self.highest is None else np.minimum(sigma, CEILING * self.highest)


def simulate_log(
    law: PathLaw, n: int, horizon: int, rng: np.random.Generator, fixed: np.ndarray | None = None
) -> np.ndarray:
    """Log returns (n, horizon, asset).

    Parameters
    ----------
    fixed : ndarray (n or 1, horizon, asset), optional
        Log returns that are given; NaN where free, with the same pattern in every scenario. At each step the others are
        drawn from the law of the shocks given those, and the volatility recursion sees the given values.
    """
    shocks = law.shocks.fresh()
    state: Any = None if law.filter is None else law.filter.spread(law.state, n)
    out = np.empty((n, horizon, len(law.mean)))
    for h in range(horizon):
        sigma = law.sigma(state)
        known = np.empty(0, int) if fixed is None else np.flatnonzero(np.isfinite(fixed[0, h]))
        if len(known) == 0:
            x = law.mean + sigma * shocks.draw(n, rng)
        else:
            assert fixed is not None
            values = np.broadcast_to(fixed[:, h, known], (n, len(known)))
            scale = sigma[:, known] if isinstance(sigma, np.ndarray) else sigma
            x = law.mean + sigma * shocks.draw_given(known, (values - law.mean[known]) / scale, rng)
            x[:, known] = values
        out[:, h] = x
        if law.filter is not None and h + 1 < horizon:
            state = law.filter.step(state, x - law.mean)
    return out


def path_sampler(law: PathLaw, horizon: int, condition: Condition) -> Callable[[int, np.random.Generator], np.ndarray]:
    """``draw(n, rng)`` -> simple returns (n, horizon, asset) that meet the condition.

    Points given are met step by step. A total given over several bars first becomes paths of the assets it concerns:
    the nearest of many draws, pulled to the total (`stats.conditioning`); then everything else is drawn given those
    paths, so that volatility and the other assets answer to the shock.
    """
    condition = condition.pointwise()
    points = np.log1p(condition.path)[None]
    totals = np.flatnonzero(np.isfinite(condition.total))
    any_point = np.isfinite(points).any()

    def draw(n: int, rng: np.random.Generator) -> np.ndarray:
        if condition.empty:
            return np.expm1(simulate_log(law, n, horizon, rng))
        if len(totals) == 0:
            return np.expm1(simulate_log(law, n, horizon, rng, points))
        rounds = max(2, min(OVERSAMPLE, POOL_WIDTH // len(law.mean)))
        pool = [simulate_log(law, n, horizon, rng, points if any_point else None) for _ in range(rounds)]
        near = np.concatenate(pool)
        near = near[nearest_totals(near, condition, n)]
        given = np.broadcast_to(points, near.shape).copy()
        given[:, :, totals] = meet(near, Condition(np.full_like(condition.path, np.nan), condition.total))[:, :, totals]
        return np.expm1(simulate_log(law, n, horizon, rng, given))

    return draw
