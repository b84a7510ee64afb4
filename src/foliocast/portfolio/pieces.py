"""Convex building blocks of the interior-point method: each owns its scenario-sized variables and eliminates them.

A block has a convex value ``v(w)`` that enters the objective and the limits with weights ``coef``; its effective weight
in the Lagrangian is ``omega = coef[0] + coef[1:] . lambda``. Every block hands the driver

* its part of the gradient of the Lagrangian (``pull``),
* its curvature: scenario weights D (so that ``R' D R`` is formed once for all blocks) and what it adds to the N x N
  matrix directly,
* ``grad`` and ``kappa``: how its value answers to a step in w and in omega once its own variables are eliminated.

The Newton system is therefore of the size of the portfolio, never of the scenario set. Notation: (slack, multiplier)
pairs have the complementarity targets ``c``, i.e. ``s dy + y ds = c``.

Here are the base and the blocks that know weights only; those over scenarios are in `tails` and `entropic`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

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
