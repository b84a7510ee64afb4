"""The verb generate, its pictures and tables, and the scores against held-out funds."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from foliocast.core.errors import ConfigError, DataError, LookAheadError
from foliocast.models.funds.generator import FundGenerator
from foliocast.workflows.fund_scores import (
    compare,
    nearest_training,
    score_held_out,
    split_corpus,
    spread,
    summary,
)
from foliocast.workflows.generate import GenerateOptions, generate
from unit.funds.fund_market import make_corpus


@pytest.fixture(scope="module")
def generator() -> FundGenerator:
    split = split_corpus(make_corpus(), "2020-09-01")
    return FundGenerator(latent=32, hidden=64, vae_epochs=1, tower_epochs=40, towers=2, latent_epochs=10).fit(
        split.train
    )


def test_generate_writes_what_it_returns(generator: FundGenerator, tmp_path: Path) -> None:
    make_corpus().save(tmp_path / "corpus")
    options = GenerateOptions(max_weight=0.3, corpus=str(tmp_path / "corpus"))
    got = generate("growth, n=8, wibble", n=3, seed=1, options=options, out=tmp_path / "out", generator=generator)
    assert got.weights.to_numpy().max() <= 0.3 + 1e-12
    assert got.summary["unknown"] == ["wibble"]
    assert got.summary["n_holdings"] == [8, 8, 8]
    assert json.loads((tmp_path / "out" / "generate.json").read_text())["options"]["max_weight"] == 0.3
    again = pd.read_csv(tmp_path / "out" / "weights.csv", index_col=0)
    assert np.allclose(again, got.weights)
    svg = ElementTree.fromstring((tmp_path / "out" / "strip.svg").read_text())
    assert len(svg.findall("{http://www.w3.org/2000/svg}rect")) >= 6 * 8
    text = (tmp_path / "out" / "generate.html").read_text()
    assert "http" not in text.replace("http://www.w3.org", "")
    assert got.nearest is not None
    assert len(got.nearest) == 9
    assert got.nearest["overlap"].between(0, 1).all()


def test_influence_says_that_the_style_moves_its_own_names(generator: FundGenerator) -> None:
    moved = generate("growth, n=8", n=4, generator=generator).influence
    assert set(moved.index) == {"style", "n_holdings"}
    names = [c for c in moved.columns if c.startswith("G")]
    assert moved.loc["style", names].sum() > 0.1


def test_a_decision_before_the_knowledge_is_refused(generator: FundGenerator) -> None:
    with pytest.raises(LookAheadError, match="has seen filings up to"):
        generate("growth", options=GenerateOptions(decide_at="2020-01-01"), generator=generator)
    allowed = GenerateOptions(decide_at="2020-01-01", allow_contaminated=True)
    assert len(generate("growth", n=1, options=allowed, generator=generator).weights) == 1
    with pytest.raises(ConfigError, match="empty"):
        generate("", generator=generator)


def test_scores_of_known_portfolios() -> None:
    truth = np.array([0.5, 0.5, 0.0])
    sector = np.array(["technology", "energy", "energy"])
    same, half = compare(np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]]), truth, sector)
    assert same.tolist() == pytest.approx([1, 1, 1, 0, 0])
    assert half.tolist() == pytest.approx([0.5, 0.5, 0.5, 0, 0])
    assert spread(np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])) == pytest.approx(1 / 3)
    from scipy import sparse

    assert nearest_training(np.array([[0.5, 0.5, 0]]), sparse.csr_matrix([[0, 1.0, 0], [0, 0, 1]])).tolist() == [0.5]


def test_the_split_shares_no_fund_and_no_date() -> None:
    split = split_corpus(make_corpus(), "2020-09-01")
    assert not set(split.train.filings["fund"]) & set(split.test.filings["fund"])
    assert split.train.filings["known_at"].max() <= pd.Timestamp("2020-09-01") < split.test.filings["known_at"].min()
    with pytest.raises(DataError, match="move the cut"):
        split_corpus(make_corpus(), "2030-01-01")


def test_on_a_world_with_styles_it_beats_the_neighbour(generator: FundGenerator) -> None:
    corpus = make_corpus()
    split = split_corpus(corpus, "2020-09-01")
    table = summary(score_held_out(generator, split, corpus, n=4), repeats=200)
    assert set(table.index) == {
        "generated", "samples", "category mean", "prompt neighbour", "previous filing", "reconstruction",
        "from its last filing",
    }  # fmt: skip
    assert table.loc["reconstruction", ("overlap", "mean")] > 0.9
    assert (
        table.loc["generated", ("effective_n_error", "mean")]
        < table.loc["category mean", ("effective_n_error", "mean")]
    )
    row = table.loc["category mean", "overlap"]
    assert row["low"] <= row["mean"] <= row["high"]
    gap = table.loc["generated", ("overlap", "mean")] - row["mean"]
    assert row["advantage"] == pytest.approx(gap)
