"""What a portfolio must satisfy, beside limits on terms: bounds, budgets, groups, leverage, whole decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foliocast.core.belief import ScenarioSet
from foliocast.portfolio.algebra import Constraint, PerAsset
from foliocast.portfolio.charges import GrossExposure


@dataclass(frozen=True)
class LongOnly(Constraint):
    """No weight below zero."""

    def __str__(self) -> str:
        return "LongOnly()"


@dataclass(frozen=True)
class Bounds(Constraint):
    """Least and largest weight, for all assets or by asset (assets that are not named are left free)."""

    lower: PerAsset | None = None
    upper: PerAsset | None = None

    def __str__(self) -> str:
        return f"Bounds({self.lower}, {self.upper})"


@dataclass(frozen=True)
class Linear(Constraint):
    """``lower <= sum coefficients * w <= upper``; assets that are not named have coefficient zero."""

    coefficients: Mapping[str, float] | pd.Series
    lower: float = -np.inf
    upper: float = np.inf
    name: str = ""

    def __str__(self) -> str:
        return self.name or f"Linear({dict(pd.Series(self.coefficients))}, {self.lower:g}, {self.upper:g})"


@dataclass(frozen=True)
class NetExposure(Constraint):
    """``lower <= sum w <= upper``."""

    lower: float = -np.inf
    upper: float = np.inf

    def __str__(self) -> str:
        return f"NetExposure({self.lower:g}, {self.upper:g})"


@dataclass(frozen=True)
class Budget(Constraint):
    """``sum w = total``: the rest, ``1 - total``, is cash."""

    total: float = 1.0

    def __str__(self) -> str:
        return f"Budget({self.total:g})"


@dataclass(frozen=True)
class Leverage(Constraint):
    """``sum |w| <= limit``."""

    limit: float = 1.0
    path_dependent = False

    def reading(
        self, weights: pd.Series, scenarios: ScenarioSet, previous: pd.Series | None = None
    ) -> tuple[float, float]:
        """The gross exposure of these weights, and its bound."""
        return GrossExposure().value(weights, scenarios), self.limit

    def __str__(self) -> str:
        return f"Leverage({self.limit:g})"


@dataclass(frozen=True)
class Groups(Constraint):
    """Bounds on the summed weight of groups of assets, such as sectors.

    Parameters
    ----------
    members : mapping of asset to group
    lower, upper : mapping of group to number, or one number for all groups
    """

    members: Mapping[str, str]
    lower: float | Mapping[str, float] = -np.inf
    upper: float | Mapping[str, float] = np.inf

    def __str__(self) -> str:
        return f"Groups({', '.join(sorted(set(self.members.values())))})"


@dataclass(frozen=True)
class Cardinality(Constraint):
    """At most ``count`` assets held."""

    count: int

    def __str__(self) -> str:
        return f"Cardinality({self.count})"


@dataclass(frozen=True)
class MinPosition(Constraint):
    """A weight is zero or at least ``size`` in absolute value."""

    size: float

    def __str__(self) -> str:
        return f"MinPosition({self.size:g})"


@dataclass(frozen=True)
class MinTrade(Constraint):
    """A trade is zero or at least ``size`` in absolute value."""

    size: float
    reads_holdings = True

    def __str__(self) -> str:
        return f"MinTrade({self.size:g})"
