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
from foliocast.models.diffusion.innovations import History
from foliocast.models.diffusion.matching import matched, tail_ratio
from foliocast.models.diffusion.paths import PathSampler, Window
from foliocast.models.diffusion.preconditioning import Context, GaussianPrior, Preconditioned
from foliocast.models.diffusion.pretrained import FINE_TUNING, WEIGHTS_FOLDER, PretrainedScenarios, load_pretrained
from foliocast.models.diffusion.pretraining import (
    SIZES,
    USUAL,
    UniverseLoss,
    UniverseSamples,
    filter_for,
    law_for,
    pooled_by_size,
    usual_garch,
)
from foliocast.models.training import TrainingSpec, train
from foliocast.stats.garch import fit_garch
from foliocast.stats.pooled_volatility import fit_pooled
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


def test_a_total_over_one_bar_is_that_bar(returns: pd.DataFrame) -> None:
    total, point = (
        PretrainedScenarios().simulate(returns, 1, 50, given={"A0": value}, random_state=1).returns
        for value in (-0.05, np.array([-0.05]))
    )
    assert np.array_equal(total, point)


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

    def intercept(n_assets: int) -> float:
        return float(law_for(pooled, n_assets).intercept)

    assert intercept(1) == pooled[low].intercept
    assert intercept(500) == pooled[high].intercept
    between = intercept(9)
    ends = sorted(p.intercept for p in pooled.values())
    assert ends[0] <= between <= ends[-1]


def test_a_long_history_bends_the_law_of_the_stocks_to_its_own() -> None:
    pooled = load_pretrained(WEIGHTS_FOLDER).pooled
    x = np.random.default_rng(0).normal(0, 0.01, (2000, 5))  # no clusters at all
    law, own = law_for(pooled, 5), fit_pooled(x)

    def gap(n_bars: int) -> float:
        """How much of the law of the stocks is left."""
        mixed = filter_for(pooled, x[:n_bars]).parameters_.pooled.coefficients
        mine = fit_pooled(x[:n_bars]).coefficients
        return float((mixed - mine) @ (law.coefficients - mine) / ((law.coefficients - mine) ** 2).sum())

    assert gap(2000) == pytest.approx(0.5)
    assert gap(200) == pytest.approx(10 / 11)
    assert own.coefficients[:4].sum() < 0.1 < law.coefficients[:4].sum()  # on the own variance of the past


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


def three_assets(degrees: float, n_bars: int) -> History:
    """Innovations with Student-t tails, standardised."""
    z = np.random.default_rng(2).standard_t(degrees, (n_bars, 3)) / np.sqrt(degrees / (degrees - 2))
    return History(z, np.zeros((n_bars, 3, 1), dtype=np.float32), np.eye(3)[None])


def test_the_share_of_the_network_follows_the_tails_of_the_history() -> None:
    paths = PathSampler(load_pretrained(WEIGHTS_FOLDER).denoiser)
    heavy, light, few = (
        matched(paths, three_assets(degrees, n)) for degrees, n in ((4.0, 2000), (60.0, 2000), (60.0, 60))
    )
    assert light.share < 0.5 < heavy.share <= 1.0
    assert light.share < few.share  # sixty rows say little of tails
    with torch.no_grad():
        for degrees, match in ((4.0, heavy), (60.0, light)):
            part = dataclasses.replace(paths, denoiser=match.of(paths.denoiser), level=match.level)
            generator = torch.Generator().manual_seed(7)
            noise = torch.randn((300, 20, 3), generator=generator)
            prior = GaussianPrior.of(torch.eye(3))
            z = part.sampled(noise, Context(prior=prior), Window(20), generator).numpy()
            history = three_assets(degrees, 2000).z
            assert np.abs(z).mean() == pytest.approx(np.abs(history).mean(), rel=0.05)
            assert tail_ratio(z) == pytest.approx(tail_ratio(history), rel=0.05)
    assert paths.denoiser.shrinkage == load_pretrained(WEIGHTS_FOLDER).denoiser.shrinkage


def test_a_short_history_has_the_volatility_law_that_is_usual() -> None:
    x = np.random.default_rng(0).normal(0, 0.01, (120, 4))
    own, mixed = fit_garch(x), usual_garch(x)
    for mine, both, usual in zip((own.alpha, own.gamma, own.beta), (mixed.alpha, mixed.gamma, mixed.beta), USUAL):
        assert np.all(np.abs(both - usual) <= 0.2 * np.abs(mine - usual) + 1e-12)
