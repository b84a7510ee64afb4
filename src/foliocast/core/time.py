"""Every lag and every split lives here: walk-forward, purged and combinatorial splits, annualisation factors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError, HistoryError

TRADING_DAYS = 252
CRYPTO_DAYS = 365


def periods_per_year(times: pd.DatetimeIndex) -> int:
    """Bars a year of an index, from its median spacing and whether it trades at weekends.

    Returns 252 for business-day bars, 365 for daily 24/7 bars, 52 for weekly, 12 for monthly bars and the matching
    multiple for intraday bars.
    """
    if len(times) < 3:
        return TRADING_DAYS
    gap = pd.Series(times).diff().median()
    days = CRYPTO_DAYS if (times.day_of_week >= 5).mean() > 0.2 else TRADING_DAYS
    if gap <= pd.Timedelta(hours=12):
        bars_a_day = max(1, round(len(times) / max(1, times.normalize().nunique())))
        return days * bars_a_day
    for limit, periods in ((4, days), (10, 52), (45, 12), (120, 4)):
        if gap <= pd.Timedelta(days=limit):
            return periods
    return 1


@dataclass(frozen=True)
class Fold:
    """One walk-forward step, as half-open bar positions.

    Attributes
    ----------
    number : int
    train : tuple of int
        ``(start, stop)`` of the rows a model may be fitted on.
    test : tuple of int
        ``(start, stop)`` of the rows that are scored.
    """

    number: int
    train: tuple[int, int]
    test: tuple[int, int]


@dataclass(frozen=True)
class WalkForward:
    """Rolling (or expanding) training windows, each followed by the test window that it is judged on.

    Parameters
    ----------
    train, test : int
        Bars in the training and test windows.
    step : int or None
        Bars the windows move each time; None means ``test``, so that every test bar is scored exactly once.
    purge : int
        Bars dropped between training and test because their labels reach into the test window.
    expanding : bool
        Keep the first training row fixed.

    Notes
    -----
    The last fold may be shorter: no test bar is skipped. An embargo (bars *after* a test block) has no meaning
    when training always precedes testing; it is a parameter of `PurgedKFold` and `CombinatorialPurged`.
    """

    train: int = 504
    test: int = 63
    step: int | None = None
    purge: int = 0
    expanding: bool = False

    def __post_init__(self) -> None:
        step = self.test if self.step is None else self.step
        if min(self.train, self.test, step) < 1 or self.purge < 0:
            raise ConfigError(f"schedule needs positive train, test and step and purge >= 0, found {self}")
        if step != self.test:
            raise ConfigError(
                f"step = {step} differs from test = {self.test}: test days would be skipped or "
                "scored twice; set step = test"
            )
        if self.purge >= self.train:
            raise ConfigError(f"purge = {self.purge} leaves nothing of a training window of {self.train} bars")

    def folds(self, n_bars: int) -> list[Fold]:
        """Folds over ``n_bars`` rows.

        Raises
        ------
        HistoryError
            If there is no room for one training window and one test bar.
        """
        first = self.train
        if n_bars <= first:
            raise HistoryError(
                f"{n_bars} bars found, {first + 1} needed: the schedule trains on {self.train} bars before the first "
                "test bar; load a longer history or shorten schedule.train"
            )
        out = []
        for number, start in enumerate(range(first, n_bars, self.test)):
            begin = 0 if self.expanding else start - self.train
            out.append(Fold(number, (begin, start - self.purge), (start, min(start + self.test, n_bars))))
        return out

    def split(self, X: object, y: object = None, groups: object = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """scikit-learn's splitter protocol: train and test positions of each fold."""
        for fold in self.folds(len(X)):  # type: ignore[arg-type]
            yield np.arange(*fold.train), np.arange(*fold.test)


def _keep_clear(n_bars: int, blocks: list[tuple[int, int]], purge: int, embargo: int) -> np.ndarray:
    """Training positions that touch no test block, its purge before or its embargo after."""
    keep = np.ones(n_bars, dtype=bool)
    for start, stop in blocks:
        keep[max(0, start - purge) : min(n_bars, stop + embargo)] = False
    return np.flatnonzero(keep)


@dataclass(frozen=True)
class PurgedKFold:
    """K contiguous test blocks; training rows whose label reaches into the block (purge) or that follow it closely
    (embargo) are dropped. Lopez de Prado (2018), *Advances in Financial Machine Learning*, ch. 7.
    """

    n_splits: int = 5
    purge: int = 0
    embargo: int = 0

    def split(self, X: object, y: object = None, groups: object = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        n_bars = len(X)  # type: ignore[arg-type]
        edges = np.linspace(0, n_bars, self.n_splits + 1).astype(int)
        for start, stop in pairwise(edges):
            yield _keep_clear(n_bars, [(start, stop)], self.purge, self.embargo), np.arange(start, stop)

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        return self.n_splits


@dataclass(frozen=True)
class CombinatorialPurged:
    """All ways to test on ``n_test`` of ``n_groups`` contiguous groups (CPCV). Lopez de Prado (2018), ch. 12."""

    n_groups: int = 10
    n_test: int = 2
    purge: int = 0
    embargo: int = 0

    def split(self, X: object, y: object = None, groups: object = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        n_bars = len(X)  # type: ignore[arg-type]
        edges = np.linspace(0, n_bars, self.n_groups + 1).astype(int)
        for chosen in combinations(range(self.n_groups), self.n_test):
            blocks = [(int(edges[g]), int(edges[g + 1])) for g in chosen]
            test = np.concatenate([np.arange(*block) for block in blocks])
            yield _keep_clear(n_bars, blocks, self.purge, self.embargo), test

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        return len(list(combinations(range(self.n_groups), self.n_test)))
