"""Scenarios by name: which models there are, one simulation, and what to say about it."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.core.conditions import Condition, Given
from foliocast.core.errors import ConfigError, LookAheadError
from foliocast.core.panel import Panel
from foliocast.core.protocols import ScenarioModel
from foliocast.workflows.saved import find_saved, load_saved

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
FHS = "foliocast.scenarios.fhs:FilteredHistoricalSimulation"
COPULA = "foliocast.scenarios.copula"

# name -> (where it lives, its arguments); loaded when asked for, so that no name costs an import
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bootstrap": ("foliocast.scenarios.bootstrap:BlockBootstrap", {}),
    "iid": ("foliocast.scenarios.bootstrap:BlockBootstrap", {"block_length": 1.0}),
    "fhs": (FHS, {"volatility": "blend", "correlation": "ewma"}),
    "fhs-ewma": (FHS, {"volatility": "ewma"}),
    "fhs-garch": (FHS, {"volatility": "garch"}),
    "fhs-gjr": (FHS, {"volatility": "gjr"}),
    "fhs-har": (FHS, {"volatility": "har", "correlation": "ewma"}),
    "gaussian-copula": (f"{COPULA}:GaussianCopula", {}),
    "t-copula": (f"{COPULA}:StudentTCopula", {}),
    "diffusion": ("foliocast.models.diffusion.generator:DiffusionScenarios", {}),
    "pretrained": ("foliocast.models.diffusion.pretrained:PretrainedScenarios", {}),
}


def make_model(name: str, random_state: int | None = None, **options: Any) -> ScenarioModel:
    """An unfitted scenario model by name.

    Raises
    ------
    ConfigError
        Unknown name; the message lists those there are.
    """
    if name not in MODELS:
        raise ConfigError(
            f"scenario model '{name}' is unknown; choose one of {', '.join(MODELS)}, or train and name one"
        )
    path, defaults = MODELS[name]
    module, kind = path.split(":")
    return getattr(importlib.import_module(module), kind)(**{**defaults, **options, "random_state": random_state})


def simulate(
    panel: Panel,
    model: str | ScenarioModel = "fhs",
    assets: list[str] | None = None,
    horizon: int = 20,
    n: int = 1000,
    given: Given | None = None,
    seed: int = 0,
    train: int = 2520,
) -> ScenarioSet:
    """Fit a model on the last rows of the panel and draw from its end.

    Parameters
    ----------
    model : str or ScenarioModel
        A name of `MODELS`, the name or folder of a trained model, or an unfitted model. One that
        needs no fit (``fixed_assets`` False) is not fitted.
    assets : list of str, optional
        Default: all of the panel.
    given : mapping, optional
        ``{asset: return over the horizon}`` or ``{asset: path}``; met in every scenario.
    train : int
        Bars of history used, at most.

    Raises
    ------
    LookAheadError
        The model has seen data after the panel's last bar.
    """
    chosen = panel if assets is None else panel.select(assets)
    Condition.parse(given, chosen.assets, horizon)  # a bad condition should not cost a fit
    return draw(*prepare(chosen, model, seed, train), horizon, n, given, seed)


def prepare(panel: Panel, model: str | ScenarioModel, seed: int = 0, train: int = 2520) -> tuple[ScenarioModel, Panel]:
    """A model ready to draw, and the last ``train`` bars of the panel, from whose end it draws."""
    recent = panel.rows(max(0, len(panel) - train - 1), len(panel))
    return _fitted(model, recent, seed), recent


def draw(
    fitted: ScenarioModel, recent: Panel, horizon: int, n: int, given: Given | None = None, seed: int = 0
) -> ScenarioSet:
    """Scenarios from the end of a panel, by a model that is ready.

    Raises
    ------
    LookAheadError
        The model has seen data after the panel's last bar.
    """
    scenarios = fitted.simulate(recent, horizon, n, given=given, random_state=seed)  # type: ignore[arg-type]
    if scenarios.knowledge_until is not None and scenarios.as_of is not None:
        known, now = pd.Timestamp(scenarios.knowledge_until), pd.Timestamp(scenarios.as_of)
        if known.tz_localize(None) > now.tz_localize(None):
            raise LookAheadError(f"the model has seen data up to {known}, after the decision at {now}; use later data")
    return scenarios


def _fitted(model: str | ScenarioModel, recent: Panel, seed: int) -> ScenarioModel:
    """The model ready to draw: trained before, in no need of a fit, or fitted now."""
    if isinstance(model, str) and model not in MODELS and find_saved(model) is not None:
        kept: ScenarioModel = load_saved(model, "simulate")
        return kept
    made = make_model(model, seed) if isinstance(model, str) else model
    return made.fit(recent) if getattr(made, "fixed_assets", True) else made  # type: ignore[arg-type]


def summary(scenarios: ScenarioSet, given: Given | None = None) -> dict[str, Any]:
    """What the scenarios say, ready for JSON: returns compounded over the horizon, as fractions.

    ``given`` adds, for each asset named, what was asked and the largest distance from it over all scenarios.
    """
    total = scenarios.cumulative().astype(float)
    p = scenarios.probabilities
    mean = p @ total
    deviation = np.sqrt(p @ (total - mean) ** 2)
    out: dict[str, Any] = {
        "model": scenarios.model,
        "as_of": None if scenarios.as_of is None else str(scenarios.as_of),
        "knowledge_until": None if scenarios.knowledge_until is None else str(scenarios.knowledge_until),
        "horizon": scenarios.horizon,
        "n_scenarios": scenarios.n_scenarios,
        "assets": {},
    }
    for i, asset in enumerate(scenarios.assets):
        quantiles = _quantiles(total[:, i], p)
        out["assets"][asset] = {
            "mean": float(mean[i]),
            "standard_deviation": float(deviation[i]),
            "probability_of_loss": min(float(p @ (total[:, i] < 0)), 1.0),
            "quantiles": {f"{level:g}": float(q) for level, q in zip(LEVELS, quantiles)},
        }
    if given:
        out["given"] = check_given(scenarios, given)
    return out


def check_given(scenarios: ScenarioSet, given: Given) -> dict[str, dict[str, Any]]:
    """Asked and largest miss, asset by asset."""
    condition = Condition.parse(given, scenarios.assets, scenarios.horizon)
    total, out = scenarios.cumulative(), {}
    for asset in given:
        i = scenarios.assets.index(asset)
        path = condition.path[:, i]
        fixed = np.isfinite(path)
        if np.isfinite(condition.total[i]):
            asked: Any = float(condition.total[i])
            miss = np.abs(total[:, i] - asked).max()
        else:
            asked = [float(v) if np.isfinite(v) else None for v in path]
            miss = np.abs(scenarios.returns[:, fixed, i] - path[fixed]).max() if fixed.any() else 0.0
        out[asset] = {"asked": asked, "largest_miss": float(miss)}
    return out


def _quantiles(values: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    order = np.argsort(values, kind="stable")
    p = probabilities[order]
    return np.interp(LEVELS, np.cumsum(p) - 0.5 * p, values[order])
