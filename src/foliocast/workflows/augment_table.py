"""From the pieces of the augmentation study to its table: means over seeds, paired differences, intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from foliocast.stats.bootstrap import stationary_bootstrap
from foliocast.stats.measures import annual_return

NONE, CONTROL = "none", "noise"
LEVEL = 0.95
DRAWS = 2000
BLOCK = 8.0  # decisions that a block of the bootstrap holds on average
PERIODS = 252
MEASURES = ("rank_ic", "icir", "weighted_ic", "top_return", "long_short_return")
Pieces = Mapping[tuple[int, int], Mapping[str, pd.DataFrame]]


def summary(pieces: Pieces, horizon: int = 5) -> list[dict[str, Any]]:
    """One row a backbone and arm.

    Parameters
    ----------
    pieces : mapping of (seed, fold) to frames
        As `augment.piece` gives them.
    horizon : int
        Bars from one decision to the next.

    Returns
    -------
    list of dict
        ``backbone``, ``arm``; for each of `MEASURES` its mean over the seeds. ``icir`` is the mean of the rank IC over
        its standard deviation, a decision; returns are annual and after costs. ``against_none`` and
        ``against_noise``: by measure the mean difference of the same seed (``value``), its 95 % t interval over
        seeds (``low``, ``high``), and an interval over time of the seeds' mean (``time_low``, ``time_high``) by the
        stationary bootstrap; that of the returns is of their arithmetic mean, annual.
    """
    ic, net = joined(pieces, "ic"), joined(pieces, "net")
    seeds = sorted(ic)
    names = list(dict.fromkeys(tuple(column.split("|")[:2]) for column in ic[seeds[0]].columns))
    figures = {name: pd.DataFrame([_figures(ic[s], net[s], *name) for s in seeds], index=seeds) for name in names}
    series = {name: _series(ic, net, *name) for name in names}
    rows = []
    for backbone, arm in names:
        row: dict[str, Any] = {"backbone": backbone, "arm": arm, "seeds": len(seeds), "decisions": len(ic[seeds[0]])}
        row |= {measure: float(figures[backbone, arm][measure].mean()) for measure in MEASURES}
        for kind in (NONE, CONTROL):
            other = next((a for b, a in names if b == backbone and a.split()[0] == kind), arm)
            if other == arm:
                continue
            gap = figures[backbone, arm] - figures[backbone, other]
            row[f"against_{kind}"] = {measure: over_seeds(gap[measure].to_numpy()) for measure in MEASURES}
            for measure, mine in series[backbone, arm].items():
                scale, block = (PERIODS, BLOCK * horizon) if measure.endswith("return") else (1.0, BLOCK)
                interval = _over_time(mine - series[backbone, other][measure], block, scale)
                row[f"against_{kind}"][measure] |= interval
        rows.append(row)
    return rows


def _series(
    ic: Mapping[int, pd.DataFrame], net: Mapping[int, pd.DataFrame], backbone: str, arm: str
) -> dict[str, np.ndarray]:
    """By measure the series, mean over the seeds, whose mean it is about."""
    of = {"rank_ic": ic, "weighted_ic": ic, "top_return": net, "long_short_return": net}
    names = {measure: f"{backbone}|{arm}|{measure.removesuffix('_return')}" for measure in of}
    return {m: np.mean([table[names[m]].to_numpy() for table in of[m].values()], axis=0) for m in of}


def joined(pieces: Pieces, kind: str) -> dict[int, pd.DataFrame]:
    """Folds one after the other, by seed; only seeds that have all of them."""
    folds = sorted({fold for _, fold in pieces})
    seeds = sorted({seed for seed, _ in pieces})
    whole = [seed for seed in seeds if all((seed, fold) in pieces for fold in folds)]
    return {seed: pd.concat([pieces[seed, fold][kind] for fold in folds]) for seed in whole}


def over_seeds(gap: np.ndarray) -> dict[str, float]:
    """Mean of paired differences with its t interval; no interval from one seed."""
    n = len(gap)
    mean = float(gap.mean())
    if n < 2:
        return {"value": mean, "low": float("nan"), "high": float("nan")}
    half = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1) * gap.std(ddof=1) / np.sqrt(n))
    return {"value": mean, "low": mean - half, "high": mean + half}


def _figures(ic: pd.DataFrame, net: pd.DataFrame, backbone: str, arm: str) -> dict[str, float]:
    rank = ic[f"{backbone}|{arm}|rank_ic"].dropna()
    spread = float(rank.std(ddof=1))
    return {
        "rank_ic": float(rank.mean()),
        "icir": float(rank.mean()) / spread if spread > 0 else float("nan"),
        "weighted_ic": float(ic[f"{backbone}|{arm}|weighted_ic"].mean()),
        "top_return": annual_return(net[f"{backbone}|{arm}|top"].to_numpy()),
        "long_short_return": annual_return(net[f"{backbone}|{arm}|long_short"].to_numpy()),
    }


def _over_time(gap: np.ndarray, block: float, scale: float) -> dict[str, float]:
    """Interval of a mean difference over the bars that might have been."""
    gap = gap[np.isfinite(gap)]
    if len(gap) < 2 * block:
        return {}
    index = stationary_bootstrap(len(gap), DRAWS, block, np.random.default_rng(0))
    low, high = np.quantile(gap[index].mean(axis=0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) * scale
    return {"time_low": float(low), "time_high": float(high)}
