"""Stress: what a portfolio would lose in the past, under a shock, given an event, and what it would take to break it.

Every function shocks rows jointly: a date, a draw or a condition moves all assets at once. Weights are bought at the
start and held; what they leave to one is cash. Losses are negative returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as distributions

from foliocast.core.belief import ScenarioSet
from foliocast.core.conditions import Given
from foliocast.core.errors import ConfigError, DataError, HistoryError, InfeasibleError
from foliocast.core.panel import Panel
from foliocast.core.protocols import ScenarioModel
from foliocast.stats.measures import cvar, value_at_risk

EPISODES: dict[str, tuple[str, str]] = {
    "1998 LTCM": ("1998-07-17", "1998-10-08"),
    "2000-02 dot-com": ("2000-03-24", "2002-10-09"),
    "2008 financial crisis": ("2007-10-09", "2009-03-09"),
    "2008 Lehman": ("2008-09-12", "2008-11-20"),
    "2011 downgrade": ("2011-07-22", "2011-10-03"),
    "2020 pandemic": ("2020-02-19", "2020-03-23"),
    "2022 inflation": ("2022-01-03", "2022-10-12"),
}


def _held(weights: pd.Series, assets: Sequence[str]) -> np.ndarray:
    lost = [str(a) for a, w in weights.items() if str(a) not in assets and w != 0]
    if lost:
        raise DataError(
            f"no data for {', '.join(lost[:5])}, which the portfolio holds; there are: {', '.join(assets[:8])}"
        )
    return weights.reindex(list(assets)).fillna(0.0).to_numpy(float)


# ---- the past


def historical(panel: Panel, weights: pd.Series, episodes: Mapping[str, tuple[str, str]] | None = None) -> pd.DataFrame:
    """What the portfolio would have done, bought at the first close of each episode and held.

    Parameters
    ----------
    episodes : mapping of name to (first, last) date, optional
        Default: `EPISODES`. Episodes outside the panel are reported as not covered, not dropped.

    Returns
    -------
    DataFrame
        By episode: ``start``, ``end``, ``bars``, ``return``, ``max_drawdown``, ``worst_bar``, ``covered`` (share of the
        gross weight that was quoted throughout; the rest counts as cash) and ``missing``.
    """
    w = _held(weights, panel.assets)
    close = panel.array("close")
    rows = []
    for name, (first, last) in (EPISODES if episodes is None else episodes).items():
        start = int(panel.times.searchsorted(panel.stamp(first), side="left"))
        stop = int(panel.times.searchsorted(panel.stamp(last), side="right"))
        inside = panel.stamp(first) >= panel.times[0] - pd.Timedelta(days=7) and panel.stamp(last) <= panel.times[-1]
        if stop - start < 2 or not inside:
            rows.append({"episode": name, "start": first, "end": last, "bars": 0, "covered": 0.0})
            continue
        rows.append({"episode": name, **_replay(panel, close[start:stop], w, start, stop)})
    columns = ["episode", "start", "end", "bars", "return", "max_drawdown", "worst_bar", "covered", "missing"]
    return pd.DataFrame(rows, columns=columns).set_index("episode")


def _replay(panel: Panel, close: np.ndarray, w: np.ndarray, start: int, stop: int) -> dict[str, Any]:
    filled = pd.DataFrame(close).ffill().to_numpy()
    quoted = np.isfinite(close[0]) & np.isfinite(filled[-1]) & np.isfinite(close[-1])
    ratio = np.where(quoted, filled / np.where(quoted, filled[0], 1.0), 1.0)
    wealth = 1.0 + (ratio - 1.0) @ np.where(quoted, w, 0.0)
    gross = float(np.abs(w).sum())
    return {
        "start": str(panel.times[start].date()),
        "end": str(panel.times[stop - 1].date()),
        "bars": stop - start - 1,
        "return": float(wealth[-1] - 1.0),
        "max_drawdown": float((wealth / np.maximum.accumulate(wealth) - 1.0).min()),
        "worst_bar": float((wealth[1:] / wealth[:-1] - 1.0).min()),
        "covered": float(np.abs(w[quoted]).sum() / gross) if gross > 0 else 1.0,
        "missing": ", ".join(a for a, ok, held in zip(panel.assets, quoted, w) if held and not ok),
    }


# ---- factors


@dataclass(frozen=True)
class FactorShock:
    """Answer to a shock of factors, with the uncertainty of the betas.

    Attributes
    ----------
    assets : DataFrame
        By asset: ``response``, ``low``, ``high``, ``r_squared`` and ``beta_*`` a factor.
    portfolio, low, high : float
        Return of the portfolio and its interval at ``level``, from the regression of the portfolio itself.
    """

    assets: pd.DataFrame
    portfolio: float
    low: float
    high: float
    level: float

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "assets": self.assets.to_dict("index")}


def factor_shock(
    returns: pd.DataFrame,
    weights: pd.Series,
    factors: pd.DataFrame,
    shock: Mapping[str, float],
    level: float = 0.9,
) -> FactorShock:
    """Move factors by given returns and let regression betas carry it to the assets.

    Parameters
    ----------
    returns, factors : DataFrame (time x asset), (time x factor)
        Simple returns; only bars complete in both are used.
    shock : mapping of factor to return
        Factors that are not named are left to move as they usually do with those that are: the regression is on the
        named ones alone.

    Raises
    ------
    HistoryError
        Fewer than 30 bars in common, or fewer than ten a factor.
    """
    missing = [f for f in shock if f not in factors.columns]
    if missing or not shock:
        raise DataError(
            f"shock names {', '.join(missing) or 'no factor'}; the factors are {', '.join(factors.columns[:8])}"
        )
    w = _held(weights, [str(c) for c in returns.columns])
    names = list(shock)
    both = pd.concat([factors[names].add_prefix("_f_"), returns], axis=1, join="inner").dropna()
    if len(both) < max(30, 10 * len(names)):
        raise HistoryError(f"{len(both)} bars common to assets and factors, {max(30, 10 * len(names))} needed")
    x = both.to_numpy(float)[:, : len(names)]
    y = both.to_numpy(float)[:, len(names) :]
    move = np.array([shock[n] for n in names], dtype=float)
    beta, response, error, fit = _regress(x, np.column_stack([y, y @ w]), move)
    reach = float(distributions.t.ppf(0.5 + level / 2, len(x) - len(names) - 1)) * error
    table = pd.DataFrame(beta[:, :-1].T, index=[str(c) for c in returns.columns], columns=[f"beta_{n}" for n in names])
    for k, (name, values) in enumerate(
        {"response": response, "low": response - reach, "high": response + reach, "r_squared": fit}.items()
    ):
        table.insert(k, name, values[:-1])
    last = (float(response[-1]), float(response[-1] - reach[-1]), float(response[-1] + reach[-1]))
    return FactorShock(table, *last, level)


def _regress(x: np.ndarray, y: np.ndarray, move: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Slopes, response to ``move``, its standard error (White, 1980: daily returns are heteroscedastic), R squared."""
    centred, target = x - x.mean(axis=0), y - y.mean(axis=0)
    inverse = np.linalg.pinv(centred.T @ centred)
    beta = inverse @ centred.T @ target
    residual = target - centred @ beta
    lever = centred @ inverse @ move
    dof = len(x) / max(1, len(x) - x.shape[1] - 1)
    error = np.sqrt(dof * (lever[:, None] ** 2 * residual**2).sum(axis=0))
    total = (target**2).sum(axis=0)
    return beta, move @ beta, error, 1.0 - (residual**2).sum(axis=0) / np.where(total > 0, total, 1.0)


