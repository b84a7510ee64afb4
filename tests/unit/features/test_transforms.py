"""The five features: their definition, their causality to the bit, their treatment of gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foliocast.core.errors import ConfigError
from foliocast.core.panel import Panel
from foliocast.features.transforms import DEFAULT_FEATURES, PRICE_FEATURES, REGISTRY, FeatureSet
from foliocast.features.windows import Windows, rolling_mean, rolling_std
from markets import make_panel

ALL = FeatureSet(tuple(REGISTRY))


def mutated(panel: Panel, after: int, seed: int = 1) -> Panel:
    """Other values in every field after a row."""
    rng = np.random.default_rng(seed)
    fields = {name: panel.array(name).copy() for name in panel.fields}
    for values in fields.values():
        values[after + 1 :] *= rng.uniform(0.2, 5.0, values[after + 1 :].shape)
    return panel.replace(fields)


def test_definitions_agree_with_pandas(panel: Panel) -> None:
    close, volume = panel.close(), panel.frame("volume")
    logs = np.log(close).diff()
    expected = [
        logs.rolling(10).std(ddof=1),
        logs.rolling(30).std(ddof=1),
        close.pct_change(10, fill_method=None),
        close.pct_change(30, fill_method=None),
        (volume - volume.rolling(30).mean()) / volume.rolling(30).std(ddof=1),
    ]
    found = FeatureSet()(panel)
    assert found.shape == (*panel.shape, 5)
    for number, frame in enumerate(expected):
        np.testing.assert_allclose(found[:, :, number], frame, rtol=1e-9, atol=1e-15)


def test_worked_example() -> None:
    """Prices that double every bar: no volatility, momentum of 2**n - 1; a volume spike of known z-score."""
    n = 60
    volume = np.full((n, 1), 100.0)
    volume[0::2] = 102.0
    panel = Panel({"close": 2.0 ** np.arange(n)[:, None], "volume": volume}, pd.bdate_range("2020", periods=n), ["A"])
    last = FeatureSet()(panel)[-1, 0]
    np.testing.assert_allclose(last[:2], 0.0, atol=1e-14)
    np.testing.assert_allclose(last[2:4], [2.0**10 - 1, 2.0**30 - 1])
    np.testing.assert_allclose(last[4], -1 / np.sqrt(30 / 29))


@pytest.mark.parametrize("row", [5, 40, 150, 398])
def test_the_future_changes_no_bit(panel: Panel, row: int) -> None:
    before, after = ALL(panel)[: row + 1], ALL(mutated(panel, row))[: row + 1]
    assert before.tobytes() == after.tobytes()
    cut = ALL(panel.rows(0, row + 1))
    assert before.tobytes() == cut.tobytes()


def test_a_tail_and_other_assets_change_no_bit(panel: Panel) -> None:
    full = ALL(panel)
    tail = ALL(panel.asof(panel.times[-1]).tail(ALL.lookback + 20))
    assert tail[-21:].tobytes() == full[-21:].tobytes()
    assert ALL(panel.select(["A2"]))[:, 0].tobytes() == full[:, 2].tobytes()


@pytest.mark.parametrize("name", list(REGISTRY))
def test_lookback_is_exact(panel: Panel, name: str) -> None:
    """The first full value stands at row lookback - 1, and a change just outside the look-back is not seen."""
    values = FeatureSet((name,))(panel)[:, 0, 0]
    look = REGISTRY[name].lookback
    assert np.flatnonzero(np.isfinite(values))[0] == look - 1
    fields = {field: panel.array(field).copy() for field in panel.fields}
    for array in fields.values():
        array[:100] *= 3.0
    changed = FeatureSet((name,))(panel.replace(fields))[:, 0, 0]
    assert np.array_equal(values[100 + look - 1 :], changed[100 + look - 1 :])


def test_a_gap_is_never_bridged(panel: Panel) -> None:
    close = panel.array("close").copy()
    close[100, 1] = np.nan
    found = FeatureSet()(panel.replace({"close": close, "volume": panel.array("volume")}))
    gap = np.flatnonzero(np.isnan(found[60:, 1, 1])) + 60
    assert list(gap) == list(range(100, 131))
    assert np.isfinite(found[60:, [0, 2, 3]]).all()


def test_volume_is_dropped_by_rule_never_invented(panel: Panel) -> None:
    prices = Panel({"close": panel.array("close")}, panel.times, panel.assets, name="closes")
    assert FeatureSet.for_panel(panel).names == DEFAULT_FEATURES
    assert FeatureSet.for_panel(prices).names == PRICE_FEATURES
    with pytest.raises(ConfigError, match="'volume_z' needs volume, but 'closes' holds close"):
        FeatureSet()(prices)


def test_constant_volume_has_no_z_score(panel: Panel) -> None:
    still = panel.replace({"close": panel.array("close"), "volume": np.full(panel.shape, 7.0)})
    assert np.isnan(FeatureSet(("volume_z",))(still)).all()


def test_sets_compose_and_refuse_nonsense() -> None:
    assert (FeatureSet(("log_return",)) + FeatureSet(("volume_z", "log_return"))).names == ("log_return", "volume_z")
    with pytest.raises(ConfigError, match="no feature called astrology"):
        FeatureSet(("astrology",))
    for names in ((), ("volume_z", "volume_z")):
        with pytest.raises(ConfigError, match="each once"):
            FeatureSet(names)


def test_rolling_statistics_do_not_cancel() -> None:
    """A spread of one on a level of 1e8: differences of running sums would lose it."""
    values = (1e8 + np.tile([0.0, 1.0, 2.0], 40))[:, None]
    np.testing.assert_allclose(rolling_std(values, 3)[2:, 0], 1.0, rtol=1e-12)
    np.testing.assert_allclose(rolling_mean(values, 3)[2:, 0], 1e8 + 1, rtol=1e-15)
    assert np.isnan(rolling_std(values[:2], 3)).all()


def test_windows_are_complete_and_ordered() -> None:
    values = np.arange(2 * 12, dtype=float).reshape(12, 2, 1)
    values[4, 1] = np.nan
    windows = Windows.complete(values, 3)
    pairs = list(zip(windows.ends.tolist(), windows.assets.tolist()))
    assert pairs == [(t, a) for t in range(2, 12) for a in (0, 1) if a == 0 or t not in (4, 5, 6)]
    np.testing.assert_array_equal(windows.take(np.array([0]))[0, :, 0], [0, 2, 4])
    assert len(windows.subset(np.array([1, 3]))) == 2


def test_large_panel_is_fast_enough_to_use() -> None:
    """503 assets x 1,500 bars in one go agree with a column at a time."""
    panel = make_panel(1500, 503)
    full = FeatureSet()(panel)
    assert full[:, 77].tobytes() == FeatureSet()(panel.select(["A77"]))[:, 0].tobytes()
