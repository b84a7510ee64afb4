"""Both ways across to skfolio: its optimisers as policies on our scenarios, our models as its priors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import SolverError


class SkfolioPolicy(BaseEstimator):
    """Any skfolio optimiser as a policy: MeanRisk, RiskBudgeting, HRP, HERC, NCO, stacking, robust CVaR...

    It is fitted on the scenarios' compounded returns, one row a scenario, as if they were history. Where scenarios are
    not equally likely they are resampled systematically, which repeats row s about ``S p_s`` times and adds no noise.

    Parameters
    ----------
    estimator : skfolio optimiser
        Cloned before every fit. If it has ``previous_weights``, the weights held are handed to it.

    Attributes
    ----------
    estimator_ : fitted optimiser of the last call
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    @property
    def path_dependent(self) -> bool:
        """Whether the weights held enter the answer: by transaction costs or a limit on turnover."""
        known = self.estimator.get_params(deep=False)
        free = known.get("transaction_costs", 0.0)
        costs = not (np.isscalar(free) and free == 0.0)
        return "previous_weights" in known and (costs or known.get("max_turnover") is not None)

    def allocate(self, scenarios: ScenarioSet, previous: pd.Series | None = None) -> pd.Series:
        """Target weights by asset.

        Raises
        ------
        SolverError
            The optimiser failed; its own error is the cause.
        """
        self.estimator_ = clone(self.estimator)
        if previous is not None and "previous_weights" in self.estimator_.get_params(deep=False):
            held = previous.reindex(list(scenarios.assets)).fillna(0.0)
            self.estimator_.set_params(previous_weights=held.to_numpy(float))
        try:
            self.estimator_.fit(as_observations(scenarios))
        except Exception as error:
            name = type(self.estimator).__name__
            raise SolverError(f"skfolio's {name} failed on {scenarios.n_scenarios} scenarios: {error}") from error
        return pd.Series(np.asarray(self.estimator_.weights_, dtype=float), index=list(scenarios.assets))


def as_observations(scenarios: ScenarioSet) -> pd.DataFrame:
    """Compounded returns as equally likely rows, (scenario x asset)."""
    frame, p = scenarios.to_frame(), scenarios.probabilities
    if np.ptp(p) <= 1e-12:
        return frame
    at = np.searchsorted(np.cumsum(p), (np.arange(len(p)) + 0.5) / len(p))
    return frame.iloc[np.minimum(at, len(p) - 1)].reset_index(drop=True)


def skfolio_prior(model: Any, n_samples: int = 1000, **given: float) -> Any:
    """A scenario model as the prior of any skfolio optimiser: ``MeanRisk(prior_estimator=skfolio_prior(model))``.

    Parameters
    ----------
    model : ScenarioModel
        Fitted by skfolio, on the returns that the optimiser is fitted on.
    given : float
        Returns of some assets to condition the draws on, by name.
    """
    from skfolio.prior import SyntheticData

    arguments = {"conditioning": given} if given else None
    return SyntheticData(distribution_estimator=model, n_samples=n_samples, sample_args=arguments)
