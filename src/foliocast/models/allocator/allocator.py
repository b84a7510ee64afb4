"""End-to-end allocation: one network from what was known to weights, trained on what the weights would have earned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from foliocast.core.errors import ConfigError, DataError, HistoryError
from foliocast.core.panel import Panel, View
from foliocast.features.transforms import FeatureSet
from foliocast.models.allocator.heads import LAYERS, Rules
from foliocast.models.allocator.network import AllocationNet
from foliocast.models.allocator.outcome import EXECUTIONS, Frictions, Objective, legs, period
from foliocast.models.checkpoint import ModelCard, Saveable, kind_of
from foliocast.models.training import TrainingResult, TrainingSpec, chronological_split, initialised, seed_of, train
from foliocast.models.windowed import REACH, positions

Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Standard:
    """Mean and standard deviation of each feature on the training rows, (feature,)."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, rows: np.ndarray) -> Standard:
        """From rows (row, feature), all finite."""
        std = rows.std(axis=0)
        return cls(rows.mean(axis=0), np.where(std > 0, std, 1.0))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Standardised and cut, float32; NaN stays NaN."""
        return np.clip((values - self.mean) / self.std, -REACH, REACH).astype(np.float32)


class Record:
    """A panel as the network reads it: standardised features, who may be held, past returns.

    Attributes
    ----------
    features : Tensor, shape (time, asset, feature)
        Zero where unknown; such rows are masked.
    mask : Tensor of bool, shape (time, asset)
        Members with a full window of features (and of past returns where they are needed).
    returns : Tensor, shape (time, asset)
        Of the past; zero at gaps.
    """

    def __init__(self, panel: Panel, feature_set: FeatureSet, scaling: Standard | None, window: int, past: int) -> None:
        raw = feature_set(panel)
        if scaling is None:
            known = np.isfinite(raw).all(axis=2) & panel.universe.mask
            if not known.any():
                raise HistoryError(
                    f"{len(panel)} bars of {', '.join(panel.assets[:5])} are too few: features look back "
                    f"{feature_set.lookback} bars; load a longer history"
                )
            scaling = Standard.fit(raw[known])
        self.scaling, self.window, self.past = scaling, window, past
        values = scaling(raw)
        good = np.isfinite(values).all(axis=2)
        moves = panel.return_array()
        since = _streak(good) >= window
        if past:
            since &= _streak(np.isfinite(moves)) >= past
        self.mask = torch.from_numpy(since & panel.universe.mask)
        self.features = torch.from_numpy(np.where(good[..., None], values, np.float32(0.0)))
        self.returns = torch.from_numpy(np.nan_to_num(moves))

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Windows (row, asset, time, feature), mask (row, asset) and past returns (row, time, asset)."""
        windows = self.features[rows[:, None] + torch.arange(1 - self.window, 1)].transpose(1, 2)
        past = self.returns[rows[:, None] + torch.arange(1 - self.past, 1)] if self.past else None
        return windows, self.mask[rows], past


def _streak(good: np.ndarray) -> np.ndarray:
    """Length of the unbroken run of True that ends at each row, (time, asset)."""
    bars = np.arange(len(good))[:, None]
    return bars - np.maximum.accumulate(np.where(good, -1, bars), axis=0)


class Segments:
    """Runs of consecutive bars for the training loop; the windows of a batch are gathered when it is drawn."""

    def __init__(self, record: Record, before: Tensor, after: Tensor, starts: np.ndarray, length: int) -> None:
        self.record, self.before, self.after, self.length = record, before, after, length
        self.starts = torch.from_numpy(starts)

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, index: Tensor) -> Batch:
        """(segment, time, ...): windows, mask, both legs of the returns and, where it is needed, past returns."""
        rows = self.starts[index][:, None] + torch.arange(self.length)
        windows, mask, past = self.record.at(rows.reshape(-1))
        shape = tuple(rows.shape)
        out = [windows.reshape(*shape, *windows.shape[1:]), mask.reshape(*shape, -1), self.before[rows]]
        out.append(self.after[rows])
        return (*out, past.reshape(*shape, *past.shape[1:])) if past is not None else tuple(out)


