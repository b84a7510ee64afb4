"""The securities that may be held at a date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError, DataError
from foliocast.features.funds import Prompt
from foliocast.models.funds.conditions import Keys
from foliocast.models.funds.securities import Securities, positions


@dataclass(frozen=True)
class Scene:
    """Everything a generation needs about the universe at the date."""

    securities: Securities
    columns: np.ndarray
    keys: Keys


def chosen(known: Securities, universe: Sequence[str] | pd.DataFrame) -> np.ndarray:
    """The securities that are named: bool (security,)."""
    names = [str(t) for t in (universe.index if isinstance(universe, pd.DataFrame) else universe)]
    at = positions(known.tickers, names)
    if (at < 0).any():
        raise DataError(
            f"the model does not know {', '.join(n for n, a in zip(names, at) if a < 0)}; hand in universe as "
            "a DataFrame with sector, size and growth of such securities"
        )
    out = np.zeros(len(known), dtype=bool)
    out[at] = True
    return out


def listed_in(known: Securities, geography: str) -> np.ndarray:
    """US listings, unless the prompt names a country that has listings of its own, or the world."""
    country = np.array(known.country)
    if geography in ("global", "international"):
        return np.ones(len(country), dtype=bool)
    if geography and geography != "us" and (country == geography).any():
        return country == geography
    return country == "us"


def barred_from(scene: Scene, exclude: Sequence[str], said: Prompt) -> np.ndarray:
    """Which securities of the scene may not be held: bool (security,)."""
    gone = np.zeros(len(scene.securities), dtype=bool)
    at = positions(scene.securities.tickers, [str(t) for t in exclude])
    gone[at[at >= 0]] = True
    barred = gone[scene.columns]
    if barred.all():
        raise ConfigError(nothing_left(scene.securities, said))
    return barred


def nothing_left(known: Securities, said: Prompt) -> str:
    """Why there is no security to choose from."""
    begin = pd.Timestamp("2013-01-01") + pd.Timedelta(days=int(known.first.min()))
    return (
        f"no security may be held at {said.date:%Y-%m-%d}: the model knows filings from {begin:%Y-%m-%d} on, and the "
        "universe and exclusions leave nothing"
    )
