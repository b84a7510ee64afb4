"""Ridge regression on the features: the baseline every network must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foliocast.core.errors import ConfigError
from foliocast.models.windowed import Supervised, WindowForecaster


class LinearPredictor:
    """Flattened window times coefficients."""

    def __init__(self, coefficients: np.ndarray) -> None:
        self.coefficients = coefficients

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        # summed element by element: the bits of a row must not depend on how many rows are asked for
        return (windows.reshape(len(windows), -1).astype(float) * self.coefficients).sum(axis=1)


@dataclass(kw_only=True, eq=False, repr=False)
class LinearForecaster(WindowForecaster):
    """Ridge on the standardised features of the last ``window`` bars (default: of the present bar), closed form.

    Parameters
    ----------
    alpha : float
        Penalty per sample: coefficients solve (X'X / n + alpha I) b = X'y / n, on standardised X and y.
    window, features, pooled, any_asset, cross_section, ahead, n_paths, volatility, random_state
        As in `WindowForecaster`.
    """

    window: int = 1
    alpha: float = 0.1

    def _learn(self, samples: Supervised, seed: int) -> LinearPredictor:
        if self.alpha < 0:
            raise ConfigError(f"alpha = {self.alpha} is negative; a ridge penalty is zero or more")
        width = samples.windows.length * samples.windows.values.shape[2]
        gram, moment = np.zeros((width, width)), np.zeros(width)
        for index in np.array_split(np.arange(len(samples)), 1 + len(samples) // 4096):
            x = samples.windows.take(index).reshape(len(index), width).astype(float)
            gram += x.T @ x
            moment += x.T @ samples.target[index].astype(float)
        n = len(samples)
        return LinearPredictor(np.linalg.lstsq(gram / n + self.alpha * np.eye(width), moment / n, rcond=None)[0])
