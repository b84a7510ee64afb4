"""A quote that stood still for months makes its first move look like a thousand standard deviations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import foliocast as fc


@pytest.mark.parametrize("model", [fc.FilteredHistoricalSimulation("blend"), fc.StudentTCopula("blend")])
def test_the_first_move_after_a_still_quote_is_not_drawn_again(model: fc.FilteredHistoricalSimulation) -> None:
    rng = np.random.default_rng(3)
    values = rng.standard_t(6, (900, 3)) * 0.01
    values[200:320, 1] = 0.0  # suspended
    values[320, 1] = 0.05
    returns = pd.DataFrame(values, pd.bdate_range("2015-01-01", periods=900), ["A", "B", "C"])
    drawn = model.fit(returns).simulate(returns, 5, 4000, random_state=0).returns
    assert np.abs(drawn).max() < 0.4
    assert drawn[:, 0, 1].std() == pytest.approx(values[500:, 1].std(), rel=0.5)
