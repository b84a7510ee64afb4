"""Weights now: a scenario model for belief, an objective for taste, a certified optimum for an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, DataError
from foliocast.core.panel import Panel
from foliocast.portfolio import terms
from foliocast.portfolio.optimize import Optimized
from foliocast.workflows.simulate import simulate


@dataclass(frozen=True)
class Wish:
    """What is wanted of an allocation.

    Parameters
    ----------
    objective, risk, alpha, risk_aversion
        See `foliocast.portfolio.optimize.Optimized`.
    max_weight : float or None
        Largest weight of one asset.
    model : str
        Scenario model, by name.
    horizon, n : int
        Bars ahead and number of scenarios.
    benchmark : mapping of asset to weight, optional
        A book to stay near, for example a generated one; all of it must be among the assets.
    max_tracking : float
        Largest standard deviation over the horizon of the return relative to the benchmark.
    """

    objective: str = "min_risk"
    risk: str = "cvar"
    alpha: float = 0.95
    risk_aversion: float = 1.0
    max_weight: float | None = None
    model: str = "fhs"
    horizon: int = 20
    n: int = 5000
    benchmark: Mapping[str, float] | None = None
    max_tracking: float = 0.02


def allocate(panel: Panel, wish: Wish | None = None, assets: list[str] | None = None, seed: int = 0) -> dict[str, Any]:
    """Long-only, fully invested weights on scenarios drawn from the end of the panel.

    Returns
    -------
    dict
        ``weights`` (asset to fraction), ``value`` of the objective, certified relative ``gap``, ``solver``,
        ``scenarios`` and the portfolio's ``outcome`` over the horizon (mean, deviation, VaR and CVaR at ``alpha``);
        with a benchmark its own outcome, the tracking error and the active share. With a benchmark and no choice of
        assets, others that have not been quoted throughout the last year are left out, and ``notice`` counts them.

    Raises
    ------
    ConfigError, DataError, InfeasibleError
        Impossible wishes, named; a benchmark that holds what is not among the assets.
    """
    wish = wish or Wish()
    notice = panel.notice
    if assets is None and wish.benchmark:
        assets = _quoted(panel, wish.benchmark)
        if left := len(panel.assets) - len(assets):
            told = f"{left} of {len(panel.assets)} assets were not quoted throughout the last year and are left out"
            notice = f"{notice}; {told}" if notice else told
    scenarios = simulate(panel, wish.model, assets, wish.horizon, wish.n, None, seed)
    cap = wish.max_weight
    if cap is not None and cap * len(scenarios.assets) < 1.0:
        raise ConfigError(f"max weight {cap:g} on {len(scenarios.assets)} assets cannot add up to 1; raise it")
    constraints: tuple[Any, ...] = (terms.LongOnly(), terms.Budget())
    if cap is not None:
        constraints += (terms.Bounds(0.0, cap),)
    benchmark = _benchmark(wish, scenarios.assets)
    if benchmark is not None:
        constraints += (terms.TrackingError(benchmark) <= wish.max_tracking,)
    policy = Optimized(wish.objective, wish.risk, wish.alpha, wish.risk_aversion, constraints)
    weights = policy.allocate(scenarios)
    found = policy.solution_
    return {
        "as_of": str(scenarios.as_of),
        "weights": {str(k): float(v) for k, v in weights.items()},
        "objective": wish.objective,
        "risk": wish.risk,
        "value": found.value,
        "gap": found.gap,
        "solver": found.solver,
        "scenarios": {"model": scenarios.model, "n": scenarios.n_scenarios, "horizon": scenarios.horizon},
        "outcome": _outcome(scenarios.portfolio(weights), scenarios.probabilities, wish.alpha),
        "benchmark": None if benchmark is None else _beside(scenarios, weights, benchmark, wish.alpha),
        "notice": notice,
    }


def _quoted(panel: Panel, benchmark: Mapping[str, float]) -> list[str]:
    """Assets without a gap in the last year, and those of the benchmark, whose gaps are the caller's to hear of."""
    there = panel.close().iloc[-253:].notna().all()
    return [str(a) for a in panel.assets if there[a] or a in benchmark]


def _benchmark(wish: Wish, assets: Sequence[str]) -> pd.Series | None:
    if wish.benchmark is None:
        return None
    absent = [name for name in wish.benchmark if name not in assets]
    if absent:
        raise DataError(
            f"the benchmark holds {', '.join(absent[:5])}{' and others' if len(absent) > 5 else ''}, which are not "
            "among the assets; take data that have them"
        )
    if wish.max_tracking <= 0:
        raise ConfigError(f"max tracking error is {wish.max_tracking:g}, expected a positive fraction such as 0.02")
    return pd.Series(dict(wish.benchmark), dtype=float)


def _beside(scenarios: ScenarioSet, weights: pd.Series, benchmark: pd.Series, alpha: float) -> dict[str, Any]:
    """The benchmark's own outcome, and how far the answer is from it."""
    wide = benchmark.reindex(weights.index).fillna(0.0)
    apart = scenarios.portfolio(weights - wide)
    return {
        "tracking_error": _outcome(apart, scenarios.probabilities, alpha)["standard_deviation"],
        "active_share": float(0.5 * (weights - wide).abs().sum()),
        "outcome": _outcome(scenarios.portfolio(wide), scenarios.probabilities, alpha),
    }


def _outcome(returns: Any, probabilities: Any, alpha: float) -> dict[str, float]:
    from foliocast.stats import measures

    mean = float(probabilities @ returns)
    return {
        "mean": mean,
        "standard_deviation": float((probabilities @ (returns - mean) ** 2) ** 0.5),
        "value_at_risk": measures.value_at_risk(returns, alpha, probabilities),
        "cvar": measures.cvar(returns, alpha, probabilities),
    }


def table(answer: dict[str, Any]) -> pd.Series:
    """Weights above a hundredth of a percent, largest first."""
    weights = pd.Series(answer["weights"], dtype=float)
    return weights[weights > 1e-4].sort_values(ascending=False)
