"""The position pipeline: each step by hand, and nothing learnt outside the training rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone

import foliocast as fc
from foliocast.core.errors import ConfigError, HistoryError
from foliocast.portfolio.sizing import PositionPipeline
from markets import make_panel


class Momentum(BaseEstimator):
    """Predicts a tenth of the last return; causal, needs no training."""

    def fit(self, panel: fc.Panel) -> Momentum:
        self.knowledge_until_ = panel.times[-1]
        return self

    def predict(self, panel: fc.Panel, times: pd.DatetimeIndex | None = None) -> pd.DataFrame:
        frame = pd.DataFrame(panel.return_array() * 0.1, panel.times, list(panel.assets))
        return frame if times is None else frame.loc[times]


def test_pipeline_by_hand() -> None:
    predictions = np.array([[0.01, -0.02], [0.02, 0.0], [0.03, 0.02], [0.0, 0.01]])
    pipe = PositionPipeline().fit(predictions)
    smoothed = np.array([[0.01, -0.02], [0.015, -0.01], [0.02, 0.0], [0.05 / 3, 0.01]])
    signal = np.tanh(smoothed / 0.01)
    assert pipe.signal(predictions) == pytest.approx(signal)
    assert pipe.threshold_ == pytest.approx(np.quantile(np.abs(signal), 0.4))
    volatility = np.full((4, 2), 0.02)
    expected = np.where(np.abs(signal) >= pipe.threshold_, signal, 0.0) * 0.01 / 0.02 * 0.5
    assert pipe.transform(predictions, volatility, np.full(4, 0.5)) == pytest.approx(expected)
    assert np.abs(pipe.transform(predictions, volatility / 100)).max() == 1.0  # clipped


def test_gate_keeps_the_share_it_says_on_the_training_rows() -> None:
    predictions = np.random.default_rng(0).normal(0, 0.003, (500, 3))
    pipe = PositionPipeline(keep=0.6).fit(predictions)
    kept = pipe.transform(predictions, np.full((500, 3), 0.01)) != 0
    assert kept.mean() == pytest.approx(0.6, abs=0.01)


def test_gate_does_not_move_with_the_test_rows() -> None:
    rng = np.random.default_rng(1)
    pipe = PositionPipeline().fit(rng.normal(0, 0.003, (300, 2)))
    weak = pipe.transform(rng.normal(0, 1e-5, (50, 2)), np.full((50, 2), 0.01))
    assert (weak == 0).all()  # a percentile over the test fold would have kept 60 % of them


def test_missing_predictions_and_volatility_mean_no_position() -> None:
    pipe = PositionPipeline(keep=1.0).fit(np.full((5, 2), 0.01))
    predictions = np.array([[0.01, np.nan]] * 5)
    positions = pipe.transform(predictions, np.array([[np.nan, 0.01]] * 5))
    assert (positions == 0).all()


def test_strategy_weights_are_positions_over_members_and_scaled_down_in_stress() -> None:
    panel = make_panel(400, 4)
    plain = fc.SignalStrategy(Momentum(), regime=None).fit(panel.rows(0, 300))
    filtered = fc.SignalStrategy(Momentum(), stressed_exposure=0.0).fit(panel.rows(0, 300))
    times = panel.times[300:]
    weights, cut = plain.decide_many(panel, times), filtered.decide_many(panel, times)
    assert weights.abs().sum(axis=1).max() <= 1.0
    assert weights.abs().to_numpy().max() <= 0.25
    stressed = filtered.regime_.transform(panel)["regime"].astype(str).str.startswith("stressed").loc[times]
    assert stressed.any()
    assert (cut[stressed] == 0).all(axis=None)
    assert (cut[~stressed] == weights[~stressed]).all(axis=None)


def test_hmm_filter_scales_by_the_probability_of_stress() -> None:
    panel = make_panel(400, 4)
    model = fc.SignalStrategy(Momentum(), regime="hmm", stressed_exposure=0.2).fit(panel.rows(0, 300))
    bare = fc.SignalStrategy(Momentum(), regime=None).fit(panel.rows(0, 300))
    times = panel.times[300:320]
    probability = model.regime_.transform(panel)["probability_1"].loc[times]
    got, plain = model.decide_many(panel, times), bare.decide_many(panel, times)
    loose = plain.abs() < 0.25 - 1e-12
    ratio = (got / plain.where(loose & (plain != 0))).mean(axis=1).dropna()
    assert len(ratio) > 10
    assert ratio.to_numpy() == pytest.approx((1 - 0.8 * probability.loc[ratio.index]).to_numpy(), rel=1e-6)


def test_strategy_is_an_estimator_and_passes_predictions_through() -> None:
    panel = make_panel(200, 3)
    strategy = fc.SignalStrategy(Momentum(), PositionPipeline(keep=0.5))
    twin = clone(strategy)
    assert twin.get_params()["pipeline__keep"] == 0.5
    fitted = twin.fit(panel.rows(0, 150))
    assert not hasattr(fitted, "attention")
    assert fitted.predict(panel, panel.times[150:]).equals(Momentum().predict(panel, panel.times[150:]))
    assert fitted.knowledge_until_ == panel.times[149]
    assert not hasattr(strategy, "pipeline_")


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="keep"):
        PositionPipeline(keep=0.0).fit(np.ones((5, 1)))
    with pytest.raises(HistoryError, match="no prediction"):
        PositionPipeline().fit(np.full((5, 1), np.nan))
    with pytest.raises(ConfigError, match="'rule', 'hmm'"):
        fc.SignalStrategy(Momentum(), regime="moon").fit(make_panel(100, 2))
