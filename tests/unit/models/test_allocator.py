"""The end-to-end allocator as an estimator: same seed same bits, saved and loaded, the future changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import foliocast as fc
from foliocast.core.errors import ConfigError, DataError, HistoryError
from markets import make_panel

SMALL = {"window": 3, "hidden": 8, "segment": 20, "stride": 10, "epochs": 2}


@pytest.fixture(scope="module")
def market() -> fc.Panel:
    return make_panel(260, 4)


@pytest.fixture(scope="module")
def fitted(market: fc.Panel) -> fc.EndToEndAllocator:
    return fc.EndToEndAllocator(**SMALL).fit(market.rows(0, 200))


def bits(model: fc.EndToEndAllocator, market: fc.Panel) -> bytes:
    return model.decide_many(market, market.times[199:230]).to_numpy().tobytes()


def test_same_seed_same_bits_and_another_seed_others(fitted: fc.EndToEndAllocator, market: fc.Panel) -> None:
    again = clone(fitted).fit(market.rows(0, 200))
    assert bits(again, market) == bits(fitted, market)
    assert bits(clone(fitted).set_params(random_state=1).fit(market.rows(0, 200)), market) != bits(fitted, market)


def test_training_rows_alone_shape_it(fitted: fc.EndToEndAllocator, market: fc.Panel) -> None:
    fields = {name: market.array(name).copy() for name in market.fields}
    for values in fields.values():
        values[200:] *= 2.0
    other = market.replace(fields)
    assert fitted.knowledge_until_ == market.times[199]
    assert bits(clone(fitted).fit(other.rows(0, 200)), market) == bits(fitted, market)


def test_saved_and_loaded_it_decides_the_same(fitted: fc.EndToEndAllocator, market: fc.Panel, tmp_path: Path) -> None:
    card = fitted.save(tmp_path / "model")
    again = fc.load_model(tmp_path / "model")
    assert isinstance(again, fc.EndToEndAllocator)
    assert card.data_hash == market.rows(0, 200).data_hash
    assert again.knowledge_until_ == fitted.knowledge_until_
    assert bits(again, market) == bits(fitted, market)


def test_what_is_held_changes_the_decision(fitted: fc.EndToEndAllocator, market: fc.Panel) -> None:
    view = market.asof(market.times[220])
    one, other = (fitted.decide(view, pd.Series({a: 1.0})) for a in ("A0", "A3"))
    assert not one.equals(other)
    blind = clone(fitted).set_params(uses_holdings=False).fit(market.rows(0, 200))
    assert fitted.path_dependent
    assert not blind.path_dependent
    assert blind.decide(view, pd.Series({"A0": 1.0})).equals(blind.decide(view, None))


def test_inside_the_band_nothing_is_traded(market: fc.Panel) -> None:
    model = fc.EndToEndAllocator(**SMALL, trading="band", cost_bps=100).fit(market.rows(0, 200))
    view = market.asof(market.times[220])
    target = model.decide(view, None)
    near = target + np.array([0.01, -0.01, 0.0, 0.0])
    assert np.allclose(model.decide(view, near), near, atol=1e-9)


def test_costs_in_the_graph_slow_it_down(market: fc.Panel) -> None:
    """Trained on the same history, the allocator that pays 2 % a trade trades less than the one that pays nothing."""
    options = {**SMALL, "head": "long_short", "objective": "mean_variance", "risk_aversion": 5.0, "lr": 0.01}
    turnover = []
    for cost in (0.0, 200.0):
        model = fc.EndToEndAllocator(**{**options, "epochs": 10, "cost_bps": cost}).fit(market.rows(0, 200))
        weights = model.decide_many(market, market.times[150:230])
        turnover.append(weights.diff().abs().sum(axis=1).mean())
    assert turnover[1] < 0.5 * turnover[0]


@pytest.mark.parametrize("objective", ["return", "sharpe", "log", "utility", "mean_variance", "cvar", "drawdown"])
def test_every_objective_falls_while_it_trains(objective: str, market: fc.Panel) -> None:
    model = fc.EndToEndAllocator(
        **{**SMALL, "epochs": 12}, objective=objective, risk_aversion=2.0, lr=0.01, patience=None
    )
    history = model.fit(market.rows(0, 200)).training_.history
    assert history[-1]["train_loss"] < history[0]["train_loss"]


@pytest.mark.parametrize(
    "wrong", [{"head": "x"}, {"objective": "x"}, {"trading": "x"}, {"execution": "x"}, {"cost_bps": -1}]
)
def test_options_that_do_not_exist_are_refused(wrong: dict, market: fc.Panel) -> None:
    with pytest.raises(ConfigError):
        fc.EndToEndAllocator(**{**SMALL, **wrong}).fit(market.rows(0, 200))


def test_too_short_a_history_and_strange_holdings_are_refused(fitted: fc.EndToEndAllocator, market: fc.Panel) -> None:
    with pytest.raises(HistoryError, match="segment of 20 bars"):
        fc.EndToEndAllocator(**SMALL).fit(market.rows(0, 50))
    with pytest.raises(HistoryError, match="too few"):
        fc.EndToEndAllocator(**SMALL).fit(market.rows(0, 10))
    with pytest.raises(DataError, match="ZZZ"):
        fitted.decide(market.asof(market.times[220]), pd.Series({"ZZZ": 1.0}))


def test_the_look_ahead_audit_passes() -> None:
    panel = make_panel(300, 3, seed=5)
    report = fc.audit(fc.EndToEndAllocator(**SMALL), panel, schedule=fc.WalkForward(200, 50), cuts=2)
    assert report.passed, report
