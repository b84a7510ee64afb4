"""Does augmentation by diffusion help a predictor? A walk-forward over seeds, backbones and strengths, with controls.

Arms of one backbone differ in its training set alone: the samples as they are; with edits of them beside
(`models.augmentation.FactorAugmenter`, trained on all assets); and as a control with plain noise of the same size
beside. Networks of all arms see equally many samples, in the same order, and choose their weights at the same steps: of
a sample and what stands beside it each is drawn half of the time. (Set beside itself, a sample changes nothing, to the
bit.) Validation and test samples are never touched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import Ridge
from torch import nn

from foliocast.core.errors import ConfigError, InterruptedRun
from foliocast.core.panel import Panel
from foliocast.models.augmentation import FactorAugmenter, loss_guided
from foliocast.models.lstm import LSTMNet
from foliocast.models.training import TensorSamples, TrainingSpec, initialised, seed_of, train
from foliocast.models.transformer import PatchTransformer
from foliocast.runtime.files import write_json
from foliocast.runtime.resume import BundleStore
from foliocast.stats.measures import rank_ic, weighted_ic
from foliocast.trading.costs import Costs
from foliocast.trading.fast import backtest
from foliocast.workflows.augment_data import Cut, FoldData, Samples, StudySpec, cut_fold, folds_of, forward_returns
from foliocast.workflows.augment_table import CONTROL, NONE, summary

RIDGE = 0.1  # penalty a sample, on standardised factors, as in `LinearForecaster`
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Arm:
    """What a predictor is trained on.

    Parameters
    ----------
    kind : {"none", "edit", "guided", "noise", "duplicate"}
        The samples; or these and as many more: edited; edited by loss-guided strengths around the given one; with
        Gaussian noise of the size of an edit; the same again.
    strength : float
    """

    kind: str
    strength: float = 0.0

    @property
    def name(self) -> str:
        return self.kind if not self.strength else f"{self.kind} {self.strength:g}"


@dataclass(frozen=True)
class TrainingSet:
    """Windows and labels that a predictor is fitted on.

    Parameters
    ----------
    X, more : ndarray, shape (sample, time, factor)
        The samples, and what stands beside each of them (itself, if nothing does).
    y : ndarray, shape (sample,)
        Labels of both.
    """

    X: np.ndarray
    more: np.ndarray
    y: np.ndarray


def arms_of(spec: StudySpec) -> list[Arm]:
    """All arms, the one without augmentation first."""
    middle = spec.strengths[len(spec.strengths) // 2]
    edits = [Arm("edit", s) for s in spec.strengths]
    return [Arm(NONE), *edits, Arm("guided", middle), Arm(CONTROL, middle)]


def study(
    panel: Panel,
    out: Path,
    spec: StudySpec | None = None,
    sectors: Mapping[str, str] | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Run the study, or go on with it, and summarise it.

    Parameters
    ----------
    panel : Panel
    out : Path
        Folder of the finished pieces, one a fold and seed; the same folder continues the same study. The summary is
        written to ``augment.json`` in it.
    spec : StudySpec
    sectors : mapping of asset to sector, optional
    report : callable ``(what, done, total)``, optional

    Returns
    -------
    dict
        ``rows``: one a backbone and arm (see `augment_table.summary`); ``folds``, ``augmenters``, ``notice``, ``spec``.

    Raises
    ------
    ConfigError
        The folder holds another study.
    InterruptedRun
        Stopped by the user; finished pieces are kept.
    """
    spec = StudySpec() if spec is None else spec
    sectors = {} if sectors is None else dict(sectors)
    cuts = folds_of(panel, spec)
    _same_study(out, panel, spec, sectors)
    store = BundleStore(out / "pieces")
    todo = [(cut, seed) for seed in range(spec.seeds) for cut in cuts]
    try:
        for done, (cut, seed) in enumerate(todo):
            if store.get(_key(cut, seed)) is None:
                frames, meta = piece(panel, spec, cut, sectors, seed)
                store.put(_key(cut, seed), frames, meta)
            if report is not None:
                report("augment", done + 1, len(todo))
    except KeyboardInterrupt:
        raise InterruptedRun(f"stopped; run it again with --out {out} to go on") from None
    found = {(seed, cut.number): store.get(_key(cut, seed)) for cut, seed in todo}
    pieces = {key: bundle for key, bundle in found.items() if bundle is not None}
    answer = {
        "data": panel.name,
        "notice": panel.notice,
        "spec": asdict(spec),
        "folds": [_described(panel, cut) for cut in cuts],
        "rows": summary({key: frames for key, (frames, _) in pieces.items()}, spec.horizon),
        "augmenters": [{"seed": s, "fold": f, **meta} for (s, f), (_, meta) in pieces.items()],
    }
    write_json(out / "augment.json", answer)
    return answer


