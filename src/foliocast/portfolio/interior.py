"""A primal-dual interior-point method for convex programs over scenarios (Mehrotra's predictor and corrector).

The Newton system is condensed to the core variables (weights and one level per tail measure) plus one border row per
constraint: N x N work and one product ``R' D R`` an iteration, whatever the number of scenarios. A solution comes with
a lower bound from its own multipliers that holds for every portfolio within the bounds, so its gap is certified and
does not rest on the method having converged.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lu_factor, lu_solve

from foliocast.portfolio.pieces import Block, Iterate, Pair, Quadratic, Step, Trade
from foliocast.portfolio.products import Products
from foliocast.portfolio.tails import Peak, Tail

ROUGH = 1e-4  # relative gap above which single precision is good enough for a Newton matrix
FOCUS = 0.3  # relative gap from which only scenarios near a tail are worked on
NEAR = 3.5  # ... those that hold this many times the mass of the tail
WORTH = 2000  # scenarios from which that is worth a look at all of them in every iteration
EARLY = 1e-2  # relative gap above which a Newton step need not be refined at all
LOOSE = 1e-5  # what a step may miss, of its right-hand side, as long as curvature is in single precision
RUNAWAY = 1e4  # weights beyond this are on their way to infinity, however flat the utility has become


@dataclass
class Program:
    """``min c0 w + sum coef0 v(w)`` subject to ``A w = b``, ``c_k w + sum coef_k v(w) <= h_k``, ``lb <= w <= ub``.

    Parameters
    ----------
    ops : Products
        Products with the scenario matrix, returns in units of their own size.
    lower, upper : ndarray, shape (asset,)
        Bounds, ``lower < upper``; infinite where there are none.
    matrix, level : ndarray, shapes (p, asset) and (p,)
        Equalities.
    linear : ndarray, shape (1 + K, asset)
        Linear part of the objective (row 0) and of each limit.
    limits : ndarray, shape (K,)
    blocks : list of Block
    box : tuple of ndarray
        Bounds implied by all constraints together; the certificate holds within them, and where a weight has none,
        for up to a hundred times the size of the solution.
    """

    ops: Products
    lower: np.ndarray
    upper: np.ndarray
    matrix: np.ndarray
    level: np.ndarray
    linear: np.ndarray
    limits: np.ndarray
    blocks: list[Block]
    box: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """Where the method ended: weights, objective, certified lower bound, and whether it reached its tolerance."""

    w: np.ndarray
    objective: float
    bound: float
    converged: bool
    iterations: int
    diverged: bool = False
    trace: list[tuple[float, ...]] = field(default_factory=list)

    @property
    def gap(self) -> float:
        return self.objective - self.bound if np.isfinite(self.bound) else np.inf


def solve(
    program: Program,
    tol: float = 1e-9,
    max_iter: int = 150,
    start: np.ndarray | None = None,
    rough_above: float = ROUGH,
    focus: bool = True,
) -> Outcome:
    """Minimise a program.

    Parameters
    ----------
    tol : float
        Relative gap at which to stop.
    start : ndarray, shape (asset,), optional
        Weights to start near.
    rough_above : float
        Relative gap above which curvature may be formed in single precision; infinity switches that off.
    focus : bool
        Work on the scenarios near the tails only, once it is clear which these are.
    """
    engine = _Engine(program, start)
    trace: list[tuple[float, ...]] = []
    best: Outcome | None = None
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # divergence is caught below, by name
        for iteration in range(max_iter):
            engine.look()
            gap, scale = engine.gap(), max(abs(engine.objective), 1e-4)
            if focus and max(gap, engine.dual_residual) <= FOCUS * scale and engine.focus():
                engine.look()
                gap = engine.gap()
            trace.append((engine.objective, gap, engine.primal_residual, engine.dual_residual))
            if not np.isfinite(gap) or np.abs(engine.it.w).max() > RUNAWAY:
                break
            if gap <= 1e-6 * scale and engine.primal_residual <= 1e-8:
                found = engine.outcome(iteration, trace)
                best = found if best is None or found.gap < best.gap else best
                if (gap <= tol * scale and found.gap <= 10 * tol * scale) or (
                    gap <= 1e-4 * tol * scale and engine.dual_residual <= tol
                ):
                    break
            try:
                moved = engine.advance(gap > rough_above * scale, gap > EARLY * scale and rough_above < np.inf)
            except (LinAlgError, ValueError):
                break
            if moved < 1e-8:
                break
    if best is None:
        diverged = not np.isfinite(engine.objective) or bool(np.abs(engine.it.w).max() > RUNAWAY)
        return Outcome(engine.it.w, engine.objective, -np.inf, False, len(trace), diverged, trace)
    return replace(best, converged=best.gap <= 1e-7 * max(abs(best.objective), 1e-4), iterations=len(trace))


def _longest(pairs: list[Pair], steps: list[Pair], which: int) -> float:
    """Longest step that keeps one side of every pair positive."""
    longest = np.inf
    for pair, step in zip(pairs, steps):
        ratio = step[which] / pair[which]
        if ratio.size:
            lowest = float(ratio.min())
            if lowest < 0:
                longest = min(longest, -1.0 / lowest)
    return longest


class _Engine:
    def __init__(self, program: Program, start: np.ndarray | None) -> None:
        self.p = program
        self.n_assets = program.ops.shape[1]
        self.blocks = program.blocks
        self.all = program.ops
        self.rows: np.ndarray | None = None  # scenarios that are worked on; None for all
        self.masses = {i: b.q for i, b in enumerate(self.blocks) if isinstance(b, Tail) and not b.square}
        others = all(isinstance(block, Tail | Trade | Quadratic) for block in self.blocks)
        squares = any(isinstance(block, Tail) and block.square for block in self.blocks)
        bounded = bool(np.isfinite(program.lower).all())
        self.can_focus = bool(self.masses) and others and not squares and bounded and program.ops.shape[0] >= WORTH
        self.bends = any(block.bends for block in self.blocks)
        # steps may differ in length for the primal and the dual only where nothing is quadratic
        self.split = not self.bends and all(
            isinstance(block, Peak | Trade) or (isinstance(block, Tail) and not block.square) for block in self.blocks
        )
        # limits and free weights need exact steps from the start; elsewhere early ones may be rough
        self.tame = not len(program.limits) and bounded
        levels = [block for block in self.blocks if block.extra]
        self.n = self.n_assets + len(levels)
        self.lower = np.concatenate([program.lower, [block.floor for block in levels]])
        self.upper = np.concatenate([program.upper, np.full(len(levels), np.inf)])
        self.has_low, self.has_up = np.isfinite(self.lower), np.isfinite(self.upper)
        self.coef = np.array([block.coef for block in self.blocks]).reshape(len(self.blocks), len(program.limits) + 1)
        self._begin(levels, start)

    # ---- starting point
    def _begin(self, levels: list[Block], start: np.ndarray | None) -> None:
        p, mu_share = self.p, 1.0
        x = np.zeros(self.n)
        x[: self.n_assets] = _inside(p, start)
        self.it = Iterate(x, p.ops.dot(x[: self.n_assets]), self.n_assets)
        for i, block in enumerate(levels):
            block.at = self.n_assets + i
            x[block.at] = block.level(self.it.rho)
        self.nu = np.zeros(len(p.level))
        count = int(self.has_low.sum() + self.has_up.sum()) + len(p.limits)
        count += sum(p.ops.shape[0] for block in self.blocks if isinstance(block, Tail | Peak))
        mu = mu_share / max(count, 1)
        self.lam = np.ones(len(p.limits))
        rows = self._linear()[1:]
        for block, omega in zip(self.blocks, self.omega()):
            block.start(self.it, omega, mu)
            block.look(Iterate(x, self.it.rho, self.n_assets, np.zeros(p.ops.shape[0])), omega)
            rows = rows + block.coef[1:] * block.value
        self.slack = np.maximum(p.limits - rows, 0.1)
        self.low_dual = np.where(self.has_low, mu / np.where(self.has_low, x - self.lower, 1.0), 0.0)
        self.up_dual = np.where(self.has_up, mu / np.where(self.has_up, self.upper - x, 1.0), 0.0)

    def omega(self) -> np.ndarray:
        """Weight of each block in the Lagrangian."""
        return self.coef[:, 0] + self.coef[:, 1:] @ self.lam

    def _linear(self) -> np.ndarray:
        return self.p.linear @ self.it.w

    # ---- which scenarios
    def focus(self) -> bool:
        """Work on the scenarios near a tail only, as long as no other one is in it; True if the choice has changed.

        A scenario outside the tail has no multiplier: leaving it out changes nothing, and the bound that follows from
        the others holds for all.
        """
        if not self.can_focus:
            return False
        everywhere = Iterate(self.it.x, self.all.dot(self.it.w), self.n_assets)
        if self.rows is not None:
            outside = np.ones(self.all.shape[0], dtype=bool)
            outside[self.rows] = False
            best = everywhere.rho[outside].min()
            if all(best + self.it.x[self.blocks[i].at] > 0 for i in self.masses):
                return False
        order = np.argsort(everywhere.rho)
        most = max(int(np.searchsorted(np.cumsum(q[order]), NEAR)) + 1 for q in self.masses.values())
        if most > 0.5 * len(order):
            return False
        self._over(np.sort(order[:most]), everywhere.rho)
        return True

    def _over(self, rows: np.ndarray, rho: np.ndarray) -> None:
        """Go on over these scenarios; the pairs of new ones come from the central path."""
        mu = self.gap() / max(sum(s.size for s, _ in self.pairs()), 1)
        before = np.arange(self.all.shape[0]) if self.rows is None else self.rows
        _, old, new = np.intersect1d(before, rows, assume_unique=True, return_indices=True)
        ops = self.all.take(rows)
        self.it = Iterate(self.it.x, rho[rows], self.n_assets)
        omegas = self.omega()
        for i, q in self.masses.items():
            tail = self.blocks[i]
            assert isinstance(tail, Tail)
            tail.move_to(ops, q[rows], (old, new), self.it, float(omegas[i]), mu)
        self.p, self.rows = replace(self.p, ops=ops), rows

    # ---- where we are
    def look(self) -> None:
        p, it = self.p, self.it
        it.curve = np.zeros(p.ops.shape[0])
        self.omegas = self.omega()
        for block, omega in zip(self.blocks, self.omegas):
            block.look(it, omega)
        values = np.array([block.value for block in self.blocks])
        rows = self._linear() + values @ self.coef if len(values) else self._linear()
        self.objective = float(rows[0])
        self.miss_equal = p.matrix @ it.w - p.level
        self.miss_limit = rows[1:] + self.slack - p.limits
        pull = np.zeros(self.n)
        pull[: self.n_assets] = p.linear[0] + self.lam @ p.linear[1:] + self.nu @ p.matrix
        for block in self.blocks:
            pull += block.pull
        self.pull = pull - self.low_dual + self.up_dual
        self.primal_residual = max(np.abs(self.miss_equal).max(initial=0.0), np.abs(self.miss_limit).max(initial=0.0))
        size = max(1.0, float(np.abs(it.x).sum()))
        own = max((block.residual() for block in self.blocks), default=0.0)
        self.dual_residual = float(np.abs(self.pull).max(initial=0.0)) * size + own

    def pairs(self) -> list[Pair]:
        x, low, up = self.it.x, self.has_low, self.has_up
        out = [
            (x[low] - self.lower[low], self.low_dual[low]),
            (self.upper[up] - x[up], self.up_dual[up]),
            (self.slack, self.lam),
        ]
        return out + [pair for block in self.blocks for pair in block.pairs()]

    def gap(self) -> float:
        return float(sum(s @ y for s, y in self.pairs()))

    # ---- Newton
    def _factor(self, rough: bool) -> None:
        n, p = self.n_assets, self.p
        rest = np.zeros((self.n, self.n), order="F")
        for block, omega in zip(self.blocks, self.omegas):
            block.condense(rest, self.it, omega)
        x = self.it.x
        diagonal = np.where(self.has_low, self.low_dual / np.where(self.has_low, x - self.lower, 1.0), 0.0)
        diagonal += np.where(self.has_up, self.up_dual / np.where(self.has_up, self.upper - x, 1.0), 0.0)
        rest[np.diag_indices(self.n)] += diagonal
        hessian = rest
        if self.it.curve.any():
            hessian = rest.copy(order="F")
            hessian[:n, :n] += p.ops.gram(self.it.curve, rough)  # the lower triangle is what the factor reads
        self.rest, self.factor = rest, _cholesky(hessian)
        grads = np.array([block.grad for block in self.blocks]).reshape(len(self.blocks), self.n)
        border = np.zeros((len(p.level) + len(p.limits), self.n))
        border[: len(p.level), :n] = p.matrix
        border[len(p.level) :, :n] = p.linear[1:]
        border[len(p.level) :] += self.coef[:, 1:].T @ grads
        kappa = np.array([block.kappa for block in self.blocks])
        corner = np.zeros((len(border), len(border)))
        k = len(p.level)
        corner[k:, k:] = (self.coef[:, 1:].T * kappa) @ self.coef[:, 1:] + np.diag(self.slack / self.lam)
        self.border, self.corner = border, corner
        if len(border):
            self.lifted = cho_solve(self.factor, border.T, check_finite=False)
            schur = border @ self.lifted + corner
            schur[np.diag_indices(len(schur))] += 1e-14 * max(1e-300, float(np.trace(schur)) / len(schur))
            self.schur = lu_factor(schur, check_finite=False)

    def _condensed(self, g: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Solve ``[H B'; B -E] [dx; dm] = [g; r]``, refined against the curvature of every scenario."""
        dx, dm = self._once(g, r)
        if self.early:
            return dx, dm
        size = float(np.linalg.norm(g) + np.linalg.norm(r))
        goal = LOOSE * size if self.rough else min(1e-12 * size, 1e-10)
        best = np.inf
        for _ in range(4):
            miss_g = g - self._curvature(dx) - dm @ self.border
            miss_r = r - self.border @ dx + self.corner @ dm
            miss = float(np.linalg.norm(miss_g) + np.linalg.norm(miss_r))
            if miss <= goal or not miss < 0.5 * best:
                break
            best = miss
            more_x, more_m = self._once(miss_g, miss_r)
            dx, dm = dx + more_x, dm + more_m
        return dx, dm

    def _curvature(self, dx: np.ndarray) -> np.ndarray:
        """The condensed matrix times a step, without what the factor dropped or rounded."""
        out = self.rest @ dx
        if self.it.curve.any():
            w = slice(0, self.n_assets)
            out[w] += self.p.ops.tdot(self.it.curve * self.p.ops.push(dx[w]))
        return out

    def _once(self, g: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        plain = cho_solve(self.factor, g, check_finite=False)
        if not len(r):
            return plain, r
        dm = lu_solve(self.schur, self.border @ plain - r, check_finite=False)
        return plain - self.lifted @ dm, dm

    def _direction(self, targets: list[np.ndarray]) -> tuple[Step, np.ndarray, list[Pair]]:
        p, x, low, up = self.p, self.it.x, self.has_low, self.has_up
        at_low, at_up, at_limit, rest = targets[0], targets[1], targets[2], targets[3:]
        g = -self.pull
        g[low] += at_low / (x[low] - self.lower[low])
        g[up] -= at_up / (self.upper[up] - x[up])
        moved = np.zeros(len(self.blocks))
        split: list[list[np.ndarray]] = []
        for i, block in enumerate(self.blocks):
            own, rest = rest[: len(block.pairs())], rest[len(block.pairs()) :]
            split.append(own)
            more, moved[i] = block.rhs(own)
            g = g + more
        r = np.concatenate([-self.miss_equal, -self.miss_limit - at_limit / self.lam - self.coef[:, 1:].T @ moved])
        dx, dm = self._condensed(g, r)
        k = len(p.level)
        dlam = dm[k:]
        step = Step(dx, p.ops.push(dx[: self.n_assets]))
        dslack = (at_limit - self.slack * dlam) / self.lam
        steps: list[Pair] = [
            (dx[low], (at_low - self.low_dual[low] * dx[low]) / (x[low] - self.lower[low])),
            (-dx[up], (at_up + self.up_dual[up] * dx[up]) / (self.upper[up] - x[up])),
            (dslack, dlam),
        ]
        domega = self.coef[:, 1:] @ dlam
        for block, own, change in zip(self.blocks, split, domega):
            steps += block.recover(step, float(change), own)
        return step, dm[:k], steps

    def advance(self, rough: bool, early: bool = False) -> float:
        """One predictor-corrector step; returns its length."""
        self.rough, self.early = rough and self.tame, early and self.tame
        self._factor(rough)
        pairs = self.pairs()
        count = sum(s.size for s, _ in pairs)
        mu = self.gap() / max(count, 1)
        _, _, ahead = self._direction([-s * y for s, y in pairs])
        primal, dual = min(1.0, _longest(pairs, ahead, 0)), min(1.0, _longest(pairs, ahead, 1))
        if not self.split:
            primal = dual = min(primal, dual)
        after = sum((s + primal * ds) @ (y + dual * dy) for (s, y), (ds, dy) in zip(pairs, ahead)) / max(count, 1)
        sigma = min(1.0, max(after / mu, 0.0) ** 3) if mu > 0 else 0.0
        second = 1.0 if not self.bends else primal * dual  # the corrector is worth what the predictor reached
        targets = [sigma * mu - s * y - second * ds * dy for (s, y), (ds, dy) in zip(pairs, ahead)]
        step, dnu, steps = self._direction(targets)
        keep = 1.0 - max(1e-3, min(0.1, mu)) if not self.bends else 0.95
        primal, dual = min(1.0, keep * _longest(pairs, steps, 0)), min(1.0, keep * _longest(pairs, steps, 1))
        if not self.split:
            primal = dual = min(primal, dual)
        if self.bends:
            reach = min(block.reach(self.it, step) for block in self.blocks)
            primal = dual = min(primal, 0.9 * reach)
            return self._careful(step, dnu, steps, primal)
        self._take(step, dnu, steps, primal, dual)
        return max(primal, dual)

    def _take(self, step: Step, dnu: np.ndarray, steps: list[Pair], primal: float, dual: float) -> None:
        it = self.it
        self.it = Iterate(it.x + primal * step.dx, it.rho + primal * step.drho, it.n_assets)
        self.nu = self.nu + dual * dnu
        self.low_dual, self.up_dual = self.low_dual.copy(), self.up_dual.copy()
        self.low_dual[self.has_low] += dual * steps[0][1]
        self.up_dual[self.has_up] += dual * steps[1][1]
        self.slack = self.slack + primal * steps[2][0]
        self.lam = self.lam + dual * steps[2][1]
        for block in self.blocks:
            block.move(primal, dual)

    def _merit(self) -> float:
        return float(np.linalg.norm(self.pull) + self.primal_residual + self.gap())

    def _careful(self, step: Step, dnu: np.ndarray, steps: list[Pair], length: float) -> float:
        """Take the step, halved until curvature no longer throws it off."""
        before = self._merit()
        names = ("it", "nu", "low_dual", "up_dual", "slack", "lam")
        saved = {name: getattr(self, name) for name in names}
        blocks = [copy.copy(block) for block in self.blocks]
        for _ in range(12):
            self._take(step, dnu, steps, length, length)
            self.look()
            if self._merit() <= 2.0 * before:
                break
            length *= 0.5
            for name, value in saved.items():
                setattr(self, name, value)
            self.blocks = [copy.copy(block) for block in blocks]
            self.p.blocks = self.blocks
        return length

    # ---- leaving
    def outcome(self, iteration: int, trace: list[tuple[float, ...]]) -> Outcome:
        return Outcome(self.it.w.copy(), self.objective, self.bound(), False, iteration, False, trace)

    def bound(self) -> float:
        """A number that no portfolio within the box can go below: weak duality with a linear minorant a block."""
        p, lam = self.p, np.maximum(self.lam, 0.0)
        beta = p.linear[0] + lam @ p.linear[1:] + self.nu @ p.matrix
        alpha = -float(lam @ p.limits) - float(self.nu @ p.level)
        for block, omega in zip(self.blocks, self.omegas):
            more, slope = block.minorant(self.it, float(omega))
            alpha, beta = alpha + more, beta + slope
        reach = 100.0 * max(1.0, float(np.abs(self.it.w).max()))  # where nothing bounds a weight
        low, up = np.maximum(p.box[0], -reach), np.minimum(p.box[1], reach)
        with np.errstate(invalid="ignore"):
            least = np.where(beta > 0, beta * low, np.where(beta < 0, beta * up, 0.0))
        return alpha + float(least.sum())


def _cholesky(hessian: np.ndarray) -> tuple[np.ndarray, bool]:
    """Cholesky factor, with the least regularisation that makes it exist."""
    size = float(np.abs(hessian.diagonal()).max())
    for shift in (0.0, 1e-14, 1e-12, 1e-10, 1e-8):
        try:
            return cho_factor(
                hessian + shift * size * np.eye(len(hessian)) if shift else hessian, lower=True, check_finite=False
            )
        except LinAlgError:
            continue
    raise LinAlgError("curvature is not positive definite")


def _inside(p: Program, start: np.ndarray | None) -> np.ndarray:
    """Weights strictly within the bounds, as near to the equalities as an oblique projection takes them."""
    low, up = p.lower, p.upper
    n = len(low)
    reach = 1.0 / n
    both = np.isfinite(low) & np.isfinite(up)
    narrow = both & (np.where(both, up, 0.0) - np.where(both, low, 0.0) < 4 * reach)
    middle = np.minimum(np.maximum(0.0, low + reach), up - reach)
    middle[narrow] = 0.5 * (low[narrow] + up[narrow])
    w = middle if start is None else 0.9 * np.clip(start, low, up) + 0.1 * middle
    if not len(p.level):
        return w
    room = np.minimum(np.minimum(w - low, up - w), 1.0) ** 2
    weighted = p.matrix * room
    change = weighted.T @ np.linalg.lstsq(weighted @ p.matrix.T, p.level - p.matrix @ w, rcond=None)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(change < 0, (low - w) / change, np.where(change > 0, (up - w) / change, np.inf))
    return w + min(1.0, 0.9 * float(np.nanmin(ratio))) * change
