"""Score the fund generator on held-out funds and dates; prints the tables of docs/explain/funds.md.

    python scripts/score_funds.py DATA --model PREFIX [--folds 0,2] [--cut 2023-08-31]

The model of a fold is kept in the folder PREFIX + fold, trained there first if there is none. Scores are pooled over
the folds, whose test funds do not overlap; the other parts use the last fold.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from foliocast.data.funds import FundCorpus
from foliocast.models.funds.generator import FundGenerator
from foliocast.workflows.fund_scores import (
    SCORES,
    Split,
    nearest_training,
    score_held_out,
    split_corpus,
    spread,
    summary,
)


def show(scores: pd.DataFrame, title: str) -> None:
    table = summary(scores)

    def cell(rival: str, score: str, what: str, form: str) -> str:
        names = [(score, what), *((score, f"{what}_{end}" if what != "mean" else end) for end in ("low", "high"))]
        value, low, high = (format(table.loc[rival, name], form) for name in names)
        return f"{value} [{low}, {high}]"

    print(f"\n### {title}\n\n| | " + " | ".join(SCORES) + " |\n|---" + "|---" * len(SCORES) + "|")
    for rival in table.index:
        print(f"| {rival} | " + " | ".join(cell(rival, s, "mean", ".3f") for s in SCORES) + " |")
    for rival in [r for r in table.index if r != "generated"]:
        cells = " | ".join(cell(rival, s, "advantage", "+.3f") for s in SCORES)
        print(f"| advantage over {rival} | {cells} |")


def model(folder: Path, split: Split, vae_epochs: int = 3) -> FundGenerator:
    if not folder.exists():
        FundGenerator(vae_epochs=vae_epochs).fit(split.train, lambda part, row: print(part, row, flush=True)).save(
            folder
        )
    return FundGenerator.load(folder)


def controllability(generator: FundGenerator) -> None:
    """Change one thing in many prompts: how often, and how far, does the measured property follow?"""
    table = generator.securities_
    sectors, size, growth = table.sector, table.size, table.growth
    index = pd.Index(table.tickers)
    rng = np.random.default_rng(3)

    def tilt(books: pd.DataFrame, values: np.ndarray) -> float:
        v = values[index.get_indexer(books.columns)]
        w = books.to_numpy()
        known = np.isfinite(v)
        return float((w[:, known] @ v[known] / w[:, known].sum(axis=1)).mean())

    def share(books: pd.DataFrame, sector: int) -> float:
        return float(books.to_numpy()[:, sectors[index.get_indexer(books.columns)] == sector].sum(axis=1).mean())

    changes = {
        "value -> growth (growth tilt)": ("style=value", "style=growth", lambda b: tilt(b, growth)),
        "large-cap -> small-cap (size, falls)": ("cap=large-cap", "cap=small-cap", lambda b: -tilt(b, size)),
        "20 -> 200 names (holdings)": ("n=20", "n=200", lambda b: float((b > 0).sum(axis=1).mean())),
        "sector technology -> energy (energy share)": ("sector=technology", "sector=energy", lambda b: share(b, 3)),
        "sector financials -> health care (health share)": (
            "sector=financials",
            "sector=health care",
            lambda b: share(b, 5),
        ),
        "technology 10 % -> 50 % (technology share)": ("technology=10%", "technology=50%", lambda b: share(b, 9)),
    }
    kinds, years = ("hedge fund", "mutual fund", "adviser"), range(2015, 2024)
    print("\n| change | right direction | mean effect |\n|---|---|---|")
    for label, (a, b, read) in changes.items():
        effects = []
        for k in range(40):
            rest = f"{rng.choice(kinds)}, US, Sep {rng.choice(years)}"
            rest += "" if "n=" in a else f", n={rng.integers(10, 80)}"
            first, second = (generator.generate(f"{x}, {rest}", n=4, random_state=k) for x in (a, b))
            effects.append(read(second) - read(first))
        print(f"| {label} | {np.mean(np.array(effects) > 0):.0%} | {np.mean(effects):+.3f} |", flush=True)


def variety(generator: FundGenerator, split: Split) -> None:
    """Are samples of a prompt different, and are they copies?"""
    train, test = split.train, split.test
    at = train.securities.index
    pairs, copies = [], []
    rows = np.linspace(0, len(test) - 1, 25).astype(int)
    for i in rows:
        f = test.filings.iloc[i]
        words = ", ".join(str(f[c]) for c in ("legal_type", "style", "cap", "sector") if f[c])
        made = generator.generate(
            f"{words}, {f['as_of']:%b %Y}, n={int(min(f['n_holdings'], 300))}", n=8, random_state=int(i)
        )
        wide = np.zeros((len(made), len(at)))
        wide[:, at.get_indexer(made.columns)] = made.to_numpy()
        pairs.append(spread(wide))
        copies += list(nearest_training(wide[:2], train.weights))
    real = nearest_training(test.weights[rows].toarray(), train.weights)
    q = [10, 50, 90, 100]
    print(f"\nmean pairwise overlap of samples of one prompt: {np.mean(pairs):.3f} (at most {np.max(pairs):.3f})")
    print("nearest training overlap, generated (10/50/90/100 %):", np.percentile(copies, q).round(3))
    print("nearest training overlap, held-out funds:            ", np.percentile(real, q).round(3))


def berkshire(corpus: FundCorpus, folder: Path) -> None:
    """Berkshire at 2023-06-30, from filings before it and, if the split holds Berkshire out, from a prompt only."""
    f = corpus.filings
    row = int(np.flatnonzero((f["manager"] == "buffett") & (f["as_of"] == "2023-06-30"))[0])
    early = (f["known_at"] < f["known_at"].iloc[row]).to_numpy()
    part = Split(corpus.select(early), corpus.select(np.array([row])))
    models = {"earlier filings": model(folder.with_name(f"{folder.name}-before-berkshire"), part, 1)}
    held_out = FundGenerator.load(folder)
    if "buffett" not in held_out.vocabulary_.words["manager"]:
        models["prompt only"] = held_out
    for title, generator in models.items():
        truth = corpus.holdings(row)
        prompts = {
            "words": "Buffett, closed-end fund, value, large-cap, Jun 2023",
        }
        prompts["words and numbers"] = f"{prompts['words']}, n={len(truth)}, top={truth.iloc[0]:.3f}"
        for name, prompt in prompts.items():
            made = generator.generate(prompt, n=100, random_state=0)
            both = made.reindex(columns=made.columns.union(truth.index), fill_value=0.0)
            overlap = both.clip(upper=truth.reindex(both.columns).fillna(0.0), axis=1).sum(axis=1)
            first = (made.idxmax(axis=1) == truth.index[0]).mean()
            print(f"\n**{title}, {name}**: overlap {overlap.mean():.3f} (10-90 %: {overlap.quantile(0.1):.3f} to "
                  f"{overlap.quantile(0.9):.3f}), {truth.index[0]} first in {first:.0%}")  # fmt: skip
            top = made.mean().sort_values(ascending=False).head(10)
            print("| true | weight | generated (mean of 100) | weight |\n|---|---|---|---|")
            for (a, x), (b, y) in zip(truth.head(10).items(), top.items()):
                print(f"| {a} | {x:.3f} | {b} | {y:.3f} |")


def validity(generator: FundGenerator, count: int) -> None:
    """Random prompts with random limits: every portfolio checked."""
    rng = np.random.default_rng(11)
    words = generator.vocabulary_.words
    spans = generator.securities_
    index = pd.Index(list(spans.tickers))
    worst, outside, broken, made = 0.0, 0, 0, 0
    for k in range(count):
        said = {
            f: rng.choice(words[f])
            for f in ("legal_type", "strategy", "style", "cap", "theme", "sector")
            if rng.random() < 0.5
        }
        date = pd.Timestamp("2014-01-01") + pd.Timedelta(days=int(rng.integers(0, 3950)))
        cap = float(rng.uniform(0.05, 1.0))
        n = int(rng.integers(np.ceil(1 / cap), 120))
        limit = float(rng.uniform(0.2, 1.0))
        books = generator.generate(
            said,
            n=1,
            random_state=k,
            date=date,
            max_weight=cap,
            n_holdings=n,
            sector_caps={"technology": limit},
            steps=6,
        )
        w = books.to_numpy()
        at = index.get_indexer(books.columns)
        worst = max(worst, float(np.abs(w.sum(axis=1) - 1).max()))
        outside += int((~spans.at(date)[at]).sum())
        tech = w[:, spans.sector[at] == 9].sum()
        broken += int((w < 0).any() or w.max() > cap + 1e-12 or tech > limit + 1e-12 or (w > 0).sum() != n)
        made += 1
    print(
        f"\n{made} random prompts: |sum - 1| at most {worst:.1e}, "
        f"{outside} names outside the universe, {broken} limits broken"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="a saved corpus (FundCorpus.save), or the folder of development data")
    parser.add_argument("--model", required=True, help="prefix of the folders of the models")
    parser.add_argument("--folds", default="0,2")
    parser.add_argument("--cut", default="2023-08-31")
    parser.add_argument("--parts", default="scores,control,variety,berkshire,validity")
    parser.add_argument("--prompts", type=int, default=1000, help="random prompts of the validity check")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if (args.corpus / "filings.parquet").is_file():
        corpus = FundCorpus.load(args.corpus)
    else:
        from train_funds import assemble

        corpus = assemble(args.corpus)
    started = time.time()
    parts = args.parts.split(",")
    splits = {fold: split_corpus(corpus, args.cut, int(fold)) for fold in args.folds.split(",")}
    models = {fold: model(Path(f"{args.model}{fold}"), split) for fold, split in splits.items()}
    if "scores" in parts:
        tested = [len(s.test) for s in splits.values()], [s.test.filings["fund"].nunique() for s in splits.values()]
        print(
            f"trained on {[len(s.train) for s in splits.values()]} filings, tested on {tested[0]} of {tested[1]} funds"
        )
        for numbers, title in ((True, "Prompt with numbers"), (False, "Words and date only")):
            found = [score_held_out(models[f], splits[f], corpus, numbers=numbers) for f in splits]
            show(pd.concat(found), title)
    fold, split = list(splits.items())[-1]
    generator = models[fold]
    if "control" in parts:
        controllability(generator)
    if "variety" in parts:
        variety(generator, split)
    if "validity" in parts:
        validity(generator, args.prompts)
    if "berkshire" in parts:
        berkshire(corpus, Path(f"{args.model}{fold}"))
    print(f"\n{time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
