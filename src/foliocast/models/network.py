"""Forecasters that are a torch module: from samples to a trained network, and to a saved folder and back."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from foliocast.core.panel import View
from foliocast.features.cross_section import ranks_by_date
from foliocast.features.transforms import FeatureSet
from foliocast.models.checkpoint import ModelCard, Saveable, kind_of
from foliocast.models.heads import Head, head_of
from foliocast.models.paths import Draw, Shocks
from foliocast.models.training import (
    Loss,
    TrainingResult,
    TrainingSpec,
    chronological_split,
    initialised,
    seed_of,
    train,
)
from foliocast.models.windowed import Part, Scaling, Supervised, WindowForecaster


class WindowSamples:
    """Windows and targets for the training loop; a batch is gathered when it is drawn."""

    def __init__(self, samples: Supervised) -> None:
        windows = samples.windows
        self.values = torch.from_numpy(np.ascontiguousarray(windows.values))
        self.ends, self.assets = torch.from_numpy(windows.ends), torch.from_numpy(windows.assets)
        self.lags = torch.arange(1 - windows.length, 1)
        self.target = torch.from_numpy(samples.target)

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.ends[index][:, None] + self.lags
        return self.values[rows, self.assets[index][:, None]], self.target[index]


class DateSamples:
    """The same, a whole date at a time: what sees, or ranks, the assets of a date together.

    Dates have as many slots as the fullest has assets; the slots of a date are in the order of its assets and what is
    left over is marked as absent.
    """

    def __init__(self, samples: Supervised) -> None:
        self.samples = WindowSamples(samples)
        ends = samples.windows.ends
        dates, row, count = np.unique(ends, return_inverse=True, return_counts=True)
        slot = np.arange(len(ends)) - np.repeat(np.cumsum(count) - count, count)  # samples are ordered by time
        table = np.full((len(dates), int(count.max(initial=1))), -1)
        table[row, slot] = np.arange(len(ends))
        target = np.full(table.shape, np.nan)
        target[row, slot] = samples.target
        self.table = torch.from_numpy(table)
        self.scores = torch.from_numpy(np.nan_to_num(ranks_by_date(target)).astype(np.float32))

    def __len__(self) -> int:
        return len(self.table)

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        """Windows (date, asset, time, feature), targets, normal scores of the ranks and presence (date, asset)."""
        numbers = self.table[index]
        present = numbers >= 0
        windows, target = self.samples.batch(numbers.clamp(min=0).reshape(-1))
        windows = windows.reshape(*numbers.shape, *windows.shape[1:]) * present[..., None, None]
        return windows, target.reshape(numbers.shape), self.scores[index], present


def list_loss(scores: Tensor, wanted: Tensor, present: Tensor) -> Tensor:
    """ListNet with top-one probabilities: cross-entropy of the softmax of ``wanted`` and that of ``scores``, (date,
    asset), averaged over dates. Cao, Qin, Liu, Tsai & Li (2007), "Learning to rank: from pairwise approach to listwise
    approach", eq. 7. Where ``wanted`` are normal scores, its minimum over scores has their scale, too.
    """
    absent = torch.finfo(scores.dtype).min
    found = torch.log_softmax(scores.masked_fill(~present, absent), dim=1)
    share = torch.softmax(wanted.masked_fill(~present, absent), dim=1)
    return -(share * found.masked_fill(~present, 0.0)).sum(dim=1).mean()


@dataclass(frozen=True)
class DateLoss:
    """Loss of the head over all assets present, plus ``rank_weight`` times `list_loss` within the dates."""

    head: Head
    rank_weight: float
    joint: bool

    def __call__(self, net: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        windows, target, wanted, present = batch
        raw = net(windows, present)[present] if self.joint else net(windows[present])
        loss = self.head.loss(raw, target[present])
        if self.rank_weight == 0:
            return loss
        scores = torch.zeros_like(target).masked_scatter(present, raw[:, 0])
        return loss + self.rank_weight * list_loss(scores, wanted, present)


class NetworkPredictor:
    """A trained module as a `Predictor`: fp32, no gradients, on the CPU.

    A joint one takes ``(date, asset, time, feature)`` and who may be looked at, ``(date, asset)``.
    """

    def __init__(self, module: nn.Module, head: Head, result: TrainingResult | None = None) -> None:
        self.module = module.cpu().eval()
        self.head = head
        self.result = result

    @torch.no_grad()
    def __call__(self, windows: np.ndarray, present: np.ndarray | None = None) -> np.ndarray:
        raw = self._raw(windows, present)
        return self.head.mean(raw.reshape(-1, raw.shape[-1])).double().numpy().reshape(raw.shape[:-1])

    @torch.no_grad()
    def draw(self, windows: np.ndarray, u: np.ndarray, present: np.ndarray | None = None) -> np.ndarray:
        """Standardised returns at probabilities ``u`` (sample,) of each window's distribution, (sample,)."""
        size = 1024 if present is None else max(1, 1024 // windows.shape[1])
        cuts = range(0, len(windows), size)
        raw = [self._raw(windows[k : k + size], None if present is None else present[k : k + size]) for k in cuts]
        return self.head.inverse(torch.cat([part.reshape(-1, part.shape[-1]) for part in raw]), u)

    def _raw(self, windows: np.ndarray, present: np.ndarray | None) -> Tensor:
        seen = torch.from_numpy(np.ascontiguousarray(windows))
        out = self.module(seen) if present is None else self.module(seen, torch.from_numpy(present))
        return out


@dataclass(kw_only=True, eq=False, repr=False)
class NetworkForecaster(WindowForecaster, Saveable):
    """Trains a module in the common loop; a subclass says which module.

    Parameters
    ----------
    lr, weight_decay, batch_size, epochs : training
        3e-4, 1e-4, 32, 15. A batch is one of samples; of dates where the assets of a date are seen or ranked together.
    max_steps : int or None
        Ends training after that many steps, whatever the epoch: a bound on its time.
    patience : int or None
        Stop after so many epochs without a better loss on the last ``valid_fraction`` of the training rows (kept
        apart by a gap of a window); None trains all epochs on all rows.
    valid_fraction : float
    rank_weight : float
        Weight of a ranking loss (`list_loss`) beside the head's own: the order of the assets within a date.
    head : {"point", "student_t", "quantile"}
        A point is trained by squared error and gets its intervals from the volatility filter; the others learn the
        whole distribution of the next return and draw simulated paths from it.
    amp, device : str
        As in `TrainingSpec`. Predictions are always computed in fp32.
    window, features, pooled, any_asset, cross_section, ahead, n_paths, volatility, random_state
        As in `WindowForecaster`.
    """

    optimizer = "adam"
    joint = False  # whether the module sees all assets of a date at once

    lr: float = 3e-4
    weight_decay: float = 1e-4
    batch_size: int = 32
    epochs: int = 15
    max_steps: int | None = None
    patience: int | None = 3
    valid_fraction: float = 0.15
    rank_weight: float = 0.0
    head: str = "point"
    amp: str = "auto"
    device: str = "cpu"

    @abstractmethod
    def _network(self, n_features: int) -> nn.Module:
        """The untrained module: (batch, time, feature) -> (batch, width of the head)."""

    def _spec(self, seed: int) -> TrainingSpec:
        return TrainingSpec(
            optimizer=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            epochs=self.epochs,
            max_steps=self.max_steps,
            patience=self.patience,
            amp=self.amp,
            device=self.device,
            seed=seed,
        )

    def _learn(self, samples: Supervised, seed: int) -> NetworkPredictor:
        own_seed, head = seed_of(self.random_state, seed), head_of(self.head)
        module = initialised(lambda: self._network(samples.windows.values.shape[2]), own_seed)
        fraction = 0.0 if self.patience is None else self.valid_fraction
        fit, valid = chronological_split(samples.windows.ends, fraction, self.window + self.ahead)
        by_date = self.joint or self.rank_weight > 0
        source = DateSamples if by_date else WindowSamples
        loss: Loss = (
            DateLoss(head, self.rank_weight, self.joint)
            if by_date
            else lambda net, batch, generator: head.loss(net(batch[0]), batch[1])
        )
        result = train(
            module,
            source(samples.subset(fit)),
            loss,
            self._spec(own_seed),
            validation=source(samples.subset(valid)) if len(valid) else None,
        )
        return NetworkPredictor(module, head, result)

    def _sampler(self, view: View) -> Draw | None:
        return self._on_paths(view, self._draw_from) if head_of(self.head).draws else None

    def _draw_from(self, predictor: Any, windows: np.ndarray, members: np.ndarray, u: np.ndarray) -> np.ndarray:
        return predictor.draw(windows.reshape(-1, *windows.shape[2:]), u)

    @property
    def training_(self) -> dict[str, TrainingResult | None]:
        """How each part's training went ("*" is the pooled one); None for a model that was loaded."""
        check_is_fitted(self, "parts_")
        return {name: part.predictor.result for name, part in self.parts_.items()}  # type: ignore[attr-defined]

    # ---- saving
    def to_checkpoint(self) -> tuple[dict[str, Tensor], ModelCard]:
        """Weights of every part, its shocks, and the card."""
        check_is_fitted(self, "parts_")
        tensors: dict[str, Tensor] = {}
        scalings: dict[str, Any] = {}
        for number, (name, part) in enumerate(self.parts_.items()):
            assert isinstance(part.predictor, NetworkPredictor)
            tensors |= {f"{number}/net/{k}": v for k, v in part.predictor.module.state_dict().items()}
            kept = part.shocks.tables().items()
            tensors |= {f"{number}/shocks/{what}": torch.from_numpy(values.copy()) for what, values in kept}
            scalings[name] = part.scaling.to_dict() | {"assets": list(part.shocks.assets), "filter": part.shocks.kind}
        params = {k: list(v) if isinstance(v, tuple) else v for k, v in self.get_params(deep=False).items()}
        card = ModelCard(
            kind_of(self),
            params,
            {"parts": scalings, "assets": list(self.assets_)},
            self.feature_set_.names,
            self.trained_assets_,
            self.data_hash_,
            self.knowledge_until_.isoformat(),
        )
        return tensors, card

    @classmethod
    def from_checkpoint(cls, tensors: dict[str, Tensor], card: ModelCard) -> Self:
        """The fitted forecaster again; predictions are the same to the bit."""
        model = cls(**card.params)
        parts = {}
        for number, (name, state) in enumerate(card.state["parts"].items()):
            module = model._network(len(card.features))
            prefix = f"{number}/net/"
            module.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
            prefix = f"{number}/shocks/"
            past = {key[len(prefix) :]: value.numpy() for key, value in tensors.items() if key.startswith(prefix)}
            shocks = Shocks.from_tables(state["assets"], past, state["filter"])
            parts[name] = Part(NetworkPredictor(module, head_of(model.head)), Scaling.from_dict(state), shocks)
        model.parts_ = parts
        model.feature_set_ = FeatureSet(card.features)
        model.trained_assets_, model.assets_ = card.assets, tuple(card.state["assets"])
        model.knowledge_until_ = pd.Timestamp(card.knowledge_until)
        model.data_hash_ = card.data_hash
        return model
