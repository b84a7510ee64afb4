"""`DiT`: a diffusion transformer whose tokens are (asset, patch of bars). Peebles & Xie (2023), made set-valued."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from foliocast.core.errors import ConfigError
from foliocast.models.diffusion.layers import NoiseEmbedding, ScaleGate, adaptive_norm, inputs, sinusoidal, zero
from foliocast.models.diffusion.preconditioning import NOTHING, Context

FEW = 3  # tokens


class DiT(nn.Module):
    """Denoiser network for any number of assets and bars.

    Assets are exchangeable tokens without identity: attention runs over the assets of a patch as over a set, then
    over the patches of an asset, so the network commutes with permutations of the assets. The noise level enters
    through adaptive layer norm with zero-initialised gates, the state of each asset through its token; without a
    state a learnt blank stands in (which is what classifier-free guidance needs). The output layer starts at zero.

    Parameters
    ----------
    width, depth, heads : int
    patch : int
        Bars a token covers; windows are padded to a multiple of it.
    n_state : int
        Features of an asset's state.
    dropout : float
    """

    def __init__(
        self,
        width: int = 32,
        depth: int = 2,
        heads: int = 2,
        patch: int = 5,
        n_state: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"width = {width} must be a multiple of heads = {heads}")
        self.patch, self.width = patch, width
        self.enter = nn.Linear(3 * patch, width)
        self.state = nn.Linear(n_state, width) if n_state else None
        self.blank = nn.Parameter(torch.zeros(width))
        self.noise = NoiseEmbedding(width)
        self.blocks = nn.ModuleList([_Block(width, heads, dropout) for _ in range(depth)])
        self.shift = nn.Linear(width, 2 * width)
        self.leave = zero(nn.Linear(width, patch))
        self.gate = ScaleGate(n_state=n_state)

    def forward(self, u: Tensor, sigma: Tensor, context: Context = NOTHING) -> Tensor:
        """u (batch, time, asset) -> F (batch, time, asset)."""
        batch, n_time, n_assets = u.shape
        pad = -n_time % self.patch
        seen = functional.pad(inputs(u, context), (0, 0, 0, 0, 0, pad))
        n_patches = (n_time + pad) // self.patch
        # (batch, patch, asset, bars in patch * channels)
        seen = seen.reshape(batch, n_patches, self.patch, n_assets, 3).transpose(2, 3).flatten(3).contiguous()
        place = sinusoidal(torch.arange(n_patches, device=u.device), self.width)
        token = self.enter(seen) + place[:, None].to(u.dtype) + self._known(context)
        noise = functional.silu(self.noise(sigma))
        for block in self.blocks:
            token = block(token, noise)
        scale, shift = self.shift(noise)[:, None, None].chunk(2, dim=-1)
        out = self.leave(adaptive_norm(token, scale, shift))
        out = out.transpose(2, 3).reshape(batch, -1, n_assets)[:, :n_time]
        return out.to(u.dtype) + self.gate(u, sigma, context).to(u.dtype)

    def _known(self, context: Context) -> Tensor:
        if self.state is None or context.state is None:
            return self.blank
        return self.state(context.state.to(self.blank.dtype))[:, None]


class _Block(nn.Module):
    """Attention over assets, attention over time, then an MLP; each behind an adaptive norm and a zero gate."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.across = _Attention(width, heads)
        self.along = _Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(approximate="tanh"), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.modulate = zero(nn.Linear(width, 9 * width))

    def forward(self, token: Tensor, noise: Tensor) -> Tensor:
        parts = self.modulate(noise)[:, None, None].chunk(9, dim=-1)
        layers: tuple[Callable[[Tensor], Tensor], ...] = (self.across, self._along, self.mlp)
        for i, layer in enumerate(layers):
            shift, scale, gate = parts[3 * i : 3 * i + 3]
            token = torch.addcmul(token, gate, layer(adaptive_norm(token, scale, shift)))
        return token

    def _along(self, token: Tensor) -> Tensor:
        return self.along(token.transpose(1, 2).contiguous()).transpose(1, 2).contiguous()


class _Attention(nn.Module):
    """Self-attention over the next-to-last axis of (batch, group, token, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, token: Tensor) -> Tensor:
        batch, group, length, width = token.shape
        if length <= FEW:
            return self.out(self._few(*self.qkv(token).split(width, dim=-1)))
        qkv = self.qkv(token).reshape(batch * group, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous()
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(batch, group, length, width))

    def _few(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The same for a few tokens, token by token: a fused kernel spends its time on starting."""
        size = q.shape[-1] // self.heads
        head = torch.eye(self.heads, dtype=q.dtype, device=q.device).repeat_interleave(size, dim=0)
        scores = torch.stack([(q * k[..., j : j + 1, :]) @ head for j in range(k.shape[-2])])
        share = (scores * size**-0.5).softmax(dim=0) @ head.T
        return sum((part * v[..., j : j + 1, :] for j, part in enumerate(share)), torch.zeros_like(q))
