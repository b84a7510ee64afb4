"""Fitted filters as JSON values, for model cards."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from foliocast.models.diffusion.sizes import Mixture, Sizes
from foliocast.stats.correlation import CorrelationFilter
from foliocast.stats.garch import GarchParameters
from foliocast.stats.pooled_volatility import PooledParameters
from foliocast.stats.volatility import BlendParameters, VolatilityFilter


def pooled_to_json(p: PooledParameters) -> dict[str, Any]:
    return _plain(asdict(p))


def pooled_from_json(state: dict[str, Any]) -> PooledParameters:
    tuples = {key: tuple(state[key]) for key in ("own", "leverage", "proxy")}
    return PooledParameters(**state | tuples | {"coefficients": np.asarray(state["coefficients"])})


def volatility_to_json(volatility: VolatilityFilter) -> dict[str, Any]:
    """Kind, half-life, level and parameters of a fitted filter."""
    p = volatility.parameters_
    parts: dict[str, Any] = {"only": p}
    if isinstance(p, BlendParameters):
        parts = {"garch": p.garch, "pooled": p.pooled}
    level = None if volatility.level_ is None else volatility.level_.tolist()
    return {
        "kind": volatility.kind,
        "half_life": volatility.half_life,
        "level": level,
        "parameters": {key: None if part is None else _plain(asdict(part)) for key, part in parts.items()},
    }


def volatility_from_json(state: dict[str, Any]) -> VolatilityFilter:
    level, parts = state["level"], state["parameters"]
    parameters: GarchParameters | PooledParameters | BlendParameters | None = None
    if state["kind"] == "blend":
        parameters = BlendParameters(_garch(parts["garch"]), pooled_from_json(parts["pooled"]))
    elif parts["only"] is not None:
        parameters = pooled_from_json(parts["only"]) if state["kind"] == "har" else _garch(parts["only"])
    return VolatilityFilter(state["kind"], state["half_life"], parameters, None if level is None else np.asarray(level))


def correlation_to_json(correlation: CorrelationFilter) -> dict[str, Any]:
    return {
        "half_life": correlation.half_life_,
        "shrinkage": correlation.shrinkage_,
        "long_run": correlation.long_run_.tolist(),
    }


def correlation_from_json(state: dict[str, Any]) -> CorrelationFilter:
    out = CorrelationFilter(state["half_life"], state["shrinkage"])
    out.half_life_, out.shrinkage_ = state["half_life"], state["shrinkage"]
    out.long_run_ = np.asarray(state["long_run"])
    return out


def _garch(state: dict[str, Any]) -> GarchParameters:
    return GarchParameters(**{key: np.asarray(values) for key, values in state.items()})


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in values.items()}


def sizes_to_json(sizes: Sizes) -> dict[str, Any]:
    mixtures = {"market": _plain(asdict(sizes.market)), "own": _plain(asdict(sizes.own))}
    return {"bar": sizes.bar.tolist(), "market_at": sizes.market_at.tolist(), "spread": sizes.spread, **mixtures}


def sizes_from_json(state: dict[str, Any]) -> Sizes:
    market, own = (Mixture(np.asarray(state[k]["share"]), np.asarray(state[k]["lean"])) for k in ("market", "own"))
    return Sizes(np.asarray(state["bar"]), market, np.asarray(state["market_at"]), own, state["spread"])
