"""How large the shocks of a bar are: random sizes of the bar, of the market's move in it and of each asset's own.

A whitened innovation is read as ``y = b g + sqrt(v) own`` with g the direction in which all assets move together, b the
market's move, v the size of the bar, and ``own`` what is left, entry by entry. b and the entries are normal mixtures
``n + sqrt(w) e`` whose classes differ in size and may lean to one side. Wild bars are wild for all, crashes are
common, some shocks are an asset's own news: what of them lies far stands beside the market's move. The classes are
drawn; what is left is near N(0, I), which is where a diffusion of few steps is exact. It is the heavy-tailed noise of
Pandey et al. (2024, arXiv 2410.14171) with a law of the scale that is read off the data instead of a chi-square.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch import Tensor

from foliocast.models.diffusion.innovations import STRIDE, History
from foliocast.models.diffusion.preconditioning import GaussianPrior
from foliocast.stats.correlation import matrix_power
from foliocast.stats.drift import earned

COMMON = np.array([0.2, 0.4, 0.65, 1.0, 1.6, 2.7, 5.0])
OWN = np.array([0.15, 0.4, 0.7, 1.0, 1.5, 2.5, 6.0, 14.0, 28.0, 60.0, 130.0])
FAR = 4.0  # deviations of an entry's own shock; what lies beyond is its news, and no part of the market's move
GRID = np.sinh(np.linspace(-np.arcsinh(24.0), np.arcsinh(24.0), 701))  # of whitened innovations
FINE = np.linspace(-60.0, 60.0, 2401)  # of an entry's own shock
ROUNDS = 80
PRIOR = 10.0  # bars of each size in which the market is as in all bars
STEEPEST = 1.0  # change of lean, in deviations of a class, at most
UPRIGHT = 0.5  # entries of each class that say that it does not lean


@dataclass(frozen=True)
class Mixture:
    """Shares of the classes of size `OWN` and the mean of each."""

    share: np.ndarray
    lean: np.ndarray

    @classmethod
    def start(cls) -> Mixture:
        """Thin tails: expectation maximisation is slow to take back what they have too much."""
        share = np.minimum(OWN, 1.0 / OWN) ** 3
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

    def square(self) -> float:
        """Mean square."""
        return float(self.share @ (OWN + self.lean**2))

    def third(self) -> float:
        """Mean cube."""
        return float(self.share @ (self.lean**3 + 3.0 * self.lean * OWN))

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """Probability of each point of `FINE` and the standard normal quantile of the law there."""
        density = np.exp(-0.5 * (FINE[:, None] - self.lean) ** 2 / OWN) @ (self.share / np.sqrt(OWN))
        mass = density / density.sum()
        below = np.clip(mass.cumsum() - mass / 2, 1e-15, 1 - 1e-15)
        return mass, norm.ppf(below)

    def normal_score(self, y: Tensor) -> Tensor:
        """Standard normal where y follows the mixture, and rising in y."""
        scores = torch.from_numpy(self._table[1]).float()
        place = ((y - float(FINE[0])) / float(FINE[1] - FINE[0])).clamp(0.0, len(FINE) - 1.001)
        low = place.long()
        return torch.lerp(scores[low], scores[low + 1], place - low)

    def news(self, power: int) -> float:
        """What lies beyond `FAR` adds to the mean power of the rest, of which the market is made."""
        mass, score = self._table
        past = FINE - np.clip(FINE, -FAR, FAR)
        return float(mass @ ((score + past) ** power - score**power))

    def leant(self, third: float) -> Mixture:
        """The same shares, with leans changed in proportion to the deviation of the class for this mean cube."""
        root = np.sqrt(OWN)

        def tilted(c: float) -> Mixture:
            return replace(self, lean=self.lean + c * (root - self.share @ root))

        def miss(c: float) -> float:
            return tilted(c).third() - third

        if miss(-STEEPEST) * miss(STEEPEST) > 0.0:
            return tilted(float(np.copysign(STEEPEST, third - self.third())))
        return tilted(brentq(miss, -STEEPEST, STEEPEST))

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
        bar, own = np.full(len(COMMON), 1 / len(COMMON)), Mixture.start()
        of_bar = np.empty(0)
        for _ in range(ROUNDS):
            of_bar = _softmax(np.log(bar) + _log_sum(own.log_density(size))[cell].sum(axis=1))
            own = own.better(size, _on_grid(cell, of_bar))
            bar = (of_bar.sum(axis=0) + 0.1) / (of_bar + 0.1 / len(of_bar)).sum()
        market, at, spread = _market(y, direction, of_bar, bar, own)
        return cls(bar, market, at, own, spread)

    def taken_out(self, history: History, rng: np.random.Generator) -> History:
        """The history with sizes and leans removed, as drawn from what each bar says of them: near N(0, C)."""
        y, direction = _whitened(history)
        size = np.sqrt(COMMON)
        of_bar = _softmax(np.log(self.bar) + _log_sum(self.own.log_density(size))[_cell(y)].sum(axis=1))
        bars = (rng.random((len(y), 1)) > of_bar.cumsum(axis=1)[:, :-1]).sum(axis=1)
        move = self.market.standard(_market_move(y, of_bar, direction)[:, None] / self.spread, rng)
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
        y = self.own.of(self.own.drawn(e.shape, generator), e)
        near = y.clamp(-FAR, FAR) + self.own.news(1)
        edges = torch.from_numpy(self.market_at.cumsum(axis=1)[:, :-1]).float()[bars]
        drawn = (torch.rand((*bars.shape, 1), generator=generator) > edges).sum(dim=-1)
        normal = self.own.normal_score(y) @ direction  # so that the market moves as its parts do
        move = self.spread * self.market.of(drawn, normal) / self.deviation(bars).squeeze(-1)
        y = y + torch.where(free.all(dim=-1), move - near @ direction, 0.0)[..., None] * direction
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


def _market_move(y: np.ndarray, of_bar: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Move in a direction of what is no asset's news, (time,).

    Parameters
    ----------
    y, direction : ndarray (time, asset)
    of_bar : ndarray (time, size)
        What each bar says of its size.
    """
    far = FAR * (of_bar @ np.sqrt(COMMON))[:, None]
    move: np.ndarray = (np.clip(y, -far, far) * direction).sum(axis=1)
    return move


