"""NVDA from the others: calibrated on a market whose conditional law is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foliocast.core.errors import DataError
from foliocast.models.diffusion.inference import calibration, cross_inference, inference_figure, inpainted_path
from foliocast.models.diffusion.pretrained import PretrainedScenarios


@pytest.fixture(scope="module")
def returns() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    market = rng.normal(0, 0.012, 620)
    values = market[:, None] * [1.5, 1.0, 0.9] + rng.normal(0, 0.008, (620, 3))
    return pd.DataFrame(values, pd.bdate_range("2020-02-03", periods=620), ["N", "G", "M"])


def test_slope_is_one_and_the_band_covers(returns: pd.DataFrame) -> None:
    model = PretrainedScenarios(n_jobs=1)
    inferred = cross_inference(model, returns, "N", ["G", "M"], returns.index[420], train=400, n_scenarios=300, every=2)
    assert len(inferred) == 100
    result = calibration(inferred)
    assert result["slope"] == pytest.approx(1.0, abs=0.15)
    assert result["coverage"] == pytest.approx(0.9, abs=0.1)
    unconditional = np.abs(returns["N"].to_numpy()[:, None] - returns["N"].to_numpy()).mean() / 2
    assert result["crps"] < 0.75 * unconditional
    path = inpainted_path(model, returns, "N", ["G", "M"], returns.index[560], 50, 400, 200)
    figure = inference_figure(inferred, path, returns, "N", ["G", "M"])
    shown = {trace.name: trace for trace in figure.data}
    assert {"G", "M", "N actual", "N inferred", "N that day"} <= set(shown)
    assert shown["G"].y[-1] == pytest.approx(100 * (1 + returns["G"].iloc[560:610]).prod())
    assert len(shown["N that day"].y) == 25


def test_a_path_filled_in_lies_nearer_to_the_truth_than_one_drawn_blind(returns: pd.DataFrame) -> None:
    model = PretrainedScenarios(n_jobs=1)
    path = inpainted_path(model, returns, "N", ["G", "M"], returns.index[560], 90, 400, 300)
    assert len(path) == 60  # the returns end
    assert path["actual"].iloc[-1] == pytest.approx((1 + returns["N"].iloc[560:]).prod())
    blind = model.simulate(returns.iloc[160:560], 60, 300, random_state=1).cumulative()[:, 0]
    assert path["high"].iloc[-1] - path["low"].iloc[-1] < 0.8 * np.subtract(*np.quantile(blind, [0.95, 0.05]))
    assert ((path["actual"] > path["low"]) & (path["actual"] < path["high"])).mean() > 0.7
    with pytest.raises(DataError, match="no bar of N"):
        inpainted_path(model, returns, "N", ["G", "M"], "2040-01-01", 20, 400)


def test_a_missing_stock_is_named(returns: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="returns lack X"):
        cross_inference(PretrainedScenarios(), returns, "X", ["G"], returns.index[500])
