"""How far the scale of a bar departs from what the volatility filter says: learnt from clues, pooled over assets.

A small network maps `clues` and the number of bars ahead to a log factor on the filter's forecast. It starts at zero,
is fitted by Student-t likelihood on every asset at hand, bounded, and multiplied by the share of it that the latest
rows, held out, support, one for the next bar and one for later ones: with nothing to learn the filter stands as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from foliocast.core.scenario_base import Bars
from foliocast.models.diffusion.clues import HORIZON, N_CLUES, N_OWN, N_PRICED, QUARTERS, YEARS, Clues, Priced, clues
from foliocast.models.diffusion.innovations import own_scale
from foliocast.models.diffusion.layers import zero
from foliocast.models.training import TrainingSpec, initialised, train
from foliocast.stats.volatility import VolatilityFilter

BOUND = 0.7  # of the log factor
WARM_UP = 260  # rows without a year behind them are not learnt from
EVERY = 10  # rows between origins of the forecasts of several bars
STEPS_PER_ORIGIN = 6
PATHS = 4  # simulated from each origin to tell what the filter expects
HELD_OUT = 0.15
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
EXAMPLES = 300_000  # of one bar ahead, and of several
BLIND = 0.3  # share of the batches that see closes only
SCALE_TRAINING = TrainingSpec(
    optimizer="adamw", lr=3e-3, weight_decay=2e-2, batch_size=2048, epochs=40, max_steps=800, schedule="cosine",
    warmup_steps=20,
)  # fmt: skip


class ScaleHead(nn.Module):
    """Clues (..., clue) to the log of the factor on the filter's volatility (...), between -0.7 and 0.7."""

    centre: Tensor
    spread: Tensor
    share: Tensor
    far: Tensor
    offset: Tensor

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(N_CLUES))
        self.register_buffer("spread", torch.ones(N_CLUES))
        self.register_buffer("share", torch.ones(()))
        self.register_buffer("far", torch.ones(()))
        self.register_buffer("offset", torch.zeros(HORIZON), persistent=False)
        self.enter = nn.Linear(N_CLUES, hidden)
        self.leave = zero(nn.Linear(hidden, 1))

    def forward(self, seen: Tensor) -> Tensor:
        u = ((seen - self.centre) / self.spread).clamp(-3.0, 3.0)
        raw = self.leave(functional.gelu(self.enter(u))).squeeze(-1)
        share = torch.where(one_ahead(seen), self.share, self.far)
        return share * BOUND * torch.tanh(raw / BOUND)

    @torch.no_grad()
    def of_history(self, known: Clues) -> np.ndarray:
        """Log factor of every bar of the history one bar ahead, (time, asset)."""
        rows = np.arange(len(known.past) - 1)
        parts = [self._at(known, part, np.ones_like(part)) for part in np.array_split(rows, max(1, len(rows) // 500))]
        return np.concatenate(parts)

    @torch.no_grad()
    def of_future(self, known: Clues) -> np.ndarray:
        """Log factor of the next bars, (HORIZON, asset)."""
        last = np.full(HORIZON, len(known.past) - 1)
        return self._at(known, last, np.arange(1, HORIZON + 1)) - self.offset.numpy()[:, None]

    def _at(self, known: Clues, rows: np.ndarray, steps: np.ndarray) -> np.ndarray:
        out: np.ndarray = self(torch.from_numpy(known.ahead(rows, steps))).numpy().astype(float)
        return out


def one_ahead(seen: Tensor) -> Tensor:
    """Whether clues are to the next bar (their last but one is the log of the bars ahead)."""
    return seen[..., -2] == 0.0


@dataclass(frozen=True)
class Universe:
    """A history, log returns (time, asset) and what prices say of its bars, with the filter to depart from."""

    returns: np.ndarray
    priced: Priced | None
    volatility: VolatilityFilter

    @classmethod
    def of(cls, bars: Bars, volatility: VolatilityFilter) -> Self:
        """Of a history with its prices, if it has any."""
        return cls(bars.log_returns, Priced.of(bars), volatility)

    @property
    def ranges(self) -> np.ndarray | None:
        """Variance of each bar, for the filter."""
        return None if self.priced is None else self.priced.variance

    def standardised(self) -> tuple[np.ndarray, np.ndarray, Any, int]:
        """z and sigma from the first row that the filter knows, its state after the last, and that row's number."""
        sigma, state = self.volatility.filter(self.returns, self.ranges)
        first = int(np.isfinite(sigma).all(axis=1).argmax())
        return self.returns[first:] / sigma[first:], sigma[first:], state, first

    def clues(self, z: np.ndarray, sigma: np.ndarray, state: Any) -> Clues:
        """Clues to the last rows, from their standardised returns and sigma."""
        return clues(z, np.vstack([sigma, self.volatility.sigma(state)]), self.returns, self.priced)


@dataclass(frozen=True)
class ScaleSamples:
    """Examples for the training loop: clues (example, clue), the standardised return (example,), the row (example,)."""

    seen: Tensor
    z: Tensor
    when: Tensor

    def __len__(self) -> int:
        return len(self.z)

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        return self.seen[index], self.z[index]

    def where(self, mask: Tensor) -> ScaleSamples:
        return ScaleSamples(self.seen[mask], self.z[mask], self.when[mask])

    @classmethod
    def joined(cls, parts: Sequence[ScaleSamples]) -> ScaleSamples:
        return cls(*(torch.cat([getattr(p, key) for p in parts]) for key in ("seen", "z", "when")))

    @classmethod
    def of(cls, universe: Universe, most: int, rng: np.random.Generator) -> ScaleSamples:
        """One bar ahead from all rows, several from every tenth; thinned to at most so many of each.

        ``when`` is the place of the bar in the history, from 0 to 1.
        """
        z, sigma, state, first = universe.standardised()
        x, scale = universe.returns[first:], own_scale(z)
        known = universe.clues(z / scale, sigma, state)
        n, n_assets = z.shape
        rows = np.arange(WARM_UP, n)
        rows = rows[:: max(1, len(rows) * n_assets // most)]
        near = cls._examples(known, rows, np.ones_like(rows), z[rows] / scale)
        origins = np.arange(WARM_UP, n - HORIZON, EVERY)
        origins = origins[:: max(1, len(origins) * n_assets * STEPS_PER_ORIGIN // most)]
        expected = _expected(universe, origins + first, np.clip(z, -10, 10), rng)
        steps = np.stack([rng.permutation(np.arange(2, HORIZON + 1))[:STEPS_PER_ORIGIN] for _ in origins])
        which, far = np.repeat(np.arange(len(origins)), STEPS_PER_ORIGIN), steps.ravel()
        came = x[origins[which] + far - 1] / (expected[which, far - 1] * scale)
        return cls.joined([near, cls._examples(known, origins[which], far, came)])

    @classmethod
    def _examples(cls, known: Clues, rows: np.ndarray, steps: np.ndarray, z: np.ndarray) -> ScaleSamples:
        seen = known.ahead(rows, steps)
        when = np.repeat((rows + steps) / len(known.past), z.shape[1])
        return cls(
            torch.from_numpy(seen.reshape(-1, seen.shape[-1])),
            torch.from_numpy(np.clip(z, -15, 15).astype(np.float32).ravel()),
            torch.from_numpy(when.astype(np.float32)),
        )


def _expected(universe: Universe, rows: np.ndarray, bank: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Geometric mean of the volatility 1 to HORIZON bars after each row, on paths of past surprises."""
    volatility = universe.volatility
    start = volatility.states(universe.returns, universe.ranges, rows)
    total = np.zeros((len(rows), HORIZON, bank.shape[1]))
    for _ in range(PATHS):
        state = start
        for h in range(HORIZON):
            sigma = volatility.sigma(state)
            total[:, h] += np.log(sigma)
            state = volatility.step(state, sigma * bank[rng.integers(len(bank), size=len(rows))])
    return np.exp(total / PATHS)


def t_loss(log_scale: Tensor, z: Tensor) -> Tensor:
    """Negative log-likelihood, up to a constant, of a Student-t with 5 degrees and deviation exp(log_scale)."""
    return (log_scale + 3.0 * torch.log1p((z * torch.exp(-log_scale)) ** 2 / 3.0)).mean()


_PRICED = torch.ones(N_CLUES)
_PRICED[N_OWN : N_OWN + N_PRICED] = 0.0
_PRICED[N_OWN + N_PRICED + len(QUARTERS + YEARS) : -2] = 0.0
_PRICED[-1] = 0.0


def _loss(head: ScaleHead, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
    seen, z = batch
    if torch.rand((), generator=generator) < BLIND:
        seen = seen * _PRICED
    return t_loss(head(seen), z)


@torch.no_grad()
def adapted(head: ScaleHead, volatility: VolatilityFilter, bars: Bars) -> ScaleHead:
    """The head as a history it was not trained on supports it: its share by likelihood, its mean over the steps level.

    Assets of another kind (coins, for a head of stocks) live elsewhere in the space of clues; what the head says of
    all of them all the time is then no news but a bias.
    """
    universe = Universe.of(bars, volatility)
    z, sigma, state, _ = universe.standardised()
    z = np.clip(z / own_scale(z), -15, 15)
    known = universe.clues(z, sigma, state)
    out = copy.deepcopy(head)
    full = head.of_history(known)
    late = slice(min(WARM_UP, len(z) // 2), None)
    losses = [_history_loss(share * full[late], z[late]) for share in SHARES]
    kept = SHARES[int(np.argmin(losses))]
    out.share, out.far = head.share * kept, head.far * kept
    rows = np.unique(np.linspace(len(z) // 2, len(z) - 1, 40).astype(int))
    steps = np.arange(1, HORIZON + 1)
    mean = np.mean([out._at(known, np.full(HORIZON, row), steps).mean(axis=1) for row in rows], axis=0)
    out.offset = torch.from_numpy(mean - mean[0]).float()
    return out


def _history_loss(log_scale: np.ndarray, z: np.ndarray) -> float:
    """`t_loss` after the level of each asset has been put right, as `own_scale` does."""
    u = z * np.exp(-log_scale)
    level = np.log(own_scale(u))
    return float(t_loss(torch.from_numpy(log_scale + level), torch.from_numpy(z)))


def past_factors(head: ScaleHead, universe: Universe) -> np.ndarray:
    """Factors on the filter's volatility of every bar of a history, (time, asset).

    One at the first bars, which the filter does not know.
    """
    z, sigma, state, first = universe.standardised()
    out = np.ones_like(universe.returns)
    out[first:] = np.exp(head.of_history(universe.clues(z / own_scale(z), sigma, state)))
    return out


def next_factors(head: ScaleHead, universe: Universe) -> np.ndarray:
    """Factors on the filter's volatility of the bars after a history, (HORIZON, asset)."""
    z, sigma, state, _ = universe.standardised()
    return np.exp(head.of_future(universe.clues(z / own_scale(z), sigma, state)))


def fit_departures(universes: Sequence[Universe], seed: int = 0, spec: TrainingSpec = SCALE_TRAINING) -> ScaleHead:
    """Learn the departures of all universes at once; the share used is what their last rows support."""
    rng = np.random.default_rng(seed)
    most = max(1000, EXAMPLES // len(universes))
    samples = ScaleSamples.joined([ScaleSamples.of(u, most, rng) for u in universes])
    longest = max(len(u.returns) for u in universes)
    gap = 2.0 * HORIZON / longest
    early, late = samples.where(samples.when < 1 - HELD_OUT - gap), samples.where(samples.when >= 1 - HELD_OUT)
    head = initialised(ScaleHead, seed)
    head.centre = early.seen.mean(dim=0)
    head.spread = early.seen.std(dim=0) + 1e-3
    train(head, early, _loss, replace(spec, seed=seed), late)
    head.eval()
    near = one_ahead(late.seen)
    head.share, head.far = _best_share(head, late.where(near)), _best_share(head, late.where(~near))
    return head


@torch.no_grad()
def _best_share(head: ScaleHead, samples: ScaleSamples) -> Tensor:
    """How much of what the head says these samples support."""
    full = head(samples.seen)
    losses = [float(t_loss(share * full, samples.z)) for share in SHARES]
    return torch.tensor(SHARES[int(np.argmin(losses))])
