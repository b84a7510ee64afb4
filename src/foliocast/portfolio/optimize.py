"""Optimised portfolios as a policy: a scenario set in, weights and their certificate out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from foliocast.core.belief import ScenarioSet
from foliocast.core.errors import ConfigError
from foliocast.portfolio import terms as t
from foliocast.portfolio.cardinality import CHOICES, solve_choice
from foliocast.portfolio.solver import Solution, optimise

OBJECTIVES = ("min_risk", "max_utility", "max_return", "max_growth")


class Optimized(BaseEstimator):
    """Weights that maximise a utility of terms on a scenario set.

    Parameters
    ----------
    objective : {"min_risk", "max_utility", "max_return", "max_growth"} or Expression
        ``min_risk`` minimises the risk; ``max_utility`` maximises expected return minus ``risk_aversion`` times the
        risk; ``max_return`` maximises expected return (bound the risk by a constraint); ``max_growth`` maximises
        expected log wealth (Kelly). An expression of terms is maximised as it stands.
    risk : str
        ``"variance"``, ``"volatility"``, ``"semivariance"``, ``"cvar"``, ``"evar"``, ``"max_loss"`` or ``"entropic"``.
    alpha : float
        Level of CVaR and EVaR.
    risk_aversion : float
    constraints : sequence of Constraint
        Default: long only and fully invested.
    costs : Term or Expression, optional
        Subtracted from the utility: ``TransactionCost(bps=5) + MarketImpact()``.
    tol : float
        Relative gap at which the solver stops.
    device : str, optional
        Torch device for the products with the scenario matrix, such as ``"cuda"``.
    time_limit : float
        Seconds the search over whole positions (cardinality, smallest trade) may take.

    Attributes
    ----------
    solution_ : Solution
        The last result with its gap, solver and time.

    Notes
    -----
    The whole horizon of the scenario set counts: returns are compounded over it and probabilities respected.
    """

    solution_: Solution

    def __init__(
        self,
        objective: str | t.Sum = "min_risk",
        risk: str = "cvar",
        alpha: float = 0.95,
        risk_aversion: float = 1.0,
        constraints: Sequence[t.Constraint] = (t.LongOnly(), t.Budget()),
        costs: t.Sum | None = None,
        tol: float = 1e-9,
        device: str | None = None,
        time_limit: float = 30.0,
    ) -> None:
        self.objective = objective
        self.risk = risk
        self.alpha = alpha
        self.risk_aversion = risk_aversion
        self.constraints = constraints
        self.costs = costs
        self.tol = tol
        self.device = device
        self.time_limit = time_limit

    def utility(self) -> t.Expression:
        """The expression that is maximised."""
        if isinstance(self.objective, t.Sum):
            goal: t.Sum = self.objective
        elif self.objective == "min_risk":
            goal = -t.risk_term(self.risk, self.alpha)
        elif self.objective == "max_utility":
            goal = t.ExpectedReturn() - self.risk_aversion * t.risk_term(self.risk, self.alpha)
        elif self.objective == "max_return":
            goal = t.ExpectedReturn()
        elif self.objective == "max_growth":
            goal = t.LogGrowth()
        else:
            raise ConfigError(
                f"objective is {self.objective!r}, expected one of {', '.join(OBJECTIVES)} or an expression of terms"
            )
        return t.Expression((goal if self.costs is None else goal - self.costs).parts())

    @property
    def path_dependent(self) -> bool:
        """Whether the weights held enter the answer: by a cost, a turnover limit or a smallest trade."""
        return t.knows_holdings(self.utility(), self.constraints)

    def solve(self, scenarios: ScenarioSet, previous: pd.Series | None = None) -> Solution:
        """Weights with their value, certified gap, solver and time.

        Raises
        ------
        ConfigError, InfeasibleError, SolverError
            See `foliocast.portfolio.solver.optimise`.
        """
        utility, rules = self.utility(), tuple(self.constraints)
        if any(isinstance(rule, CHOICES) for rule in rules):
            return solve_choice(scenarios, utility, rules, previous, self.tol, self.time_limit)
        return optimise(scenarios, utility, rules, previous, self.device, self.tol)

    def allocate(self, scenarios: ScenarioSet, previous: pd.Series | None = None) -> pd.Series:
        """Target weights by asset (fractions of equity; the rest is cash)."""
        self.solution_ = self.solve(scenarios, previous)
        return self.solution_.weights


def efficient_frontier(
    scenarios: ScenarioSet,
    n_points: int = 10,
    risk: str = "cvar",
    alpha: float = 0.95,
    constraints: Sequence[t.Constraint] = (t.LongOnly(), t.Budget()),
    previous: pd.Series | None = None,
) -> pd.DataFrame:
    """Portfolios from least risk to most return: columns ``risk``, ``expected_return`` and one weight an asset."""
    measure, rules = t.risk_term(risk, alpha), tuple(constraints)
    safest = optimise(scenarios, -measure, rules, previous)
    richest = optimise(scenarios, t.ExpectedReturn(), rules, previous)
    low, high = (t.ExpectedReturn().value(s.weights, scenarios) for s in (safest, richest))
    rows, last = [], safest
    for target in np.linspace(low, high, n_points):
        if target > low:
            reachable = target - 1e-6 * abs(high - low)
            last = optimise(
                scenarios, -measure, (*rules, t.ExpectedReturn() >= reachable), previous, start=last.weights
            )
        mean = t.ExpectedReturn().value(last.weights, scenarios)
        rows.append({"risk": measure.value(last.weights, scenarios), "expected_return": mean, **last.weights})
    return pd.DataFrame(rows)
