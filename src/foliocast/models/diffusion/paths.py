"""From a denoiser to paths: blocks of innovations are sampled, the volatility recursion runs along them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from foliocast.core.conditions import Condition
from foliocast.models.diffusion.guidance import ClassifierFree, path_total
from foliocast.models.diffusion.innovations import FARTHEST, RECENT, WILDEST, History, Origin, state_now
from foliocast.models.diffusion.preconditioning import Context, Denoiser, GaussianPrior, Preconditioned
from foliocast.models.diffusion.process import karras_sigmas
from foliocast.models.diffusion.samplers import sampler_named
from foliocast.models.diffusion.sizes import Sizes, common_direction
from foliocast.stats.conditioning import meet

PATCH = 10  # bars of a token; windows are whole patches, in training and in sampling
GROUP = 5_000  # windows times assets denoised at once: their tensors stay in the cache, and memory bounded
LONGEST = 3.0  # a log return beyond is not simulated: exp would turn a far tail into an infinite price
PASSES = 3  # the volatility along a conditioned path depends on the path


@dataclass(frozen=True)
class PathSampler:
    """How paths are drawn.

    Parameters
    ----------
    denoiser : Preconditioned
        Of innovations, with the Wiener preconditioner.
    sampler : str
    steps : int
    block : int
        Bars generated at once; longer horizons continue from the simulated end.
    guidance : float
        Scale of classifier-free guidance by the state; 0 is without state, 1 is none.
    jobs : int
        Threads; the bits do not depend on it.
    level : float
        Factor on what is drawn around what is expected given the condition (`size_ratio`).
    sizes : Sizes, optional
        Random sizes of bars and entries, which the denoiser was not shown.
    mirrored : bool
        Whether windows are turned over at random, with what is given of them, so that what is drawn freely has no mean:
        that of the sample the network was trained on is no law, and the drift is added to paths.
    """

    denoiser: Preconditioned
    sampler: str = "dpm"
    steps: int = 4
    block: int = 20
    guidance: float = 0.0
    jobs: int = 1
    level: float = 1.0
    sizes: Sizes | None = None
    mirrored: bool = False

    def draw(
        self, start: Origin, horizon: int, condition: Condition
    ) -> Callable[[int, np.random.Generator], np.ndarray]:
        """``draw(n, rng)`` -> simple returns (n, horizon, asset) that meet the condition."""
        condition = condition.pointwise()

        def run(n: int, rng: np.random.Generator) -> np.ndarray:
            if condition.empty:
                return np.expm1(_clip(self._free(start, n, horizon, rng)))
            log_paths, sigma = self._given(start, n, horizon, condition, rng)
            size = sigma.mean(axis=0)
            covariance = start.correlation * size[:, :, None] * size[:, None, :]
            returns = np.expm1(meet(log_paths, condition, covariance))
            fixed = np.isfinite(condition.path)
            returns[:, fixed] = condition.path[fixed]
            return returns

        return run

    # ---- paths
    def _free(self, start: Origin, n: int, horizon: int, rng: np.random.Generator) -> np.ndarray:
        """Log returns (n, horizon, asset), block by block."""
        paths = np.empty((n, horizon, len(start.slow)))
        walk = _Walk.begin(start, n)
        for first in range(0, horizon, self.block):
            length = min(self.block, horizon - first)
            z = self._innovations(start, walk, Window(length), n, rng)
            farthest = FARTHEST if self.sizes is None else WILDEST
            np.clip(z, -farthest, farthest, out=z)  # nothing farther was learnt from; the recursion would run away
            walk.along(start, z, paths[:, first : first + length])
        return paths

    def _given(
        self, start: Origin, n: int, horizon: int, condition: Condition, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Log returns with the condition met but for what the recursion still shifts, and the volatility of each bar.

        A sum over the horizon needs the whole of it in one window; points are met block by block, as the network was
        trained.
        """
        whole = bool(np.isfinite(condition.total).any())
        size = horizon if whole else self.block
        paths, sigma = np.empty((2, n, horizon, len(start.slow)))
        walk = _Walk.begin(start, n)
        for first in range(0, horizon, size):
            bars = slice(first, min(first + size, horizon))
            part = replace(condition, path=condition.path[bars])
            walk, sigma[:, bars] = self._given_block(start, walk, part, rng, paths[:, bars])
        return paths, sigma

    def _given_block(
        self, start: Origin, walk: _Walk, condition: Condition, rng: np.random.Generator, out: np.ndarray
    ) -> tuple[_Walk, np.ndarray]:
        """Fill ``out`` (n, length, asset); the walk at its end and volatilities, which depend on it: a few passes."""
        seed = int(rng.integers(2**63))
        now = walk.sigma(start)
        sigma = np.broadcast_to(now[:, None], (len(now), *out.shape[1:]))
        fixed = np.log1p(condition.path)
        for _ in range(1 if out.shape[1] == 1 else PASSES):
            window = _window(condition, fixed, sigma, start.drift)
            z = self._innovations(start, walk, window, len(out), np.random.default_rng(seed))
            there = replace(walk)
            sigma = there.along(start, z, out, fixed)
        return there, sigma

    # ---- innovations
    def _innovations(self, start: Origin, walk: _Walk, window: Window, n: int, rng: np.random.Generator) -> np.ndarray:
        """Innovations (n, length, asset), group by group, each group with its own seed.

        The network has only seen windows of whole patches: shorter ones are drawn as such and cut.
        """
        wanted, window = window.length, window.padded(PATCH)
        size = max(16, GROUP // len(start.slow))
        groups = range(0, n, size)
        seeds = rng.integers(2**63, size=len(groups))
        state = torch.zeros(1, len(start.slow), 0)
        if self.guidance:
            state = torch.from_numpy(state_now(start, walk.sigma(start) / start.scale, walk.recent))
        prior = GaussianPrior.of(torch.from_numpy(start.correlation).float())
        out = np.empty((n, wanted, len(start.slow)), dtype=np.float32)

        def one(k: int) -> None:
            rows = slice(groups[k], min(groups[k] + size, n))
            noise = torch.Generator().manual_seed(int(seeds[k]))
            x = torch.randn((rows.stop - rows.start, window.length, len(start.slow)), generator=noise)
            own = state if len(state) == 1 else state[rows]
            out[rows] = self.sampled(
                x, Context(state=own if self.guidance else None, prior=prior), window.rows(rows), noise
            )[:, :wanted].numpy()

        if self.jobs == 1 or len(groups) == 1:
            for k in range(len(groups)):
                one(k)
        else:
            with ThreadPoolExecutor(self.jobs) as pool:
                list(pool.map(one, range(len(groups))))
        return out

    @torch.no_grad()
    def sampled(self, noise: Tensor, context: Context, window: Window, generator: torch.Generator) -> Tensor:
        """Windows of innovations from standard normal noise (batch, length, asset)."""
        if self.mirrored:
            side = 2.0 * torch.randint(2, (len(noise), 1, 1), generator=generator) - 1.0
            return side * replace(self, mirrored=False).sampled(noise, context, window.turned(side), generator)
        denoiser: Denoiser = self.denoiser
        if self.guidance not in (0.0, 1.0):
            denoiser = ClassifierFree(denoiser, self.guidance)
        back: Callable[[Tensor], Tensor] | None = None
        free = context.prior
        assert free is not None
        bars: Tensor | None = None
        if self.sizes is not None and window.weights is None:
            bars = self.sizes.bars((len(noise), window.length), free, window.known, window.values, generator)
            if window.values is not None:
                window = replace(window, values=window.values / self.sizes.deviation(bars))
        if window.known is not None:
            assert window.values is not None
            given = free.given(window.known, window.values)
            context = replace(context, known=window.known, values=window.values, prior=given)
        if window.weights is not None:
            assert window.assets is not None
            assert window.totals is not None
            denoiser, context, back = path_total(denoiser, context, window.weights, window.assets, window.totals)
        prior = context.prior
        assert prior is not None
        sigmas = noise_levels(self.steps)
        x = prior.start(noise, float(sigmas[0]))
        around = sampler_named(self.sampler)(denoiser, x, sigmas, context, generator) - prior.mean
        if self.sizes is not None and bars is not None:
            around = self.sizes.around(around, bars, prior, common_direction(free), generator)
            return self.sizes.deviation(bars) * (prior.mean + self.level * around)
        x = prior.mean + self.level * around
        return x if back is None else back(x)


def noise_levels(steps: int) -> Tensor:
    """Levels that few steps are best spent on, the far ends being Gaussian anyway."""
    return karras_sigmas(steps, 0.05, 10.0, rho=3.0) if steps > 1 else karras_sigmas(1, 1.0, 10.0)


def size_ratio(paths: PathSampler, history: History, n: int = 96) -> float:
    """Mean absolute innovation of a history over that of windows drawn at eight of its correlation matrices.

    A network trained by squared error draws a few percent too wide or too narrow; this is the factor that makes the
    margins those of the data again.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = []
    for matrix in history.correlations[np.linspace(0, len(history.correlations) - 1, 8).astype(int)]:
        prior = GaussianPrior.of(torch.from_numpy(matrix).float())
        length = paths.block + -paths.block % PATCH
        x = torch.randn((n, length, len(matrix)), generator=generator)
        drawn.append(float(paths.sampled(x, Context(prior=prior), Window(length), generator).abs().mean()))
    return float(np.abs(history.z).mean() / np.mean(drawn))


@dataclass(frozen=True)
class Window:
    """What is given of a window, in units of innovations.

    Attributes
    ----------
    known : Tensor of bool (length, asset), optional
    values : Tensor (batch or 1, length, asset), optional
    weights : Tensor (length,), optional
        Of the sums over time that are given.
    assets : Tensor of bool (asset,), optional
    totals : Tensor (batch or 1, assets), optional
    """

    length: int
    known: Tensor | None = None
    values: Tensor | None = None
    weights: Tensor | None = None
    assets: Tensor | None = None
    totals: Tensor | None = None

    def padded(self, multiple: int) -> Window:
        """Longer by free bars, to a multiple of so many."""
        more = -self.length % multiple

        def part(values: Tensor | None) -> Tensor | None:
            return None if values is None else functional.pad(values, (0, 0, 0, more))

        weights = None if self.weights is None else functional.pad(self.weights, (0, more))
        known, values = part(self.known), part(self.values)
        return replace(self, length=self.length + more, known=known, values=values, weights=weights)

    def turned(self, side: Tensor) -> Window:
        """What is given times 1 or -1, (batch, 1, 1)."""
        values = None if self.values is None else self.values * side
        totals = None if self.totals is None else self.totals * side[:, 0]
        return replace(self, values=values, totals=totals)

    def rows(self, rows: slice) -> Window:
        """The part that concerns these windows."""

        def part(values: Tensor | None) -> Tensor | None:
            return values if values is None or len(values) == 1 else values[rows]

        return replace(self, values=part(self.values), totals=part(self.totals))


def _window(condition: Condition, fixed: np.ndarray, sigma: np.ndarray, drift: np.ndarray) -> Window:
    """Read a condition on returns as one on innovations, given the volatility along each path.

    Points that are given only at some bars beside totals of other assets are left to `meet`.
    """
    known = np.isfinite(fixed)
    touched = np.isfinite(condition.total)
    window = Window(len(fixed))
    if known.any() and not (touched.any() and (known.any(axis=0) != known.all(axis=0)).any()):
        values = np.where(known, np.where(known, fixed - drift, 0.0) / sigma, 0.0)
        window = replace(window, known=torch.from_numpy(known), values=torch.from_numpy(values).float())
    if touched.any():
        shape = sigma[:, :, touched].mean(axis=(0, 2))
        size = (sigma[:, :, touched] * shape[:, None]).sum(axis=1) / (shape**2).sum()
        totals = (np.log1p(condition.total) - len(fixed) * drift)[touched] / size
        window = replace(
            window,
            weights=torch.from_numpy(shape / shape[0]).float(),
            assets=torch.from_numpy(touched),
            totals=torch.from_numpy(totals / shape[0]).float(),
        )
    return window


@dataclass
class _Walk:
    """The volatility recursion along paths under way: its state and the last innovations."""

    state: Any
    recent: np.ndarray
    bar: int = 0

    @classmethod
    def begin(cls, start: Origin, n: int) -> _Walk:
        return cls(start.volatility.spread(start.state, n), start.recent[None])

    def sigma(self, start: Origin) -> np.ndarray:
        """Volatility of the next bar, (batch or 1, asset): one row while all paths are still the same."""
        sigma = start.sigma(self.state, self.bar)
        return sigma[:1] if len(self.recent) == 1 else sigma

    def along(self, start: Origin, z: np.ndarray, out: np.ndarray, fixed: np.ndarray | None = None) -> np.ndarray:
        """Fill ``out`` (n, length, asset) with log returns, overriding what is fixed; the volatilities of each bar."""
        n, length, _ = z.shape
        sigmas, seen = np.empty(z.shape), np.array(z, dtype=float)
        for h in range(length):
            sigmas[:, h] = start.sigma(self.state, self.bar)
            out[:, h] = z[:, h] * sigmas[:, h]
            if fixed is not None:
                known = np.isfinite(fixed[h])
                out[:, h, known] = (fixed[h] - start.drift)[known]
                seen[:, h, known] = out[:, h, known] / sigmas[:, h, known]
            self.state = start.volatility.step(self.state, _clip(out[:, h] / start.factor(self.bar)))
            self.bar += 1
            out[:, h] += start.drift
        before = np.broadcast_to(self.recent, (n, RECENT, z.shape[2]))
        self.recent = np.concatenate([before, seen], axis=1)[:, -RECENT:]
        return sigmas


def _clip(log_returns: np.ndarray) -> np.ndarray:
    return np.clip(log_returns, -LONGEST, LONGEST)
