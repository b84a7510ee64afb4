"""Training of a denoiser on windows of innovations, over the one training loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from foliocast.models.diffusion.innovations import STRIDE, History
from foliocast.models.diffusion.preconditioning import Context, GaussianPrior, Preconditioned, denoising_loss
from foliocast.models.diffusion.process import per_sample, training_sigmas
from foliocast.models.training import TrainingSpec

DENOISING = TrainingSpec(optimizer="adamw", lr=2e-3, weight_decay=1e-2, schedule="cosine", warmup_steps=20)
CENTRE, SPREAD = -0.3, 1.2  # of the log noise levels: where innovations differ from Gaussian


@dataclass(frozen=True)
class WindowSamples:
    """Windows of a history: (x0, state, eigenvalues, eigenvectors), each with the batch first.

    Parameters
    ----------
    history : History
    length : int
        Bars of a window.
    first, last : int
        Window starts ``first <= t < last``.
    """

    z: Tensor
    state: Tensor
    prior: GaussianPrior
    length: int
    first: int
    last: int

    @classmethod
    def of(cls, history: History, length: int, first: int, last: int) -> WindowSamples:
        prior = GaussianPrior.of(torch.from_numpy(history.correlations).float())
        return cls(torch.from_numpy(history.z).float(), torch.from_numpy(history.state), prior, length, first, last)

    def __len__(self) -> int:
        return max(0, self.last - self.first)

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        start = index + self.first
        rows = start[:, None] + torch.arange(self.length)
        k = start // STRIDE
        return self.z[rows], self.state[start], self.prior.values[k], self.prior.vectors[k]


@dataclass(frozen=True)
class DiffusionLoss:
    """Loss of a batch for the training loop: random noise levels, lengths, masks and dropped states.

    Parameters
    ----------
    mask_rate : float
        Share of the batches in which some assets' paths are given.
    drop_rate : float
        Share of the batches without state (classifier-free guidance).
    patch : int
        Windows are cut to a random multiple of it.
    mirrored : bool
        Whether windows are turned over at random, so that the mean of the sample is not learnt: it is no law, and the
        drift is added to paths.
    """

    mask_rate: float = 0.3
    drop_rate: float = 0.1
    patch: int = 10
    mirrored: bool = False

    def __call__(self, denoiser: Preconditioned, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        x0, state, values, vectors = batch
        lengths = x0.shape[1] // self.patch
        n_time = self.patch * int(torch.randint(1, lengths + 1, (1,), generator=generator)) if lengths else x0.shape[1]
        x0 = x0[:, :n_time]
        if self.mirrored:
            x0 = x0 * (2.0 * torch.randint(2, (len(x0), 1, 1), generator=generator) - 1.0)
        context = self._context(x0, state, GaussianPrior(values, vectors, torch.zeros_like(values)), generator)
        noise = torch.randn(x0.shape, generator=generator)
        sigma = training_sigmas(len(x0), generator, CENTRE, SPREAD)
        with torch.autocast("cpu", enabled=False):
            return denoising_loss(denoiser, x0, sigma, noise, context)

    def _context(self, x0: Tensor, state: Tensor, prior: GaussianPrior, generator: torch.Generator) -> Context:
        chance = torch.rand(3, generator=generator)
        kept = None if chance[0] < self.drop_rate else state
        n_assets = x0.shape[2]
        if chance[1] >= self.mask_rate or n_assets < 2:
            return Context(state=kept, prior=prior)
        count = 1 + int(chance[2] * min(n_assets - 1, 1 + n_assets // 2))
        known = torch.zeros(x0.shape[1:], dtype=torch.bool)
        known[:, torch.randperm(n_assets, generator=generator)[:count]] = True
        shown = torch.where(known, x0, torch.zeros_like(x0))
        return Context(kept, known, shown, prior.given(known, x0))


def earned_shrinkage(
    denoiser: Preconditioned, samples: WindowSamples, conditional: bool = True, seed: int = 0
) -> tuple[float, float]:
    """`earned_share` over the windows of a history."""

    def batches() -> Iterator[tuple[Tensor, Context]]:
        for index in torch.arange(len(samples)).split(256):
            x0, state, values, vectors = samples.batch(index)
            yield x0, Context(state=state, prior=GaussianPrior(values, vectors, torch.zeros_like(values)))

    return earned_share(denoiser, batches(), torch.Generator().manual_seed(seed))


@torch.no_grad()
def earned_share(
    denoiser: Preconditioned, batches: Iterable[tuple[Tensor, Context]], generator: torch.Generator
) -> tuple[float, float]:
    """How much of the network's departure from the Gaussian the validation windows support.

    Parameters
    ----------
    denoiser : Preconditioned
    batches : iterable of (x0, context)
        Clean windows that the network was not trained on.
    generator : torch.Generator

    Returns
    -------
    factor : float
        The multiple in [0, 1] of the network's output with the least squared error, and how much of the error it
        removes (relative to a silent network). A network that has learnt noise gets a factor near zero.
    gain : float
    """
    cross, square, silent = 0.0, 0.0, 0.0
    for x0, context in batches:
        sigma = training_sigmas(len(x0), generator, CENTRE, SPREAD)
        x = x0 + per_sample(sigma, x0) * torch.randn(x0.shape, generator=generator)
        f = denoiser.network(denoiser.preconditioner.enter(x, sigma, context), sigma, context)
        target = denoiser.preconditioner.target(x, x0, sigma, context)
        cross, square = cross + float((f * target).sum()), square + float((f * f).sum())
        silent += float((target**2).sum())
    factor = float(np.clip(cross / max(square, 1e-12), 0.0, 1.0))
    return factor, (2 * factor * cross - factor**2 * square) / max(silent, 1e-12)
