"""Gradient-boosted trees on the features: the nonlinear baseline without gradients through time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from foliocast.features.windows import Windows
from foliocast.models.training import chronological_split
from foliocast.models.windowed import Supervised, WindowForecaster


class TreesPredictor:
    """Flattened windows through the fitted trees."""

    def __init__(self, trees: HistGradientBoostingRegressor) -> None:
        self.trees = trees

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        return self.trees.predict(windows.reshape(len(windows), -1))


class TreesForecaster(WindowForecaster):
    """Histogram gradient boosting (scikit-learn) on the standardised features of the last ``window`` bars.

    Parameters
    ----------
    window : int
        Bars of features; the default sees the present bar alone.
    lr, iterations, leaves, min_samples, l2 : boosting
        Small steps, small trees and large leaves: the signal is a few parts in a thousand of the variance.
    patience : int or None
        Rounds without a better loss on the last ``valid_fraction`` of training rows (after a gap), then stop.
    pooled, any_asset, features, n_paths, volatility, random_state
        As in `AttentionLSTM`.
    """

    def __init__(
        self,
        window: int = 1,
        lr: float = 0.03,
        iterations: int = 200,
        leaves: int = 8,
        min_samples: int = 100,
        l2: float = 10.0,
        patience: int | None = 10,
        valid_fraction: float = 0.15,
        pooled: bool = True,
        any_asset: bool = False,
        features: Sequence[str] | None = None,
        n_paths: int = 500,
        volatility: str = "gjr",
        random_state: int = 0,
    ) -> None:
        self.window = window
        self.lr = lr
        self.iterations = iterations
        self.leaves = leaves
        self.min_samples = min_samples
        self.l2 = l2
        self.patience = patience
        self.valid_fraction = valid_fraction
        self.pooled = pooled
        self.any_asset = any_asset
        self.features = features
        self.n_paths = n_paths
        self.volatility = volatility
        self.random_state = random_state

    def _learn(self, samples: Supervised, seed: int) -> TreesPredictor:
        fraction = 0.0 if self.patience is None else self.valid_fraction
        fit, valid = chronological_split(samples.windows.ends, fraction, self.window + 1)
        trees = HistGradientBoostingRegressor(
            learning_rate=self.lr,
            max_iter=self.iterations,
            max_leaf_nodes=self.leaves,
            min_samples_leaf=self.min_samples,
            l2_regularization=self.l2,
            early_stopping=bool(len(valid)),
            n_iter_no_change=self.patience or 10,
            random_state=self.random_state,
        )
        held_out = {"X_val": _flat(samples.windows, valid), "y_val": samples.target[valid]} if len(valid) else {}
        trees.fit(_flat(samples.windows, fit), samples.target[fit], **held_out)
        return TreesPredictor(trees)


def _flat(windows: Windows, index: np.ndarray) -> np.ndarray:
    return windows.take(index).reshape(len(index), -1)
