"""Permutation importance that respects time: a feature is replaced by its own path at another time, block by block.

Shuffling single days would tear a persistent feature to pieces and show the model inputs that never occur. Here every
prediction gets the whole window of the feature from another date, neighbours get those of neighbours, and a date that
shares a bar with its source does not count: it would have kept part of what was to be taken away.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.inputs import ModelInputs

Score = Callable[[np.ndarray, np.ndarray], float]


def skill(target: np.ndarray, predicted: np.ndarray) -> float:
    """Correlation of predictions and outcomes, zero if either does not move: how much is known of the sign and size."""
    if predicted.std() == 0 or target.std() == 0:
        return 0.0
    return float(np.corrcoef(target, predicted)[0, 1])


def permutation_importance(
    inputs: ModelInputs,
    pool: ModelInputs | None = None,
    n_blocks: int = 8,
    repeats: int = 10,
    random_state: int = 0,
    score: Score = skill,
) -> pd.DataFrame:
    """What the score loses when a feature (at all its lags) is that of another time.

    Parameters
    ----------
    inputs : ModelInputs
        Of rows that the model was not fitted on: these are scored.
    pool : ModelInputs, optional
        Of other dates, none within a window of those scored (training rows, say): each repeat takes the feature from a
        block of consecutive dates of the pool. Without it blocks of ``inputs`` are exchanged with one another.
    n_blocks : int
        Blocks that are exchanged, so that none stays where it was.
    repeats : int
    score : callable ``(target, predicted) -> float``
        Larger is better; standardised next returns and standardised predictions.

    Returns
    -------
    DataFrame
        By feature: ``importance`` (mean loss of score), ``sd`` over repeats, ``score`` of the untouched inputs.

    Raises
    ------
    HistoryError
        Too few dates: no block can be exchanged with one that lies at least a window away.
    """
    if n_blocks < 2 or repeats < 1:
        raise ConfigError(f"n_blocks = {n_blocks} and repeats = {repeats}: at least 2 blocks and 1 repeat are needed")
    rng = np.random.default_rng(random_state)
    source = inputs if pool is None else pool
    _, row = np.unique(inputs.times.to_numpy(), return_inverse=True)
    losses, bases = np.empty((repeats, len(inputs.names))), np.empty(repeats)
    for repeat in range(repeats):
        date = _exchanged(row, n_blocks, inputs.window, rng) if pool is None else _drawn(row, pool, rng)
        moved = date >= 0
        if not moved.any():
            raise HistoryError(
                f"{int(row.max()) + 1} dates make no {n_blocks} blocks at least a window of {inputs.window} bars "
                "apart; use more dates, fewer blocks, or a pool of other dates"
            )
        shape = moved.reshape(-1, *[1] * (inputs.present.ndim - 1))
        kept = np.broadcast_to(shape, inputs.present.shape)[inputs.present] & np.isfinite(inputs.target)
        theirs = source.values[_counterparts(inputs, source, np.where(moved, date, 0), rng)]
        bases[repeat] = score(inputs.target[kept], inputs.predictions()[kept])
        for feature in range(len(inputs.names)):
            mixed, other = inputs.values.copy(), theirs[..., feature]
            mixed[..., feature] = np.where(np.isnan(other) | np.isnan(mixed[..., feature]), mixed[..., feature], other)
            losses[repeat, feature] = bases[repeat] - score(inputs.target[kept], inputs.predictions(mixed)[kept])
    spread = losses.std(axis=0, ddof=1) if repeats > 1 else np.full(losses.shape[1], np.nan)
    table = {"importance": losses.mean(axis=0), "sd": spread, "score": bases.mean()}
    return pd.DataFrame(table, index=pd.Index(inputs.names, name="feature"))


def _exchanged(row: np.ndarray, n_blocks: int, window: int, rng: np.random.Generator) -> np.ndarray:
    """Number of the date that each sample takes its feature from, -1 for those that take no part, (sample,)."""
    length = (int(row.max()) + 1) // n_blocks
    if length == 0:
        return np.full(len(row), -1)
    order = _derangement(n_blocks, rng)
    block = np.minimum(row // length, n_blocks)
    inside = block < n_blocks  # dates beyond the last whole block take no part
    date = np.full(len(row), -1)
    date[inside] = order[block[inside]] * length + row[inside] % length
    return np.where(np.abs(date - row) >= window, date, -1)


def _drawn(row: np.ndarray, pool: ModelInputs, rng: np.random.Generator) -> np.ndarray:
    """The same from a block of consecutive dates of the pool; a short pool is run through again."""
    n_pool = len(np.unique(pool.times.to_numpy()))
    return (row + int(rng.integers(n_pool))) % n_pool


def _derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """A permutation that leaves nothing in place."""
    while True:
        order = rng.permutation(n)
        if (order != np.arange(n)).all():
            return order


def _counterparts(inputs: ModelInputs, source: ModelInputs, date: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sample of the source for every sample: the same asset at that date; where it is missing, any asset there."""
    if inputs.joint:
        return date  # a sample is a date
    _, row = np.unique(source.times.to_numpy(), return_inverse=True)
    names = pd.Index(inputs.index.get_level_values(1).unique().union(source.index.get_level_values(1).unique()))
    theirs, mine = (names.get_indexer(part.index.get_level_values(1)) for part in (source, inputs))
    table = np.full((int(row.max()) + 1, len(names)), -1)
    table[row, theirs] = np.arange(len(row))
    found = table[date, mine]
    for sample in np.flatnonzero(found < 0):
        there = table[date[sample]]
        found[sample] = rng.choice(there[there >= 0])
    return found
