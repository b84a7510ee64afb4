"""Regimes: found where they were planted, filtered, never smoothed, thresholds from training rows."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.panel import Panel
from foliocast.features.regimes import RULE_LABELS, GaussianHMMRegime, VolatilityTrendRegime, market_returns
from markets import make_panel

REGIMES = [VolatilityTrendRegime(), GaussianHMMRegime(), GaussianHMMRegime(n_states=3)]


def switching(n: int = 1200, seed: int = 0) -> tuple[Panel, np.ndarray]:
    """One asset whose volatility is 0.6 % or 2.5 % by a chain that stays 98 % of the time."""
    rng = np.random.default_rng(seed)
    state = np.zeros(n, dtype=int)
    for t in range(1, n):
        state[t] = state[t - 1] if rng.random() < 0.98 else 1 - state[t - 1]
    returns = np.where(state == 1, -0.002, 0.001) + np.where(state == 1, 0.025, 0.006) * rng.standard_normal(n)
    close = 100 * np.exp(np.cumsum(returns))[:, None]
    return Panel({"close": close}, pd.bdate_range("2010-01-01", periods=n), ["M"]), state


@pytest.mark.parametrize("regime", REGIMES, ids=repr)
@pytest.mark.parametrize("row", [100, 250, 399])
def test_the_future_changes_no_bit(regime: GaussianHMMRegime, panel: Panel, row: int) -> None:
    fitted = clone(regime).fit(panel.rows(0, 200))
    close = panel.array("close").copy()
    close[row + 1 :] *= np.random.default_rng(0).uniform(0.5, 2, close[row + 1 :].shape)
    a = fitted.transform(panel).iloc[: row + 1]
    for other in (panel.replace({"close": close}), panel.rows(0, row + 1)):
        pd.testing.assert_frame_equal(a, fitted.transform(other).iloc[: row + 1], check_exact=True, check_freq=False)


@pytest.mark.parametrize("regime", REGIMES, ids=repr)
def test_learns_from_the_rows_handed_in_only(regime: GaussianHMMRegime, panel: Panel) -> None:
    a = clone(regime).fit(panel.rows(0, 200))
    assert a.knowledge_until_ == panel.times[199]
    assert a.transform(panel).equals(clone(regime).fit(panel.rows(0, 200)).transform(panel))
    assert not a.transform(panel).equals(clone(regime).fit(panel).transform(panel))


def test_hmm_finds_the_planted_chain() -> None:
    panel, state = switching()
    hmm = GaussianHMMRegime().fit(panel.rows(0, 800))
    np.testing.assert_allclose(hmm.sigma_, [0.006, 0.025], rtol=0.12)
    np.testing.assert_allclose(np.diag(hmm.transition_), 0.98, atol=0.03)
    np.testing.assert_allclose(hmm.stationary_ @ hmm.transition_, hmm.stationary_, atol=1e-12)
    out = hmm.transform(panel).iloc[800:]
    assert (out["state"].to_numpy() == state[800:]).mean() > 0.9
    np.testing.assert_allclose(out.filter(like="probability").sum(axis=1), 1.0, atol=1e-12)


def test_filter_is_hamiltons_recursion() -> None:
    """Against hmmlearn's forward pass on every prefix: the smoothed probability of the last row is the filtered one."""
    from hmmlearn.hmm import GaussianHMM

    panel, _ = switching(300)
    hmm = GaussianHMMRegime().fit(panel)
    twin = GaussianHMM(2, "diag")
    twin.startprob_ = hmm.stationary_ @ hmm.transition_
    twin.transmat_, twin.means_, twin.covars_ = hmm.transition_, hmm.mean_[:, None], hmm.sigma_[:, None] ** 2
    x = market_returns(panel)[1:, None]
    filtered = hmm.transform(panel.rows(0, 300)).filter(like="probability").to_numpy()[1:]
    for stop in (1, 7, 60, 299):
        np.testing.assert_allclose(filtered[stop - 1], twin.predict_proba(x[:stop])[-1], atol=1e-9)
    smoothed = twin.predict_proba(x)
    assert np.abs(smoothed - filtered).max() > 0.2  # they are different things


def test_rule_labels_by_volatility_and_trend() -> None:
    n = 200
    moves = np.tile([0.01, -0.01], n // 2) * np.where(np.arange(n) < 100, 1.0, 3.0) + 0.001
    panel = Panel({"close": np.exp(np.cumsum(moves))[:, None]}, pd.bdate_range("2020", periods=n), ["A"])
    rule = VolatilityTrendRegime(30, 30, 0.5).fit(panel)
    out = rule.transform(panel)
    assert out["regime"].iloc[:30].isna().all()
    assert out["regime"].iloc[90] == "calm_up"
    assert out["regime"].iloc[-1] == "stressed_up"
    falling = panel.replace({"close": 1 / panel.array("close")})
    assert rule.transform(falling)["regime"].iloc[-1] == "stressed_down"
    assert tuple(out["regime"].cat.categories) == RULE_LABELS


def test_market_is_the_equal_weight_of_members_that_trade() -> None:
    close = np.array([[1.0, 1.0, np.nan], [1.1, 0.9, 5.0], [1.1, np.nan, 10.0]])
    market = market_returns(Panel({"close": close}, pd.bdate_range("2020", periods=3), list("ABC")))
    assert np.isnan(market[0])
    np.testing.assert_allclose(market[1:], np.log1p([0.0, 0.5]), atol=1e-15)


def test_bad_input_is_named(panel: Panel) -> None:
    with pytest.raises(HistoryError, match="no volatility over 30 bars"):
        VolatilityTrendRegime().fit(panel.rows(0, 20))
    with pytest.raises(HistoryError, match="too few for 2 states"):
        GaussianHMMRegime().fit(panel.rows(0, 20))
    with pytest.raises(HistoryError, match="never moved"):
        GaussianHMMRegime().fit(panel.replace({"close": np.ones(panel.shape)}))
    with pytest.raises(ConfigError, match="quantile"):
        VolatilityTrendRegime(quantile=1.5).fit(panel)
    with pytest.raises(ConfigError, match="at least 2 states"):
        GaussianHMMRegime(n_states=1).fit(panel)


def test_hmmlearn_is_quiet_and_left_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    level = logging.getLogger("hmmlearn").level
    GaussianHMMRegime(n_states=3).fit(make_panel(120, 2))
    assert not caplog.records
    assert logging.getLogger("hmmlearn").level == level
