"""The forward process and its noise levels.

Everything runs in variance-exploding coordinates, ``x = x0 + sigma * noise`` (Karras et al. 2022, *Elucidating the
design space of diffusion-based generative models*). A variance-preserving process (DDPM) with signal rate
``alpha_bar`` is the same process seen through ``x_vp = x / sqrt(1 + sigma^2)``, ``sigma^2 = (1 - alpha_bar) /
alpha_bar``; so one set of samplers serves both, and a schedule is nothing but a falling list of sigmas that ends
in zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from foliocast.core.errors import ConfigError


def cosine_alpha_bar(steps: int = 1000, offset: float = 0.008) -> Tensor:
    """Signal rates of the cosine schedule, (steps,), falling. Nichol & Dhariwal (2021), eq. 17, with beta <= 0.999."""
    t = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64)
    level = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    beta = (1 - level[1:] / level[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - beta, dim=0)


def sigma_of(alpha_bar: Tensor) -> Tensor:
    """Noise level of a variance-preserving process in the coordinates used here."""
    return torch.sqrt((1 - alpha_bar) / alpha_bar)


def cosine_sigmas(n_steps: int, training_steps: int = 1000) -> Tensor:
    """``n_steps`` noise levels spread over the *whole* cosine schedule, then zero: (n_steps + 1,).

    The first level is always the noisiest of the training schedule: 50 steps are 50 strides over all of it, not its
    last 50 steps.
    """
    if not 1 <= n_steps <= training_steps:
        raise ConfigError(f"steps = {n_steps}: a cosine schedule of {training_steps} steps takes 1 to {training_steps}")
    index = torch.linspace(training_steps - 1, 0, n_steps, dtype=torch.float64).round().long()
    return _with_zero(sigma_of(cosine_alpha_bar(training_steps))[index])


def karras_sigmas(n_steps: int, sigma_min: float = 0.01, sigma_max: float = 20.0, rho: float = 7.0) -> Tensor:
    """Noise levels of Karras et al. (2022), eq. 5, then zero: (n_steps + 1,)."""
    _check_range(n_steps, sigma_min, sigma_max)
    ramp = torch.linspace(0.0, 1.0, n_steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _with_zero((high + ramp * (low - high)) ** rho)


def angle_sigmas(n_steps: int, sigma_min: float = 0.01, sigma_max: float = 20.0) -> Tensor:
    """Noise levels evenly spread in the angle ``arctan(sigma)``, then zero: (n_steps + 1,).

    The natural clock of data of unit variance: there the probability-flow ODE turns signal into noise at constant
    angular speed (see `preconditioning.GaussianPrior`).
    """
    _check_range(n_steps, sigma_min, sigma_max)
    angle = torch.linspace(math.atan(sigma_max), math.atan(sigma_min), n_steps, dtype=torch.float64)
    return _with_zero(torch.tan(angle))


def training_sigmas(n: int, generator: torch.Generator, centre: float = -0.2, spread: float = 1.3) -> Tensor:
    """Log-normal noise levels for training, (n,); stratified, so that every batch sees the whole range."""
    uniform = (torch.arange(n) + torch.rand(n, generator=generator)) / n
    normal = math.sqrt(2.0) * torch.erfinv((2 * uniform - 1).clamp(-0.999999, 0.999999))
    return torch.exp(centre + spread * normal[torch.randperm(n, generator=generator)])


def add_noise(x0: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """``x0 + sigma * noise`` with sigma (batch,) or scalar and x0 (batch, time, asset)."""
    return x0 + per_sample(sigma, x0) * noise


def per_sample(sigma: Tensor | float, like: Tensor) -> Tensor:
    """A noise level, scalar or (batch,), shaped to broadcast over (batch, time, asset)."""
    level = torch.as_tensor(sigma, dtype=like.dtype, device=like.device)
    return level.reshape(-1, *([1] * (like.ndim - 1))) if level.ndim else level


def _with_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _check_range(n_steps: int, sigma_min: float, sigma_max: float) -> None:
    if n_steps < 1 or not 0 < sigma_min < sigma_max:
        raise ConfigError(
            f"steps = {n_steps}, sigma_min = {sigma_min}, sigma_max = {sigma_max}: expected at least one step and "
            "0 < sigma_min < sigma_max"
        )