def roll(net: AllocationNet, batch: Batch, frictions: Frictions, path_dependent: bool) -> Tensor:
    """Net returns (segment, time) of the network's decisions over runs of bars; the first purchase is not charged."""
    windows, mask, before, after = batch[:4]
    past = batch[4] if len(batch) > 4 else None
    segments, bars = mask.shape[:2]
    encoded = net.encode(windows.flatten(0, 1), mask.flatten(0, 1))
    state, direct, pace = (part.unflatten(0, (segments, bars)) for part in encoded)
    held = torch.zeros_like(before[:, 0])
    free = None
    if not path_dependent:
        nothing = torch.zeros_like(before).flatten(0, 1)
        together = net.decide(encoded, mask.flatten(0, 1), nothing, None if past is None else past.flatten(0, 1))
        free = together.unflatten(0, (segments, bars))
    out = []
    for bar in range(bars):
        if free is None:
            now = (state[:, bar], direct[:, bar], pace[:, bar])
            wanted = net.decide(now, mask[:, bar], held, None if past is None else past[:, bar])
        else:
            wanted = free[:, bar]
        held, earned = period(held, wanted, before[:, bar], after[:, bar], frictions, free=bar == 0)
        out.append(earned)
    return torch.stack(out, dim=1)


class EndToEndAllocator(BaseEstimator, Saveable):
    """A strategy learnt in one piece: features of all assets and the weights held go in, target weights come out.

    Trained through the account itself: between two decisions weights drift with returns, trades cost, and the loss is
    a measure of the net returns of whole segments of history (Moody and Saffell, 2001; Zhang, Zohren and Roberts,
    2020). Nothing is forecast on the way unless the head is a programme.

    Parameters
    ----------
    objective : {"return", "sharpe", "log", "utility", "mean_variance", "cvar", "drawdown"}
        What is maximised; see `foliocast.models.allocator.outcome.Objective`.
    risk_aversion, level : float
        Of the objective, and of the programme of the last two heads.
    head : {"softmax", "sparsemax", "long_short", "mean_variance", "cvar"}
        The last step: long-only (weights sum to ``gross``), signed with gross exposure at most ``gross``, or a
        long-only programme on predicted means and past returns, differentiated through its optimality conditions.
    gross, max_weight : float
    cash : bool
        Long-only heads may stay out of the market.
    trading : {"free", "partial", "band"}
        How targets become trades; see `AllocationNet`.
    cost_bps, quadratic_cost : float
        Cost of the trades in the graph: basis points of value traded, and ``quadratic_cost / 2`` times squared change
        of weight. They should be those of the backtest.
    uses_holdings : bool
        Show the network what is held. Without it (and with ``trading="free"``) a decision does not depend on the path
        and folds run side by side.
    execution : {"next_open", "next_close", "same_close"}, optional
        When a decision is filled in training; default the next open where the panel has opens, else the next close.
    window : int
        Bars of features seen.
    encoder, hidden, attention_heads
        Of the network; ``attention_heads=0`` lets assets not see each other.
    past : int
        Bars of returns that the programmes take their risk from.
    features : sequence of str, optional
        Names in `foliocast.features.transforms.REGISTRY`.
    segment : int
        Bars in a training segment; ``stride`` bars lie between the starts of two.
    lr, weight_decay, batch_size, epochs, patience, valid_fraction, random_state
        AdamW on batches of segments, its rate on a cosine. With ``patience`` the last ``valid_fraction`` of the rows
        validate, a gap apart.

    Attributes
    ----------
    network_ : AllocationNet
    training_ : TrainingResult or None
    knowledge_until_ : Timestamp
    assets_ : tuple of str
    """

    knowledge_until_: pd.Timestamp
    assets_: tuple[str, ...]
    data_hash_: str
    network_: AllocationNet
    training_: TrainingResult | None

    def __init__(
        self,
        objective: str = "sharpe",
        risk_aversion: float = 1.0,
        level: float = 0.95,
        head: str = "softmax",
        gross: float = 1.0,
        max_weight: float = 1.0,
        cash: bool = False,
        trading: str = "free",
        cost_bps: float = 5.0,
        quadratic_cost: float = 0.0,
        uses_holdings: bool = True,
        execution: str | None = None,
        window: int = 10,
        encoder: str = "mlp",
        hidden: int = 32,
        attention_heads: int = 2,
        past: int = 60,
        features: Sequence[str] | None = None,
        segment: int = 63,
        stride: int = 21,
        lr: float = 1e-3,
        weight_decay: float = 1e-2,
        batch_size: int = 8,
        epochs: int = 20,
        patience: int | None = 4,
        valid_fraction: float = 0.25,
        random_state: int = 0,
    ) -> None:
        self.objective = objective
        self.risk_aversion = risk_aversion
        self.level = level
        self.head = head
        self.gross = gross
        self.max_weight = max_weight
        self.cash = cash
        self.trading = trading
        self.cost_bps = cost_bps
        self.quadratic_cost = quadratic_cost
        self.uses_holdings = uses_holdings
        self.execution = execution
        self.window = window
        self.encoder = encoder
        self.hidden = hidden
        self.attention_heads = attention_heads
        self.past = past
        self.features = features
        self.segment = segment
        self.stride = stride
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.valid_fraction = valid_fraction
        self.random_state = random_state

    @property
    def path_dependent(self) -> bool:
        """Whether what is held changes a decision."""
        return bool(self.uses_holdings or self.trading != "free")

    # ---- fitting
    def fit(self, panel: Panel, y: object = None) -> Self:
        """Learn from these rows and no others; the last return that is earned lies inside them.

        Raises
        ------
        ConfigError
            An option that does not exist, or fills at the open of a panel without opens.
        HistoryError
            No segment of ``segment`` bars on which at least one asset can be held throughout.
        """
        objective, frictions = self._checked()
        self.feature_set_ = FeatureSet.for_panel(panel, self.features)
        record = Record(panel, self.feature_set_, None, self.window, self._past)
        fit, valid = self._segments(panel, record)
        seed = seed_of(self.random_state)
        net = self._network(len(self.feature_set_.names), seed)
        dependent = self.path_dependent
        self.training_ = train(
            net,
            fit,
            lambda module, batch, generator: objective(roll(module, batch, frictions, dependent)),
            TrainingSpec(
                optimizer="adamw",
                schedule="cosine",
                lr=self.lr,
                weight_decay=self.weight_decay,
                batch_size=self.batch_size,
                epochs=self.epochs,
                patience=self.patience,
                seed=seed,
            ),
            validation=valid if len(valid) else None,
        )
        net.double().eval()
        self.network_ = net
        self.scaling_ = record.scaling
        self.assets_ = panel.assets
        self.knowledge_until_ = panel.times[-1]
        self.data_hash_ = panel.data_hash
        return self

    @property
    def _past(self) -> int:
        return self.past if self.head in LAYERS else 0

    def _checked(self) -> tuple[Objective, Frictions]:
        if self.cost_bps < 0 or self.quadratic_cost < 0 or min(self.window, self.stride) < 1 or self.segment < 2:
            raise ConfigError(f"{self}: costs must not be negative, window and stride at least 1, segment at least 2")
        if self.execution is not None and self.execution not in EXECUTIONS:
            raise ConfigError(f"execution = {self.execution!r} does not exist; choose from {', '.join(EXECUTIONS)}")
        if self.head in LAYERS and self.past < 20:
            raise ConfigError(f"past = {self.past} bars are too few to take risk from; at least 20")
        return (
            Objective(self.objective, self.risk_aversion, self.level),
            Frictions(self.cost_bps * 1e-4, self.quadratic_cost),
        )

    def _network(self, n_features: int, seed: int = 0) -> AllocationNet:
        rules = Rules(self.head, self.gross, self.cash, self.max_weight, max(self.risk_aversion, 1.0), self.level)
        sizes = n_features, self.window, self.encoder, self.hidden, self.attention_heads
        net = initialised(lambda: AllocationNet(*sizes, rules, self.trading), seed)
        assert isinstance(net, AllocationNet)
        return net

    def _segments(self, panel: Panel, record: Record) -> tuple[Segments, Segments]:
        execution = self.execution or ("next_open" if "open" in panel.fields else "next_close")
        before, after = (torch.from_numpy(np.nan_to_num(leg).astype(np.float32)) for leg in legs(panel, execution))
        usable = record.mask.any(dim=1).numpy().copy()
        usable[-1] = False  # its return is not known yet
        streak = _streak(usable[:, None])[:, 0]
        ends = np.arange(len(panel) - 2, -1, -self.stride)
        starts = np.sort(ends[streak[ends] >= self.segment] - self.segment + 1)
        if not len(starts):
            raise HistoryError(
                f"{len(panel)} bars of {', '.join(panel.assets[:5])} give no training segment of {self.segment} bars "
                f"after a look-back of {self.feature_set_.lookback + self.window}; load more or shorten segment"
            )
        fraction = 0.0 if self.patience is None else self.valid_fraction
        first, second = chronological_split(starts, fraction, self.segment + self.window)
        parts = [Segments(record, before, after, starts[which], self.segment) for which in (first, second)]
        return parts[0], parts[1]

    # ---- deciding
    def decide(self, view: View, previous: pd.Series | None = None) -> pd.Series | None:
        """Target weights by asset; None if no asset has a full window (the holdings are left alone).

        Raises
        ------
        DataError
            ``previous`` names an asset that the view does not hold.
        """
        check_is_fitted(self, "network_")
        reach = self.feature_set_.lookback + self.window + self._past + 2
        tail = view.tail(reach)
        held = np.zeros(len(view.assets))
        if previous is not None:
            strange = [str(a) for a in previous.index if a not in view.assets]
            if strange:
                raise DataError(f"holdings in {', '.join(strange[:5])} are not among the assets of the view")
            held = previous.reindex(list(view.assets)).fillna(0.0).to_numpy(dtype=float)
        weights = self._weights(self._record(tail), len(tail) - 1, held)
        return None if weights is None else pd.Series(weights, index=list(view.assets))

    def decide_many(self, panel: Panel, times: pd.DatetimeIndex) -> pd.DataFrame:
        """As an account would decide that buys at the first time and is told what it holds ever after."""
        check_is_fitted(self, "network_")
        rows = positions(panel, times)
        record = None if panel.has_late_values else self._record(panel)
        close = panel.array("close")
        held, last, out = np.zeros(len(panel.assets)), 0, []
        for row, time in zip(rows, times):
            if held.any():
                grown = held * np.nan_to_num(close[row] / close[last], nan=1.0)
                held = grown / (1.0 - held.sum() + grown.sum())
            if record is None:
                wish = self.decide(panel.asof(time), pd.Series(held, index=list(panel.assets)))
                weights = None if wish is None else wish.to_numpy()
            else:
                weights = self._weights(record, int(row), held)
            held, last = held if weights is None else weights, int(row)
            out.append(np.full(len(held), np.nan) if weights is None else weights)
        values = np.array(out).reshape(len(rows), len(panel.assets))
        return pd.DataFrame(values, index=times, columns=list(panel.assets))

    def _record(self, panel: Panel) -> Record:
        return Record(panel, self.feature_set_, self.scaling_, self.window, self._past)

    @torch.no_grad()
    def _weights(self, record: Record, row: int, held: np.ndarray) -> np.ndarray | None:
        """One row at a time: the bits of a decision do not depend on how many are asked for."""
        if not bool(record.mask[row].any()):
            return None
        windows, mask, past = record.at(torch.tensor([row]))
        own = torch.from_numpy(np.array(held[None]) if self.path_dependent else np.zeros_like(held)[None])
        encoded = self.network_.encode(windows.double(), mask)
        return self.network_.decide(encoded, mask, own, past)[0].numpy()

    # ---- saving
    def to_checkpoint(self) -> tuple[dict[str, Tensor], ModelCard]:
        """Weights of the network and the card."""
        check_is_fitted(self, "network_")
        params = {k: list(v) if isinstance(v, tuple) else v for k, v in self.get_params(deep=False).items()}
        state: dict[str, Any] = {"mean": self.scaling_.mean.tolist(), "std": self.scaling_.std.tolist()}
        card = ModelCard(
            kind_of(self),
            params,
            state,
            self.feature_set_.names,
            self.assets_,
            self.data_hash_,
            self.knowledge_until_.isoformat(),
        )
        return dict(self.network_.state_dict()), card

    @classmethod
    def from_checkpoint(cls, tensors: dict[str, Tensor], card: ModelCard) -> Self:
        """The fitted allocator again; decisions are the same to the bit."""
        model = cls(**card.params)
        model.feature_set_ = FeatureSet(card.features)
        model.network_ = model._network(len(card.features))
        model.network_.double().eval().load_state_dict(tensors)
        model.scaling_ = Standard(np.array(card.state["mean"]), np.array(card.state["std"]))
        model.assets_ = card.assets
        model.knowledge_until_ = pd.Timestamp(card.knowledge_until)
        model.data_hash_ = card.data_hash
        model.training_ = None
        return model
