"""NVDA from the others: calibrated on a market whose conditional law is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foliocast.core.errors import DataError
from foliocast.models.diffusion.inference import calibration, cross_inference, inference_figure
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
    figure = inference_figure(inferred, returns, "N", ["G", "M"])
    assert [trace.name for trace in figure.data[-2:]] == ["G", "M"]


def test_a_missing_stock_is_named(returns: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="returns lack X"):
        cross_inference(PretrainedScenarios(), returns, "X", ["G"], returns.index[500])
