"""Every strategy keeps the contract: the fast path decides like the slow one, the future changes nothing, assets come
and go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import foliocast as fc
from foliocast.core.protocols import Strategy
from foliocast.models.linear import LinearForecaster
from foliocast.models.naive import NaiveForecaster
from markets import make_panel


class MinimumTail:
    """A policy that needs no solver: all in the asset with the smallest 5 % loss."""

    def allocate(self, scenarios: fc.ScenarioSet, previous: pd.Series | None = None) -> pd.Series:
        worst = np.quantile(scenarios.cumulative(), 0.05, axis=0)
        return pd.Series((worst == worst.max()).astype(float), index=list(scenarios.assets))


SMALL: dict[str, Any] = {"window": 3, "hidden": 4, "segment": 20, "stride": 40, "epochs": 1, "past": 30}
STRATEGIES: dict[str, Callable[[], Any]] = {
    "equal_weight": lambda: fc.EqualWeight(rebalance=7),
    "buy_and_hold": fc.BuyAndHold,
    "fixed": lambda: fc.FixedWeights({"A0": 0.5, "A2": 0.3}, rebalance=7),
    "inverse_volatility": lambda: fc.InverseVolatility(window=40, rebalance=7),
    "minimum_variance": lambda: fc.MinimumVariance(window=80, rebalance=7),
    "mean_variance": lambda: fc.MeanVariance(window=80, rebalance=7),
    "hrp": lambda: fc.HierarchicalRiskParity(window=80, rebalance=7),
    "signal_linear": lambda: fc.SignalStrategy(LinearForecaster(window=10)),
    "signal_naive": lambda: fc.SignalStrategy(NaiveForecaster(kind="last"), regime="hmm"),
    "scenario": lambda: fc.ScenarioStrategy(
        fc.BlockBootstrap(), MinimumTail(), horizon=5, n_scenarios=50, rebalance=7, window=60
    ),
    "forecast": lambda: fc.ForecastStrategy(
        LinearForecaster(n_paths=50, volatility="ewma"), MinimumTail(), horizon=2, rebalance=7, shrink=0.5
    ),
    "allocator": lambda: fc.EndToEndAllocator(**SMALL),
    "allocator_band": lambda: fc.EndToEndAllocator(**SMALL, head="sparsemax", trading="band", encoder="lstm"),
    "allocator_free": lambda: fc.EndToEndAllocator(**SMALL, head="long_short", uses_holdings=False),
    "allocator_programme": lambda: fc.EndToEndAllocator(**SMALL, head="mean_variance", trading="partial"),
}
TRAIN, CUT = 200, 230


def with_gaps(n_bars: int = 270) -> fc.Panel:
    """One asset comes late, one leaves, one has holes."""
    base = make_panel(n_bars, 6, seed=3)
    fields = {key: base.array(key).copy() for key in base.fields}
    for values in fields.values():
        values[:120, 1] = np.nan
        values[240:, 2] = np.nan
        values[::37, 3] = np.nan
    return fc.Panel(fields, base.times, base.assets)


@pytest.fixture(scope="module")
def gaps() -> fc.Panel:
    return with_gaps()


@pytest.fixture(params=list(STRATEGIES))
def strategy(request: pytest.FixtureRequest) -> Any:
    return STRATEGIES[request.param]()


def fitted(strategy: Any, panel: fc.Panel) -> Any:
    return clone(strategy).fit(panel.rows(0, TRAIN))


def test_is_a_strategy_and_an_estimator(strategy: Any) -> None:
    assert isinstance(strategy, Strategy)
    twin = clone(strategy)
    assert set(twin.get_params(deep=False)) == set(strategy.get_params(deep=False))


@pytest.mark.parametrize("market", ["complete", "gaps"])
def test_decide_many_equals_decide_row_by_row(strategy: Any, market: str, gaps: fc.Panel) -> None:
    panel = gaps if market == "gaps" else make_panel(270, 6, seed=4)
    model = fitted(strategy, panel)
    times = panel.times[TRAIN - 1 : 260]
    many = model.decide_many(panel, times)
    assert many.index.equals(times)
    assert list(many.columns) == list(panel.assets)
    previous: pd.Series | None = None
    close = panel.close()
    for before, time in zip(times.insert(0, times[0]), times):
        if previous is not None:  # holdings drift with prices, as an account's do
            grown = previous * (close.loc[time] / close.loc[before]).fillna(1.0)
            previous = grown / (1.0 - previous.sum() + grown.sum())
        one = model.decide(panel.asof(time), previous)
        row = many.loc[time]
        if one is None:
            assert row.isna().all()
        else:
            assert np.array_equal(one.to_numpy(), row.to_numpy())
            previous = one


def test_the_future_changes_no_bit_of_a_decision(strategy: Any, gaps: fc.Panel) -> None:
    rng = np.random.default_rng(0)
    fields = {key: gaps.array(key).copy() for key in gaps.fields}
    for values in fields.values():
        values[CUT + 1 :] = values[rng.integers(0, CUT, len(values) - CUT - 1)] * rng.uniform(0.5, 2)
    other = fc.Panel(fields, gaps.times, gaps.assets)
    times = gaps.times[TRAIN - 1 : 260]
    first, second = (fitted(strategy, panel).decide_many(panel, times) for panel in (gaps, other))
    known = first.index <= gaps.times[CUT]
    assert np.array_equal(first[known].to_numpy(), second[known].to_numpy(), equal_nan=True)


def test_only_quoted_members_are_wanted(strategy: Any, gaps: fc.Panel) -> None:
    weights = fitted(strategy, gaps).decide_many(gaps, gaps.times[TRAIN - 1 :]).dropna(how="all")
    assert np.isfinite(weights.to_numpy()).all()
    left = weights.loc[gaps.times[246] :, "A2"]
    assert (left == 0).all()
    assert (weights.abs().sum(axis=1) <= 1 + 1e-9).all()


def test_walks_forward_over_assets_that_come_and_go(strategy: Any, gaps: fc.Panel) -> None:
    result = fc.walk_forward(strategy, gaps, fc.WalkForward(train=TRAIN, test=30))
    assert result.n_days == len(gaps) - TRAIN
    assert np.isfinite(result.equity).all()
    assert (result.weights["A2"].iloc[-20:] == 0).all()