def _market(
    y: np.ndarray, direction: np.ndarray, of_bar: np.ndarray, bar: np.ndarray, own: Mixture
) -> tuple[Mixture, np.ndarray, float]:
    """Law of the market's move, its classes in bars of each size, and its factor.

    With the assets' news the total is then as large as in the sample, and leans as far.
    """
    move = _cell(_market_move(y, of_bar, direction))
    counts = np.bincount(move, minlength=len(GRID))[:, None].astype(float)
    market = Mixture.start()
    for _ in range(3 * ROUNDS):
        market = market.better(np.ones(1), counts)
    total = (y * direction).sum(axis=1)
    cubes = (total - total.mean()) ** 3
    third = earned(float(cubes.mean()), float(cubes.var()) / len(cubes))  # a few bars make it
    whole = float((total**2).mean())
    rest = max(whole - own.news(2) * float(bar @ COMMON), 0.25 * whole)
    news = own.news(3) * float(bar @ COMMON**1.5) * float((direction**3).sum(axis=1).mean())
    market = market.leant((third - news) * (market.square() / rest) ** 1.5)
    at = of_bar.T @ _softmax(market.log_density(np.ones(1)))[move, 0] + PRIOR * market.share
    at /= at.sum(axis=1, keepdims=True)
    market = replace(market, lean=market.lean - bar @ at @ market.lean)
    return market, at, float(np.sqrt(rest / market.square()))


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
