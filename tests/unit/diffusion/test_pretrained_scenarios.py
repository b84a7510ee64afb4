"""The packaged model: no fit, any assets, an enforced knowledge cut-off, fine-tuning, the training script's parts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from foliocast.core.errors import DataError, LookAheadError
from foliocast.core.protocols import ScenarioModel
from foliocast.models.checkpoint import save_checkpoint
from foliocast.models.diffusion.fitting import DiffusionLoss
from foliocast.models.diffusion.generator import build_network
from foliocast.models.diffusion.preconditioning import Preconditioned
from foliocast.models.diffusion.pretrained import FINE_TUNING, WEIGHTS_FOLDER, PretrainedScenarios, load_pretrained
from foliocast.models.diffusion.pretraining import SIZES, UniverseLoss, UniverseSamples, filter_for, pooled_by_size
from foliocast.models.training import TrainingSpec, train
from markets import make_panel


def returns_until(last: str, n_assets: int = 5, n_bars: int = 700) -> pd.DataFrame:
    frame = make_panel(n_bars + 1, n_assets, seed=3).returns().dropna()
    return frame.set_axis(pd.bdate_range(end=last, periods=len(frame)))


@pytest.fixture(scope="module")
def returns() -> pd.DataFrame:
    return returns_until("2022-06-30")


def test_needs_no_fit_and_takes_any_assets(returns: pd.DataFrame) -> None:
    model = PretrainedScenarios()
    assert isinstance(clone(model), ScenarioModel)
    for n in (1, 3, 5):
        s = model.simulate(returns.iloc[:, :n], horizon=12, n_scenarios=40, random_state=1)
        assert s.returns.shape == (40, 12, n)
        assert s.knowledge_until == pd.Timestamp("2019-12-31")
    assert np.array_equal(
        model.simulate(returns, 3, 20, random_state=5).returns, model.simulate(returns, 3, 20, random_state=5).returns
    )


def test_the_scale_is_that_of_the_history(returns: pd.DataFrame) -> None:
    s = PretrainedScenarios().simulate(returns, 1, 4000, random_state=1).returns[:, 0]
    double = np.expm1(2 * np.log1p(returns))
    t = PretrainedScenarios().simulate(double, 1, 4000, random_state=1).returns[:, 0]
    assert np.allclose(np.log1p(t).std(axis=0) / np.log1p(s).std(axis=0), 2.0, rtol=0.02)
    assert np.allclose(s.std(axis=0) / returns.tail(60).std().to_numpy(), 1.0, atol=0.6)


def test_deciding_before_the_cut_off_raises(returns: pd.DataFrame) -> None:
    early = returns_until("2019-06-28")
    with pytest.raises(LookAheadError, match="2019-12-31"):
        PretrainedScenarios().simulate(early, 5, 10)
    with pytest.raises(LookAheadError, match="allow_contaminated"):
        PretrainedScenarios().fit(early).sample(5)
    s = PretrainedScenarios(allow_contaminated=True).simulate(early, 5, 10)
    assert s.knowledge_until > s.as_of
    PretrainedScenarios().simulate(early.tz_localize("UTC").set_axis(returns.index[-len(early) :]), 1, 5)


def test_a_total_is_met(returns: pd.DataFrame) -> None:
    s = PretrainedScenarios().simulate(returns, 10, 100, given={"A0": -0.2}, random_state=1)
    assert np.abs(s.cumulative()[:, 0] + 0.2).max() < 1e-6


def test_fit_only_remembers(returns: pd.DataFrame) -> None:
    model = PretrainedScenarios().fit(returns)
    assert model.sample(6).shape == (6, 5)
    assert model.knowledge_until_ == pd.Timestamp("2019-12-31")
    assert not hasattr(model, "denoiser_")


def test_fine_tuning_learns_and_moves_the_cut_off(returns: pd.DataFrame) -> None:
    spec = dataclasses.replace(FINE_TUNING, max_steps=8)
    model = PretrainedScenarios().fine_tune(returns, spec)
    packaged = load_pretrained(WEIGHTS_FOLDER)
    assert model.knowledge_until_ == returns.index[-1]
    assert any(
        not torch.equal(a, b) for a, b in zip(model.denoiser_.parameters(), packaged.denoiser.parameters(), strict=True)
    )
    with pytest.raises(LookAheadError, match=str(returns.index[-1].date())):
        model.simulate(returns.iloc[:-5], 1, 5)
    model.fit(returns)  # a fresh fit forgets the tuning
    assert model.knowledge_until_ == pd.Timestamp("2019-12-31")


def test_weights_are_small_and_checked(tmp_path: Path) -> None:
    files = list(WEIGHTS_FOLDER.iterdir())
    assert {f.name for f in files} == {"card.json", "weights.safetensors"}
    assert sum(f.stat().st_size for f in files) < 20e6
    for f in files:
        (tmp_path / f.name).write_bytes(f.read_bytes())
    raw = bytearray((tmp_path / "weights.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(raw)
    with pytest.raises(DataError, match="SHA-256"):
        PretrainedScenarios(weights=tmp_path).simulate(returns_until("2022-01-03"), 1, 2)


def test_pretraining_end_to_end_on_a_small_panel(tmp_path: Path) -> None:
    broad = returns_until("2018-12-31", n_assets=96, n_bars=500)
    pooled = pooled_by_size(broad, np.random.default_rng(0), universes=1, bars=450)
    assert set(pooled) == set(SIZES)
    samples = UniverseSamples.build(broad, pooled, count=3, bars=450, seed=0)
    again = UniverseSamples.build(broad, pooled, count=3, bars=450, seed=0)
    assert all(torch.equal(a.z, b.z) for a, b in zip(samples.pool, again.pool))
    denoiser = Preconditioned(build_network("dit", 0, 16, 1, 0))
    spec = TrainingSpec(batch_size=1, epochs=2, ema=0.9)
    result = train(denoiser, samples, UniverseLoss(DiffusionLoss(), windows=16), spec, samples, tmp_path / "run.st")
    assert result.steps == 6
    assert np.isfinite(result.history[-1]["valid_loss"])


def test_filters_are_interpolated_between_sizes() -> None:
    pooled = load_pretrained(WEIGHTS_FOLDER).pooled
    low, high = min(pooled), max(pooled)
    assert filter_for(pooled, 1).parameters_.intercept == pooled[low].intercept
    assert filter_for(pooled, 500).parameters_.intercept == pooled[high].intercept
    between = filter_for(pooled, 9).parameters_.intercept
    ends = sorted(p.intercept for p in pooled.values())
    assert ends[0] <= between <= ends[-1]


def test_another_folder_of_weights_can_be_named(tmp_path: Path, returns: pd.DataFrame) -> None:
    packaged = load_pretrained(WEIGHTS_FOLDER)
    silent = {k: torch.zeros_like(v) for k, v in packaged.denoiser.network.state_dict().items()}
    save_checkpoint(tmp_path / "silent", silent, packaged.card)
    quiet = PretrainedScenarios(weights=tmp_path / "silent").simulate(returns, 1, 4000, random_state=1).returns[:, 0]
    loud = PretrainedScenarios().simulate(returns, 1, 4000, random_state=1).returns[:, 0]

    def kurtosis(x: np.ndarray) -> float:
        x = np.log1p(x) / np.log1p(x).std(axis=0)
        return float((x**4).mean())

    assert kurtosis(quiet) < 3.3 < kurtosis(loud)