# ---- any scenario set


@dataclass(frozen=True)
class Outlook:
    """Distribution of a portfolio's return over the horizon.

    Attributes
    ----------
    quantiles : dict of level to return
    var, cvar : float
        Losses at ``level``, positive.
    probability_of_loss : float
    worst : float
        Return of the worst scenario.
    max_drawdown : float
        Mean over scenarios of the deepest fall along the path.
    deep_drawdown : float
        Its quantile at ``level``.
    """

    model: str
    horizon: int
    scenarios: int
    mean: float
    volatility: float
    quantiles: dict[str, float]
    level: float
    var: float
    cvar: float
    probability_of_loss: float
    worst: float
    max_drawdown: float
    deep_drawdown: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def monte_carlo(scenarios: ScenarioSet, weights: pd.Series, level: float = 0.95) -> Outlook:
    """Profit and loss of a portfolio bought now and held, over every scenario of any model."""
    w, p = _held(weights, scenarios.assets), scenarios.probabilities
    wealth = 1.0 + (np.cumprod(1.0 + scenarios.returns, axis=1) - 1.0) @ w
    path = np.concatenate([np.ones((len(wealth), 1)), wealth], axis=1)
    fall = (path / np.maximum.accumulate(path, axis=1) - 1.0).min(axis=1)
    total = scenarios.portfolio(w)  # not wealth less one, which is rounded
    mean = float(p @ total)
    return Outlook(
        scenarios.model,
        scenarios.horizon,
        scenarios.n_scenarios,
        mean,
        float(np.sqrt(p @ (total - mean) ** 2)),
        {f"{q:g}": _quantile(total, p, q) for q in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)},
        level,
        float(value_at_risk(total, level, p)),
        float(cvar(total, level, p)),
        float(p[total < 0].sum()),
        float(total.min()),
        float(p @ fall),
        _quantile(fall, p, 1.0 - level),
    )


