"""Foliocast: from market data to portfolios you can defend.

Public names are loaded on first use, so that ``import foliocast`` stays light: no torch, skfolio or plotly.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Panel": "foliocast.core.panel",
    "View": "foliocast.core.panel",
    "ScenarioSet": "foliocast.core.belief",
    "Forecast": "foliocast.core.belief",
    "Book": "foliocast.core.book",
    "WalkForward": "foliocast.core.time",
    "PurgedKFold": "foliocast.core.time",
    "CombinatorialPurged": "foliocast.core.time",
    "Costs": "foliocast.trading.costs",
    "BacktestResult": "foliocast.trading.result",
    "backtest": "foliocast.trading.fast",
    "backtest_many": "foliocast.trading.fast",
    "walk_forward": "foliocast.trading.walkforward",
    "PositionPipeline": "foliocast.portfolio.sizing",
    "SignalStrategy": "foliocast.portfolio.sizing",
    "ScenarioStrategy": "foliocast.portfolio.policies",
    "ForecastStrategy": "foliocast.portfolio.forecasts",
    "EqualWeight": "foliocast.portfolio.baselines",
    "BuyAndHold": "foliocast.portfolio.baselines",
    "FixedWeights": "foliocast.portfolio.fixed",
    "InverseVolatility": "foliocast.portfolio.baselines",
    "MinimumVariance": "foliocast.portfolio.baselines",
    "MeanVariance": "foliocast.portfolio.baselines",
    "HierarchicalRiskParity": "foliocast.portfolio.baselines",
    "PositionLimit": "foliocast.trading.caps",
    "GrossLimit": "foliocast.trading.caps",
    "NetLimit": "foliocast.trading.caps",
    "TurnoverLimit": "foliocast.trading.caps",
    "SectorLimit": "foliocast.trading.caps",
    "LiquidityLimit": "foliocast.trading.caps",
    "DrawdownLimit": "foliocast.trading.risk",
    "ValueAtRiskLimit": "foliocast.trading.risk",
    "CVaRLimit": "foliocast.trading.risk",
    "RuleLimit": "foliocast.trading.risk",
    "FundGenerator": "foliocast.models.funds.generator",
    "load_panel": "foliocast.data",
    "audit": "foliocast.workflows.audit",
    "BlockBootstrap": "foliocast.scenarios.bootstrap",
    "FilteredHistoricalSimulation": "foliocast.scenarios.fhs",
    "GaussianCopula": "foliocast.scenarios.copula",
    "StudentTCopula": "foliocast.scenarios.copula",
    "score": "foliocast.workflows.score",
    "Optimized": "foliocast.portfolio.optimize",
    "ExpectedReturn": "foliocast.portfolio.risks",
    "Variance": "foliocast.portfolio.risks",
    "Volatility": "foliocast.portfolio.risks",
    "CVaR": "foliocast.portfolio.risks",
    "EVaR": "foliocast.portfolio.risks",
    "EntropicRisk": "foliocast.portfolio.risks",
    "Semivariance": "foliocast.portfolio.risks",
    "MaxLoss": "foliocast.portfolio.risks",
    "LogGrowth": "foliocast.portfolio.risks",
    "TransactionCost": "foliocast.portfolio.charges",
    "MarketImpact": "foliocast.portfolio.charges",
    "TrackingError": "foliocast.portfolio.risks",
    "Turnover": "foliocast.portfolio.charges",
    "LongOnly": "foliocast.portfolio.constraints",
    "Budget": "foliocast.portfolio.constraints",
    "Bounds": "foliocast.portfolio.constraints",
    "Groups": "foliocast.portfolio.constraints",
    "Leverage": "foliocast.portfolio.constraints",
    "NetExposure": "foliocast.portfolio.constraints",
    "Linear": "foliocast.portfolio.constraints",
    "Cardinality": "foliocast.portfolio.constraints",
    "MinPosition": "foliocast.portfolio.constraints",
    "MinTrade": "foliocast.portfolio.constraints",
    "Kelly": "foliocast.portfolio.kelly",
    "PerAssetKelly": "foliocast.portfolio.kelly",
    "VolatilityTarget": "foliocast.portfolio.kelly",
    "SkfolioPolicy": "foliocast.portfolio.bridge",
    "efficient_frontier": "foliocast.portfolio.optimize",
    "entropy_pooling": "foliocast.scenarios.views",
    "black_litterman": "foliocast.scenarios.views",
    "stress": "foliocast.workflows.stress",
    "StressSpec": "foliocast.workflows.stress",
    "decompose_risk": "foliocast.explain.decompose",
    "attribute_pnl": "foliocast.explain.decompose",
    "AttentionLSTM": "foliocast.models.lstm",
    "LSTMForecaster": "foliocast.models.lstm",
    "LinearForecaster": "foliocast.models.linear",
    "NaiveForecaster": "foliocast.models.naive",
    "FeatureSet": "foliocast.features.transforms",
    "load_model": "foliocast.models.checkpoint",
    "VolatilityTrendRegime": "foliocast.features.regimes",
    "GaussianHMMRegime": "foliocast.features.regimes",
    "DiffusionScenarios": "foliocast.models.diffusion.generator",
    "PretrainedScenarios": "foliocast.models.diffusion.pretrained",
    "UNet1D": "foliocast.models.diffusion.unet1d",
    "DiT": "foliocast.models.diffusion.dit",
    "TrainingSpec": "foliocast.models.training",
    "TransformerForecaster": "foliocast.models.transformer",
    "CrossAssetTransformer": "foliocast.models.crossasset",
    "TreesForecaster": "foliocast.models.trees",
    "AdaptiveConformal": "foliocast.models.conformal",
    "ConformalForecaster": "foliocast.models.conformal",
    "FactorAugmenter": "foliocast.models.augmentation",
    "EndToEndAllocator": "foliocast.models.allocator.allocator",
}

__all__ = ["__version__", "stats", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name == "stats":
        return importlib.import_module("foliocast.stats")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'foliocast' has no attribute '{name}'")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
