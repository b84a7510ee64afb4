"""Exact constraints on generated portfolios, and the shape a prompt asks for.

All maps here are multiplicative: they rescale what the decoder proposes (a projection in relative entropy) and leave
the order within a sector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from foliocast.core.errors import ConfigError, InfeasibleError
from foliocast.features.funds import SECTORS, sector_name

TINY = 1e-12
# Limits are aimed at from just inside, so that no rounding, of a weight or of a sum in any order, ends beyond them.
INSIDE = 1.0 - 1e-13


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


def support(
    raw: np.ndarray,
    likely: np.ndarray,
    sector: np.ndarray,
    limits: Limits,
    n: int,
    shape: Shape | None = None,
) -> np.ndarray:
    """Positions of the ``n`` securities to hold: by decoded weight, then by likelihood, as far as the limits allow.

    Parameters
    ----------
    raw, likely : ndarray, shape (security,)
        Decoded weights; likelihood under the condition, zero where a security may not be held.
    sector : ndarray of int, shape (security,)
        -1 unknown.
    shape : Shape, optional
        Each sector it states gets as many names as its share needs at the stated top weight.

    Raises
    ------
    InfeasibleError
        The limits cannot be met with these securities.
    """
    caps = limits.caps()
    allowed = (likely > 0) & (caps[sector] > 0)
    order = np.lexsort((-likely, -raw))
    order = order[allowed[order]]
    if shape is not None and shape.sectors:
        order = _needed_first(order, sector, shape, n)
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


def _needed_first(order: np.ndarray, sector: np.ndarray, shape: Shape, n: int) -> np.ndarray:
    """The same securities, those first without which a stated sector cannot have its share."""
    largest = shape.top_weight or 1.0
    need = np.zeros(len(SECTORS) + 1, dtype=int)
    for name, share in shape.sectors.items():
        if share > 0.5 / n:
            need[SECTORS.index(name)] = int(np.ceil(share / largest - 0.05))
    first = np.zeros(len(order), dtype=bool)
    for s in np.flatnonzero(need):
        first[np.flatnonzero(sector[order] == s)[: need[s]]] = True
    if first.sum() > n:
        return order
    return np.concatenate([order[first], order[~first]])


def _capacity(chosen: np.ndarray, sector: np.ndarray, caps: np.ndarray, cap: float) -> float:
    counts = np.bincount(sector[chosen] % len(caps), minlength=len(caps))
    return float(np.minimum(counts * cap, caps).sum())


def enforce(weights: np.ndarray, sector: np.ndarray, limits: Limits) -> np.ndarray:
    """Positive weights of a feasible support brought inside the limits, summing to one (to 1e-12)."""
    if limits.max_weight >= 1 and not limits.sector_caps:
        return weights / weights.sum()
    largest, group = limits.max_weight * INSIDE, sector % (len(SECTORS) + 1)
    caps = limits.caps()
    counts = np.bincount(group, minlength=len(caps))
    room = np.minimum(counts * largest, caps * INSIDE)
    held = counts > 0
    totals = np.bincount(group, weights=weights, minlength=len(caps))
    share = np.zeros(len(caps))
    share[held] = _shares(totals[held], room[held])
    out = np.empty_like(weights)
    for s in np.flatnonzero(held):
        members = group == s
        out[members] = fill(weights[members], share[s], largest)
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


@dataclass(frozen=True)
class Shape:
    """How weights are to be spread over the names chosen; None is free.

    Parameters
    ----------
    top_weight, effective_n : float or None
        Largest weight; one over the sum of squares.
    sectors : mapping sector -> share
        Of what is classified.
    """

    top_weight: float | None = None
    effective_n: float | None = None
    sectors: Mapping[str, float] = field(default_factory=dict)


def shaped(weights: np.ndarray, sector: np.ndarray, shape: Shape, rounds: int = 25) -> np.ndarray:
    """Weights of the shape that is asked for, as far as the securities chosen allow.

    Sector weights by raking (iterative proportional fitting): sectors that are not stated share what is left. Top
    weight and effective number by raising weights to a power, which keeps their order. The two alternate.
    """
    out = weights / weights.sum()
    profiled = shape.top_weight is not None or shape.effective_n is not None
    for _ in range(rounds if shape.sectors and profiled else 1):
        before = out
        if shape.sectors:
            out = _raked(out, sector, shape.sectors)
        if profiled:
            out = _profiled(out, shape.top_weight, shape.effective_n)
        if np.abs(out - before).sum() < 1e-5:
            break
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


def _profiled(weights: np.ndarray, top: float | None, effective_n: float | None) -> np.ndarray:
    """A power of the weights that has the top weight; of the others, one that has the effective number as well."""
    n = len(weights)
    if n < 2 or (top is not None and top <= 1.0 / n):
        return np.full(n, 1.0 / n)
    log = np.log(np.maximum(weights, TINY) / weights.max())
    if top is None:
        assert effective_n is not None
        return _power(log, lambda w: float((w**2).sum()), 1.0 / effective_n)
    if effective_n is None:
        return _power(log, lambda w: float(w.max()), top)
    first = int(weights.argmax())
    rest = np.delete(log, first)
    cap = min(top, 0.999) / (1.0 - min(top, 0.999))  # of what the largest leaves
    left = (1.0 / effective_n - top**2) / (1.0 - min(top, 0.999)) ** 2
    others = fill(_power(rest, lambda w: float((fill(w, 1.0, cap) ** 2).sum()), left), 1.0, cap)
    return np.insert(others * (1.0 - top), first, top)


def _power(log: np.ndarray, measured: Callable[[np.ndarray], float], target: float) -> np.ndarray:
    """``exp(power * log)``, scaled to one, of which a measure of concentration has a value; as near as there is."""
    shifted = log - log.max()
    low, high = 0.0, 20.0
    out = np.full(len(log), 1.0 / len(log))
    if not (shifted < -1e-9).any():
        return out
    for _ in range(30):
        power = (low + high) / 2
        out = np.exp(power * shifted)
        out /= out.sum()
        low, high = (power, high) if measured(out) < target else (low, power)
    return out