def piece(
    panel: Panel, spec: StudySpec, cut: Cut, sectors: Mapping[str, str], seed: int
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """One fold and one seed: every arm of every backbone trained and judged.

    Returns
    -------
    frames : dict
        ``ic`` (decision x "backbone|arm|measure") and ``net`` (bar x "backbone|arm|book"), returns after costs.
    meta : dict
        What the augmenter learnt and how far its edits went.
    """
    data = cut_fold(panel, spec, cut, sectors)
    own = seed_of(seed, cut.number, 5) % 2**31
    augmenter = fit_augmenter(data, spec, own)
    ic: dict[str, pd.Series] = {}
    net: dict[str, pd.Series] = {}
    sizes: dict[str, float] = {}
    for arm in arms_of(spec):
        samples = training_set(arm, data, augmenter, spec, own)
        sizes[arm.name] = _size(samples)
        for backbone in spec.backbones:
            expected = fit_backbone(backbone, samples, data.valid, spec, own)(data.test.X)
            scores, books = judge(panel, spec, cut, data, expected)
            ic |= {f"{backbone}|{arm.name}|{name}": series for name, series in scores.items()}
            net |= {f"{backbone}|{arm.name}|{name}": series for name, series in books.items()}
    meta = _learnt(augmenter) | {"size": sizes, "assets": len(data.assets)}
    meta["samples"] = {name: len(getattr(data, name)) for name in ("source", "fit", "valid", "test")}
    return {"ic": pd.DataFrame(ic), "net": pd.DataFrame(net)}, meta


def fit_augmenter(data: FoldData, spec: StudySpec, seed: int) -> FactorAugmenter:
    """Fitted on all assets up to where the predictor's own training set ends."""
    source = data.source
    augmenter = FactorAugmenter(guidance=spec.guidance, training=spec.augmenter, random_state=seed)
    return augmenter.fit(source.X, source.y, source.sector, source.known)


def training_set(arm: Arm, data: FoldData, augmenter: FactorAugmenter, spec: StudySpec, seed: int) -> TrainingSet:
    """The samples of ``data.fit``, and what this arm puts beside them.

    Raises
    ------
    LookAheadError
        The augmenter has seen labels later than the last one of ``data.fit``.
    """
    fit, rng = data.fit, np.random.default_rng([seed, 17])
    match arm.kind:
        case "none" | "duplicate":
            more = fit.X
        case "edit":
            more = _edited(augmenter, data, arm.strength, rng)
        case "guided":
            linear = fit_backbone("linear", TrainingSet(fit.X, fit.X, fit.y), data.valid, spec, seed)
            losses = (linear(fit.X) - fit.y) ** 2
            more = _edited(augmenter, data, loss_guided(losses, 0.5 * arm.strength, 1.5 * arm.strength), rng)
        case "noise":
            change = _edited(augmenter, data, arm.strength, rng) - fit.X
            size = np.sqrt((change.astype(float) ** 2).mean(axis=(0, 1)))
            more = (fit.X + size * rng.standard_normal(fit.X.shape)).astype(np.float32)
        case _:
            raise ConfigError(f"arm {arm.kind!r}: expected none, edit, guided, noise or duplicate")
    return TrainingSet(fit.X, more, fit.y)


def _edited(
    augmenter: FactorAugmenter, data: FoldData, strength: float | np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    capped = np.minimum(strength, 1.0)
    return augmenter.edit(data.fit.X, data.fit.y, capped, data.fit.sector, rng, as_of=data.until)


def fit_backbone(
    kind: str, samples: TrainingSet, valid: Samples, spec: StudySpec, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """A fitted predictor, windows (sample, time, factor) -> (sample,)."""
    if kind == "linear":
        rows = np.concatenate([samples.X, samples.more]).reshape(2 * len(samples.y), -1).astype(float)
        model = Ridge(alpha=RIDGE * len(rows)).fit(rows, np.tile(samples.y, 2))
        return lambda windows: np.asarray(model.predict(windows.reshape(len(windows), -1).astype(float)))
    net = initialised(lambda: _network(kind, *samples.X.shape[1:]), seed)
    training = TrainingSpec(
        optimizer="adamw",
        lr=spec.lr,
        weight_decay=1e-2,
        batch_size=spec.batch_size,
        epochs=spec.steps,
        max_steps=spec.steps,
        seed=seed,
    )
    fit, held = (_tensors(s.X, m, s.y) for s, m in ((samples, samples.more), (valid, valid.X)))
    train(net, fit, _squared, training, validation=held)
    return lambda windows: _predicted(net, windows)


def _network(kind: str, window: int, n_factors: int) -> nn.Module:
    if kind == "lstm":
        return LSTMNet(n_factors, 32, 2)
    patch = max(1, window // 2)
    return PatchTransformer(n_factors, window, patch, max(1, patch // 2), width=16, layers=2, heads=2)


def _squared(net: nn.Module, batch: tuple[torch.Tensor, ...], generator: torch.Generator) -> torch.Tensor:
    """Squared error on each sample or on what stands beside it, drawn evenly."""
    x, more, y = batch
    windows = torch.where(torch.rand(len(x), 1, 1, generator=generator) < 0.5, x, more)
    out: torch.Tensor = ((net(windows)[:, 0] - y) ** 2).mean()
    return out


def _tensors(X: np.ndarray, more: np.ndarray, y: np.ndarray) -> TensorSamples:
    return TensorSamples(torch.from_numpy(X), torch.from_numpy(more), torch.from_numpy(y.astype(np.float32)))


@torch.no_grad()
def _predicted(net: nn.Module, windows: np.ndarray) -> np.ndarray:
    parts = [net(torch.from_numpy(windows[i : i + 4096]))[:, 0].double().numpy() for i in range(0, len(windows), 4096)]
    return np.concatenate(parts)


def judge(
    panel: Panel, spec: StudySpec, cut: Cut, data: FoldData, expected: np.ndarray
) -> tuple[dict[str, pd.Series], dict[str, pd.Series]]:
    """Information coefficients by decision, and net returns by bar of the best tenth and of best minus worst."""
    test = data.test
    part = panel.rows(cut.split, min(len(panel), cut.stop + 2 + spec.horizon)).select(data.assets)
    bars, row = np.unique(test.bar - cut.split, return_inverse=True)
    column = {asset: number for number, asset in enumerate(data.assets)}
    table = np.full((len(bars), len(data.assets)), np.nan)
    table[row, [column[panel.assets[j]] for j in test.asset]] = expected
    predictions = pd.DataFrame(table, part.times[bars], list(data.assets))
    outcomes = pd.DataFrame(forward_returns(part, spec.horizon)[bars], predictions.index, list(data.assets))
    prices = part.rows(int(bars[0]), cut.stop + 1 - cut.split).close()
    scores = {"rank_ic": rank_ic(predictions, outcomes), "weighted_ic": weighted_ic(predictions, outcomes)}
    costs = Costs(commission_bps=spec.cost_bps)
    books = {name: backtest(w, prices, costs).returns for name, w in _books(predictions, spec.fraction).items()}
    return scores, books


def _books(predictions: pd.DataFrame, fraction: float) -> dict[str, pd.DataFrame]:
    """Weights: the best assets in equal parts; the same, and the worst sold in equal parts."""
    rank = predictions.rank(axis=1, method="first")
    count = predictions.notna().sum(axis=1)
    k = np.maximum(1, (count * fraction).round()).astype(int)
    best = rank.gt(count - k, axis=0).div(k, axis=0)
    worst = rank.le(k, axis=0).div(k, axis=0)
    return {"top": best, "long_short": best - worst}


def _size(samples: TrainingSet) -> float:
    """Root mean square change of what stands beside the samples, in standard deviations of a factor."""
    change = samples.more.astype(float) - samples.X
    return float(np.sqrt((change**2).mean() / samples.X.astype(float).var()))


def _learnt(augmenter: FactorAugmenter) -> dict[str, Any]:
    """What the held-out samples made of the augmenter."""
    return {
        "label_share": augmenter.label_share_,
        "sector_share": augmenter.sector_share_,
        "network_share": augmenter.shrinkage_,
        "gain": augmenter.gain_,
        "steps": augmenter.training_.steps,
        "knowledge_until": augmenter.knowledge_until_,
    }


def _described(panel: Panel, cut: Cut) -> dict[str, str]:
    dates = panel.times
    return {
        "train": str(dates[cut.start].date()),
        "test": str(dates[cut.split].date()),
        "end": str(dates[cut.stop].date()),
    }


def _key(cut: Cut, seed: int) -> str:
    return f"seed{seed}-fold{cut.number}"


def _same_study(out: Path, panel: Panel, spec: StudySpec, sectors: Mapping[str, str]) -> None:
    """One folder, one study: pieces of different studies must not be mixed."""
    told = {k: v for k, v in asdict(spec).items() if k != "seeds"}  # more seeds may be added to a study
    text = json.dumps([told, panel.data_hash, sorted(sectors.items())], sort_keys=True, default=str)
    mark = {"identity": hashlib.sha256(text.encode()).hexdigest()}
    file = out / "study.json"
    if file.exists() and json.loads(file.read_text()) != mark:
        raise ConfigError(f"{out} holds pieces of another study (other data or settings); name another --out")
    write_json(file, mark)
