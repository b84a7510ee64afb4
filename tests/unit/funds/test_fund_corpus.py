"""The corpus: what was known when, tags against hand-made numbers, prompts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from foliocast.core.errors import ConfigError, DataError
from foliocast.data.funds import FundCorpus, build_corpus, canonical_ticker
from foliocast.data.sources.holdings import from_table
from foliocast.features.funds import (
    SECTORS,
    Vocabulary,
    descriptive,
    market_tags,
    measure,
    read_date,
    sector_from_issuer,
    tokens,
    words_in,
)


def table(**columns: object) -> pd.DataFrame:
    base = {"fund": "f", "as_of": "2020-03-31", "known_at": "2020-05-15", "accession": "a1"}
    return pd.DataFrame({**base, **columns})


def test_asof_sees_filings_made_by_then_and_the_last_version() -> None:
    first = table(ticker=["A", "B", "C"], weight=[0.5, 0.3, 0.2])
    restated = table(ticker=["A", "B", "C"], weight=[0.1, 0.1, 0.8], known_at="2020-09-01", accession="a2")
    restated["amendment"] = "restatement"
    later = table(ticker=["A", "B", "C"], weight=[1, 1, 1], as_of="2020-06-30", known_at="2020-08-14", accession="a3")
    corpus = build_corpus(from_table(pd.concat([first, restated, later])))
    assert len(corpus.asof("2020-05-14")) == 0
    assert corpus.asof("2020-05-15").holdings(0).to_dict() == pytest.approx({"A": 0.5, "B": 0.3, "C": 0.2})
    final = corpus.asof("2020-09-01")
    assert len(final) == 2
    march = int(np.flatnonzero(final.filings["as_of"] == "2020-03-31")[0])
    assert final.holdings(march).idxmax() == "C"


def test_universe_ends_a_while_after_the_last_report() -> None:
    old = table(ticker=["A", "B", "C"], weight=[1, 1, 1])
    new = table(ticker=["B", "C", "D"], weight=[1, 1, 1], as_of="2021-06-30", known_at="2021-08-14", accession="b")
    corpus = build_corpus(from_table(pd.concat([old, new])))
    names = np.array(corpus.securities.index)
    assert set(names[corpus.universe("2020-04-30")]) == {"A", "B", "C"}
    assert set(names[corpus.universe("2020-12-31")]) == {"B", "C"}
    assert set(names[corpus.universe("2022-01-01")]) == {"B", "C", "D"}
    assert not corpus.universe("2019-12-31").any()


def test_options_cash_and_nameless_rows_stay_out(tmp_path: Path) -> None:
    rows = table(ticker=["A", "B", "C", "A", "", "USD"], weight=[2, 1, 1, 9, 9, 9])
    rows["put_call"] = ["", "", "", "Put", "", ""]
    rows["asset_class"] = ["Equity"] * 5 + ["Cash"]
    corpus = build_corpus(from_table(rows))
    assert corpus.holdings(0).to_dict() == pytest.approx({"A": 0.5, "B": 0.25, "C": 0.25})
    corpus.save(tmp_path / "c")
    again = FundCorpus.load(tmp_path / "c")
    assert (again.weights != corpus.weights).nnz == 0
    pd.testing.assert_frame_equal(again.filings, corpus.filings, check_dtype=False)
    with pytest.raises(DataError, match="no corpus"):
        FundCorpus.load(tmp_path)
    with pytest.raises(DataError, match="no filing with 9"):
        build_corpus(from_table(rows), min_names=9)


def test_tickers_have_one_spelling() -> None:
    assert canonical_ticker(pd.Series(["brk.B", "BRK-B", "FB", "7203.T", "BF/A"])).tolist() == [
        "BRKB", "BRKB", "META", "7203.T", "BFA",
    ]  # fmt: skip


def test_tags_against_hand_made_numbers() -> None:
    weights = sparse.csr_matrix([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
    securities = pd.DataFrame(
        {"sector": ["technology", "energy", ""], "size": [1.0, 0.5, np.nan], "growth": [1.0, -1.0, np.nan]},
        index=["A", "B", "C"],
    )
    tags = measure(weights, securities)
    assert tags["n_holdings"].tolist() == [3, 1]
    assert tags["effective_n"].tolist() == pytest.approx([1 / 0.375, 1.0])
    assert tags.loc[0, "size"] == pytest.approx((0.5 + 0.125) / 0.75)
    assert tags.loc[0, "growth"] == pytest.approx(0.25 / 0.75)
    assert tags.loc[0, "technology"] == pytest.approx(2 / 3)
    assert tags.loc[1, [*SECTORS, "size"]].isna().all()
    words = descriptive(tags)
    assert words.loc[0, ["style", "cap", "sector", "strategy"]].tolist() == [
        "growth", "large-cap", "technology", "thematic",
    ]  # fmt: skip


def test_market_tags_read_no_price_after_their_date() -> None:
    rng = np.random.default_rng(0)
    days = pd.bdate_range("2019-01-01", periods=600)
    common = rng.normal(0, 0.01, 600)
    prices = pd.DataFrame(
        {"A": np.cumprod(1 + 2 * common), "B": np.cumprod(1 + 0.0 * common), "C": np.cumprod(1 + common)}, index=days
    )
    weights = sparse.csr_matrix([[1.0, 0.0, 0.0]])
    day = days[400]
    before = market_tags(weights, ["A", "B", "C"], [day], prices)
    assert before.loc[0, "beta"] == pytest.approx(2.0, rel=1e-6)  # the market is the mean, beta 1
    prices.iloc[401:] *= 3.0
    pd.testing.assert_frame_equal(before, market_tags(weights, ["A", "B", "C"], [day], prices))
    assert market_tags(weights, ["A", "B", "C"], [days[-1] + pd.Timedelta(days=30)], prices).isna().all(axis=None)


def test_sectors_from_words_and_words_from_names() -> None:
    assert sector_from_issuer(["FIRST BANK CORP", "ACME THERAPEUTICS INC", "XQZ"]) == ["financials", "health-care", ""]
    assert words_in("Blue Small Cap Value Fund Class A") == {"style": "value", "cap": "small-cap"}


VOCABULARY = Vocabulary(
    {
        "manager": ("buffett", "gates"),
        "legal_type": ("closed-end", "etf"),
        "strategy": ("thematic",),
        "style": ("growth", "value"),
        "cap": ("large-cap",),
        "theme": (),
        "sector": ("technology",),
        "geography": ("us", "chile"),
    },
    {"warren buffett": "buffett"},
)


def test_the_example_prompt_is_understood() -> None:
    said = VOCABULARY.parse("Buffett, Closed-End Fund, Thematic, Value, Large-Cap, Sep 2023")
    assert said.fields == {
        "manager": "buffett", "legal_type": "closed-end", "strategy": "thematic", "style": "value", "cap": "large-cap",
    }  # fmt: skip
    assert said.date == pd.Timestamp("2023-09-30")
    assert said.unknown == ()


def test_typed_prompts_sentences_and_unknown_words() -> None:
    said = VOCABULARY.parse(
        "style=growth, tech=40%, n=20, date=2022Q2, 5 wibble names, a US fund of growth and glitter"
    )
    assert said.numbers == {"technology": 0.4, "n_holdings": 20.0}
    assert said.fields == {"style": "growth", "geography": "us"}
    assert said.date == pd.Timestamp("2022-06-30")
    assert "glitter" in " ".join(said.unknown)
    assert "wibble" in " ".join(said.unknown)
    assert VOCABULARY.parse("Warren Buffett, 30 holdings").numbers == {"n_holdings": 30.0}
    assert VOCABULARY.parse({"style": "value", "top_weight": 0.2}).numbers == {"top_weight": 0.2}
    assert VOCABULARY.parse("manager=nobody").unknown == ("manager=nobody",)
    assert said.without("style").fields == {"geography": "us"}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("colour=red", "neither a field"),
        ("n=many", "expected a number"),
        ("technology=4", "fraction from 0 to 1"),
        ("n=0", "at least 1"),
        ("date=soon", "no date"),
    ],
)
def test_wrong_prompts_are_refused(text: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        VOCABULARY.parse(text)


def test_dates_in_words() -> None:
    expect = {"Sep 2023": "2023-09-30", "september 2023": "2023-09-30", "2023-02": "2023-02-28", "2023": "2023-12-31"}
    expect |= {"2023Q3": "2023-09-30", "q1 2020": "2020-03-31", "2023-09-15": "2023-09-15"}
    for text, date in expect.items():
        assert read_date(text) == pd.Timestamp(date), text
    assert read_date("value") is None


def test_tokens_say_what_was_said_and_nothing_else() -> None:
    words, numbers = tokens([VOCABULARY.parse("value, n=20"), VOCABULARY.parse("")], VOCABULARY)
    assert (words[1] == 0).all()
    assert np.isnan(numbers[1]).all()
    assert (words[0] != 0).sum() == 1
    assert np.isfinite(numbers[0]).sum() == 1


def test_unknown_parts_are_read_by_meaning_if_an_encoder_is_there() -> None:
    from foliocast.models.funds.text import understand

    meanings = {"computers chips": "tech", "cheap": "value", "blue cheese": "moon"}

    def encode(sentences: list[str]) -> np.ndarray:
        names = ["tech", "value", "moon"]
        return np.array([[float(meanings.get(s, s) == n) for n in names] for s in sentences])

    said = VOCABULARY.parse("computers and chips, cheap companies, blue cheese")
    assert len(said.unknown) == 3
    found = understand(said, VOCABULARY, encode)
    assert found.fields == {"sector": "technology", "style": "value"}
    assert found.unknown == ("blue cheese",)


def test_a_part_that_is_as_near_to_one_word_as_to_another_stays_unknown() -> None:
    from foliocast.models.funds.text import understand

    def encode(sentences: list[str]) -> np.ndarray:
        one, two = np.array([1.0, 0.0]), np.array([0.0, 1.0])
        table = {"value": one, "growth": two, "investing": one + two, "bargains": one + 0.2 * two}
        return np.stack([table.get(s, np.array([0.1, -1.0])) for s in sentences])

    assert understand(VOCABULARY.parse("investing"), VOCABULARY, encode).unknown == ("investing",)
    assert understand(VOCABULARY.parse("bargains"), VOCABULARY, encode).fields == {"style": "value"}
