"""The encoder block of the transformers here: pre-norm, self-attention, a two-layer perceptron."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SHORT = 32  # tokens up to which plain products are faster, on a processor, than the fused kernel


class EncoderBlock(nn.Module):
    """``x + attend(norm(x))``, then ``x + perceptron(norm(x))``; (batch, token, width) -> the same.

    Parameters
    ----------
    width, heads : int
    widen : int
        Width of the perceptron's hidden layer, in units of ``width``.
    """

    def __init__(self, width: int, heads: int, widen: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, widen * width), nn.Linear(widen * width, width)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """``present`` (batch, token): which tokens may be looked at; each row needs one."""
        x = x + self.mix(self._attend(self.project(self.before(x)), present))
        return x + self.down(functional.relu(self.up(self.between(x))))

    def _attend(self, projected: Tensor, present: Tensor | None) -> Tensor:
        batch, tokens, _ = projected.shape
        q, k, v = projected.reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if present is None else present[:, None, None, :]
        if tokens > SHORT:
            out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
            scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
            out = torch.softmax(scores, dim=-1).to(v.dtype) @ v
        return out.transpose(1, 2).reshape(batch, tokens, -1)
