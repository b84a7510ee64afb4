"""What is wanted of a portfolio, as terms that compose: ``ExpectedReturn() - 2 * CVaR(0.95) - TransactionCost(bps=5)``.

A term is optimised, charged and read by the same object: ``term.value(weights, scenarios, previous)`` is its number. An
expression is a utility and is maximised; risks and costs therefore stand in it with a minus sign. ``<=`` and ``>=``
make limits. Returns are over the whole horizon of the scenario set.

The words come from `algebra`, `risks`, `charges` and `constraints`; this module is all of them.

Weights are fractions of equity; the rest is cash that earns nothing. ``previous`` are the weights held now (drifted);
None means that no holdings are known: trading then costs nothing and turnover is not limited.
"""

from __future__ import annotations

from foliocast.portfolio.algebra import (
    Constraint,
    Expression,
    Limit,
    PerAsset,
    Sum,
    Term,
    Weights,
    knows_holdings,
    spread,
)
from foliocast.portfolio.charges import (
    GrossExposure,
    MarketImpact,
    Traded,
    TransactionCost,
    Turnover,
)
from foliocast.portfolio.constraints import (
    Bounds,
    Budget,
    Cardinality,
    Groups,
    Leverage,
    Linear,
    LongOnly,
    MinPosition,
    MinTrade,
    NetExposure,
)
from foliocast.portfolio.risks import (
    RISKS,
    CVaR,
    EntropicRisk,
    EVaR,
    ExpectedReturn,
    LogGrowth,
    MaxLoss,
    Semivariance,
    TrackingError,
    Variance,
    Volatility,
    risk_term,
    tail_mean,
)

__all__ = [
    "RISKS",
    "Bounds",
    "Budget",
    "CVaR",
    "Cardinality",
    "Constraint",
    "EVaR",
    "EntropicRisk",
    "ExpectedReturn",
    "Expression",
    "GrossExposure",
    "Groups",
    "Leverage",
    "Limit",
    "Linear",
    "LogGrowth",
    "LongOnly",
    "MarketImpact",
    "MaxLoss",
    "MinPosition",
    "MinTrade",
    "NetExposure",
    "PerAsset",
    "Semivariance",
    "Sum",
    "Term",
    "TrackingError",
    "Traded",
    "TransactionCost",
    "Turnover",
    "Variance",
    "Volatility",
    "Weights",
    "knows_holdings",
    "risk_term",
    "spread",
    "tail_mean",
]
