"""From scores to weights: every way a network may end in a portfolio, each differentiable.

All heads take scores (batch, asset) and a mask of who may be held, and give weights that are zero elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foliocast.core.errors import ConfigError
from foliocast.models.allocator.qp import Programme, solve_qp

HEADS = ("softmax", "sparsemax", "long_short", "mean_variance", "cvar")
LAYERS = ("mean_variance", "cvar")  # those that solve a programme on past returns
REFUSED = 10.0  # cost per unit of weight that keeps an asset out of a programme
EDGE = 0.1  # a score of one means an expected return of a tenth of the volatility


@dataclass(frozen=True)
class Rules:
    """What a portfolio must look like.

    Parameters
    ----------
    head : one of `HEADS`
    gross : float
        Sum of absolute weights: exactly this for long-only heads without cash, at most this for "long_short".
    cash : bool
        Long-only heads may hold cash as well.
    max_weight : float
        Of an asset, in the heads that solve a programme.
    risk_aversion, level : float
        Of the programme: mean less ``risk_aversion`` / 2 times variance; CVaR at ``level``.
    """

    head: str = "softmax"
    gross: float = 1.0
    cash: bool = False
    max_weight: float = 1.0
    risk_aversion: float = 5.0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ConfigError(f"head = {self.head!r} does not exist; choose from {', '.join(HEADS)}")
        if self.gross <= 0 or self.risk_aversion < 0 or not 0 < self.level < 1 or not 0 < self.max_weight <= 1:
            raise ConfigError(
                f"gross = {self.gross}, risk_aversion = {self.risk_aversion}, level = {self.level}, max_weight = "
                f"{self.max_weight}: gross must be positive, risk_aversion not negative, the others within (0, 1)"
            )


def weigh(scores: Tensor, mask: Tensor, rules: Rules, history: Tensor | None = None) -> Tensor:
    """Weights (batch, asset) from scores (batch, asset).

    Parameters
    ----------
    history : Tensor, shape (batch, scenario, asset), optional
        Past returns per bar; the heads in `LAYERS` take their covariance and their scenarios from it.
    """
    if rules.head == "long_short":
        return capped(torch.where(mask, scores, 0.0), rules.gross)
    if rules.head in LAYERS:
        if history is None:
            raise ConfigError(f"head = {rules.head!r} needs past returns to take its risk from")
        layer = mean_variance if rules.head == "mean_variance" else minimum_cvar
        return rules.gross * layer(scores, mask, history, rules)
    logits = torch.where(mask, scores, -1e9)
    if rules.cash:
        logits = torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)
    spread = torch.softmax(logits, dim=1) if rules.head == "softmax" else project(logits)
    return rules.gross * torch.where(mask, spread[:, : scores.shape[1]], 0.0)


def capped(weights: Tensor, gross: float) -> Tensor:
    """Weights scaled down to a sum of absolute values of at most ``gross``."""
    total = weights.abs().sum(dim=1, keepdim=True)
    return weights * (gross / total.clamp(min=gross))


def project(points: Tensor) -> Tensor:
    """Nearest point of the simplex (sparsemax; Martins and Astudillo, 2016): weights that can be exactly zero."""
    ordered, _ = torch.sort(points, dim=1, descending=True)
    count = torch.arange(1, points.shape[1] + 1, dtype=points.dtype, device=points.device)
    excess = (torch.cumsum(ordered, dim=1) - 1.0) / count
    kept = (ordered > excess).sum(dim=1, keepdim=True)
    return torch.clamp(points - excess.gather(1, kept - 1), min=0.0)


def mean_variance(scores: Tensor, mask: Tensor, history: Tensor, rules: Rules) -> Tensor:
    """argmax of m'w - risk_aversion / 2 w'Cw over 0 <= w <= max_weight, sum w = 1; m is read from the scores."""
    past, allowed = history.double(), mask.to(torch.float64)
    spread = _volatility(past)
    covariance = _shrunk(past) * allowed[:, :, None] * allowed[:, None, :]
    curvature = rules.risk_aversion * covariance + torch.diag_embed(1e-6 + (1.0 - allowed))
    expected = EDGE * scores.double() * spread
    linear = torch.where(mask, -expected, REFUSED)
    return _clean(solve_qp(_within_bounds(curvature, linear, rules.max_weight)), mask).to(scores.dtype)


def minimum_cvar(scores: Tensor, mask: Tensor, history: Tensor, rules: Rules) -> Tensor:
    """argmin of the CVaR of predicted scenarios over 0 <= w <= max_weight, sum w = 1 (Rockafellar and Uryasev, 2000).

    The scenarios are the past returns, moved to the mean that the scores say. A ridge of 1e-3 makes the linear
    programme strictly convex, so that its solution has a derivative.
    """
    past = history.double()
    moved = past - past.mean(dim=1, keepdim=True) + (EDGE * scores.double() * _volatility(past))[:, None, :]
    batch, n_scenarios, n = moved.shape
    allowed = mask.to(torch.float64)
    moved = 100.0 * moved * allowed[:, None, :]  # in percent: numbers near one
    tail = 1.0 / ((1.0 - rules.level) * n_scenarios)
    ridge = torch.full((batch, n + 1 + n_scenarios), 1e-3, dtype=torch.float64)
    ridge[:, :n] += 1.0 - allowed
    linear = torch.full_like(ridge, tail)
    linear[:, :n], linear[:, n] = torch.where(mask, 0.0, 5.0 * REFUSED).double(), 1.0
    eye = torch.eye(n_scenarios, dtype=torch.float64).expand(batch, -1, -1)
    nothing = moved.new_zeros(batch, n_scenarios, n + 1)
    ones = moved.new_ones(batch, n_scenarios, 1)
    beyond = torch.cat([-moved, -ones, -eye], dim=2)  # loss - level - excess <= 0
    positive = torch.cat([nothing, -eye], dim=2)
    bounds = torch.zeros(batch, 2 * n, n + 1 + n_scenarios, dtype=torch.float64)
    bounds[:, :n, :n], bounds[:, n:, :n] = -torch.eye(n), torch.eye(n)
    largest = moved.new_full((batch, n), max(rules.max_weight, 1.0 / n + 1e-6))
    limits = torch.cat([moved.new_zeros(batch, 2 * n_scenarios + n), largest], dim=1)
    budget = torch.zeros(batch, 1, n + 1 + n_scenarios, dtype=torch.float64)
    budget[:, 0, :n] = 1.0
    constraints = torch.cat([beyond, positive, bounds], dim=1)
    programme = Programme(torch.diag_embed(ridge), linear, constraints, limits, budget, moved.new_ones(batch, 1))
    return _clean(solve_qp(programme)[:, :n], mask).to(scores.dtype)


def _within_bounds(curvature: Tensor, linear: Tensor, largest: float) -> Programme:
    batch, n = linear.shape
    eye = torch.eye(n, dtype=linear.dtype).expand(batch, -1, -1)
    limits = torch.cat([linear.new_zeros(batch, n), linear.new_full((batch, n), max(largest, 1.0 / n + 1e-6))], dim=1)
    scale = 1e3  # daily returns are small numbers: the solver sees parts in a thousand
    return Programme(
        scale * curvature,
        scale * linear,
        torch.cat([-eye, eye], dim=1),
        limits,
        linear.new_ones(batch, 1, n),
        linear.new_ones(batch, 1),
    )


def _clean(weights: Tensor, mask: Tensor) -> Tensor:
    """Without the rounding of the solver below zero, and none in assets that may not be held."""
    kept = torch.where(mask, weights.clamp(min=0.0), 0.0)
    return kept / kept.sum(dim=1, keepdim=True).clamp(min=1e-12)


def _volatility(past: Tensor) -> Tensor:
    return past.std(dim=1).clamp(min=1e-5)


def _shrunk(past: Tensor, share: float = 0.2) -> Tensor:
    """Covariance of past returns, its correlations shrunk by a fifth."""
    centred = past - past.mean(dim=1, keepdim=True)
    covariance = centred.transpose(1, 2) @ centred / (past.shape[1] - 1)
    return (1.0 - share) * covariance + share * torch.diag_embed(torch.diagonal(covariance, dim1=1, dim2=2))
