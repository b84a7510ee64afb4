"""A fund's earlier book as a condition: which one is found, how much of it carries over, what it changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from foliocast.core.errors import ConfigError, DataError
from foliocast.data.funds import build_corpus
from foliocast.data.sources.holdings import from_table
from foliocast.features.funds import EPOCH, FIELDS, NUMBERS, Vocabulary, tokens_of
from foliocast.models.funds.generator import FundGenerator
from foliocast.models.funds.memory import Carry, Earlier, Memory
from foliocast.models.funds.requests import FundRequest
from foliocast.workflows.fund_scores import as_book, previous_filing, score_known
from foliocast.workflows.generate import GenerateOptions, generate, started
from unit.funds.fund_market import make_corpus


@pytest.fixture(scope="module")
def generator() -> FundGenerator:
    corpus = make_corpus()
    early = corpus.select((corpus.filings["as_of"] < "2020-12-31").to_numpy())
    return FundGenerator(
        latent=32, hidden=64, vae_epochs=1, tower_epochs=20, towers=1, latent_epochs=8, random_state=0
    ).fit(early)


def overlap(books: pd.DataFrame, other: pd.Series) -> float:
    shared = books.columns.intersection(other.index)
    return float(np.minimum(books[shared].to_numpy(), other[shared].to_numpy()).sum(axis=1).mean())


def day(date: str) -> int:
    return (pd.Timestamp(date) - EPOCH).days


# ---- which book


def memory_of(families: dict[str, str]) -> tuple[Memory, Vocabulary]:
    """Two filings each of funds, some of one family, that differ in cap."""
    rows = [
        (fund, f"{2020 + y}-03-31", f"{2020 + y}-05-15", f"{fund}{y}", f"T{k}", 1.0)
        for fund in families
        for y in range(2)
        for k in range(3)
    ]
    table = pd.DataFrame(rows, columns=["fund", "as_of", "known_at", "accession", "ticker", "weight"])
    described = pd.DataFrame(
        {"manager": families, "cap": {f: f"{'small' if f == 'b' else 'large'}-cap" for f in families}}
    )
    corpus = build_corpus(from_table(table), described)
    vocabulary = Vocabulary.of(corpus.filings)
    return Memory.of(corpus.filings, corpus.weights, *tokens_of(corpus.filings, vocabulary)), vocabulary


def said(vocabulary: Vocabulary, **words: str) -> np.ndarray:
    return np.array([vocabulary.index(f, words.get(f)) for f in FIELDS])


def test_only_what_had_been_filed_is_found() -> None:
    memory, vocabulary = memory_of({"a": "ann", "b": "bob"})
    ann = said(vocabulary, manager="ann")
    assert memory.last(ann, day("2020-05-14")) is None
    first, second = memory.last(ann, day("2021-05-14")), memory.last(ann, day("2021-05-15"))
    assert first is not None
    assert second is not None
    assert memory.as_of[first] == day("2020-03-31")
    assert memory.as_of[second] == day("2021-03-31")
    assert memory.last(said(vocabulary), day("2022-01-01")) is None
    assert memory.earlier(second) == first
    assert memory.earlier(first) is None


def test_of_a_family_of_funds_only_the_one_that_is_meant_is_found() -> None:
    memory, vocabulary = memory_of({"a": "house", "b": "house"})
    assert memory.last(said(vocabulary, manager="house"), day("2022-01-01")) is None
    small = memory.last(said(vocabulary, manager="house", cap="small-cap"), day("2022-01-01"))
    assert small is not None
    assert memory.funds[memory.fund[small]] == "b"


def test_a_word_the_fund_has_borne_before_is_no_news() -> None:
    memory, vocabulary = memory_of({"a": "ann"})
    style = FIELDS.index("style")
    styles = vocabulary.words["style"]
    assert len(styles) <= 1  # three names without attributes have no style; give the filings some
    memory.words[:, style] = [1, 2]
    asked = said(vocabulary, manager="ann")
    for word, heard in ((1, 1), (2, 2), (3, 2)):
        asked[style] = word
        assert memory.heard(1, asked)[style] == heard
    asked[style] = 2
    assert memory.heard(0, asked)[style] == 1  # what it will bear later it has not borne yet


# ---- how much carries over


def one_book(weights: torch.Tensor, age: float) -> Earlier:
    words = torch.zeros(1, len(FIELDS), dtype=torch.long)
    return Earlier(weights, torch.tensor([age]), words, torch.zeros(1, len(NUMBERS)))


def test_the_mixture_keeps_a_share_that_falls_with_age_and_with_change() -> None:
    carry, h = Carry().eval(), torch.tensor([[0.7, 0.3, 0.0, 0.0]])
    now = torch.log(torch.tensor([[0.1, 0.1, 0.3, 0.5]]))
    with torch.no_grad():
        got = carry(now, now, torch.zeros(1, 3), one_book(h, 0.25))
        k = float(got.kept)
        assert torch.allclose(got.log_likely.exp(), k * h + (1 - k) * now.exp(), atol=1e-6)  # nothing changed: no lean
        assert float(carry(now, now, torch.zeros(1, 3), one_book(h, 4.0)).kept) < k
        then = torch.log(torch.tensor([[0.5, 0.3, 0.1, 0.1]]))
        moved = carry(now, then, torch.zeros(1, 3), one_book(h, 0.25))
        assert float(moved.kept) < k
        # What the description leans away from loses within the book: h (p / q)^gamma.
        leant = h[0, :2] * (now.exp() / then.exp())[0, :2] ** carry.lean
        leant = leant / leant.sum() * moved.kept
        assert torch.allclose(moved.log_likely.exp()[0, :2], leant + (1 - moved.kept) * 0.1, atol=1e-6)
        half = carry(now, now, torch.zeros(1, 3), one_book(h * torch.tensor([1.0, 0.0, 0.0, 0.0]), 0.25))
        assert float(half.kept) < 0.71 * k + 0.01  # what may not be held any more does not carry over


def test_without_an_earlier_book_nothing_changes() -> None:
    carry, now = Carry(), torch.log_softmax(torch.randn(2, 5), dim=1)
    shape = torch.randn(2, 3)
    books = Earlier(
        torch.zeros(2, 5), torch.ones(2), torch.zeros(2, len(FIELDS), dtype=torch.long), torch.zeros(2, len(NUMBERS))
    )
    with torch.no_grad():
        got = carry(now, now, shape, books)
    assert torch.equal(got.log_likely, now)
    assert torch.equal(got.shape, shape)
    assert (got.spread == 1).all()
    assert (got.kept == 0).all()


# ---- the generator


def test_a_known_manager_is_followed_from_his_last_book(generator: FundGenerator) -> None:
    corpus = make_corpus()
    row = int(np.flatnonzero((corpus.filings["fund"] == "fund3") & (corpus.filings["as_of"] == "2020-06-30"))[0])
    book = corpus.holdings(row)
    prompt = "fund3, Sep 2020"
    followed = generator.generate(prompt, n=6)
    assert followed.attrs["previous"] == {
        "fund": "fund3", "as_of": "2020-06-30", "filed": "2020-08-09", "kept": followed.attrs["previous"]["kept"],
    }  # fmt: skip
    free = generator.generate(prompt, n=6, previous=False)
    assert free.attrs["previous"] is None
    assert overlap(followed, book) > overlap(free, book) + 0.1
    w = followed.to_numpy()
    assert max(np.minimum(w[i], w[j]).sum() for i in range(6) for j in range(i)) < 0.999  # and still samples differ
    # On 2020-07-15 the book of June had not been filed: the model goes back to the one before.
    assert generator.generate("fund3", date="2020-07-15", n=1).attrs["previous"]["as_of"] == "2020-03-31"
    barred = generator.generate(prompt, n=3, exclude=[book.index[0]], max_weight=0.2)
    assert book.index[0] not in barred
    assert barred.to_numpy().max() <= 0.2 + 1e-12


def test_a_book_that_is_handed_in_may_hold_names_the_model_has_never_seen(generator: FundGenerator) -> None:
    own = pd.DataFrame({"weight": [5.0, 3.0, 2.0], "sector": "technology"}, index=["NEW1", "G01", "G02"])
    books = generator.generate("growth, n=4, Sep 2020", n=3, previous=own)
    assert (books["NEW1"] > 0.2).all()
    assert books.attrs["previous"]["fund"] == "handed in"
    series = pd.Series([0.5, 0.5], index=["G01", "NEW2"])
    series.attrs["date"] = "2019-09-30"
    old = generator.generate("growth, n=4, Sep 2020", n=1, previous=series)
    assert old.attrs["previous"]["as_of"] == "2019-09-30"
    series.attrs["date"] = "2021-09-30"
    with pytest.raises(ConfigError, match="after the date asked for"):
        generator.generate("growth, Sep 2020", n=1, previous=series)
    with pytest.raises(DataError, match="none negative or missing"):
        generator.generate("growth, Sep 2020", n=1, previous=pd.Series([-1.0, 2.0], index=["G01", "G02"]))


def test_requests_remember_each_its_own_manager(generator: FundGenerator) -> None:
    both = generator.generate_many(
        [
            FundRequest("fund3", "2020-09-30"),
            FundRequest("growth", "2020-09-30"),
            FundRequest("fund3", "2020-09-30", previous=False),
        ]
    )
    told = [book.attrs["previous"] for book in both if book is not None]
    assert told[0]["fund"] == "fund3"
    assert told[1:] == [None, None]


def test_it_is_remembered_when_saved(generator: FundGenerator, tmp_path: Path) -> None:
    generator.save(tmp_path / "model")
    again = FundGenerator.load(tmp_path / "model")
    a, b = (g.generate("fund3, Sep 2020", n=1, diversity=0.0) for g in (generator, again))
    assert a.attrs["previous"]["fund"] == b.attrs["previous"]["fund"] == "fund3"
    assert overlap(a, b.iloc[0]) > 0.99


def test_funds_it_knows_are_scored_on_their_next_filing(generator: FundGenerator) -> None:
    corpus = make_corpus()
    scores = score_known(generator, corpus, n=2)
    assert set(scores["rival"]) == {"from its last filing", "samples", "by name only", "previous filing"}
    assert scores["fund"].nunique() == 30
    mean = scores.groupby("rival")["overlap"].mean()
    assert mean["from its last filing"] > mean["by name only"]
    first = corpus.filings.iloc[0]
    assert previous_filing(corpus, first) is None
    last = previous_filing(corpus, corpus.filings.iloc[1])
    assert last == 0
    assert as_book(corpus, 0).attrs["date"] == "2020-03-31"


def test_the_verb_says_where_it_starts_and_what_that_moved(generator: FundGenerator, tmp_path: Path) -> None:
    got = generate("fund3, Sep 2020", n=2, generator=generator, out=tmp_path)
    assert started(got.summary).startswith(
        "It starts from the book of fund3 of 2020-06-30, filed 2020-08-09, and keeps"
    )
    assert "previous" in got.influence.index
    assert json.loads((tmp_path / "generate.json").read_text())["previous"]["fund"] == "fund3"
    assert "book of fund3" in (tmp_path / "generate.html").read_text()
    free = generate("fund3, Sep 2020", n=2, generator=generator, options=GenerateOptions(previous="none"))
    assert started(free.summary) == ""
    (tmp_path / "mine.csv").write_text("asset,weight\nG01,0.6\nG02,0.4\n")
    mine = generate(
        "growth, n=3, Sep 2020", n=1, generator=generator, options=GenerateOptions(previous=str(tmp_path / "mine.csv"))
    )
    assert mine.weights["G01"].iloc[0] > 0.3
