"""Blocks that look at the worst scenarios: CVaR, semivariance, the largest loss."""

from __future__ import annotations

import numpy as np

from foliocast.portfolio.pieces import Block, Iterate, Pair, Step
from foliocast.portfolio.products import Products


class Tail(Block):
    """CVaR (Rockafellar and Uryasev, 2000) and, with ``square``, the lower semivariance.

    CVaR: ``t + sum q xi`` with ``xi >= -(rho + t)``, ``xi >= 0``, ``q = p / (1 - alpha)``.
    Semivariance: ``sum p xi^2`` with ``xi >= target - rho``; ``rho`` is taken about its mean when ``mean`` is given.
    """

    def __init__(
        self,
        coef: np.ndarray,
        ops: Products,
        q: np.ndarray,
        square: bool = False,
        target: float = 0.0,
        centre: tuple[np.ndarray, float] | None = None,
    ) -> None:
        super().__init__(coef)
        self.ops, self.q, self.square, self.target, self.centre = ops, q, square, target, centre
        self.extra = not square

    def level(self, rho: np.ndarray) -> float:
        order = np.argsort(rho)
        edge = min(int(np.searchsorted(np.cumsum(self.q[order]), 1.0)), len(rho) - 1)
        return float(-rho[order[edge]])

    def _gap(self, it: Iterate) -> np.ndarray:
        """``rho + t``: what is left above the level, negative in the tail."""
        if self.extra:
            return it.rho + it.x[self.at]
        about = 0.0 if self.centre is None else self.centre[0] @ it.w + self.centre[1]
        return it.rho - about - self.target

    def _gap_step(self, step: Step) -> np.ndarray:
        if self.extra:
            return step.drho + step.dx[self.at]
        return step.drho if self.centre is None else step.drho - self.centre[0] @ step.dx[: len(self.centre[0])]

    def _adjoint(self, y: np.ndarray, n: int) -> np.ndarray:
        """Transpose of `_gap_step` on vectors (scenario, k): (k, n)."""
        out = np.zeros((y.shape[1], n))
        assets = self.ops.shape[1]
        out[:, :assets] = self.ops.tdot(y).T
        if self.extra:
            out[:, self.at] = y.sum(axis=0)
        elif self.centre is not None:
            out[:, :assets] -= np.outer(y.sum(axis=0), self.centre[0])
        return out

    def start(self, it: Iterate, omega: float, mu: float) -> None:
        gap = self._gap(it)
        if self.square:
            # a y = mu, y = 2 omega p xi, a = xi + gap
            k = 2 * omega * self.q
            self.xi = 0.5 * (-gap + np.sqrt(gap**2 + 4 * mu / k))
            self.y, self.z = k * self.xi, np.zeros_like(gap)
        else:
            # a y = xi z = mu, y + z = omega q, a = xi + gap: a quadratic, solved without cancellation
            total = omega * self.q
            self.y = 2 * mu * total / ((2 * mu + gap * total) + np.sqrt(4 * mu**2 + (gap * total) ** 2))
            low = gap * total < 0
            other = 2 * mu * total / ((2 * mu - gap * total) + np.sqrt(4 * mu**2 + (gap * total) ** 2))
            self.y = np.where(low, total - other, self.y)
            self.z = np.where(low, other, total - self.y)
            self.xi = mu / self.z
        self.a = mu / self.y

    def pairs(self) -> list[Pair]:
        return [(self.a, self.y)] if self.square else [(self.a, self.y), (self.xi, self.z)]

    def look(self, it: Iterate, omega: float) -> None:
        n, p = len(it.x), self.q
        self._ratio = self.y / self.a
        if self.square:
            self._slope, self._second = 2 * p * self.xi, 2 * omega * p
            self.value = float(p @ self.xi**2)
            self._miss = omega * self._slope - self.y
        else:
            self._slope, self._second = p, self.z / self.xi
            self.value = float(it.x[self.at] + p @ self.xi)
            self._miss = omega * p - self.y - self.z
        self._width = self._ratio + self._second
        self._share = self._ratio / self._width
        both = self._adjoint(np.column_stack([self.y, self._share * self._slope]), n)
        self.pull, self.grad = -both[0], -both[1]
        if self.extra:
            self.pull[self.at] += omega
            self.grad[self.at] += 1.0
        self.kappa = float(np.sum(self._slope**2 / self._width))
        self._curve = self._share * self._second
        it.curve += self._curve

    def condense(self, hessian: np.ndarray, it: Iterate, omega: float) -> None:
        if not self.extra and self.centre is None:
            return
        assets = self.ops.shape[1]
        cross = self.ops.tdot(self._curve)
        total = float(self._curve.sum())
        if self.extra:
            hessian[self.at, :assets] += cross
            hessian[:assets, self.at] += cross
            hessian[self.at, self.at] += total
        elif self.centre is not None:
            m = self.centre[0]
            mixed = np.outer(cross, m)
            hessian[:assets, :assets] += total * np.outer(m, m) - mixed - mixed.T

    def _push(self, targets: list[np.ndarray]) -> np.ndarray:
        e = targets[0] / self.a - self._miss
        return e if self.square else e + targets[1] / self.xi

    def rhs(self, targets: list[np.ndarray]) -> tuple[np.ndarray | float, float]:
        e = self._push(targets)
        y0 = targets[0] / self.a - self._share * e
        return self._adjoint(y0[:, None], len(self.grad))[0], float(self._slope @ (e / self._width))

    def recover(self, step: Step, domega: float, targets: list[np.ndarray]) -> list[Pair]:
        dgap = self._gap_step(step)
        dxi = (self._push(targets) - self._slope * domega - self._ratio * dgap) / self._width
        da = dxi + dgap
        dy = targets[0] / self.a - self._ratio * da
        self._steps = [(da, dy)] if self.square else [(da, dy), (dxi, targets[1] / self.xi - self._second * dxi)]
        self._dxi = dxi
        return self._steps

    def move(self, primal: float, dual: float) -> None:
        self.a = self.a + primal * self._steps[0][0]
        self.y = self.y + dual * self._steps[0][1]
        self.xi = self.xi + primal * self._dxi
        if not self.square:
            self.z = self.z + dual * self._steps[1][1]

    def residual(self) -> float:
        return float(np.abs(self._miss).sum())

    def move_to(
        self,
        ops: Products,
        q: np.ndarray,
        kept: tuple[np.ndarray, np.ndarray],
        it: Iterate,
        omega: float,
        mu: float,
    ) -> None:
        """Go on over other scenarios: those known keep their pairs, new ones come from the central path.

        Parameters
        ----------
        ops, q
            Of the new scenarios.
        kept : tuple of ndarray
            Positions of the scenarios in both, in the old order and in the new one.
        it, omega, mu
            Where the method stands, over the new scenarios.
        """
        before, (old, new) = {name: getattr(self, name) for name in ("a", "y", "xi", "z")}, kept
        self.ops, self.q = ops, q
        self.start(it, omega, mu)
        for name, values in before.items():
            getattr(self, name)[new] = values[old]

    def minorant(self, it: Iterate, omega: float) -> tuple[float, np.ndarray]:
        n = self.ops.shape[1]
        offset = getattr(self.ops, "offset", None)
        if not self.square:
            # any y in [0, omega q] with sum omega is a dual vector of the CVaR
            y = _capped(self.y, omega * self.q, omega)
            constant = 0.0 if offset is None else -float(y @ offset)
            return constant, -self.ops.tdot(y)
        # p xi^2 >= (y / omega) xi - (y / omega)^2 / 4 p, and xi >= -gap(w)
        y = np.maximum(self.y, 0.0)
        beta = -self._adjoint(y[:, None], len(it.x))[0][:n]
        shift = self.target + (0.0 if self.centre is None else self.centre[1])
        constant = shift * float(y.sum()) - (0.0 if offset is None else float(y @ offset))
        return constant - float(np.sum(y**2 / self.q)) / (4 * omega), beta


