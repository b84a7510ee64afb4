"""Decompositions add up and mean what they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import DataError
from foliocast.explain.decompose import attribute_pnl, decompose_risk
from foliocast.stats.measures import cvar, value_at_risk

RNG = np.random.default_rng(0)
S = ScenarioSet.from_returns(
    RNG.standard_t(4, (4000, 2, 4)) * [0.01, 0.02, 0.005, 0.01], list("abcd"), RNG.dirichlet(np.ones(4000))
)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("weights", [{"a": 0.5, "b": 0.3, "d": 0.2}, {"a": 1.2, "b": -0.5, "c": 0.3}, {"c": 1.0}])
def test_components_sum_to_the_measures(level: float, weights: dict[str, float]) -> None:
    w = pd.Series(weights)
    table = decompose_risk(w, S, level)
    total = S.portfolio(w)
    body = table.drop(index="total")
    wanted = {
        "var": value_at_risk(total, level, S.probabilities),
        "cvar": cvar(total, level, S.probabilities),
        "volatility": np.sqrt(S.probabilities @ (total - S.probabilities @ total) ** 2),
    }
    for name, value in wanted.items():
        assert body[f"component_{name}"].sum() == pytest.approx(value, abs=1e-12)
        assert table.loc["total", f"component_{name}"] == pytest.approx(value, abs=1e-12)
        np.testing.assert_allclose(body["weight"] * body[f"marginal_{name}"], body[f"component_{name}"])


def test_marginals_are_derivatives() -> None:
    w = pd.Series({"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1})
    table = decompose_risk(w, S)
    for asset in S.assets:
        up, down = w.copy(), w.copy()
        up[asset] += 1e-6
        down[asset] -= 1e-6
        slope = (cvar(S.portfolio(up), 0.95, S.probabilities) - cvar(S.portfolio(down), 0.95, S.probabilities)) / 2e-6
        assert table.loc[asset, "marginal_cvar"] == pytest.approx(slope, rel=1e-3)


def test_var_components_of_a_normal_law_have_their_closed_form() -> None:
    cov = np.array([[0.04, 0.01], [0.01, 0.09]]) * 0.01
    s = ScenarioSet.from_returns(RNG.multivariate_normal([0, 0], cov, 200_000), ["a", "b"])
    w = pd.Series({"a": 0.6, "b": 0.4})
    share = w * (cov @ w) / (w @ cov @ w)
    table = decompose_risk(w, s)
    for name in ("volatility", "var", "cvar"):
        np.testing.assert_allclose(table[f"share_{name}"].iloc[:2], share, atol=0.02)


def test_an_asset_without_scenarios_is_refused() -> None:
    with pytest.raises(DataError, match="zzz"):
        decompose_risk(pd.Series({"zzz": 1.0}), S)


def test_pnl_adds_up_to_the_compounded_return() -> None:
    times = pd.bdate_range("2020-01-01", periods=250)
    r = pd.DataFrame(RNG.normal(0.001, 0.02, (250, 3)), times, list("abc"))
    w = pd.DataFrame(RNG.dirichlet(np.ones(3), 250), times, list("abc"))
    table = attribute_pnl(w, r)
    total = np.prod(1 + (w * r).sum(axis=1)) - 1
    body = table.drop(index="total")
    assert body["contribution"].sum() == pytest.approx(total, abs=1e-12)
    np.testing.assert_allclose(body["holding"] + body["timing"], body["contribution"], atol=1e-15)
    still = attribute_pnl(w * 0 + 1 / 3, r)
    np.testing.assert_allclose(still["timing"], 0, atol=1e-12)


def test_an_oracle_earns_by_timing() -> None:
    times = pd.bdate_range("2020-01-01", periods=400)
    r = pd.DataFrame(np.random.default_rng(2).normal(0, 0.01, (400, 2)), times, list("ab"))
    table = attribute_pnl((r > 0).astype(float) / 2, r)
    assert table.loc["total", "timing"] > 10 * abs(table.loc["total", "holding"])


def test_holding_what_has_no_return_is_refused() -> None:
    times = pd.bdate_range("2020-01-01", periods=3)
    r = pd.DataFrame([[0.1, np.nan]] * 3, times, ["a", "b"])
    w = pd.DataFrame([[1.0, 0.0]] * 3, times, ["a", "b"])
    assert attribute_pnl(w, r).loc["b", "contribution"] == 0
    with pytest.raises(DataError, match="b is held"):
        attribute_pnl(w + 0.1, r)
    with pytest.raises(DataError, match="different bars"):
        attribute_pnl(w.iloc[1:], r)
