"""Futures of a forecaster: filtered historical simulation around its own mean, features recomputed along every path.

``return[h] = mean(features[h]) + sigma[h] * shock[h]``: sigma follows a volatility filter along the path, shocks are
rows of the past (all assets of one day together, with that day's volume), standardised by the same filter.
Barone-Adesi, Giannopoulos & Vosper (1999), with a learnt mean in place of a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError
from foliocast.core.panel import Panel
from foliocast.features.transforms import REGISTRY, FeatureSet, log_returns
from foliocast.stats.volatility import VolatilityFilter

KEPT = 2520  # training rows kept for shocks: ten years of days
ENOUGH = 250  # an asset with fewer returns borrows an EWMA and the pool's shocks
LOWEST = -0.95  # no simulated bar loses more
VOLUME_WINDOW = 30

Step = Callable[[np.ndarray, np.ndarray], np.ndarray]
Draw = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Shocks:
    """The past days whose surprises are drawn again.

    Parameters
    ----------
    assets : tuple of str
    returns : ndarray, shape (time, asset)
        Log returns of training rows, NaN where missing.
    volume : ndarray, shape (time, asset)
        ``volume_z`` of the same rows; all NaN without volume.
    kind : str
        Volatility filter: "gjr", "garch" or "ewma".
    """

    assets: tuple[str, ...]
    returns: np.ndarray
    volume: np.ndarray
    kind: str = "gjr"

    @classmethod
    def from_history(cls, panel: Panel, kind: str) -> Shocks:
        """From the rows a model is fitted on."""
        returns = log_returns(panel)[-KEPT:]
        known = "volume" in panel.fields
        volume = REGISTRY["volume_z"].compute(panel)[-KEPT:] if known else np.full_like(returns, np.nan)
        return cls(panel.assets, returns, volume, kind)

    @cached_property
    def filters(self) -> dict[str, VolatilityFilter]:
        """The fitted filter of each asset; fitted when first asked for, from training rows only."""
        out = {}
        for column, asset in enumerate(self.assets):
            x = self.returns[:, column]
            x = x[np.isfinite(x)]
            kind = self.kind if len(x) >= ENOUGH else "ewma"
            if len(x) > VOLUME_WINDOW:
                out[asset] = VolatilityFilter(kind).fit(x[:, None])
        return out

    @cached_property
    def standardised(self) -> np.ndarray:
        """Returns over filtered volatility, centred and scaled to one, (time, asset); gaps hold the pool's draws."""
        out = np.full(self.returns.shape, np.nan)
        for column, asset in enumerate(self.assets):
            rows = np.flatnonzero(np.isfinite(self.returns[:, column]))
            if asset in self.filters:
                x = self.returns[rows, column]
                z = x / self.filters[asset].scale(x[:, None])[:, 0]
                out[rows, column] = z - np.nanmean(z)
        return _fill_from_pool(out)

    @cached_property
    def volume_z(self) -> np.ndarray:
        """Volume surprises of the same days, gaps filled."""
        return _fill_from_pool(np.where(np.isfinite(self.returns), self.volume, np.nan))

    def columns(self, names: Sequence[str]) -> np.ndarray:
        """Which column serves each name; an unknown asset takes one of the others', in turn."""
        known = {asset: column for column, asset in enumerate(self.assets)}
        return np.array([known.get(name, number % len(self.assets)) for number, name in enumerate(names)])


def _fill_from_pool(table: np.ndarray) -> np.ndarray:
    """Missing cells take known ones in a fixed order, so that every row can be drawn."""
    holes = ~np.isfinite(table)
    if holes.all():
        return np.zeros_like(table)
    rng = np.random.default_rng(0)
    return np.where(holes, rng.choice(table[~holes], size=table.shape), table) if holes.any() else table


@dataclass(frozen=True)
class Start:
    """Where the paths begin.

    Parameters
    ----------
    panel : Panel
        History up to the decision.
    features : FeatureSet
    window : int
        Bars of features a step looks at.
    mean : ndarray, shape (asset,)
        Expected return of the first bar.
    """

    panel: Panel
    features: FeatureSet
    window: int
    mean: np.ndarray


@dataclass(frozen=True)
class Law:
    """How a path goes on.

    Parameters
    ----------
    step : callable ``(features (window, column, feature), volatility_30 (column,)) -> expected returns (column,)``
        Column j is asset ``j % n_assets`` of path ``j // n_assets``.
    shocks : sequence of Shocks
        One an asset (several assets may share one object: they are then drawn jointly).
    draw : callable, optional
        As ``step``, with probabilities (column,) as third argument: returns at these probabilities of the model's own
        distribution. Without it returns are expectation plus filtered volatility times shock.
    """

    step: Step
    shocks: Sequence[Shocks]
    draw: Draw | None = None


