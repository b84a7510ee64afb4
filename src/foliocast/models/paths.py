"""Futures of a forecaster: filtered historical simulation around its own mean, features recomputed along every path.

``return[h] = mean(features[h]) + sigma[h] * shock[h]``: sigma follows a volatility filter along the path, shocks are
rows of the past (all assets of one day together, with that day's volume), standardised by the same filter. The pooled
filters ("har", "blend") know all assets and, where the history has opens, highs and lows, the ranges of its bars.
"departures" is the blend times what clues to the scale, pooled over assets, say about the next bars
(`foliocast.models.diffusion.departures`). Barone-Adesi, Giannopoulos & Vosper (1999), with a learnt mean in place of a
constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError
from foliocast.core.panel import PRICE_FIELDS, Panel
from foliocast.features.transforms import REGISTRY, FeatureSet, log_returns
from foliocast.stats.variances import bar_variance
from foliocast.stats.volatility import LARGEST, State, VolatilityFilter

if TYPE_CHECKING:
    from foliocast.models.diffusion.departures import ScaleHead, Universe

KEPT = 2520  # training rows kept for shocks: ten years of days
ENOUGH = 250  # an asset with fewer returns borrows an EWMA and the pool's shocks
LOWEST = -0.95  # no simulated bar loses more
VOLUME_WINDOW = 30
POOLED = ("har", "blend", "departures")
DEPARTURE = 0.5  # share of the learnt departures that is believed: more was no better over seven bars
FOR_DEPARTURES = 1040  # training rows below which none are learnt: four years

Step = Callable[[np.ndarray, np.ndarray], np.ndarray]
Draw = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Record:
    """What a filter and its departures read of past bars, (time, asset) each, NaN where missing.

    Attributes
    ----------
    returns : ndarray
        Log returns.
    ranges : ndarray
        Variance of each bar (`foliocast.stats.volatility.bar_variance`); all NaN without opens, highs and lows.
    gaps : ndarray
        Log of the open over the close before.
    traded : ndarray
        Volume.
    """

    returns: np.ndarray
    ranges: np.ndarray
    gaps: np.ndarray
    traded: np.ndarray

    @classmethod
    def of(cls, panel: Panel) -> Self:
        """Of a panel; a field that it does not have is missing throughout."""
        nothing = np.full(panel.shape, np.nan)
        traded = panel.array("volume") if "volume" in panel.fields else nothing
        if not set(PRICE_FIELDS) <= set(panel.fields):
            return cls(log_returns(panel), nothing, nothing, traded)
        prices = {name: panel.array(name) for name in PRICE_FIELDS}
        previous = np.full(panel.shape, np.nan)
        previous[1:] = prices["close"][:-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            ranges = bar_variance({**prices, "previous": previous})
            gaps = np.log(prices["open"] / previous)
        assert ranges is not None
        return cls(log_returns(panel), ranges, gaps, traded)

    def tail(self, rows: int) -> Self:
        """The last rows."""
        return type(self)(self.returns[-rows:], self.ranges[-rows:], self.gaps[-rows:], self.traded[-rows:])

    def complete(self, columns: np.ndarray) -> tuple[Self, np.ndarray]:
        """Some assets, on the rows where all of them have a return; which rows these are."""
        rows = np.flatnonzero(np.isfinite(self.returns[:, columns]).all(axis=1))
        place = np.ix_(rows, columns)
        return type(self)(self.returns[place], self.ranges[place], self.gaps[place], self.traded[place]), rows

    @property
    def usable_ranges(self) -> np.ndarray | None:
        """Ranges, or None where one is missing: the filter then takes squared returns throughout."""
        return self.ranges if np.isfinite(self.ranges).all() else None

    def universe(self, fitted: VolatilityFilter) -> Universe:
        """As the departures read it; the rows must be complete."""
        from foliocast.models.diffusion.clues import Priced
        from foliocast.models.diffusion.departures import Universe

        ranges = self.usable_ranges
        priced = None if ranges is None else Priced(ranges, self.gaps, self.traded)
        return Universe(self.returns, priced, fitted)


@dataclass(frozen=True)
class Group:
    """Assets that share a fitted volatility filter, and departures of the scale from it if any were learnt."""

    assets: tuple[str, ...]
    filter: VolatilityFilter
    head: ScaleHead | None = None

    @classmethod
    def fit(cls, assets: tuple[str, ...], kind: str, past: Record) -> Self:
        """From complete rows of training."""
        departs = kind == "departures"
        fitted = VolatilityFilter("blend" if departs else kind).fit(past.returns, past.usable_ranges)
        if not departs or len(past.returns) < FOR_DEPARTURES:
            return cls(assets, fitted)
        from foliocast.models.diffusion.departures import fit_departures

        head = fit_departures([past.universe(fitted)])
        head.share, head.far = head.share * DEPARTURE, head.far * DEPARTURE
        return cls(assets, fitted, head)

    def scale(self, past: Record) -> np.ndarray:
        """Volatility of each bar as it was forecast, (time, asset)."""
        sigma = self.filter.scale(past.returns, past.usable_ranges)
        if self.head is None:
            return sigma
        from foliocast.models.diffusion.departures import past_factors

        return sigma * past_factors(self.head, past.universe(self.filter))

    def ahead(self, past: Record) -> np.ndarray | None:
        """Factors on the filter's volatility of the next bars, (bar, asset)."""
        if self.head is None:
            return None
        from foliocast.models.diffusion.departures import next_factors

        return next_factors(self.head, past.universe(self.filter))

    def select(self, assets: Sequence[str]) -> Self:
        """Some of its assets, in this order: what is fitted asset by asset is picked out."""
        places = [self.assets.index(asset) for asset in assets]
        return type(self)(tuple(assets), self.filter.select(places), self.head)


