"""What every scenario model shares: reading history, seeds, chunks, and ``sample`` for skfolio."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.core.conditions import Condition, Given
from foliocast.core.errors import ConfigError, DataError, HistoryError
from foliocast.core.panel import Panel

CHUNK = 1 << 23  # numbers drawn at once: bounds the memory of large universes
LARGE = 1 << 25  # results with more numbers than this are kept in float32
PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Bars:
    """History as a scenario model reads it: complete rows of returns, with prices where there are any.

    Attributes
    ----------
    returns : ndarray, shape (time, asset)
        Simple returns per bar, finite and above -1.
    times : DatetimeIndex
    assets : tuple of str
    prices : mapping of str to ndarray (time, asset), optional
        ``open``, ``high``, ``low``, ``close``, ``previous`` (the close before), and ``volume`` if there is one, when
        the history is a `Panel` that has the first four. A value may be NaN.
    """

    returns: np.ndarray
    times: pd.DatetimeIndex
    assets: tuple[str, ...]
    prices: Mapping[str, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.returns)

    @property
    def log_returns(self) -> np.ndarray:
        return np.log1p(self.returns)

    def tail(self, rows: int) -> Bars:
        """The last rows."""
        prices = None if self.prices is None else {key: values[-rows:] for key, values in self.prices.items()}
        return Bars(self.returns[-rows:], self.times[-rows:], self.assets, prices)

    def select(self, columns: np.ndarray) -> Bars:
        """These columns, by position."""
        prices = None if self.prices is None else {key: values[:, columns] for key, values in self.prices.items()}
        return Bars(self.returns[:, columns], self.times, tuple(self.assets[c] for c in columns), prices)


def read_bars(X: pd.DataFrame | Panel | np.ndarray | Bars, minimum: int = 60) -> Bars:
    """Read returns (time x asset) from a DataFrame, an array or a `Panel` (whose prices then come along).

    NaN policy: only rows complete in every asset are used, so a late listing shortens the history of all. An asset
    without a return in the last row (delisted, not quoted) cannot be simulated.

    Raises
    ------
    DataError
        No assets, repeated assets, unsorted times, an asset that ends early, a return of -100 % or less.
    HistoryError
        Fewer than ``minimum`` complete rows; the message names the asset with the fewest.
    """
    if isinstance(X, Bars):
        bars = X
    elif isinstance(X, Panel):
        close = X.array("close")
        prices = {key: X.array(key)[1:] for key in PRICES} if set(PRICES) <= set(X.fields) else None
        if prices is not None:
            prices["previous"] = close[:-1]
            if "volume" in X.fields:
                prices["volume"] = X.array("volume")[1:]
        bars = Bars(X.return_array()[1:], X.times[1:], X.assets, prices)
    else:
        frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.asarray(X, dtype=float)).add_prefix("x")
        values = frame.to_numpy(float)
        bars = Bars(values, _times(frame.index), tuple(str(c) for c in frame.columns))
    solid = np.ascontiguousarray(bars.returns)  # sums must not depend on the layout a frame happens to have
    return _complete(Bars(solid, bars.times, bars.assets, bars.prices), minimum)


def _times(index: pd.Index) -> pd.DatetimeIndex:
    if isinstance(index, pd.DatetimeIndex):
        if not index.is_monotonic_increasing or index.has_duplicates:
            raise DataError("times of the returns must be strictly increasing and unique; sort them, drop duplicates")
        return index
    return pd.DatetimeIndex(pd.to_datetime(np.arange(len(index)), unit="D"))  # undated: only the order counts


def _complete(bars: Bars, minimum: int) -> Bars:
    returns, assets = bars.returns, bars.assets
    if returns.ndim != 2 or returns.shape[1] == 0:
        raise DataError(f"returns have shape {returns.shape}, expected (time, asset) with at least one asset")
    if len(set(assets)) != len(assets):
        twice = sorted({a for a in assets if assets.count(a) > 1})
        raise DataError(f"assets appear twice in the returns: {', '.join(twice[:5])}")
    known = np.isfinite(returns)
    if len(returns) and not known[-1].all():
        ended = [a for a, ok in zip(assets, known[-1]) if not ok]
        raise DataError(
            f"no return on {bars.times[-1]} for {', '.join(ended[:5])}: delisted or not quoted; drop "
            f"{'it' if len(ended) == 1 else 'them'} to simulate the rest"
        )
    rows = known.all(axis=1)
    if rows.sum() < minimum:
        shortest = assets[int(known.sum(axis=0).argmin())]
        raise HistoryError(
            f"{int(rows.sum())} complete rows of returns found, {minimum} needed (shortest history: {shortest}); "
            "load a longer history or drop the late listings"
        )
    if (returns[rows] <= -1.0).any():
        raise DataError(
            "returns hold values of -1 or less; are they in percent, or prices? Expected fractions: -0.02 for minus 2 %"
        )
    if rows.all():
        return bars
    prices = None if bars.prices is None else {key: values[rows] for key, values in bars.prices.items()}
    return Bars(returns[rows], bars.times[rows], assets, prices)


def as_generator(seed: int | np.random.Generator | None) -> np.random.Generator:
    """A numpy generator from a seed or a generator (handed on as it is)."""
    return seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)


class ScenarioMixin:
    """Everything of a `ScenarioModel` but its mathematics. Mix in *before* sklearn's ``BaseEstimator``.

    A model writes ``_learn(bars)`` (sets attributes ending in ``_``) and ``_sampler(bars, horizon, condition)``, which
    prepares a draw from the end of ``bars`` and returns ``draw(n, rng) -> (n, horizon, asset)``: simple returns that
    meet the condition exactly. It must have a ``random_state`` in its constructor.

    Attributes
    ----------
    assets_ : tuple of str
    knowledge_until_ : Timestamp
        Time of the last row that shaped the model.
    history_ : Bars
        The fitting sample: where ``simulate`` starts when no history is handed in.
    """

    min_history: ClassVar[int] = 60
    fixed_assets: ClassVar[bool] = True
    random_state: int | np.random.Generator | None

    def _learn(self, bars: Bars) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not say what it learns")

    def _sampler(
        self, bars: Bars, horizon: int, condition: Condition
    ) -> Callable[[int, np.random.Generator], np.ndarray]:
        raise NotImplementedError(f"{type(self).__name__} does not say how it draws")

    def fit(self, X: pd.DataFrame | Panel, y: object = None) -> ScenarioMixin:
        """Learn from simple returns (time x asset), or from a `Panel`, whose ranges then inform the volatility.

        Rows with a missing return are left out for all assets (see `read_bars` for the errors raised).
        """
        bars = read_bars(X, self.min_history)
        self.assets_ = bars.assets
        self.n_features_in_ = len(bars.assets)
        if isinstance(X, pd.DataFrame) and all(isinstance(c, str) for c in X.columns):
            self.feature_names_in_ = np.asarray(bars.assets, dtype=object)
        self.knowledge_until_ = bars.times[-1]
        self.history_ = bars
        self._learn(bars)
        return self

    def simulate(
        self,
        history: pd.DataFrame | Panel | None = None,
        horizon: int = 1,
        n_scenarios: int = 1000,
        given: Given | None = None,
        random_state: int | np.random.Generator | None = None,
    ) -> ScenarioSet:
        """Draw joint paths of simple returns that start after the last row of the history.

        Parameters
        ----------
        history : DataFrame (time x asset) of simple returns, or Panel, optional
            What is known at the decision; default: the fitting sample. Must hold the assets of the fit.
        horizon, n_scenarios : int
        given : mapping, optional
            ``{asset: float}`` fixes the compounded return over the horizon, ``{asset: array}`` the path (NaN where
            free). Met in every scenario.
        random_state : int or Generator, optional
            Default: the constructor's. Same seed, same bits, whatever the machine's number of workers.

        Raises
        ------
        ConfigError
            Horizon or number of scenarios below one.
        DataError, HistoryError
            History that cannot be used; see `read_bars`.
        """
        if horizon < 1 or n_scenarios < 1:
            raise ConfigError(f"horizon = {horizon} and n_scenarios = {n_scenarios}: both must be at least 1")
        bars = self._bars(history)
        condition = Condition.parse(given, bars.assets, horizon)
        seed = getattr(self, "random_state", None) if random_state is None else random_state
        draw = self._sampler(bars, horizon, condition)
        returns = draw_in_chunks(draw, (n_scenarios, horizon, len(bars.assets)), as_generator(seed))
        return ScenarioSet(
            returns,
            bars.assets,
            as_of=bars.times[-1],
            knowledge_until=getattr(self, "knowledge_until_", None),
            model=type(self).__name__,
        )

    def sample(
        self,
        n_samples: int = 1000,
        conditioning: Given | None = None,
        random_state: int | np.random.Generator | None = None,
    ) -> np.ndarray:
        """One-step draws from the end of the fitting sample, (n_samples, asset): what skfolio asks of a prior.

        ``conditioning`` ({asset: return}) is skfolio's name for ``given``:
        ``SyntheticData(model, sample_args={"conditioning": {"AAPL": -0.1}})``.
        """
        scenarios = self.simulate(None, 1, n_samples, given=conditioning, random_state=random_state)
        return np.array(scenarios.returns[:, 0, :])

    def _bars(self, history: pd.DataFrame | Panel | None) -> Bars:
        if not hasattr(self, "history_"):
            if self.fixed_assets or history is None:
                raise ConfigError(f"{type(self).__name__} is not fitted: call fit(returns) before simulate or sample")
            return read_bars(history, self.min_history)
        if history is None:
            return self.history_
        if not self.fixed_assets:
            return read_bars(history, self.min_history)
        if isinstance(history, Panel):
            return read_bars(history.select(self.assets_), self.min_history)
        missing = [a for a in self.assets_ if a not in history.columns]
        if missing:
            raise DataError(f"history lacks {', '.join(missing[:5])}, on which {type(self).__name__} was fitted")
        return read_bars(history[list(self.assets_)], self.min_history)


def draw_in_chunks(
    draw: Callable[[int, np.random.Generator], np.ndarray],
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    chunk: int = CHUNK,
) -> np.ndarray:
    """Fill (scenario, horizon, asset) by pieces of bounded size, each with its own child generator."""
    n, horizon, assets = shape
    size = max(1, min(n, chunk // (horizon * assets)))
    dtype = np.float32 if n * horizon * assets > LARGE else np.float64
    starts = range(0, n, size)
    children = rng.spawn(len(starts))
    out = np.empty(shape, dtype)
    for start, child in zip(starts, children):
        stop = min(start + size, n)
        out[start:stop] = draw(stop - start, child)
    return out
