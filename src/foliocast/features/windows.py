"""Rolling statistics and training windows that are exact: a row depends on its own window and nothing else.

Every statistic is summed lag by lag, in a fixed order, instead of by differences of running sums. It costs one pass
a lag and buys equality to the bit: changing the future, cutting the start or adding assets changes no row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 1 << 16  # elements worked on at a time: one block and its accumulator stay in the processor's cache


def rolling_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last ``window`` rows, (time, asset); NaN until the window is full or while it holds a NaN."""
    out = np.full_like(values, np.nan, dtype=float)
    for low, high in _blocks(values, window):
        out[low:high] = _sum(values, window, low, high) / window
    return out


def rolling_std(values: np.ndarray, window: int, ddof: int = 1) -> np.ndarray:
    """Standard deviation of the last ``window`` rows, (time, asset), in two passes (no cancellation)."""
    out = np.full_like(values, np.nan, dtype=float)
    for low, high in _blocks(values, window):
        mean = _sum(values, window, low, high) / window
        squares = np.zeros_like(mean)
        for lag in range(window):
            deviation = values[low - lag : high - lag] - mean
            deviation *= deviation
            squares += deviation
        out[low:high] = np.sqrt(squares / (window - ddof))
    return out


def _blocks(values: np.ndarray, window: int) -> list[tuple[int, int]]:
    step = max(1, BLOCK // max(1, values.shape[1]))
    return [(low, min(low + step, len(values))) for low in range(window - 1, len(values), step)]


def _sum(values: np.ndarray, window: int, low: int, high: int) -> np.ndarray:
    total = np.zeros((high - low, values.shape[1]))
    for lag in range(window):
        total += values[low - lag : high - lag]
    return total


@dataclass(frozen=True)
class Windows:
    """Windows of features, by reference: nothing is copied until a batch is asked for.

    Parameters
    ----------
    values : ndarray, shape (time, asset, feature)
    length : int
        Bars in a window.
    ends, assets : ndarray of int, shape (sample,)
        Row of the last bar, and column, of each sample.
    """

    values: np.ndarray
    length: int
    ends: np.ndarray
    assets: np.ndarray

    @classmethod
    def complete(cls, values: np.ndarray, length: int, allowed: np.ndarray | None = None) -> Windows:
        """All windows without a NaN, ordered by time and then by asset.

        Parameters
        ----------
        allowed : ndarray of bool, shape (time, asset), optional
            Only windows that end where this is True.
        """
        good = np.isfinite(values).all(axis=2)
        bars = np.arange(len(values))[:, None]
        last_bad = np.maximum.accumulate(np.where(good, -1, bars), axis=0)
        full = (bars - last_bad) >= length
        ends, assets = np.nonzero(full if allowed is None else full & allowed)
        return cls(values, length, ends, assets)

    def __len__(self) -> int:
        return len(self.ends)

    def take(self, index: np.ndarray) -> np.ndarray:
        """The windows with these numbers, (sample, time, feature)."""
        rows = self.ends[index][:, None] + np.arange(1 - self.length, 1)
        return self.values[rows, self.assets[index][:, None]]

    def subset(self, index: np.ndarray) -> Windows:
        """Only the samples with these numbers."""
        return Windows(self.values, self.length, self.ends[index], self.assets[index])
