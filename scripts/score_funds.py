"""Score the fund generator on held-out funds and dates; prints the tables of docs/explain/funds.md.

    python scripts/score_funds.py DATA --model PREFIX [--folds 0,1,2,3] [--cut 2023-08-31]

The model of a fold is kept in the folder PREFIX + fold, trained there first if there is none. Scores are pooled over
the folds, whose test funds do not overlap; the other parts use the last fold. ``known`` and ``berkshire`` use a model
of all that had been filed before Berkshire's filing for 2023-06-30, kept in PREFIX + fold + "-before-berkshire".
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
    previous_filing,
    score_held_out,
    score_known,
    split_corpus,
    spread,
    summary,
)
from foliocast.workflows.fund_validity import check_validity

AGAINST = {
    "generated": ("category mean", "prompt neighbour", "previous filing"),
    "samples": ("category mean", "prompt neighbour"),
    "from its last filing": ("previous filing", "by name only"),
}
"""Which advantages are shown."""


def show(scores: pd.DataFrame, title: str) -> None:
    """Scores with intervals; advantages (paired, by fund); where the intervals of both themselves lie apart."""
    table = summary(scores, base="generated" if (scores["rival"] == "generated").any() else "from its last filing")

    def cell(rival: str, score: str, what: str, form: str, source: pd.DataFrame = table) -> str:
        names = [(score, what), *((score, f"{what}_{end}" if what != "mean" else end) for end in ("low", "high"))]
        value, low, high = (format(source.loc[rival, name], form) for name in names)
        return f"{value} [{low}, {high}]"

    print(f"\n### {title}\n\n| | " + " | ".join(SCORES) + " |\n|---" + "|---" * len(SCORES) + "|")
    for rival in table.index:
        print(f"| {rival} | " + " | ".join(cell(rival, s, "mean", ".3f") for s in SCORES) + " |")
    for base in [b for b in AGAINST if b in table.index]:
        gains = summary(scores, base=base)
        for rival in [r for r in AGAINST[base] if r in table.index]:
            cells = " | ".join(cell(rival, s, "advantage", "+.3f", gains) for s in SCORES)
            print(f"| {base} over {rival} | {cells} |")
    medians = scores.groupby("rival", sort=False)[["overlap", "sector_l1"]].median()
    print("\nmedians:", ", ".join(f"{r} {m['overlap']:.3f} / {m['sector_l1']:.3f}" for r, m in medians.iterrows()))
    for rival in [r for r in ("category mean", "prompt neighbour") if r in table.index]:
        apart = [s for s in SCORES if _apart(table, rival, s)]
        print(f"\nintervals of generated and {rival} themselves do not touch for: {', '.join(apart) or 'none'}")


def _apart(table: pd.DataFrame, rival: str, score: str) -> bool:
    mine, other = table.loc["generated"], table.loc[rival]
    return bool(mine[score, "low"] > other[score, "high"] or mine[score, "high"] < other[score, "low"])


def model(folder: Path, split: Split, light: bool = False) -> FundGenerator:
    """Trained as the packaged one, but twelve epochs of the diffusion.

    ``light``: one tower, no epoch of the autoencoder and the diffusion; what is likeliest depends on the towers alone.
    """
    if not folder.exists():
        fresh = FundGenerator(vae_epochs=0, latent_epochs=0, towers=1) if light else FundGenerator(latent_epochs=12)
        fresh.fit(split.train, lambda part, row: print(part, row, flush=True)).save(folder)
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


def variety(generator: FundGenerator, splits: list[Split], seen: FundCorpus | None = None) -> None:
    """Do samples of a prompt differ, and are they copies of what the generator has ``seen`` (the last training part)?

    Real held-out funds beside them are those of all splits, each against its own training part.
    """
    seen = splits[-1].train if seen is None else seen
    test = splits[-1].test
    at = seen.securities.index
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
        copies += list(nearest_training(wide[:2], seen.weights))
    real = np.concatenate([nearest_training(s.test.weights.toarray(), s.train.weights) for s in splits])
    q = [10, 50, 90, 100]
    print(f"\nmean pairwise overlap of samples of one prompt: {np.mean(pairs):.3f} (at most {np.max(pairs):.3f})")
    print("nearest training overlap, generated (10/50/90/100 %):", np.percentile(copies, q).round(3))
    print("nearest training overlap, held-out funds:            ", np.percentile(real, q).round(3))


def before_berkshire(corpus: FundCorpus, folder: Path) -> tuple[int, FundGenerator]:
    """Row of Berkshire's filing for 2023-06-30, and a model of everything filed before it."""
    f = corpus.filings
    row = int(np.flatnonzero((f["manager"] == "buffett") & (f["as_of"] == "2023-06-30"))[0])
    early = (f["known_at"] < f["known_at"].iloc[row]).to_numpy()
    part = Split(corpus.select(early), corpus.select(np.array([row])))
    return row, model(folder.with_name(f"{folder.name}-before-berkshire"), part)


