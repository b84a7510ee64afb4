"""What is asked of a fund generator, and the path it can hand back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from foliocast.features.funds import Prompt
from foliocast.models.funds.constraints import Limits


@dataclass(frozen=True)
class Trajectory:
    """How portfolios came out of noise.

    Parameters
    ----------
    sigmas : ndarray, shape (step,)
        Noise levels, falling.
    weights : ndarray, shape (step, sample, security)
        What the denoiser believed at each level, decoded; rows sum to one.
    tickers : tuple of str
    """

    sigmas: np.ndarray
    weights: np.ndarray
    tickers: tuple[str, ...]

    def frame(self, sample: int = 0) -> pd.DataFrame:
        """One sample as a table (noise level x ticker)."""
        index = pd.Index(self.sigmas, name="noise")
        return pd.DataFrame(self.weights[:, sample], index=index, columns=list(self.tickers))


@dataclass(frozen=True)
class Law:
    """How to draw."""

    guidance: float
    diversity: float
    steps: int


@dataclass(frozen=True)
class FundRequest:
    """One portfolio asked for, with limits of its own; see `FundGenerator.generate` for their meaning.

    Parameters
    ----------
    prompt : str, mapping or Prompt
    date : date, optional
    max_weight : float, optional
    exclude : tuple of tickers
    universe : tuple of tickers, optional
    n_holdings : int, optional
    sector_caps : mapping sector -> float
    previous : bool
    """

    prompt: str | Mapping[str, object] | Prompt
    date: str | pd.Timestamp | None = None
    max_weight: float | None = None
    exclude: tuple[str, ...] = ()
    universe: tuple[str, ...] | None = None
    n_holdings: int | None = None
    sector_caps: Mapping[str, float] = field(default_factory=dict)
    previous: bool = True


def limits_of(
    said: Prompt, max_weight: float | None, sector_caps: Mapping[str, float] | None, n_holdings: int | None
) -> Limits:
    wanted = said.numbers.get("n_holdings") if n_holdings is None else n_holdings
    cap = 1.0 if max_weight is None else max_weight
    return Limits(cap, dict(sector_caps or {}), None if wanted is None else round(wanted))