def _quantile(values: np.ndarray, p: np.ndarray, q: float) -> float:
    order = np.argsort(values)
    return float(values[order[min(int(np.searchsorted(np.cumsum(p[order]), q - 1e-12)), len(order) - 1)]])


def conditional(
    model: ScenarioModel,
    history: pd.DataFrame | Panel | None,
    weights: pd.Series,
    given: Given,
    horizon: int = 10,
    n_scenarios: int = 2000,
    random_state: int = 0,
    level: float = 0.95,
) -> tuple[Outlook, pd.DataFrame]:
    """ "NVDA -20 % in 10 days: what of the rest?", by any fitted scenario model.

    Returns
    -------
    Outlook
        Of the portfolio, given the event.
    DataFrame
        By asset: ``weight``, ``mean``, ``q05``, ``q50``, ``q95`` of the return given the event, the ``unconditional``
        mean of the same model, and the ``contribution`` of the asset to the portfolio's mean (they sum to it).
    """
    past: Any = history  # every model of the product also reads a panel
    told = model.simulate(past, horizon, n_scenarios, given=given, random_state=random_state)
    free = model.simulate(past, horizon, n_scenarios, random_state=random_state)
    return monte_carlo(told, weights, level), compare(told, free, weights)


def compare(told: ScenarioSet, free: ScenarioSet, weights: pd.Series) -> pd.DataFrame:
    """What an event does to each asset: the table of `conditional`, from scenarios with and without it."""
    w, p, total = _held(weights, told.assets), told.probabilities, told.cumulative()
    mean = p @ total
    table = pd.DataFrame({"weight": w, "mean": mean}, index=list(told.assets))
    for name, q in (("q05", 0.05), ("q50", 0.5), ("q95", 0.95)):
        table[name] = [_quantile(column, p, q) for column in total.T]
    table["unconditional"] = free.probabilities @ free.cumulative()
    table["contribution"] = w * mean
    return table


@dataclass(frozen=True)
class ReverseStress:
    """What it takes to lose a given amount.

    Attributes
    ----------
    scenario : Series
        The most likely joint return that loses exactly ``loss``: of least Mahalanobis distance.
    distance : float
        That distance, in standard deviations of the portfolio.
    nearest : DataFrame
        Scenarios of the set that lose at least as much, the most likely first, with their ``distance`` and ``return``.
    probability : float
        Of losing at least as much, counted in the scenarios.
    """

    loss: float
    scenario: pd.Series
    distance: float
    nearest: pd.DataFrame
    probability: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "loss": self.loss,
            "scenario": self.scenario.to_dict(),
            "distance": self.distance,
            "probability": self.probability,
            "nearest": self.nearest.to_dict("index"),
        }


