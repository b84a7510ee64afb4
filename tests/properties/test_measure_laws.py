from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays

from foliocast import stats

RETURNS = arrays(float, some.integers(3, 60), elements=some.floats(-0.5, 0.5, allow_subnormal=False))
settings.register_profile("quick", max_examples=60, deadline=None)


@settings(settings.get_profile("quick"))
@given(RETURNS, some.floats(0.1, 10.0))
def test_sharpe_and_sortino_do_not_depend_on_leverage(r: np.ndarray, scale: float) -> None:
    assume(r.std() > 1e-3)
    assert stats.sharpe_ratio(r * scale) == pytest.approx(stats.sharpe_ratio(r), rel=1e-8, abs=1e-8)
    if r.min() < -1e-3:
        assert stats.sortino_ratio(r * scale) == pytest.approx(stats.sortino_ratio(r), rel=1e-8, abs=1e-8)


@settings(settings.get_profile("quick"))
@given(RETURNS)
def test_drawdowns_are_bounded_and_a_new_high_has_none(r: np.ndarray) -> None:
    depths = stats.drawdown(r)
    assert (depths <= 0).all()
    assert (depths >= -1).all()
    assert depths.min() <= min(0.0, float(np.prod(1 + r)) - 1.0) + 1e-12
    path = stats.wealth(r)
    if path[-1] == path.max() and path[-1] >= 1.0:
        assert depths[-1] == 0.0


@settings(settings.get_profile("quick"))
@given(RETURNS, some.floats(0.05, 0.95), some.floats(0.01, 3.0), some.floats(-0.1, 0.1))
def test_cvar_is_coherent(r: np.ndarray, level: float, scale: float, cash: float) -> None:
    base = stats.cvar(r, level)
    assert stats.cvar(r * scale + cash, level) == pytest.approx(base * scale - cash, abs=1e-9)
    assert stats.value_at_risk(r, level) - 1e-12 <= base <= -r.min() + 1e-12
    other = r[::-1].copy()
    assert stats.cvar(r + other, level) <= base + stats.cvar(other, level) + 1e-9


@settings(settings.get_profile("quick"))
@given(RETURNS)
def test_annual_return_is_the_constant_that_ends_at_the_same_wealth(r: np.ndarray) -> None:
    yearly = stats.annual_return(r, periods=252)
    assume(-0.999 < yearly < 1e6)  # next to -1 the digits of what is left are gone
    per_bar = (1 + yearly) ** (1 / 252)
    assert per_bar ** len(r) == pytest.approx(stats.wealth(r)[-1], rel=1e-6)
