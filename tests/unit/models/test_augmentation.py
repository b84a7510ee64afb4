"""The augmenter on samples whose law is known: what it forgets, what it is guided to, what it may know."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from foliocast.core.errors import ConfigError, DataError, LookAheadError
from foliocast.models.augmentation import TRAINING, UNSAID, Conditions, FactorAugmenter, loss_guided
from foliocast.models.training import TrainingSpec

T, F = 4, 3
SHORT = dataclasses.replace(TRAINING, max_steps=80)
TOUCH = TrainingSpec(max_steps=3, batch_size=64)


def world(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Factor 0 rises with the label, factor 1 lies higher in sector "b", factor 2 knows nothing and runs on in time."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    sector = rng.choice(["a", "b", ""], n)
    X = rng.normal(size=(n, T, F))
    X[:, :, 0] += 0.8 * y[:, None]
    X[:, :, 1] += 1.5 * (sector == "b")[:, None]
    X[:, :, 2] = np.cumsum(X[:, :, 2], axis=1)
    return X.astype(np.float32), y, sector


@pytest.fixture(scope="module")
def samples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return world()


@pytest.fixture(scope="module")
def fitted(samples: tuple[np.ndarray, np.ndarray, np.ndarray]) -> FactorAugmenter:
    X, y, sector = samples
    known = pd.date_range("2020-01-01", periods=len(X), freq="h")
    return FactorAugmenter(width=16, depth=1, training=SHORT).fit(X, y, sector, known)


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (x.reshape(len(x), -1) - x.reshape(len(x), -1).mean(0) for x in (a, b))
    return (a * b).mean(0) / (a.std(0) * b.std(0))


def test_strength_zero_returns_the_samples_to_the_bit(fitted: FactorAugmenter, samples) -> None:
    X, y, sector = samples
    out = fitted.edit(X, y, 0.0, sector)
    assert np.array_equal(out, X)
    assert out.dtype == X.dtype
    assert not np.shares_memory(out, X)


def test_strength_one_forgets_them(fitted: FactorAugmenter, samples) -> None:
    X, _, _ = samples
    assert np.abs(correlations(fitted.edit(X, strength=1.0), X)).max() < 0.06


def test_the_more_strength_the_less_is_left(fitted: FactorAugmenter, samples) -> None:
    X, y, sector = samples
    left = [correlations(fitted.edit(X, y, s, sector), X).mean() for s in (0.1, 0.3, 0.5, 0.8)]
    assert left[0] > 0.9
    assert all(a > b + 0.05 for a, b in pairwise(left))


def test_unguided_edits_keep_the_law_of_the_samples(fitted: FactorAugmenter, samples) -> None:
    X, _, _ = samples
    rows = X.reshape(len(X), -1)
    new = clone(fitted).set_params(guidance=0.0)
    new.__dict__.update({k: v for k, v in vars(fitted).items() if k.endswith("_")})
    for strength in (0.4, 1.0):
        edited = new.edit(X, strength=strength).reshape(len(X), -1)
        assert np.abs(edited.mean(0) - rows.mean(0)).max() < 0.2
        assert np.abs(np.cov(edited.T) - np.cov(rows.T)).max() < 0.35 * np.cov(rows.T).max()


def test_the_label_moves_its_factor_in_the_planted_direction(fitted: FactorAugmenter, samples) -> None:
    X, y, _ = samples
    low, high = (fitted.edit(X, np.full(len(y), v), 0.9, random_state=1).mean(axis=(0, 1)) for v in (-2.0, 2.0))
    means = {v: X[(y * v > 1.2)].mean(axis=(0, 1)) for v in (-1, 1)}
    assert high[0] - low[0] > 0.7 * (means[1] - means[-1])[0]
    assert abs(high[1] - low[1]) < 0.25
    assert abs(high[2] - low[2]) < 0.4


def test_the_sector_moves_its_factor(fitted: FactorAugmenter, samples) -> None:
    X, _, _ = samples
    a, b = (fitted.edit(X, None, 0.9, np.full(len(X), s), random_state=1).mean(axis=(0, 1)) for s in ("a", "b"))
    assert b[1] - a[1] > 1.0
    assert abs(b[0] - a[0]) < 0.25


def test_guidance_exaggerates(samples) -> None:
    X, y, sector = samples
    gaps = []
    for guidance in (0.0, 1.0, 2.0):
        model = FactorAugmenter(guidance=guidance, width=8, depth=1, training=TOUCH).fit(X, y, sector)
        low, high = (model.edit(X, np.full(len(y), v), 0.8, random_state=1)[:, :, 0].mean() for v in (-2.0, 2.0))
        gaps.append(high - low)
    assert abs(gaps[0]) < 1e-5
    assert gaps[2] > 1.5 * gaps[1] > 0.5


def test_what_held_out_samples_deny_is_not_believed() -> None:
    """Labels and sectors that mean nothing in the later samples get no share, and the edit does not depend on them."""
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(3000, T, F)), rng.normal(size=3000)
    sector = rng.choice(list("abcdef"), 3000)
    model = FactorAugmenter(width=8, depth=1, training=dataclasses.replace(SHORT, max_steps=40)).fit(X, y, sector)
    assert model.label_share_ < 0.5
    assert model.sector_share_ < 0.5
    assert model.gain_ < 0.005
    low, high = (model.edit(X, np.full(3000, v), 0.8, random_state=1).mean(axis=(0, 1)) for v in (-2.0, 2.0))
    assert np.abs(high - low).max() < 0.1


@torch.no_grad()
def test_the_denoiser_depends_on_the_noise_level_the_label_and_the_sector(fitted: FactorAugmenter) -> None:
    x = torch.randn(6, 1, T * F, generator=torch.Generator().manual_seed(0))

    def out(label: int, sector: int, sigma: float = 0.8) -> torch.Tensor:
        said = Conditions(torch.full((6,), label), torch.full((6,), sector))
        return fitted.denoiser_.network(x, torch.tensor(sigma), fitted._context(said))

    base = out(2, 0)
    for other in (out(4, 0), out(UNSAID, 0), out(2, 1), out(2, UNSAID), out(2, 0, 1.6)):
        assert (other - base).abs().max() > 1e-3


def test_same_seed_same_bits_and_another_seed_other_bits(fitted: FactorAugmenter, samples) -> None:
    X, y, sector = (part[:300] for part in samples)
    one, two = (fitted.edit(X, y, 0.4, sector, random_state=5) for _ in range(2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, fitted.edit(X, y, 0.4, sector, random_state=6))
    before = torch.get_rng_state()
    models = [FactorAugmenter(width=8, depth=1, training=TOUCH, random_state=4).fit(X, y, sector) for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(models[0].edit(X, y, 0.4, sector), models[1].edit(X, y, 0.4, sector))


def test_each_sample_has_its_own_strength(fitted: FactorAugmenter, samples) -> None:
    X, y, sector = (part[:300] for part in samples)
    strength = np.repeat([0.0, 0.3, 1.0], 100)
    out = fitted.edit(X, y, strength, sector)
    assert np.array_equal(out[:100], X[:100])
    size = np.abs(out - X).mean(axis=(1, 2))
    assert 0 < size[100:200].mean() < 0.7 * size[200:].mean()


def test_extending_keeps_the_originals_first_and_the_labels(fitted: FactorAugmenter, samples) -> None:
    X, y, sector = (part[:50] for part in samples)
    more, labels = fitted.extend(X, y, 0.4, sector)
    assert np.array_equal(more[:50], X)
    assert np.array_equal(labels, np.tile(y, 2))
    assert np.array_equal(more[50:], fitted.edit(X, y, 0.4, sector))


def test_what_it_knows_is_checked(fitted: FactorAugmenter, samples) -> None:
    X, y, sector = (part[:50] for part in samples)
    last = fitted.knowledge_until_
    assert last == pd.date_range("2020-01-01", periods=4000, freq="h")[-1]
    fitted.edit(X, y, 0.3, sector, as_of=last)
    with pytest.raises(LookAheadError, match="has seen labels up to 2020-06-15"):
        fitted.edit(X, y, 0.3, sector, as_of=last - pd.Timedelta("1h"))
    blind = FactorAugmenter(width=8, depth=1, training=TOUCH).fit(X, y)
    with pytest.raises(LookAheadError, match="fitted without known_at"):
        blind.edit(X, y, 0.3, as_of="2030-01-01")


def test_validation_keeps_its_distance_in_time(samples) -> None:
    """Changing the latest samples changes no scaling and no mean: they only decide how much is believed."""
    X, y, sector = samples
    louder = X.copy()
    louder[-500:] *= 5.0
    one, two = (FactorAugmenter(width=8, depth=1, training=TOUCH).fit(x, y, sector) for x in (X, louder))
    assert np.array_equal(one.scale_, two.scale_)
    assert torch.equal(one.prior_.mean, two.prior_.mean)


def test_unknown_conditions_are_left_unsaid(fitted: FactorAugmenter, samples) -> None:
    X, _, _ = (part[:64] for part in samples)
    plain = fitted.edit(X, None, 0.5, random_state=2)
    strange = fitted.edit(X, np.full(64, np.nan), 0.5, np.full(64, "never seen"), random_state=2)
    assert np.array_equal(plain, strange)


def test_a_short_record_serves_a_silent_network() -> None:
    X, y, _ = world(10)
    model = FactorAugmenter(width=8, depth=1, training=TOUCH).fit(X, y)
    assert model.shrinkage_ == 0.0
    assert np.isfinite(model.edit(X, y, 0.5)).all()


def test_constant_factors_survive() -> None:
    X, y, _ = world(400)
    X[:, :, 1] = 7.0
    model = FactorAugmenter(width=8, depth=1, training=TOUCH).fit(X, y)
    out = model.edit(X, y, 0.5)
    assert np.abs(out[:, :, 1] - 7.0).max() < 0.5
    assert np.isfinite(out).all()


def test_bad_samples_are_refused(fitted: FactorAugmenter, samples) -> None:
    X, y, sector = (part[:60] for part in samples)
    broken = X.copy()
    broken[3, 1, 0] = np.nan
    with pytest.raises(DataError, match="NaN or infinite"):
        FactorAugmenter().fit(broken, y)
    with pytest.raises(DataError, match="expected \\(sample, time, factor\\)"):
        FactorAugmenter().fit(X[:, 0], y)
    with pytest.raises(DataError, match="labels hold NaN"):
        FactorAugmenter().fit(X, np.full(60, np.nan))
    with pytest.raises(DataError, match="one a sample"):
        FactorAugmenter().fit(X, y, known_at=pd.date_range("2020", periods=3))
    with pytest.raises(DataError, match="2 sectors for 60"):
        FactorAugmenter().fit(X, y, sector[:2])
    with pytest.raises(DataError, match="fitted on"):
        fitted.edit(X[:, :2], y)
    with pytest.raises(ConfigError, match="strength = 2"):
        fitted.edit(X, y, 2.0)
    with pytest.raises(ConfigError, match="n_labels = 1"):
        FactorAugmenter(n_labels=1).fit(X, y)
    with pytest.raises(NotFittedError):
        FactorAugmenter().edit(X)


def test_easy_samples_are_edited_most() -> None:
    losses = np.array([3.0, 0.1, 2.0, 0.5, 9.0, 0.2, 1.0, 4.0])
    strengths = loss_guided(losses, 0.1, 0.7, levels=4)
    assert sorted(set(strengths)) == pytest.approx([0.1, 0.3, 0.5, 0.7])
    assert (np.diff(strengths[np.argsort(losses)]) <= 0).all()
    assert strengths[1] == 0.7
    assert strengths[4] == pytest.approx(0.1)
    with pytest.raises(ConfigError, match="two groups"):
        loss_guided(losses, 0.1, 0.7, levels=1)
    with pytest.raises(DataError, match="finite"):
        loss_guided(np.array([np.nan]), 0.1, 0.7)