def reverse(scenarios: ScenarioSet, weights: pd.Series, loss: float, count: int = 5) -> ReverseStress:
    """The most likely scenario in which the portfolio loses ``loss`` (0.1 for ten percent) over the horizon.

    Notes
    -----
    With mean m and covariance C the nearest point of the plane ``w . r = -loss`` is
    ``m - C w (loss + m . w) / (w' C w)``.

    Raises
    ------
    InfeasibleError
        The portfolio does not move.
    """
    if loss <= 0:
        raise ConfigError(f"loss is {loss}, expected a positive fraction such as 0.1 for ten percent")
    w, p, total = _held(weights, scenarios.assets), scenarios.probabilities, scenarios.cumulative().astype(float)
    mean = p @ total
    centred = total - mean
    covariance = (centred * p[:, None]).T @ centred
    variance = float(w @ covariance @ w)
    if variance <= 0:
        raise InfeasibleError("the portfolio has no risk on these scenarios, so nothing makes it lose")
    short = loss + float(mean @ w)
    point = mean - covariance @ w * short / variance
    deep = np.flatnonzero(total @ w <= -loss)
    size = np.sqrt(np.maximum(np.einsum("si,ij,sj->s", centred[deep], np.linalg.pinv(covariance), centred[deep]), 0.0))
    first = deep[np.argsort(size)[:count]]
    table = pd.DataFrame(total[first], columns=list(scenarios.assets), index=first)
    table.insert(0, "distance", np.sort(size)[:count])
    table.insert(1, "return", total[first] @ w)
    return ReverseStress(
        loss, pd.Series(point, index=list(scenarios.assets)), short / np.sqrt(variance), table, float(p[deep].sum())
    )


def break_correlation(scenarios: ScenarioSet, correlation: float, random_state: int = 0) -> ScenarioSet:
    """The same margins with rank dependence moved to one common correlation (Iman and Conover, 1982).

    Parameters
    ----------
    correlation : float
        Target between every two assets, in (-1 / (N - 1), 1): near one when diversification fails, zero when hedges do.

    Notes
    -----
    Compounded returns of each asset are the same numbers in another order, so its own risk does not change. The result
    has horizon 1. Probabilities must be equal.
    """
    total = scenarios.cumulative().astype(float)
    n_scenarios, n = total.shape
    if not -1.0 / max(n - 1, 1) < correlation < 1.0:
        raise ConfigError(
            f"correlation is {correlation}, expected between {-1.0 / max(n - 1, 1):g} and 1 for {n} assets"
        )
    if np.ptp(scenarios.probabilities) > 1e-12:
        raise ConfigError("break_correlation reorders scenarios, which needs equal probabilities")
    rng = np.random.default_rng(random_state)
    scores = distributions.norm.ppf((np.arange(n_scenarios) + 0.5) / n_scenarios)
    draws = np.column_stack([rng.permutation(scores) for _ in range(n)])
    target = np.full((n, n), correlation) + (1.0 - correlation) * np.eye(n)
    own = np.linalg.cholesky(np.cov(draws, rowvar=False) + 1e-12 * np.eye(n))
    mixed = draws @ np.linalg.inv(own).T @ np.linalg.cholesky(target).T
    out = np.empty_like(total)
    for i in range(n):
        out[np.argsort(mixed[:, i]), i] = np.sort(total[:, i])
    made = ScenarioSet.from_returns(out, scenarios.assets)
    return ScenarioSet(
        made.returns,
        scenarios.assets,
        scenarios.as_of,
        made.probabilities,
        scenarios.knowledge_until,
        f"{scenarios.model}, reordered",
    )


def correlation_breakdown(
    scenarios: ScenarioSet,
    weights: pd.Series,
    levels: Sequence[float] = (0.0, 0.3, 0.6, 0.9),
    level: float = 0.95,
    random_state: int = 0,
) -> pd.DataFrame:
    """Volatility, VaR and CVaR of the portfolio as all correlations go to one level; first row: as they are."""
    rows = {"as modelled": monte_carlo(scenarios, weights, level)}
    lowest = -1.0 / max(len(scenarios.assets) - 1, 1)
    for correlation in levels:
        if lowest < correlation < 1.0:
            moved = break_correlation(scenarios, correlation, random_state)
            rows[f"{correlation:g}"] = monte_carlo(moved, weights, level)
    table = pd.DataFrame({k: {"volatility": o.volatility, "var": o.var, "cvar": o.cvar} for k, o in rows.items()}).T
    return table.rename_axis("correlation")
