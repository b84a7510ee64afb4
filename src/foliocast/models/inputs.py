"""A fitted forecaster laid open: its inputs at some bars and the function that made predictions of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.inputs import ModelInputs
from foliocast.core.panel import Panel
from foliocast.features.windows import Windows
from foliocast.models.linear import LinearPredictor
from foliocast.models.network import NetworkPredictor
from foliocast.models.trees import TreesPredictor
from foliocast.models.windowed import Part, WindowForecaster, in_chunks, positions, return_unit

STEP = 256  # samples evaluated at a time


class SampleScore(nn.Module):
    """A network as one number a sample: what it predicts first, summed over all that a sample predicts.

    (sample, time, feature) or (date, asset, time, feature) -> (sample, 1). Assets that are NaN are not there.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 3:
            return self.module(x)[..., :1]
        there = ~torch.isnan(x[..., 0, 0])
        out = self.module(torch.where(there[..., None, None], x, 0.0), there)[..., 0]
        return torch.where(there, out, 0.0).sum(dim=1, keepdim=True)


def inputs_of(forecaster: Any, panel: Panel, times: pd.DatetimeIndex | None = None) -> list[ModelInputs]:
    """Inputs of every part of a fitted forecaster (one, if it is pooled) at these bars.

    Raises
    ------
    ConfigError
        The forecaster has no features to explain.
    HistoryError
        No asset has a full window at any of the bars.
    """
    if not isinstance(forecaster, WindowForecaster):
        raise ConfigError(
            f"{type(forecaster).__name__} predicts without features: there is nothing to attribute its predictions to"
        )
    check_is_fitted(forecaster, "parts_")
    forecaster._check_assets(panel.assets)
    rows = np.arange(len(panel)) if times is None else positions(panel, times)
    raw, sigma, target = forecaster.feature_set_(panel), return_unit(panel), forecaster._target(panel)
    found = []
    for part, columns in forecaster._by_part(panel.assets):
        allowed = np.zeros(panel.shape, dtype=bool)
        allowed[np.ix_(rows, columns)] = True
        scaled = part.scaling.features(raw, panel.universe.mask)
        windows = Windows.complete(scaled, forecaster.window, allowed & np.isfinite(sigma))
        joint = bool(getattr(forecaster, "joint", False))
        values, present = _dates(windows, panel) if joint else (windows.take(np.arange(len(windows))), None)
        if present is not None:
            windows = windows.subset(np.flatnonzero(panel.universe.mask[windows.ends, windows.assets]))
        if not len(windows):
            continue
        at, scaling = (windows.ends, windows.assets), part.scaling
        labels = [panel.times[windows.ends], np.array(panel.assets)[windows.assets]]
        kind, native = _native(part)
        made = ModelInputs(
            values,
            forecaster.feature_set_.names,
            pd.MultiIndex.from_arrays(labels, names=["time", "asset"]),
            np.ones(len(windows), dtype=bool) if present is None else present,
            target=scaling.target(target)[at].astype(float),
            unit=scaling.spread * sigma[at],
            offset=scaling.location * sigma[at],
            predict=_jointly(part) if joint else _singly(part),
            kind=kind,
            native=native,
        )
        found.append(made)
    if not found:
        raise HistoryError(f"no asset of '{panel.name}' has a full window at the {len(rows)} bars asked for")
    return found


def _native(part: Part) -> tuple[str, Any]:
    """Kind of a predictor, and what the methods made for that kind want to hold."""
    predictor: Any = part.predictor
    if isinstance(predictor, NetworkPredictor):
        return "network", SampleScore(predictor.module)
    if isinstance(predictor, TreesPredictor):
        return "trees", predictor.trees
    if isinstance(predictor, LinearPredictor):
        return "linear", predictor.coefficients
    return "function", None


def _dates(windows: Windows, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    """Dates as samples, (date, asset, time, feature), NaN where an asset is no member or has no full window."""
    member = panel.universe.mask[windows.ends, windows.assets]
    dates, row = np.unique(windows.ends[member], return_inverse=True)
    columns = windows.assets[member]
    values = np.full((len(dates), len(panel.assets), windows.length, windows.values.shape[2]), np.nan, np.float32)
    values[row, columns] = windows.take(np.flatnonzero(member))
    return values, ~np.isnan(values[:, :, 0, 0])


def _singly(part: Part) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: in_chunks(part.predictor, values.__getitem__, len(values), STEP)


def _jointly(part: Part) -> Callable[[np.ndarray], np.ndarray]:
    predictor: Any = part.predictor

    def predict(values: np.ndarray) -> np.ndarray:
        there = ~np.isnan(values[:, :, 0, 0])
        filled = np.nan_to_num(values)
        step = max(1, STEP // values.shape[1])
        return np.concatenate(
            [predictor(filled[k : k + step], there[k : k + step]) for k in range(0, len(values), step)]
        )

    return predict
