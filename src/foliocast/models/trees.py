"""Gradient-boosted trees on the features: the nonlinear baseline without gradients through time."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(kw_only=True, eq=False, repr=False)
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
    features, pooled, any_asset, cross_section, ahead, n_paths, volatility, random_state
        As in `WindowForecaster`.
    """

    window: int = 1
    lr: float = 0.03
    iterations: int = 200
    leaves: int = 8
    min_samples: int = 100
    l2: float = 10.0
    patience: int | None = 10
    valid_fraction: float = 0.15

    def _learn(self, samples: Supervised, seed: int) -> TreesPredictor:
        fraction = 0.0 if self.patience is None else self.valid_fraction
        fit, valid = chronological_split(samples.windows.ends, fraction, self.window + self.ahead)
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
