"""Validation: every rule refuses in one sentence, or repairs without inventing a number and says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foliocast.core.errors import ConfigError, DataError
from foliocast.core.panel import Panel
from foliocast.data import Rules, check_panel, load_panel, read_file
from foliocast.data.schema import validate
from markets import make_panel

HEAD = "date,ticker,open,high,low,close,volume\n"


def bars(*rows: str) -> str:
    return HEAD + "\n".join(rows) + "\n"


# what is wrong: (text, what is said, number of quotes left after repair, what the repair says)
FAULTS = {
    "duplicate": (
        bars("2020-01-02,A,1,1,1,1,5", "2020-01-03,A,1,1,1,1,5", "2020-01-03,A,1,1,1,1.1,5"),
        r"A on 2020-01-03 \(row 4, column 'close'\) appears twice, first in row 3; expected one row",
        2,
        "keep the last of each",
    ),
    "backwards": (
        bars("2020-01-03,A,1,1,1,1,5", "2020-01-02,A,1,1,1,1,5", "2020-01-06,A,1,1,1,1,5"),
        r"dates run backwards at A on 2020-01-02 \(row 3, column 'close'\), which follows 2020-01-03; expected",
        3,
        "sort the rows",
    ),
    "zero": (
        bars("2020-01-02,A,1,1,1,1,5", "2020-01-03,A,1,1,1,0,5", "2020-01-06,A,1,1,1,1,5"),
        r"close is 0 for A on 2020-01-03 \(row 3, column 'close'\); expected a positive, finite price",
        2,
        "drop the bar",
    ),
    "negative": (
        bars("2020-01-02,A,1,1,1,-37.6,5", "2020-01-03,A,1,1,1,1,5"),
        r"close is -37\.6 for A on 2020-01-02 \(row 2",
        1,
        "drop the bar",
    ),
    "infinite": (
        bars("2020-01-02,A,1,inf,1,1,5", "2020-01-03,A,1,1,1,1,5"),
        r"high is inf for A on 2020-01-02 \(row 2, column 'high'\)",
        2,
        "leave it empty",
    ),
    "gap": (
        bars("2020-01-02,A,1,1,1,1,5", "2020-01-03,A,,,,NaN,", "2020-01-06,A,1,1,1,1,5"),
        r"close is empty for A on 2020-01-03 \(row 3, column 'close'\) between two quotes .*--gaps keep",
        2,
        "keep such days as days without a quote",
    ),
    "lone empty cell": (
        bars("2020-01-02,A,1,1,1,1,5", "2020-01-03,A,,1,1,1,5"),
        r"open is empty for A on 2020-01-03 \(row 3, column 'open'\), which has a close",
        2,
        "leave it empty",
    ),
    "crossed": (
        bars("2020-01-02,A,1,1,2,1,5", "2020-01-03,A,1,1,1,1,5"),
        r"high 1 is below low 2 for A on 2020-01-02 \(row 2, column 'high'\)",
        2,
        "leave both empty",
    ),
    "volume": (
        bars("2020-01-02,A,1,1,1,1,-5", "2020-01-03,A,1,1,1,1,5"),
        r"volume is -5 for A on 2020-01-02 \(row 2, column 'volume'\)",
        2,
        "leave it empty",
    ),
    "empty asset": (
        bars("2020-01-02,A,1,1,1,1,5", "2020-01-02,B,,,,,", "2020-01-03,B,,,,,"),
        r"no price at all for B; expected at least one price an asset",
        1,
        "drop it",
    ),
    "no adjusted close": (
        "date,ticker,close,adj close\n2020-01-02,A,2,1\n2020-01-03,A,2,\n",
        r"adjusted close is empty for A on 2020-01-03 \(row 3, column 'adj close'\)",
        1,
        "drop the bar",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_refused_unless_repaired_and_then_said(tmp_path: Path, fault: str) -> None:
    text, said, left, repair = FAULTS[fault]
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        load_panel(path)
    assert str(caught.value).startswith("x.csv: ")
    assert "--repair" in str(caught.value)
    assert "\n" not in str(caught.value)
    panel = load_panel(path, repair=True)
    assert np.isfinite(panel.array("close")).sum() == left
    assert "Repaired on import" in panel.notice
    assert repair in panel.notice


def test_wide_files_name_the_row_and_the_asset(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    for rows, said in {
        "2020-01-02,1,1\n2020-01-03,1,1\n2020-01-03,1,1\n": r"A on 2020-01-03 \(row 4, column 'A'\) appears twice",
        "2020-01-03,1,1\n2020-01-02,1,1\n2020-01-06,1,1\n": r"backwards at A on 2020-01-02 \(row 3, column 'A'\)",
        "2020-01-02,1,1\n2020-01-03,1,\n2020-01-06,1,1\n": r"empty for B on 2020-01-03 \(row 3, column 'B'\)",
        "2020-01-02,1,\n2020-01-03,1,\n": "no price at all for B",
        "2020-01-02,1,1\n2020-01-03,1,-inf\n": r"close is -inf for B on 2020-01-03 \(row 3, column 'B'\)",
    }.items():
        path.write_text("date,A,B\n" + rows)
        with pytest.raises(DataError, match=said):
            load_panel(path)


def test_repair_of_good_data_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    make_panel(30, 2).close().to_csv(path)
    plain, repaired = load_panel(path), load_panel(path, repair=True)
    assert plain.data_hash == repaired.data_hash
    assert repaired.notice == ""


def test_repair_keeps_the_last_duplicate_and_invents_no_price(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(FAULTS["duplicate"][0])
    assert load_panel(path, repair=True).array("close")[:, 0].tolist() == [1, 1.1]
    path.write_text(FAULTS["zero"][0])
    assert [str(t.date()) for t in load_panel(path, repair=True).times] == ["2020-01-02", "2020-01-06"]


@pytest.mark.parametrize(
    ("last", "said"),
    [("0.25", r"-75% .* unadjusted split \(4-for-1\)"), ("10", r"\+900% .* \(1-for-10, reverse\)"), ("1.73", r"\+73%")],
)
def test_jumps_need_a_flag(tmp_path: Path, last: str, said: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"date,A,B\n2020-01-02,1,1\n2020-01-03,{last},1.6\n")
    with pytest.raises(DataError, match=said) as caught:
        load_panel(path, repair=True)
    assert "A on 2020-01-03 (row 3, column 'A')" in str(caught.value)
    assert "--allow-jumps" in str(caught.value)
    assert load_panel(path, allow_jumps=True).close()["A"].iloc[1] == float(last)


def test_a_jump_over_a_long_gap_or_between_assets_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("date,ticker,close\n2020-01-02,A,1\n2020-03-02,A,9\n2020-01-02,B,100\n2020-01-03,B,101\n")
    assert load_panel(path).shape == (3, 2)


def test_split_in_raw_close_is_no_jump_when_adjusted(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("date,ticker,close,adj_close\n2020-01-02,A,400,100\n2020-01-03,A,101,101\n")
    assert load_panel(path).array("close")[:, 0].tolist() == [100, 101]


def test_late_listing_and_delisting_are_no_gaps(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("date,A,B\n2020-01-02,1,\n2020-01-03,1,2\n2020-01-06,,2\n")
    panel = load_panel(path)
    assert np.isnan(panel.array("close")).tolist() == [[False, True], [False, False], [True, False]]


def test_a_field_that_an_asset_never_has_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(bars("2020-01-02,A,1,1,1,1,5", "2020-01-02,INDEX,,,,3,"))
    panel = load_panel(path)
    assert np.isnan(panel.array("open")[0]).tolist() == [False, True]
    assert panel.array("close")[0].tolist() == [1, 3]


def test_known_before_it_happened(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("date,ticker,close,known_at\n2020-01-02,A,1,2020-01-02\n2020-01-03,A,1,2020-01-02\n")
    with pytest.raises(DataError, match=r"known_at is 2020-01-02 for A on 2020-01-03 \(row 3, column 'known_at'\)"):
        load_panel(path, repair=True)


def test_oddities_are_let_pass_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        bars(
            "2020-01-02,A,1,1,1,1,5",
            "2020-01-03,A,3,1,0.5,0.5,5",
            "2020-01-06,A,0.5,1,0.5,0.5,5",
            "2020-01-02,B,1,1,1,1,5",
            "2020-01-06,B,1,1,1,1,5",
        )
    )
    warnings = validate(read_file(path))[1].warnings
    assert [w.split(" for ")[0] for w in warnings] == [
        "close halves in one bar",
        "open lies outside low..high",
        "1 of 2 assets have bars without a quote between their first and last (1 in all, most",
    ]


def test_nothing_left_after_repair(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("date,A,B\n2020-01-02,0,0\n")
    with pytest.raises(DataError, match="no usable price left after repair"):
        load_panel(path, repair=True)


def test_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="gaps = 'fill' is not known; expected 'refuse' or 'keep'"):
        Rules(gaps="fill")


def test_panels_from_elsewhere_can_be_checked() -> None:
    panel = make_panel(30, 2)
    assert check_panel(panel).warnings == ()
    close = panel.array("close").copy()
    close[7, 1] = -1
    broken = Panel({"close": close}, panel.times, panel.assets, name="feed")
    with pytest.raises(DataError, match=rf"feed: close is -1 for A1 on {panel.times[7]:%Y-%m-%d} \(row 8"):
        check_panel(broken)
    hourly = Panel({"close": close[:5] ** 2}, pd.date_range("2020-01-01", periods=5, freq="h", tz="UTC"), panel.assets)
    assert check_panel(hourly).warnings == ()
