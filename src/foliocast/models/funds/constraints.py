"""Exact constraints on generated portfolios, and the shape a prompt asks for.

All maps here are multiplicative: they rescale what the decoder proposes (a projection in relative entropy) and leave
the order within a sector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from foliocast.core.errors import ConfigError, InfeasibleError
from foliocast.features.funds import SECTORS, sector_name

TINY = 1e-12


@dataclass(frozen=True)
class Limits:
    """Hard limits of a portfolio.

    Parameters
    ----------
    max_weight : float
        Largest weight of a security, above 0 and at most 1.
    sector_caps : mapping sector -> float
        Largest share of a sector; securities of unknown sector are not capped.
    n_holdings : int or None
        Exact number of securities.
    """

    max_weight: float = 1.0
    sector_caps: Mapping[str, float] = field(default_factory=dict)
    n_holdings: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_weight <= 1:
            raise ConfigError(f"max_weight = {self.max_weight}: expected a fraction above 0, at most 1")
        if self.n_holdings is not None and self.n_holdings < 1:
            raise ConfigError(f"n_holdings = {self.n_holdings}: expected at least 1")
        for name, cap in self.sector_caps.items():
            if not sector_name(name):
                raise ConfigError(f"sector_caps names {name!r}; sectors are {', '.join(SECTORS)}")
            if not 0 <= cap <= 1:
                raise ConfigError(f"sector_caps: {name} = {cap}, expected a fraction from 0 to 1")
        if self.n_holdings is not None and self.n_holdings * self.max_weight < 1 - 1e-9:
            raise InfeasibleError(
                f"{self.n_holdings} holdings of at most {self.max_weight:g} add up to "
                f"{self.n_holdings * self.max_weight:g}, less than one; raise max_weight or n_holdings"
            )

    def caps(self) -> np.ndarray:
        """Cap of each of `SECTORS`, and 1 for the unknown sector at the end."""
        out = np.ones(len(SECTORS) + 1)
        for name, cap in self.sector_caps.items():
            out[SECTORS.index(sector_name(name))] = cap
        return out


def fill(weights: np.ndarray, total: float, cap: float) -> np.ndarray:
    """Rescale positive weights to a total with none above the cap; needs ``len * cap >= total``."""
    out = np.zeros_like(weights)
    free = np.ones(len(weights), dtype=bool)
    while free.any():
        room = total - cap * (~free).sum()
        out[free] = weights[free] * (room / weights[free].sum())
        over = free & (out > cap)
        if not over.any():
            break
        out[over] = cap
        free &= ~over
    return np.minimum(out, cap)


def support(raw: np.ndarray, likely: np.ndarray, sector: np.ndarray, limits: Limits, n: int) -> np.ndarray:
    """Positions of the ``n`` securities to hold: by decoded weight, then by likelihood, as far as the limits allow.

    Parameters
    ----------
    raw, likely : ndarray, shape (security,)
        Decoded weights; likelihood under the condition, zero where a security may not be held.
    sector : ndarray of int, shape (security,)
        -1 unknown.

    Raises
    ------
    InfeasibleError
        The limits cannot be met with these securities.
    """
    caps = limits.caps()
    allowed = (likely > 0) & (caps[sector] > 0)
    order = np.lexsort((-likely, -raw))
    order = order[allowed[order]]
    if len(order) < n:
        raise InfeasibleError(f"{n} holdings asked for, {len(order)} securities may be held; widen the universe")
    chosen, rest = list(order[:n]), list(order[n:])
    while _capacity(np.array(chosen), sector, caps, limits.max_weight) < 1 - 1e-12:
        counts = np.bincount(sector[chosen] % len(caps), minlength=len(caps))
        slack = np.maximum(0.0, np.minimum(caps - counts * limits.max_weight, 1.0))
        better = next((i for i in rest if slack[sector[i]] > 1e-12), None)
        # A name is spare if its sector is filled to the cap without it.
        spare = next(
            (i for i in reversed(chosen) if (counts[sector[i]] - 1) * limits.max_weight >= caps[sector[i]]), None
        )
        if better is None or (limits.n_holdings is not None and spare is None):
            most = _capacity(order, sector, caps, limits.max_weight)
            count = f" with {n} holdings" if limits.n_holdings else ""
            raise InfeasibleError(
                f"max_weight {limits.max_weight:g} and caps {dict(limits.sector_caps)}{count} leave no portfolio: the "
                f"{len(order)} that may be held fill {most:.3f} at most; loosen a limit or widen the universe"
            )
        rest.remove(better)
        if spare is not None:
            chosen.remove(spare)
        chosen.append(better)
    return np.array(chosen)


def _capacity(chosen: np.ndarray, sector: np.ndarray, caps: np.ndarray, cap: float) -> float:
    counts = np.bincount(sector[chosen] % len(caps), minlength=len(caps))
    return float(np.minimum(counts * cap, caps).sum())


def enforce(weights: np.ndarray, sector: np.ndarray, limits: Limits) -> np.ndarray:
    """Positive weights of a feasible support brought inside the limits, summing to one."""
    if limits.max_weight >= 1 and not limits.sector_caps:
        return weights / weights.sum()
    caps, group = limits.caps(), sector % (len(SECTORS) + 1)
    counts = np.bincount(group, minlength=len(caps))
    room = np.minimum(counts * limits.max_weight, caps)
    held = counts > 0
    totals = np.bincount(group, weights=weights, minlength=len(caps))
    share = np.zeros(len(caps))
    share[held] = _shares(totals[held], room[held])
    out = np.empty_like(weights)
    for s in np.flatnonzero(held):
        members = group == s
        out[members] = fill(weights[members], share[s], limits.max_weight)
    return out


def _shares(totals: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Shares of sectors, proportional to the totals, each within its room, summing to one."""
    out = totals / totals.sum()
    fixed = np.zeros(len(out), dtype=bool)
    while True:
        over = ~fixed & (out > room)
        if not over.any():
            return np.minimum(out, room)
        fixed |= over
        out[fixed] = room[fixed]
        left = 1.0 - out[fixed].sum()
        if not (~fixed).any():
            return out
        out[~fixed] = totals[~fixed] * (max(left, 0.0) / totals[~fixed].sum())


