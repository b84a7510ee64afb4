"""The contracts between rooms, on one page.

Everything that learns is a scikit-learn estimator: the constructor only stores its arguments, ``fit`` learns
attributes that end in ``_`` and returns self, ``sklearn.base.clone`` gives an unfitted twin, randomness is the
constructor's ``random_state``. Every fitted object carries ``knowledge_until_``, the time of the last row that
shaped it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import pandas as pd

from foliocast.core.belief import Forecast, ScenarioSet
from foliocast.core.conditions import Given
from foliocast.core.panel import Panel, View

Task = TypeVar("Task")
Result = TypeVar("Result")


@runtime_checkable
class Feature(Protocol):
    """Panel in, features out, causal: row t of the result depends on rows <= t only."""

    names: tuple[str, ...]

    def __call__(self, panel: Panel) -> np.ndarray:
        """(time, asset, feature); NaN where the look-back is not full yet."""
        ...


@runtime_checkable
class Forecaster(Protocol):
    """Predicts returns of every asset of a panel."""

    knowledge_until_: pd.Timestamp

    def fit(self, panel: Panel) -> Forecaster:
        """Learn from these rows and no others. Labels must lie inside the rows, too."""
        ...

    def predict(self, panel: Panel, times: pd.DatetimeIndex | None = None) -> pd.DataFrame:
        """Expected simple return of the *next* bar, (time x asset); row t uses rows <= t only.

        Must equal ``forecast(panel.asof(t), 1).mean`` row by row: it is the fast path, not another model.
        """
        ...

    def forecast(self, view: View, horizon: int = 1) -> Forecast: ...


@runtime_checkable
class ScenarioModel(Protocol):
    """Draws joint futures. ``sample`` makes it a distribution estimator of skfolio's ``SyntheticData``."""

    def fit(self, X: pd.DataFrame, y: object = None) -> ScenarioModel:
        """X: simple returns (time x asset)."""
        ...

    def simulate(
        self,
        history: pd.DataFrame | None = None,
        horizon: int = 1,
        n_scenarios: int = 1000,
        given: Given | None = None,
        random_state: int | np.random.Generator | None = None,
    ) -> ScenarioSet:
        """``history``: returns up to the decision (default: the fitting sample); ``given`` fixes part of the future."""
        ...

    def sample(self, n_samples: int = 1000) -> np.ndarray:
        """One-step draws, (n_samples, asset)."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Turns a belief about the joint future into weights."""

    def allocate(self, scenarios: ScenarioSet, previous: pd.Series | None = None) -> pd.Series:
        """Target weights by asset (fractions of equity; the rest is cash)."""
        ...


@runtime_checkable
class Rule(Protocol):
    """A constraint that is also a number: the optimiser obeys it, a limit watches it.

    ``path_dependent`` is True when it bounds the trade from what is held, not the portfolio.
    """

    @property
    def path_dependent(self) -> bool: ...

    def reading(
        self, weights: pd.Series, scenarios: ScenarioSet, previous: pd.Series | None = None
    ) -> tuple[float, float]:
        """What is measured, and the most it may be."""
        ...


@runtime_checkable
class Charge(Protocol):
    """A cost term of the optimiser, or a sum of such terms, that a broker can charge."""

    def charges(self) -> dict[str, Any]:
        """Arguments of `foliocast.Costs`."""
        ...


@runtime_checkable
class Strategy(Protocol):
    """Decides target weights, bar by bar, from what was known.

    ``path_dependent`` is True when ``previous`` (the weights held, drifted to now) changes the decision; the engine
    then runs the folds in order. ``decide_many`` is the fast path over many bars and must equal ``decide`` row by row.
    """

    path_dependent: bool

    def fit(self, panel: Panel) -> Strategy:
        """Learn from training rows only."""
        ...

    def decide(self, view: View, previous: pd.Series | None = None) -> pd.Series | None:
        """Target weights by asset, or None to leave the holdings alone."""
        ...

    def decide_many(self, panel: Panel, times: pd.DatetimeIndex) -> pd.DataFrame:
        """Target weights (time x asset) for each of these times; a row of NaN leaves the holdings alone."""
        ...


class TaskRunner(Protocol):
    """Maps a function over independent tasks, in order: serially, on local processes or on a cluster."""

    def __call__(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterable[Any]: ...


def serial(function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterable[Result]:
    """The `TaskRunner` that needs nothing."""
    return (function(task) for task in tasks)


class BarByBar:
    """Gives a strategy that only knows `decide` the fast path's interface: one view a bar."""

    path_dependent = False

    def decide(self, view: View, previous: pd.Series | None = None) -> pd.Series | None:
        raise NotImplementedError(f"{type(self).__name__} has no decide()")

    def decide_many(self, panel: Panel, times: pd.DatetimeIndex) -> pd.DataFrame:
        rows = [self.decide(panel.asof(t)) for t in times]
        empty = pd.Series(np.nan, index=list(panel.assets))
        return pd.DataFrame(
            [empty if row is None else row.reindex(empty.index, fill_value=0.0) for row in rows], index=times
        )
