"""What is given of the future: the one reading of ``given=`` for every scenario model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from foliocast.core.errors import ConfigError, DataError

Given = Mapping[str, "float | ArrayLike"]


@dataclass(frozen=True)
class Condition:
    """A parsed ``given``.

    Attributes
    ----------
    path : ndarray, shape (horizon, asset)
        Fixed per-bar simple returns; NaN where free.
    total : ndarray, shape (asset,)
        Fixed compounded returns over the horizon; NaN where free.
    """

    path: np.ndarray
    total: np.ndarray

    @classmethod
    def parse(cls, given: Given | None, assets: Sequence[str], horizon: int) -> Condition:
        """Read ``{asset: float}`` (compounded return over the horizon) and ``{asset: array}`` (path, NaN where free).

        Raises
        ------
        DataError
            Unknown asset, wrong path length, infinite value.
        ConfigError
            A return of -100 % or less.
        """
        path = np.full((horizon, len(assets)), np.nan)
        total = np.full(len(assets), np.nan)
        for name, value in (given or {}).items():
            if name not in assets:
                raise DataError(f"given names {name}, which is not among the assets simulated: {', '.join(assets[:8])}")
            column = list(assets).index(name)
            numbers = np.asarray(value, dtype=float)
            if np.isinf(numbers).any() or (numbers <= -1.0).any():
                raise ConfigError(
                    f"given {name} = {value!r}: a return must be finite and above -1 (-0.2 means minus 20 %)"
                )
            if numbers.ndim == 0:
                total[column] = float(numbers)
            elif numbers.shape == (horizon,):
                path[:, column] = numbers
            else:
                raise DataError(f"given path of {name} has shape {numbers.shape}, the horizon is {horizon} bars")
        full = np.isfinite(path).all(axis=0)
        total[full] = np.nan  # a full path says it all
        return cls(path, total)

    def pointwise(self) -> Condition:
        """The same condition with a total over a single bar read as that bar's return."""
        if len(self.path) != 1:
            return self
        given = np.isfinite(self.total)
        return Condition(np.where(given, self.total, self.path), np.full_like(self.total, np.nan))

    @property
    def empty(self) -> bool:
        return not (np.isfinite(self.path).any() or np.isfinite(self.total).any())

    @property
    def touched(self) -> np.ndarray:
        """Which assets are conditioned, bool (asset,)."""
        return np.isfinite(self.path).any(axis=0) | np.isfinite(self.total)
