"""Walk-forward: every test bar once, training rows only, seeds, resume, look-ahead refused."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

import foliocast as fc
from foliocast.core.errors import DataError, HistoryError, LookAheadError
from foliocast.trading.walkforward import (
    FoldDecision,
    MemoryStore,
    decide_folds,
    fold_tasks,
    run_fold,
    seeded_clone,
    simulate,
)
from markets import make_panel

SCHEDULE = fc.WalkForward(train=100, test=30)


class Spy(BaseEstimator):
    """Holds weights drawn from its seed; remembers the rows it was shown."""

    path_dependent = False

    def __init__(self, random_state: int = 0, ahead: int = 0) -> None:
        self.random_state = random_state
        self.ahead = ahead

    def fit(self, panel: fc.Panel) -> Spy:
        self.trained_ = (panel.times[0], panel.times[-1])
        self.knowledge_until_ = panel.times[-1] + pd.Timedelta(days=self.ahead)
        return self

    def decide(self, view: fc.View, previous: pd.Series | None = None) -> pd.Series | None:
        return self.decide_many(view.panel, view.panel.times[-1:]).iloc[0]

    def decide_many(self, panel: fc.Panel, times: pd.DatetimeIndex) -> pd.DataFrame:
        assert panel.times[-1] >= times[-1]
        rng = np.random.default_rng(self.random_state)
        return pd.DataFrame(rng.dirichlet(np.ones(4), len(times)), times, list(panel.assets))

    def predict(self, panel: fc.Panel, times: pd.DatetimeIndex) -> pd.DataFrame:
        return self.decide_many(panel, times) * 0.01


class Nested(BaseEstimator):
    def __init__(self, part: Any, layer_random_state: int = 3) -> None:
        self.part = part
        self.layer_random_state = layer_random_state


def test_every_test_bar_is_scored_once_for_every_strategy(panel: fc.Panel) -> None:
    expected = panel.times[100:]
    for strategy in (Spy(), fc.EqualWeight(), fc.BuyAndHold(), fc.MinimumVariance(window=50), fc.EqualWeight(63)):
        for execution in ("same_close", "next_close", "next_open"):
            result = fc.walk_forward(strategy, panel, SCHEDULE, execution=execution)
            assert result.returns.index.equals(expected)
            assert result.n_days == len(expected) == 300
            assert result.equity.iloc[0] == 1.0


def test_folds_train_on_their_rows_and_decide_one_bar_ahead(panel: fc.Panel) -> None:
    schedule = fc.WalkForward(train=100, test=30, purge=5)
    for task, fold in zip(fold_tasks({"spy": Spy()}, panel, schedule), schedule.folds(len(panel))):
        decision = run_fold(pickle.loads(pickle.dumps(task)))
        assert decision.weights.index.equals(panel.times[fold.test[0] - 1 : fold.test[1] - 1])
        assert decision.knowledge_until == panel.times[fold.train[1] - 1]
        assert task.panel.times[-1] == panel.times[fold.test[1] - 2]  # the task holds nothing later
        assert decision.predictions is not None


def test_same_seed_same_bits_on_any_order_and_other_seed_other_bits(panel: fc.Panel) -> None:
    def backwards(function: Any, tasks: Any) -> Any:
        return list(reversed([function(task) for task in reversed(tasks)]))

    first = fc.walk_forward(Spy(), panel, SCHEDULE, seed=4)
    second = fc.walk_forward(Spy(), panel, SCHEDULE, seed=4, run_tasks=backwards)
    assert (first.equity == second.equity).all()
    assert not (first.equity == fc.walk_forward(Spy(), panel, SCHEDULE, seed=5).equity).all()
    assert not (first.equity == fc.walk_forward(Spy(), panel, SCHEDULE, seed=4, name="other").equity).all()


def test_seeds_reach_nested_parameters_and_differ_by_fold() -> None:
    twin = seeded_clone(Nested(Spy()), 1, "a", 0)
    assert twin.part.random_state != 0
    assert twin.layer_random_state not in (3, twin.part.random_state)
    assert seeded_clone(Nested(Spy()), 1, "a", 0).part.random_state == twin.part.random_state
    assert seeded_clone(Nested(Spy()), 1, "a", 1).part.random_state != twin.part.random_state


def test_a_store_spares_finished_folds(panel: fc.Panel) -> None:
    store, ran = MemoryStore(), []

    def counting(function: Any, tasks: Any) -> Any:
        for task in tasks:
            ran.append(task.key)
            yield function(task)

    whole = fc.walk_forward(Spy(), panel, SCHEDULE, store=store)
    for key in list(store)[4:]:
        del store[key]
    steps: list[tuple[int, int]] = []
    resumed = fc.walk_forward(
        Spy(),
        panel,
        SCHEDULE,
        store=store,
        run_tasks=counting,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert len(ran) == 6
    assert steps[-1] == (10, 10)
    assert (whole.equity == resumed.equity).all()


def test_knowledge_from_the_future_is_refused_or_marked(panel: fc.Panel) -> None:
    with pytest.raises(LookAheadError, match="allow_contaminated"):
        fc.walk_forward(Spy(ahead=10), panel, SCHEDULE)
    marked = fc.walk_forward(Spy(ahead=10), panel, SCHEDULE, allow_contaminated=True)
    assert marked.contaminated
    assert not fc.walk_forward(Spy(), panel, SCHEDULE).contaminated


def test_missing_test_bars_and_short_histories_are_refused(panel: fc.Panel) -> None:
    folds = decide_folds(fold_tasks({"spy": Spy()}, panel, SCHEDULE))
    with pytest.raises(DataError, match="every test bar needs exactly one"):
        simulate(folds[:-1], panel, SCHEDULE)
    with pytest.raises(DataError, match="exactly one"):
        simulate([folds[0], *folds], panel, SCHEDULE)
    with pytest.raises(HistoryError):
        fc.walk_forward(Spy(), panel.rows(0, 90), SCHEDULE)
    assert all(isinstance(fold, FoldDecision) for fold in folds)


def test_rewriting_the_future_changes_no_decision(panel: fc.Panel) -> None:
    cut = 250
    fields = {key: panel.array(key).copy() for key in panel.fields}
    for values in fields.values():
        values[cut + 1 :] *= np.random.default_rng(0).uniform(0.5, 2, values[cut + 1 :].shape)
    other = panel.replace(fields)
    for strategy in (fc.InverseVolatility(), fc.MinimumVariance(window=60), fc.BuyAndHold()):
        rows = []
        for data in (panel, other):
            folds = decide_folds(fold_tasks({"s": strategy}, data, SCHEDULE))
            rows.append(pd.concat([fold.weights for fold in folds]).loc[: panel.times[cut]].to_numpy())
        assert np.array_equal(*rows, equal_nan=True)


def test_oracle_through_the_whole_walk_forward() -> None:
    panel = make_panel(300, 1, seed=9)

    class Oracle(Spy):
        def decide_many(self, panel: fc.Panel, times: pd.DatetimeIndex) -> pd.DataFrame:
            nxt = truth.shift(-1).reindex(times)
            return np.sign(nxt)

    truth = panel.close().pct_change()
    result = fc.walk_forward(Oracle(), panel, SCHEDULE, fc.Costs.free(), execution="same_close")
    earned = np.prod(1 + np.abs(truth.to_numpy()[100:, 0]))
    assert result.equity.iloc[-1] == pytest.approx(earned, rel=1e-12)


def test_buy_and_hold_buys_once(panel: fc.Panel) -> None:
    result = fc.walk_forward(fc.BuyAndHold(), panel, SCHEDULE, execution="next_close")
    assert len(result.trades()) == 4
    close = panel.array("close")
    grown = (close[-1] / close[100]).mean() / 1.0005  # bought at the close of the first test bar
    assert result.equity.iloc[-1] == pytest.approx(grown, rel=1e-12)


def test_schedule_of_baselines_trades_on_schedule_only(panel: fc.Panel) -> None:
    result = fc.walk_forward(fc.EqualWeight(rebalance=10), panel, SCHEDULE, execution="next_close")
    days = panel.times.get_indexer(result.trades()["date"].unique())
    assert list(days) == list(range(100, 400, 10))
    purged = fc.walk_forward(fc.EqualWeight(rebalance=10), panel, fc.WalkForward(100, 30, purge=4))
    assert purged.positions().iloc[1] == pytest.approx(1.0)
