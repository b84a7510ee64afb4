"""How much of a denoiser trained elsewhere a history supports: as large and as heavy in the tails as its innovations.

A network that learnt from universes of all sizes overstates the tails of the small ones, and assets of another kind
(coins, for a network of stocks) have tails of their own. Squared error on a thousand windows cannot tell; the sizes of
the innovations can.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from foliocast.models.diffusion.innovations import History
from foliocast.models.diffusion.paths import PATCH, PathSampler, Window
from foliocast.models.diffusion.preconditioning import Context, GaussianPrior, Preconditioned

SHARES = (0.25, 0.5, 0.75, 1.0)
CAP = 6.0  # innovations count as this large at most: a single one may not say how heavy tails are
ENTRIES = 5_000  # drawn for each share
SEARCHED = 40  # assets that are looked at
PRIOR_ENTRIES = 1_000.0  # that have the tails of the network as it is


@dataclass(frozen=True)
class Match:
    """Share of the network and factor on what it draws (`PathSampler`)."""

    share: float
    level: float

    def of(self, denoiser: Preconditioned) -> Preconditioned:
        """The denoiser with this share of its network; the network itself is not copied."""
        part = Preconditioned(denoiser.network, denoiser.preconditioner, self.share * denoiser.shrinkage)
        return part.eval()


def tail_ratio(z: np.ndarray) -> float:
    """Root mean square over mean absolute value: 1.25 for Gaussian values, larger the heavier the tails."""
    size = np.minimum(np.abs(z), CAP)
    return float(np.sqrt((size**2).mean()) / max(float(size.mean()), 1e-12))


def matched(paths: PathSampler, history: History) -> Match:
    """The share with which the tails of drawn windows are those of a history, and the level that then is its own.

    Parameters
    ----------
    paths : PathSampler
        With level one. Drawn without a state, at the latest correlation.
    history : History
        Short ones count less: with `PRIOR_ENTRIES` entries the tails asked for lie half way to the network's own.
    """
    columns = np.unique(np.linspace(0, history.z.shape[1] - 1, SEARCHED).astype(int))
    history = replace(history, z=history.z[:, columns], correlations=history.correlations[:, columns][:, :, columns])
    ratios, sizes = [], []
    for share in SHARES:
        z = _drawn(paths, share, history)
        ratios.append(tail_ratio(z))
        sizes.append(float(np.abs(z).mean()))
    weight = history.z.size / (history.z.size + PRIOR_ENTRIES)
    wanted = weight * tail_ratio(history.z) + (1 - weight) * ratios[-1]
    share = float(np.interp(wanted, np.maximum.accumulate(ratios), SHARES))
    return Match(share, float(np.abs(history.z).mean() / np.interp(share, SHARES, sizes)))


def _drawn(paths: PathSampler, share: float, history: History) -> np.ndarray:
    """Windows of innovations, the same noise for every share."""
    matrix = torch.from_numpy(history.correlations[-1]).float()
    length = paths.block + -paths.block % PATCH
    n = max(24, ENTRIES // (length * len(matrix)))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((n, length, len(matrix)), generator=generator)
    part = PathSampler(Match(share, 1.0).of(paths.denoiser), paths.sampler, paths.steps, paths.block)
    drawn: np.ndarray = part.sampled(noise, Context(prior=GaussianPrior.of(matrix)), Window(length), generator).numpy()
    return drawn
