"""Who carries the risk and who made the money: decompositions that add up exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError, DataError
from foliocast.stats.measures import value_at_risk


def decompose_risk(weights: pd.Series, scenarios: ScenarioSet, level: float = 0.95) -> pd.DataFrame:
    """Marginal and component volatility, VaR and CVaR by asset over the horizon (Euler allocation; Tasche, 1999).

    Parameters
    ----------
    weights : Series
        Fractions of equity by asset; assets without scenarios must have weight zero.
    level : float
        Confidence level of VaR and CVaR.

    Returns
    -------
    DataFrame
        A row an asset and a last row ``total``. Columns ``weight`` and, for each of ``volatility``, ``var``, ``cvar``:
        ``marginal_*`` (change of the risk per unit of weight), ``component_*`` (weight times marginal; the components
        sum to the total to rounding) and ``share_*``. Positive numbers are losses.

    Notes
    -----
    CVaR conditions on the tail and is exact. VaR conditions on a single scenario; its marginals are averaged over the
    1 % of probability on either side of it and scaled to the total, because one scenario would be noise.
    """
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level is {level}, expected a number between 0 and 1 such as 0.95")
    w = _aligned(weights, scenarios)
    returns, p = scenarios.cumulative().astype(float), scenarios.probabilities
    loss = -returns @ w
    order = np.argsort(-loss, kind="stable")
    before = np.cumsum(p[order]) - p[order]
    tail = np.zeros(len(p))
    tail[order] = np.clip((1.0 - level) - before, 0.0, p[order]) / (1.0 - level)
    near = np.zeros(len(p))
    band = min(0.01, 0.5 * (1.0 - level), 0.5 * level)
    low, high = before, before + p[order]
    near[order] = np.clip(np.minimum(high, 1.0 - level + band) - np.maximum(low, 1.0 - level - band), 0.0, None) / (
        2 * band
    )
    centred = returns - p @ returns
    spread = centred @ w
    volatility = float(np.sqrt(p @ spread**2))
    marginal = {
        "volatility": (p * spread) @ centred / volatility if volatility > 0 else np.zeros(len(w)),
        "var": _scaled(-near @ returns, w, float(value_at_risk(-loss, level, p))),
        "cvar": -tail @ returns,
    }
    return _table(w, marginal, scenarios.assets)


def _scaled(marginal: np.ndarray, w: np.ndarray, total: float) -> np.ndarray:
    """Marginals whose components sum to a given total: shifted evenly along the weights' own direction."""
    reached = float(marginal @ w)
    if abs(reached) > 0.2 * abs(total):
        return marginal * (total / reached)
    size = float(w @ w)
    return marginal + w * (total - reached) / size if size > 0 else marginal


def _aligned(weights: pd.Series, scenarios: ScenarioSet) -> np.ndarray:
    lost = [str(a) for a, w in weights.items() if str(a) not in scenarios.assets and w != 0]
    if lost:
        raise DataError(f"no scenarios for {', '.join(lost[:5])}, which the portfolio holds; simulate them too")
    return weights.reindex(list(scenarios.assets)).fillna(0.0).to_numpy(float)


def _table(w: np.ndarray, marginal: dict[str, np.ndarray], assets: tuple[str, ...]) -> pd.DataFrame:
    columns: dict[str, np.ndarray] = {"weight": np.append(w, w.sum())}
    for name, slope in marginal.items():
        component = w * slope
        total = component.sum()
        columns[f"marginal_{name}"] = np.append(slope, np.nan)
        columns[f"component_{name}"] = np.append(component, total)
        columns[f"share_{name}"] = np.append(component / total if total != 0 else 0.0 * component, 1.0)
    return pd.DataFrame(columns, index=[*assets, "total"])


def attribute_pnl(weights: pd.DataFrame, returns: pd.DataFrame) -> pd.DataFrame:
    """What each asset, and each asset's cost-free timing, added to the compounded return.

    Parameters
    ----------
    weights : DataFrame (time x asset)
        Weights held *over* each bar, as known at its start.
    returns : DataFrame (time x asset)
        Simple returns of the same bars; NaN counts as zero where nothing is held and is refused where something is.

    Returns
    -------
    DataFrame
        By asset: ``contribution`` (sums to the compounded return of the portfolio exactly; Carino, 1999, linking),
        ``average_weight``, ``holding`` (the part that the average weight would have earned) and ``timing`` (the rest).
        The last row is ``total``.
    """
    held = weights.reindex(columns=returns.columns).fillna(0.0)
    if not held.index.equals(returns.index):
        raise DataError(
            "weights and returns have different bars; align them on the bars over which the weights were held"
        )
    gone = returns.isna() & (held != 0)
    if gone.any(axis=None):
        asset = str(gone.columns[gone.any()][0])
        raise DataError(f"{asset} is held on {gone.index[gone[asset]][0]} but has no return there")
    r = returns.fillna(0.0).to_numpy(float)
    w = held.to_numpy(float)
    bars = (w * r).sum(axis=1)
    total = float(np.prod(1.0 + bars) - 1.0)
    link = _carino(bars) / float(_carino(np.array([total]))[0])
    contribution = link @ (w * r)
    average = w.mean(axis=0)
    holding = (link @ r) * average
    body = np.column_stack([contribution, average, holding, contribution - holding])
    names = ["contribution", "average_weight", "holding", "timing"]
    table = pd.DataFrame(
        np.vstack([body, body.sum(axis=0)]), index=[*map(str, returns.columns), "total"], columns=names
    )
    table.loc["total", "contribution"] = total
    return table


def _carino(r: np.ndarray) -> np.ndarray:
    """``log(1 + r) / r``, one at zero."""
    small = np.abs(r) < 1e-9
    return np.where(small, 1.0 - r / 2, np.log1p(r) / np.where(small, 1.0, r))
