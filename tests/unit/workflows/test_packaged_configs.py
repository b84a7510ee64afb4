"""The packaged configs: every strategy that the demo promises, built from TOML alone."""

from __future__ import annotations

import pytest
from skfolio import RiskMeasure
from skfolio.optimization import RiskBudgeting

import foliocast as fc
from foliocast.core.errors import ConfigError
from foliocast.workflows.config import PACKAGED, build, load_config

DEMO = {"attention_lstm", "linear", "diffusion_cvar", "fhs_cvar", "kelly", "risk_budgeting"}


@pytest.mark.parametrize("name", sorted(file.stem for file in PACKAGED.glob("*.toml")))
def test_every_packaged_config_builds(name: str) -> None:
    config = load_config(name)
    for key, table in config.strategies.items():
        assert build(table, key) is not None


def test_the_demo_sets_futures_and_sizing_beside_forecasts_and_baselines() -> None:
    config = load_config("demo")
    assert set(config.strategies) == DEMO
    assert "hrp" in config.baseline_names
    built = {name: build(table, name) for name, table in config.strategies.items()}
    assert isinstance(built["diffusion_cvar"].model, fc.DiffusionScenarios)
    assert isinstance(built["kelly"].policy, fc.Kelly)
    assert not any(strategy.path_dependent for strategy in built.values())  # folds may run anywhere


def test_optimisers_of_skfolio_are_named_in_toml() -> None:
    made = build({"type": "skfolio.RiskBudgeting", "risk_measure": "cvar"}, "x")
    assert isinstance(made, RiskBudgeting)
    assert made.risk_measure is RiskMeasure.CVAR
    with pytest.raises(ConfigError, match=r"did you mean 'skfolio\.RiskBudgeting'"):
        build({"type": "skfolio.RiskBudgetting"}, "x")
    with pytest.raises(ConfigError, match="'luck' is not one of"):
        build({"type": "skfolio.MeanRisk", "risk_measure": "luck"}, "x")


def test_limits_are_written_in_toml() -> None:
    tables = (
        {"type": "CVaRLimit", "limit": 0.02, "model": {"type": "FilteredHistoricalSimulation"}},
        {"type": "SectorLimit", "members": {"AAPL": "technology"}, "limit": {"technology": 0.3}},
        {"type": "LiquidityLimit", "days": 2},
        {"type": "DrawdownLimit", "limit": 0.15, "calm": 2.0},
    )
    built = [build(table, f"limits[{k}]") for k, table in enumerate(tables)]
    assert [type(limit).__name__ for limit in built] == [table["type"] for table in tables]
    assert isinstance(built[0].model, fc.FilteredHistoricalSimulation)
