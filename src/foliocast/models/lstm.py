"""Recurrent forecasters: the attention LSTM and the plain one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from foliocast.core.panel import Panel
from foliocast.features.windows import Windows
from foliocast.models.heads import head_of
from foliocast.models.network import NetworkForecaster
from foliocast.models.windowed import positions


class AttentionLSTMNet(nn.Module):
    """LSTM, additive attention over its outputs, linear head.

    h = LSTM(x); a = softmax_t(W h_t); y = V (sum_t a_t h_t) + b. (batch, time, feature) -> (batch, output).
    """

    def __init__(self, n_features: int, hidden: int, layers: int, outputs: int = 1) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, layers, batch_first=True)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.head = nn.Linear(hidden, outputs)

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (batch, output) and attention weights (batch, time), which sum to one."""
        states, _ = self.lstm(x)
        # products and sums element by element: cheaper than matrix products of this shape
        scores = (states * self.score.weight[0]).sum(dim=2).float()
        weights = torch.softmax(scores, dim=1)
        context = (states * weights.unsqueeze(2)).sum(dim=1)
        return self.head(context).float(), weights

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x)[0]


class LSTMNet(nn.Module):
    """LSTM whose last state feeds a linear head. (batch, time, feature) -> (batch, output)."""

    def __init__(self, n_features: int, hidden: int, layers: int, outputs: int = 1) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1]).float()


@dataclass(kw_only=True, eq=False, repr=False)
class AttentionLSTM(NetworkForecaster):
    """LSTM with attention over the last ``window`` bars of features, pooled over assets; Adam, squared errors.

    Parameters
    ----------
    hidden, layers : int
        Width and depth.
    others
        As in `NetworkForecaster`.

    Attributes
    ----------
    knowledge_until_ : Timestamp
    trained_assets_ : tuple of str
    training_ : dict of str to TrainingResult
        Loss by epoch of each part.
    """

    hidden: int = 64
    layers: int = 2

    def _network(self, n_features: int) -> nn.Module:
        return AttentionLSTMNet(n_features, self.hidden, self.layers, head_of(self.head).width)

    def attention(self, panel: Panel, times: pd.DatetimeIndex | None = None) -> pd.DataFrame:
        """Where the network looked: rows (time, asset), columns the bars before the decision (-window+1 ... 0).

        Rows sum to one; (time, asset) pairs without a full window are left out.
        """
        check_is_fitted(self, "parts_")
        self._check_assets(panel.assets)
        rows = np.arange(len(panel)) if times is None else positions(panel, times)
        raw = self.feature_set_(panel)
        lags = pd.Index(range(1 - self.window, 1), name="lag")
        tables = []
        for part, columns in self._by_part(panel.assets):
            allowed = np.zeros(panel.shape, dtype=bool)
            allowed[np.ix_(rows, columns)] = True
            windows = Windows.complete(part.scaling.features(raw, panel.universe.mask), self.window, allowed)
            names = [panel.times[windows.ends], np.array(panel.assets)[windows.assets]]
            index = pd.MultiIndex.from_arrays(names, names=["time", "asset"])
            tables.append(pd.DataFrame(self._weights(part.predictor, windows), index=index, columns=lags))
        return pd.concat(tables).sort_index(level=0, sort_remaining=False)

    @staticmethod
    @torch.no_grad()
    def _weights(predictor: Any, windows: Windows) -> np.ndarray:
        out = np.empty((len(windows), windows.length))
        for index in np.array_split(np.arange(len(windows)), max(1, len(windows) // 512)):
            out[index] = predictor.module.attend(torch.from_numpy(windows.take(index)))[1].numpy()
        return out


@dataclass(kw_only=True, eq=False, repr=False)
class LSTMForecaster(NetworkForecaster):
    """Plain LSTM (2 x 32) trained by AdamW on squared errors; parameters as in `AttentionLSTM`."""

    optimizer = "adamw"
    hidden: int = 32
    layers: int = 2
    lr: float = 1e-3
    weight_decay: float = 1e-2

    def _network(self, n_features: int) -> nn.Module:
        return LSTMNet(n_features, self.hidden, self.layers, head_of(self.head).width)
