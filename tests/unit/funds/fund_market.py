"""A small made-up world of funds for the tests: 60 securities, 2 styles, 2 sectors, 30 funds x 4 dates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from foliocast.data.funds import FundCorpus, build_corpus
from foliocast.data.sources.holdings import from_table


def make_table(n_funds: int = 30, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Holdings, descriptors and sectors. Growth funds hold G* (technology), value funds V* (energy)."""
    rng = np.random.default_rng(seed)
    growth, value = [f"G{i:02d}" for i in range(30)], [f"V{i:02d}" for i in range(30)]
    rows, described = [], {}
    for k in range(n_funds):
        style = "growth" if k % 2 else "value"
        pool = growth if k % 2 else value
        own = rng.choice(pool, size=8, replace=False)
        described[f"fund{k}"] = {"manager": f"fund{k}", "style": style, "cap": "large-cap" if k % 3 else "small-cap"}
        for q, date in enumerate(pd.date_range("2020-03-31", periods=4, freq="QE")):
            weights = rng.dirichlet(np.ones(8) * 3)
            for ticker, weight in zip(own, weights):
                filed = date + pd.Timedelta(days=40)
                rows.append((f"fund{k}", "13F-HR", date, filed, f"a{k}-{q}", ticker, f"{ticker} INC", weight))
    names = ["fund", "form", "as_of", "known_at", "accession", "ticker", "issuer", "weight"]
    sectors = dict.fromkeys(growth, "technology") | dict.fromkeys(value, "energy")
    return pd.DataFrame(rows, columns=names), pd.DataFrame.from_dict(described, orient="index"), sectors


def make_corpus(n_funds: int = 30, seed: int = 0) -> FundCorpus:
    table, descriptors, sectors = make_table(n_funds, seed)
    return build_corpus(from_table(table), descriptors, sectors)
