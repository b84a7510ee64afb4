"""Parts that both denoiser networks are made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from foliocast.models.diffusion.preconditioning import Context

CLOCK = 1000.0


def sinusoidal(position: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding (..., dim): frequencies fall geometrically from 1 to 1/10 000. Vaswani et al. (2017)."""
    half = dim // 2
    frequency = torch.exp(-math.log(10_000.0) * torch.arange(half, device=position.device) / max(1, half - 1))
    angle = position[..., None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def clock(sigma: Tensor) -> Tensor:
    """Noise level as a time on [0, 1000]: the angle between signal and noise, even where the process is."""
    return torch.atan(sigma.float()) * (2 / math.pi * CLOCK)


class NoiseEmbedding(nn.Module):
    """Noise level, scalar or (batch,), to (batch or 1, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.first, self.second = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, sigma: Tensor) -> Tensor:
        waves = sinusoidal(clock(sigma.reshape(-1)), self.dim).to(self.first.weight.dtype)
        return self.second(functional.silu(self.first(waves)))


class ScaleGate(nn.Module):
    """A small net of sizes that multiplies the whitened window: what makes a Gaussian denoiser heavy-tailed.

    The denoiser of a scale mixture of Gaussians is ``x`` times a function of its size. Here the sizes are those of the
    entry, of its bar (all assets), of its asset (all bars) and of the window, so that fat tails, common shocks and
    calm or wild windows can all be said; beside them the noise level, the share of signal in the entry, whether it is
    given, and the asset's state. Zero at the start of training.
    """

    def __init__(self, hidden: int = 16, n_state: int = 0) -> None:
        super().__init__()
        self.enter = nn.Linear(7, hidden)
        self.state = nn.Linear(n_state, hidden, bias=False) if n_state else None
        self.leave = nn.Linear(hidden, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, u: Tensor, sigma: Tensor, context: Context) -> Tensor:
        square = (u * u).float()
        sizes = [square, *(square.mean(dim=dim, keepdim=True) for dim in (2, 1, (1, 2)))]
        features = [(size + 0.1).log().expand_as(u) for size in sizes]
        level = sigma.float().log().clamp(-6, 6).reshape(-1, 1, 1) / 3
        known = torch.zeros_like(level) if context.known is None else context.known.float()
        clear = _signal(sigma, context).to(level.dtype)
        seen = torch.stack([*features, *(part.expand_as(u) for part in (level, known, clear))], dim=-1)
        wide = self.enter(seen.to(u.dtype))
        if self.state is not None and context.state is not None:
            wide = wide + self.state(context.state.to(u.dtype))[:, None]
        return u * self.leave(functional.silu(wide)).squeeze(-1)


def _signal(sigma: Tensor, context: Context) -> Tensor:
    """Log odds of signal against noise in each entry: the same sigma blurs some assets more than others."""
    if context.prior is None:
        return -2 * sigma.float().log().clamp(-6, 6).reshape(-1, 1, 1) / 3
    share = context.prior.signal(sigma).float().clamp(1e-4, 1 - 1e-4)
    return (share / (1 - share)).log() / 3


def adaptive_norm(token: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Layer norm over the last axis, scaled by 1 + scale and shifted; both (batch or 1, 1, 1, width)."""
    width = token.shape[-1:]
    if scale.shape[0] == 1:  # one noise level for all: a single fused pass
        return functional.layer_norm(token, width, 1 + scale.flatten(), shift.flatten())
    return torch.addcmul(shift, functional.layer_norm(token, width), 1 + scale)


def inputs(u: Tensor, context: Context) -> Tensor:
    """What is seen of every entry, (batch, time, asset, 3): whitened value, whether it is given, the given value."""
    if context.known is None or context.values is None:
        blank = torch.zeros_like(u)
        return torch.stack([u, blank, blank], dim=-1)
    known = context.known.to(u.dtype).expand_as(u)
    return torch.stack([u, known, context.values.to(u.dtype) * known], dim=-1)


def zero(layer: nn.Linear | nn.Conv1d) -> nn.Linear | nn.Conv1d:
    """The layer with all weights zero: whatever it is added to stays as it was until training says otherwise."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