def shaped(
    weights: np.ndarray, sector: np.ndarray, top_weight: float | None, sectors: Mapping[str, float], rounds: int = 30
) -> np.ndarray:
    """Weights with the top weight and sector weights a prompt states, as far as the securities chosen allow.

    Sector weights by raking (iterative proportional fitting): sectors that are not stated share what is left. The top
    weight by raising all weights to a power, which keeps their order.
    """
    out = weights / weights.sum()
    for _ in range(rounds if sectors and top_weight else 1):
        if sectors:
            out = _raked(out, sector, sectors)
        if top_weight is not None:
            out = _topped(out, top_weight)
    return out


def _raked(weights: np.ndarray, sector: np.ndarray, stated: Mapping[str, float]) -> np.ndarray:
    out = weights.copy()
    total = sum(stated.values())
    known = sector >= 0
    out_of = weights[known].sum()  # what is stated refers to what is classified
    spoken = np.zeros(len(out), dtype=bool)
    for name, share in stated.items():
        members = sector == SECTORS.index(name)
        spoken |= members
        if members.any():
            out[members] *= max(share, 1e-4) / max(total, 1.0) * out_of / out[members].sum()
    silent = known & ~spoken
    if silent.any():
        out[silent] *= max(1.0 - total, 1e-4) * out_of / out[silent].sum()
    return out / out.sum()


def _topped(weights: np.ndarray, top: float) -> np.ndarray:
    if len(weights) < 2 or top <= 1.0 / len(weights):
        return np.full(len(weights), 1.0 / len(weights))
    log = np.log(np.maximum(weights, TINY) / weights.max())
    if (log > -1e-9).all():
        return weights
    low, high = 0.0, 50.0
    for _ in range(60):
        power = (low + high) / 2
        share = 1.0 / np.exp(power * log).sum()
        low, high = (power, high) if share < top else (low, power)
    out = np.exp(power * log)
    return out / out.sum()
