"""A quadratic programme as a layer of a network: solved by an interior point, differentiated through its optimality.

    minimise  x'Qx / 2 + q'x   subject to   G x <= h,  A x = b

The gradient does not unroll the solver: at the solution the KKT conditions define x implicitly, and one linear system
gives the derivative with respect to every datum (Amos and Kolter, 2017, "OptNet").
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from foliocast.core.errors import SolverError

STEPS = 60
ACCURACY = 1e-10


class Programme(NamedTuple):
    """A batch of programmes, float64, first axis the batch.

    ``Q`` (batch, n, n) positive definite, ``q`` (batch, n), ``G`` (batch, m, n), ``h`` (batch, m), ``A`` (batch, p, n),
    ``b`` (batch, p).
    """

    Q: Tensor
    q: Tensor
    G: Tensor
    h: Tensor
    A: Tensor
    b: Tensor


class Solution(NamedTuple):
    """Primal ``x``, slacks ``s = h - Gx``, and the multipliers of the inequalities and equalities."""

    x: Tensor
    slack: Tensor
    inequality: Tensor
    equality: Tensor


def solve_qp(programme: Programme) -> Tensor:
    """Solutions, (batch, n), differentiable with respect to all six data.

    Raises
    ------
    SolverError
        A programme without an interior, or not convex.
    """
    return _Layer.apply(*programme)


def interior_point(p: Programme) -> Solution:
    """Mehrotra's predictor-corrector on a batch of programmes; residuals and gap below 1e-10 of their scale."""
    batch, n, m = p.q.shape[0], p.q.shape[1], p.h.shape[1]
    x, y = p.q.new_zeros(batch, n), p.q.new_zeros(batch, p.b.shape[1])
    s = torch.clamp(p.h - _times(p.G, x), min=1.0)
    z = torch.ones_like(s)
    scale = 1.0 + torch.stack([part.abs().amax(dim=1) for part in (p.q, p.h, p.b)]).amax(dim=0)
    for _ in range(STEPS):
        dual = _times(p.Q, x) + p.q + _back(p.G, z) + _back(p.A, y)
        primal, equal = _times(p.G, x) + s - p.h, _times(p.A, x) - p.b
        gap = (s * z).mean(dim=1)
        worst = torch.stack([r.abs().amax(dim=1) for r in (dual, primal, equal, gap[:, None])]).amax(dim=0)
        open_ = ~(worst < ACCURACY * scale)
        if not open_.any():
            return Solution(x, s, z, y)
        if not torch.isfinite(worst).all():
            break
        factor = _factor(p, z / s)
        dx, ds, dz, _ = _direction(p, factor, (dual, primal, equal, s * z), s, z)
        step = _longest(s, ds, z, dz)
        ahead = ((s + step * ds) * (z + step * dz)).mean(dim=1)
        centre = (ahead / gap) ** 3 * gap
        corrected = s * z + ds * dz - centre[:, None]
        dx, ds, dz, dy = _direction(p, factor, (dual, primal, equal, corrected), s, z)
        step = torch.where(open_[:, None], 0.995 * _longest(s, ds, z, dz), 0.0)  # what is solved is left alone
        moves = zip((x, s, z, y), (dx, ds, dz, dy))
        x, s, z, y = (torch.where(open_[:, None], value + step * move, value) for value, move in moves)
    raise SolverError(
        f"no solution of {batch} quadratic programmes in {n} variables and {m} inequalities after {STEPS} steps: "
        "the constraints leave no interior, or an input is not finite; widen the bounds or check the features"
    )


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[:, :, None])[:, :, 0]


def _back(matrix: Tensor, vector: Tensor) -> Tensor:
    return (vector[:, None, :] @ matrix)[:, 0]


def _factor(p: Programme, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """LU factors of the reduced KKT matrix [[Q + G' D G, A'], [A, 0]]."""
    n, k = p.q.shape[1], p.b.shape[1]
    matrix = p.q.new_zeros(len(p.q), n + k, n + k)
    matrix[:, :n, :n] = p.Q + p.G.transpose(1, 2) @ (ratio[:, :, None] * p.G)
    matrix[:, :n, n:] = p.A.transpose(1, 2)
    matrix[:, n:, :n] = p.A
    lu, pivots, _ = torch.linalg.lu_factor_ex(matrix)
    return lu, pivots


def _solve(factor: tuple[Tensor, Tensor], right: Tensor) -> Tensor:
    return torch.linalg.lu_solve(*factor, right[:, :, None])[:, :, 0]


def _direction(
    p: Programme, factor: tuple[Tensor, Tensor], residuals: tuple[Tensor, Tensor, Tensor, Tensor], s: Tensor, z: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Newton step of x, s, z, y for the residuals of dual, primal, equality and complementarity."""
    dual, primal, equal, complement = residuals
    top = -dual + _back(p.G, (complement - z * primal) / s)
    both = _solve(factor, torch.cat([top, -equal], dim=1))
    dx, dy = both[:, : p.q.shape[1]], both[:, p.q.shape[1] :]
    ds = -primal - _times(p.G, dx)
    return dx, ds, (-complement - z * ds) / s, dy


def _longest(s: Tensor, ds: Tensor, z: Tensor, dz: Tensor) -> Tensor:
    """Largest step to one that keeps slacks and multipliers positive, (batch, 1)."""
    values, moves = torch.cat([s, z], dim=1), torch.cat([ds, dz], dim=1)
    limits = torch.where(moves < 0, -values / moves, torch.inf)
    return limits.amin(dim=1, keepdim=True).clamp(max=1.0)


class _Layer(torch.autograd.Function):
    """Forward: interior point. Backward: one solve with the KKT matrix at the solution."""

    @staticmethod
    def forward(ctx: Any, *data: Tensor) -> Tensor:
        found = interior_point(Programme(*data))
        ctx.save_for_backward(*data, *found)
        return found.x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        p, found = Programme(*ctx.saved_tensors[:6]), Solution(*ctx.saved_tensors[6:])
        ratio = found.inequality / found.slack
        right = torch.cat([-gradient, torch.zeros_like(p.b)], dim=1)
        both = _solve(_factor(p, ratio), right)
        dx, dy = both[:, : p.q.shape[1]], both[:, p.q.shape[1] :]
        dz = ratio * _times(p.G, dx)  # multiplier times its own change
        return (
            0.5 * (_outer(dx, found.x) + _outer(found.x, dx)),
            dx,
            _outer(dz, found.x) + _outer(found.inequality, dx),
            -dz,
            _outer(dy, found.x) + _outer(found.equality, dx),
            -dy,
        )


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a[:, :, None] * b[:, None, :]
