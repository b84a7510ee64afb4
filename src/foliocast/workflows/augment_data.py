"""Samples of the augmentation study: factor windows, labels and the borders between what is learnt and what is tested.

Factors and labels are standardised over the assets of a bar, so that only the order of the assets is left to predict.
A decision at the close of bar t is traded at the next close; its label is the return from there over ``horizon`` bars,
known at ``t + 1 + horizon``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from foliocast.core.errors import ConfigError, DataError, HistoryError
from foliocast.core.panel import Panel
from foliocast.features.transforms import FeatureSet
from foliocast.features.windows import Windows
from foliocast.models.training import TrainingSpec

REACH = 4.0  # cross-sectional deviations beyond which factors and labels are cut
FEWEST = 3  # assets in a cross-section
BACKBONES = ("linear", "lstm", "transformer")
FACTORS = (
    "log_return",
    "log_range",
    "momentum_5",
    "momentum_20",
    "momentum_60",
    "momentum_120",
    "volatility_5",
    "volatility_20",
    "volatility_60",
    "volume_z",
)


@dataclass(frozen=True)
class StudySpec:
    """What the study compares, and on what.

    Parameters
    ----------
    strengths : tuple of float
        Editing strengths T'/T beside 0, which is no augmentation; the middle one is repeated with loss-guided
        strengths, and its size is that of the noise in the control.
    backbones : tuple of str
        Of "linear", "lstm", "transformer".
    seeds : int
        Seeds of augmenter, edits, initial weights and order of samples.
    features : tuple of str, optional
        Default: those of ten factors that the panel has the fields for.
    window, horizon : int
        Bars of factors that are seen; bars of the label, and from one decision to the next.
    target : int
        Assets that are predicted: the most traded of the training rows. The augmenter learns from all.
    train_bars, test_bars : int
    start : date, optional
        First test bar; default as early as there is history.
    steps, batch_size, lr : predictor's training
        Every arm takes the same number of steps, however many samples it has.
    valid_fraction : float
        Share of the training decisions, the latest, on which the weights are chosen. Never augmented.
    guidance : float
    fraction : float
        Share of the assets in the long and in the short book.
    cost_bps : float
        Of the value traded.
    augmenter : TrainingSpec, optional
    """

    strengths: tuple[float, ...] = (0.15, 0.35, 0.6)
    backbones: tuple[str, ...] = BACKBONES
    seeds: int = 5
    features: tuple[str, ...] | None = None
    window: int = 8
    horizon: int = 5
    target: int = 100
    train_bars: int = 1008
    test_bars: int = 672
    start: str | None = None
    steps: int = 150
    batch_size: int = 512
    lr: float = 1e-3
    valid_fraction: float = 0.15
    guidance: float = 1.5
    fraction: float = 0.1
    cost_bps: float = 10.0
    augmenter: TrainingSpec | None = None

    def __post_init__(self) -> None:
        if not self.strengths or not all(0 < s <= 1 for s in self.strengths):
            raise ConfigError(f"strengths = {self.strengths}: expected shares of the schedule above 0 and up to 1")
        strange = [name for name in self.backbones if name not in BACKBONES]
        if strange or not self.backbones:
            raise ConfigError(f"backbones = {list(self.backbones)}: expected some of {', '.join(BACKBONES)}")
        if min(self.seeds, self.window, self.horizon, self.target, self.steps) < 1 or self.train_bars < 50:
            raise ConfigError("seeds, window, horizon, target and steps must be positive, train_bars at least 50")
        if not 0 < self.valid_fraction < 0.5 or not 0 < self.fraction <= 0.5:
            raise ConfigError("valid_fraction must lie between 0 and 0.5, fraction be at most 0.5")

    def factors(self, panel: Panel) -> FeatureSet:
        """The factors, as far as the panel has the fields."""
        if self.features is not None:
            return FeatureSet(self.features)
        lacking = {"log_range"} if not {"high", "low"} <= set(panel.fields) else set()
        lacking |= set() if "volume" in panel.fields else {"volume_z"}
        return FeatureSet(tuple(name for name in FACTORS if name not in lacking))


@dataclass(frozen=True)
class Samples:
    """Factor windows and what became of them, ordered by bar.

    Parameters
    ----------
    X : ndarray, shape (sample, time, factor)
    y : ndarray, shape (sample,)
        Standardised label.
    sector : ndarray of str, shape (sample,)
    bar, asset : ndarray of int, shape (sample,)
        Row of the decision and column, in the whole panel.
    known : ndarray of datetime64, shape (sample,)
        When the label became known.
    """

    X: np.ndarray
    y: np.ndarray
    sector: np.ndarray
    bar: np.ndarray
    asset: np.ndarray
    known: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def where(self, chosen: np.ndarray) -> Samples:
        """Only these samples."""
        return Samples(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def joined(self, other: Samples) -> Samples:
        """These, then the others."""
        return Samples(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


@dataclass(frozen=True)
class Cut:
    """One step of the walk: train on bars ``[start, split)``, test the decisions of ``[split, stop)``."""

    number: int
    start: int
    split: int
    stop: int


@dataclass(frozen=True)
class FoldData:
    """What one step of the walk learns from and is tested on.

    Parameters
    ----------
    assets : tuple of str
        That are predicted.
    source : Samples
        Of all assets, up to where ``fit`` ends: the augmenter's training set.
    fit, valid, test : Samples
        Of the predicted assets.
    until : Timestamp
        When the last label of ``fit`` became known.
    """

    assets: tuple[str, ...]
    source: Samples
    fit: Samples
    valid: Samples
    test: Samples
    until: pd.Timestamp


def folds_of(panel: Panel, spec: StudySpec) -> list[Cut]:
    """The steps of the walk; every decision from the first split on is tested once."""
    first = spec.train_bars + spec.factors(panel).lookback + spec.window
    if spec.start is not None:
        first = int(panel.times.searchsorted(panel.stamp(spec.start)))
        if first < spec.train_bars:
            raise HistoryError(f"{first} bars before {spec.start}, {spec.train_bars} are needed to train on")
    last = len(panel) - 1 - spec.horizon
    if first >= last:
        raise HistoryError(
            f"{len(panel)} bars of '{panel.name}' leave nothing to test after {first} bars of history; "
            "shorten train_bars or load more"
        )
    splits = range(first, last, spec.test_bars)
    return [Cut(i, s - spec.train_bars, s, min(s + spec.test_bars, last)) for i, s in enumerate(splits)]


def cut_fold(panel: Panel, spec: StudySpec, cut: Cut, sectors: Mapping[str, str]) -> FoldData:
    """Samples of one step; nothing that is learnt from depends on a bar at or after ``cut.split``."""
    factors = spec.factors(panel)
    begin = max(0, cut.start - factors.lookback - spec.window)
    samples = _samples(panel.rows(begin, min(len(panel), cut.stop + 2 + spec.horizon)), factors, spec, begin, sectors)
    decisions = np.arange(-(-cut.start // spec.horizon) * spec.horizon, cut.split - 1 - spec.horizon, spec.horizon)
    border = int(decisions[-max(1, int(len(decisions) * spec.valid_fraction))])
    end = border - spec.window - spec.horizon  # labels of fit end before the first window of valid begins
    chosen = _most_traded(panel.rows(cut.start, end), spec.target)
    mine = np.isin(samples.asset, chosen)
    seen = (samples.bar >= cut.start) & (samples.bar < end)
    valid = (samples.bar >= border) & (samples.bar + 1 + spec.horizon < cut.split)
    test = (samples.bar >= cut.split) & (samples.bar < cut.stop)
    masks = (seen, seen & mine, valid & mine, test & mine)
    if not all(mask.any() for mask in masks):
        raise HistoryError(
            f"bars {cut.start} to {cut.stop} of '{panel.name}' give {[int(m.sum()) for m in masks]} samples to learn "
            "the augmenter, fit, validate and test: none may be empty; use longer windows of training or fewer gaps"
        )
    source, fit, held, scored = (samples.where(mask) for mask in masks)
    names = tuple(panel.assets[j] for j in chosen)
    return FoldData(names, source, fit, held, scored, pd.Timestamp(fit.known.max()))


def read_sectors(path: str | Path) -> dict[str, str]:
    """Sector by asset from a CSV with a column of symbols and one of sectors, whatever their case."""
    table = pd.read_csv(path, dtype=str)
    names = {column.strip().lower(): column for column in table.columns}
    symbol = next((names[n] for n in ("ticker", "symbol", "asset") if n in names), None)
    sector = next((names[n] for n in ("sector", "gics sector") if n in names), None)
    if symbol is None or sector is None:
        raise DataError(
            f"{path} has columns {', '.join(map(str, table.columns[:8]))}; one called ticker, symbol or asset and one "
            "called sector or 'GICS Sector' are needed"
        )
    known = table[[symbol, sector]].dropna()
    return dict(zip(known[symbol].str.replace(".", "-", regex=False), known[sector], strict=True))


def forward_returns(panel: Panel, horizon: int) -> np.ndarray:
    """Return from the next close over ``horizon`` bars, (time, asset); NaN where a price is missing or to come."""
    close = panel.array("close")
    out = np.full_like(close, np.nan)
    out[: len(close) - 1 - horizon] = close[1 + horizon :] / close[1:-horizon] - 1.0
    return out


def _samples(part: Panel, factors: FeatureSet, spec: StudySpec, begin: int, sectors: Mapping[str, str]) -> Samples:
    members = part.universe.mask[..., None]
    z = _standardised(np.where(members, factors(part), np.nan))
    label = _standardised(np.where(members, forward_returns(part, spec.horizon)[..., None], np.nan))[..., 0]
    decision = (np.arange(len(part)) + begin) % spec.horizon == 0
    windows = Windows.complete(z, spec.window, np.isfinite(label) & decision[:, None])
    names = np.array([sectors.get(asset, "") for asset in part.assets])
    rows, columns = windows.ends, windows.assets
    known = part.times.to_numpy()[rows + 1 + spec.horizon]
    X = windows.take(np.arange(len(windows))).astype(np.float32)
    return Samples(X, label[rows, columns], names[columns], rows + begin, columns, known)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Deviations from the mean over the assets of a bar, (time, asset, field), cut at `REACH`; NaN where too few."""
    there = np.isfinite(values)
    count = there.sum(axis=1, keepdims=True)
    filled = np.where(there, values, 0.0)
    mean = filled.sum(axis=1, keepdims=True) / np.maximum(count, 1)
    centred = np.where(there, values - mean, 0.0)
    spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / np.maximum(count, 1))
    good = there & (count >= FEWEST) & (spread > 0)
    return np.where(good, np.clip(centred / np.where(spread > 0, spread, 1.0), -REACH, REACH), np.nan)


def _most_traded(part: Panel, count: int) -> np.ndarray:
    """Columns of the assets with the largest median value traded; by number of quotes where volumes are unknown."""
    close = part.array("close")
    there = np.isfinite(close)
    size = np.where(there, close * part.array("volume"), 0.0) if "volume" in part.fields else there.astype(float)
    value = np.median(np.nan_to_num(size), axis=0) if "volume" in part.fields else size.sum(axis=0)
    order = np.argsort(-value, kind="stable")[:count]
    return np.sort(order[there[:, order].any(axis=0)])
