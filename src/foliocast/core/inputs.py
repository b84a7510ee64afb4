"""What a model's predictions were made from: the noun between models and explanations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.errors import DataError


@dataclass(frozen=True)
class ModelInputs:
    """Inputs of one fitted predictor, and the predictor as a function.

    Parameters
    ----------
    values : ndarray, shape (sample, ..., time, feature)
        Standardised features; zero is the training mean. A joint model has an asset axis: its sample is a date.
    names : tuple of str
        Of the features.
    index : MultiIndex (time, asset), one row a prediction
        In the order of ``predict(values)`` flattened and cut to ``present``.
    present : ndarray of bool, shape (sample, ...)
        Which outputs are predictions; all of them unless the model is joint.
    target : ndarray, shape (prediction,)
        Standardised next return; NaN where it is not known.
    unit : ndarray, shape (prediction,)
        A prediction of one is so much return.
    offset : ndarray, shape (prediction,)
        Return predicted where the function says zero.
    predict : callable
        (sample, ..., time, feature) -> (sample, ...), standardised.
    kind : {"network", "trees", "linear", "function"}
    native : object
        Of a network a torch callable from values to one number a sample (the sum of its predictions); of trees the
        fitted ensemble; of a linear model its coefficients (time * feature,).
    """

    values: np.ndarray
    names: tuple[str, ...]
    index: pd.MultiIndex
    present: np.ndarray
    target: np.ndarray
    unit: np.ndarray
    offset: np.ndarray
    predict: Callable[[np.ndarray], np.ndarray]
    kind: str = "function"
    native: Any = None

    def __post_init__(self) -> None:
        n = int(self.present.sum())
        if not len(self.index) == len(self.target) == len(self.unit) == n or self.values.shape[-1] != len(self.names):
            raise DataError(
                f"inputs of {n} predictions and {self.values.shape[-1]} features come with {len(self.index)} labels, "
                f"{len(self.target)} targets and {len(self.names)} names"
            )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def joint(self) -> bool:
        """Whether a sample is a whole date, not one asset at a date."""
        return self.values.ndim == 4

    @property
    def window(self) -> int:
        return self.values.shape[-2]

    @property
    def times(self) -> pd.DatetimeIndex:
        """Time of each sample, (sample,)."""
        stamps = pd.DatetimeIndex(self.index.get_level_values(0))
        if not self.joint:
            return stamps
        return stamps[np.flatnonzero(np.r_[True, np.diff(np.nonzero(self.present)[0]) > 0])]

    def predictions(self, values: np.ndarray | None = None) -> np.ndarray:
        """Standardised predictions, (prediction,)."""
        return self.predict(self.values if values is None else values)[self.present]

    def returns(self) -> np.ndarray:
        """Predicted simple return of the next bar, (prediction,)."""
        return self.offset + self.unit * self.predictions()
