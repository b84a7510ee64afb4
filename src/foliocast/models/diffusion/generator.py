"""`DiffusionScenarios`: joint futures from a diffusion model of volatility-standardised innovations."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from foliocast.core.conditions import Condition
from foliocast.core.errors import ConfigError
from foliocast.core.panel import Panel
from foliocast.core.scenario_base import PRICES, Bars, ScenarioMixin
from foliocast.models.checkpoint import ModelCard, Saveable, kind_of
from foliocast.models.diffusion.cards import (
    correlation_from_json,
    correlation_to_json,
    sizes_from_json,
    sizes_to_json,
    volatility_from_json,
    volatility_to_json,
)
from foliocast.models.diffusion.departures import WARM_UP, ScaleHead, fit_departures
from foliocast.models.diffusion.dit import DiT
from foliocast.models.diffusion.fitting import DENOISING, DiffusionLoss, WindowSamples, earned_shrinkage
from foliocast.models.diffusion.innovations import (
    N_STATE,
    RECENT,
    WILDEST,
    History,
    innovations,
    origin,
    own_scale,
    study,
)
from foliocast.models.diffusion.innovations import variance_proxy as variance_proxy
from foliocast.models.diffusion.paths import PATCH, PathSampler, size_ratio
from foliocast.models.diffusion.pooling import common_filter, like_universes, without_prices
from foliocast.models.diffusion.preconditioning import WIENER, Preconditioned
from foliocast.models.diffusion.sizes import Sizes
from foliocast.models.diffusion.unet1d import UNet1D
from foliocast.models.training import TrainingResult, TrainingSpec, initialised, seed_of, train
from foliocast.stats.correlation import CorrelationFilter

KEPT = 2520  # rows of history that a saved model carries
VALIDATION = 0.15  # share of the windows, the latest, on which training stops and the network's share is set

TRAINING = replace(DENOISING, batch_size=128, epochs=60, max_steps=250, patience=8, ema=0.995)


class DiffusionScenarios(ScenarioMixin, Saveable, BaseEstimator):
    """Scenario model: a diffusion network over what volatility and correlation filters leave unexplained.

    Returns are divided by a causal volatility forecast, with the departures from it that recent surprises, ranges,
    volume and the season of reports support (`departures`, learnt from all assets and the ``pool``). Windows of these
    innovations are near N(0, C) with the filtered correlation C. The denoiser is the exact one of that Gaussian plus a
    network (`preconditioning.Wiener`), whose share is set on held-out windows: with nothing to learn the model is the
    filtered Gaussian. Samples run back through the volatility recursion, bar by bar. Drift is zero.

    Parameters
    ----------
    denoiser : {"dit", "unet"}
        `DiT` (assets as a set of tokens) or `UNet1D` (assets as channels).
    steps : int
        Denoising steps.
    sampler : {"dpm", "ddim", "ddpm", "heun"}
    volatility : {"blend", "har", "gjr", "garch", "ewma"}
        The filter (`stats.volatility.VolatilityFilter`); ``blend`` averages a GJR for each asset and ``har``, which is
        pooled over assets, knows the market's state and uses ranges if a Panel is fitted.
    departures : bool
        Whether to learn departures of the scale from the filter.
    pool : DataFrame (time x asset) of simple returns or Panel, optional
        Other assets to learn the volatility law and the departures from. Rows after the last row of the fit are
        never read.
    block : int
        Bars generated at once; longer horizons continue block by block.
    width, depth : int
        Of the network.
    guidance : float
        How much the network heeds the state of the market (classifier-free guidance): 0 not at all, 1 as it was
        trained to, above 1 it exaggerates. A few thousand rows hold few states, and a network that reads them
        mistakes one crisis for a law (by a fifth of the volatility in early 2010); the filters know the state already.
    training : TrainingSpec, optional
        Default: 250 steps of AdamW with early stopping.
    n_jobs : int
        Threads that sample. The bits do not depend on it.
    random_state : int or Generator

    Attributes
    ----------
    denoiser_ : Preconditioned
    shrinkage_ : float
        Share of the network's output that held-out windows support.
    gain_ : float
        Share of the held-out denoising error that the network removes.
    volatility_, correlation_ : the fitted filters
    level_ : float
        Factor that makes drawn innovations as large as those of the sample.
    sizes_ : Sizes
        Law of the sizes of bars and of single shocks: the heavy tails.
    head_ : ScaleHead or None
        Departures of the scale; ``head_.share`` is how much of them held-out rows support.
    training_ : TrainingResult
    """

    min_history = 250

    def __init__(
        self,
        denoiser: str = "dit",
        steps: int = 4,
        sampler: str = "dpm",
        volatility: str = "blend",
        departures: bool = True,
        pool: pd.DataFrame | Panel | None = None,
        block: int = 20,
        width: int = 32,
        depth: int = 1,
        guidance: float = 0.0,
        training: TrainingSpec | None = None,
        n_jobs: int = 2,
        random_state: int | np.random.Generator | None = 0,
    ) -> None:
        self.denoiser = denoiser
        self.steps = steps
        self.sampler = sampler
        self.volatility = volatility
        self.departures = departures
        self.pool = pool
        self.block = block
        self.width = width
        self.depth = depth
        self.guidance = guidance
        self.training = training
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _learn(self, bars: Bars) -> None:
        seed = training_seed(self.random_state)
        others = [] if self.pool is None else like_universes(self.pool, bars, seed)
        self.priced_ = bars.prices is not None and all(b.prices is not None for b in others)
        bars, others = self._seen(bars), [self._seen(b) for b in others]
        self.volatility_, universes = common_filter(self.volatility, bars, others)
        enough = len(bars) >= 4 * WARM_UP or bool(others)
        self.head_ = fit_departures(universes, seed) if self.departures and enough else None
        z, _, _ = innovations(self.volatility_, bars, self.head_)
        self.correlation_ = CorrelationFilter().fit(z / own_scale(z))
        history = study(self.volatility_, self.correlation_, bars, self.head_, WILDEST)
        network = build_network(self.denoiser, len(bars.assets), self.width, self.depth, seed)
        denoiser = Preconditioned(network, WIENER)
        spec = replace(TRAINING if self.training is None else self.training, seed=seed)
        self.sizes_ = Sizes.fit(history)
        rest = self.sizes_.taken_out(history, np.random.default_rng(seed))
        self.training_, self.gain_ = fit_denoiser(denoiser, rest, self.block, spec, self.guidance != 0.0)
        self.denoiser_, self.shrinkage_ = denoiser, denoiser.shrinkage
        self.level_ = size_ratio(self._paths(1.0), history) if self.guidance == 0.0 else 1.0

    def _sampler(
        self, bars: Bars, horizon: int, condition: Condition
    ) -> Callable[[int, np.random.Generator], np.ndarray]:
        start = origin(self.volatility_, self.correlation_, self._seen(bars), self.head_)
        return self._paths(self.level_).draw(start, horizon, condition)

    def _paths(self, level: float) -> PathSampler:
        return PathSampler(
            self.denoiser_, self.sampler, self.steps, self.block, self.guidance, self.n_jobs, level, self.sizes_
        )

    def _seen(self, bars: Bars) -> Bars:
        """What the model was fitted to read: with prices, or closes only."""
        return bars if self.priced_ else without_prices(bars)

    def to_checkpoint(self) -> tuple[dict[str, Tensor], ModelCard]:
        """Weights, the filters' numbers and the end of the history, so that a loaded model simulates as this one."""
        bars = self.history_.tail(KEPT)
        tensors = {f"network/{key}": value for key, value in self.denoiser_.network.state_dict().items()}
        if self.head_ is not None:
            tensors |= {f"head/{key}": value for key, value in self.head_.state_dict().items()}
        tensors |= {"history/returns": torch.from_numpy(np.ascontiguousarray(bars.returns))}
        tensors |= {"history/times": torch.from_numpy(bars.times.as_unit("ns").asi8.copy())}
        tensors |= {f"history/{key}": torch.from_numpy(v.copy()) for key, v in (bars.prices or {}).items()}
        params = self.get_params()
        seed = params["random_state"]
        params |= {"random_state": int(seed) if isinstance(seed, (int, np.integer)) else None}
        params |= {"pool": None, "training": None if self.training is None else asdict(self.training)}
        state = {
            "volatility": volatility_to_json(self.volatility_),
            "correlation": correlation_to_json(self.correlation_),
            "shrinkage": self.shrinkage_,
            "gain": self.gain_,
            "priced": self.priced_,
            "level": self.level_,
            "sizes": sizes_to_json(self.sizes_),
            "timezone": str(bars.times.tz) if bars.times.tz is not None else None,
        }
        until = self.knowledge_until_.isoformat()
        return tensors, ModelCard(kind_of(self), params, state, assets=self.assets_, knowledge_until=until)

    @classmethod
    def from_checkpoint(cls, tensors: dict[str, Tensor], card: ModelCard) -> Self:
        """The fitted model again."""
        training = card.params["training"]
        model = cls(**card.params | {"training": None if training is None else TrainingSpec(**training)})
        times = pd.DatetimeIndex(tensors["history/times"].numpy())
        if card.state["timezone"]:
            times = times.tz_localize("UTC").tz_convert(card.state["timezone"])
        kept = (*PRICES, "previous", "volume")
        prices = {key: tensors[f"history/{key}"].numpy() for key in kept if f"history/{key}" in tensors}
        model.history_ = Bars(tensors["history/returns"].numpy(), times, card.assets, prices or None)
        model.assets_, model.n_features_in_ = card.assets, len(card.assets)
        model.knowledge_until_ = pd.Timestamp(card.knowledge_until)
        model.volatility_ = volatility_from_json(card.state["volatility"])
        model.correlation_ = correlation_from_json(card.state["correlation"])
        network = build_network(model.denoiser, len(card.assets), model.width, model.depth, 0)
        network.load_state_dict(_under("network/", tensors))
        model.sizes_ = sizes_from_json(card.state["sizes"])
        model.priced_, model.level_, model.head_ = card.state["priced"], card.state["level"], None
        if any(key.startswith("head/") for key in tensors):
            model.head_ = ScaleHead()
            model.head_.load_state_dict(_under("head/", tensors))
        model.denoiser_ = Preconditioned(network, WIENER, card.state["shrinkage"]).eval()
        model.shrinkage_, model.gain_ = card.state["shrinkage"], card.state["gain"]
        return model


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def build_network(kind: str, n_assets: int, width: int, depth: int, seed: int) -> torch.nn.Module:
    """A fresh network; its random weights depend on the seed only."""
    if kind == "dit":
        return initialised(lambda: DiT(width, depth, heads=2, patch=PATCH, n_state=N_STATE, dropout=0.1), seed)
    if kind == "unet":
        channels = tuple(width * 2**level for level in range(depth))
        return initialised(lambda: UNet1D(n_assets, channels, n_state=N_STATE, dropout=0.1), seed)
    raise ConfigError(f"denoiser = {kind!r}: expected dit or unet")


