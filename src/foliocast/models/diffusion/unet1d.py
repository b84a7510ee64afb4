"""`UNet1D`: a convolutional denoiser over return windows, assets as channels. Ho et al. (2020) in one dimension."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from foliocast.core.errors import ConfigError
from foliocast.models.diffusion.layers import NoiseEmbedding, ScaleGate, inputs, zero
from foliocast.models.diffusion.preconditioning import NOTHING, Context


class UNet1D(nn.Module):
    """Denoiser network for a fixed list of assets and any number of bars.

    Every level halves the number of bars on the way down (a convolution of stride 2) and doubles it on the way up
    (repetition, then a convolution), as often up as down, with a skip connection at each level. Windows are padded to
    a multiple of ``2 ** (levels - 1)``, so bottleneck position i stands for bars ``i * 2 ** (levels - 1)`` onward.

    Parameters
    ----------
    n_assets : int
    channels : tuple of int
        Channels of each level.
    n_state : int
        Features of an asset's state.
    dropout : float
    """

    def __init__(
        self,
        n_assets: int,
        channels: tuple[int, ...] = (32, 64, 96),
        n_state: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not channels or any(c % 8 for c in channels):
            raise ConfigError(f"channels = {channels}: expected at least one level, each a multiple of 8")
        self.n_assets, self.n_state, width = n_assets, n_state, channels[0]
        self.noise = NoiseEmbedding(width)
        self.state = nn.Linear(n_state * n_assets, width) if n_state else None
        self.blank = nn.Parameter(torch.zeros(width))
        self.enter = nn.Conv1d(3 * n_assets, width, 3, padding=1)
        pairs = list(pairwise(channels))
        self.down = nn.ModuleList([_Residual(c, c, width, dropout) for c in channels[:-1]])
        self.shrink = nn.ModuleList([nn.Conv1d(a, b, 3, stride=2, padding=1) for a, b in pairs])
        self.middle = nn.ModuleList([_Residual(channels[-1], channels[-1], width, dropout) for _ in range(2)])
        self.grow = nn.ModuleList([nn.Conv1d(b, a, 3, padding=1) for a, b in reversed(pairs)])
        self.up = nn.ModuleList([_Residual(2 * a, a, width, dropout) for a, _ in reversed(pairs)])
        self.norm = nn.GroupNorm(8, width)
        self.leave = zero(nn.Conv1d(width, n_assets, 3, padding=1))
        self.gate = ScaleGate(n_state=n_state)

    def forward(self, u: Tensor, sigma: Tensor, context: Context = NOTHING) -> Tensor:
        """u (batch, time, asset) -> F (batch, time, asset)."""
        batch, n_time, n_assets = u.shape
        if n_assets != self.n_assets:
            raise ConfigError(f"this UNet1D was built for {self.n_assets} assets, the window has {n_assets}; use a DiT")
        emb = functional.silu(self.noise(sigma) + self._known(context))
        seen = inputs(u, context).permute(0, 3, 2, 1).reshape(batch, 3 * n_assets, n_time)
        x = self.enter(functional.pad(seen, (0, -n_time % 2 ** len(self.shrink))))
        skips = []
        for block, shrink in zip(self.down, self.shrink):
            x = block(x, emb)
            skips.append(x)
            x = shrink(x)
        for block in self.middle:
            x = block(x, emb)
        for grow, block in zip(self.grow, self.up):
            x = block(torch.cat([grow(x.repeat_interleave(2, dim=-1)), skips.pop()], dim=1), emb)
        out = self.leave(functional.silu(self.norm(x)))[..., :n_time].transpose(1, 2)
        return out.to(u.dtype) + self.gate(u, sigma, context).to(u.dtype)

    def _known(self, context: Context) -> Tensor:
        if self.state is None or context.state is None:
            return self.blank
        return self.state(context.state.flatten(1).to(self.blank.dtype))


class _Residual(nn.Module):
    """Two convolutions with group norm, the second modulated by the embedding (scale and shift)."""

    def __init__(self, enter: int, leave: int, width: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, enter), nn.SiLU(), nn.Conv1d(enter, leave, 3, padding=1))
        self.modulate = nn.Linear(width, 2 * leave)
        self.norm = nn.GroupNorm(8, leave)
        self.second = nn.Sequential(nn.SiLU(), nn.Dropout(dropout), nn.Conv1d(leave, leave, 3, padding=1))
        self.skip = nn.Conv1d(enter, leave, 1) if enter != leave else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.modulate(emb)[..., None].chunk(2, dim=1)
        return self.skip(x) + self.second(self.norm(self.first(x)) * (1 + scale) + shift)
