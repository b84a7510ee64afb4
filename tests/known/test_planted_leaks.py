"""The audit finds each of the leaks that notebooks are made of, and passes their honest twins."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from foliocast.core.errors import ConfigError
from foliocast.core.panel import Panel
from foliocast.workflows.audit import audit, rewrite_future
from markets import make_panel

Rows = Callable[[Panel], pd.DataFrame]


def _frame(values: np.ndarray, panel: Panel) -> pd.DataFrame:
    return pd.DataFrame(values, index=panel.times, columns=list(panel.assets))


def scaler_on_all_rows(panel: Panel) -> pd.DataFrame:
    momentum = panel.close().pct_change(10).fillna(0.0)
    return _frame(np.tanh(StandardScaler().fit_transform(momentum)), panel)


def scaler_on_past_rows(panel: Panel) -> pd.DataFrame:
    momentum = panel.close().pct_change(10).fillna(0.0)
    return np.tanh((momentum - momentum.expanding(5).mean()) / momentum.expanding(5).std())


def centred_rolling_mean(panel: Panel) -> pd.DataFrame:
    close = panel.close()
    return np.sign(close / close.rolling(11, center=True).mean() - 1)


def trailing_rolling_mean(panel: Panel) -> pd.DataFrame:
    close = panel.close()
    return np.sign(close / close.rolling(11).mean() - 1)


def same_day_volume(panel: Panel) -> pd.DataFrame:
    volume = panel.frame("volume")
    return (volume > volume.rolling(20).mean()).astype(float)


def previous_day_volume(panel: Panel) -> pd.DataFrame:
    return same_day_volume(panel).shift(1).fillna(0.0)


def _learnt(panel: Panel, train: np.ndarray, shift: int = -1) -> pd.DataFrame:
    """Ridge on lagged returns, trained on the rows given, one model for all assets."""
    returns = panel.close().pct_change()
    features = np.stack([returns.shift(k).fillna(0.0).to_numpy() for k in range(4)], axis=-1)
    target = returns.shift(shift).fillna(0.0).to_numpy()
    model = Ridge().fit(features[train].reshape(-1, 4), target[train].ravel())
    return _frame(model.predict(features.reshape(-1, 4)).reshape(target.shape), panel)


def shuffled_split(panel: Panel) -> pd.DataFrame:
    return _learnt(panel, np.random.default_rng(0).permutation(len(panel))[: len(panel) // 2])


def first_half_split(panel: Panel) -> pd.DataFrame:
    weights = _learnt(panel, np.arange(5, 150))
    weights.iloc[:151] = 0.0  # the last label of row 149 is known at row 150
    return weights


def gate_percentile_over_the_test_fold(panel: Panel) -> pd.DataFrame:
    signal = panel.close().pct_change(10).fillna(0.0)
    return signal.where(signal.abs() > signal.abs().quantile(0.4), 0.0)


def gate_percentile_over_the_past(panel: Panel) -> pd.DataFrame:
    signal = panel.close().pct_change(10).fillna(0.0)
    return signal.where(signal.abs() > signal.abs().expanding(20).quantile(0.4), 0.0)


def hmm_smoothed_states(panel: Panel) -> pd.DataFrame:
    from hmmlearn.hmm import GaussianHMM

    market = panel.close().pct_change().mean(axis=1).fillna(0.0).to_numpy()[:, None] * 100
    model = GaussianHMM(2, random_state=0, n_iter=10).fit(market[:150])
    calm = model.predict_proba(market)[:, [int(np.argmin(model.covars_.ravel()))]]  # uses the whole path
    return _frame(np.repeat(calm, len(panel.assets), axis=1), panel)


def target_misaligned_by_one(panel: Panel) -> pd.DataFrame:
    return panel.close().pct_change().rolling(3).mean().shift(-1).fillna(0.0)


def target_aligned(panel: Panel) -> pd.DataFrame:
    return panel.close().pct_change().rolling(3).mean().fillna(0.0)


def future_universe_membership(panel: Panel) -> pd.DataFrame:
    survivors = panel.universe.mask[-1]
    return _frame(np.tile(survivors / max(1, survivors.sum()), (len(panel), 1)), panel)


def universe_of_the_day(panel: Panel) -> pd.DataFrame:
    mask = panel.universe.mask.astype(float)
    return _frame(mask / np.maximum(1.0, mask.sum(axis=1, keepdims=True)), panel)


def backfilled_prices(panel: Panel) -> pd.DataFrame:
    close = panel.close()
    close.iloc[np.arange(7, len(close), 7)] = np.nan
    return close.bfill().pct_change(5).fillna(0.0)


def ranked_against_the_whole_record(panel: Panel) -> pd.DataFrame:
    return panel.close().pct_change(5).rank(pct=True).fillna(0.5)


LEAKS: list[tuple[Rows, str]] = [
    (scaler_on_all_rows, "next_close"),
    (centred_rolling_mean, "next_close"),
    (same_day_volume, "same_close"),
    (shuffled_split, "next_close"),
    (gate_percentile_over_the_test_fold, "next_close"),
    (hmm_smoothed_states, "next_close"),
    (target_misaligned_by_one, "next_close"),
    (future_universe_membership, "next_close"),
    (backfilled_prices, "next_close"),
    (ranked_against_the_whole_record, "next_close"),
]
HONEST: list[tuple[Rows, str]] = [
    (scaler_on_past_rows, "next_close"),
    (trailing_rolling_mean, "next_close"),
    (same_day_volume, "next_close"),
    (previous_day_volume, "same_close"),
    (first_half_split, "next_close"),
    (gate_percentile_over_the_past, "next_close"),
    (target_aligned, "next_close"),
    (universe_of_the_day, "next_close"),
]


def _panel() -> Panel:
    return make_panel(360, 5, seed=3)


@pytest.mark.parametrize(("leak", "execution"), LEAKS, ids=lambda x: getattr(x, "__name__", x))
def test_audit_fails_on_the_leak(leak: Rows, execution: str) -> None:
    report = audit(leak, _panel(), execution=execution)
    failed = [check for check in report.checks if not check.passed]
    assert not report.passed
    assert any("rewritten" in check.name and "seen the future" in check.detail for check in failed), report


@pytest.mark.parametrize(("honest", "execution"), HONEST, ids=lambda x: getattr(x, "__name__", x))
def test_audit_passes_the_honest_twin(honest: Rows, execution: str) -> None:
    report = audit(honest, _panel(), execution=execution)
    assert report.passed, report


def test_a_file_of_future_prices_is_found_by_its_skill() -> None:
    """What a function reads from elsewhere is not rewritten, but no honest signal lines up so well."""
    panel = _panel()
    tomorrow = panel.close().pct_change().shift(-1).fillna(0.0)
    report = audit(lambda _: tomorrow, panel)
    assert [check.name for check in report.checks if not check.passed] == ["plausible skill"]


def test_an_unrepeatable_procedure_is_named() -> None:
    rng = np.random.default_rng()
    report = audit(lambda panel: _frame(rng.normal(size=panel.shape), panel), _panel())
    assert not report.checks[0].passed
    assert report.checks[0].name == "repeatable"


def test_only_the_future_is_rewritten() -> None:
    panel = _panel()
    cut = panel.times[200]
    other = rewrite_future(panel, cut, np.random.default_rng(0))
    for field in panel.fields:
        assert (other.array(field)[:201] == panel.array(field)[:201]).all()
        assert (other.array(field)[201:] != panel.array(field)[201:]).all()
    assert (other.universe.mask[:201] == panel.universe.mask[:201]).all()
    assert (other.universe.mask[201:] != panel.universe.mask[201:]).any()


def test_what_cannot_be_audited_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot audit a int"):
        audit(3, _panel())
    with pytest.raises(ConfigError, match="one row for each"):
        audit(lambda panel: np.zeros(3), _panel())
    with pytest.raises(ConfigError, match="says nothing"):
        audit(lambda panel: _frame(np.full(panel.shape, np.nan), panel), _panel())
