"""Where the two waists meet: any scenario model and any policy make a strategy."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from foliocast.core.errors import ConfigError
from foliocast.core.panel import Panel, View
from foliocast.portfolio.baselines import trailing


class ScenarioStrategy(BaseEstimator):
    """Draws joint futures from what was known and lets a policy choose the weights.

    Parameters
    ----------
    model : ScenarioModel
        Fitted on the returns of the training rows.
    policy : Policy
        ``allocate(scenarios, previous)``; it is told what is held, so that it can weigh the cost of trading.
    horizon : int
        Bars the scenarios reach; also the sensible distance of two rebalances.
    n_scenarios : int
    rebalance : int
        Bars between rebalances, counted from the end of the training rows.
    window : int
        Trailing bars that condition the scenarios, and that an asset must be quoted on to take part.
    random_state : int
        Scenarios of a date depend on it and on the date alone.

    Attributes
    ----------
    model_ : fitted scenario model
    assets_ : tuple of str
        Those with enough history in the training rows; only they can be held until the next fit.
    knowledge_until_ : Timestamp
    """

    knowledge_until_: pd.Timestamp

    def __init__(
        self,
        model: Any,
        policy: Any,
        horizon: int = 21,
        n_scenarios: int = 1000,
        rebalance: int = 21,
        window: int = 252,
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.policy = policy
        self.horizon = horizon
        self.n_scenarios = n_scenarios
        self.rebalance = rebalance
        self.window = window
        self.random_state = random_state

    @property
    def path_dependent(self) -> bool:
        """Whether what is held changes the decision; if not, folds are independent pieces of work."""
        return bool(getattr(self.policy, "path_dependent", True))

    def fit(self, panel: Panel, y: object = None) -> Self:
        """Fit the scenario model on the assets that are there at the end of these rows.

        Raises
        ------
        ConfigError
            On a schedule that makes no sense.
        """
        if min(self.horizon, self.n_scenarios, self.rebalance) < 1 or self.window < 2:
            raise ConfigError(f"{self}: horizon, n_scenarios, rebalance must be at least 1 and window at least 2")
        returns, eligible = trailing(panel, len(panel) - 1, len(panel) - 1)
        self.assets_ = tuple(a for a, there in zip(panel.assets, eligible) if there)
        self.model_ = None
        self.knowledge_until_ = panel.times[-1]
        if self.assets_:
            history = pd.DataFrame(returns[:, eligible], index=panel.times[1:], columns=list(self.assets_))
            self.model_ = clone(self.model).fit(history)
            self.knowledge_until_ = max(panel.times[-1], getattr(self.model_, "knowledge_until_", panel.times[-1]))
        self.trained_until_ = panel.times[-1]
        return self

    def decide(self, view: View, previous: pd.Series | None = None) -> pd.Series | None:
        """Target weights by asset; None between two dates of the schedule, or if no asset can be held."""
        check_is_fitted(self, "model_")
        panel, row = view.panel, len(view) - 1
        passed = row + 1 - int(panel.times.searchsorted(self.trained_until_, side="right"))
        if self.model_ is None or (previous is not None and passed % self.rebalance):
            return None
        returns, eligible = trailing(panel, row, self.window)
        there = [a for a, ok in zip(panel.assets, eligible) if ok and a in self.assets_]
        if not there:
            return None
        history = pd.DataFrame(returns, index=panel.times[-len(returns) :], columns=list(panel.assets))
        seed = np.random.default_rng([self.random_state, int(view.as_of.value) % 2**63])
        scenarios = self.model_.simulate(
            history=history[list(self.assets_)],
            horizon=self.horizon,
            n_scenarios=self.n_scenarios,
            random_state=seed,
        ).select(there)
        held = None if previous is None else previous.reindex(there).fillna(0.0)
        weights = self.policy.allocate(scenarios, held)
        return weights.reindex(list(panel.assets)).fillna(0.0)

    def decide_many(self, panel: Panel, times: pd.DatetimeIndex) -> pd.DataFrame:
        """As an account would decide that buys at the first time and is told what it holds ever after."""
        rows, previous = [], None
        empty = pd.Series(np.nan, index=list(panel.assets))
        for time in times:
            view = panel.asof(time)
            if previous is not None:
                previous = _drifted(previous, view.panel)
            wish = self.decide(view, previous)
            previous = previous if wish is None else wish
            rows.append(empty if wish is None else wish)
        return pd.DataFrame(rows, index=times)


def _drifted(weights: pd.Series, panel: Panel) -> pd.Series:
    """Weights a bar later, without costs."""
    returns = np.nan_to_num(panel.rows(max(0, len(panel) - 2), len(panel)).return_array()[-1])
    grown = weights.to_numpy() * (1.0 + returns)
    return pd.Series(grown / (1.0 + float(weights.to_numpy() @ returns)), index=weights.index)
