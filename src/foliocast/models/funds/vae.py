"""A variational autoencoder of holdings.

*Encoder* (a set encoder): every security has a code of ``latent`` numbers, made of a fixed random code, of its
attributes and of what was learnt about it; the mean of the latent is the weighted sum of the codes of what is held,
plus a correction learnt from pooled features. *Decoder*: the weights over the universe at the date that explain the
latent best,

    w(z) = argmin over the simplex of  |z - E'w|_P^2 / 2 + cost'w,

in a metric P that makes the codes of the universe nearly isotropic, found by an unrolled accelerated proximal
gradient whose proximal map is sparsemax (Martins & Astudillo 2016; the Euclidean projection onto the simplex).
So weights are valid whatever the latent, most are exactly zero, and a security
that was never seen can be held: it has a code as soon as it has a name. That few measurements determine a sparse
non-negative vector is compressed sensing (Donoho & Tanner 2005).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from foliocast.models.funds.securities import ATTRIBUTES


def random_codes(tickers: Sequence[str], size: int) -> Tensor:
    """Fixed codes of unit length, a pure function of the ticker: (ticker, size)."""
    rows = [np.random.default_rng(zlib.crc32(t.encode())).standard_normal(size) for t in tickers]
    codes = torch.tensor(np.array(rows), dtype=torch.float32)
    return codes / codes.norm(dim=1, keepdim=True)


def sparsemax(scores: Tensor) -> Tensor:
    """Projection onto the simplex along the last axis; entries of -inf stay zero."""
    ordered = scores.sort(dim=-1, descending=True).values.clamp(min=-1e9)
    total = ordered.cumsum(-1) - 1.0
    rank = torch.arange(1, scores.shape[-1] + 1, device=scores.device)
    size = (ordered * rank > total).sum(-1, keepdim=True)
    threshold = total.gather(-1, size - 1) / size
    return (scores - threshold).clamp(min=0.0)


class HoldingsVAE(nn.Module):
    """See the module's docstring.

    Parameters
    ----------
    tickers : sequence of str
        Securities with a learnt part of the code.
    latent : int
    steps : int
        Iterations of the decoder.
    """

    def __init__(self, tickers: Sequence[str], latent: int = 256, steps: int = 60) -> None:
        super().__init__()
        self.latent, self.steps = latent, steps
        self.learnt = nn.Parameter(torch.zeros(len(tickers), latent))
        self.attributes = nn.Linear(ATTRIBUTES, latent, bias=False)
        nn.init.normal_(self.attributes.weight, std=0.3 / latent**0.5)
        last = nn.Linear(128, latent)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.correction = nn.Sequential(nn.Linear(latent + ATTRIBUTES, 128), nn.SiLU(), last)
        self.log_spread = nn.Parameter(torch.full((latent,), -6.5))
        self.register_buffer("known", random_codes(tickers, latent), persistent=False)
        self.known: Tensor

    def codes(self, attributes: Tensor, fixed: Tensor | None = None, learnt: Tensor | None = None) -> Tensor:
        """Codes of securities, (security, latent). Without arguments of their own: those of the training."""
        fixed = self.known if fixed is None else fixed
        learnt = self.learnt if learnt is None else learnt
        return fixed + self.attributes(attributes) + learnt

    def encode(self, weights: Tensor, codes: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latent of portfolios (fund, security)."""
        pooled = weights @ codes
        mean = pooled + 0.1 * self.correction(torch.cat([pooled, weights @ attributes], dim=-1))
        return mean, self.log_spread.exp().expand_as(mean)

    def decode(self, z: Tensor, codes: Tensor, cost: Tensor | None = None, steps: int | None = None) -> Tensor:
        """Weights (fund, security) from latents; ``cost`` (fund, security), +inf where a security may not be held."""
        turn = whitener(codes)
        z, codes = z @ turn, codes @ turn
        step = 1.0 / top_eigenvalue(codes)
        push = torch.zeros(len(z), len(codes), device=z.device) if cost is None else cost
        w = sparsemax(torch.where(torch.isinf(push), -torch.inf, z @ codes.T - push))
        ahead, momentum = w, 1.0
        for _ in range(steps or self.steps):
            slope = (ahead @ codes - z) @ codes.T + push
            new = sparsemax(ahead - step * slope)
            following = (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5) / 2.0
            ahead = new + (momentum - 1.0) / following * (new - w)
            w, momentum = new, following
        return w


@torch.no_grad()
def whitener(codes: Tensor, floor: float = 0.1) -> Tensor:
    """Matrix that makes the codes of a universe nearly isotropic, (latent, latent).

    Codes share directions (the market, a sector); undone, the iteration would take hundreds of steps along the rest.
    """
    values, vectors = torch.linalg.eigh(codes.T @ codes / len(codes))
    return vectors @ ((values / values.mean() + floor).rsqrt()[:, None] * vectors.T)


@torch.no_grad()
def top_eigenvalue(codes: Tensor, rounds: int = 12) -> float:
    """Largest eigenvalue of ``codes' codes`` by power iteration, from a fixed start."""
    gram = codes.T @ codes
    v = torch.ones(len(gram), device=codes.device) + torch.arange(len(gram), device=codes.device) * 1e-3
    for _ in range(rounds):
        v = gram @ v
        v = v / v.norm()
    return float(v @ gram @ v) * 1.05


def tilt(z: Tensor, codes: Tensor, log_prior: Tensor, strength: float, steps: int = 50) -> Tensor:
    """The decoder when something is known beforehand: weights near a prior portfolio that explain the latent,

        w(z) = argmin  KL(w || p) + strength * |z - E'w|_P^2 / 2.

    Solved in the dual (one number a latent dimension), where ``w = softmax(log p + E l)``, by accelerated gradient
    steps. At ``z = E'p`` the answer is p; the larger the strength, the more the latent decides.
    """
    turn = whitener(codes)
    z, codes = z @ turn, codes @ turn
    step = 1.0 / (float((codes**2).sum(1).quantile(0.99)) + 1.0 / strength)
    root = (step / strength) ** 0.5
    slow = (1.0 - root) / (1.0 + root)
    dual = ahead = torch.zeros_like(z)
    for _ in range(steps):
        slope = torch.softmax(log_prior + ahead @ codes.T, dim=-1) @ codes - z + ahead / strength
        new = ahead - step * slope
        ahead = new + slow * (new - dual)
        dual = new
    return torch.softmax(log_prior + dual @ codes.T, dim=-1)


def vae_loss(
    vae: HoldingsVAE, weights: Tensor, attributes: Tensor, columns: Tensor, noise: Tensor, beta: float
) -> Tensor:
    """Half the L1 distance (one less the overlap) plus squared distance of the sectors, plus ``beta`` KL a dimension.

    ``columns``: the part of the universe this batch is decoded over; all its holdings must be in it.
    """
    codes = vae.codes(attributes)[columns]
    part, attrs = weights[:, columns], attributes[columns]
    mean, spread = vae.encode(part, codes, attrs)
    decoded = vae.decode(mean + spread * noise, codes, steps=25)
    lost = 0.5 * (decoded - part).abs().sum(-1).mean()
    sectors = ((decoded - part) @ attrs).abs().sum(-1).mean()
    kl = (0.5 * (mean**2 + spread**2 - 1.0) - spread.log()).mean()
    return lost + 0.1 * sectors + beta * kl
