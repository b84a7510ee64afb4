"""What all forecasters share: samples from a panel, one scaling, prediction by rows, simulated paths.

A forecaster sees standardised features of the last ``window`` bars and predicts the next return in units of the
asset's own trailing volatility (``volatility_30``), which makes errors comparable between assets and times:
``return = volatility * (location + spread * network)``. Everything it is scaled by is fitted on the rows handed to
``fit``, and the label of every sample lies inside them. With ``cross_section`` features and targets are first
standardised across the members of their date: the model then says who does better than whom.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from foliocast.core.belief import Forecast
from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.panel import Panel, View
from foliocast.features.cross_section import standardise_by_date
from foliocast.features.transforms import REGISTRY, FeatureSet
from foliocast.features.windows import Windows
from foliocast.models.paths import Draw, Law, Shocks, Start, simulate

CHUNK = 128  # rows predicted at a time, always padded to this: a row's bits do not depend on its neighbours
REACH = 10.0  # standardised features are cut here: a network is not asked about what lies far outside its training
POOLED = "*"
UNIT = "volatility_30"  # returns are counted in it


class Predictor(Protocol):
    """What was learnt from samples: windows in, standardised next return out."""

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """(sample, time, feature) -> (sample,)."""
        ...


@dataclass(frozen=True)
class Scaling:
    """Numbers fitted on training rows.

    Parameters
    ----------
    mean, std : ndarray, shape (feature,)
        Of the features.
    location, spread : float
        Mean and standard deviation of next return / trailing volatility; with ``cross_section`` the deviation is that
        within a date.
    cross_section : bool
        Features are standardised across the members of their date before anything else.
    """

    mean: np.ndarray
    std: np.ndarray
    location: float
    spread: float
    cross_section: bool = False

    @classmethod
    def fit(cls, features: np.ndarray, target: np.ndarray, members: np.ndarray, cross_section: bool) -> Scaling:
        """From features (time, asset, feature) and targets (time, asset); NaN where there is none."""
        used = standardise_by_date(features, members) if cross_section else features
        rows = used[np.isfinite(used).all(axis=2)]
        std = rows.std(axis=0)
        wanted = target[np.isfinite(target)]
        spread = float(np.sqrt(_within_dates(target))) if cross_section else float(wanted.std())
        scale = spread if spread > 0 else 1.0
        return cls(rows.mean(axis=0), np.where(std > 0, std, 1.0), float(wanted.mean()), scale, cross_section)

    def features(self, values: np.ndarray, members: np.ndarray | None = None) -> np.ndarray:
        """Standardised and cut at `REACH`, float32, (..., asset, feature); NaN stays NaN.

        ``members`` (..., asset): whose mean and deviation count across a date.
        """
        used = standardise_by_date(values, members) if self.cross_section else values
        return np.clip((used - self.mean) / self.std, -REACH, REACH).astype(np.float32)

    def target(self, values: np.ndarray) -> np.ndarray:
        """Standardised targets (time, asset), float32; NaN stays NaN."""
        if self.cross_section:
            return standardise_by_date(values[..., None])[..., 0].astype(np.float32)
        return ((values - self.location) / self.spread).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        return {
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "location": self.location,
            "spread": self.spread,
            "cross_section": self.cross_section,
        }

    @classmethod
    def from_dict(cls, numbers: dict[str, Any]) -> Scaling:
        return cls(
            np.array(numbers["mean"]),
            np.array(numbers["std"]),
            numbers["location"],
            numbers["spread"],
            numbers.get("cross_section", False),
        )


def _within_dates(target: np.ndarray) -> float:
    """Variance around the mean of the date, over all dates with two assets or more."""
    known = np.isfinite(target)
    n = known.sum(axis=1)
    mean = np.where(known, target, 0.0).sum(axis=1) / np.maximum(n, 1)
    away = np.where(known & (n > 1)[:, None], target - mean[:, None], 0.0)
    return float((away**2).sum() / max(1, n[n > 1].sum()))


@dataclass(frozen=True)
class Part:
    """A fitted predictor with its scaling: one for the pool, or one an asset."""

    predictor: Predictor
    scaling: Scaling
    shocks: Shocks


@dataclass(frozen=True)
class Supervised:
    """Training samples: windows of standardised features and standardised next returns.

    Parameters
    ----------
    windows : Windows
    target : ndarray, shape (sample,)
    """

    windows: Windows
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.target)

    def subset(self, index: np.ndarray) -> Supervised:
        """Only the samples with these numbers."""
        return Supervised(self.windows.subset(index), self.target[index])


def return_unit(panel: Panel) -> np.ndarray:
    """The unit of returns: trailing 30-bar volatility, (time, asset); NaN where unknown or zero."""
    sigma = REGISTRY[UNIT].compute(panel)
    return np.where(sigma > 1e-8, sigma, np.nan)


class _Learnt:
    """What `WindowForecaster.fit` leaves behind."""

    parts_: dict[str, Part]
    feature_set_: FeatureSet
    knowledge_until_: pd.Timestamp
    trained_assets_: tuple[str, ...]
    assets_: tuple[str, ...]
    data_hash_: str


@dataclass(kw_only=True, eq=False, repr=False)
class WindowForecaster(_Learnt, BaseEstimator):
    """Fitting, prediction and paths of every forecaster; a subclass says how samples become a `Predictor`.

    Parameters
    ----------
    window : int
        Bars of features seen.
    features : sequence of str, optional
        Names in `foliocast.features.transforms.REGISTRY`; default the five (four without volume).
    pooled : bool
        One model for all assets, or one for each.
    any_asset : bool
        Let a pooled model serve assets it was not fitted on.
    cross_section : bool
        Standardise features and targets across the members of each date (pooled models only). Such a model has to be
        handed the whole cross-section, not one asset.
    ahead : int
        Bars that the label looks ahead: the expectation is that of the mean return of the next ``ahead`` bars.
    n_paths : int
        Simulated futures of `forecast`.
    volatility : {"blend", "har", "departures", "gjr", "garch", "ewma"}
        Filter that gives simulated paths their volatility; the first three pool all assets and use the ranges of bars.
    random_state : int
    """

    window: int = 60
    features: Sequence[str] | None = None
    pooled: bool = True
    any_asset: bool = False
    cross_section: bool = False
    ahead: int = 1
    n_paths: int = 500
    volatility: str = "blend"
    random_state: int = 0

    @abstractmethod
    def _learn(self, samples: Supervised, seed: int) -> Predictor:
        """Fit on standardised samples."""

    # ---- fitting
    def fit(self, panel: Panel, y: object = None) -> Self:
        """Learn from these rows and no others; the label of every sample lies inside them.

        Raises
        ------
        HistoryError
            No asset has a full window and a label.
        """
        if self.any_asset and not self.pooled:
            raise ConfigError("any_asset = True needs pooled = True: a model of one asset does not serve another")
        if not 1 <= self.ahead < len(panel):
            raise HistoryError(f"ahead = {self.ahead} bars: a label has to lie inside the {len(panel)} bars handed in")
        if self.cross_section and not self.pooled:
            raise ConfigError("cross_section = True needs pooled = True: one asset has no cross-section")
        self.feature_set_ = FeatureSet.for_panel(panel, self.features)
        raw, target = self.feature_set_(panel), self._target(panel)
        windows = Windows.complete(raw, self.window, np.isfinite(target))
        if not len(windows):
            raise HistoryError(
                f"{len(panel)} bars of {', '.join(panel.assets[:5])} give no training sample: "
                f"{self.feature_set_.lookback + self.window} bars without a gap are needed "
                f"(look-back {self.feature_set_.lookback}, window {self.window}, one for the label)"
            )
        learnt = np.unique(windows.assets)
        groups = {POOLED: np.arange(len(panel.assets))} if self.pooled else {panel.assets[j]: j for j in learnt}
        self.parts_ = {
            name: self._fit_part(panel.select(np.array(panel.assets)[columns].reshape(-1)), number)
            for number, (name, columns) in enumerate(groups.items())
        }
        self.trained_assets_ = tuple(panel.assets[j] for j in learnt)
        self.assets_ = panel.assets
        self.knowledge_until_ = panel.times[-1]
        self.data_hash_ = panel.data_hash
        return self

    def _target(self, panel: Panel) -> np.ndarray:
        """Next return (mean of the next ``ahead``) in units of trailing volatility, (time, asset).

        NaN where the label would lie outside the rows, and outside the universe.
        """
        out, close, k = np.full(panel.shape, np.nan), panel.array("close"), self.ahead
        out[:-k] = (close[k:] / close[:-k] - 1.0) / k / return_unit(panel)[:-k]
        out[~panel.universe.mask] = np.nan
        return out

    def _fit_part(self, panel: Panel, number: int) -> Part:
        raw, target = self.feature_set_(panel), self._target(panel)
        windows = Windows.complete(raw, self.window, np.isfinite(target))
        chosen = np.full_like(target, np.nan)
        chosen[windows.ends, windows.assets] = target[windows.ends, windows.assets]
        members = panel.universe.mask
        scaling = Scaling.fit(raw, chosen, members, self.cross_section)
        scaled = Windows(scaling.features(raw, members), self.window, windows.ends, windows.assets)
        samples = Supervised(scaled, scaling.target(chosen)[windows.ends, windows.assets])
        return Part(self._learn(samples, number), scaling, Shocks.from_history(panel, self.volatility))

    # ---- prediction
    def predict(self, panel: Panel, times: pd.DatetimeIndex | None = None) -> pd.DataFrame:
        """Expected simple return of the next bar, (time x asset); row t uses rows <= t only.

        Parameters
        ----------
        panel : Panel
            May begin long before ``times``: earlier rows are context.
        times : DatetimeIndex, optional
            Bars of the panel; default all of them.

        Returns
        -------
        DataFrame
            NaN where an asset has no full window without gaps, or had no training sample.

        Raises
        ------
        ConfigError
            An asset that the model was not fitted on (unless ``any_asset``).
        """
        check_is_fitted(self, "parts_")
        self._check_assets(panel.assets)
        rows = np.arange(len(panel)) if times is None else positions(panel, times)
        if panel.has_late_values:  # the record of that time differs from today's: read it bar by bar
            views = [panel.asof(time).panel for time in panel.times[rows]]
            table = [self._expected(view, np.array([len(view) - 1]))[0] for view in views]
            out = np.array(table).reshape(len(rows), len(panel.assets))
        else:
            out = self._expected(panel, rows)
        return pd.DataFrame(out, index=panel.times[rows], columns=list(panel.assets))

    def _expected(self, panel: Panel, rows: np.ndarray) -> np.ndarray:
        out = np.full((len(rows), len(panel.assets)), np.nan)
        if not len(rows):
            return out
        look = max(self.window - 1 + self.feature_set_.lookback, REGISTRY[UNIT].lookback)
        start = max(0, int(rows.min()) + 1 - look)
        cut = panel.rows(start, int(rows.max()) + 1)
        raw, sigma = self.feature_set_(cut), return_unit(cut)
        place = np.full(len(cut), -1)
        place[rows - start] = np.arange(len(rows))
        for part, columns in self._by_part(panel.assets):
            allowed = np.zeros(cut.shape, dtype=bool)
            allowed[np.ix_(place >= 0, columns)] = True
            scaled = part.scaling.features(raw, cut.universe.mask)
            windows = Windows.complete(scaled, self.window, allowed & np.isfinite(sigma))
            z = part.scaling.location + part.scaling.spread * self._evaluate(part.predictor, windows, cut.universe.mask)
            out[place[windows.ends], windows.assets] = z * sigma[windows.ends, windows.assets]
        return out

    def _evaluate(self, predictor: Predictor, windows: Windows, members: np.ndarray) -> np.ndarray:
        """Standardised prediction of every window, (sample,); ``members`` (time, asset) as in the windows' values."""
        return in_chunks(predictor, windows.take, len(windows), CHUNK)

    def _by_part(self, assets: Sequence[str]) -> Iterator[tuple[Part, np.ndarray]]:
        """Each part with the columns that it predicts; an asset that had no sample in training has no part."""
        known = [j for j, asset in enumerate(assets) if self.any_asset or asset in self.trained_assets_]
        if self.pooled:
            yield self.parts_[POOLED], np.array(known, dtype=int)
        else:
            for column in known:
                yield self.parts_[assets[column]], np.array([column])

    def _check_assets(self, assets: Sequence[str]) -> None:
        unknown = [a for a in assets if a not in self.assets_]
        if unknown and not self.any_asset:
            raise ConfigError(
                f"{type(self).__name__} was fitted on {', '.join(self.assets_[:8])} and does not know "
                f"{', '.join(unknown[:5])}; refit it with these assets, or fit with any_asset=True to let a pooled "
                "model serve assets it has not seen"
            )

    # ---- paths
    def forecast(self, view: View, horizon: int = 1) -> Forecast:
        """Distribution of the next ``horizon`` returns of every asset.

        The first mean equals `predict`. Beyond it ``n_paths`` futures are simulated: features are recomputed along
        every path, shocks (residual and volume of the same past day) are drawn from the training rows.

        Raises
        ------
        HistoryError
            An asset has no full window at ``view.as_of``.
        """
        check_is_fitted(self, "parts_")
        self._check_assets(view.assets)
        if horizon < 1:
            raise ConfigError(f"horizon = {horizon} bars; a forecast looks at least one bar ahead")
        first = self._expected(view.panel, np.array([len(view) - 1]))[0]
        if not np.isfinite(first).all():
            lacking = [a for a, value in zip(view.assets, first) if not np.isfinite(value)]
            raise HistoryError(
                f"no forecast for {', '.join(lacking[:5])} at {view.as_of.date()}: the last "
                f"{self.feature_set_.lookback + self.window - 1} bars must be quoted without a gap, "
                "and the asset must have had training rows"
            )
        rng = np.random.default_rng([self.random_state, len(view)])
        start = Start(view.panel, self.feature_set_, self.window, first)
        shocks = [part.shocks for part, columns in self._by_part(view.assets) for _ in columns]
        law = Law(self._on_paths(view, self._mean_of), shocks, self._sampler(view))
        mean, samples = simulate(start, law, horizon, self.n_paths, rng)
        return Forecast(
            view.as_of, view.assets, mean, samples, knowledge_until=self.knowledge_until_, model=type(self).__name__
        )

    def _sampler(self, view: View) -> Draw | None:
        """What draws the next return itself; None leaves that to the volatility filter."""
        return None

    def _mean_of(self, predictor: Predictor, windows: np.ndarray, members: np.ndarray) -> np.ndarray:
        """Standardised prediction on paths, (path, asset, time, feature) -> (path * asset,)."""
        flat = windows.reshape(-1, *windows.shape[2:])
        return in_chunks(predictor, flat.__getitem__, len(flat), CHUNK)

    def _on_paths(self, view: View, evaluate: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        """From features and volatility of paths, whose columns cycle through the assets, to returns."""
        parts, n_assets = list(self._by_part(view.assets)), len(view.assets)

        def step(features: np.ndarray, unit: np.ndarray, *more: np.ndarray) -> np.ndarray:
            out = np.empty(len(unit))
            for part, columns in parts:
                mine = np.flatnonzero(np.isin(np.arange(len(out)) % n_assets, columns))
                members = view.members[columns]
                paths = features[:, mine].reshape(len(features), -1, len(columns), features.shape[2])
                windows = part.scaling.features(paths, members).transpose(1, 2, 0, 3)
                z = evaluate(part.predictor, windows, members, *(array[mine] for array in more))
                out[mine] = (part.scaling.location + part.scaling.spread * z) * unit[mine]
            return out

        return step


def positions(panel: Panel, times: pd.DatetimeIndex) -> np.ndarray:
    """Rows of the panel at these times; every one must be a bar."""
    rows = panel.times.get_indexer(pd.DatetimeIndex(times))
    if (rows < 0).any():
        strange = pd.DatetimeIndex(times)[rows < 0][0]
        raise HistoryError(f"{strange} is no bar of '{panel.name}' ({panel.times[0]} to {panel.times[-1]})")
    return rows


def in_chunks(
    predictor: Callable[..., np.ndarray], take: Callable[[np.ndarray], np.ndarray], n: int, size: int
) -> np.ndarray:
    """A predictor over ``n`` inputs, ``size`` at a time, the last batch padded: bits do not depend on company."""
    out = []
    for low in range(0, n, size):
        part = take(np.arange(low, min(low + size, n)))
        full = np.zeros((size, *part.shape[1:]), dtype=part.dtype)
        full[: len(part)] = part
        out.append(predictor(full)[: len(part)])
    return np.concatenate(out) if out else np.empty(0)
