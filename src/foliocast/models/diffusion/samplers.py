"""Samplers: plain functions of a denoiser, a noisy start, falling noise levels and a source of noise.

Each takes ``(denoiser, x, sigmas, context, generator)`` and returns x at the last level (zero). Two ways to run:

*Textbook*, when the context carries no prior: DDPM (Ho et al. 2020), DDIM (Song et al. 2021), DPM-Solver++(2M)
(Lu et al. 2022), Heun (Karras et al. 2022).

*Exact in the Gaussian part*, when it does: with a `GaussianPrior` the denoiser is ``D = W x + P^(1/2) F`` and the
probability-flow ODE is ``du = -F d(angle)`` for the whitened window u and the angle of each eigen-direction. The
linear part then costs no accuracy at all: for Gaussian data (F = 0) a single step has exactly the right law, and the
number of steps only has to resolve what the network adds. DDPM gets the posterior covariance P that the mean alone
leaves out, and is exact likewise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from foliocast.core.errors import ConfigError
from foliocast.models.diffusion.preconditioning import NOTHING, Context, Denoiser, GaussianPrior

Sampler = Callable[..., Tensor]


@torch.no_grad()
def ddpm(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    context: Context = NOTHING,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Ancestral sampling. The stride between levels may be any: the posterior is that of the stride."""
    prior = context.prior
    for here, there in _pairs(sigmas):
        x0 = denoiser(x, here, context)
        keep = (there / here) ** 2
        mean = x0 + keep * (x - x0)
        # Var(x0 | x) is not zero: without it the sample loses variance whenever the stride is long. Without a prior
        # it is that of unit-variance data, the "fixed large" choice of Ho et al.
        noise = _noise(x, generator)
        error = here / (1 + here**2) ** 0.5 * noise if prior is None else prior.spread(noise, here)
        mean = mean + (1 - keep) * error
        x = mean + there * (1 - keep) ** 0.5 * _noise(x, generator) if there > 0 else mean
    return x


@torch.no_grad()
def ddim(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    context: Context = NOTHING,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Deterministic first-order steps of the probability-flow ODE."""
    prior = context.prior
    for here, there in _pairs(sigmas):
        x0 = denoiser(x, here, context)
        if prior is None:
            x = x0 + (there / here) * (x - x0)
        else:
            u, f = _departure(prior, x, x0, here)
            x = prior.colour(u + prior.along(f, prior.angle(here) - prior.angle(there)), there)
    return x


@torch.no_grad()
def dpm_solver(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    context: Context = NOTHING,
    generator: torch.Generator | None = None,
) -> Tensor:
    """DPM-Solver++(2M): second order at one evaluation a step, from the previous evaluation."""
    return _exact_2m(denoiser, x, sigmas, context) if context.prior is not None else _plain_2m(denoiser, x, sigmas)


@torch.no_grad()
def heun(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    context: Context = NOTHING,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Second order at two evaluations a step (the last step, into zero, is first order)."""
    prior = context.prior
    for here, there in _pairs(sigmas):
        first = ddim(denoiser, x, torch.tensor([here, there], dtype=torch.float64), context)
        if there == 0:
            return first
        x0, x1 = denoiser(x, here, context), denoiser(first, there, context)
        if prior is None:
            x = x + (there - here) / 2 * ((x - x0) / here + (first - x1) / there)
        else:
            u, f0 = _departure(prior, x, x0, here)
            _, f1 = _departure(prior, first, x1, there)
            x = prior.colour(u + prior.along((f0 + f1) / 2, prior.angle(here) - prior.angle(there)), there)
    return x


def resampled(sampler: Sampler, rounds: int) -> Sampler:
    """RePaint (Lugmayr et al. 2022): take every step ``rounds`` times, noising back in between.

    Harmonises given and generated entries for denoisers that were not trained with masks; one round is the sampler.
    """
    if rounds < 1:
        raise ConfigError(f"resampling rounds = {rounds}: expected at least 1")

    @torch.no_grad()
    def run(
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        context: Context = NOTHING,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        for here, there in _pairs(sigmas):
            step = torch.tensor([here, there], dtype=torch.float64)
            for left in range(rounds - 1, -1, -1):
                moved = sampler(denoiser, x, step, context, generator)
                x = moved + (here**2 - there**2) ** 0.5 * _noise(x, generator) if left else moved
        return x

    return run


SAMPLERS: dict[str, Sampler] = {"ddpm": ddpm, "ddim": ddim, "dpm": dpm_solver, "heun": heun}


def sampler_named(name: str) -> Sampler:
    """One of `SAMPLERS` by name."""
    if name not in SAMPLERS:
        raise ConfigError(f"sampler {name!r} unknown: expected one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def _plain_2m(denoiser: Denoiser, x: Tensor, sigmas: Tensor) -> Tensor:
    previous: tuple[Tensor, float] | None = None
    for here, there in _pairs(sigmas):
        x0 = denoiser(x, here, NOTHING)
        blend = x0
        if previous is not None and there > 0:
            # Extrapolate in log sigma, the variable in which DPM-Solver's integrals are closed.
            ratio = math.log(previous[1] / here) / math.log(here / there)
            blend = (1 + 1 / (2 * ratio)) * x0 - 1 / (2 * ratio) * previous[0]
        x = blend + (there / here) * (x - blend)
        previous = (x0, here)
    return x


def _exact_2m(denoiser: Denoiser, x: Tensor, sigmas: Tensor, context: Context) -> Tensor:
    prior = context.prior
    assert prior is not None
    before: tuple[Tensor, Tensor] | None = None
    for here, there in _pairs(sigmas):
        u, f = _departure(prior, x, denoiser(x, here, context), here)
        stride = prior.angle(here) - prior.angle(there)
        if before is None:
            move = prior.along(f, stride)
        else:  # Adams-Bashforth with unequal strides, in every eigen-direction's own angle
            slope = stride * torch.where(before[1] > 0, stride / before[1].clamp(min=1e-12) / 2, 0.0)
            move = prior.along(f, stride + slope) - prior.along(before[0], slope)
        x = prior.colour(u + move, there)
        before = (f, stride)
    return x


def _departure(prior: GaussianPrior, x: Tensor, x0: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Whitened window and the network's part of the denoiser there."""
    return prior.whiten(x, sigma), prior.unspread(x0 - prior.wiener(x, sigma), sigma)


def _pairs(sigmas: Tensor) -> list[tuple[float, float]]:
    levels: list[Any] = sigmas.tolist()
    return list(pairwise(levels))


def _noise(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
