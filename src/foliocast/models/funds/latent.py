"""Latent diffusion of portfolios: an MLP denoiser with cross-attention over condition tokens.

The latent is that of `vae.HoldingsVAE`, with the (scaled) number of holdings and top weight beside it. Let m(c) be
what `conditions.Tower` expects of it for a condition c: the latent of the mean portfolio, and the expected shape. What
is diffused is ``x = (z - m(c)) / scale``; the denoiser is preconditioned as in Karras et al. (2022) with unit data
variance, so that a network that returns zero stands for N(m(c), scale^2). Sampling starts from
noise and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foliocast.models.diffusion.preconditioning import EDM, NOTHING, Context
from foliocast.models.diffusion.process import karras_sigmas, per_sample
from foliocast.models.diffusion.samplers import sampler_named
from foliocast.models.funds.conditions import N_TOKENS, ConditionTokens

HEADS = 8


class _Block(nn.Module):
    """Adaptive layer norm by the noise level, an MLP, cross-attention of eight slices of the state; both residual."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.norm, self.norm2 = (nn.LayerNorm(hidden, elementwise_affine=False) for _ in range(2))
        self.modulate = nn.Linear(128, 3 * hidden)
        self.mlp = nn.Sequential(
            nn.Linear(hidden, 2 * hidden), nn.SiLU(), nn.Dropout(0.1), nn.Linear(2 * hidden, hidden)
        )
        self.query = nn.Linear(hidden // HEADS, width)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Linear(HEADS * width, hidden)
        self.place = nn.Parameter(torch.randn(HEADS, width) * 0.5)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, h: Tensor, level: Tensor, tokens: Tensor) -> Tensor:
        scale, shift, gate = self.modulate(level).chunk(3, dim=-1)
        h = h + (1 + gate) * self.mlp(self.norm(h) * (1 + scale) + shift)
        slices = self.norm2(h).unflatten(-1, (HEADS, -1))
        query = self.query(slices) + self.place
        attended = nn.functional.scaled_dot_product_attention(query, self.key(tokens), self.value(tokens))
        return h + self.out(attended.flatten(1))


class LatentNetwork(nn.Module):
    """``(u, level, words, numbers, m) -> F``, all in standardised latents (portfolio, latent)."""

    def __init__(self, latent: int, sizes: Sequence[int], hidden: int = 512, width: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.tokens = ConditionTokens(sizes, width)
        self.place = nn.Parameter(torch.randn(N_TOKENS, width) * 0.2)
        self.enter, self.mean = nn.Linear(latent, hidden), nn.Linear(latent, hidden)
        self.level = nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        self.blocks = nn.ModuleList(_Block(hidden, width) for _ in range(blocks))
        self.leave = nn.Linear(hidden, latent)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, u: Tensor, sigma: Tensor, words: Tensor, numbers: Tensor, mean: Tensor) -> Tensor:
        tokens = self.tokens(words, numbers) + self.place
        level = self.level(_waves(sigma.reshape(-1).expand(len(u)).log() / 4.0))
        h = self.enter(u) + self.mean(mean)
        for block in self.blocks:
            h = block(h, level, tokens)
        return self.leave(h)


def _waves(x: Tensor) -> Tensor:
    """Sines and cosines at 32 frequencies from 1/4 to 16 of the logarithmic noise level."""
    frequency = torch.exp(torch.linspace(math.log(0.25), math.log(16.0), 32, device=x.device))
    phase = 2 * math.pi * x[:, None] * frequency
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


def denoise(
    network: LatentNetwork, x: Tensor, sigma: Tensor | float, words: Tensor, numbers: Tensor, mean: Tensor
) -> Tensor:
    """Expected clean x given the noisy one."""
    level = per_sample(sigma, x)
    f = network(EDM.enter(x, level, NOTHING), torch.as_tensor(sigma, dtype=x.dtype), words, numbers, mean)
    return EDM.leave(x, f, level, NOTHING)


def latent_loss(
    network: LatentNetwork,
    x0: Tensor,
    sigma: Tensor,
    noise: Tensor,
    words: Tensor,
    numbers: Tensor,
    mean: Tensor,
    importance: Tensor,
    emphasis: Tensor,
) -> Tensor:
    """Mean squared error of F: every noise level counts alike."""
    level = per_sample(sigma, x0)
    x = x0 + level * noise
    f = network(EDM.enter(x, level, NOTHING), sigma, words, numbers, mean)
    return (((f - EDM.target(x, x0, level, NOTHING)) ** 2 * emphasis).mean(dim=1) * importance).mean()


@dataclass
class Guided:
    """A denoiser for the samplers: classifier-free guidance, and a record of what was believed at each level.

    Parameters
    ----------
    network : LatentNetwork
    words, numbers, mean : Tensor
        The condition, one row a sample.
    guidance : float
        1 is the conditional model, above 1 exaggerates the condition (Ho & Salimans 2021).
    """

    network: LatentNetwork
    words: Tensor
    numbers: Tensor
    mean: Tensor
    guidance: float = 1.0

    def __post_init__(self) -> None:
        self.believed: list[tuple[float, Tensor]] = []

    def __call__(self, x: Tensor, sigma: Tensor | float, context: Context = NOTHING) -> Tensor:
        x0 = denoise(self.network, x, sigma, self.words, self.numbers, self.mean)
        if self.guidance != 1.0:
            nothing = torch.zeros_like(self.words), torch.full_like(self.numbers, torch.nan)
            free = denoise(self.network, x, sigma, *nothing, self.mean)
            x0 = free + self.guidance * (x0 - free)
        self.believed.append((float(sigma), x0))
        return x0


@torch.no_grad()
def sample(denoiser: Guided, latent: int, steps: int, generator: torch.Generator, sampler: str = "dpm") -> Tensor:
    """Draw clean x from pure noise, (portfolio, latent)."""
    sigmas = karras_sigmas(steps, 0.03, 20.0)
    start = torch.randn(len(denoiser.words), latent, generator=generator) * float(sigmas[0])
    return sampler_named(sampler)(denoiser, start, sigmas, NOTHING, generator)
