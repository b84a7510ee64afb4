"""A quote that stood still for months makes its first move look like a thousand standard deviations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import foliocast as fc
from foliocast.scenarios.paths import PathLaw, simulate_log
from foliocast.scenarios.shocks import EmpiricalShocks
from foliocast.stats.volatility import CEILING


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


@pytest.mark.parametrize("volatility", ["ewma", "gjr", "har", "blend"])
def test_no_path_passes_twice_the_highest_volatility_so_far(volatility: str) -> None:
    rng = np.random.default_rng(4)
    returns = pd.DataFrame(rng.standard_t(3, (800, 3)) * 0.01, pd.bdate_range("2015-01-01", periods=800), list("ABC"))
    model = fc.FilteredHistoricalSimulation(volatility).fit(returns)
    sigma, state = model.filter_.filter(np.log1p(returns.to_numpy()) - model.mean_, None)
    highest = np.nanmax(sigma, axis=0)
    law = PathLaw(EmpiricalShocks(np.full((5, 3), 15.0), 1.0, 6.0), np.zeros(3), model.filter_, state, highest)
    wild = simulate_log(law, 10, 40, rng)  # forty days of fifteen standard deviations
    assert np.isfinite(wild).all()
    assert (wild <= 15.0 * CEILING * highest + 1e-9).all()
