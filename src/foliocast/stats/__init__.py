"""Pure functions of returns, forecasts and scenarios; each module is loaded when one of its names is first used."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_MODULES: dict[str, tuple[str, ...]] = {
    "measures": (
        "annual_return",
        "calmar_ratio",
        "cvar",
        "drawdown",
        "information_ratio",
        "kurtosis",
        "mae",
        "mape",
        "max_drawdown",
        "mse",
        "rank_ic",
        "rmse",
        "sharpe_ratio",
        "skewness",
        "sortino_ratio",
        "turnover",
        "value_at_risk",
        "volatility",
        "wealth",
        "weighted_ic",
        "win_rate",
    ),
    "moments": (
        "correlation",
        "covariance",
        "ewma_covariance",
        "ewma_mean",
        "ewma_volatility",
        "ledoit_wolf",
        "nearest_psd",
        "shrink_correlation",
    ),
    "bootstrap": (
        "Interval",
        "headline",
        "headlines",
        "optimal_block",
        "stationary_bootstrap",
    ),
    "inference": (
        "TestResult",
        "annualisation_factor",
        "christoffersen_test",
        "conditional_coverage_test",
        "deflated_sharpe",
        "diebold_mariano",
        "expected_max_sharpe",
        "iid_sharpe_error",
        "kupiec_test",
        "mean_error",
        "min_track_record",
        "model_confidence_set",
        "pbo",
        "probabilistic_sharpe",
        "sharpe_error",
        "sharpe_moments",
        "spa_test",
        "step_m",
    ),
    "scoring": (
        "coverage",
        "crps",
        "energy_score",
        "fz0",
        "pinball",
        "pit",
        "var_es",
        "variogram_score",
    ),
    "fidelity": ("compare_facts", "coverage_precision", "facts", "memorisation"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'foliocast.stats' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"foliocast.stats.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


class _Package(ModuleType):
    """Importing a submodule must not put it in the place of a function of the same name (`volatility`)."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
