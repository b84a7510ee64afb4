"""Models that were trained before: found by name or folder, loaded, and refused where they must not be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from foliocast.core.errors import ConfigError, LookAheadError
from foliocast.runtime.home import home

CARD = "card.json"


def models_folder() -> Path:
    """Where trained models are kept."""
    return home() / "models"


def find_saved(name: str) -> Path | None:
    """The folder of a saved model: a path, or a name under `models_folder`; None where there is none."""
    for folder in (Path(name), models_folder() / name):
        if (folder / CARD).is_file():
            return folder
    return None


def load_saved(name: str, ability: str) -> Any:
    """A saved model that can do something.

    Parameters
    ----------
    ability : {"forecast", "simulate"}

    Raises
    ------
    ConfigError
        Nothing of that name was saved, or it is a model of another kind.
    DataError
        The folder is damaged.
    """
    from foliocast.models.checkpoint import load_model

    folder = find_saved(name)
    if folder is None:
        raise ConfigError(f"no saved model '{name}', neither as a folder nor under {models_folder()}")
    model = load_model(folder)
    if not hasattr(model, ability):
        raise ConfigError(f"'{name}' holds a {type(model).__name__}, which cannot {ability}; choose another model")
    return model


def refuse_hindsight(model: Any, as_of: pd.Timestamp) -> None:
    """
    Raises
    ------
    LookAheadError
        The model has seen data after ``as_of``.
    """
    known = pd.Timestamp(model.knowledge_until_)
    if known.tz_localize(None) > as_of.tz_localize(None):
        raise LookAheadError(
            f"the saved model has seen data up to {known:%Y-%m-%d}, after the last bar at {as_of:%Y-%m-%d}; "
            "use later data or train a model that ends earlier"
        )
