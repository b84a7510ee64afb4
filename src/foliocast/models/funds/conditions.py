"""Condition tokens, and the tower that says which securities a description makes likely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foliocast.features.funds import FIELDS, NUMBERS
from foliocast.models.funds.securities import ATTRIBUTES

N_TOKENS = len(FIELDS) + len(NUMBERS)
TASTE = 20.0
"""Scale of a manager's taste: a few dozen names must be lifted by several units of log-likelihood."""
SHAPE = ("n_holdings", "top_weight", "effective_n")
"""Numbers that are generated with the latent where a prompt does not state them."""


class ConditionTokens(nn.Module):
    """One token a field and a number; a learnt "not said" where missing. (prompt, N_TOKENS, width)."""

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        tables = [nn.Embedding(n + 1, width) for n in sizes]
        self.slope = nn.Parameter(torch.randn(len(NUMBERS), width) * 0.5)
        self.bend = nn.Parameter(torch.randn(len(NUMBERS), width) * 0.2)
        self.base = nn.Parameter(torch.randn(len(NUMBERS), width) * 0.2)
        self.missing = nn.Parameter(torch.randn(len(NUMBERS), width) * 0.2)
        for table in tables:
            nn.init.normal_(table.weight, std=0.5)
        self.words = nn.ModuleList(tables)

    def forward(self, words: Tensor, numbers: Tensor) -> Tensor:
        said = torch.isfinite(numbers)
        value = torch.where(said, numbers, 0.0)[..., None]
        token = self.base + value * self.slope + torch.tanh(value) * self.bend
        token = torch.where(said[..., None], token, self.missing)
        spoken = [table(words[:, j]) for j, table in enumerate(self.words)]
        return torch.cat([torch.stack(spoken, dim=1), token], dim=1)


@dataclass(frozen=True)
class Keys:
    """What the tower reads of the securities: attributes, their codes in the latent, and what was learnt of each."""

    attributes: Tensor
    codes: Tensor
    learnt: Tensor
    popularity: Tensor


class Tower(nn.Module):
    """Scores of all securities given a condition: two towers, one of the condition, one of the security.

    ``score = query(condition) . key(security) + taste(manager) . code(security) + popularity(security)``. The key is a
    linear map of the attributes plus a learnt part, so that a security that was never seen has a score, too; the taste
    is what is particular to a manager, and zero for managers that are not said or not known.
    """

    def __init__(
        self, n_securities: int, sizes: Sequence[int], latent: int = 256, width: int = 48, rank: int = 64
    ) -> None:
        super().__init__()
        self.tokens = ConditionTokens(sizes, width)
        flat = N_TOKENS * width
        self.query = nn.Sequential(
            nn.Linear(flat, 256), nn.SiLU(), nn.Dropout(0.2), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, rank)
        )
        self.shape = nn.Sequential(nn.Linear(flat, 64), nn.SiLU(), nn.Dropout(0.2), nn.Linear(64, len(SHAPE)))
        self.attributes = nn.Linear(ATTRIBUTES, rank, bias=False)
        self.learnt = nn.Parameter(torch.randn(n_securities, rank) * 0.02)
        self.popularity = nn.Parameter(torch.zeros(n_securities))
        self.level = nn.Linear(ATTRIBUTES, 1, bias=False)
        self.taste = nn.Embedding(sizes[0] + 1, latent, padding_idx=0)
        nn.init.zeros_(self.taste.weight)

    def forward(self, words: Tensor, numbers: Tensor, keys: Keys) -> Tensor:
        """(prompt, security)."""
        query = self.query(self.tokens(words, numbers).flatten(1))
        key = self.attributes(keys.attributes) + keys.learnt
        scores = query @ key.T + keys.popularity + self.level(keys.attributes)[:, 0]
        named = words[:, 0].nonzero()[:, 0]
        if not len(named):  # most prompts name no manager, and his taste is most of the work
            return scores
        return scores.index_add(0, named, TASTE * self.taste(words[named, 0]) @ keys.codes.T)

    def expected_shape(self, words: Tensor, numbers: Tensor) -> Tensor:
        """Scaled `SHAPE` to be expected, (prompt, 3)."""
        return self.shape(self.tokens(words, numbers).flatten(1))


class Towers(nn.Module):
    """Several towers fitted from different starts; what they score is averaged.

    They agree where the funds say something and differ where they do not, so that the mean is calmer than each.
    """

    def __init__(self, members: int, n_securities: int, sizes: Sequence[int], latent: int = 256) -> None:
        super().__init__()
        self.members = nn.ModuleList(Tower(n_securities, sizes, latent) for _ in range(members))

    @property
    def each(self) -> list[Tower]:
        """The towers one by one."""
        return [member for member in self.members if isinstance(member, Tower)]

    def keys(self, attributes: Tensor, codes: Tensor, at: Tensor | None = None, known: Tensor | None = None) -> Keys:
        """Keys of securities; ``at``: their positions among those trained on, ``known`` (bool): which are there."""
        learnt = torch.stack([member.learnt for member in self.each])
        popularity = torch.stack([member.popularity for member in self.each])
        if at is not None and known is not None:
            rare = popularity.quantile(0.25, dim=1, keepdim=True)
            learnt = learnt[:, at] * known[:, None]
            popularity = torch.where(known, popularity[:, at], rare)
        return Keys(attributes, codes, learnt, popularity)

    def forward(self, words: Tensor, numbers: Tensor, keys: Keys) -> Tensor:
        """(prompt, security)."""
        scores = [
            member(words, numbers, Keys(keys.attributes, keys.codes, learnt, popularity))
            for member, learnt, popularity in zip(self.each, keys.learnt, keys.popularity)
        ]
        return torch.stack(scores).mean(dim=0)

    def expected_shape(self, words: Tensor, numbers: Tensor) -> Tensor:
        """Scaled `SHAPE` to be expected, (prompt, 3)."""
        return torch.stack([member.expected_shape(words, numbers) for member in self.each]).mean(dim=0)


def drop(words: Tensor, numbers: Tensor, generator: torch.Generator, all_dropped: float = 0.1) -> tuple[Tensor, Tensor]:
    """Leave out fields at random, each sample with its own rate, some samples altogether; the date is kept oftener.

    A model so trained takes any part of a description, and its unconditional twin for classifier-free guidance.
    """
    n = len(words)
    rate = torch.rand(n, 1, generator=generator)
    keep_words = torch.rand(words.shape, generator=generator) > rate
    keep_words[:, 0] = torch.rand(n, generator=generator) > 0.5  # whatever else is said: it makes much superfluous
    keep_numbers = torch.rand(numbers.shape, generator=generator) > rate
    keep_numbers[:, 0] = torch.rand(n, generator=generator) > 0.1
    # Half of the time all sector weights go, or all measures: prompts often say none of them.
    quiet = torch.rand(n, 1, generator=generator) < 0.3
    keep_numbers[:, 1:] &= ~quiet
    nothing = torch.rand(n, generator=generator) < all_dropped
    keep_words[nothing], keep_numbers[nothing] = False, False
    return words * keep_words, torch.where(keep_numbers, numbers, torch.nan)
