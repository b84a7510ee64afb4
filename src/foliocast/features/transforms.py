"""Features of prices and volumes: panel in, (time, asset, feature) out, causal.

A feature is a named function in a registry with the number of bars it looks back on; a `FeatureSet` is a choice of
names and is itself a `foliocast.core.protocols.Feature`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from foliocast.core.errors import ConfigError
from foliocast.core.panel import Panel
from foliocast.features.windows import rolling_mean, rolling_std

Compute = Callable[[Panel], np.ndarray]

PRICE_FEATURES = ("volatility_10", "volatility_30", "momentum_10", "momentum_30")
DEFAULT_FEATURES = (*PRICE_FEATURES, "volume_z")


@dataclass(frozen=True)
class FeatureDef:
    """A registered feature.

    Parameters
    ----------
    compute : callable
        Panel -> (time, asset), NaN where the look-back is not full or holds a missing quote.
    lookback : int
        Bars, the present one included, that a value depends on.
    needs : tuple of str
        Fields of the panel it reads.
    """

    compute: Compute
    lookback: int
    needs: tuple[str, ...] = ("close",)


def log_returns(panel: Panel) -> np.ndarray:
    """Logarithm of close over previous close, (time, asset); NaN in the first row and at gaps."""
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(panel.array("close"))
    out = np.full_like(logs, np.nan)
    out[1:] = logs[1:] - logs[:-1]
    return out


def _volatility(window: int) -> FeatureDef:
    return FeatureDef(lambda panel: rolling_std(log_returns(panel), window), window + 1)


def _momentum(window: int) -> FeatureDef:
    def compute(panel: Panel) -> np.ndarray:
        close = panel.array("close")
        out = np.full_like(close, np.nan)
        out[window:] = close[window:] / close[:-window] - 1.0
        return out

    return FeatureDef(compute, window + 1)


def _volume_z(window: int) -> FeatureDef:
    def compute(panel: Panel) -> np.ndarray:
        volume = panel.array("volume")
        spread = rolling_std(volume, window)
        spread[spread == 0] = np.nan  # a constant volume has no z-score
        return (volume - rolling_mean(volume, window)) / spread

    return FeatureDef(compute, window, ("volume",))


def _log_return() -> FeatureDef:
    return FeatureDef(log_returns, 2)


def _overnight() -> FeatureDef:
    """Logarithm of the open over the previous close."""

    def compute(panel: Panel) -> np.ndarray:
        out = np.full(panel.shape, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            out[1:] = np.log(panel.array("open")[1:] / panel.array("close")[:-1])
        return out

    return FeatureDef(compute, 2, ("open", "close"))


def _intraday() -> FeatureDef:
    """Logarithm of the close over the open of the same bar."""

    def compute(panel: Panel) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log(panel.array("close") / panel.array("open"))

    return FeatureDef(compute, 1, ("open", "close"))


def _close_in_range() -> FeatureDef:
    """Where the close lies between low (-1) and high (1) of its bar; 0 for a bar without a range."""

    def compute(panel: Panel) -> np.ndarray:
        high, low, close = (panel.array(name) for name in ("high", "low", "close"))
        width = high - low
        with np.errstate(invalid="ignore", divide="ignore"):
            place = (2.0 * close - high - low) / width
        return np.where(width > 0, place, np.where(np.isfinite(close + width), 0.0, np.nan))

    return FeatureDef(compute, 1, ("high", "low", "close"))


def _range() -> FeatureDef:
    """Logarithm of high over low: Parkinson's daily volatility, times 2 sqrt(ln 2)."""

    def compute(panel: Panel) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log(panel.array("high") / panel.array("low"))

    return FeatureDef(compute, 1, ("high", "low"))


REGISTRY: dict[str, FeatureDef] = {
    **{f"volatility_{n}": _volatility(n) for n in (5, 10, 20, 30, 60)},
    **{f"momentum_{n}": _momentum(n) for n in (5, 10, 20, 30, 60, 120)},
    "volume_z": _volume_z(30),
    "log_return": _log_return(),
    "log_range": _range(),
    "overnight": _overnight(),
    "intraday": _intraday(),
    "close_in_range": _close_in_range(),
}


@dataclass(frozen=True)
class FeatureSet:
    """A choice of features, in this order.

    Parameters
    ----------
    names : tuple of str
        Names in `REGISTRY`. The default is the five of the attention LSTM: ``volatility_10`` and ``volatility_30``
        (standard deviation, ddof 1, of log returns), ``momentum_10`` and ``momentum_30`` (relative change of the
        close) and ``volume_z`` (z-score of the volume within its last 30 bars).

    Raises
    ------
    ConfigError
        Unknown or repeated names.
    """

    names: tuple[str, ...] = DEFAULT_FEATURES

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        unknown = [name for name in self.names if name not in REGISTRY]
        if unknown:
            raise ConfigError(f"no feature called {', '.join(unknown)}; choose from {', '.join(REGISTRY)}")
        if not self.names or len(set(self.names)) < len(self.names):
            raise ConfigError(f"features must be named, each once; found {list(self.names)}")

    @classmethod
    def for_panel(cls, panel: Panel, names: Iterable[str] | None = None) -> FeatureSet:
        """These names; by default the five, or the four of prices alone when the panel holds no volume.

        The rule looks at the *fields* of the panel only, so that training and test rows always agree.
        """
        if names is not None:
            return cls(tuple(names))
        return cls(DEFAULT_FEATURES if "volume" in panel.fields else PRICE_FEATURES)

    @property
    def lookback(self) -> int:
        """Bars, the present one included, that a row depends on."""
        return max(REGISTRY[name].lookback for name in self.names)

    def __add__(self, other: FeatureSet) -> FeatureSet:
        return FeatureSet(tuple(dict.fromkeys((*self.names, *other.names))))

    def __call__(self, panel: Panel) -> np.ndarray:
        """Features, (time, asset, feature); NaN where a look-back is not full or holds a missing quote.

        Raises
        ------
        ConfigError
            A feature reads a field that the panel does not hold.
        """
        for name in self.names:
            absent = [field for field in REGISTRY[name].needs if field not in panel.fields]
            if absent:
                raise ConfigError(
                    f"feature '{name}' needs {', '.join(absent)}, but '{panel.name}' holds {', '.join(panel.fields)}; "
                    "leave the feature out or load data that have it"
                )
        return np.stack([REGISTRY[name].compute(panel) for name in self.names], axis=2)
