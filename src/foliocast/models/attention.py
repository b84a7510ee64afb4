"""The encoder block of the transformers here: pre-norm, self-attention, a two-layer perceptron."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SHORT = 32  # tokens up to which plain products are faster, on a processor, than the fused kernel


FARTHEST = 80.0  # above the mean of its row no score counts for more: exp stays finite, the others have long vanished


class ShortSoftmax(torch.autograd.Function):
    """Softmax over a last axis of a few entries, twice as fast on a processor as the general one.

    The general kernel works row by row, and here rows are shorter than a vector register. Scores are centred by the
    mean of their row instead of its maximum, and sums over rows are products with a small matrix of ones: everything
    is contiguous. Scores must be finite.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        n = scores.shape[-1]
        rows = scores.reshape(-1, n)
        ones = rows.new_ones(n, n)
        out = (rows - rows @ (ones / n)).clamp_(max=FARTHEST).exp_()
        out = out.div_(out @ ones).view(scores.shape)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        n = out.shape[-1]
        rows, weighted = out.reshape(-1, n), (gradients[0] * out).reshape(-1, n)
        return (weighted - rows * (weighted @ rows.new_ones(n, n))).view(out.shape)


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
            if mask is None:
                share = ShortSoftmax.apply(scores)
            else:
                share = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)
            out = share.to(v.dtype) @ v
        return out.transpose(1, 2).reshape(batch, tokens, -1)
