"""Terms read as numbers: each against its definition, and the same number that the optimiser reports."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError
from foliocast.portfolio import terms as t
from foliocast.stats.measures import cvar

RNG = np.random.default_rng(0)
R = RNG.standard_t(4, (1000, 4)) * 0.01
P = RNG.dirichlet(np.ones(1000))
S = ScenarioSet.from_returns(R, ["a", "b", "c", "d"], P)
W = pd.Series({"a": 0.5, "b": 0.3, "d": -0.1})
HELD = pd.Series({"a": 0.2, "b": 0.2, "c": 0.2, "d": 0.2})
X = R @ np.array([0.5, 0.3, 0.0, -0.1])


def test_moments() -> None:
    assert t.ExpectedReturn().value(W, S) == pytest.approx(P @ X)
    assert t.Variance().value(W, S) == pytest.approx(P @ (X - P @ X) ** 2)
    assert t.Volatility().value(W, S) == pytest.approx(np.sqrt(P @ (X - P @ X) ** 2))
    assert t.Semivariance().value(W, S) == pytest.approx(P @ np.minimum(X - P @ X, 0) ** 2)
    assert t.Semivariance(0.001).value(W, S) == pytest.approx(P @ np.minimum(X - 0.001, 0) ** 2)
    assert t.MaxLoss().value(W, S) == -X.min()
    assert t.LogGrowth().value(W, S) == pytest.approx(P @ np.log1p(X))
    assert t.EntropicRisk(20.0).value(W, S) == pytest.approx(np.log(P @ np.exp(-20 * X)) / 20)


@pytest.mark.parametrize("alpha", [0.5, 0.9, 0.99])
def test_cvar_is_the_one_of_the_measures(alpha: float) -> None:
    assert t.CVaR(alpha).value(W, S) == pytest.approx(cvar(X, alpha, P), rel=1e-9)


def test_evar_lies_between_cvar_and_the_largest_loss_and_is_its_infimum() -> None:
    grid = np.exp(np.linspace(-9, 3, 4000))
    values = [s * (np.log(P @ np.exp(-(X - X.min()) / s)) - np.log(0.05)) - X.min() for s in grid]
    found = t.EVaR(0.95).value(W, S)
    assert found == pytest.approx(min(values), rel=1e-5)
    assert t.CVaR(0.95).value(W, S) <= found <= t.MaxLoss().value(W, S)


def test_normal_cvar_has_its_closed_form() -> None:
    from scipy.stats import norm

    draws = norm.ppf((np.arange(200_000) + 0.5) / 200_000)[:, None] * 0.02
    wanted = 0.02 * norm.pdf(norm.ppf(0.95)) / 0.05
    one = ScenarioSet.from_returns(draws)
    assert t.CVaR(0.95).value(np.ones(1), one) == pytest.approx(wanted, rel=1e-4)
    # EVaR of a normal law: sigma sqrt(-2 log(1 - alpha)) (Ahmadi-Javid, 2012); a grid of draws has lighter tails
    assert t.EVaR(0.95).value(np.ones(1), one) == pytest.approx(0.02 * np.sqrt(-2 * np.log(0.05)), rel=2e-3)


def test_trading_terms() -> None:
    d = np.abs(np.array([0.3, 0.1, -0.2, -0.3]))
    assert t.Turnover().value(W, S, HELD) == pytest.approx(d.sum())
    assert t.TransactionCost(bps=7).value(W, S, HELD) == pytest.approx(7e-4 * d.sum())
    assert t.TransactionCost(bps={"a": 10}).value(W, S, HELD) == pytest.approx(1e-3 * 0.3)
    both = SimpleNamespace(commission_bps=3.0, half_spread_bps=2.0)
    assert t.TransactionCost(costs=both).value(W, S, HELD) == pytest.approx(5e-4 * d.sum())
    sigma = np.sqrt(P @ (R - P @ R) ** 2)
    impact = t.MarketImpact("sqrt", coefficient=0.8, capital=1e6, adv=4e6)
    assert impact.value(W, S, HELD) == pytest.approx(0.8 * (sigma * d * np.sqrt(d / 4)).sum())
    assert t.MarketImpact("linear").value(W, S, HELD) == pytest.approx(sigma @ d)
    assert t.Turnover().value(W, S) == 0.0
    assert t.GrossExposure().value(W, S) == pytest.approx(0.9)


def test_tracking_error_vanishes_on_the_benchmark() -> None:
    assert t.TrackingError(W).value(W, S) == pytest.approx(0, abs=1e-15)
    away = t.TrackingError({"c": 1.0}).value(W, S)
    assert away == pytest.approx(t.Volatility().value(np.array([0.5, 0.3, -1.0, -0.1]), S))


def test_arithmetic_and_text() -> None:
    expression = t.ExpectedReturn() - 2 * t.CVaR(0.95) - t.TransactionCost(bps=5)
    wanted = P @ X - 2 * cvar(X, 0.95, P) - 5e-4 * t.Turnover().value(W, S, HELD)
    assert expression.value(W, S, HELD) == pytest.approx(wanted)
    assert (-expression).value(W, S, HELD) == pytest.approx(-wanted)
    assert "2 * CVaR(alpha=0.95)" in str(expression)
    assert str(t.CVaR(0.95) <= 0.02) == "CVaR(alpha=0.95) <= 0.02"
    assert str(t.ExpectedReturn() >= 0.01) == "ExpectedReturn() >= 0.01"
    relative = t.CVaR(0.95) <= 2 * t.Volatility()
    assert relative.bound == 0
    assert len(relative.expression.terms) == 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: t.CVaR(1.5), "between 0 and 1"),
        (lambda: t.EVaR(0.0), "between 0 and 1"),
        (lambda: t.EntropicRisk(-1.0), "positive"),
        (lambda: t.MarketImpact("cubic"), "sqrt"),
        (lambda: t.risk_term("fear", 0.95), "cvar"),
        (lambda: t.TransactionCost(bps={"zzz": 3}).value(W, S, HELD), "zzz"),
    ],
)
def test_nonsense_is_refused(make, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
