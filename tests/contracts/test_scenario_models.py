"""What every scenario model promises, run over every one that learns from returns alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone

import foliocast as fc
from foliocast.core.errors import ConfigError, DataError, HistoryError
from foliocast.core.panel import Panel
from foliocast.core.protocols import ScenarioModel
from markets import make_panel

FHS = fc.FilteredHistoricalSimulation
MODELS = {
    "blocks": fc.BlockBootstrap(random_state=0),
    "iid": fc.BlockBootstrap(1.0, random_state=0),
    "fhs ewma": FHS("ewma", random_state=0),
    "fhs garch": FHS("garch", random_state=0),
    "fhs gjr": FHS("gjr", random_state=0),
    "fhs har": FHS("har", "ewma", random_state=0),
    "fhs blend": FHS("blend", "ewma", block_length=5.0, random_state=0),
    "gaussian copula": fc.GaussianCopula(random_state=0),
    "t copula": fc.StudentTCopula("blend", random_state=0),
}


@pytest.fixture(scope="module")
def history() -> Panel:
    """OHLCV with a common factor, so that conditioning one asset must move the others."""
    panel, rng = make_panel(500, 4, seed=3), np.random.default_rng(1)
    common = rng.normal(0, 0.008, (500, 1)).cumsum(axis=0)
    fields = {key: panel.array(key) * (1 if key == "volume" else np.exp(common)) for key in panel.fields}
    return panel.replace(fields)


@pytest.fixture(params=list(MODELS), scope="module")
def fitted(request: pytest.FixtureRequest, history: Panel) -> BaseEstimator:
    return clone(MODELS[request.param]).fit(history.returns())


def test_protocol_clone_and_learnt_attributes(fitted: BaseEstimator, history: Panel) -> None:
    assert isinstance(fitted, ScenarioModel)
    assert fitted.knowledge_until_ == history.times[-1]
    assert fitted.assets_ == history.assets
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    assert not hasattr(fresh, "assets_")
    with pytest.raises(ConfigError, match="not fitted"):
        fresh.simulate()


def test_shapes_and_stamps(fitted: BaseEstimator, history: Panel) -> None:
    scenarios = fitted.simulate(horizon=3, n_scenarios=17)
    assert scenarios.returns.shape == (17, 3, 4)
    assert scenarios.assets == history.assets
    assert scenarios.as_of == scenarios.knowledge_until == history.times[-1]
    assert (scenarios.returns > -1).all()
    assert fitted.sample(9).shape == (9, 4)


def test_same_seed_same_bits_other_seed_other_bits(fitted: BaseEstimator) -> None:
    first = fitted.simulate(horizon=4, n_scenarios=50, random_state=5).returns
    assert np.array_equal(first, fitted.simulate(horizon=4, n_scenarios=50, random_state=5).returns)
    assert not np.array_equal(first, fitted.simulate(horizon=4, n_scenarios=50, random_state=6).returns)
    assert np.array_equal(fitted.sample(20), fitted.sample(20))  # the constructor's seed


def test_a_total_is_met_in_every_scenario_and_moves_the_others(fitted: BaseEstimator) -> None:
    crash = fitted.simulate(horizon=10, n_scenarios=400, given={"A1": -0.2}, random_state=1).cumulative()
    rally = fitted.simulate(horizon=10, n_scenarios=400, given={"A1": 0.2}, random_state=1).cumulative()
    assert np.abs(crash[:, 1] + 0.2).max() < 1e-6
    assert np.abs(rally[:, 1] - 0.2).max() < 1e-6
    assert crash[:, 0].mean() < rally[:, 0].mean() - 0.01
    assert crash[:, 0].std() > 0.01


def test_a_partial_path_is_met_where_it_is_given(fitted: BaseEstimator) -> None:
    path = np.array([0.01, np.nan, -0.03, np.nan, np.nan])
    returns = fitted.simulate(horizon=5, n_scenarios=200, given={"A0": path, "A2": 0.05}, random_state=1).returns
    assert np.abs(returns[:, [0, 2], 0] - path[[0, 2]]).max() < 1e-6
    assert returns[:, 1, 0].std() > 1e-3
    assert np.abs(np.prod(1 + returns[:, :, 2], axis=1) - 1.05).max() < 1e-6


def test_all_assets_given(fitted: BaseEstimator) -> None:
    given = {"A0": -0.1, "A1": -0.05, "A2": 0.02, "A3": 0.0}
    total = fitted.simulate(horizon=4, n_scenarios=60, given=given, random_state=1).cumulative()
    assert np.abs(total - np.array(list(given.values()))).max() < 1e-6
    one = fitted.simulate(horizon=1, n_scenarios=60, given=given, random_state=1).returns[:, 0]
    assert np.abs(one - np.array(list(given.values()))).max() < 1e-6


def test_the_history_decides_where_paths_start(fitted: BaseEstimator, history: Panel) -> None:
    returns = history.returns()
    early = fitted.simulate(returns.iloc[:300], horizon=2, n_scenarios=50, random_state=1)
    late = fitted.simulate(returns, horizon=2, n_scenarios=50, random_state=1)
    assert early.as_of == returns.index[299]
    assert not np.array_equal(early.returns, late.returns)


def test_nothing_after_the_history_is_read(fitted: BaseEstimator, history: Panel) -> None:
    returns = history.returns()
    future = returns.copy()
    future.iloc[300:] = 0.5
    for horizon, given in ((1, None), (5, {"A0": -0.1})):
        seen = fitted.simulate(returns.iloc[:300], horizon, 40, given, random_state=1).returns
        again = fitted.simulate(future.iloc[:300], horizon, 40, given, random_state=1).returns
        assert np.array_equal(seen, again)


def test_inputs_are_left_alone(fitted: BaseEstimator, history: Panel) -> None:
    returns = history.returns()
    kept = returns.copy()
    fitted.simulate(returns, 3, 20, {"A0": 0.1}, random_state=1)
    pd.testing.assert_frame_equal(returns, kept)


def test_bad_histories_are_named(fitted: BaseEstimator, history: Panel) -> None:
    returns = history.returns()
    with pytest.raises(HistoryError, match="complete rows"):
        fitted.simulate(returns.iloc[:30])
    gone = returns.copy()
    gone.iloc[-3:, 2] = np.nan
    with pytest.raises(DataError, match="A2: delisted or not quoted"):
        fitted.simulate(gone)
    with pytest.raises(DataError, match="lacks A3"):
        fitted.simulate(returns[["A0", "A1", "A2"]])
    with pytest.raises(DataError, match="fractions"):
        clone(fitted).fit(returns * 100)
    with pytest.raises(DataError, match="not among the assets"):
        fitted.simulate(returns, given={"ZZZ": 0.1})
    with pytest.raises(ConfigError, match="at least 1"):
        fitted.simulate(returns, horizon=0)


def test_late_listings_shorten_the_history(fitted: BaseEstimator, history: Panel) -> None:
    returns = history.returns()
    late = returns.copy()
    late.iloc[:100, 0] = np.nan
    model, cut = clone(fitted).fit(late), clone(fitted).fit(returns.iloc[100:])
    assert np.array_equal(model.sample(30), cut.sample(30))


def test_a_panel_is_a_history_too(fitted: BaseEstimator, history: Panel) -> None:
    model = clone(fitted).fit(history)
    scenarios = model.simulate(history, 3, 30, {"A0": -0.1}, random_state=1)
    assert scenarios.returns.shape == (30, 3, 4)
    assert model.knowledge_until_ == history.times[-1]


def test_chunks_do_not_change_what_a_scenario_is(fitted: BaseEstimator, monkeypatch: pytest.MonkeyPatch) -> None:
    import foliocast.core.scenario_base as base

    monkeypatch.setattr(base.draw_in_chunks, "__defaults__", (100,))
    returns = fitted.simulate(horizon=5, n_scenarios=33, given={"A0": -0.1}, random_state=2).returns
    assert np.isfinite(returns).all()
    assert len(np.unique(returns[:, 0, 3])) > 20


def test_a_skfolio_prior(fitted: BaseEstimator, history: Panel) -> None:
    from skfolio import RiskMeasure
    from skfolio.optimization import MeanRisk
    from skfolio.prior import SyntheticData

    def weights(sample_args: dict | None) -> np.ndarray:
        prior = SyntheticData(distribution_estimator=clone(fitted), n_samples=300, sample_args=sample_args)
        return MeanRisk(risk_measure=RiskMeasure.CVAR, prior_estimator=prior).fit(history.returns()).weights_

    free, stressed = weights(None), weights({"conditioning": {"A1": -0.15}})
    assert free.sum() == pytest.approx(1)
    assert stressed.sum() == pytest.approx(1)
    assert stressed[1] < 0.05  # nobody holds what is sure to fall
