"""What the augmentation study may know: rewriting the future moves no training sample, no augmenter, no edit."""

from __future__ import annotations

import numpy as np
import pytest

from foliocast.core.errors import LookAheadError
from foliocast.core.panel import Panel
from foliocast.models.training import TrainingSpec
from foliocast.workflows.augment import Arm, fit_augmenter, training_set
from foliocast.workflows.augment_data import Cut, FoldData, StudySpec, cut_fold, folds_of
from markets import make_panel

SPEC = StudySpec(
    features=("momentum_5", "volatility_10"),
    window=4,
    horizon=3,
    target=6,
    train_bars=260,
    test_bars=60,
    augmenter=TrainingSpec(max_steps=6, batch_size=64),
)


@pytest.fixture(scope="module")
def market() -> Panel:
    return make_panel(420, 8)


def prepared(market: Panel) -> tuple[Cut, FoldData]:
    cut = folds_of(market, SPEC)[0]
    return cut, cut_fold(market, SPEC, cut, {"A0": "x", "A1": "y"})


def rewritten(market: Panel, first: int) -> Panel:
    """Every value from a bar on, membership included, replaced by something else."""
    fields = {key: market.array(key).copy() for key in market.fields}
    rng = np.random.default_rng(9)
    for values in fields.values():
        values[first:] *= rng.uniform(0.5, 2.0, values[first:].shape)
    return market.replace(fields)


def everything(data: FoldData) -> list[np.ndarray]:
    """All that a predictor is trained on, in every arm."""
    augmenter = fit_augmenter(data, SPEC, seed=0)
    out = [augmenter.mean_, augmenter.label_edges_, *(p.detach().numpy() for p in augmenter.denoiser_.parameters())]
    for arm in (Arm("none"), Arm("edit", 0.4), Arm("guided", 0.4), Arm("noise", 0.4), Arm("duplicate")):
        samples = training_set(arm, data, augmenter, SPEC, seed=0)
        out += [samples.X, samples.more, samples.y]
    return out


def test_rewriting_the_test_years_changes_no_training_sample_to_the_bit(market: Panel) -> None:
    cut, data = prepared(market)
    _, changed = prepared(rewritten(market, cut.split))
    for one, two in zip(everything(data), everything(changed), strict=True):
        assert np.array_equal(one, two)
    assert not np.array_equal(data.test.X, changed.test.X)
    assert np.array_equal(data.valid.X, changed.valid.X)
    assert data.assets == changed.assets


def test_rewriting_the_validation_rows_changes_nothing_that_is_learnt_from(market: Panel) -> None:
    _, data = prepared(market)
    first = int(data.valid.bar.min()) - SPEC.window + 1
    _, changed = prepared(rewritten(market, first))
    picked = [data.fit.X, data.fit.y, data.source.X, data.source.y]
    others = [changed.fit.X, changed.fit.y, changed.source.X, changed.source.y]
    for one, two in zip(picked, others, strict=True):
        assert np.array_equal(one, two)
    assert not np.array_equal(data.valid.X, changed.valid.X)
    assert np.array_equal(fit_augmenter(data, SPEC, 0).mean_, fit_augmenter(changed, SPEC, 0).mean_)


def test_a_change_before_the_border_is_noticed(market: Panel) -> None:
    """The other way round: the comparison above can fail."""
    cut, data = prepared(market)
    _, changed = prepared(rewritten(market, cut.start + 100))
    assert not np.array_equal(data.fit.X, changed.fit.X)


def test_labels_end_before_the_border_and_samples_keep_their_distance(market: Panel) -> None:
    cut, data = prepared(market)
    reach = 1 + SPEC.horizon
    assert (data.fit.bar + reach).max() < data.valid.bar.min() - SPEC.window + 1
    assert (data.valid.bar + reach).max() < cut.split
    assert data.test.bar.min() >= cut.split
    assert (data.source.bar + reach).max() <= (data.fit.bar + reach).max()
    assert not set(data.fit.bar) & set(data.valid.bar)


def test_an_augmenter_that_has_seen_the_validation_rows_is_refused(market: Panel) -> None:
    _, data = prepared(market)
    knowing = fit_augmenter(
        FoldData(data.assets, data.source.joined(data.valid), data.fit, data.valid, data.test, data.until), SPEC, 0
    )
    with pytest.raises(LookAheadError, match="has seen labels up to"):
        training_set(Arm("edit", 0.4), data, knowing, SPEC, seed=0)


def test_only_the_training_set_grows(market: Panel) -> None:
    _, data = prepared(market)
    augmenter = fit_augmenter(data, SPEC, 0)
    before = data.valid.X.copy(), data.test.X.copy()
    samples = training_set(Arm("edit", 0.4), data, augmenter, SPEC, seed=0)
    assert len(samples.X) == len(samples.more) == len(samples.y) == len(data.fit)
    assert np.array_equal(samples.X, data.fit.X)
    assert np.array_equal(samples.y, data.fit.y)
    assert np.array_equal(data.valid.X, before[0])
    assert np.array_equal(data.test.X, before[1])
    known = {row.tobytes() for part in (data.valid, data.test) for row in part.X}
    assert not known & {row.tobytes() for part in (samples.X, samples.more) for row in part}
