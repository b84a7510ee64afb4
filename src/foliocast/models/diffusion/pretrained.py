"""`PretrainedScenarios`: futures for assets it has never seen, without training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from torch import Tensor

from foliocast.core.conditions import Condition
from foliocast.core.errors import LookAheadError
from foliocast.core.panel import Panel
from foliocast.core.scenario_base import Bars, ScenarioMixin, read_bars
from foliocast.models.checkpoint import ModelCard, load_checkpoint
from foliocast.models.diffusion.cards import pooled_from_json
from foliocast.models.diffusion.departures import ScaleHead, adapted
from foliocast.models.diffusion.generator import TRAINING, build_network, fit_denoiser, training_seed
from foliocast.models.diffusion.innovations import History, Origin, origin, study
from foliocast.models.diffusion.matching import matched
from foliocast.models.diffusion.paths import PathSampler
from foliocast.models.diffusion.pooling import without_prices
from foliocast.models.diffusion.preconditioning import Preconditioned
from foliocast.models.diffusion.pretraining import correlation_for, filter_for
from foliocast.models.training import TrainingSpec
from foliocast.stats.pooled_volatility import PooledParameters

WEIGHTS_FOLDER = Path(__file__).parent / "weights" / "stocks"
FINE_TUNING = replace(TRAINING, lr=3e-4, max_steps=200, patience=4)


@dataclass(frozen=True)
class Pretrained:
    """What the packaged folder holds."""

    denoiser: Preconditioned
    pooled: dict[int, PooledParameters]
    card: ModelCard
    head: ScaleHead

    @property
    def knowledge_until(self) -> pd.Timestamp:
        known = self.card.known_until
        assert known is not None
        return known


@lru_cache(maxsize=4)
def load_pretrained(folder: Path) -> Pretrained:
    """Denoiser, filters and card from a folder, checked against its hash."""
    return _assemble(*load_checkpoint(folder))


def _assemble(tensors: dict[str, Tensor], card: ModelCard) -> Pretrained:
    state = card.state
    network = build_network("dit", 0, state["width"], state["depth"], 0)
    head = ScaleHead()
    learnt = {key[5:]: value for key, value in tensors.items() if key.startswith("head/")}
    if learnt:  # without: as it starts, departing from nothing
        head.load_state_dict({"far": learnt["share"]} | learnt)
    network.load_state_dict({key: value for key, value in tensors.items() if not key.startswith("head/")})
    denoiser = Preconditioned(network, shrinkage=state["shrinkage"]).eval()
    pooled = {int(size): pooled_from_json(p) for size, p in state["pooled"].items()}
    return Pretrained(denoiser, pooled, card, head.eval())


class PretrainedScenarios(ScenarioMixin, BaseEstimator):
    """Scenario model that needs no training: one `DiT` over hundreds of stocks and universes of 3 to 100 of them.

    Volatility and correlation are filtered from the returns handed in (prices are not looked at), with the departures
    of the scale that stocks have in common; the network adds what their innovations have in common, as far as those
    of the history are as heavy in the tails (`matching`). It has seen the market up to ``knowledge_until_`` and
    refuses to decide before that date.

    Parameters
    ----------
    steps, sampler, guidance, n_jobs
        As in `DiffusionScenarios`.
    allow_contaminated : bool
        Permit decisions before ``knowledge_until_``; the scenarios then carry the later date.
    weights : str or Path, optional
        Folder of another pretrained model; default: the packaged one.
    random_state : int or Generator

    Attributes
    ----------
    knowledge_until_ : Timestamp
        Known without `fit`; after `fine_tune`, the later of the two.
    denoiser_ : Preconditioned
        Only after `fine_tune`.
    """

    min_history = 120
    fixed_assets = False

    def __init__(
        self,
        steps: int = 4,
        sampler: str = "dpm",
        guidance: float = 0.0,
        allow_contaminated: bool = False,
        weights: str | Path | None = None,
        n_jobs: int = 2,
        random_state: int | np.random.Generator | None = 0,
    ) -> None:
        self.steps = steps
        self.sampler = sampler
        self.guidance = guidance
        self.allow_contaminated = allow_contaminated
        self.weights = weights
        self.n_jobs = n_jobs
        self.random_state = random_state

    @property
    def knowledge_until_(self) -> pd.Timestamp:
        packaged = self._packaged().knowledge_until
        tuned: pd.Timestamp | None = getattr(self, "tuned_until_", None)
        return packaged if tuned is None else max(packaged, tuned)

    @knowledge_until_.setter
    def knowledge_until_(self, value: pd.Timestamp) -> None:
        # `fit` only remembers a history; the filters are run on whatever history a simulation starts from.
        self.fitted_until_ = value

    def fine_tune(self, X: pd.DataFrame | Panel, training: TrainingSpec | None = None) -> PretrainedScenarios:
        """Train the network a little further on these assets; held-out windows decide what share of it is used.

        Parameters
        ----------
        X : DataFrame (time x asset) of simple returns, or Panel
        training : TrainingSpec, optional
            Default: 200 steps at a small learning rate.
        """
        self.fit(X)
        packaged, bars = self._packaged(), without_prices(self.history_)
        _, history = self._filtered(bars)
        denoiser = copy.deepcopy(packaged.denoiser)
        spec = replace(FINE_TUNING if training is None else training, seed=training_seed(self.random_state))
        self.training_, self.gain_ = fit_denoiser(denoiser, history, 20, spec, self.guidance != 0.0)
        self.denoiser_ = denoiser.eval()
        self.tuned_until_ = _naive(bars.times[-1])
        return self

    def _learn(self, bars: Bars) -> None:
        for name in ("denoiser_", "tuned_until_"):
            self.__dict__.pop(name, None)

    def _sampler(
        self, bars: Bars, horizon: int, condition: Condition
    ) -> Callable[[int, np.random.Generator], np.ndarray]:
        as_of = _naive(bars.times[-1])
        if as_of < self.knowledge_until_ and not self.allow_contaminated:
            raise LookAheadError(
                f"the history ends on {as_of.date()}, but this model has seen the market until "
                f"{self.knowledge_until_.date()}: its scenarios would know the future; decide later, fit a "
                "DiffusionScenarios on the history, or set allow_contaminated=True and say so"
            )
        start, history = self._filtered(without_prices(bars))
        paths = PathSampler(
            getattr(self, "denoiser_", self._packaged().denoiser),
            self.sampler,
            self.steps,
            guidance=self.guidance,
            jobs=self.n_jobs,
            mirrored=self.guidance == 0.0,
        )
        if self.guidance == 0.0:
            match = matched(paths, history)
            paths = replace(paths, denoiser=match.of(paths.denoiser), level=match.level)
        return paths.draw(start, horizon, condition)

    def _filtered(self, bars: Bars) -> tuple[Origin, History]:
        """Where paths that follow the history start, and its innovations."""
        packaged = self._packaged()
        volatility = filter_for(packaged.pooled, bars.log_returns)
        head = adapted(packaged.head, volatility, bars)
        correlation = correlation_for(volatility, bars, head)
        return origin(volatility, correlation, bars, head), study(volatility, correlation, bars, head)

    def _packaged(self) -> Pretrained:
        return load_pretrained(WEIGHTS_FOLDER if self.weights is None else Path(self.weights))

    def _bars(self, history: pd.DataFrame | Panel | None) -> Bars:
        if history is None:
            return super()._bars(None)
        return read_bars(history, self.min_history)


def _naive(time: pd.Timestamp) -> pd.Timestamp:
    return time.tz_convert(None) if time.tzinfo is not None else time
