"""A fund's earlier book as a condition: what was filed last, and how much of it carries over.

Let h be the book a fund filed last, p the portfolio the towers expect of the description asked for, and q that of the
description the fund had then. What is to be expected now is the mixture

    (1 - k) p + k h',    h' ~ h (p / q)^gamma,    logit k = b0 + b1 log(age) + b2 |p - q| + b3 log(names),

so that old books and books whose description has changed carry less, and what does carry leans the way the
description moved. The few parameters are fitted on pairs of filings of the same fund, the later against an earlier
one that had been filed by its date (`fitting.fit_carry`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor, nn

from foliocast.features.funds import EPOCH, FIELDS, NUMBERS, SECTORS, Vocabulary, descriptive, measure, tokens_of
from foliocast.models.funds.conditions import SHAPE
from foliocast.models.funds.securities import Securities

QUARTER = 0.25
_DERIVED = [FIELDS.index(name) for name in ("style", "cap", "strategy", "sector")]
_MEASURED = [NUMBERS.index(name) for name in (*SHAPE, "size", "growth", *SECTORS)]


@dataclass(frozen=True)
class Memory:
    """Filings a model may go back to.

    Parameters
    ----------
    funds : tuple of str
    fund : ndarray of int, shape (filing,)
        Position in ``funds``.
    as_of, known : ndarray of int, shape (filing,)
        Days since 2013 of the positions and of the filing.
    words, numbers : ndarray, shape (filing, field), (filing, number)
        Condition tokens.
    weights : csr_matrix, shape (filing, security)
    """

    funds: tuple[str, ...]
    fund: np.ndarray
    as_of: np.ndarray
    known: np.ndarray
    words: np.ndarray
    numbers: np.ndarray
    weights: sparse.csr_matrix

    @classmethod
    def of(cls, filings: pd.DataFrame, weights: sparse.csr_matrix, words: np.ndarray, numbers: np.ndarray) -> Memory:
        """All filings of a corpus."""
        fund, funds = pd.factorize(filings["fund"].astype(str))
        as_of, known = (
            ((filings[c] - EPOCH) / pd.Timedelta(days=1)).to_numpy().astype(np.int32) for c in ("as_of", "known_at")
        )
        return cls(
            tuple(str(name) for name in funds),
            fund.astype(np.int32),
            as_of,
            known,
            words.astype(np.int32),
            numbers.astype(np.float32),
            sparse.csr_matrix(weights, dtype=np.float32),
        )

    def last(self, words: np.ndarray, day: int) -> int | None:
        """Row of the last book of the manager a prompt names that had been filed by a day; None if there is none.

        Of a manager of several funds it is that of the only fund in which everything the prompt says agrees.
        """
        if words[0] == 0:
            return None
        mine = (self.words[:, 0] == words[0]) & (self.known <= day)
        if len(np.unique(self.fund[mine])) > 1:
            said = np.flatnonzero(words)
            mine &= (self.words[:, said] == words[said]).all(axis=1)
        rows = np.flatnonzero(mine)
        if len(np.unique(self.fund[rows])) != 1:
            return None
        return int(rows[np.lexsort((self.known[rows], self.as_of[rows]))[-1]])

    def earlier(self, target: int, rng: np.random.Generator | None = None) -> int | None:
        """Row of a book of the same fund filed by the date of another: the last one, or (``rng``) any."""
        there = (self.fund == self.fund[target]) & (self.known <= self.as_of[target])
        rows = np.flatnonzero(there & (self.as_of < self.as_of[target]))
        if not len(rows):
            return None
        return int(rows[self.as_of[rows].argmax()] if rng is None else rng.choice(rows))

    def heard(self, row: int, words: np.ndarray) -> np.ndarray:
        """Words of a filing as someone who uses these would have said them.

        What follows from tags changes with a threshold, and people go on calling a value fund so: a word that an
        earlier filing of the fund has borne is no news, and counts as the word of then.
        """
        before = (self.fund == self.fund[row]) & (self.known <= self.known[row])
        out = self.words[row].copy()
        for field in _DERIVED:
            if words[field] in self.words[before, field]:
                out[field] = words[field]
        return out

    def book(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions and weights of what a filing holds."""
        start, stop = self.weights.indptr[row], self.weights.indptr[row + 1]
        return self.weights.indices[start:stop], self.weights.data[start:stop]

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint; weights in half precision."""
        parts = {name: torch.tensor(getattr(self, name)) for name in ("fund", "as_of", "known", "words")}
        parts["numbers"], parts["weights"] = torch.tensor(self.numbers).half(), torch.tensor(self.weights.data).half()
        parts["indices"] = torch.tensor(self.weights.indices.astype(np.int32))
        parts["indptr"] = torch.tensor(self.weights.indptr.astype(np.int32))
        return parts

    @classmethod
    def from_tensors(cls, funds: Sequence[str], parts: dict[str, Tensor], securities: int) -> Memory:
        """From `tensors`."""
        a = {name: part.numpy() for name, part in parts.items()}
        shape = (len(a["fund"]), securities)
        weights = sparse.csr_matrix((a["weights"].astype(np.float32), a["indices"], a["indptr"]), shape=shape)
        numbers = a["numbers"].astype(np.float32)
        return cls(tuple(funds), a["fund"], a["as_of"], a["known"], a["words"], numbers, weights)


@dataclass(frozen=True)
class Earlier:
    """Earlier books, one a prompt.

    Parameters
    ----------
    weights : Tensor, shape (prompt, security)
        Over the securities that may be held now; a row of zeros where there is no earlier book.
    age : Tensor, shape (prompt,)
        Years.
    words, numbers : Tensor
        Condition tokens of then.
    """

    weights: Tensor
    age: Tensor
    words: Tensor
    numbers: Tensor

    @property
    def there(self) -> Tensor:
        """Which prompts have one: bool (prompt,)."""
        return self.weights.sum(dim=1) > 0

    def then(self, words: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The description asked for, with what is measured of a fund as it was then, where it is said at all."""
        w, x = words.clone(), numbers.clone()
        said = words[:, _DERIVED] > 0
        w[:, _DERIVED] = torch.where(said, self.words[:, _DERIVED], 0)
        said = torch.isfinite(numbers[:, _MEASURED])
        x[:, _MEASURED] = torch.where(said, self.numbers[:, _MEASURED], torch.nan)
        return w, x

    @property
    def shape(self) -> Tensor:
        """Scaled `SHAPE` of then."""
        return self.numbers[:, [NUMBERS.index(name) for name in SHAPE]]

    def over(self, columns: Tensor) -> Earlier:
        """Without the securities where ``columns`` (bool, (prompt or 1, security)) is False."""
        return Earlier(self.weights * columns, self.age, self.words, self.numbers)


