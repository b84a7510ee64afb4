"""What every forecaster promises, over every forecaster there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.panel import Panel
from foliocast.core.protocols import Forecaster
from foliocast.models.crossasset import CrossAssetTransformer
from foliocast.models.linear import LinearForecaster
from foliocast.models.lstm import AttentionLSTM, LSTMForecaster
from foliocast.models.naive import NaiveForecaster
from foliocast.models.transformer import TransformerForecaster
from foliocast.models.trees import TreesForecaster
from markets import make_panel

Maker = Callable[[], Any]
SMALL = {"window": 8, "hidden": 8, "layers": 1, "epochs": 1, "n_paths": 20, "volatility": "ewma"}
FAST = {"epochs": 1, "n_paths": 20, "volatility": "ewma"}
MAKERS: dict[str, Maker] = {
    "attention_lstm": lambda: AttentionLSTM(**SMALL),
    "attention_lstm_per_asset": lambda: AttentionLSTM(**SMALL, pooled=False),
    "student_t": lambda: LSTMForecaster(**SMALL, head="student_t"),
    "quantile": lambda: LSTMForecaster(**SMALL, head="quantile", pooled=False),
    "lstm": lambda: LSTMForecaster(**SMALL),
    "transformer": lambda: TransformerForecaster(window=8, patch=4, stride=2, width=8, heads=2, **FAST),
    "cross_asset": lambda: CrossAssetTransformer(window=8, patch=4, stride=4, width=8, heads=2, **FAST),
    "ranked": lambda: LSTMForecaster(**SMALL, rank_weight=0.5, cross_section=True),
    "linear_cross_section": lambda: LinearForecaster(cross_section=True, n_paths=20, volatility="blend"),
    "cross_asset_student_t": lambda: CrossAssetTransformer(
        window=8, patch=4, stride=4, width=8, heads=2, head="student_t", cross_section=True, **FAST
    ),
    "trees": lambda: TreesForecaster(iterations=5, n_paths=20, volatility="ewma"),
    "linear": lambda: LinearForecaster(n_paths=20, volatility="ewma"),
    "linear_window": lambda: LinearForecaster(window=5, pooled=False, n_paths=20, volatility="ewma"),
    "naive_zero": lambda: NaiveForecaster(n_paths=20, volatility="ewma"),
    "naive_mean": lambda: NaiveForecaster("mean", n_paths=20, volatility="ewma"),
    "naive_last": lambda: NaiveForecaster("last", n_paths=20, volatility="ewma"),
}
TRAIN = 150


def ragged() -> Panel:
    """A market with a late starter, a delisting and a missing day."""
    panel = make_panel(230, 4)
    fields = {name: panel.array(name).copy() for name in panel.fields}
    for values in fields.values():
        values[:60, 1] = np.nan
        values[190:, 2] = np.nan
        values[120, 3] = np.nan
    return Panel(fields, panel.times, panel.assets, name="ragged")


@pytest.fixture(scope="module")
def market() -> Panel:
    return make_panel(230, 4)


@pytest.fixture(scope="module", params=list(MAKERS))
def maker(request: pytest.FixtureRequest) -> Maker:
    return MAKERS[request.param]


@pytest.fixture(scope="module")
def fitted(maker: Maker, market: Panel) -> Any:
    return maker().fit(market.rows(0, TRAIN))


def test_is_a_forecaster(fitted: Any, market: Panel) -> None:
    assert isinstance(fitted, Forecaster)
    assert fitted.knowledge_until_ == market.times[TRAIN - 1]
    assert fitted.trained_assets_ == market.assets


def test_every_day_is_predicted(fitted: Any, market: Panel) -> None:
    days = market.times[TRAIN:]
    out = fitted.predict(market, days)
    assert list(out.index) == list(days)
    assert list(out.columns) == list(market.assets)
    assert np.isfinite(out.to_numpy()).all()


def test_prediction_is_the_first_step_of_the_forecast(fitted: Any, market: Panel) -> None:
    days = market.times[[TRAIN - 1, TRAIN + 3, 229]]
    table = fitted.predict(market, days)
    for day in days:
        forecast = fitted.forecast(market.asof(day), 2)
        assert forecast.mean[0].tobytes() == table.loc[day].to_numpy().tobytes()


def test_the_future_changes_no_bit(fitted: Any, market: Panel) -> None:
    row = 190
    fields = {name: market.array(name).copy() for name in market.fields}
    for values in fields.values():
        values[row + 1 :] *= np.random.default_rng(0).uniform(0.5, 2.0, values[row + 1 :].shape)
    other = market.replace(fields)
    days = market.times[TRAIN : row + 1]
    assert fitted.predict(market, days).to_numpy().tobytes() == fitted.predict(other, days).to_numpy().tobytes()
    whole = fitted.predict(market).loc[days].to_numpy()
    assert whole.tobytes() == fitted.predict(market.rows(0, row + 1), days).to_numpy().tobytes()


def test_training_rows_alone_shape_the_model(maker: Maker, market: Panel) -> None:
    """Labels lie inside the rows: whatever follows them, the fit is the same."""
    fields = {name: market.array(name).copy() for name in market.fields}
    for values in fields.values():
        values[TRAIN:] *= 1.5
    days = market.times[100:TRAIN]
    models = [maker().fit(source.rows(0, TRAIN)) for source in (market, market.replace(fields))]
    a, b = (model.predict(market, days).to_numpy() for model in models)
    assert a.tobytes() == b.tobytes()


def test_same_seed_same_bits(maker: Maker, fitted: Any, market: Panel) -> None:
    again = clone(maker()).fit(market.rows(0, TRAIN))
    view = market.asof(market.times[200])
    a, b = fitted.forecast(view, 4), again.forecast(view, 4)
    assert a.mean.tobytes() == b.mean.tobytes()
    assert a.samples.tobytes() == b.samples.tobytes()


def test_refit_forgets(fitted: Any, maker: Maker, market: Panel) -> None:
    twice = maker().fit(make_panel(150, 4, seed=5)).fit(market.rows(0, TRAIN))
    a, b = (m.predict(market, market.times[-5:]).to_numpy() for m in (fitted, twice))
    assert a.tobytes() == b.tobytes()


def test_forecast_is_a_distribution(fitted: Any, market: Panel) -> None:
    view = market.asof(market.times[-1])
    forecast = fitted.forecast(view, 5)
    assert forecast.as_of == view.as_of
    assert forecast.mean.shape == (5, 4)
    assert forecast.samples.shape == (20, 5, 4)
    assert np.isfinite(forecast.samples).all()
    assert (forecast.samples > -1).all()
    low, high = forecast.quantile([0.05, 0.95])
    assert (low < high).all()
    assert forecast.knowledge_until == fitted.knowledge_until_
    with pytest.raises(ConfigError, match="horizon = 0"):
        fitted.forecast(view, 0)


def test_gaps_are_nan_and_nothing_else_is(maker: Maker) -> None:
    panel = ragged()
    model = maker().fit(panel.rows(0, TRAIN))
    out = model.predict(panel, panel.times[TRAIN:])
    assert np.isfinite(out[["A0", "A1"]].to_numpy()).all()
    assert out.loc[panel.times[190:], "A2"].isna().all()
    assert np.isfinite(out.loc[panel.times[TRAIN:190], "A2"]).all()
    with pytest.raises(HistoryError, match="A2"):
        model.forecast(panel.asof(panel.times[-1]), 3)


def test_an_asset_it_was_not_fitted_on_is_refused(maker: Maker, market: Panel) -> None:
    model = maker().fit(market.rows(0, TRAIN).select(["A0", "A1"]))
    if isinstance(model, NaiveForecaster) and model.kind != "mean":
        assert np.isfinite(model.predict(market, market.times[-3:]).to_numpy()).all()  # these know no assets at all
        return
    with pytest.raises(ConfigError, match=r"fitted on A0, A1 and .*A2.*refit"):
        model.predict(market)


def test_an_asset_that_begins_after_training_is_nan(maker: Maker) -> None:
    panel = make_panel(230, 3)
    fields = {name: panel.array(name).copy() for name in panel.fields}
    for values in fields.values():
        values[: TRAIN + 5, 2] = np.nan
    late = Panel(fields, panel.times, panel.assets)
    model = maker().fit(late.rows(0, TRAIN))
    assert model.trained_assets_ == ("A0", "A1")
    if isinstance(model, NaiveForecaster) and model.kind != "mean":
        return  # nothing is learnt that it could lack
    out = model.predict(late, late.times[TRAIN:])
    assert out["A2"].isna().all()
    assert np.isfinite(out[["A0", "A1"]].to_numpy()).all()


def test_late_values_are_read_as_they_were_known(maker: Maker, market: Panel) -> None:
    """Volume that is published two bars late must not reach a prediction early."""
    stamps = np.append(market.times[2:], market.times[-1] + pd.to_timedelta([1, 2], unit="D"))
    late = Panel(
        {name: market.array(name) for name in market.fields}, market.times, market.assets, known_at={"volume": stamps}
    )
    model = maker().fit(market.rows(0, TRAIN))
    out = model.predict(late, late.times[-4:])
    uses_volume = "volume_z" in getattr(model, "feature_set_", _NoFeatures).names
    assert out.isna().to_numpy().all() if uses_volume else np.isfinite(out.to_numpy()).all()


class _NoFeatures:
    names = ()


def test_too_little_history_is_one_clear_sentence(maker: Maker, market: Panel) -> None:
    with pytest.raises(HistoryError):
        maker().fit(market.rows(0, 1))


def test_nothing_handed_in_is_changed(maker: Maker, market: Panel) -> None:
    before = market.data_hash
    model = maker()
    params = dict(model.get_params())
    model.fit(market.rows(0, TRAIN)).predict(market)
    fresh = Panel({n: market.array(n) for n in market.fields}, market.times, market.assets)
    assert fresh.data_hash == before
    assert model.get_params() == params


def test_saved_and_loaded_it_is_the_same(fitted: Any, market: Panel, tmp_path: Path) -> None:
    if not hasattr(fitted, "save"):
        return
    from foliocast.models.checkpoint import load_model

    card = fitted.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert card.data_hash == market.rows(0, TRAIN).data_hash
    assert card.known_until == fitted.knowledge_until_
    assert type(again) is type(fitted)
    assert again.get_params() == fitted.get_params()
    view = market.asof(market.times[200])
    a, b = fitted.forecast(view, 3), again.forecast(view, 3)
    assert a.mean.tobytes() == b.mean.tobytes()
    assert a.samples.tobytes() == b.samples.tobytes()
