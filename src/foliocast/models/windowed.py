"""What all forecasters share: samples from a panel, one scaling, prediction by rows, simulated paths.

A forecaster sees standardised features of the last ``window`` bars and predicts the next return in units of the
asset's own trailing volatility (``volatility_30``), which makes errors comparable between assets and times:
``return = volatility * (location + spread * network)``. Everything it is scaled by is fitted on the rows handed to
``fit``, and the label of every sample lies inside them.
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
from foliocast.features.transforms import REGISTRY, FeatureSet
from foliocast.features.windows import Windows
from foliocast.models.paths import Draw, Law, Shocks, Start, simulate

CHUNK = 128  # rows predicted at a time, always padded to this: a row's bits do not depend on its neighbours
REACH = 10.0  # standardised features are cut here: a network is not asked about what lies far outside its training
POOLED = "*"


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
        Mean and standard deviation of next return / trailing volatility.
    """

    mean: np.ndarray
    std: np.ndarray
    location: float
    spread: float

    @classmethod
    def fit(cls, features: np.ndarray, target: np.ndarray) -> Scaling:
        """From features (row, feature) and targets (row,), all finite."""
        std = features.std(axis=0)
        spread = float(target.std())
        return cls(
            features.mean(axis=0), np.where(std > 0, std, 1.0), float(target.mean()), spread if spread > 0 else 1.0
        )

    def features(self, values: np.ndarray) -> np.ndarray:
        """Standardised and cut at `REACH`, float32; NaN stays NaN."""
        return np.clip((values - self.mean) / self.std, -REACH, REACH).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist(), "location": self.location, "spread": self.spread}

    @classmethod
    def from_dict(cls, numbers: dict[str, Any]) -> Scaling:
        return cls(np.array(numbers["mean"]), np.array(numbers["std"]), numbers["location"], numbers["spread"])


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
    sigma = REGISTRY["volatility_30"].compute(panel)
    return np.where(sigma > 1e-8, sigma, np.nan)


class WindowForecaster(BaseEstimator):
    """Fitting, prediction and paths of every forecaster; a subclass says how samples become a `Predictor`.

    A subclass's constructor stores at least ``window``, ``features``, ``pooled``, ``any_asset``, ``n_paths``,
    ``volatility`` (the filter of simulated paths) and ``random_state``.
    """

    window: int
    features: Sequence[str] | None
    pooled: bool
    any_asset: bool
    n_paths: int
    volatility: str
    random_state: int

    parts_: dict[str, Part]
    feature_set_: FeatureSet
    knowledge_until_: pd.Timestamp
    trained_assets_: tuple[str, ...]
    assets_: tuple[str, ...]
    data_hash_: str

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

    @staticmethod
    def _target(panel: Panel) -> np.ndarray:
        """Next return in units of trailing volatility, (time, asset); NaN in the last row and outside the universe."""
        out = np.full(panel.shape, np.nan)
        out[:-1] = panel.return_array()[1:] / return_unit(panel)[:-1]
        out[~panel.universe.mask] = np.nan
        return out

    def _fit_part(self, panel: Panel, number: int) -> Part:
        raw, target = self.feature_set_(panel), self._target(panel)
        windows = Windows.complete(raw, self.window, np.isfinite(target))
        chosen = target[windows.ends, windows.assets]
        scaling = Scaling.fit(raw[np.isfinite(raw).all(axis=2)], chosen)
        scaled = Windows(scaling.features(raw), self.window, windows.ends, windows.assets)
        samples = Supervised(scaled, ((chosen - scaling.location) / scaling.spread).astype(np.float32))
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
        start = max(0, int(rows.min()) + 2 - self.window - self.feature_set_.lookback)
        cut = panel.rows(start, int(rows.max()) + 1)
        raw, sigma = self.feature_set_(cut), return_unit(cut)
        place = np.full(len(cut), -1)
        place[rows - start] = np.arange(len(rows))
        for part, columns in self._by_part(panel.assets):
            allowed = np.zeros(cut.shape, dtype=bool)
            allowed[np.ix_(place >= 0, columns)] = True
            windows = Windows.complete(part.scaling.features(raw), self.window, allowed & np.isfinite(sigma))
            z = part.scaling.location + part.scaling.spread * _in_chunks(part.predictor, windows)
            out[place[windows.ends], windows.assets] = z * sigma[windows.ends, windows.assets]
        return out

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
        law = Law(self._on_paths(view.assets, _chunked), shocks, self._sampler(view.assets))
        mean, samples = simulate(start, law, horizon, self.n_paths, rng)
        return Forecast(
            view.as_of, view.assets, mean, samples, knowledge_until=self.knowledge_until_, model=type(self).__name__
        )

    def _sampler(self, assets: Sequence[str]) -> Draw | None:
        """What draws the next return itself; None leaves that to the volatility filter."""
        return None

    def _on_paths(self, assets: Sequence[str], evaluate: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        """From features and volatility of paths, whose columns cycle through the assets, to returns."""
        parts = list(self._by_part(assets))

        def step(features: np.ndarray, unit: np.ndarray, *more: np.ndarray) -> np.ndarray:
            out = np.empty(len(unit))
            for part, columns in parts:
                mine = np.flatnonzero(np.isin(np.arange(len(out)) % len(assets), columns))
                windows = part.scaling.features(features[:, mine]).transpose(1, 0, 2)
                z = evaluate(part.predictor, windows, *(array[mine] for array in more))
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


def _in_chunks(predictor: Predictor, windows: Windows) -> np.ndarray:
    out = np.empty(len(windows))
    for low in range(0, len(windows), CHUNK):
        index = np.arange(low, min(low + CHUNK, len(windows)))
        out[index] = _padded(predictor, windows.take(index))
    return out


def _chunked(predictor: Predictor, windows: np.ndarray) -> np.ndarray:
    return np.concatenate([_padded(predictor, windows[i : i + CHUNK]) for i in range(0, len(windows), CHUNK)])


def _padded(predictor: Predictor, windows: np.ndarray) -> np.ndarray:
    full = np.zeros((CHUNK, *windows.shape[1:]), dtype=np.float32)
    full[: len(windows)] = windows
    return predictor(full)[: len(windows)]
