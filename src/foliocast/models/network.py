"""Forecasters that are a torch module: from samples to a trained network, and to a saved folder and back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from foliocast.features.transforms import FeatureSet
from foliocast.models.checkpoint import ModelCard, Saveable, kind_of
from foliocast.models.heads import Head, head_of
from foliocast.models.paths import Draw, Shocks
from foliocast.models.training import TrainingResult, TrainingSpec, chronological_split, seed_of, train
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


class NetworkPredictor:
    """A trained module as a `Predictor`: fp32, no gradients, on the CPU."""

    def __init__(self, module: nn.Module, head: Head, result: TrainingResult | None = None) -> None:
        self.module = module.cpu().eval()
        self.head = head
        self.result = result

    @torch.no_grad()
    def __call__(self, windows: np.ndarray) -> np.ndarray:
        return self.head.mean(self._raw(windows)).double().numpy()

    @torch.no_grad()
    def draw(self, windows: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Standardised returns at probabilities ``u`` of each window's distribution, (sample,)."""
        raw = [self._raw(windows[low : low + 1024]) for low in range(0, len(windows), 1024)]
        return self.head.inverse(torch.cat(raw), u)

    def _raw(self, windows: np.ndarray) -> Tensor:
        return self.module(torch.from_numpy(np.ascontiguousarray(windows)))


def initialised(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A module whose initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build()


class NetworkForecaster(WindowForecaster, Saveable):
    """Trains a module in the common loop; a subclass says which module."""

    optimizer: str
    head: str
    lr: float
    weight_decay: float
    batch_size: int
    epochs: int
    patience: int | None
    valid_fraction: float
    amp: str
    device: str

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
            patience=self.patience,
            amp=self.amp,
            device=self.device,
            seed=seed,
        )

    def _learn(self, samples: Supervised, seed: int) -> NetworkPredictor:
        own_seed, head = seed_of(self.random_state, seed), head_of(self.head)
        module = initialised(lambda: self._network(samples.windows.values.shape[2]), own_seed)
        fraction = 0.0 if self.patience is None else self.valid_fraction
        fit, valid = chronological_split(samples.windows.ends, fraction, self.window + 1)
        result = train(
            module,
            WindowSamples(samples.subset(fit)),
            lambda net, batch, generator: head.loss(net(batch[0]), batch[1]),
            self._spec(own_seed),
            validation=WindowSamples(samples.subset(valid)) if len(valid) else None,
        )
        return NetworkPredictor(module, head, result)

    def _sampler(self, assets: Sequence[str]) -> Draw | None:
        if not head_of(self.head).draws:
            return None
        return self._on_paths(assets, lambda predictor, windows, u: predictor.draw(windows, u))

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
            tensors[f"{number}/shocks/returns"] = torch.from_numpy(part.shocks.returns.copy())
            tensors[f"{number}/shocks/volume"] = torch.from_numpy(part.shocks.volume.copy())
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
            returns, volume = (tensors[f"{number}/shocks/{what}"].numpy() for what in ("returns", "volume"))
            shocks = Shocks(tuple(state["assets"]), returns, volume, state["filter"])
            parts[name] = Part(NetworkPredictor(module, head_of(model.head)), Scaling.from_dict(state), shocks)
        model.parts_ = parts
        model.feature_set_ = FeatureSet(card.features)
        model.trained_assets_, model.assets_ = card.assets, tuple(card.state["assets"])
        model.knowledge_until_ = pd.Timestamp(card.knowledge_until)
        model.data_hash_ = card.data_hash
        return model
