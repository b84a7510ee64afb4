"""Panel and View: the past cannot hold the future."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from foliocast.core.errors import DataError
from foliocast.core.panel import Panel
from markets import make_panel


def test_view_holds_no_later_row_and_cannot_be_written(panel: Panel) -> None:
    view = panel.asof(panel.times[100])
    assert len(view) == 101
    assert view.close().index[-1] == panel.times[100]
    with pytest.raises(ValueError, match="read-only"):
        view.panel.array("close")[0, 0] = 1.0


def test_values_are_hidden_until_they_are_known() -> None:
    base = make_panel(50, 2)
    late = np.asarray(base.times + pd.Timedelta(days=10))
    fields = {"close": base.array("close"), "earnings": base.array("volume")}
    panel = Panel(fields, base.times, base.assets, known_at={"earnings": late})
    view = panel.asof(base.times[30])
    known = np.isfinite(view.panel.array("earnings")[:, 0])
    assert known.sum() == (late <= base.times[30]).sum()
    assert np.isfinite(view.panel.array("close")).all()


def test_membership_is_causal() -> None:
    base = make_panel(60, 2)
    close = base.array("close").copy()
    close[40:, 1] = np.nan
    cut = Panel({"close": close}, base.times, base.assets)
    assert cut.universe.mask[:45, 1].all()
    assert not cut.universe.mask[45:, 1].any()
    again = Panel({"close": close[:44]}, base.times[:44], base.assets)
    assert (again.universe.mask == cut.universe.mask[:44]).all()


def test_data_hash_changes_with_every_part(panel: Panel) -> None:
    values = panel.array("close").copy()
    values[5, 1] = np.nextafter(values[5, 1], np.inf)
    other = panel.replace({**{f: panel.array(f) for f in panel.fields}, "close": values})
    assert other.data_hash != panel.data_hash
    assert panel.rows(0, len(panel)).data_hash == panel.data_hash


def test_unknown_asset_and_bad_times_are_named(panel: Panel) -> None:
    with pytest.raises(DataError, match="no data for ZZZ"):
        panel.select(["A0", "ZZZ"])
    with pytest.raises(DataError, match="strictly increasing"):
        Panel({"close": np.ones((2, 1))}, pd.DatetimeIndex(["2020-01-02", "2020-01-01"]), ["A"])
    with pytest.raises(DataError, match="nothing was known"):
        panel.asof("1990-01-01")


def test_a_ticker_in_the_wrong_case_is_recognised(panel: Panel) -> None:
    name = panel.assets[0]
    other = name.lower() if name != name.lower() else name.upper()
    with pytest.raises(DataError, match=f"no data for {other}: .*did you mean {name}"):
        panel.select([other])