def berkshire(corpus: FundCorpus, folder: Path) -> None:
    """Berkshire at 2023-06-30, from filings before it and, if the split holds Berkshire out, from a prompt only."""
    row, informed = before_berkshire(corpus, folder)
    models = {"earlier filings": (informed, True), "earlier filings, by name only": (informed, False)}
    held_out = FundGenerator.load(folder)
    if "buffett" not in held_out.vocabulary_.words["manager"]:
        models["prompt only"] = held_out, False
    truth = corpus.holdings(row)
    last = previous_filing(corpus, corpus.filings.iloc[row])
    if last is not None:
        same = float(np.minimum(corpus.weights[last].toarray(), corpus.weights[row].toarray()).sum())
        print(f"\noverlap of Berkshire's filing before with that for 2023-06-30: {same:.3f}")
    words = "Buffett, closed-end fund, value, large-cap, Jun 2023"
    prompts = {"words": words, "words and numbers": f"{words}, n={len(truth)}, top={truth.iloc[0]:.3f}"}
    for title, (generator, past) in models.items():
        for name, prompt in prompts.items():
            made = generator.generate(prompt, n=100, random_state=0, previous=past)
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
    """Random prompts with random limits: every portfolio checked, the worst of each fault printed."""
    started = time.process_time()
    found = check_validity(generator, count)
    print(
        f"\n{found.made} portfolios of {count} random prompts, {found.refused} refused as contradictory; worst faults:"
    )
    for name, value in found.worst.items():
        print(f"- {name}: {value:.1e}")
    print(f"{time.process_time() - started:.0f} s of processor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="a saved corpus (FundCorpus.save), or the folder of development data")
    parser.add_argument("--model", default="fold", help="prefix of the folders of the models")
    parser.add_argument("--folds", default="0,1,2,3")
    parser.add_argument("--cut", default="2023-08-31")
    parser.add_argument("--parts", default="scores,variety,berkshire")
    parser.add_argument("--light", action="store_true", help="score the likeliest portfolio only")
    parser.add_argument("--packaged", action="store_true", help="control, validity and variety of the packaged model")
    parser.add_argument("--prompts", type=int, default=10000, help="random prompts of the validity check")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if (args.corpus / "filings.parquet").is_file():
        corpus = FundCorpus.load(args.corpus)
    else:
        from train_funds import assemble

        corpus = assemble(args.corpus)
    started = time.time()
    parts = args.parts.split(",")
    if args.packaged:
        packaged = FundGenerator.load("default")
        if "validity" in parts:
            validity(packaged, args.prompts)
        if "control" in parts:
            controllability(packaged)
        if "variety" in parts:
            variety(packaged, [split_corpus(corpus, args.cut, int(fold)) for fold in args.folds.split(",")], corpus)
        return
    splits = {fold: split_corpus(corpus, args.cut, int(fold)) for fold in args.folds.split(",")}
    models = {fold: model(Path(f"{args.model}{fold}"), split, args.light) for fold, split in splits.items()}
    if "scores" in parts:
        tested = [len(s.test) for s in splits.values()], [s.test.filings["fund"].nunique() for s in splits.values()]
        print(
            f"trained on {[len(s.train) for s in splits.values()]} filings, tested on {tested[0]} of {tested[1]} funds"
        )
        for numbers, title in ((True, "Prompt with numbers"), (False, "Words and date only")):
            n = 0 if args.light else 8
            found = [score_held_out(models[f], splits[f], corpus, n=n, numbers=numbers) for f in splits]
            show(pd.concat(found), title)
    fold = list(splits)[-1]
    generator = models[fold]
    if "variety" in parts:
        variety(generator, list(splits.values()))
    if "known" in parts:
        for numbers, title in (
            (True, "Funds it knows, prompt with numbers"),
            (False, "Funds it knows, words and date"),
        ):
            informed = before_berkshire(corpus, Path(f"{args.model}{fold}"))[1]
            show(score_known(informed, corpus, numbers=numbers), title)
    if "berkshire" in parts:
        berkshire(corpus, Path(f"{args.model}{fold}"))
    print(f"\n{time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
