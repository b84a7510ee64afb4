"""Other assets to learn from: a pool is cut into universes like the one at hand, and shares its volatility law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from foliocast.core.panel import Panel
from foliocast.core.scenario_base import Bars, read_bars
from foliocast.models.diffusion.departures import WARM_UP, Universe
from foliocast.models.diffusion.innovations import variance_proxy
from foliocast.stats.pooled_volatility import PooledParameters, mean_pooled
from foliocast.stats.volatility import BlendParameters, VolatilityFilter

SMALLEST = 3
LONGEST = 2520  # rows of the pool that are read


def like_universes(pool: pd.DataFrame | Panel, bars: Bars, seed: int) -> list[Bars]:
    """Random universes of as many assets as ``bars`` has, from the pool's rows up to the last of ``bars``.

    Later rows of the pool are never looked at. Assets that are not quoted all through are left out; prices come along
    only where both have them.
    """
    everything = _known(pool, bars.times[-1])
    if min(len(everything), LONGEST) < 2 * WARM_UP:
        return []
    rows = read_bars(everything)
    rows = rows if bars.prices is not None else without_prices(rows)
    size = max(SMALLEST, len(bars.assets))
    order = np.random.default_rng(seed).permutation(len(rows.assets))
    return [rows.select(order[k : k + size]) for k in range(0, len(order) - size + 1, size)]


def _known(pool: pd.DataFrame | Panel, now: pd.Timestamp) -> pd.DataFrame | Panel:
    """The last rows of the pool up to a time, of the assets quoted in all of them."""
    if isinstance(pool, Panel):
        known = pool.asof(now).panel
        known = known.rows(max(0, len(known) - LONGEST - 1), len(known))
        whole = np.isfinite(known.array("close")).all(axis=0)
        return known.select([a for a, ok in zip(known.assets, whole) if ok])
    frame = pool.loc[:now].iloc[-LONGEST:]
    return frame.loc[:, frame.notna().all()]


def without_prices(bars: Bars) -> Bars:
    """Closes only."""
    return Bars(bars.returns, bars.times, bars.assets)


def common_filter(kind: str, bars: Bars, others: Sequence[Bars]) -> tuple[VolatilityFilter, list[Universe]]:
    """The filter of ``bars``, its pooled part averaged over all universes, and every universe with a filter of its own.

    Only the pooled recursion of ``har`` and ``blend`` is shared; a GARCH is each asset's own.
    """
    everyone = [bars, *others]
    filters = [VolatilityFilter(kind).fit(b.log_returns, variance_proxy(b)) for b in everyone]
    laws = [f.parameters_.pooled if isinstance(f.parameters_, BlendParameters) else f.parameters_ for f in filters]
    pooled = [p for p in laws if isinstance(p, PooledParameters)]
    if pooled:
        mean = mean_pooled(pooled)
        for f in filters:
            own = f.parameters_
            f.parameters_ = replace(own, pooled=mean) if isinstance(own, BlendParameters) else mean
    return filters[0], [Universe.of(b, f) for b, f in zip(everyone, filters)]
