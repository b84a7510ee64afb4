"""Convex building blocks of the interior-point method: each owns its scenario-sized variables and eliminates them.

A block has a convex value ``v(w)`` that enters the objective and the limits with weights ``coef``; its effective weight
in the Lagrangian is ``omega = coef[0] + coef[1:] . lambda``. Every block hands the driver

* its part of the gradient of the Lagrangian (``pull``),
* its curvature: scenario weights D (so that ``R' D R`` is formed once for all blocks) and what it adds to the N x N
  matrix directly,
* ``grad`` and ``kappa``: how its value answers to a step in w and in omega once its own variables are eliminated.

The Newton system is therefore of the size of the portfolio, never of the scenario set. Notation: (slack, multiplier)
pairs have the complementarity targets ``c``, i.e. ``s dy + y ds = c``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from foliocast.portfolio.products import Products

Pair = tuple[np.ndarray, np.ndarray]


@dataclass
class Iterate:
    """Where the method stands: core variables x = (w, one level per block that needs one) and scenario returns."""

    x: np.ndarray
    rho: np.ndarray
    n_assets: int
    curve: np.ndarray = field(default=None)  # type: ignore[arg-type]

    @property
    def w(self) -> np.ndarray:
        return self.x[: self.n_assets]


@dataclass
class Step:
    """A Newton step in the core variables and what it does to the scenario returns."""

    dx: np.ndarray
    drho: np.ndarray


class Block:
    """Base of the building blocks; a block without scenario variables overrides only what it needs."""

    extra = False  # needs a level variable in x
    floor = -np.inf  # lower bound of that level
    bends = False  # its value is not piecewise linear or quadratic: primal and dual step together
    at = -1  # position of the level in x

    def __init__(self, coef: np.ndarray) -> None:
        self.coef = coef
        self.value = 0.0
        self.kappa = 0.0
        self.pull: np.ndarray = np.zeros(0)
        self.grad: np.ndarray = np.zeros(0)

    def start(self, it: Iterate, omega: float, mu: float) -> None:
        """Put the block's own variables on the central path at ``mu``."""

    def level(self, rho: np.ndarray) -> float:
        """First value of the level variable."""
        return 0.0

    def pairs(self) -> list[Pair]:
        return []

    def look(self, it: Iterate, omega: float) -> None:
        """Set ``value``, ``pull``, ``grad`` and ``kappa`` at the iterate."""
        raise NotImplementedError

    def condense(self, hessian: np.ndarray, it: Iterate, omega: float) -> None:
        """Add the curvature that is not in ``it.curve``."""

    def rhs(self, targets: list[np.ndarray]) -> tuple[np.ndarray | float, float]:
        """What the targets add to the right-hand side of stationarity and to the value."""
        return 0.0, 0.0

    def recover(self, step: Step, domega: float, targets: list[np.ndarray]) -> list[Pair]:
        """Steps of the block's pairs."""
        return []

    def move(self, primal: float, dual: float) -> None:
        """Take the step that `recover` found."""

    def residual(self) -> float:
        """Largest violation of the block's own stationarity."""
        return 0.0

    def reach(self, it: Iterate, step: Step) -> float:
        """Longest step that stays in the domain of the value."""
        return np.inf

    def minorant(self, it: Iterate, omega: float) -> tuple[float, np.ndarray]:
        """``(alpha, beta)`` with ``omega v(w) >= alpha + beta . w`` for every w."""
        raise NotImplementedError


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


