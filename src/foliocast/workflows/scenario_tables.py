"""What pictures of scenarios are drawn from: fans, dependence beside history, and a past stretch filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.core.conditions import Given
from foliocast.core.errors import ConfigError, HistoryError
from foliocast.core.panel import Panel
from foliocast.stats.scoring import crps
from foliocast.workflows.simulate import simulate

LEVELS = (0.5, 0.8, 0.95)
RECENT = 1260  # bars of history that scenarios are held against: five years


def fan(
    scenarios: ScenarioSet, weights: pd.Series, start: float = 1.0, levels: Sequence[float] = LEVELS
) -> pd.DataFrame:
    """Bands of the worth of a holding bought now and held, step by step.

    Parameters
    ----------
    weights : Series
        By asset: ``pd.Series({"NVDA": 1.0})`` for one asset, a book for a portfolio; the rest is cash.
    start : float
        Worth now.

    Returns
    -------
    DataFrame
        Rows 0 (now) to the horizon; columns ``mean``, ``median`` and ``low_80``, ``high_80`` and so on.
    """
    w = weights.reindex(list(scenarios.assets)).fillna(0.0).to_numpy(float)
    worth = start * (1.0 + (np.cumprod(1.0 + scenarios.returns, axis=1) - 1.0) @ w)
    path = np.column_stack([np.full(len(worth), start), worth])
    tails = [side for level in levels for side in ((1 - level) / 2, (1 + level) / 2)]
    quantiles = _quantiles(path, scenarios.probabilities, [0.5, *tails])
    table = {"mean": scenarios.probabilities @ path, "median": quantiles[0]}
    for i, level in enumerate(levels):
        table[f"low_{level * 100:g}"], table[f"high_{level * 100:g}"] = quantiles[1 + 2 * i], quantiles[2 + 2 * i]
    return pd.DataFrame(table).rename_axis("step")


def _quantiles(values: np.ndarray, p: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Quantiles of each column under probabilities, (level, column)."""
    if np.ptp(p) < 1e-15:
        return np.quantile(values, levels, axis=0)
    return np.quantile(values, levels, axis=0, weights=p, method="inverted_cdf")


def correlations(scenarios: ScenarioSet, panel: Panel, bars: int = RECENT) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Correlation of returns per bar in the scenarios, and in the last ``bars`` bars of history (asset x asset)."""
    names = list(scenarios.assets)
    flat = scenarios.returns.reshape(-1, len(names)).astype(float)
    p = np.repeat(scenarios.probabilities / scenarios.horizon, scenarios.horizon)
    centred = flat - p @ flat
    covariance = (centred * p[:, None]).T @ centred
    scale = np.sqrt(np.diag(covariance))
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = covariance / np.outer(scale, scale)
    past = panel.select(names).returns().tail(bars).corr()
    return pd.DataFrame(drawn, names, names), past


def history_totals(panel: Panel, assets: Sequence[str], horizon: int, bars: int = RECENT) -> pd.DataFrame:
    """Compounded returns over every stretch of ``horizon`` bars in the last ``bars`` (overlapping; time x asset)."""
    close = panel.select(assets).close()
    return (close / close.shift(horizon) - 1.0).dropna().tail(bars)


@dataclass(frozen=True)
class Infill:
    """A stretch of the past whose other assets were shown, and what the model made of the hidden one.

    Attributes
    ----------
    asset, known : str, tuple of str
    dates : DatetimeIndex
        The last day before the stretch, and its days.
    actual : ndarray
        Prices of the hidden asset on these dates.
    told, free : DataFrame
        Bands of the price (`fan`) with the others shown, and with nothing shown.
    crps_told, crps_free : float
        Mean CRPS of the price, as fractions of the first: lower is better. One stretch; no evidence by itself.
    inside : float
        Share of days on which the price fell inside the 80 % band of ``told``.
    """

    asset: str
    known: tuple[str, ...]
    dates: pd.DatetimeIndex
    actual: np.ndarray
    told: pd.DataFrame
    free: pd.DataFrame
    crps_told: float
    crps_free: float
    inside: float


def infill(
    panel: Panel,
    asset: str,
    known: Sequence[str],
    model: str = "fhs",
    horizon: int = 20,
    n: int = 1000,
    seed: int = 0,
) -> Infill:
    """Hide one asset over the last ``horizon`` bars, show the model the others, and let it draw what is hidden.

    The model is fitted on rows before the stretch only.

    Raises
    ------
    ConfigError
        Nothing is shown, or the hidden asset is among what is shown.
    HistoryError
        A quote is missing inside the stretch.
    LookAheadError
        The model has seen the stretch.
    """
    if not known or asset in known:
        raise ConfigError(f"show at least one asset other than {asset}, which is to be filled in")
    chosen = panel.select([asset, *known])
    close = chosen.array("close")[-horizon - 1 :]
    if len(close) <= horizon or not np.isfinite(close).all():
        raise HistoryError(f"{asset} and {', '.join(known)} are not all quoted over the last {horizon + 1} bars")
    before = chosen.rows(0, len(chosen) - horizon)
    path = close[1:] / close[:-1] - 1.0
    given: Given = {name: path[:, 1 + i] for i, name in enumerate(known)}
    told = simulate(before, model, None, horizon, n, given, seed)
    free = simulate(before, model, None, horizon, n, None, seed)
    one, start, actual = pd.Series({asset: 1.0}), float(close[0, 0]), close[:, 0].astype(float)
    shown, blind = fan(told, one, start), fan(free, one, start)
    inside = (shown["low_80"].to_numpy() <= actual) & (actual <= shown["high_80"].to_numpy())
    return Infill(
        asset,
        tuple(known),
        chosen.times[-horizon - 1 :],
        actual,
        shown,
        blind,
        _crps(told, asset, actual),
        _crps(free, asset, actual),
        float(inside[1:].mean()),
    )


def _crps(scenarios: ScenarioSet, asset: str, actual: np.ndarray) -> float:
    paths = np.cumprod(1.0 + scenarios.returns[:, :, scenarios.assets.index(asset)], axis=1)
    return float(np.mean(crps(paths.astype(float), actual[1:] / actual[0])))
