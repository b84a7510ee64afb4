"""Cross-stock inference: what a stock did, given what others did the same day. Any scenario model can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.base import clone

from foliocast.core.errors import DataError
from foliocast.core.protocols import ScenarioModel
from foliocast.stats.scoring import crps, log_score

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

LEVEL = 0.9


def cross_inference(
    model: ScenarioModel,
    returns: pd.DataFrame,
    target: str,
    given: Sequence[str],
    start: str | pd.Timestamp,
    refit: int = 252,
    train: int = 1500,
    n_scenarios: int = 500,
    every: int = 1,
) -> pd.DataFrame:
    """Walk forward: each day, draw the target's return given the others' returns of that day and all earlier rows.

    Parameters
    ----------
    model : ScenarioModel
        Unfitted; a clone is fitted on the ``train`` rows before each refit.
    returns : DataFrame (time x asset)
    target : str
    given : sequence of str
    start : date
        First day inferred.
    refit, train, n_scenarios, every : int

    Returns
    -------
    DataFrame, a row a day
        ``actual``, ``mean``, ``low`` and ``high`` (90 % band), ``crps``, ``log_score``.
    """
    names = [target, *given]
    missing = [name for name in names if name not in returns.columns]
    if missing:
        raise DataError(f"returns lack {', '.join(missing)}; they hold {', '.join(map(str, returns.columns[:8]))}")
    frame = returns[names].dropna()
    first = max(train, int(frame.index.searchsorted(pd.Timestamp(start))))
    rows = {}
    fitted = model
    for k, t in enumerate(range(first, len(frame), every)):
        past = frame.iloc[t - train : t]
        if k % max(1, refit // every) == 0:
            fitted = clone(model).fit(past)
        today = frame.iloc[t]
        condition = {name: float(today[name]) for name in given}
        drawn = fitted.simulate(past, 1, n_scenarios, given=condition, random_state=t)
        rows[frame.index[t]] = summary(drawn.select([target]).returns[:, 0, 0], float(today[target]))
    return pd.DataFrame.from_dict(rows, orient="index")


def summary(samples: np.ndarray, actual: float) -> dict[str, float]:
    """Mean, 90 % band, CRPS and log score of a sample (scenario,) against what came."""
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    score = float(crps(samples[:, None], np.array([actual]))[0])
    band = {"actual": actual, "mean": float(samples.mean()), "low": float(low), "high": float(high)}
    return band | {"crps": score, "log_score": log_score(samples, actual)}


def calibration(inferred: pd.DataFrame) -> dict[str, float]:
    """Slope of the actual on the inferred mean (1 is calibrated), correlation, coverage of the 90 % band, scores."""
    mean, actual = inferred["mean"].to_numpy(), inferred["actual"].to_numpy()
    return {
        "slope": float(np.cov(mean, actual)[0, 1] / mean.var(ddof=1)),
        "correlation": float(np.corrcoef(mean, actual)[0, 1]),
        "coverage": float(((actual >= inferred["low"]) & (actual <= inferred["high"])).mean()),
        "crps": float(inferred["crps"].mean()),
        "log_score": float(inferred["log_score"].mean()),
    }


def inpainted_path(
    model: ScenarioModel,
    returns: pd.DataFrame,
    target: str,
    given: Sequence[str],
    start: str | pd.Timestamp,
    horizon: int = 63,
    train: int = 1500,
    n_scenarios: int = 500,
) -> pd.DataFrame:
    """The target's whole path over a stretch, given the whole paths of the others and the rows before it.

    Parameters
    ----------
    model : ScenarioModel
        Unfitted; a clone is fitted on the ``train`` rows before ``start``.
    start : date
        First bar that is filled in.
    horizon : int
        Bars; fewer where the returns end.

    Returns
    -------
    DataFrame, a row a bar
        Wealth of the target from one: ``actual``, ``mean`` of the draws, ``low`` and ``high`` (90 % band).
    """
    frame = returns[[target, *given]].dropna()
    first = max(train, int(frame.index.searchsorted(pd.Timestamp(start))))
    past, stretch = frame.iloc[first - train : first], frame.iloc[first : first + horizon]
    if len(stretch) == 0:
        raise DataError(f"no bar of {target} and the stocks given from {start} on, after {train} bars to learn from")
    condition = {name: stretch[name].to_numpy() for name in given}
    drawn = clone(model).fit(past).simulate(past, len(stretch), n_scenarios, given=condition, random_state=first)
    wealth = np.cumprod(1.0 + drawn.select([target]).returns[:, :, 0], axis=1)
    low, high = np.quantile(wealth, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    columns = {"actual": (1 + stretch[target]).cumprod(), "mean": wealth.mean(axis=0), "low": low, "high": high}
    return pd.DataFrame(columns, index=stretch.index)


def inference_figure(
    inferred: pd.DataFrame, path: pd.DataFrame, returns: pd.DataFrame, target: str, given: Sequence[str]
) -> Figure:
    """The picture: a path filled in at once between its neighbours, and the same days one at a time.

    Parameters
    ----------
    inferred : DataFrame
        Of `cross_inference`; its days inside the path are shown.
    path : DataFrame
        Of `inpainted_path`.
    returns : DataFrame (time x asset)
    """
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    others = " and ".join(given)
    titles = (f"{target} filled in, given the paths of {others}", f"Day by day, given what {others} did that day")
    figure = make_subplots(rows=2, cols=1, row_heights=[0.6, 0.4], vertical_spacing=0.12, subplot_titles=titles)
    for trace in _band(path, 100.0, "90 % of the paths"):
        figure.add_trace(trace, row=1, col=1)
    line = {"color": "#1f77b4", "width": 2}
    figure.add_trace(Scatter(x=path.index, y=100 * path["mean"], name=f"{target} inferred", line=line), row=1, col=1)
    line = {"color": "#d62728", "width": 2}
    figure.add_trace(Scatter(x=path.index, y=100 * path["actual"], name=f"{target} actual", line=line), row=1, col=1)
    for name, dash in zip(given, ("dot", "dash", "dashdot") * len(given)):
        wealth = 100 * (1 + returns.loc[path.index, name]).cumprod()
        line = {"color": "#7f7f7f", "width": 1, "dash": dash}
        figure.add_trace(Scatter(x=path.index, y=wealth, name=name, line=line), row=1, col=1)
    days = inferred.loc[path.index[0] : path.index[-1]]
    for trace in _band(days, 100.0, "90 % of a day"):
        figure.add_trace(trace, row=2, col=1)
    dots = {"color": "#d62728", "size": 5}
    figure.add_trace(
        Scatter(x=days.index, y=100 * days["actual"], mode="markers", name=f"{target} that day", marker=dots),
        row=2,
        col=1,
    )
    figure.update_yaxes(title_text="start = 100", row=1, col=1)
    figure.update_yaxes(title_text="return, %", row=2, col=1)
    figure.update_layout(template="plotly_white", height=760, legend={"orientation": "h", "y": -0.08})
    return figure


def _band(table: pd.DataFrame, factor: float, name: str) -> list[Scatter]:
    """The area between ``low`` and ``high``."""
    from plotly.graph_objects import Scatter

    edge = {"x": table.index, "mode": "lines", "line_width": 0}
    fill = {"fill": "tonexty", "fillcolor": "rgba(31, 119, 180, 0.2)", "name": name}
    return [
        Scatter(y=factor * table["high"], showlegend=False, hoverinfo="skip", **edge),
        Scatter(y=factor * table["low"], **edge, **fill),
    ]
