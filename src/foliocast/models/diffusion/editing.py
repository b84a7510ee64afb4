"""Editing: noise a real sample part of the way, denoise it back. Nothing is edited at strength 0, all is new at 1.

SDEdit (Meng et al. 2022), used on stock factors by Gao et al. (2024, arXiv 2402.06656). The strength is the share T'/T
of the cosine schedule, on which signal turns into noise at constant angular speed: ``sigma = tan(strength * pi / 2)``.
For data N(m, C) and an exact denoiser, ancestral sampling back from there draws from the posterior, so that with
``W = C (C + s^2 I)^-1`` the edited sample is

    x' | x ~ N(m + W (x - m), W s^2 W' + s^2 W),    cov(x') = C,    cov(x', x) = W C.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from foliocast.core.errors import ConfigError
from foliocast.models.diffusion.preconditioning import Context, Denoiser
from foliocast.models.diffusion.process import add_noise, angle_sigmas
from foliocast.models.diffusion.samplers import Sampler

SIGMA_MAX = 200.0  # stands for infinite noise: a direction with 50 times the variance of a factor keeps 0.1 %


def level_of(strength: float) -> float:
    """Noise level at which an edit of that strength begins."""
    if not 0.0 <= strength <= 1.0:
        raise ConfigError(f"strength = {strength}: expected 0 (nothing is edited) to 1 (nothing is kept)")
    return min(math.tan(strength * math.pi / 2), SIGMA_MAX) if strength < 1.0 else SIGMA_MAX


def edit_sigmas(strength: float, steps: int) -> Tensor:
    """Noise levels from that of the strength to zero, evenly in the angle: (steps + 1,)."""
    if steps < 1:
        raise ConfigError(f"steps = {steps}: an edit needs at least one denoising step")
    top = level_of(strength)
    return angle_sigmas(steps, math.tan(math.atan(top) / max(steps, 2)), top)


def edit(
    denoiser: Denoiser,
    x0: Tensor,
    strength: float,
    context: Context,
    sampler: Sampler,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Samples (batch, time, asset) noised to the strength and denoised; at strength 0 they come back as they are."""
    if strength == 0.0:
        return x0.clone()
    sigmas = edit_sigmas(strength, steps)
    noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    return sampler(denoiser, add_noise(x0, sigmas[0], noise), sigmas, context, generator)


class RowNetwork(nn.Module):
    """A denoiser network over (batch, time, factor) for windows that are laid out as one row.

    As one row, (batch, 1, time * factor), a window has one covariance over all its bars and factors, and the Gaussian
    prior knows how a factor runs on from bar to bar. The network sees the window again; of the context only the state
    of the factors, (batch, factor, feature), which says which factor is which.
    """

    def __init__(self, network: nn.Module, length: int) -> None:
        super().__init__()
        self.network, self.length = network, length

    def forward(self, u: Tensor, sigma: Tensor, context: Context) -> Tensor:
        """u (batch, 1, time * factor) -> F of the same shape."""
        window = u.reshape(len(u), self.length, -1)
        return self.network(window, sigma, Context(state=context.state)).reshape(u.shape)