@dataclass(frozen=True)
class Shocks:
    """The past days whose surprises are drawn again.

    Parameters
    ----------
    assets : tuple of str
    record : Record
        Training rows.
    volume : ndarray, shape (time, asset)
        ``volume_z`` of the same rows; all NaN without volume.
    kind : str
        Volatility filter: "blend", "har", "departures", "gjr", "garch" or "ewma".
    """

    assets: tuple[str, ...]
    record: Record
    volume: np.ndarray
    kind: str = "blend"

    @classmethod
    def from_history(cls, panel: Panel, kind: str) -> Shocks:
        """From the rows a model is fitted on."""
        record = Record.of(panel).tail(KEPT)
        known = "volume" in panel.fields
        volume = REGISTRY["volume_z"].compute(panel)[-KEPT:] if known else np.full_like(record.returns, np.nan)
        return cls(panel.assets, record, volume, kind)

    def tables(self) -> dict[str, np.ndarray]:
        """What a saved model keeps of it."""
        return {**vars(self.record), "volume": self.volume}

    @classmethod
    def from_tables(cls, assets: Sequence[str], tables: Mapping[str, np.ndarray], kind: str) -> Shocks:
        """The same again; what an older model did not keep is missing."""
        nothing = np.full_like(tables["returns"], np.nan)
        record = Record(*(tables.get(field.name, nothing) for field in fields(Record)))
        return cls(tuple(assets), record, tables["volume"], kind)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Fitted filters, when first asked for, from training rows only.

        A pooled kind serves the assets that were quoted on all but the first day; the others, and those with too few
        returns, have filters of their own.
        """
        known = np.isfinite(self.record.returns)
        pooled = known[1:].all(axis=0) & (len(known) > ENOUGH) & (self.kind in POOLED)
        out = []
        if pooled.any():
            past, _ = self.record.complete(np.flatnonzero(pooled))
            out.append(Group.fit(tuple(np.array(self.assets)[pooled]), self.kind, past))
        for column in np.flatnonzero(~pooled & (known.sum(axis=0) > VOLUME_WINDOW)):
            past, rows = self.record.complete(np.array([column]))
            kind = "ewma" if len(rows) < ENOUGH else "gjr" if self.kind in POOLED else self.kind
            out.append(Group.fit((self.assets[column],), kind, past))
        return tuple(out)

    @cached_property
    def bank(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns over filtered volatility, centred, and the volume surprises of the same days, (time, asset).

        Gaps hold draws from the pool; days on which no asset has a value are left out.
        """
        returns = self.record.returns
        out = np.full(returns.shape, np.nan)
        for group in self.groups:
            columns = np.array([self.assets.index(asset) for asset in group.assets])
            past, rows = self.record.complete(columns)
            z = past.returns / group.scale(past)
            z[np.abs(z) > LARGEST] = np.nan
            out[np.ix_(rows, columns)] = z - np.nanmean(z, axis=0)
        use = np.isfinite(out).any(axis=1)
        if not use.any():
            use[:] = True
        volume = np.where(np.isfinite(returns), self.volume, np.nan)
        return _fill_from_pool(out[use]), _fill_from_pool(volume[use])

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
        Column j is asset ``j % n_assets`` of path ``j // n_assets``. None: the first mean, bar after bar.
    shocks : sequence of Shocks
        One an asset (several assets may share one object: they are then drawn jointly).
    draw : callable, optional
        As ``step``, with probabilities (column,) as third argument: returns at these probabilities of the model's own
        distribution. Without it returns are expectation plus filtered volatility times shock.
    """

    step: Step | None
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
    volatilities = [] if law.draw is not None else _Sigma.start(law.shocks, start.panel, n_paths)
    looks = law.draw is not None or (horizon > 1 and law.step is not None)
    world = _World.begin(start, n_paths) if looks else None
    samples = np.empty((n_paths, horizon, n_assets))
    means = np.empty((horizon, n_assets))
    for h in range(horizon):
        mean = np.broadcast_to(start.mean, (n_paths, n_assets))
        if h > 0 and law.step is not None:
            assert world is not None
            mean = law.step(world.features, world.unit).reshape(n_paths, n_assets)
        shock, surprise, rank = past.draw(rng.random(n_paths))
        if law.draw is not None:
            assert world is not None
            drawn = law.draw(world.features, world.unit, rank.ravel()).reshape(n_paths, n_assets)
        else:
            sigma = np.empty((n_paths, n_assets))
            for volatility in volatilities:
                sigma[:, volatility.columns] = volatility.sigma()
            drawn = mean + sigma * shock
        samples[:, h] = np.maximum(drawn, LOWEST)
        means[h] = mean.mean(axis=0) if h else start.mean
        moved = np.log1p(samples[:, h])
        for volatility in volatilities:
            volatility.step(moved)
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
    shock, volume = shocks.bank
    return shock[:, column], volume[:, column]


@dataclass
class _Sigma:
    """A filter that runs along all paths for some of the assets."""

    columns: np.ndarray
    filter: VolatilityFilter
    state: State
    departure: np.ndarray | None = None
    bar: int = 0

    @classmethod
    def start(cls, shocks: Sequence[Shocks], panel: Panel, n_paths: int) -> list[_Sigma]:
        """Every filter, run over the history up to the decision.

        A pooled filter is run over the assets it knows that are quoted throughout; an asset left over has an
        exponentially weighted one.
        """
        record = Record.of(panel.rows(max(0, len(panel) - KEPT), len(panel)))
        out, left = [], dict(enumerate(panel.assets))
        for source in {id(s): s for s in shocks}.values():
            for group in source.groups:
                columns = [c for c, a in left.items() if a in group.assets and shocks[c] is source]
                whole = np.isfinite(record.returns[1:, columns]).all(axis=0)
                if len(group.assets) > 1:
                    columns = [c for c, ok in zip(columns, whole) if ok and len(record.returns) > ENOUGH]
                if columns:
                    out.append(cls._run(group.select([panel.assets[c] for c in columns]), columns, record, n_paths))
                    left = {c: a for c, a in left.items() if c not in columns}
        return out + [cls._run(None, [c], record, n_paths) for c in left]

    @classmethod
    def _run(cls, group: Group | None, columns: list[int], record: Record, n_paths: int) -> _Sigma:
        past, _ = record.complete(np.array(columns))
        group = Group.fit(("",), "ewma", past) if group is None else group
        state = group.filter.state(past.returns, past.usable_ranges)
        return cls(np.array(columns), group.filter, group.filter.spread(state, n_paths), group.ahead(past))

    def sigma(self) -> np.ndarray:
        """Volatility of the next bar, (path, own asset)."""
        sigma = self.filter.sigma(self.state)
        if self.departure is None:
            return sigma
        return sigma * self.departure[min(self.bar, len(self.departure) - 1)]

    def step(self, moved: np.ndarray) -> None:
        """One bar of log returns (path, asset) later."""
        self.state = self.filter.step(self.state, moved[:, self.columns])
        self.bar += 1


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