def _capped(y: np.ndarray, cap: np.ndarray, total: float) -> np.ndarray:
    """The point nearest in shape to y with 0 <= y <= cap and the given sum."""
    y = np.clip(y, 0.0, cap)
    missing = total - y.sum()
    room = cap - y if missing > 0 else y
    free = room.sum()
    return y + missing * room / free if free > 0 else y


class Peak(Block):
    """Largest loss over the scenarios: ``t`` with ``t >= -rho``.

    ``within = (p, entropy)`` lets it stand for EVaR where that is attained at its limit t = 0: the largest loss bounds
    EVaR from above, and multipliers within that relative entropy of p bound it from below.
    """

    extra = True

    def __init__(self, coef: np.ndarray, ops: Products, within: tuple[np.ndarray, float] | None = None) -> None:
        super().__init__(coef)
        self.ops, self.within = ops, within

    def level(self, rho: np.ndarray) -> float:
        return float(-rho.min() + 0.5 * rho.std() + 1e-6)

    def start(self, it: Iterate, omega: float, mu: float) -> None:
        self.a = it.rho + it.x[self.at]
        self.y = mu / self.a

    def pairs(self) -> list[Pair]:
        return [(self.a, self.y)]

    def _adjoint(self, y: np.ndarray) -> np.ndarray:
        out = np.zeros(self._n)
        out[: self.ops.shape[1]] = self.ops.tdot(y)
        out[self.at] = y.sum()
        return out

    def look(self, it: Iterate, omega: float) -> None:
        self._n = len(it.x)
        self.value = float(it.x[self.at])
        self._ratio = self.y / self.a
        self.pull = -self._adjoint(self.y)
        self.pull[self.at] += omega
        self.grad = np.zeros(self._n)
        self.grad[self.at] = 1.0
        it.curve += self._ratio

    def condense(self, hessian: np.ndarray, it: Iterate, omega: float) -> None:
        assets = self.ops.shape[1]
        cross = self.ops.tdot(self._ratio)
        hessian[self.at, :assets] += cross
        hessian[:assets, self.at] += cross
        hessian[self.at, self.at] += self._ratio.sum()

    def rhs(self, targets: list[np.ndarray]) -> tuple[np.ndarray | float, float]:
        return self._adjoint(targets[0] / self.a), 0.0

    def recover(self, step: Step, domega: float, targets: list[np.ndarray]) -> list[Pair]:
        da = step.drho + step.dx[self.at]
        self._steps = (da, targets[0] / self.a - self._ratio * da)
        return [self._steps]

    def move(self, primal: float, dual: float) -> None:
        self.a = self.a + primal * self._steps[0]
        self.y = self.y + dual * self._steps[1]

    def minorant(self, it: Iterate, omega: float) -> tuple[float, np.ndarray]:
        share = self.y / self.y.sum()
        if self.within is not None and float(share @ np.log(share / self.within[0])) > self.within[1]:
            return -np.inf, np.zeros(self.ops.shape[1])
        y = share * omega
        offset = getattr(self.ops, "offset", None)
        return (0.0 if offset is None else -float(y @ offset)), -self.ops.tdot(y)
