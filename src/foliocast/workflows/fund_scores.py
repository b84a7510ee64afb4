"""How close generated portfolios come to funds that were held out, and what simple rivals reach.

All intervals are bootstrap intervals over *funds*, for the filings of one fund are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from foliocast.core.errors import DataError
from foliocast.data.funds import FundCorpus
from foliocast.features.funds import FIELDS, MEASURES, NUMBERS, SECTORS, Vocabulary, tokens_of
from foliocast.models.funds.generator import FundGenerator

SCORES = ("overlap", "cosine", "top10_recall", "sector_l1", "effective_n_error")
HIGHER_IS_BETTER = {
    "overlap": True,
    "cosine": True,
    "top10_recall": True,
    "sector_l1": False,
    "effective_n_error": False,
}


@dataclass(frozen=True)
class Split:
    """Training filings, and filings of funds never trained on made after every training filing."""

    train: FundCorpus
    test: FundCorpus


def split_corpus(
    corpus: FundCorpus,
    cut: str | pd.Timestamp,
    fold: int = 0,
    folds: int = 4,
    forms: Sequence[str] = ("13F-HR", "NPORT-P"),
    seed: int = 7,
) -> Split:
    """Hold out every ``folds``-th fund of these forms and every filing after the cut.

    Training: funds not held out, filed by the cut. Test: held-out funds, filed after it.
    """
    filings = corpus.filings
    names = np.array(sorted(filings["fund"].unique()))
    np.random.default_rng(seed).shuffle(names)
    names = names[np.isin(names, filings.loc[filings["form"].isin(list(forms)), "fund"].unique())]
    held = filings["fund"].isin(names[fold::folds]).to_numpy()
    early = (filings["known_at"] <= pd.Timestamp(cut)).to_numpy()
    if not (held & ~early).any() or not (~held & early).any():
        raise DataError(f"no filing is left on one side of {cut} in fold {fold}; move the cut")
    return Split(corpus.select(~held & early), corpus.select(held & ~early))


def compare(weights: np.ndarray, truth: np.ndarray, sector: np.ndarray) -> np.ndarray:
    """The `SCORES` of portfolios (sample, security) against one true portfolio: (sample, score).

    Overlap is the sum of the smaller weights, one less the active share. Sector L1 sums the absolute differences of
    sector weights (of what is classified). The error of the effective number is the absolute log ratio.
    """
    overlap = np.minimum(weights, truth).sum(axis=1)
    cosine = weights @ truth / (np.linalg.norm(weights, axis=1) * np.linalg.norm(truth))
    k = min(10, int((truth > 0).sum()))
    top = set(np.argsort(-truth, kind="stable")[:k])
    recall = [len(top & set(np.argsort(-w, kind="stable")[:k])) / k for w in weights]
    onehot = np.stack([sector == s for s in SECTORS], axis=1).astype(float)
    share, true = weights @ onehot, truth @ onehot
    share = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-9)
    l1 = np.abs(share - true / max(true.sum(), 1e-9)).sum(axis=1)
    number = np.abs(np.log((truth**2).sum() / (weights**2).sum(axis=1)))
    return np.column_stack([overlap, cosine, recall, l1, number])


def prompt_of(filing: pd.Series, numbers: bool = True) -> dict[str, object]:
    """The prompt that describes a filing: its fields and date, and (``numbers``) what was measured of it."""
    said: dict[str, object] = {f: filing[f] for f in FIELDS if filing[f]}
    said["date"] = f"{filing['as_of']:%Y-%m-%d}"
    if numbers:
        names = [m for m in (*MEASURES, *SECTORS) if m in filing and np.isfinite(filing[m])]
        said |= {m: float(filing[m]) for m in names}
    return said


def category_mean(train: FundCorpus, filing: pd.Series, days: int = 800) -> np.ndarray:
    """Mean portfolio of training filings of the same style, cap and geography, at most ``days`` away if five are."""
    f = train.filings
    same = (f["style"] == filing["style"]) & (f["cap"] == filing["cap"]) & (f["geography"] == filing["geography"])
    if not same.any():
        same = f["geography"] == filing["geography"]
    near = same & ((f["as_of"] - filing["as_of"]).abs() <= pd.Timedelta(days=days))
    rows = np.flatnonzero(near if near.sum() >= 5 else same)
    return np.asarray(train.weights[rows].mean(axis=0)).ravel()


def neighbour_finder(train: FundCorpus, numbers: bool) -> Callable[[pd.DataFrame], np.ndarray]:
    """Rows of the training filings whose prompts are nearest: fields count 2 each, numbers by squared distance."""
    vocabulary = Vocabulary.of(train.filings)
    words, values = tokens_of(train.filings, vocabulary)
    factor = np.ones(len(NUMBERS))
    factor[0] = 0.3
    if not numbers:
        factor[1:] = 0.0

    def find(filings: pd.DataFrame) -> np.ndarray:
        w, v = tokens_of(filings, vocabulary)
        fields = 2.0 * (w[:, None, 1:] != words[None, :, 1:]).sum(axis=2)
        gaps = np.nan_to_num(v)[:, None] - np.nan_to_num(values)[None]
        return (fields + ((gaps * factor) ** 2).sum(axis=2)).argmin(axis=1)

    return find


def previous_filing(history: FundCorpus, filing: pd.Series) -> int | None:
    """Row of the same fund's last filing for an earlier date that had been made by the filing's date, or None."""
    f = history.filings
    earlier = (f["fund"] == filing["fund"]) & (f["as_of"] < filing["as_of"]) & (f["known_at"] <= filing["as_of"])
    rows = np.flatnonzero(earlier)
    return int(rows[np.argmax(f["as_of"].to_numpy()[rows])]) if len(rows) else None


def as_book(corpus: FundCorpus, row: int) -> pd.DataFrame:
    """A filing as the ``previous`` of `FundGenerator.generate`: weights, attributes of what is held, the date."""
    held = corpus.holdings(row)
    table = corpus.securities.loc[held.index, ["sector", "size", "growth", "country"]].assign(weight=held)
    table.attrs["date"] = f"{corpus.filings['as_of'].iloc[row]:%Y-%m-%d}"
    return table


def score_held_out(
    generator: FundGenerator, split: Split, history: FundCorpus, n: int = 8, numbers: bool = True, random_state: int = 0
) -> pd.DataFrame:
    """Scores of the generator and its rivals on every test filing.

    Returns
    -------
    DataFrame
        Rows (filing, rival): ``fund``, ``rival`` and the `SCORES`. "generated" is the likeliest portfolio (one answer,
        as its rivals give one), "samples" the mean score of ``n`` samples of the learnt law. With ``n = 0`` neither
        samples nor the reconstruction are scored. "from its last filing" is the likeliest portfolio given the book
        that the fund had filed last by the date, for the filings that have one.
    """
    test, train = split.test, split.train
    tickers, sector = test.securities.index, test.securities["sector"].to_numpy(str)
    nearest = neighbour_finder(train, numbers)(test.filings)
    rows = []
    for i in range(len(test)):
        filing = test.filings.iloc[i]
        truth = test.weights[i].toarray().ravel()
        prompt = prompt_of(filing, numbers)
        likeliest = generator.generate(prompt, n=1, diversity=0.0, steps=1)
        found: dict[str, np.ndarray] = {
            "generated": _wide(likeliest, tickers),
            "category mean": category_mean(train, filing)[None],
            "prompt neighbour": train.weights[nearest[i]].toarray(),
        }
        last = previous_filing(history, filing)
        if last is not None:
            book = as_book(history, last)
            given = generator.generate(prompt, n=1, diversity=0.0, steps=1, previous=book)
            found["from its last filing"] = _wide(given, tickers)
            found["previous filing"] = history.weights[last].toarray()
        if n:
            made = generator.generate(prompt, n=n, random_state=random_state + i)
            found["samples"] = _wide(made, tickers)
            found["reconstruction"] = _wide(_reconstructed(generator, test, i), tickers)
        for rival, weights in found.items():
            scores = compare(np.atleast_2d(weights), truth, sector).mean(axis=0)
            rows.append({"fund": filing["fund"], "rival": rival, **dict(zip(SCORES, scores))})
    return pd.DataFrame(rows)


def score_known(
    generator: FundGenerator,
    corpus: FundCorpus,
    n: int = 8,
    numbers: bool = True,
    forms: Sequence[str] = ("13F-HR", "NPORT-P"),
) -> pd.DataFrame:
    """Scores on the first filing of these forms that every fund the generator knows made after what it has seen.

    Returns
    -------
    DataFrame
        Rows (filing, rival): ``fund``, ``rival`` and the `SCORES`. "from its last filing" is the likeliest portfolio
        as it comes (the model remembers the manager's last book), "samples" the mean score of ``n`` samples,
        "by name only" the likeliest portfolio when the model may not go back to that book, "previous filing" the book
        itself.
    """
    f = corpus.filings
    later = (f["known_at"] > generator.knowledge_until_) & f["fund"].isin(list(generator.memory_.funds))
    later &= f["form"].isin(list(forms))
    first = f[later].sort_values("as_of", kind="stable").drop_duplicates("fund")
    tickers, sector = corpus.securities.index, corpus.securities["sector"].to_numpy(str)
    rows = []
    for i in first.index:
        filing, last = f.loc[i], previous_filing(corpus, f.loc[i])
        prompt = prompt_of(filing, numbers)
        given = generator.generate(prompt, n=1, diversity=0.0, steps=1)
        told = given.attrs["previous"]
        # A family of many funds is no fund: which of its books is meant cannot be told from the family's name.
        if last is None or told is None or told["fund"] != filing["fund"]:
            continue
        made = generator.generate(prompt, n=n, random_state=int(i))
        named = generator.generate(prompt, n=1, diversity=0.0, steps=1, previous=False)
        found = {"from its last filing": given, "samples": made, "by name only": named}
        weights = {rival: _wide(books, tickers) for rival, books in found.items()}
        weights["previous filing"] = corpus.weights[last].toarray()
        truth = corpus.weights[int(i)].toarray().ravel()
        for rival, books in weights.items():
            scores = compare(books, truth, sector).mean(axis=0)
            rows.append({"fund": filing["fund"], "rival": rival, **dict(zip(SCORES, scores))})
    return pd.DataFrame(rows)


def _reconstructed(generator: FundGenerator, corpus: FundCorpus, row: int) -> pd.DataFrame:
    held = corpus.holdings(row)
    frame = pd.DataFrame([held.to_numpy()], columns=held.index)
    return generator.reconstruct(frame, corpus.filings["as_of"].iloc[row], corpus.securities.loc[held.index])


def _wide(books: pd.DataFrame, tickers: pd.Index) -> np.ndarray:
    at = tickers.get_indexer(books.columns)
    out = np.zeros((len(books), len(tickers)))
    out[:, at[at >= 0]] = books.to_numpy()[:, at >= 0]
    return out


def summary(scores: pd.DataFrame, repeats: int = 2000, seed: int = 0, base: str = "generated") -> pd.DataFrame:
    """Mean and 95 % interval of every score, and of the advantage (positive is better) of ``base`` over each rival.

    The bootstrap draws funds with all their filings; advantages are paired, each draw being scored for both.

    Returns
    -------
    DataFrame
        Rows rival; columns (score, ``mean|low|high|advantage|advantage_low|advantage_high``).
    """
    funds = sorted(scores["fund"].unique())
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(funds), size=(repeats, len(funds)))
    reference = _by_fund(scores[scores["rival"] == base], funds)
    table: dict[tuple[str, str], dict[str, float]] = {}
    for rival in scores["rival"].unique():
        own = _by_fund(scores[scores["rival"] == rival], funds)
        for j, name in enumerate(SCORES):
            sign = 1.0 if HIGHER_IS_BETTER[name] else -1.0
            means = _resampled(own[:, :, j], draws)
            values = {"mean": float(own[0, :, j].sum() / own[1, :, j].sum())}
            values["low"], values["high"] = (float(q) for q in np.quantile(means, [0.025, 0.975]))
            gain = sign * (_resampled(reference[:, :, j], draws) - means)
            mine = reference[0, :, j].sum() / reference[1, :, j].sum()
            values["advantage"] = float(sign * (mine - values["mean"]))
            values["advantage_low"], values["advantage_high"] = (float(q) for q in np.quantile(gain, [0.025, 0.975]))
            for key, value in values.items():
                table.setdefault((name, key), {})[rival] = value
    return pd.DataFrame(table)


def _by_fund(scores: pd.DataFrame, funds: Sequence[str]) -> np.ndarray:
    """Sums and counts by fund: (2, fund, score)."""
    grouped = scores.groupby("fund")[list(SCORES)]
    return np.stack(
        [part.reindex(pd.Index(list(funds))).fillna(0.0).to_numpy(float) for part in (grouped.sum(), grouped.count())]
    )


def _resampled(sums_counts: np.ndarray, draws: np.ndarray) -> np.ndarray:
    return sums_counts[0][draws].sum(axis=1) / np.maximum(sums_counts[1][draws].sum(axis=1), 1)


def nearest_training(books: np.ndarray, train: sparse.csr_matrix) -> np.ndarray:
    """Largest overlap of each portfolio (sample, security) with any training portfolio: is it a copy?"""
    out = np.zeros(len(books))
    for i, book in enumerate(books):
        held = np.flatnonzero(book)
        out[i] = np.minimum(train[:, held].toarray(), book[held]).sum(axis=1).max()
    return out


def spread(books: np.ndarray) -> float:
    """Mean pairwise overlap of samples of one prompt; one means all the same."""
    pairs = [np.minimum(a, b).sum() for i, a in enumerate(books) for b in books[:i]]
    return float(np.mean(pairs)) if pairs else 1.0
