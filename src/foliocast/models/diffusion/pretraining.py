"""Training of one denoiser over many assets: universes of random size, drawn from one broad panel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foliocast.core.errors import HistoryError
from foliocast.core.scenario_base import Bars
from foliocast.models.diffusion.departures import ScaleHead, Universe, fit_departures
from foliocast.models.diffusion.fitting import DiffusionLoss, WindowSamples
from foliocast.models.diffusion.innovations import RECENT, innovations, own_scale, study
from foliocast.models.diffusion.preconditioning import GaussianPrior, Preconditioned
from foliocast.stats.correlation import CorrelationFilter
from foliocast.stats.garch import GarchParameters, fit_garch
from foliocast.stats.pooled_volatility import PooledParameters, fit_pooled, mean_pooled
from foliocast.stats.variances import FLOOR
from foliocast.stats.volatility import BlendParameters, VolatilityFilter

SIZES = (4, 20, 80)  # universe sizes for which the pooled filter is fitted: the market's mean is sharper in large ones
LENGTH = 20  # bars of a window
SMALLEST, LARGEST = 3, 100
HALF_LIFE = 100.0  # of the correlation filter
SMALL = 1.5  # universes are drawn small more often than log-uniformly: there each asset weighs more
USUAL = (0.03, 0.09, 0.87)  # alpha, gamma, beta of a GJR: about the median of US stocks, 2010 to 2019
PRIOR_ROWS = 500.0  # of an asset, that the usual GJR counts for
PRIOR_ENTRIES = 10_000.0  # rows times assets, that the law of the stocks counts for


def universe(returns: pd.DataFrame, size: int, bars: int, rng: np.random.Generator) -> Bars:
    """A stretch of history with a random universe of assets quoted all through it."""
    for _ in range(50):
        start = int(rng.integers(0, len(returns) - bars + 1))
        part = returns.iloc[start : start + bars]
        whole = np.flatnonzero(part.notna().all(axis=0).to_numpy())
        if len(whole) >= size:
            chosen = np.sort(rng.choice(whole, size, replace=False))
            values = part.to_numpy()[:, chosen]
            return Bars(values, pd.DatetimeIndex(part.index), tuple(str(a) for a in part.columns[chosen]))
    raise HistoryError(f"no stretch of {bars} bars with {size} assets found; use shorter stretches or a broader panel")


def pooled_by_size(
    returns: pd.DataFrame, rng: np.random.Generator, universes: int = 24, bars: int = 2520
) -> dict[int, PooledParameters]:
    """The pooled volatility filter for universes of each size: coefficients averaged over random universes."""
    out = {}
    for size in SIZES:
        fits = [fit_pooled(universe(returns, size, bars, rng).log_returns) for _ in range(universes)]
        out[size] = mean_pooled(fits)
    return out


def common_departures(
    returns: pd.DataFrame, pooled: dict[int, PooledParameters], seed: int, universes: int = 40, bars: int = 2000
) -> ScaleHead:
    """Departures of the scale learnt from random universes, as stretches of history."""
    rng, parts = np.random.default_rng(seed), []
    for size in np.geomspace(4, min(60, returns.shape[1] // 3), universes).astype(int):
        part = universe(returns, int(size), bars, rng)
        parts.append(Universe.of(part, filter_for(pooled, part.log_returns)))
    return fit_departures(parts, seed)


def filter_for(pooled: dict[int, PooledParameters], log_returns: np.ndarray) -> VolatilityFilter:
    """The filter of a universe (time, asset): the pooled law for its size, blended with a GJR of each asset.

    Both are drawn to the history handed in, the more the longer it is: coins do not follow the law of stocks. The
    pooled law alone overshoots over twenty bars after a crisis.
    """
    own, entries = fit_pooled(log_returns), log_returns.size
    weight = entries / (entries + PRIOR_ENTRIES)
    law = mixed_law(law_for(pooled, log_returns.shape[1]), own, weight)
    level = np.maximum((log_returns**2).mean(axis=0), FLOOR)
    return VolatilityFilter("blend", parameters_=BlendParameters(usual_garch(log_returns), law), level_=level)


def law_for(pooled: dict[int, PooledParameters], n_assets: int) -> PooledParameters:
    """The pooled law for a universe of this size, log-interpolated between the sizes it was fitted for."""
    sizes = sorted(pooled)
    place = np.interp(np.log(n_assets), np.log(sizes), np.arange(len(sizes)))
    low = int(min(place, len(sizes) - 2))
    return mixed_law(pooled[sizes[low]], pooled[sizes[low + 1]], float(place - low))


def mixed_law(a: PooledParameters, b: PooledParameters, weight: float) -> PooledParameters:
    """``a``, with so much of the intercept and coefficients of ``b``."""
    intercept = (1 - weight) * a.intercept + weight * b.intercept
    return replace(a, intercept=intercept, coefficients=(1 - weight) * a.coefficients + weight * b.coefficients)


def usual_garch(log_returns: np.ndarray) -> GarchParameters:
    """A GJR of each asset with its own long-run variance, drawn towards `USUAL` as if that were `PRIOR_ROWS` rows."""
    own, n = fit_garch(log_returns), len(log_returns)
    weight = n / (n + PRIOR_ROWS)
    parts = zip((own.alpha, own.gamma, own.beta), USUAL, strict=True)
    alpha, gamma, beta = (weight * mine + (1 - weight) * usual for mine, usual in parts)
    variance = np.maximum((log_returns**2).mean(axis=0), FLOOR)
    falls = (log_returns**2 * (log_returns < 0)).mean(axis=0) / variance
    return GarchParameters(np.maximum(1 - alpha - falls * gamma - beta, 1e-6) * variance, alpha, gamma, beta)


def correlation_for(volatility: VolatilityFilter, bars: Bars, head: ScaleHead | None = None) -> CorrelationFilter:
    """The correlation filter on the innovations of a history."""
    z, _, _ = innovations(volatility, bars, head)
    return CorrelationFilter(HALF_LIFE).fit(z / own_scale(z))


@dataclass(frozen=True)
class UniverseSamples:
    """Samples for the training loop in which one number is one universe: its whole filtered history.

    Universes differ in size, so the tensors of a batch lie one after the other; `UniverseLoss` draws windows from them.
    Train with ``batch_size = 1``.
    """

    pool: list[WindowSamples]

    @classmethod
    def build(
        cls,
        returns: pd.DataFrame,
        pooled: dict[int, PooledParameters],
        count: int,
        bars: int = 1500,
        last: int | None = None,
        seed: int = 0,
        head: ScaleHead | None = None,
    ) -> UniverseSamples:
        """Draw ``count`` universes of random size and filter them; windows start in the ``last`` bars only."""
        rng = np.random.default_rng(seed)
        largest = min(LARGEST, returns.shape[1] // 3)
        pool = []
        for _ in range(count):
            size = int(SMALLEST * ((largest + 1) / SMALLEST) ** (rng.random() ** SMALL))
            stretch = universe(returns, size, bars, rng)
            volatility = filter_for(pooled, stretch.log_returns)
            history = study(volatility, correlation_for(volatility, stretch, head), stretch, head)
            n = len(history.z)
            pool.append(WindowSamples.of(history, LENGTH, 5 * RECENT if last is None else n - last, n - LENGTH))
        return cls(pool)

    def __len__(self) -> int:
        return len(self.pool)

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        out: list[Tensor] = []
        for number in index.tolist():
            s = self.pool[number]
            out += [s.z, s.state, s.prior.values, s.prior.vectors, torch.tensor([s.first, s.last])]
        return tuple(out)


@dataclass(frozen=True)
class UniverseLoss:
    """`DiffusionLoss` of random windows of each universe in the batch."""

    loss: DiffusionLoss
    windows: int = 64

    def __call__(self, denoiser: Preconditioned, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        losses = []
        for k in range(0, len(batch), 5):
            z, state, values, vectors, (first, last) = batch[k : k + 5]
            samples = WindowSamples(
                z, state, GaussianPrior(values, vectors, torch.zeros_like(values)), LENGTH, int(first), int(last)
            )
            index = torch.randint(len(samples), (self.windows,), generator=generator)
            losses.append(self.loss(denoiser, samples.batch(index), generator))
        return torch.stack(losses).mean()