def fit_denoiser(
    denoiser: Preconditioned, history: History, block: int, spec: TrainingSpec, conditional: bool = False
) -> tuple[TrainingResult, float]:
    """Train on the windows of a history and set the network's share on its held-out end; what training did, the gain.

    Unless ``conditional``, the network is never shown the state, and learns nothing lopsided: `Sizes` leans. If it is,
    the mean of the sample is taken out, for the drift is added to paths.
    Overlapping windows share bars, so a gap of a window lies between training and validation.
    """
    n = len(history.z)
    history = replace(history, z=history.z - history.z.mean()) if conditional else history
    length = min(block, max(2, (n - RECENT) // 8))
    split = int(n * (1 - VALIDATION))
    samples = WindowSamples.of(history, length, RECENT, split - length)
    held_out = WindowSamples.of(history, length, split, n - length + 1)
    loss = DiffusionLoss(patch=min(PATCH, length))
    loss = loss if conditional else replace(loss, drop_rate=1.0, mirrored=True)
    result = train(denoiser, samples, loss, spec, validation=held_out)
    denoiser.shrinkage, gain = earned_shrinkage(denoiser, held_out, conditional)
    return result, gain


def training_seed(random_state: int | np.random.Generator | None) -> int:
    """A seed for torch; a Generator is not consumed, so that fitting twice gives the same model."""
    if isinstance(random_state, np.random.Generator):
        return int(copy.deepcopy(random_state).integers(2**31))
    return seed_of(0 if random_state is None else random_state, 77) % 2**31
