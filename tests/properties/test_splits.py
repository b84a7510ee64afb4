"""Splits: every test bar once, never a training bar that touches a test bar."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.time import CombinatorialPurged, PurgedKFold, WalkForward, periods_per_year


@given(st.integers(5, 60), st.integers(1, 30), st.integers(0, 4), st.booleans(), st.integers(1, 200))
def test_walk_forward_scores_every_bar_once_and_trains_before(train, test, purge, expanding, extra) -> None:
    n_bars = train + extra
    folds = WalkForward(train, test, purge=purge, expanding=expanding).folds(n_bars)
    scored = np.concatenate([np.arange(*f.test) for f in folds])
    assert (scored == np.arange(train, n_bars)).all()
    for fold in folds:
        assert fold.train[1] == fold.test[0] - purge
        assert fold.train[0] == (0 if expanding else fold.test[0] - train)


@given(st.integers(40, 200), st.integers(2, 6), st.integers(0, 5), st.integers(0, 5))
def test_purged_splits_keep_their_distance(n_bars, n_splits, purge, embargo) -> None:
    seen = np.zeros(n_bars, int)
    for train, test in PurgedKFold(n_splits, purge, embargo).split(np.empty(n_bars)):
        seen[test] += 1
        gap = np.subtract.outer(train, test)
        assert not ((gap >= -purge) & (gap < 0)).any() or purge == 0
        assert not ((gap >= 0) & (gap <= embargo)).any() or embargo == 0
        assert not np.intersect1d(train, test).size
    assert (seen == 1).all()


def test_combinatorial_split_counts() -> None:
    splits = list(CombinatorialPurged(6, 2, 1, 1).split(np.empty(60)))
    assert len(splits) == 15
    assert all(len(test) == 20 for _, test in splits)


def test_bad_schedules_are_refused() -> None:
    with pytest.raises(ConfigError, match="skipped or scored twice"):
        WalkForward(100, 20, step=10)
    with pytest.raises(HistoryError, match="505 needed"):
        WalkForward().folds(504)


@pytest.mark.parametrize(
    ("freq", "expected"), [("B", 252), ("D", 365), ("W", 52), ("ME", 12), ("QE", 4), ("YE", 1), ("h", 365 * 24)]
)
def test_periods_per_year(freq: str, expected: int) -> None:
    assert periods_per_year(pd.date_range("2015-01-01", periods=120, freq=freq)) == expected
