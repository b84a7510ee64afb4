"""Filters survive the way through JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from foliocast.models.diffusion.cards import (
    correlation_from_json,
    correlation_to_json,
    volatility_from_json,
    volatility_to_json,
)
from foliocast.stats.correlation import CorrelationFilter
from foliocast.stats.volatility import KINDS, VolatilityFilter


@pytest.mark.parametrize("kind", KINDS)
def test_volatility_filters_survive(kind: str) -> None:
    x = np.random.default_rng(0).normal(0, 0.01, (300, 3))
    before = VolatilityFilter(kind).fit(x)
    after = volatility_from_json(json.loads(json.dumps(volatility_to_json(before))))
    assert np.array_equal(before.scale(x), after.scale(x), equal_nan=True)
    assert np.array_equal(before.next_scale(x), after.next_scale(x))


def test_correlation_filters_survive() -> None:
    z = np.random.default_rng(0).normal(size=(200, 3))
    before = CorrelationFilter(50.0, 0.3).fit(z)
    after = correlation_from_json(json.loads(json.dumps(correlation_to_json(before))))
    assert np.array_equal(before.current(z), after.current(z))
