"""Explanations are themselves tested: the feature that was planted is found first by every method on every forecaster,
and what is said of a model with random weights, or of one that learnt from noise, is nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import foliocast as fc
from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.inputs import ModelInputs
from foliocast.explain import permutation
from foliocast.explain.gradients import integrated_gradients
from foliocast.explain.permutation import permutation_importance
from foliocast.explain.shapley import shap_values
from foliocast.explain.summary import Explanation, explain_predictions, joined, methods_for
from foliocast.models.inputs import inputs_of

FEATURES = ("volatility_10", "momentum_10", "log_range", "momentum_30", "volume_z")
PLANTED = "log_range"
NET: dict[str, Any] = {"features": FEATURES, "epochs": 5, "lr": 5e-3, "patience": None, "volatility": "ewma"}
MAKERS: dict[str, Callable[[], Any]] = {
    "attention_lstm": lambda: fc.AttentionLSTM(window=4, hidden=8, layers=1, **NET),
    "lstm": lambda: fc.LSTMForecaster(window=4, hidden=8, layers=1, **NET),
    "transformer": lambda: fc.TransformerForecaster(window=6, patch=3, stride=3, width=8, heads=2, layers=1, **NET),
    "cross_asset": lambda: fc.CrossAssetTransformer(window=6, patch=3, stride=3, width=8, heads=2, **NET),
    "trees": lambda: fc.TreesForecaster(features=FEATURES, patience=None, iterations=60, volatility="ewma"),
    "linear": lambda: fc.LinearForecaster(features=FEATURES, window=2, volatility="ewma"),
    "linear_per_asset": lambda: fc.LinearForecaster(features=FEATURES, pooled=False, volatility="ewma"),
}
TRAIN, N_BARS, STEP = 700, 1000, 6


def planted(strength: float = 0.4, seed: int = 0) -> fc.Panel:
    """Tomorrow's return follows today's range; nothing else says anything."""
    rng = np.random.default_rng(seed)
    shape = (N_BARS, 5)
    signal = np.empty(shape)
    signal[0] = rng.normal(size=5)
    for t in range(1, N_BARS):
        signal[t] = 0.7 * signal[t - 1] + np.sqrt(1 - 0.49) * rng.normal(size=5)
    returns = 0.01 * rng.normal(size=shape)
    returns[1:] += 0.01 * strength * signal[:-1]
    close = 100 * np.cumprod(1 + returns, axis=0)
    width = np.exp(0.02 + 0.004 * signal)
    fields = {"close": close, "high": close * np.sqrt(width), "low": close / np.sqrt(width)}
    fields["volume"] = rng.lognormal(10, 0.3, shape)
    return fc.Panel(fields, pd.bdate_range("2010-01-01", periods=N_BARS), [f"A{i}" for i in range(5)])


@pytest.fixture(scope="module")
def market() -> fc.Panel:
    return planted()


def opened(model: Any, market: fc.Panel) -> list[tuple[ModelInputs, np.ndarray]]:
    """Inputs of test rows, and of some training rows to compare with."""
    tests = inputs_of(model, market, market.times[TRAIN + 10 : N_BARS - 1 : STEP])
    backgrounds = inputs_of(model, market, market.times[100:TRAIN:50])
    return [(test, back.values) for test, back in zip(tests, backgrounds)]


def explained(model: Any, market: fc.Panel, *methods: str) -> Explanation:
    return joined([explain_predictions(i, b, methods or None, n_blocks=4, repeats=5) for i, b in opened(model, market)])


@pytest.fixture(scope="module", params=list(MAKERS))
def fitted(request: pytest.FixtureRequest, market: fc.Panel) -> Any:
    return MAKERS[request.param]().fit(market.rows(0, TRAIN))


@pytest.fixture(scope="module")
def found(fitted: Any, market: fc.Panel) -> Explanation:
    return explained(fitted, market)


def test_the_planted_feature_is_found_first_by_every_method(fitted: Any, market: fc.Panel, found: Explanation) -> None:
    methods = methods_for(opened(fitted, market)[0][0])
    assert set(found.importance["method"]) == set(methods)
    for method, table in found.importance.groupby("method"):
        assert table.iloc[0]["feature"] == PLANTED, table
        assert table.iloc[0]["share"] > (0.3 if isinstance(fitted, fc.CrossAssetTransformer) else 0.5), (method, table)


def test_the_present_bar_is_what_matters(fitted: Any, found: Explanation) -> None:
    if len(found.lags) == 0 or type(fitted).__name__ in ("CrossAssetTransformer", "TransformerForecaster"):
        return  # of whole features or patches one cannot say which bar
    own = found.lags[found.lags["feature"] == PLANTED]
    for _, table in own.groupby("method"):
        assert table.set_index("lag")["importance"].idxmax() == 0


def test_inputs_are_those_of_the_predictions(fitted: Any, market: fc.Panel) -> None:
    days = market.times[TRAIN + 10 : N_BARS - 1 : STEP]
    table = fitted.predict(market, days).stack()
    for inputs, _ in opened(fitted, market):
        wanted = table.reindex(inputs.index).to_numpy()
        np.testing.assert_allclose(inputs.returns(), wanted, rtol=1e-5, atol=1e-9)
    outcome = market.returns().shift(-1).stack()
    realised = outcome.reindex(inputs.index).to_numpy()
    assert np.corrcoef(inputs.target, realised)[0, 1] > 0.95


def test_the_parts_of_a_prediction_add_up_to_it(found: Explanation) -> None:
    for method, rows in found.predictions.groupby("method"):
        parts = rows[["base", *FEATURES, "rest"]].sum(axis=1)
        np.testing.assert_allclose(parts, rows["predicted"], atol=1e-12)
        if method == "gradients" and len(rows):
            assert rows["rest"].abs().max() < 0.02 * rows["predicted"].abs().max()


def test_shapley_values_of_linear_models_and_trees_are_exact(market: fc.Panel) -> None:
    for name in ("linear", "trees"):
        inputs, background = opened(MAKERS[name]().fit(market.rows(0, TRAIN)), market)[0]
        values = shap_values(inputs, background)
        total = inputs.predictions() - values.reshape(len(inputs), -1).sum(axis=1)
        assert np.ptp(total) < 1e-6  # what is left is one number, the mean prediction
    whole = shap_values(inputs, background)  # the general method on trees: the same features, in the same order
    general = ModelInputs(**{**vars(inputs), "kind": "function"})
    exact = shap_values(general, background)
    size, other = (np.abs(v.sum(axis=1)).mean(axis=0) for v in (whole, exact))
    assert np.corrcoef(size, other)[0, 1] > 0.98
    base = inputs.predict(np.broadcast_to(background.mean(axis=0), inputs.values.shape).astype(np.float32))
    np.testing.assert_allclose(exact.sum(axis=(1, 2)), inputs.predictions() - base, atol=1e-9)


def test_integrated_gradients_are_complete(market: fc.Panel) -> None:
    inputs, _ = opened(MAKERS["lstm"]().fit(market.rows(0, TRAIN)), market)[0]
    found = integrated_gradients(inputs, steps=128).sum(axis=(1, 2))
    base = inputs.predict(np.zeros_like(inputs.values))
    np.testing.assert_allclose(found, inputs.predictions() - base, atol=1e-4)


def randomised(model: Any, seed: int) -> Any:
    """The same network with weights that have learnt nothing, of the size of those that have."""
    twin = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for part in twin.parts_.values():
        for value in part.predictor.module.parameters():
            shuffled = value.detach().flatten()[torch.randperm(value.numel(), generator=generator)]
            value.data.copy_(shuffled.view_as(value))
    return twin


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_with_shuffled_weights_the_importances_collapse(name: str, market: fc.Panel) -> None:
    """Adebayo et al. (2018): an explanation that survives the loss of what was learnt explains something else."""
    model = MAKERS[name]().fit(market.rows(0, TRAIN))
    trained = explained(model, market).importance.set_index(["method", "feature"])
    twins = [randomised(model, seed) for seed in range(8)]
    broken = [explained(twin, market, "gradients", "permutation").importance for twin in twins]
    broken += [explained(twin, market, "shap").importance for twin in twins[:2]]
    random = pd.concat(broken).groupby(["method", "feature"]).mean(numeric_only=True)
    for method in ("gradients", "shap"):  # five features: a fifth would be chance
        assert random.loc[(method, PLANTED), "share"] < 0.6 * trained.loc[(method, PLANTED), "share"]
    found, left = (table.loc[("permutation", PLANTED), "importance"] for table in (trained, random))
    assert abs(left) < 0.4 * found


@pytest.mark.parametrize("name", ["linear", "trees", "lstm"])
def test_what_was_learnt_from_noise_is_worth_nothing_on_other_rows(name: str) -> None:
    noise = planted(strength=0.0, seed=3)
    table = explained(MAKERS[name]().fit(noise.rows(0, TRAIN)), noise, "permutation").importance
    assert (table["importance"].abs() < 0.2).all()  # 240 predictions: one standard error is 0.065
    told = explained(MAKERS[name]().fit(planted().rows(0, TRAIN)), planted(), "permutation").importance
    assert told["importance"].max() > 0.25


def test_whole_blocks_move_and_dates_that_share_a_bar_with_their_source_do_not_count(market: fc.Panel) -> None:
    model = fc.LinearForecaster(features=FEATURES, window=20, volatility="ewma").fit(market.rows(0, TRAIN))
    inputs = inputs_of(model, market, market.times[TRAIN + 20 : TRAIN + 84])[0]
    row = np.arange(64)
    for seed in range(5):
        date = permutation._exchanged(row, 4, 20, np.random.default_rng(seed))
        there = date >= 0
        assert there.any()
        assert (np.abs(date - row)[there] >= 20).all()  # blocks are 16 dates: those of neighbours are left out
        inside = there[1:] & there[:-1] & (row[1:] % 16 > 0)
        assert (np.diff(date)[inside] == 1).all()
    again = permutation_importance(inputs, None, 2, 3, random_state=1)
    assert again.equals(permutation_importance(inputs, None, 2, 3, random_state=1))


def test_features_may_come_from_a_pool_of_other_dates(market: fc.Panel) -> None:
    model = MAKERS["lstm"]().fit(market.rows(0, TRAIN))
    inputs = inputs_of(model, market, market.times[TRAIN + 10 : TRAIN + 70])[0]
    pool = inputs_of(model, market, market.times[100:600])[0]
    table = permutation_importance(inputs, pool, repeats=5)
    assert table["importance"].idxmax() == PLANTED
    assert table.loc[PLANTED, "importance"] > 5 * table.drop(PLANTED)["importance"].abs().max()


def test_requests_that_make_no_sense_are_refused(market: fc.Panel) -> None:
    inputs, background = opened(MAKERS["linear"]().fit(market.rows(0, TRAIN)), market)[0]
    with pytest.raises(ConfigError, match="need a network"):
        integrated_gradients(inputs)
    with pytest.raises(ConfigError, match="no method called 'tea'"):
        explain_predictions(inputs, background, ["tea"])
    with pytest.raises(HistoryError, match="fewer blocks"):
        permutation_importance(inputs, n_blocks=100)
    with pytest.raises(ConfigError, match="without features"):
        inputs_of(fc.NaiveForecaster().fit(market), market)