def simulate(
    start: Start, law: Law, horizon: int, n_paths: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Expected returns along the paths, and the paths.

    Returns
    -------
    mean : ndarray, shape (horizon, asset)
    samples : ndarray, shape (path, horizon, asset)
    """
    n_assets = len(start.panel.assets)
    past = _Past.of(law.shocks, start.panel)
    volatilities = [_Sigma.start(s, name, start.panel) for s, name in zip(law.shocks, start.panel.assets)]
    states = [v.filter.spread(v.state, n_paths) for v in volatilities]
    world = _World.begin(start, n_paths) if horizon > 1 or law.draw is not None else None
    samples = np.empty((n_paths, horizon, n_assets))
    means = np.empty((horizon, n_assets))
    for h in range(horizon):
        mean = np.broadcast_to(start.mean, (n_paths, n_assets))
        if h > 0:
            assert world is not None
            mean = law.step(world.features, world.unit).reshape(n_paths, n_assets)
        shock, surprise, rank = past.draw(rng.random(n_paths))
        if law.draw is not None:
            assert world is not None
            drawn = law.draw(world.features, world.unit, rank.ravel()).reshape(n_paths, n_assets)
        else:
            sigma = np.concatenate([v.filter.sigma(s) for v, s in zip(volatilities, states)], axis=1)
            drawn = mean + sigma * shock
        samples[:, h] = np.maximum(drawn, LOWEST)
        means[h] = mean.mean(axis=0) if h else start.mean
        moved = np.log1p(samples[:, h])
        states = [v.filter.step(s, moved[:, [j]]) for j, (v, s) in enumerate(zip(volatilities, states))]
        if world is not None and h + 1 < horizon:
            world.advance(samples[:, h].ravel(), surprise.ravel())
    return means, samples


@dataclass(frozen=True)
class _Past:
    """Each asset's column of shocks, volume surprises and ranks (probabilities) of its shocks."""

    columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, shocks: Sequence[Shocks], panel: Panel) -> _Past:
        columns = []
        for source, name in zip(shocks, panel.assets):
            shock, volume = _table(source, name)
            rank = (shock.argsort(kind="stable").argsort(kind="stable") + 0.5) / len(shock)
            columns.append((shock, volume, rank))
        return cls(columns)

    def draw(self, day: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows at these fractions (path,) of the record: shocks, volume surprises and ranks, each (path, asset)."""
        picked = [[series[(day * len(series)).astype(int)] for series in column] for column in self.columns]
        shock, volume, rank = (np.stack([column[k] for column in picked], axis=1) for k in range(3))
        return shock, volume, rank


def _table(shocks: Shocks, name: str) -> tuple[np.ndarray, np.ndarray]:
    column = int(shocks.columns([name])[0])
    return shocks.standardised[:, column], shocks.volume_z[:, column]


@dataclass(frozen=True)
class _Sigma:
    filter: VolatilityFilter
    state: np.ndarray

    @classmethod
    def start(cls, shocks: Shocks, name: str, panel: Panel) -> _Sigma:
        """Filter of the asset, run over the history up to the decision."""
        x = log_returns(panel)[:, panel.assets.index(name)]
        x = x[np.isfinite(x)][:, None]
        fitted = shocks.filters.get(name) or VolatilityFilter("ewma").fit(x)
        return cls(fitted, np.asarray(fitted.state(x)))


@dataclass
class _World:
    """Prices, volumes and features of all paths side by side, one column a (path, asset)."""

    set: FeatureSet
    fields: dict[str, np.ndarray]
    features: np.ndarray
    unit: np.ndarray

    @classmethod
    def begin(cls, start: Start, n_paths: int) -> _World:
        needed = {field for name in start.features.names for field in REGISTRY[name].needs}
        if needed - {"close", "volume"}:
            raise ConfigError(
                f"paths simulate closes and volumes, but the features read {', '.join(sorted(needed))}; forecast one "
                "bar ahead, or leave out the features of opens, highs and lows"
            )
        look = max(start.features.lookback, REGISTRY["volatility_30"].lookback)
        fields = {f: np.tile(start.panel.array(f)[-look:], (1, n_paths)) for f in sorted(needed | {"close"})}
        tail = start.panel.rows(max(0, len(start.panel) - look - start.window), len(start.panel))
        features = np.tile(start.features(tail)[-start.window :], (1, n_paths, 1))
        unit = np.tile(REGISTRY["volatility_30"].compute(tail)[-1], n_paths)
        return cls(start.features, fields, features, unit)

    def advance(self, returns: np.ndarray, volume_z: np.ndarray) -> None:
        """Append a simulated bar and compute its features by the same functions as those of history."""
        close = self.fields["close"]
        fresh = {"close": close[-1] * (1.0 + returns)}
        if "volume" in self.fields:
            fresh["volume"] = volume_of(volume_z, self.fields["volume"][1 - VOLUME_WINDOW :])
        self.fields = {f: np.concatenate([values[1:], fresh[f][None]]) for f, values in self.fields.items()}
        days = pd.date_range("2000-01-01", periods=len(close))
        panel = Panel(self.fields, days, map(str, range(len(returns))))
        self.features = np.concatenate([self.features[1:], self.set(panel)[-1:]])
        self.unit = REGISTRY["volatility_30"].compute(panel)[-1]


def volume_of(z: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The volume whose z-score, within a window of itself and the rows before, is ``z``; never below zero.

    Parameters
    ----------
    z : ndarray, shape (column,)
    before : ndarray, shape (window - 1, column)

    Notes
    -----
    With n the window, m and s (ddof 1) of the n - 1 rows before, and d = v - m, the z-score is
    ``d (1 - 1/n) / sqrt(((n - 2) s^2 + d^2 (n - 1)/n) / (n - 1))``, solved for d. Its size cannot pass (n-1)/sqrt(n).
    """
    n = len(before) + 1
    bounded = np.clip(z, -0.99 * (n - 1) / np.sqrt(n), 0.99 * (n - 1) / np.sqrt(n))
    spread = before.std(axis=0, ddof=1)
    d = bounded * spread * np.sqrt((n - 2) / (n - 1)) / np.sqrt((1 - 1 / n) ** 2 - bounded**2 / n)
    return np.maximum(before.mean(axis=0) + d, 0.0)
