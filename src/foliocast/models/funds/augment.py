"""Synthetic funds: mixtures and sub-portfolios of real ones, whose tags are measured anew.

Fifteen hundred filings of a few hundred funds let a network recognise each fund by its numbers. What is to be learnt is
the relation of tags to names, and for that any portfolio will do whose tags are measured as those of real funds are.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor

from foliocast.features.funds import FIELDS, MARKET, SECTORS, Vocabulary, descriptive, measure, tokens_of

DERIVED = ("style", "cap", "strategy", "sector")
"""Fields that follow from the tags of a synthetic fund; it has no manager, the rest is its first parent's."""


class Augmenter:
    """Turns a batch of filings into one of which a share is synthetic.

    Parameters
    ----------
    weights : csr_matrix, shape (filing, security)
    filings : DataFrame
        Columns `FIELDS`, ``as_of`` and the measured tags.
    securities : DataFrame
        Columns ``sector, size, growth``, one row a security.
    vocabulary : Vocabulary
    share : float
        Of each batch that is synthetic.
    """

    def __init__(
        self,
        weights: sparse.csr_matrix,
        filings: pd.DataFrame,
        securities: pd.DataFrame,
        vocabulary: Vocabulary,
        share: float = 0.6,
    ) -> None:
        self.weights, self.filings, self.share = weights, filings, share
        self.securities, self.vocabulary = securities, vocabulary
        self.order = np.argsort(filings["as_of"].to_numpy(), kind="stable")
        self.rank = np.argsort(self.order, kind="stable")
        self.place = pd.factorize(filings["geography"])[0]
        onehot = [(securities["sector"] == s).to_numpy(np.float32) for s in SECTORS]
        numbers = [np.nan_to_num((securities[c] - m) / d) for c, m, d in (("size", 0.6, 0.2), ("growth", 0.0, 0.4))]
        self.traits = np.stack([*onehot, *numbers], axis=1).astype(np.float32)

    def __call__(
        self, index: Tensor, words: Tensor, numbers: Tensor, seed: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights (filing, security), words and numbers of a batch, part of it synthetic; and which funds are real."""
        rng = np.random.default_rng(seed)
        rows = index.numpy()
        made = self._child(rows, rng)
        use = (rng.random(len(rows)) < self.share) & (np.diff(made.indptr) >= 3)
        dense = torch.tensor(self.weights[rows].toarray(), dtype=torch.float32)
        if use.any():
            dense[torch.tensor(use)] = torch.tensor(made[use].toarray(), dtype=torch.float32)
            w, x = self._described(rows[use], made[use])
            words, numbers = words.clone(), numbers.clone()
            words[torch.tensor(use)], numbers[torch.tensor(use)] = w, x
        return dense, words, numbers, torch.tensor(~use)

    def _child(self, rows: np.ndarray, rng: np.random.Generator) -> sparse.csr_matrix:
        """Half of the funds are mixed with another of the same time and place; then names drop out, by traits."""
        n = len(rows)
        step = (150 * rng.standard_normal(n)).astype(int)
        other = self.order[np.clip(self.rank[rows] + step, 0, len(self.order) - 1)]
        part = np.where(rng.random(n) < 0.5, 0.5 * rng.random(n), 0.0) * (self.place[other] == self.place[rows])
        mixed = sparse.csr_matrix(
            sparse.diags(1.0 - part) @ self.weights[rows] + sparse.diags(part) @ self.weights[other]
        )
        mixed.eliminate_zeros()
        row = np.repeat(np.arange(n), np.diff(mixed.indptr))
        liking = rng.standard_normal((n, self.traits.shape[1])) * (rng.random((n, self.traits.shape[1])) < 0.3)
        level = 0.5 + 1.5 * rng.standard_normal(n)
        score = (liking[row] * self.traits[mixed.indices]).sum(axis=1) + level[row]
        kept = rng.random(len(row)) < 1.0 / (1.0 + np.exp(-score))
        power = np.exp(0.4 * rng.standard_normal(n))
        mixed.data = np.where(kept, mixed.data ** power[row], 0.0)
        mixed.eliminate_zeros()
        total = np.maximum(np.asarray(mixed.sum(axis=1)).ravel(), 1e-12)
        return sparse.csr_matrix(sparse.diags(1.0 / total) @ mixed)

    def _described(self, rows: np.ndarray, weights: sparse.csr_matrix) -> tuple[Tensor, Tensor]:
        tags = measure(weights, self.securities)
        parents = self.filings.iloc[rows].reset_index(drop=True)
        words = parents[list(FIELDS)].assign(manager="", **{name: descriptive(tags)[name] for name in DERIVED})
        market = parents[[c for c in MARKET if c in parents]]
        table = pd.concat([words, parents[["as_of"]], tags, market], axis=1)
        w, x = tokens_of(table, self.vocabulary)
        return torch.tensor(w), torch.tensor(x, dtype=torch.float32)
