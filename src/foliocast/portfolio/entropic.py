"""Blocks of logarithms and exponentials: expected log growth, EVaR and the entropic risk measure."""

from __future__ import annotations

import numpy as np

from foliocast.portfolio.pieces import Block, Iterate, Pair, Step
from foliocast.portfolio.products import Products


class Growth(Block):
    """Minus the expected log growth, ``-sum p log(1 + unit rho) / unit`` (Kelly, 1956)."""

    bends = True

    def __init__(self, coef: np.ndarray, ops: Products, p: np.ndarray, unit: float) -> None:
        super().__init__(coef)
        self.ops, self.p, self.unit = ops, p, unit

    def look(self, it: Iterate, omega: float) -> None:
        wealth = 1.0 + self.unit * it.rho
        self.value = float(-(self.p @ np.log(wealth)) / self.unit) if wealth.min() > 0 else np.inf
        with np.errstate(divide="ignore"):
            self.grad = np.zeros(len(it.x))
            self.grad[: it.n_assets] = -self.ops.tdot(self.p / wealth)
        self.pull = omega * self.grad
        it.curve += omega * self.unit * self.p / wealth**2

    def reach(self, it: Iterate, step: Step) -> float:
        wealth, change = 1.0 + self.unit * it.rho, self.unit * step.drho
        falling = change < 0
        return float((wealth[falling] / -change[falling]).min(initial=np.inf))

    def minorant(self, it: Iterate, omega: float) -> tuple[float, np.ndarray]:
        beta = self.pull[: it.n_assets]
        return omega * self.value - float(beta @ it.w), beta


def tilted(p: np.ndarray, exponent: np.ndarray) -> tuple[float, np.ndarray]:
    """``log sum p exp(e)`` and the tilted probabilities, without overflow."""
    top = float(exponent.max())
    weight = p * np.exp(exponent - top)
    total = float(weight.sum())
    return top + float(np.log(total)), weight / total


class EntropicTail(Block):
    """EVaR (Ahmadi-Javid, 2012), and the entropic risk measure (Foellmer and Schied, 2002) when ``theta`` is given.

    Both are ``max -y . rho`` over probabilities y: EVaR within a relative entropy of ``-log(1 - alpha)`` from p,
    entropic risk at a price of 1 / theta for it. The y are kept as variables of their own and Newton's method works on
    ``t log(y / p) + rho + s = 0``; on exponentials of rho it would overshoot.
    """

    bends = True

    def __init__(
        self, coef: np.ndarray, ops: Products, p: np.ndarray, alpha: float = 0.0, theta: float | None = None
    ) -> None:
        super().__init__(coef)
        self.ops, self.p, self.theta, self.log_tail = ops, p, theta, float(-np.log1p(-alpha))

    def _exact(self, rho: np.ndarray) -> tuple[float, np.ndarray, float]:
        """Value, maximising y and t for these returns."""
        t = evar_level(rho, self.p, self.log_tail) if self.theta is None else 1.0 / self.theta
        log_mean, tilt = tilted(self.p, -rho / t)
        return t * (log_mean + (self.log_tail if self.theta is None else 0.0)), tilt, t

    def start(self, it: Iterate, omega: float, mu: float) -> None:
        _, self.y, self.t = self._exact(it.rho)
        self.y = np.maximum(self.y, 1e-12 * self.p)
        self.s = -float(self.y @ (self.t * np.log(self.y / self.p) + it.rho))

    def look(self, it: Iterate, omega: float) -> None:
        n, y = it.n_assets, self.y
        self.value = self._exact(it.rho)[0]
        log_ratio = np.log(y / self.p)
        self._basis = np.ones((len(y), 1)) if self.theta is not None else np.column_stack([np.ones(len(y)), log_ratio])
        self._miss = self.t * log_ratio + it.rho + self.s
        self._pi = y / self.t
        self._inner = self._basis.T @ (self._pi[:, None] * self._basis)
        off = [1.0 - y.sum(), self.log_tail - float(y @ log_ratio)]
        off[1] -= off[0]  # the entropy also answers to the sum of dy
        self._off = np.array(off[: self._basis.shape[1]])
        own = np.linalg.lstsq(self._inner, -(self._off + self._basis.T @ (self._pi * self._miss)), rcond=None)[0]
        self._still = -self._pi * (self._miss + self._basis @ own)  # dy if rho stood still
        columns = np.column_stack([y, self._pi[:, None] * self._basis, self._still])
        both = self.ops.tdot(columns)
        self.grad = np.zeros(len(it.x))
        self.grad[:n] = -both[:, 0]
        self.pull = omega * self.grad
        self._mixed, self._push = both[:, 1:-1], omega * both[:, -1]
        it.curve += omega * self._pi

    def condense(self, hessian: np.ndarray, it: Iterate, omega: float) -> None:
        n = it.n_assets
        hessian[:n, :n] -= omega * self._mixed @ np.linalg.lstsq(self._inner, self._mixed.T, rcond=None)[0]

    def rhs(self, targets: list[np.ndarray]) -> tuple[np.ndarray | float, float]:
        out = np.zeros(len(self.grad))
        out[: len(self._push)] = self._push
        return out, 0.0

    def recover(self, step: Step, domega: float, targets: list[np.ndarray]) -> list[Pair]:
        moved = self._pi * (self._miss + step.drho)
        own = np.linalg.lstsq(self._inner, -(self._off + self._basis.T @ moved), rcond=None)[0]
        self._dy = -moved - self._pi * (self._basis @ own)
        self._ds, self._dt = float(own[0]), float(own[1]) if len(own) > 1 else 0.0
        return []

    def move(self, primal: float, dual: float) -> None:
        change = dual * self._dy / self.y
        grown = self.y * np.where(change > 0, 1.0 + change, np.exp(np.minimum(change, 0.0)))  # stays positive
        self.y = np.maximum(grown, 1e-60 * self.p)
        self.y /= self.y.sum()
        self.t *= float(np.exp(np.clip(dual * self._dt / self.t, -0.7, 0.7)))
        self.s += dual * self._ds

    def residual(self) -> float:
        return float(self.y @ np.abs(self._miss) + np.abs(self._off).sum())

    def minorant(self, it: Iterate, omega: float) -> tuple[float, np.ndarray]:
        value, tilt, _ = self._exact(it.rho)
        beta = -omega * self.ops.tdot(tilt)
        return omega * value - float(beta @ it.w), beta


def evar_level(rho: np.ndarray, p: np.ndarray, log_tail: float) -> float:
    """The t > 0 that minimises ``t (log E exp(-rho / t) + log_tail)``, by a safeguarded Newton method on log t."""
    spread = float(np.sqrt(p @ (rho - p @ rho) ** 2))
    if spread == 0.0:
        return 1e-12
    u = np.log(spread / np.sqrt(2 * log_tail))
    low, high = u - 30.0, u + 30.0
    for _ in range(100):
        t = np.exp(u)
        log_mean, tilt = tilted(p, -rho / t)
        mean = float(tilt @ rho)
        slope = log_mean + log_tail + mean / t  # d/dt
        bend = float(tilt @ (rho - mean) ** 2) / t**3
        low, high = (u, high) if slope < 0 else (low, u)
        with np.errstate(over="ignore"):  # next to no curvature: as far as it goes, like none at all
            move = -slope / (bend * t) if bend > 0 else np.inf
        new = u + move
        new = new if low < new < high else 0.5 * (low + high)
        if abs(new - u) < 1e-13:
            break
        u = new
    return float(np.exp(u))
