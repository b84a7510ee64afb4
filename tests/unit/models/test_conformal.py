"""Adaptive conformal calibration covers what it promises, whatever the forecaster does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from foliocast.core.belief import Forecast
from foliocast.core.errors import ConfigError, DataError, HistoryError
from foliocast.models.conformal import AdaptiveConformal, ConformalForecaster, past_pits, widen
from foliocast.models.linear import LinearForecaster
from foliocast.models.lstm import LSTMForecaster
from foliocast.models.naive import NaiveForecaster
from foliocast.stats.scoring import pit
from markets import make_panel

GAMMA, N = 0.01, 3000


def drifting_pits(seed: int = 0) -> np.ndarray:
    """Forecasts that are far too narrow at first, then far too wide, for two assets; the third is calibrated."""
    rng = np.random.default_rng(seed)
    spread = np.where(np.arange(N) < N // 2, 2.0, 0.5)[:, None] * [1.0, 1.3]
    return np.hstack([norm.cdf(rng.standard_normal((N, 2)) * spread), rng.uniform(size=(N, 1))])


@pytest.mark.parametrize("horizon", [1, 20])
def test_long_run_coverage_is_what_the_widths_say(horizon: int) -> None:
    """The miss rate differs from the promised one by the change of the log width over gamma n: an identity."""
    pits = drifting_pits()
    conformal = AdaptiveConformal(gamma=GAMMA, horizon=horizon).fit(pits)
    nominal = np.array(conformal.levels)[:, None]
    width = norm.ppf((1 + conformal.used_) / 2) / norm.ppf((1 + nominal) / 2)
    np.testing.assert_allclose(conformal.covered_ - nominal, -np.log(width) / (GAMMA * N), atol=1e-9)
    raw = np.array([[(np.abs(p - 0.5) <= level / 2).mean() for p in pits.T] for level in conformal.levels])
    assert np.abs(raw[:, :2] - nominal).max() > 0.05  # without it the promise is broken
    assert np.abs(conformal.covered_ - nominal).max() < 0.04


def test_a_calibrated_forecast_is_left_nearly_alone() -> None:
    used = AdaptiveConformal(gamma=0.002).fit(drifting_pits()).used_[:, 2]
    np.testing.assert_allclose(used, [0.8, 0.9, 0.95], atol=0.04)


def test_the_adapted_level_is_the_normal_one() -> None:
    """Forecasts half as wide as the truth: covering 80 % takes the level whose normal quantile is twice as large."""
    pits = norm.cdf(2.0 * np.random.default_rng(1).standard_normal((6000, 1)))
    expected = 2 * norm.cdf(2 * norm.ppf(0.9)) - 1
    assert AdaptiveConformal(levels=(0.8,), gamma=0.005).fit(pits).used_[0, 0] == pytest.approx(expected, abs=0.01)
    few = AdaptiveConformal(levels=(0.8,), gamma=1e-9, start="pooled").fit(pits[:400])  # all at once, no way to go
    assert few.used_[0, 0] == pytest.approx(expected, abs=0.02)


def test_a_forecast_is_judged_by_what_was_known_when_it_was_made() -> None:
    """With outcomes 5 rows away the first 5 rows are judged by the first widths, whatever came of them."""
    pits = np.full((5, 1), 0.999)
    late = AdaptiveConformal(levels=(0.8,), gamma=0.5, horizon=5).fit(pits)
    assert late.covered_[0, 0] == 0.0
    soon = AdaptiveConformal(levels=(0.8,), gamma=0.5).fit(pits)
    assert soon.covered_[0, 0] == 0.4  # three misses widen the band enough for the rest


def test_learning_in_pieces_is_learning_at_once() -> None:
    pits = drifting_pits()
    pits[::7, 1] = np.nan
    whole = AdaptiveConformal(horizon=3).fit(pits)
    pieces = AdaptiveConformal(horizon=3).partial_fit(pits[:1000]).partial_fit(pits[1000:])
    assert whole.used_.tobytes() == pieces.used_.tobytes()
    assert whole.covered_.tobytes() == pieces.covered_.tobytes()
    assert AdaptiveConformal(horizon=3).fit(pits).fit(pits).used_.tobytes() == whole.used_.tobytes()


def test_bands_are_read_off_at_the_adapted_level() -> None:
    samples = np.random.default_rng(0).normal(0, 0.01, (4000, 2, 3))
    forecast = Forecast(pd.Timestamp("2020"), ("A", "B", "C"), np.zeros((2, 3)), samples)
    conformal = AdaptiveConformal().fit(drifting_pits())
    low, high = conformal.interval(forecast, 0.9, cumulative=False)
    used = conformal.used_[1]
    np.testing.assert_array_equal(high[:, 0], np.quantile(samples[:, :, 0], (1 + used[0]) / 2, axis=0))
    assert (low < high).all()
    with pytest.raises(ConfigError, match=r"level 0.5 was not calibrated"):
        conformal.interval(forecast, 0.5)
    with pytest.raises(DataError, match="calibrated on 2 assets"):
        AdaptiveConformal().fit(drifting_pits()[:, :2]).interval(forecast, 0.9)
    for wrong in ({"gamma": 0.0}, {"horizon": 0}, {"start": "guess"}):
        with pytest.raises(ConfigError):
            AdaptiveConformal(**wrong).fit(drifting_pits())


def test_widened_samples_have_the_calibrated_quantiles() -> None:
    values = np.exp(np.random.default_rng(0).standard_t(4, 5001) * 0.02)
    levels, used = np.array([0.8, 0.95]), np.array([0.9, 0.97])
    wide = widen(values, levels, used)
    for level, taken in zip(levels, used):
        for side in (-1, 1):
            assert np.quantile(wide, 0.5 + side * level / 2) == pytest.approx(
                np.quantile(values, 0.5 + side * taken / 2), rel=1e-4
            )
    assert (np.argsort(wide, kind="stable") == np.argsort(values, kind="stable")).all()
    np.testing.assert_allclose(widen(values, levels, levels), values, rtol=1e-12)


def test_past_pits_are_those_of_forecasts_made_then() -> None:
    panel = make_panel(200, 3)
    model = NaiveForecaster(n_paths=50, volatility="ewma").fit(panel.rows(0, 150))
    found = past_pits(model, panel, np.array([160, 197]), 4)
    forecast = model.forecast(panel.asof(panel.times[160]), 4)
    came = panel.array("close")[164] / panel.array("close")[160] - 1
    np.testing.assert_array_equal(found[0, 3], pit(np.prod(1 + forecast.samples, axis=1) - 1, came))
    assert np.isfinite(found[1, :2]).all()
    assert np.isnan(found[1, 2:]).all()  # the panel ends two bars later


def test_a_narrow_forecaster_is_widened_out_of_sample() -> None:
    """Shocks shrunk to half: raw bands of 80 % cover far too little in the days after the fit, calibrated ones do."""
    panel = make_panel(900, 4, seed=2)
    model = ConformalForecaster(HalfWidth("mean", n_paths=200, volatility="ewma"), horizon=2, calibration=250, every=2)
    model.fit(panel.rows(0, 600))
    assert model.knowledge_until_ == panel.times[599]
    inside = {"raw": [], "calibrated": []}
    for row in range(600, 890, 3):
        view, came = panel.asof(panel.times[row]), panel.array("close")[row + 2] / panel.array("close")[row] - 1
        for name, source in (("raw", model.forecaster_), ("calibrated", model)):
            low, high = source.forecast(view, 2).quantile([0.1, 0.9], cumulative=True)[:, 1]
            inside[name].append((low <= came) & (came <= high))
    assert np.mean(inside["raw"]) < 0.6
    assert abs(np.mean(inside["calibrated"]) - 0.8) < 0.06


class HalfWidth(NaiveForecaster):
    """A forecaster that believes in half the volatility there is."""

    def forecast(self, view, horizon=1):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        believed = super().forecast(view, horizon)
        return replace(believed, samples=believed.samples / 2)


def test_the_wrapper_keeps_the_mean_and_says_what_is_missing() -> None:
    panel = make_panel(420, 2)
    inner = LSTMForecaster(window=5, hidden=4, layers=1, epochs=1, head="student_t", n_paths=40, volatility="ewma")
    model = ConformalForecaster(inner, horizon=2, calibration=60, every=10, n_paths=20).fit(panel)
    view = panel.asof(panel.times[-1])
    plain, wide = model.forecaster_.forecast(view, 3), model.forecast(view, 3)
    np.testing.assert_array_equal(plain.mean, wide.mean)
    assert wide.samples.shape == plain.samples.shape
    assert (wide.samples > -1).all()
    assert wide.model == "LSTMForecaster, calibrated"
    pd.testing.assert_frame_equal(model.predict(panel), model.forecaster_.predict(panel))
    with pytest.raises(HistoryError, match="leave 0 to fit on"):
        ConformalForecaster(LinearForecaster()).fit(panel.rows(0, 200))
    with pytest.raises(DataError, match="B1 was not calibrated"):
        model.widened(Forecast(view.as_of, ("B1",), np.zeros((1, 1)), np.zeros((9, 1, 1))))
    with pytest.raises(DataError, match="point forecast"):
        model.widened(Forecast(view.as_of, ("A1",), np.zeros((1, 1))))
