"""A generated book is a book like any other: stress, allocation, backtest; and it carries what its maker knew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import foliocast as fc
from foliocast.apps.cli.main import app
from foliocast.core.errors import ConfigError, DataError, HistoryError, LookAheadError
from foliocast.portfolio.fixed import read_book
from foliocast.workflows.allocate import Wish, allocate
from foliocast.workflows.generate import GenerateOptions, generate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated")
    generate("large-cap, 6 names, Jun 2022", n=1, options=GenerateOptions(data="sample:sp500"), out=out)
    return out


def said(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_only_what_the_data_quote_is_held_and_the_market_is_a_condition(folder: Path) -> None:
    book = read_book(folder / "book_0.csv")
    assert set(book.index) <= set(fc.load_panel("sample:sp500").assets)
    assert book.sum() == pytest.approx(1.0)
    prompt = json.loads((folder / "generate.json").read_text())["prompt"]
    close = fc.load_panel("sample:sp500").close().loc[:"2022-06-30"]
    market = close.pct_change(fill_method=None).mean(axis=1).iloc[-252:]
    assert prompt["market_volatility"] == pytest.approx(market.std(ddof=0) * 252**0.5, rel=1e-9)
    with pytest.raises(DataError, match="no prices at 2024-06-30"):
        generate("value, Jun 2024", options=GenerateOptions(data="sample:sp500"))


def test_it_is_stressed_and_it_is_a_benchmark(folder: Path) -> None:
    book = str(folder / "book_0.csv")
    stressed = said("stress", "--book", book, "--data", "sample:sp500", "--n", "200", "--models", "bootstrap")
    assert stressed
    answer = said(
        "allocate", "--benchmark", book, "--max-tracking", "0.01", "--n", "300", "--model", "bootstrap",
        "--data", "sample:sp500",
    )  # fmt: skip
    beside = answer["benchmark"]
    assert isinstance(beside, dict)
    assert beside["tracking_error"] <= 0.01 * (1 + 1e-6)
    assert answer["outcome"]["cvar"] < beside["outcome"]["cvar"]  # type: ignore[index]


def test_beside_a_benchmark_late_listings_are_left_out_and_counted(panel: fc.Panel) -> None:
    late = {key: panel.array(key).copy() for key in panel.fields}
    for values in late.values():
        values[:-20, 2] = np.nan
    young = fc.Panel(late, panel.times, panel.assets)
    first, second, third = (str(a) for a in panel.assets[:3])
    wish = Wish(model="bootstrap", n=100, benchmark={first: 0.6, second: 0.4}, max_tracking=0.05)
    answer = allocate(young, wish)
    assert third not in answer["weights"]
    assert f"1 of {len(panel.assets)} assets were not quoted" in answer["notice"]
    assert allocate(panel, wish)["notice"] == panel.notice
    with pytest.raises(HistoryError, match=third):
        allocate(young, Wish(model="bootstrap", n=100, benchmark={third: 1.0}))


def test_it_is_backtested_but_not_before_its_maker_stopped_learning(folder: Path) -> None:
    panel = fc.load_panel("sample:sp500")
    panel = panel.rows(len(panel) - 200, len(panel))
    held = fc.FixedWeights(str(folder / "book_0.csv"), rebalance=21)
    schedule = fc.WalkForward(train=60, test=70)
    with pytest.raises(LookAheadError, match="has seen data up to 2024"):
        fc.walk_forward(held, panel, schedule, fc.Costs())
    result = fc.walk_forward(held, panel, schedule, fc.Costs(), allow_contaminated=True)
    assert np.isfinite(result.metrics()["sharpe"])


def test_a_book_goes_back_to_its_weights_and_leaves_what_is_not_quoted_in_cash(panel: fc.Panel) -> None:
    strategy = fc.FixedWeights({"A0": 0.5, "A1": 0.3}, rebalance=10).fit(panel.rows(0, 100))
    weights = strategy.decide_many(panel, panel.times[99:130])
    due = weights.dropna(how="all")
    assert list(due.index) == list(panel.times[[99, 109, 119, 129]])
    assert due["A0"].tolist() == [0.5] * 4
    gone = {key: panel.array(key).copy() for key in panel.fields}
    for values in gone.values():
        values[105:, 1] = np.nan
    later = fc.Panel(gone, panel.times, panel.assets)
    assert strategy.decide_many(later, panel.times[109:110])["A1"].tolist() == [0.0]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("name,share\nA,1\n", "has the columns name, share"),
        ("asset,weight\nA,much\n", "line 2: weight is 'much'"),
        ("asset,weight\nA,.5\nA,.5\n", "names A twice"),
    ],
)
def test_a_book_that_is_none_is_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(DataError, match=match):
        read_book(tmp_path / "b.csv")


def test_weights_that_the_data_lack_are_named(panel: fc.Panel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lack ZZ \(25% of the book\)"):
        fc.FixedWeights({"A0": 0.75, "ZZ": 0.25}).fit(panel)
    with pytest.raises(ConfigError, match="holds nothing"):
        fc.FixedWeights({}).fit(panel)
    with pytest.raises(DataError, match="cannot be read"):
        read_book(tmp_path / "none.csv")
    pd.DataFrame({"asset": ["A0"], "weight": [1.0], "knowledge_until": ["2050-01-01"]}).to_csv(tmp_path / "b.csv")
    assert fc.FixedWeights(str(tmp_path / "b.csv")).fit(panel).knowledge_until_ == pd.Timestamp("2050-01-01")
