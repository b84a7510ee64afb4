"""From network to denoiser: what the network is shown, and what its output is added to.

A `Denoiser` is a function ``(x, sigma, context) -> x0``. `Preconditioned` makes one from a network and a rule. The
scalar rules (`EPSILON`, `X0`, `V`, `EDM`) are those of the literature. `WIENER` is their multivariate form: with the
covariance C of the data known, the best *linear* denoiser is the Wiener filter ``W = C (C + s^2 I)^-1``, its error has
covariance ``P = s^2 C (C + s^2 I)^-1``, and

    D(x) = m + W (x - m) + P^(1/2) F(u),     u = (C + s^2 I)^(-1/2) (x - m).

``u`` has unit covariance at every noise level and so has the target of F. A network that returns zero is already the
exact denoiser of N(m, C); all it can learn is how the data depart from that. With C = I this is EDM with
sigma_data = 1, i.e. v-prediction up to the sign. All roots are symmetric, so that columns remain assets and the
denoiser commutes with permutations of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from foliocast.core.errors import ConfigError
from foliocast.models.diffusion.process import per_sample


@dataclass(frozen=True)
class GaussianPrior:
    """The Gaussian part of what is known about clean windows: rows independent in time, N(mean, C) over assets.

    Parameters
    ----------
    values : Tensor, shape (batch or 1, time or 1, asset)
        Eigenvalues of C, non-negative. Zero means: known exactly.
    vectors : Tensor, shape (batch or 1, time or 1, asset, asset)
        Eigenvectors in columns.
    mean : Tensor, shape (batch or 1, time or 1, asset)
    """

    values: Tensor
    vectors: Tensor
    mean: Tensor

    @classmethod
    def of(cls, covariance: Tensor, mean: Tensor | None = None) -> GaussianPrior:
        """From covariances (asset, asset), (batch, asset, asset) or (batch, time, asset, asset)."""
        c = covariance if covariance.ndim == 4 else covariance.reshape(-1, 1, *covariance.shape[-2:])
        values, vectors = torch.linalg.eigh(c.double())
        values, vectors = values.clamp(min=0).to(c.dtype), vectors.to(c.dtype)
        return cls(values, vectors, torch.zeros_like(values) if mean is None else mean)

    def covariance(self) -> Tensor:
        return self.vectors @ (self.values[..., None] * self.vectors.mT)

    def wiener(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """E[x0 | x] when x0 ~ N(mean, C)."""
        v = per_sample(sigma, x) ** 2
        return self.mean + self.along(x - self.mean, self.values / (self.values + v))

    def whiten(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """(C + s^2 I)^(-1/2) (x - mean): unit covariance at every noise level."""
        return self.along(x - self.mean, (self.values + per_sample(sigma, x) ** 2).rsqrt())

    def colour(self, u: Tensor, sigma: Tensor | float) -> Tensor:
        """Inverse of `whiten`."""
        return self.mean + self.along(u, (self.values + per_sample(sigma, u) ** 2).sqrt())

    def spread(self, f: Tensor, sigma: Tensor | float) -> Tensor:
        """P^(1/2) f, with P the covariance of x0 given x."""
        v = per_sample(sigma, f) ** 2
        return self.along(f, (self.values * v / (self.values + v)).sqrt())

    def unspread(self, d: Tensor, sigma: Tensor | float) -> Tensor:
        """Inverse of `spread` where P has full rank, zero elsewhere (pseudo-inverse)."""
        v = per_sample(sigma, d) ** 2
        root = (self.values * v / (self.values + v)).sqrt()
        return self.along(d, torch.where(root > 1e-6, 1 / root.clamp(min=1e-6), torch.zeros_like(root)))

    def angle(self, sigma: float) -> Tensor:
        """arctan(sigma / sqrt(eigenvalue)): the clock on which noising turns signal into noise at unit speed."""
        root = self.values.sqrt()
        return torch.atan2(torch.full_like(root, sigma), root)

    def along(self, x: Tensor, diagonal: Tensor) -> Tensor:
        """V diag(d) V' x for every row: a factor for each eigen-direction."""
        return self._times(self._times(x, self.vectors) * diagonal, self.vectors.mT)

    def start(self, noise: Tensor, sigma: float) -> Tensor:
        """Exact draw of x at a noise level from standard normal noise."""
        return self.colour(noise, sigma)

    def given(self, known: Tensor, values: Tensor) -> GaussianPrior:
        """The prior conditional on some entries being known (Gaussian conditioning, row by row).

        Parameters
        ----------
        known : Tensor of bool, shape (time, asset)
        values : Tensor, shape (batch or 1, time, asset)
            Read where known.
        """
        if self.values.shape[1] != 1:
            raise ConfigError("conditioning starts from one covariance for all bars; this prior is conditional already")
        patterns, index = torch.unique(known, dim=0, return_inverse=True)
        parts = [condition_covariance(self.covariance()[:, 0], pattern) for pattern in patterns]
        prior = GaussianPrior.of(torch.stack([c for c, _ in parts], dim=1))
        gains = torch.stack([g for _, g in parts], dim=1)
        if len(patterns) > 1:
            prior = replace(prior, values=prior.values[:, index], vectors=prior.vectors[:, index])
            gains = gains[:, index]
        shift = torch.where(known, values - self.mean, torch.zeros_like(values))
        mean = torch.where(known, values, self.mean + self._times(shift, gains.mT))
        return replace(prior, mean=mean)

    def signal(self, sigma: Tensor | float) -> Tensor:
        """Share of the variance of each noisy entry that is signal, in [0, 1], (batch or 1, time or 1, asset)."""
        v = per_sample(sigma, self.values) ** 2
        return (self.vectors**2 @ (self.values / (self.values + v)).unsqueeze(-1)).squeeze(-1)

    @staticmethod
    def _times(x: Tensor, matrix: Tensor) -> Tensor:
        if matrix.shape[1] == 1:
            return x @ (matrix[0, 0] if matrix.shape[0] == 1 else matrix[:, 0])
        if matrix.shape[0] == 1:
            return (x.transpose(0, 1) @ matrix[0]).transpose(0, 1)
        return (x.unsqueeze(2) @ matrix).squeeze(2)


