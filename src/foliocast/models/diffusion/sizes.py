"""How large the shocks of a bar are: random sizes of the bar, of the market's move in it and of each asset's own.

A whitened innovation is read as ``y = b g + sqrt(v) own`` with g the direction in which all assets move together, b the
market's move, v the size of the bar, and ``own`` what is left, entry by entry. b and the entries are normal mixtures
``n + sqrt(w) e`` whose classes differ in size and may lean to one side. Wild bars are wild for all, crashes are
common, some shocks are an asset's own news: those stand beside the market's move, which is that of the others. The
classes are drawn; what is left is near N(0, I), which is where a diffusion of few steps is exact. It is the
heavy-tailed noise of Pandey et al. (2024, arXiv 2410.14171) with a law of the scale that is read off the data instead
of a chi-square.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from foliocast.models.diffusion.innovations import STRIDE, History
from foliocast.models.diffusion.preconditioning import GaussianPrior
from foliocast.stats.correlation import matrix_power

COMMON = np.array([0.2, 0.4, 0.65, 1.0, 1.6, 2.7, 5.0])
OWN = np.array([0.15, 0.4, 0.7, 1.0, 1.5, 2.5, 6.0, 14.0, 28.0, 60.0, 130.0])
NEWS = 7  # number of the first class of `OWN` that is an asset's own news, no part of the market's move
GRID = np.sinh(np.linspace(-np.arcsinh(24.0), np.arcsinh(24.0), 701))  # of whitened innovations
ROUNDS = 80
PRIOR = 10.0  # bars of each size in which the market is as in all bars
UPRIGHT = 0.5  # entries of each class that say that it does not lean


@dataclass(frozen=True)
class Mixture:
    """Shares of the classes of size `OWN` and the mean of each."""

    share: np.ndarray
    lean: np.ndarray

    @classmethod
    def start(cls) -> Mixture:
        share = (
            np.minimum(OWN, 1.0 / OWN) ** 3
        )  # expectation maximisation is slow to take back what tails have too much
        return cls(share / share.sum(), np.zeros(len(OWN)))

    def log_density(self, size: np.ndarray) -> np.ndarray:
        """Log of share times density of every grid point over each of these sizes, (grid, size, class)."""
        gap = (GRID[:, None] / size)[:, :, None] - self.lean
        table: np.ndarray = np.log(self.share) - 0.5 * np.log(OWN) - np.log(size)[:, None] - 0.5 * gap**2 / OWN
        return table

    def better(self, size: np.ndarray, weight: np.ndarray) -> Mixture:
        """One round of expectation maximisation on grid points that weigh so much at each size, (grid, size)."""
        part = _softmax(self.log_density(size)) * weight[:, :, None]
        total = part.sum(axis=(0, 1))
        lean = (part * (GRID[:, None] / size)[:, :, None]).sum(axis=(0, 1)) / (total + UPRIGHT)
        share = (total + 1e-3) / (total + 1e-3).sum()  # an empty class is all but left out
        return Mixture(share, lean - (share * lean).sum())

    def square(self, first: int = 0) -> float:
        """Mean square over the classes from one on."""
        return float((self.share * (OWN + self.lean**2))[first:].sum())

    def market_move(self, y: np.ndarray, of_bar: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Move in a direction of the part that is no asset's news, as far as sizes tell, (time,).

        Parameters
        ----------
        y, direction : ndarray (time, asset)
        of_bar : ndarray (time, size)
            What each bar says of its size.
        """
        news = _softmax(self.log_density(np.sqrt(COMMON)))[:, :, NEWS:].sum(axis=2)
        tame = 1.0 - np.einsum("tas,ts->ta", news[_cell(y)], of_bar)
        out: np.ndarray = (y * tame * direction).sum(axis=1)
        return out

    def drawn(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Numbers of classes."""
        edges = torch.from_numpy(np.cumsum(self.share)[:-1]).float()
        return torch.bucketize(torch.rand(shape, generator=generator), edges)

    def of(self, drawn: Tensor, e: Tensor) -> Tensor:
        """Draws of these classes from standard normal ones."""
        return torch.from_numpy(self.lean).float()[drawn] + torch.from_numpy(OWN).float().sqrt()[drawn] * e

    def standard(self, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The way back: normal where y follows the mixture, the class of each drawn from what it says."""
        edges = _softmax(self.log_density(np.ones(1)))[_cell(y), 0].cumsum(axis=-1)[..., :-1]
        drawn = (rng.random((*y.shape, 1)) > edges).sum(axis=-1)
        out: np.ndarray = (y - self.lean[drawn]) / np.sqrt(OWN)[drawn]
        return out


@dataclass(frozen=True)
class Sizes:
    """Classes of size with their probabilities and leans.

    Attributes
    ----------
    bar : ndarray
        Shares of the sizes `COMMON` of a bar.
    market : Mixture
        Of the market's move.
    market_at : ndarray (common class, market class)
        Shares of its classes in bars of each size: a wild bar is often one in which the market moves.
    own : Mixture
        Of each asset's shock in a bar of unit size.
    spread : float
        Factor on the market's move: with the assets' news it is then as large as in the sample.
    """

    bar: np.ndarray
    market: Mixture
    market_at: np.ndarray
    own: Mixture
    spread: float

    @classmethod
    def fit(cls, history: History) -> Sizes:
        """Maximum likelihood by expectation maximisation over fixed classes of size."""
        y, direction = _whitened(history)
        size, cell = np.sqrt(COMMON), _cell(y)
        bar, own, market = np.full(len(COMMON), 1 / len(COMMON)), Mixture.start(), Mixture.start()
        of_bar = np.empty(0)
        for _ in range(ROUNDS):
            of_bar = _softmax(np.log(bar) + _log_sum(own.log_density(size))[cell].sum(axis=1))
            own = own.better(size, _on_grid(cell, of_bar))
            bar = (of_bar.sum(axis=0) + 0.1) / (of_bar + 0.1 / len(of_bar)).sum()
        move = _cell(own.market_move(y, of_bar, direction))
        counts = np.bincount(move, minlength=len(GRID))[:, None].astype(float)
        for _ in range(3 * ROUNDS):
            market = market.better(np.ones(1), counts)
        both = of_bar.T @ _softmax(market.log_density(np.ones(1)))[move, 0]
        at = both + PRIOR * market.share
        whole = float(((y * direction).sum(axis=1) ** 2).mean())
        rest = max(whole - own.square(NEWS) * float(bar @ COMMON), 0.25 * whole)
        return cls(bar, market, at / at.sum(axis=1, keepdims=True), own, float(np.sqrt(rest / market.square())))

    def taken_out(self, history: History, rng: np.random.Generator) -> History:
        """The history with sizes and leans removed, as drawn from what each bar says of them: near N(0, C)."""
        y, direction = _whitened(history)
        size = np.sqrt(COMMON)
        of_bar = _softmax(np.log(self.bar) + _log_sum(self.own.log_density(size))[_cell(y)].sum(axis=1))
        bars = (rng.random((len(y), 1)) > of_bar.cumsum(axis=1)[:, :-1]).sum(axis=1)
        move = self.market.standard(self.own.market_move(y, of_bar, direction)[:, None] / self.spread, rng)
        own = self.own.standard(y / size[bars, None], rng)
        own += (move - (own * direction).sum(axis=1, keepdims=True)) * direction
        return replace(history, z=_by_matrix(own, history.correlations, 0.5))

    # ---- drawing
    def bars(
        self,
        shape: tuple[int, int],
        prior: GaussianPrior,
        known: Tensor | None,
        values: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """Common class of each bar, (batch, time), drawn given the known entries.

        Parameters
        ----------
        shape : (batch, time)
        prior : GaussianPrior
            Before anything is known; one covariance.
        known : Tensor of bool (time, asset), optional
        values : Tensor (batch or 1, time, asset), optional
        """
        score = torch.from_numpy(np.log(self.bar)).float().expand(1, shape[1], -1)
        if known is not None and values is not None:
            score = score + self._evidence(prior, known, values)
        edges = score.softmax(dim=-1).cumsum(dim=-1)[..., :-1]
        chance = torch.rand((*shape, 1), generator=generator)
        return (chance > edges).sum(dim=-1)

    def _evidence(self, prior: GaussianPrior, known: Tensor, values: Tensor) -> Tensor:
        """Log-likelihood of the known entries of each bar by common class, (batch or 1, time, class)."""
        entry = torch.from_numpy(_log_sum(self.own.log_density(np.sqrt(COMMON)))).float()
        covariance = prior.covariance()[0, 0]
        out = torch.zeros(*values.shape[:2], len(COMMON))
        for pattern in torch.unique(known[known.any(dim=1)], dim=0):
            rows, k = (known == pattern).all(dim=1), pattern.nonzero().flatten()
            root = matrix_power(covariance[k[:, None], k].double().numpy(), -0.5)
            y = values[:, rows][..., k].double().numpy() @ root
            out[:, rows] = entry[torch.from_numpy(_cell(y))].sum(dim=2)
        return out

    def deviation(self, bars: Tensor) -> Tensor:
        """Size of bars of these classes, (batch, time, 1)."""
        return torch.from_numpy(COMMON).float().sqrt()[bars][..., None]

    def around(
        self, x: Tensor, bars: Tensor, prior: GaussianPrior, direction: Tensor, generator: torch.Generator
    ) -> Tensor:
        """What is drawn around the mean of a prior, over the size of its bar, with sizes and leans.

        Parameters
        ----------
        x : Tensor (batch, time, asset)
            Deviations from the mean, drawn as if Gaussian.
        bars : Tensor (batch, time)
        prior : GaussianPrior
            Given what is known.
        direction : Tensor (asset,)
            In which all assets move together, whitened; the market's law holds in bars of which nothing is known.
        """
        free = prior.values > 1e-7
        e = prior.along(x, torch.where(free, prior.values.clamp(min=1e-7).rsqrt(), 0.0))
        classes = self.own.drawn(e.shape, generator)
        y = self.own.of(classes, e)
        news = float((self.own.share * self.own.lean)[NEWS:].sum())  # expected: no part of the market's mean, either
        tame = torch.where(classes < NEWS, y, 0.0) + news
        others = torch.where(classes < NEWS, e, torch.randn(e.shape, generator=generator))  # news moves no market
        edges = torch.from_numpy(self.market_at.cumsum(axis=1)[:, :-1]).float()[bars]
        drawn = (torch.rand((*bars.shape, 1), generator=generator) > edges).sum(dim=-1)
        move = self.spread * self.market.of(drawn, others @ direction) / self.deviation(bars).squeeze(-1)
        y = y + torch.where(free.all(dim=-1), move - tame @ direction, 0.0)[..., None] * direction
        return prior.along(y, prior.values.sqrt())


def common_direction(prior: GaussianPrior) -> Tensor:
    """Unit vector, whitened, of all assets moving together, (asset,)."""
    along = prior.along(torch.ones_like(prior.mean), prior.values.sqrt()).flatten()
    return along / along.norm()


def _whitened(history: History) -> tuple[np.ndarray, np.ndarray]:
    """Innovations in the coordinates in which they are uncorrelated, and the common direction of each bar there."""
    ones = _by_matrix(np.ones_like(history.z), history.correlations, 0.5)
    direction = ones / np.linalg.norm(ones, axis=1, keepdims=True)
    return _by_matrix(history.z, history.correlations, -0.5), direction


def _by_matrix(rows: np.ndarray, matrices: np.ndarray, power: float) -> np.ndarray:
    """Each row times the power of the matrix of its time."""
    out = np.empty_like(rows)
    for k, matrix in enumerate(matrices):
        part = slice(k * STRIDE, (k + 1) * STRIDE)
        out[part] = rows[part] @ matrix_power(matrix, power)
    return out


def _cell(y: np.ndarray) -> np.ndarray:
    """Number of the nearest grid point."""
    cell: np.ndarray = np.clip(np.searchsorted((GRID[1:] + GRID[:-1]) / 2, y), 0, len(GRID) - 1)
    return cell


def _on_grid(cell: np.ndarray, of_bar: np.ndarray) -> np.ndarray:
    """How much each grid point weighs at each size of its bar, (grid, size)."""
    parts = [np.bincount(cell.ravel(), np.repeat(r, cell.shape[1]), len(GRID)) for r in of_bar.T]
    return np.stack(parts, axis=1)


def _log_sum(table: np.ndarray) -> np.ndarray:
    top = table.max(axis=-1)
    total: np.ndarray = top + np.log(np.exp(table - top[..., None]).sum(axis=-1))
    return total


def _softmax(score: np.ndarray) -> np.ndarray:
    share: np.ndarray = np.exp(score - score.max(axis=-1, keepdims=True))
    return share / share.sum(axis=-1, keepdims=True)
