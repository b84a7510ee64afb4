"""Is every generated portfolio valid? Random prompts with random limits, each portfolio held against its request."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from foliocast.features.funds import FIELDS, SECTORS
from foliocast.models.funds.generator import FundGenerator
from foliocast.models.funds.requests import FundRequest

_PART = 2500


@dataclass
class Validity:
    """What a check found.

    Attributes
    ----------
    made, refused : int
        Portfolios made; requests refused because their limits contradict one another.
    worst : dict
        The largest of each of the `faults`.
    """

    made: int = 0
    refused: int = 0
    worst: dict[str, float] = field(default_factory=dict)


def check_validity(generator: FundGenerator, count: int, seed: int = 11, steps: int = 4) -> Validity:
    """Generate a portfolio for each of ``count`` random requests and note the worst of each fault."""
    rng = np.random.default_rng(seed)
    found = Validity()
    for start in range(0, count, _PART):
        requests = [random_request(generator, rng) for _ in range(min(_PART, count - start))]
        books = generator.generate_many(requests, random_state=seed + start, steps=steps, skip_infeasible=True)
        for request, book in zip(requests, books):
            if book is None:
                found.refused += 1
                continue
            found.made += 1
            for name, value in faults(generator, request, book).items():
                found.worst[name] = max(found.worst.get(name, 0.0), value)
    return found


def random_request(generator: FundGenerator, rng: np.random.Generator) -> FundRequest:
    """Any words and numbers, a quarter end from 2014 to 2024, limits, thirty exclusions, at times a universe."""
    words = generator.vocabulary_.words
    said: dict[str, object] = {
        f: str(rng.choice(words[f])) for f in FIELDS if rng.random() < (0.1 if f == "geography" else 0.4)
    }
    if rng.random() < 0.3:
        said[str(rng.choice(SECTORS))] = f"{rng.uniform(0, 0.8):.2f}"
    if rng.random() < 0.3:
        said["top_weight"] = f"{rng.uniform(0.02, 0.6):.3f}"
    if rng.random() < 0.3:
        said["effective_n"] = f"{rng.uniform(2, 100):.1f}"
    date = pd.Timestamp("2014-03-31") + pd.offsets.QuarterEnd(int(rng.integers(0, 43)))
    cap = float(rng.uniform(0.05, 1.0)) if rng.random() < 0.7 else None
    n = int(rng.integers(np.ceil(1.0 / (cap or 1.0)) + 1, 120)) if rng.random() < 0.7 else None
    caps = {str(s): float(rng.uniform(0.0, 0.5)) for s in rng.choice(SECTORS, 2, replace=False)}
    known = generator.securities_
    there = np.flatnonzero(known.at(date) & (np.array(known.country) == "us"))
    pick = lambda size: tuple(known.tickers[i] for i in rng.choice(there, min(size, len(there)), replace=False))  # noqa: E731
    if rng.random() < 0.1:
        said.pop("geography", None)
        return FundRequest(said, date, cap, pick(30), tuple(sorted(pick(1500))), n, caps)
    return FundRequest(said, date, cap, pick(30), None, n, caps)


def faults(generator: FundGenerator, request: FundRequest, book: pd.Series) -> dict[str, float]:
    """What is wrong with a portfolio: each entry is zero if nothing is."""
    known = generator.securities_
    at = pd.Index(known.tickers).get_indexer(book.index)
    inside = known.at(pd.Timestamp(str(request.date)))[at] & (at >= 0)
    if request.universe is not None:
        inside &= book.index.isin(request.universe)
    weights, sector = book.to_numpy(), known.sector[at]
    over = [weights[sector == SECTORS.index(s)].sum() - cap for s, cap in request.sector_caps.items()]
    wrong_number = request.n_holdings is not None and int((weights > 0).sum()) != request.n_holdings
    return {
        "negative weight": float(max(0.0, -weights.min())),
        "|sum - 1|": abs(float(weights.sum()) - 1.0),
        "names outside the universe at the date": float((~inside).sum()),
        "excluded names": float(book.index.isin(request.exclude).sum()),
        "weight over the largest allowed": max(0.0, float(weights.max()) - (request.max_weight or 1.0)),
        "sector over its cap": float(max([*over, 0.0])),
        "number of holdings off": float(wrong_number),
    }
