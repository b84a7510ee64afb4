"""A quote that stood still for months makes its first move look like a thousand standard deviations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import foliocast as fc


@pytest.mark.parametrize("volatility", ["ewma", "blend"])
def test_the_first_move_after_a_still_quote_is_not_drawn_again(volatility: str) -> None:
    model = fc.FilteredHistoricalSimulation(volatility)
    rng = np.random.default_rng(3)
    values = rng.standard_t(6, (1500, 3)) * 0.01
    values[:300, 1] = 0.0  # not traded yet
    values[300, 1] = 0.05
    returns = pd.DataFrame(values, pd.bdate_range("2015-01-01", periods=1500), ["A", "B", "C"])
    drawn = model.fit(returns).simulate(returns, 1, 20_000, random_state=0).returns
    assert np.abs(drawn).max() < 0.4
    assert drawn[:, 0, 1].std() == pytest.approx(values[1000:, 1].std(), rel=0.5)
