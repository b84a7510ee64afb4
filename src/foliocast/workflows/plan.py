"""From a config to objects that were checked: what is wrong is said before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foliocast.core.errors import ConfigError, DataError
from foliocast.core.panel import Panel
from foliocast.core.time import WalkForward
from foliocast.trading.costs import Costs
from foliocast.workflows.config import BASELINES, Config, DataConfig, build, with_code


@dataclass(frozen=True)
class Plan:
    """A checked config, built into objects; nothing has been written yet."""

    config: Config
    panel: Panel
    source_hash: str
    strategies: dict[str, Any]
    specs: dict[str, dict[str, Any]]
    schedule: WalkForward
    costs: Costs
    limits: tuple[Any, ...]
    execution: str


def plan(config: Config) -> Plan:
    """Load, cut and check everything that can be wrong, before a folder is made.

    Raises
    ------
    FoliocastError
        One sentence on what is wrong with the config or the data.
    """
    source_hash, panel = load_data(config.data)  # before the strategies: bad data should not wait for torch
    specs = {name: {"type": BASELINES[name]} for name in config.baseline_names if name not in config.strategies}
    specs = {**config.strategies, **specs}
    strategies = {name: build(table, f"strategies.{name}") for name, table in specs.items()}
    if not strategies:
        raise ConfigError("nothing to run: the config names no strategies and switches the baselines off")
    costs = build({"type": "Costs", **config.costs}, "costs")
    limits = tuple(build(table, f"limits[{k}]") for k, table in enumerate(config.limits))
    schedule = WalkForward(**config.schedule.model_dump())
    schedule.folds(len(panel))
    execution = config.execution or ("next_open" if "open" in panel.fields else "next_close")
    if execution == "next_open" and "open" not in panel.fields:
        have = ", ".join(panel.fields)
        raise ConfigError(f"execution = 'next_open' needs opens, '{panel.name}' has {have}; use 'next_close'")
    specs = {name: with_code(table) for name, table in specs.items()}
    return Plan(config, panel, source_hash, strategies, specs, schedule, costs, limits, execution)


def load_data(data: DataConfig) -> tuple[str, Panel]:
    """Hash of the data set as it came, and the part of it that the config asks for."""
    from foliocast.data import load_panel

    whole = load_panel(data.source, repair=data.repair, allow_jumps=data.allow_jumps, gaps=data.gaps)
    panel = whole if data.members is None else _with_members(whole, Path(data.members))
    panel = panel if data.assets is None else panel.select(data.assets)
    panel = panel if data.start is None and data.end is None else panel.between(data.start, data.end)
    if not panel.universe.mask.any():
        raise DataError(f"no asset of '{panel.name}' is ever a member of the universe; check data.members")
    return whole.data_hash, panel


def _with_members(panel: Panel, path: Path) -> Panel:
    from foliocast.data import universe_from_spells

    if not path.is_file():
        raise ConfigError(f"data.members = '{path}' is not a file; expected a CSV with ticker, start_date, end_date")
    return universe_from_spells(panel, path)


def adjusted(config: Config, data: str | None = None, seed: int | None = None) -> Config:
    """A config with the command line's ``--data`` and ``--seed`` put in."""
    changes: dict[str, Any] = {}
    if data is not None:
        changes["data"] = config.data.model_copy(update={"source": data})
    if seed is not None:
        changes["seed"] = seed
    return config.model_copy(update=changes)
