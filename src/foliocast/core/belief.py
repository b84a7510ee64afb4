"""What a model says about the future: `Forecast` (a distribution an asset) and `ScenarioSet` (joint paths)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from foliocast.core.errors import DataError


@dataclass(frozen=True)
class ScenarioSet:
    """Joint futures of several assets: the waist between every model and every allocator.

    Parameters
    ----------
    returns : ndarray, shape (scenario, horizon, asset)
        Simple returns per bar, as fractions. Finite.
    assets : tuple of str
    as_of : Timestamp or None
        Time of the last information used.
    probabilities : ndarray, shape (scenario,), optional
        Non-negative, summing to one; equal by default.
    knowledge_until : Timestamp or None
        Last time of any data that shaped the model.
    model : str
        Who made it.
    """

    returns: np.ndarray
    assets: tuple[str, ...]
    as_of: pd.Timestamp | None = None
    probabilities: np.ndarray = field(default=None)  # type: ignore[arg-type]
    knowledge_until: pd.Timestamp | None = None
    model: str = ""

    def __post_init__(self) -> None:
        returns = np.asarray(self.returns)
        returns = returns if returns.dtype in (np.float32, np.float64) else returns.astype(float)
        if returns.ndim != 3:
            raise DataError(f"scenario returns have {returns.ndim} axes, expected (scenario, horizon, asset)")
        if len(self.assets) != returns.shape[2]:
            raise DataError(f"{len(self.assets)} asset names for {returns.shape[2]} columns of scenario returns")
        if not np.isfinite(returns).all():
            raise DataError("scenario returns hold NaN or infinite values")
        p = self.probabilities
        p = np.full(len(returns), 1.0 / max(1, len(returns))) if p is None else np.asarray(p, dtype=float)
        if p.shape != (len(returns),) or (p < 0).any() or abs(p.sum() - 1.0) > 1e-9:
            raise DataError("scenario probabilities must be non-negative, one a scenario, and sum to one")
        for array in (returns, p):
            array.setflags(write=False)
        object.__setattr__(self, "returns", returns)
        object.__setattr__(self, "assets", tuple(str(a) for a in self.assets))
        object.__setattr__(self, "probabilities", p)

    @classmethod
    def from_returns(
        cls,
        returns: np.ndarray | pd.DataFrame,
        assets: Iterable[str] | None = None,
        probabilities: np.ndarray | None = None,
    ) -> ScenarioSet:
        """From an array (scenario, asset), an array (scenario, horizon, asset), or a DataFrame (scenario x asset)."""
        if isinstance(returns, pd.DataFrame):
            assets = list(returns.columns) if assets is None else assets
            returns = returns.to_numpy(float)
        values = np.array(returns, dtype=float)
        if values.ndim == 2:
            values = values[:, None, :]
        if values.ndim != 3:
            raise DataError(
                f"returns have {values.ndim} axes, expected (scenario, asset) or (scenario, horizon, asset)"
            )
        names = tuple(f"A{i}" for i in range(values.shape[2])) if assets is None else tuple(assets)
        return cls(values, names, probabilities=probabilities)  # type: ignore[arg-type]

    @property
    def n_scenarios(self) -> int:
        return self.returns.shape[0]

    @property
    def horizon(self) -> int:
        return self.returns.shape[1]

    def __len__(self) -> int:
        return self.n_scenarios

    def cumulative(self) -> np.ndarray:
        """Compounded return over the horizon, (scenario, asset)."""
        return np.prod(1.0 + self.returns, axis=1) - 1.0

    def to_frame(self) -> pd.DataFrame:
        """Cumulative returns as a DataFrame (scenario x asset)."""
        return pd.DataFrame(self.cumulative(), columns=list(self.assets))

    def select(self, assets: Iterable[str]) -> ScenarioSet:
        """Only these assets, in this order."""
        wanted = [str(a) for a in assets]
        missing = [a for a in wanted if a not in self.assets]
        if missing:
            raise DataError(f"no scenarios for {', '.join(missing)}; the set holds {', '.join(self.assets[:8])}")
        columns = [self.assets.index(a) for a in wanted]
        return self._with(self.returns[:, :, columns].copy(), tuple(wanted), self.probabilities)

    def reweighted(self, probabilities: np.ndarray) -> ScenarioSet:
        """The same futures, believed otherwise."""
        return self._with(self.returns, self.assets, np.asarray(probabilities, dtype=float))

    def portfolio(self, weights: pd.Series | np.ndarray) -> np.ndarray:
        """Return over the horizon of a portfolio bought now and held, (scenario,)."""
        w = (
            weights.reindex(self.assets).fillna(0.0).to_numpy()
            if isinstance(weights, pd.Series)
            else np.asarray(weights)
        )
        return self.cumulative() @ w

    def _with(self, returns: np.ndarray, assets: tuple[str, ...], probabilities: np.ndarray) -> ScenarioSet:
        return ScenarioSet(returns, assets, self.as_of, probabilities, self.knowledge_until, self.model)


@dataclass(frozen=True)
class Forecast:
    """Distribution of future returns, asset by asset.

    Parameters
    ----------
    as_of : Timestamp
        Time of the last information used.
    assets : tuple of str
    mean : ndarray, shape (horizon, asset)
        Expected simple return of each bar ahead.
    samples : ndarray, shape (scenario, horizon, asset), optional
        Draws of the per-bar returns; quantiles and bands are read off them.
    times : DatetimeIndex, optional
        The future bars (exchange trading days).
    knowledge_until : Timestamp, optional
        Last time of any data the model was fitted on.
    model : str
    """

    as_of: pd.Timestamp
    assets: tuple[str, ...]
    mean: np.ndarray
    samples: np.ndarray | None = None
    times: pd.DatetimeIndex | None = None
    knowledge_until: pd.Timestamp | None = None
    model: str = ""

    def __post_init__(self) -> None:
        if self.mean.ndim != 2 or self.mean.shape[1] != len(self.assets):
            raise DataError(f"forecast mean has shape {self.mean.shape}, expected (horizon, {len(self.assets)})")
        if self.samples is not None and self.samples.shape[1:] != self.mean.shape:
            raise DataError(
                f"forecast samples have shape {self.samples.shape}, expected (scenario, *{self.mean.shape})"
            )

    @property
    def horizon(self) -> int:
        return self.mean.shape[0]

    def quantile(self, q: float | Iterable[float], cumulative: bool = False) -> np.ndarray:
        """Quantiles of the per-bar (or compounded) returns: (horizon, asset), or (q, horizon, asset)."""
        if self.samples is None:
            raise DataError(
                f"the forecast of {self.model or 'this model'} is a point, it has no samples to take quantiles of"
            )
        draws = np.cumprod(1.0 + self.samples, axis=1) - 1.0 if cumulative else self.samples
        return np.quantile(draws, np.asarray(q, dtype=float), axis=0)

    def to_frame(self, levels: Iterable[float] = (0.8, 0.95)) -> pd.DataFrame:
        """Cumulative path with bands: rows (asset, step), columns ``mean`` and ``low_80``, ``high_80``, ...

        Bands are of the compounded return since ``as_of``.
        """
        steps = range(1, self.horizon + 1) if self.times is None else self.times
        index = pd.MultiIndex.from_product(
            [self.assets, steps], names=["asset", "step" if self.times is None else "date"]
        )
        table = {"mean": (np.cumprod(1.0 + self.mean, axis=0) - 1.0).T.ravel()}
        for level in levels if self.samples is not None else ():
            low, high = self.quantile([(1 - level) / 2, (1 + level) / 2], cumulative=True)
            table[f"low_{level * 100:g}"] = low.T.ravel()
            table[f"high_{level * 100:g}"] = high.T.ravel()
        return pd.DataFrame(table, index=index)
