"""What the outputs of a network mean: a point, quantiles, or a Student t law of the standardised next return.

A head turns raw outputs into a loss, a mean and an inverse distribution function; the network before it is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.stats import norm, t
from torch import Tensor
from torch.nn import functional

from foliocast.core.errors import ConfigError

LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


class Head(Protocol):
    """How raw outputs are read. The first output is always the location: what a ranking loss sorts by."""

    @property
    def width(self) -> int:
        """Outputs of the network that it reads."""
        ...

    @property
    def draws(self) -> bool:
        """Whether it is a distribution."""
        ...

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        """(batch, width), (batch,) -> scalar."""
        ...

    def mean(self, raw: Tensor) -> Tensor:
        """(batch, width) -> (batch,)."""
        ...

    def inverse(self, raw: Tensor, u: np.ndarray) -> np.ndarray:
        """Value at probability ``u`` (batch,) of each row's distribution, (batch,)."""
        ...


@dataclass(frozen=True)
class PointHead:
    """The mean alone, by squared error; intervals come from the volatility filter."""

    width: int = 1
    draws: bool = False

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        return ((raw[:, 0] - target) ** 2).mean()

    def mean(self, raw: Tensor) -> Tensor:
        return raw[:, 0]

    def inverse(self, raw: Tensor, u: np.ndarray) -> np.ndarray:
        raise ConfigError("a point head has no distribution; choose head = 'student_t' or 'quantile'")


@dataclass(frozen=True)
class StudentTHead:
    """Location, scale and degrees of freedom (above two), by maximum likelihood."""

    width: int = 3
    draws: bool = True

    @staticmethod
    def parameters(raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Location, scale, degrees of freedom; raw zeros are a t law of scale 0.7 and 6 degrees."""
        return raw[:, 0], functional.softplus(raw[:, 1]) + 0.01, 2.1 + functional.softplus(raw[:, 2] + 4.0)

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        loc, scale, nu = self.parameters(raw)
        z = (target - loc) / scale
        constant = torch.lgamma((nu + 1) / 2) - torch.lgamma(nu / 2) - 0.5 * torch.log(nu * torch.pi)
        return -(constant - torch.log(scale) - (nu + 1) / 2 * torch.log1p(z**2 / nu)).mean()

    def mean(self, raw: Tensor) -> Tensor:
        return raw[:, 0]

    def inverse(self, raw: Tensor, u: np.ndarray) -> np.ndarray:
        loc, scale, nu = (p.double().numpy() for p in self.parameters(raw))
        return loc + scale * t.ppf(u, nu)


@dataclass(frozen=True)
class QuantileHead:
    """Quantiles that cannot cross, by pinball loss.

    The first output is the median; the others are widths (softplus) of the gaps between neighbouring levels (an odd
    number of them, the median in the middle). Between levels, and beyond them, values are linear in the normal
    quantile of the probability.
    """

    levels: tuple[float, ...] = LEVELS
    draws: bool = True

    @property
    def width(self) -> int:
        return len(self.levels)

    def quantiles(self, raw: Tensor) -> Tensor:
        """(batch, level), increasing along the levels."""
        middle = len(self.levels) // 2
        gaps = functional.softplus(raw[:, 1:]) + 1e-4
        below = -torch.flip(torch.cumsum(torch.flip(gaps[:, :middle], [1]), 1), [1])
        steps = torch.cat([below, torch.zeros_like(raw[:, :1]), torch.cumsum(gaps[:, middle:], 1)], 1)
        return raw[:, :1] + steps

    def loss(self, raw: Tensor, target: Tensor) -> Tensor:
        error = target[:, None] - self.quantiles(raw)
        levels = torch.tensor(self.levels, dtype=error.dtype, device=error.device)
        return torch.maximum(levels * error, (levels - 1) * error).mean()

    def mean(self, raw: Tensor) -> Tensor:
        """Integral of the quantile function, by its mean over a fine grid of probabilities."""
        grid = np.broadcast_to((np.arange(200) + 0.5) / 200, (len(raw), 200))
        values = self.inverse(raw.repeat_interleave(200, 0), grid.ravel())
        return torch.from_numpy(values.reshape(len(raw), 200).mean(axis=1))

    def inverse(self, raw: Tensor, u: np.ndarray) -> np.ndarray:
        nodes, q, x = norm.ppf(self.levels), self.quantiles(raw).double().numpy(), norm.ppf(u)
        left = np.clip(np.searchsorted(nodes, x) - 1, 0, len(nodes) - 2)
        rows = np.arange(len(x))
        share = (x - nodes[left]) / (nodes[left + 1] - nodes[left])
        return q[rows, left] + share * (q[rows, left + 1] - q[rows, left])


HEADS: dict[str, Head] = {"point": PointHead(), "student_t": StudentTHead(), "quantile": QuantileHead()}


def head_of(name: str) -> Head:
    """The head of that name."""
    if name not in HEADS:
        raise ConfigError(f"head = {name!r} does not exist; choose from {', '.join(HEADS)}")
    return HEADS[name]
