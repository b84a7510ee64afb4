"""One portfolio, every stress: the past, an event, models side by side, what breaks it, and who carries the risk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.core.conditions import Condition, Given
from foliocast.core.errors import ConfigError
from foliocast.core.panel import Panel
from foliocast.explain.decompose import decompose_risk
from foliocast.scenarios import stress as shocks
from foliocast.workflows.simulate import draw, prepare


@dataclass(frozen=True)
class StressSpec:
    """What to stress with.

    Parameters
    ----------
    models : tuple of str
        Scenario models, by name, shown side by side.
    horizon, n : int
        Bars ahead and scenarios a model.
    given : mapping, optional
        The event: ``{"NVDA": -0.2}``.
    factors : mapping, optional
        Shock carried by regression betas: assets of the panel taken as factors, with their returns.
    loss : float
        Reverse stress: what makes the portfolio lose this fraction.
    level : float
        Of VaR and CVaR.
    seed : int
    episodes : mapping of name to (first, last) date, optional
    """

    models: tuple[str, ...] = ("diffusion", "fhs", "t-copula")
    horizon: int = 10
    n: int = 5000
    given: Given | None = None
    factors: Mapping[str, float] | None = None
    loss: float = 0.1
    level: float = 0.95
    seed: int = 0
    episodes: Mapping[str, tuple[str, str]] | None = None


@dataclass(frozen=True)
class StressReport:
    """Everything `stress` found; ``to_dict`` is ready for JSON.

    Attributes
    ----------
    historical : DataFrame
        By episode.
    outlooks : dict of (model, "none" or "given") to Outlook
        Without the event and, when there is one, with it.
    event : dict of model to DataFrame
        What the event does to each asset.
    components : dict of model to DataFrame
        Risk by asset; components sum to the total.
    factor : FactorShock or None
    reverse : dict of model to ReverseStress
    correlation : DataFrame
        Risk of the first model's scenarios as correlations go to one level.
    """

    weights: pd.Series
    spec: StressSpec
    historical: pd.DataFrame
    outlooks: dict[tuple[str, str], shocks.Outlook]
    event: dict[str, pd.DataFrame]
    components: dict[str, pd.DataFrame]
    factor: shocks.FactorShock | None
    reverse: dict[str, shocks.ReverseStress]
    correlation: pd.DataFrame
    as_of: str
    notice: str

    def table(self) -> pd.DataFrame:
        """Outlooks side by side: rows (model, event)."""
        flat = {key: o.to_dict() for key, o in self.outlooks.items()}
        table = pd.DataFrame(flat).T.drop(columns=["model", "quantiles"]).rename_axis(["model", "event"])
        return table.astype(float)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts; what does not exist is None."""
        made = {
            "as_of": self.as_of,
            "weights": self.weights.to_dict(),
            "horizon": self.spec.horizon,
            "level": self.spec.level,
            "given": {k: np.asarray(v).tolist() for k, v in (self.spec.given or {}).items()},
            "historical": self.historical.to_dict("index"),
            "models": {
                name: {
                    "unconditional": self.outlooks[(name, "none")].to_dict(),
                    "given": self.outlooks[(name, "given")].to_dict() if name in self.event else None,
                    "assets_given": self.event[name].to_dict("index") if name in self.event else None,
                    "components": self.components[name].to_dict("index"),
                    "reverse": self.reverse[name].to_dict(),
                }
                for name in self.components
            },
            "factor": None if self.factor is None else self.factor.to_dict(),
            "correlation": self.correlation.to_dict("index"),
            "notice": self.notice,
        }
        return _plain(made)


def stress(panel: Panel, weights: Mapping[str, float] | pd.Series, spec: StressSpec | None = None) -> StressReport:
    """Stress a portfolio bought at the panel's last close and held.

    Parameters
    ----------
    panel : Panel
        Its assets that are held, or named in the event, are simulated jointly; factors only need history.
    weights : mapping of asset to fraction of equity
        What they leave to one is cash.

    Raises
    ------
    ConfigError
        No weights.
    DataError
        An asset that the panel does not hold.
    """
    spec = spec or StressSpec()
    held = pd.Series(weights, dtype=float)
    held = held[held != 0]
    if held.empty:
        raise ConfigError("the portfolio is empty; give weights such as NVDA=.4,MSFT=.6")
    names = [str(a) for a in dict.fromkeys([*held.index, *(spec.given or {})])]
    chosen = panel.select(names)
    outlooks: dict[tuple[str, str], shocks.Outlook] = {}
    event, components, backwards = {}, {}, {}
    first: ScenarioSet | None = None
    Condition.parse(spec.given, chosen.assets, spec.horizon)  # a bad condition should not cost a fit
    for name in spec.models:
        fitted, recent = prepare(chosen, name, spec.seed)
        free = draw(fitted, recent, spec.horizon, spec.n, None, spec.seed)
        first = free if first is None else first
        outlooks[(name, "none")] = shocks.monte_carlo(free, held, spec.level)
        components[name] = decompose_risk(held, free, spec.level)
        backwards[name] = shocks.reverse(free, held, spec.loss)
        if spec.given:
            told = draw(fitted, recent, spec.horizon, spec.n, spec.given, spec.seed)
            outlooks[(name, "given")] = shocks.monte_carlo(told, held, spec.level)
            event[name] = shocks.compare(told, free, held)
    if first is None:
        raise ConfigError("stress needs at least one scenario model, such as fhs")
    return StressReport(
        held,
        spec,
        shocks.historical(panel, held, spec.episodes),
        outlooks,
        event,
        components,
        _factor(panel, held, spec),
        backwards,
        shocks.correlation_breakdown(first, held, level=spec.level, random_state=spec.seed),
        str(panel.times[-1]),
        panel.notice,
    )


def _factor(panel: Panel, held: pd.Series, spec: StressSpec) -> shocks.FactorShock | None:
    if not spec.factors:
        return None
    returns = panel.returns().tail(2520)
    kept: Sequence[str] = [str(a) for a in held.index]
    return shocks.factor_shock(returns[list(kept)], held, returns, dict(spec.factors))


def _plain(value: Any) -> Any:
    """NumPy and pandas out, NaN to None: what JSON can say."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
