"""Guidance: wrap a denoiser, get a denoiser.

Three ways to steer: classifier-free guidance (towards a state), inpainting (entries of the window are given), and
path totals (a weighted sum over time is given). The last two are exact for the Gaussian part: with ``P`` the
covariance of the clean window given the noisy one,

    E[x0 | x, A x0 = b] = D + P A' (A P A')^-1 (b - A D)

holds for Gaussian data, and D may be any denoiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from foliocast.models.diffusion.preconditioning import Context, Denoiser, GaussianPrior
from foliocast.models.diffusion.process import per_sample


@dataclass(frozen=True)
class ClassifierFree:
    """Ho & Salimans (2021): move ``scale`` times the way from the denoiser without the state to the one with it.

    Parameters
    ----------
    denoiser : Denoiser
        Trained with the state dropped at random.
    scale : float
        1 is the plain conditional denoiser, 0 the unconditional one, above 1 exaggerates the state.
    free : Context, optional
        What is known when the condition is not; default: the context without its state.
    """

    denoiser: Denoiser
    scale: float = 1.0
    free: Context | None = None

    def __call__(self, x: Tensor, sigma: Tensor | float, context: Context) -> Tensor:
        if self.scale == 1.0 or context.state is None:
            return self.denoiser(x, sigma, context)
        free = self.denoiser(x, sigma, replace(context, state=None) if self.free is None else self.free)
        return free + self.scale * (self.denoiser(x, sigma, context) - free)


@dataclass(frozen=True)
class Inpaint:
    """Condition a denoiser that has never seen a mask on given entries, by the Gaussian posterior.

    Parameters
    ----------
    denoiser : Denoiser
    prior : GaussianPrior
        Unconditional law of a row: one covariance for all bars.
    known : Tensor of bool, shape (time, asset)
    values : Tensor, shape (batch or 1, time, asset)
    """

    denoiser: Denoiser
    prior: GaussianPrior
    known: Tensor
    values: Tensor

    def __call__(self, x: Tensor, sigma: Tensor | float, context: Context) -> Tensor:
        d = self.denoiser(x, sigma, replace(context, prior=self.prior))
        out = d.clone()
        error = posterior_covariance(self.prior, sigma)
        for pattern in torch.unique(self.known[self.known.any(dim=1)], dim=0):
            rows = (self.known == pattern).all(dim=1)
            miss = (self.values - d)[:, rows][..., pattern]
            out[:, rows] = d[:, rows] + _respond(error, pattern, miss)
        return torch.where(self.known, self.values.to(x.dtype), out)


@dataclass(frozen=True)
class PathTotal:
    """Condition on sums over time, ``sum_t a_t x_ti = b_i`` for some assets i, in coordinates turned in time.

    The sampler runs on ``turn @ window`` with an orthogonal matrix whose first row is a / |a|: there the sum is the
    first row, its conditional Gaussian law is an ordinary mask, and a sampler that is exact in the Gaussian part stays
    so. Build with `path_total`.
    """

    denoiser: Denoiser
    inner: Context
    turn: Tensor
    assets: Tensor
    target: Tensor

    def __call__(self, x: Tensor, sigma: Tensor | float, context: Context) -> Tensor:
        assert self.inner.prior is not None
        d = self.turn @ self.denoiser(self.turn.T @ x, sigma, self.inner)
        error = posterior_covariance(self.inner.prior, sigma)
        d[:, 0] += _respond(error, self.assets, self.target - d[:, 0][:, self.assets])
        return d


def path_total(
    denoiser: Denoiser, context: Context, weights: Tensor, assets: Tensor, totals: Tensor
) -> tuple[Denoiser, Context, Callable[[Tensor], Tensor]]:
    """A denoiser in turned coordinates, the context to sample it with, and the way back.

    Parameters
    ----------
    denoiser : Denoiser
    context : Context
        With an unconditional prior, or one whose known assets are known at every bar.
    weights : Tensor, shape (time,)
    assets : Tensor of bool, shape (asset,)
        Whose sums are given.
    totals : Tensor, shape (batch or 1, len(assets given))
    """
    prior = context.prior
    assert prior is not None
    turn = _turn(weights)
    n_time = len(weights)
    target = totals / weights.norm()
    known = torch.zeros(n_time, len(assets), dtype=torch.bool)
    known[0] = assets
    mean = turn @ prior.mean.expand(prior.mean.shape[0], n_time, -1)
    values = mean.expand(max(len(mean), len(target)), -1, -1).clone()
    values[:, 0, assets] = target
    turned = replace(prior, mean=mean).given(known, values)
    guided = PathTotal(denoiser, context, turn, assets, target)
    return guided, Context(prior=turned), lambda x: turn.T @ x


def posterior_covariance(prior: GaussianPrior, sigma: Tensor | float) -> Tensor:
    """Covariance of a clean row given the noisy one, (batch or 1, asset, asset)."""
    v = per_sample(sigma, prior.values) ** 2
    diagonal = (prior.values * v / (prior.values + v))[:, 0]
    vectors = prior.vectors[:, 0]
    return vectors @ (diagonal[..., None] * vectors.mT)


def _respond(error: Tensor, known: Tensor, miss: Tensor) -> Tensor:
    """``P_.K P_KK^-1 miss`` for misses (batch, [time,] known)."""
    across = torch.linalg.solve(error[:, known][:, :, known], error[:, known])
    return (miss.unsqueeze(-2) @ (across if miss.ndim == 2 else across.unsqueeze(1))).squeeze(-2)


def _turn(weights: Tensor) -> Tensor:
    """Orthogonal matrix with first row ``weights / |weights|`` (a Householder reflection)."""
    first = weights / weights.norm()
    axis = first.clone()
    axis[0] -= 1
    eye = torch.eye(len(weights), dtype=weights.dtype)
    size = axis @ axis
    return eye - 2 * torch.outer(axis, axis) / size if size > 1e-12 else eye
