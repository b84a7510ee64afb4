"""From decoded weights to a portfolio of the stated or generated shape that keeps its limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foliocast.features.funds import SECTORS, Prompt, unscaled
from foliocast.models.funds.conditions import SHAPE
from foliocast.models.funds.constraints import TINY, Limits, Shape, enforce, shaped, support
from foliocast.models.funds.scenes import Scene


@dataclass(frozen=True)
class Drawn:
    """What a portfolio is made of: decoded weights, scaled shape, how likely each security is; which were held
    earlier (bool), and the share of the weight that carries over."""

    weights: np.ndarray
    shape: np.ndarray
    likely: np.ndarray
    before: np.ndarray
    kept: float


def finish(drawn: Drawn, scene: Scene, said: Prompt, limits: Limits) -> np.ndarray:
    """From decoded weights to a portfolio of the stated or generated shape that keeps the limits."""
    raw = drawn.weights
    sector = scene.securities.sector[scene.columns].astype(int)
    n, _, number = (unscaled(name, value) for name, value in zip(SHAPE, drawn.shape))
    if limits.n_holdings is not None:
        n = limits.n_holdings
    else:
        n = int(np.clip(round(n), max(2, np.ceil(1.0 / limits.max_weight - 1e-9)), len(raw)))
    # Two numbers drawn apart need not fit together: where none is stated, the effective number alone decides,
    # or the book before.
    top, stated = said.numbers.get("top_weight"), said.numbers.get("effective_n")
    free = top is None and stated is None and not drawn.before.any()
    asked = Shape(top, number if free else stated, _stated(raw, sector, said))
    preferred = shaped(np.maximum(raw, TINY), sector, Shape(sectors=asked.sectors)) if asked.sectors else raw
    # What was held stays before what is new, as surely as weight is kept at all.
    held = support(preferred + drawn.kept * drawn.before, drawn.likely, sector, limits, n, asked)
    weights = shaped(np.maximum(raw[held], TINY), sector[held], asked)
    out = np.zeros(len(raw))
    out[held] = enforce(np.maximum(weights, TINY), sector[held], limits)
    return out


def _stated(raw: np.ndarray, sector: np.ndarray, said: Prompt) -> dict[str, float]:
    """Sector weights the prompt gives. A sector *word* means by definition more than 35 % (`descriptive`); where
    the decoder proposes less, the sector gets the half that such funds have on average."""
    stated = {s: v for s, v in said.numbers.items() if s in SECTORS}
    word = said.fields.get("sector", "")
    if word and word not in stated:
        share = raw[sector == SECTORS.index(word)].sum() / max(raw[sector >= 0].sum(), TINY)
        if share < 0.35:
            stated[word] = max(0.0, min(0.5, 1.0 - sum(stated.values())))
    return stated