def condition_covariance(covariance: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Covariances (..., asset, asset) given the known entries, and the gains of the others on them.

    ``known`` (asset,) is one mask for all. Rows and columns of what is known are zero in both.
    """
    gain, out = torch.zeros_like(covariance), torch.zeros_like(covariance)
    if not bool(known.any()):
        return covariance, gain
    k, f = known.nonzero().flatten(), (~known).nonzero().flatten()
    block = torch.linalg.solve(covariance[..., k[:, None], k], covariance[..., k[:, None], f]).mT
    schur = covariance[..., f[:, None], f] - block @ covariance[..., k[:, None], f]
    out[..., f[:, None], f] = (schur + schur.mT) / 2
    gain[..., f[:, None], k] = block
    return out, gain


@dataclass(frozen=True)
class Context:
    """What a denoiser may lean on besides the noisy window.

    Parameters
    ----------
    state : Tensor, shape (batch or 1, asset, feature), optional
        What is known of each asset when the window begins.
    known : Tensor of bool, shape (time, asset), optional
        Entries of the window that are given.
    values : Tensor, shape (batch or 1, time, asset), optional
        Their values; zero elsewhere.
    prior : GaussianPrior, optional
        Gaussian law of the window, already conditional on what is known. Needed by `WIENER`.
    """

    state: Tensor | None = None
    known: Tensor | None = None
    values: Tensor | None = None
    prior: GaussianPrior | None = None


NOTHING = Context()

Denoiser = Callable[[Tensor, "Tensor | float", Context], Tensor]


class Preconditioner(Protocol):
    """Frames a network: its input, the skip it is added to, the scale of its output."""

    def enter(self, x: Tensor, sigma: Tensor | float, context: Context) -> Tensor: ...

    def leave(self, x: Tensor, f: Tensor, sigma: Tensor | float, context: Context) -> Tensor: ...

    def target(self, x: Tensor, x0: Tensor, sigma: Tensor | float, context: Context) -> Tensor:
        """What the network should have returned: ``leave(x, target) == x0``."""
        ...


@dataclass(frozen=True)
class Scalar:
    """``D = c_skip x + c_out F(c_in x)`` with ``c_in = 1 / sqrt(sigma^2 + sigma_data^2)``.

    Parameters
    ----------
    kind : {"epsilon", "x0", "v", "edm"}
    sigma_data : float
        Standard deviation of the data; the variance-preserving kinds presume 1.
    """

    kind: str = "edm"
    sigma_data: float = 1.0

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c_skip, c_out, c_in at a noise level. Karras et al. (2022), table 1; Salimans & Ho (2022) for v."""
        one, total = torch.ones_like(sigma), sigma**2 + self.sigma_data**2
        c_in = total.rsqrt()
        match self.kind:
            case "epsilon":
                return one, -sigma, c_in
            case "x0":
                return torch.zeros_like(sigma), one, c_in
            case "v":
                return self.sigma_data**2 / total, -sigma * self.sigma_data * c_in, c_in
            case "edm":
                return self.sigma_data**2 / total, sigma * self.sigma_data * c_in, c_in
        raise ConfigError(f"preconditioner {self.kind!r} unknown: expected epsilon, x0, v or edm")

    def enter(self, x: Tensor, sigma: Tensor | float, context: Context) -> Tensor:
        return self.coefficients(per_sample(sigma, x))[2] * x

    def leave(self, x: Tensor, f: Tensor, sigma: Tensor | float, context: Context) -> Tensor:
        skip, out, _ = self.coefficients(per_sample(sigma, x))
        return skip * x + out * f

    def target(self, x: Tensor, x0: Tensor, sigma: Tensor | float, context: Context) -> Tensor:
        skip, out, _ = self.coefficients(per_sample(sigma, x))
        return (x0 - skip * x) / out


class Wiener:
    """The matrix form: the skip is the best linear denoiser of the window's Gaussian law (module docstring)."""

    def enter(self, x: Tensor, sigma: Tensor | float, context: Context) -> Tensor:
        return self._prior(context).whiten(x, sigma)

    def leave(self, x: Tensor, f: Tensor, sigma: Tensor | float, context: Context) -> Tensor:
        prior = self._prior(context)
        return prior.wiener(x, sigma) + prior.spread(f, sigma)

    def target(self, x: Tensor, x0: Tensor, sigma: Tensor | float, context: Context) -> Tensor:
        prior = self._prior(context)
        return prior.unspread(x0 - prior.wiener(x, sigma), sigma)

    @staticmethod
    def _prior(context: Context) -> GaussianPrior:
        if context.prior is None:
            raise ConfigError("the Wiener preconditioner needs context.prior, the Gaussian law of the window")
        return context.prior


EPSILON, X0, V, EDM, WIENER = Scalar("epsilon"), Scalar("x0"), Scalar("v"), Scalar("edm"), Wiener()


class Preconditioned(nn.Module):
    """A network made a denoiser.

    Parameters
    ----------
    network : Module
        ``(u, sigma, context) -> F``, both (batch, time, asset).
    preconditioner : Preconditioner
    shrinkage : float
        Factor on the network's output, in [0, 1]; what validation says the network has earned.
    """

    def __init__(self, network: nn.Module, preconditioner: Preconditioner = WIENER, shrinkage: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.preconditioner = preconditioner
        self.shrinkage = shrinkage

    def forward(self, x: Tensor, sigma: Tensor | float, context: Context = NOTHING) -> Tensor:
        u = self.preconditioner.enter(x, sigma, context)
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        f = self.network(u, level, context) * self.shrinkage if self.shrinkage else torch.zeros_like(u)
        return self.preconditioner.leave(x, f, sigma, context)


def gaussian_denoiser(x: Tensor, sigma: Tensor | float, context: Context) -> Tensor:
    """The exact denoiser of the context's Gaussian prior: the oracle of the tests and the floor of every model."""
    assert context.prior is not None
    return context.prior.wiener(x, sigma)


def denoising_loss(
    denoiser: Preconditioned, x0: Tensor, sigma: Tensor, noise: Tensor, context: Context = NOTHING
) -> Tensor:
    """Mean squared error of the network against its target, over the free entries: scalar.

    In the network's own units every noise level and every direction weighs the same; the loss of a network that
    returns zero is one for Gaussian data.
    """
    x = x0 + per_sample(sigma, x0) * noise
    if context.known is not None:
        x = torch.where(context.known, x0, x)
    rule = denoiser.preconditioner
    f = denoiser.network(rule.enter(x, sigma, context), sigma, context)
    error = (f.float() - rule.target(x, x0, sigma, context)) ** 2
    if context.known is None:
        return error.mean()
    free = (~context.known).expand_as(error)
    return (error * free).sum() / free.sum().clamp(min=1)
