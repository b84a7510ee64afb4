"""The packaged fund generator: its card, validity over random prompts, and that words move what they name."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pandas as pd
import pytest

import foliocast as fc
from foliocast.models.funds.generator import FundGenerator
from foliocast.models.funds.requests import FundRequest
from foliocast.workflows.fund_validity import check_validity, faults


@pytest.fixture(scope="module")
def generator() -> FundGenerator:
    return fc.FundGenerator.load("default")


def test_the_packaged_model_is_small_and_says_what_it_knows(generator: FundGenerator) -> None:
    folder = resources.files("foliocast.models.funds") / "weights" / "default"
    size = sum(len((folder / name).read_bytes()) for name in ("weights.safetensors", "card.json"))
    assert size < 30e6
    assert pd.Timestamp("2024-11-01") < generator.knowledge_until_ <= pd.Timestamp("2024-12-31")


def test_the_prompt_of_the_mission(generator: FundGenerator) -> None:
    books = generator.generate("Buffett, Closed-End Fund, Thematic, Value, Large-Cap, Sep 2023", n=8, random_state=0)
    assert books.attrs["unknown"] == []
    assert books.shape[0] == 8
    assert np.abs(books.to_numpy().sum(axis=1) - 1).max() < 1e-9
    # Five holdings that Berkshire is known for must be among what its name brings up.
    assert len(set(books.columns[:12]) & {"AAPL", "BAC", "KO", "AXP", "CVX", "OXY", "KHC", "MCO"}) >= 5


def test_random_prompts_give_valid_portfolios(generator: FundGenerator) -> None:
    found = check_validity(generator, 120, seed=1, steps=4)
    assert found.made >= 110
    assert found.worst["|sum - 1|"] < 1e-9
    assert {name: value for name, value in found.worst.items() if value > 1e-9} == {}


def test_the_check_of_validity_sees_every_fault(generator: FundGenerator) -> None:
    asked = FundRequest("value", "2020-12-31", 0.4, ("AAPL",), ("MSFT", "AAPL", "KO"), 2, {"technology": 0.3})
    wrong = pd.Series({"AAPL": 0.7, "MSFT": 0.3, "JPM": 0.2, "KO": -0.1})
    found = faults(generator, asked, wrong)
    assert found["negative weight"] == pytest.approx(0.1)
    assert found["|sum - 1|"] == pytest.approx(0.1)
    assert found["names outside the universe at the date"] == 1
    assert found["excluded names"] == 1
    assert found["weight over the largest allowed"] == pytest.approx(0.3)
    assert found["sector over its cap"] == pytest.approx(0.7)
    assert found["number of holdings off"] == 1


def test_style_size_and_sector_words_move_what_they_name(generator: FundGenerator) -> None:
    known = generator.securities_
    index = pd.Index(list(known.tickers))

    def tilt(prompt: str, values: np.ndarray) -> float:
        books = generator.generate(f"{prompt}, 30 names, Sep 2021", n=6, random_state=3)
        v, w = values[index.get_indexer(books.columns)], books.to_numpy()
        said = np.isfinite(v)
        return float((w[:, said] @ v[said] / w[:, said].sum(axis=1)).mean())

    assert tilt("growth, adviser", known.growth) > tilt("value, adviser", known.growth) + 0.05
    assert tilt("large-cap, adviser", known.size) > tilt("small-cap, adviser", known.size) + 0.05
    energy = (known.sector == 3).astype(float)
    assert tilt("sector=energy, adviser", energy) > tilt("sector=technology, adviser", energy) + 0.1


def test_a_country_has_its_own_universe(generator: FundGenerator) -> None:
    books = generator.generate("ETF, index, Chile, Dec 2020, 20 names", n=2)
    country = pd.Series(generator.securities_.country, index=list(generator.securities_.tickers))
    assert (country[books.columns] == "chile").all()