class Trade(Block):
    """``sum k |w - ref| + c |w - ref|^1.5``: proportional cost, square-root impact, turnover or gross exposure.

    Written as ``sum k u + c u^1.5`` with ``u >= |w - ref|``; the u are eliminated one by one.
    """

    def __init__(self, coef: np.ndarray, ref: np.ndarray, k: np.ndarray, c: np.ndarray) -> None:
        super().__init__(coef)
        self.which = np.flatnonzero((k > 0) | (c > 0))
        self.ref, self.k, self.c = ref[self.which], k[self.which], c[self.which]
        self.bends = bool((c > 0).any())

    def start(self, it: Iterate, omega: float, mu: float) -> None:
        gap = it.x[self.which] - self.ref
        room = 0.1 / max(1, len(self.which))
        self.u = np.sqrt(gap**2 + room**2) + room
        price = omega * (self.k + 1.5 * self.c * np.sqrt(self.u))
        self.up, self.down = self.u - gap, self.u + gap
        self.y = price * self.down / (self.up + self.down)
        self.z = price - self.y

    def pairs(self) -> list[Pair]:
        return [(self.up, self.y), (self.down, self.z)]

    def look(self, it: Iterate, omega: float) -> None:
        n, root = len(it.x), np.sqrt(self.u)
        self.value = float(self.k @ self.u + self.c @ (self.u * root))
        self._slope = self.k + 1.5 * self.c * root
        self._p, self._m = self.y / self.up, self.z / self.down
        self._width = omega * 0.75 * self.c / root + self._p + self._m
        self._miss = omega * self._slope - self.y - self.z
        self._tilt = (self._p - self._m) / self._width
        self.pull, self.grad = np.zeros(n), np.zeros(n)
        self.pull[self.which] = self.y - self.z
        self.grad[self.which] = self._tilt * self._slope
        self.kappa = float(np.sum(self._slope**2 / self._width))

    def condense(self, hessian: np.ndarray, it: Iterate, omega: float) -> None:
        # (p + m) - (p - m)^2 / width without cancellation
        bend = self._width - self._p - self._m
        hessian[self.which, self.which] += (4 * self._p * self._m + bend * (self._p + self._m)) / self._width

    def _push(self, targets: list[np.ndarray]) -> np.ndarray:
        return targets[0] / self.up + targets[1] / self.down - self._miss

    def rhs(self, targets: list[np.ndarray]) -> tuple[np.ndarray | float, float]:
        e = self._push(targets)
        g = np.zeros(len(self.grad))
        g[self.which] = -(targets[0] / self.up - targets[1] / self.down - self._tilt * e)
        return g, float(self._slope @ (e / self._width))

    def recover(self, step: Step, domega: float, targets: list[np.ndarray]) -> list[Pair]:
        dw = step.dx[self.which]
        du = (self._push(targets) - self._slope * domega) / self._width + self._tilt * dw
        self._du = du
        self._steps = [
            (du - dw, targets[0] / self.up - self._p * (du - dw)),
            (du + dw, targets[1] / self.down - self._m * (du + dw)),
        ]
        return self._steps

    def move(self, primal: float, dual: float) -> None:
        self.u = self.u + primal * self._du
        self.up = self.up + primal * self._steps[0][0]
        self.down = self.down + primal * self._steps[1][0]
        self.y = self.y + dual * self._steps[0][1]
        self.z = self.z + dual * self._steps[1][1]

    def residual(self) -> float:
        return float(np.abs(self._miss).max(initial=0.0))

    def minorant(self, it: Iterate, omega: float) -> tuple[float, np.ndarray]:
        """``k|d| + c|d|^1.5 >= s d - conjugate(s)`` for every slope s (at most k where c = 0)."""
        s = (self.y - self.z) / omega
        flat = self.c <= 0
        s[flat] = np.clip(s[flat], -self.k[flat], self.k[flat])
        root = np.zeros(len(s))
        root[~flat] = np.maximum(np.abs(s) - self.k, 0.0)[~flat] / (1.5 * self.c[~flat])
        beta = np.zeros(it.n_assets)
        beta[self.which] = omega * s
        return -omega * float((0.5 * self.c * root**3).sum() + s @ self.ref), beta


class Quadratic(Block):
    """``d' Q d + 2 g . d + k`` with ``d = w - b``: variance, or squared tracking error; ``root`` takes the square root.

    ``g`` and ``k`` carry the positions that are fixed. The root is not differentiable where it vanishes.
    """

    def __init__(
        self,
        coef: np.ndarray,
        matrix: np.ndarray,
        about: np.ndarray,
        fixed: tuple[np.ndarray, float],
        root: bool = False,
    ) -> None:
        super().__init__(coef)
        self.matrix, self.about, self.root, self.bends = matrix, about, root, root
        self.fixed = fixed

    def look(self, it: Iterate, omega: float) -> None:
        gap = it.w - self.about
        slope = self.matrix @ gap + self.fixed[0]
        square = float(gap @ (slope + self.fixed[0]) + self.fixed[1])
        self.grad = np.zeros(len(it.x))
        if self.root:
            self.value = float(np.sqrt(max(square, 1e-30)))
            self.grad[: it.n_assets] = slope / self.value
        else:
            self.value = square
            self.grad[: it.n_assets] = 2 * slope
        self.pull = omega * self.grad

    def condense(self, hessian: np.ndarray, it: Iterate, omega: float) -> None:
        n = it.n_assets
        if self.root:
            g = self.grad[:n]
            hessian[:n, :n] += (omega / self.value) * (self.matrix - np.outer(g, g))
        else:
            hessian[:n, :n] += 2 * omega * self.matrix

    def minorant(self, it: Iterate, omega: float) -> tuple[float, np.ndarray]:
        beta = self.pull[: it.n_assets]
        return omega * self.value - float(beta @ it.w), beta


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


def _tilted(p: np.ndarray, exponent: np.ndarray) -> tuple[float, np.ndarray]:
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
        log_mean, tilt = _tilted(self.p, -rho / t)
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
        log_mean, tilt = _tilted(p, -rho / t)
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