@dataclass(frozen=True)
class Carried:
    """What is expected given an earlier book.

    Parameters
    ----------
    log_likely : Tensor, shape (prompt, security)
    kept : Tensor, shape (prompt,)
        Share of the weight that carries over.
    shape : Tensor, shape (prompt, 3)
        Scaled `SHAPE` to be expected.
    spread : Tensor, shape (prompt, 4)
        How far the latent, and each of `SHAPE`, may be from it, as a fraction of what it is without an earlier book.
    """

    log_likely: Tensor
    kept: Tensor
    shape: Tensor
    spread: Tensor


class Carry(nn.Module):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor([1.5, -0.5, -1.0, 0.0]))
        self.lean = nn.Parameter(torch.tensor(0.3))
        self.habit = nn.Parameter(torch.full((len(SHAPE),), 2.0))
        self.width = nn.Parameter(torch.tensor([[-1.0, 0.3]] * (1 + len(SHAPE))))

    def kept(self, age: Tensor, change: Tensor, names: Tensor) -> Tensor:
        """Share of the weight that is where it was, (prompt,)."""
        old = torch.log(age.clamp(min=1 / 12) / QUARTER)
        b = self.share
        return torch.sigmoid(b[0] + b[1] * old + b[2] * change + b[3] * (torch.log1p(names) - 3.5))

    def spread(self, age: Tensor) -> Tensor:
        """(prompt, 4), from a fiftieth to one."""
        old = torch.log(age.clamp(min=1 / 12) / QUARTER)
        return torch.exp((self.width[:, 0] + old[:, None] * self.width[:, 1]).clamp(-4.0, 0.0))

    def forward(self, now: Tensor, then: Tensor, shape: Tensor, earlier: Earlier) -> Carried:
        """From log-likelihoods under the description asked for and that of then, (prompt, security)."""
        h, there = earlier.weights, earlier.there
        change = 0.5 * (now.exp() - then.exp()).abs().sum(dim=1)
        kept = self.kept(earlier.age, change, (h > 0).sum(dim=1)) * h.sum(dim=1).clamp(max=1.0)
        tilted = torch.log(h.clamp(min=1e-12)) + self.lean * (now - then).nan_to_num(0.0)
        tilted = torch.log_softmax(tilted.masked_fill(h <= 0, -torch.inf), dim=1)
        mixed = torch.logaddexp(torch.log1p(-kept)[:, None] + now, torch.log(kept)[:, None] + tilted)
        habit = torch.sigmoid(self.habit)
        known = there[:, None] & torch.isfinite(earlier.shape)
        shape = torch.where(known, habit * earlier.shape.nan_to_num(0.0) + (1 - habit) * shape, shape)
        spread = torch.where(there[:, None], self.spread(earlier.age), 1.0)
        return Carried(torch.where(there[:, None], mixed, now), kept * there, shape, spread)


def described(
    weights: np.ndarray, securities: Securities, columns: np.ndarray, vocabulary: Vocabulary
) -> tuple[np.ndarray, np.ndarray]:
    """Condition tokens of a book that is only known by its weights over some of the securities, one row each."""
    table = pd.DataFrame(
        {
            "sector": [SECTORS[s] if s >= 0 else "" for s in securities.sector[columns]],
            "size": securities.size[columns],
            "growth": securities.growth[columns],
        }
    )
    tags = measure(sparse.csr_matrix(weights[None]), table)
    words = pd.DataFrame("", index=tags.index, columns=list(FIELDS))
    told = descriptive(tags)
    words[told.columns] = told
    dated = pd.DataFrame({"as_of": [EPOCH]})
    return tokens_of(pd.concat([words, dated, tags], axis=1), vocabulary)
