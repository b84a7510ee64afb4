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
    from plotly.graph_objects import Figure

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


def inference_figure(inferred: pd.DataFrame, returns: pd.DataFrame, target: str, given: Sequence[str]) -> Figure:
    """The picture: actual path of the target, the path of the inferred means with its band, the stocks given.

    Paths start at 100; the band is that of each day's return, compounded on the inferred path of the day before.
    """
    from plotly.graph_objects import Figure, Scatter

    def path(values: pd.Series) -> pd.Series:
        return 100 * (1 + values).cumprod()

    times = inferred.index
    inferred_path = path(inferred["mean"])
    before = inferred_path.shift(1, fill_value=100.0)
    figure = Figure()
    figure.add_trace(Scatter(x=times, y=before * (1 + inferred["high"]), mode="lines", line_width=0, showlegend=False))
    figure.add_trace(
        Scatter(
            x=times,
            y=before * (1 + inferred["low"]),
            mode="lines",
            line_width=0,
            fill="tonexty",
            fillcolor="rgba(31, 119, 180, 0.25)",
            name="90 % of a day",
        )
    )
    figure.add_trace(Scatter(x=times, y=inferred_path, mode="lines", name=f"{target} inferred"))
    figure.add_trace(Scatter(x=times, y=path(inferred["actual"]), mode="lines", name=f"{target} actual"))
    for name in given:
        dash = {"dash": "dot", "width": 1}
        figure.add_trace(Scatter(x=times, y=path(returns.loc[times, name]), mode="lines", name=name, line=dash))
    figure.update_layout(
        title=f"{target} from {' + '.join(given)}", yaxis_title="start = 100", yaxis_type="log", template="plotly_white"
    )
    return figure
