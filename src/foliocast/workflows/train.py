"""Fit one model on one data set and keep it, with the card that says what it has seen."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

import foliocast
from foliocast.core.errors import ConfigError
from foliocast.runtime.progress import Report, listening, silent
from foliocast.workflows.config import DataConfig, Table, build, checked, read_toml
from foliocast.workflows.plan import load_data
from foliocast.workflows.saved import models_folder

# what `foliocast train NAME` fits when NAME is no file: the class with its own defaults
NAMED = {
    "attention_lstm": "AttentionLSTM",
    "lstm": "LSTMForecaster",
    "transformer": "TransformerForecaster",
    "cross_asset": "CrossAssetTransformer",
    "diffusion": "DiffusionScenarios",
}


class TrainConfig(Table):
    """What to fit, on what."""

    name: str | None = None
    seed: int = 0
    data: DataConfig = Field(default_factory=DataConfig)
    model: dict[str, Any]


def load_train_config(config: str) -> TrainConfig:
    """A TOML file with ``[data]`` and ``[model]``, or one of `NAMED`.

    Raises
    ------
    ConfigError
        Neither a file nor a name; a key that does not exist.
    """
    if config in NAMED and not Path(config).is_file():
        return TrainConfig(name=config, model={"type": NAMED[config]})
    if not Path(config).is_file():
        raise ConfigError(
            f"no config file at {config}; give a TOML file with [model] and [data], or {', '.join(NAMED)}"
        )
    return checked(TrainConfig, read_toml(Path(config)), Path(config).name)


def train(config: TrainConfig, out: Path | None = None, report: Report = silent) -> dict[str, Any]:
    """Fit the model of a config and write it into a folder, whole or not at all.

    Parameters
    ----------
    out : Path, optional
        The model's folder; default ``models/NAME`` in Foliocast's home, where `forecast` and `simulate` look.

    Returns
    -------
    dict
        ``name``, ``folder``, ``kind``, ``assets``, ``bars``, ``knowledge_until``, ``seconds``, ``training``.

    Raises
    ------
    ConfigError
        A class that learns nothing worth keeping.
    """
    model = build(config.model, "model")
    if not hasattr(model, "to_checkpoint"):
        able = ", ".join(NAMED.values())
        raise ConfigError(f"{config.model['type']} keeps no weights: it is fitted where it is used; {able} are trained")
    if "random_state" in model.get_params() and "random_state" not in config.model:
        model.set_params(random_state=config.seed)
    _, panel = load_data(config.data)
    started = time.perf_counter()
    with listening(report):
        model.fit(panel)
    name = config.name or f"{config.model['type']}-{panel.name}".replace(":", "-").replace("/", "-")
    folder = out or models_folder() / name
    card = model.save(folder)
    return {
        "name": name,
        "folder": str(folder),
        "kind": card.kind.partition(":")[2],
        "assets": list(card.assets),
        "bars": len(panel),
        "knowledge_until": f"{pd.Timestamp(card.knowledge_until):%Y-%m-%d}",
        "seconds": time.perf_counter() - started,
        "training": _training(model),
        "version": foliocast.__version__,
    }


def _training(model: Any) -> dict[str, Any]:
    """Steps, best epoch and last losses of each network inside the model."""
    results = getattr(model, "training_", None)
    parts = results if isinstance(results, dict) else {"*": results}
    return {
        name: {"steps": result.steps, "best_epoch": result.best_epoch, **result.history[result.best_epoch - 1]}
        for name, result in parts.items()
        if result is not None
    }
