"""The augmentation study: planted answers, controls that must be nothing, resumption, the table's arithmetic."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from foliocast.core.errors import ConfigError, DataError, HistoryError
from foliocast.core.panel import Panel
from foliocast.models.training import TrainingSpec
from foliocast.workflows.augment import Arm, arms_of, fit_augmenter, fit_backbone, study, training_set
from foliocast.workflows.augment_data import StudySpec, cut_fold, folds_of, forward_returns, read_sectors
from foliocast.workflows.augment_table import joined, over_seeds, summary

SPEC = StudySpec(
    strengths=(0.3,),
    backbones=("linear", "lstm"),
    seeds=2,
    features=("momentum_5", "log_return"),
    window=4,
    horizon=2,
    target=12,
    train_bars=160,
    test_bars=60,
    steps=12,
    batch_size=128,
    augmenter=TrainingSpec(max_steps=8, batch_size=64),
)


def persistent(n_bars: int = 290, n_assets: int = 14, seed: int = 0) -> Panel:
    """Every asset drifts at its own pace for a while: momentum predicts the order of the next returns."""
    rng = np.random.default_rng(seed)
    pace = np.repeat(rng.normal(0, 0.01, (n_bars // 40 + 1, n_assets)), 40, axis=0)[:n_bars]
    close = 100 * np.cumprod(1 + pace + rng.normal(0, 0.01, pace.shape), axis=0)
    volume = np.exp(rng.normal(10, 1, n_assets)) * np.ones_like(close)
    times = pd.bdate_range("2018-01-01", periods=n_bars)
    return Panel({"close": close, "volume": volume}, times, [f"A{i}" for i in range(n_assets)], name="persistent")


@pytest.fixture(scope="module")
def market() -> Panel:
    return persistent()


@pytest.fixture(scope="module")
def done(market: Panel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("study")
    return out, study(market, out, SPEC, {"A0": "x"})


def row(answer: dict, backbone: str, arm: str) -> dict:
    return next(r for r in answer["rows"] if (r["backbone"], r["arm"]) == (backbone, arm))


def test_a_planted_order_is_found(done: tuple[Path, dict]) -> None:
    linear = row(done[1], "linear", "none")
    assert linear["rank_ic"] > 0.3
    assert linear["icir"] > 1.0
    assert linear["long_short_return"] > 0.5
    assert linear["seeds"] == 2
    assert row(done[1], "linear", "edit 0.3")["rank_ic"] > 0.25


def test_every_arm_of_every_backbone_is_there(done: tuple[Path, dict]) -> None:
    arms = ["none", "edit 0.3", "guided 0.3", "noise 0.3"]
    assert [arm.name for arm in arms_of(SPEC)] == arms
    assert [(r["backbone"], r["arm"]) for r in done[1]["rows"]] == [(b, a) for a in arms for b in SPEC.backbones]
    assert "against_none" not in row(done[1], "linear", "none")


@pytest.mark.parametrize("backbone", ["linear", "lstm", "transformer"])
def test_a_sample_beside_itself_teaches_nothing_else(market: Panel, backbone: str) -> None:
    """The control of the protocol: duplicates change nothing, to the bit in networks; edits do."""
    data = cut_fold(market, SPEC, folds_of(market, SPEC)[0], {})
    augmenter = fit_augmenter(data, SPEC, 0)
    told = {}
    for arm in (Arm("none"), Arm("duplicate"), Arm("edit", 0.3)):
        samples = training_set(arm, data, augmenter, SPEC, 0)
        told[arm.kind] = fit_backbone(backbone, samples, data.valid, SPEC, 0)(data.test.X)
    assert np.array_equal(told["none"], told["duplicate"])
    assert not np.allclose(told["none"], told["edit"])


def test_noise_is_as_large_as_the_edit(done: tuple[Path, dict]) -> None:
    for learnt in done[1]["augmenters"]:
        assert learnt["size"]["none"] == 0
        assert learnt["size"]["noise 0.3"] == pytest.approx(learnt["size"]["edit 0.3"], rel=0.05)


def test_it_goes_on_where_it_stopped_with_the_same_bits(market: Panel, done: tuple[Path, dict], tmp_path: Path) -> None:
    calls = []

    def stop(what: str, finished: int, total: int) -> None:
        calls.append((finished, total))
        if finished == 1:
            raise KeyboardInterrupt

    from foliocast.core.errors import InterruptedRun

    small = replace(SPEC, seeds=1)
    with pytest.raises(InterruptedRun, match="to go on"):
        study(market, tmp_path, small, {"A0": "x"}, stop)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("pieces/*/ic.parquet")}
    assert len(kept) == 1
    study(market, tmp_path, SPEC, {"A0": "x"})  # more seeds go on with the same study
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    one, two = (json.loads((folder / "augment.json").read_text()) for folder in (tmp_path, done[0]))
    assert one["rows"] == two["rows"]
    with pytest.raises(ConfigError, match="another study"):
        study(market, tmp_path, replace(SPEC, steps=3), {"A0": "x"})


def test_every_decision_is_scored_once(market: Panel) -> None:
    cuts = folds_of(market, SPEC)
    assert [c.split for c in cuts[1:]] == [c.stop for c in cuts[:-1]]
    bars = np.concatenate([np.unique(cut_fold(market, SPEC, c, {}).test.bar) for c in cuts])
    assert len(set(bars)) == len(bars)
    assert set(np.diff(bars)) == {SPEC.horizon}


def test_labels_are_the_returns_that_can_be_traded(market: Panel) -> None:
    """Decided at t, bought at the close of t + 1, sold at that of t + 1 + horizon."""
    close, got = market.array("close"), forward_returns(market, 3)
    assert got[10, 2] == pytest.approx(close[14, 2] / close[11, 2] - 1)
    assert np.isnan(got[-4:]).all()
    assert np.isfinite(got[-5]).all()


def test_the_most_traded_assets_are_predicted_and_all_are_learnt_from(market: Panel) -> None:
    data = cut_fold(market, SPEC, folds_of(market, SPEC)[0], {"A3": "energy"})
    volume = (market.array("close") * market.array("volume"))[:100]
    quiet = {market.assets[j] for j in np.argsort(np.median(volume, axis=0))[:2]}
    assert len(data.assets) == 12
    assert not quiet & set(data.assets)
    assert len(np.unique(data.source.asset)) == 14
    assert set(data.source.sector) == {"", "energy"}
    at = data.source.bar == data.source.bar[0]
    assert abs(data.source.y[at].mean()) < 1e-6
    assert data.source.y[at].std() == pytest.approx(1.0, abs=0.05)


def test_paired_interval_is_students() -> None:
    gap = np.array([0.01, 0.03, -0.01, 0.02, 0.02])
    low, high = scipy_stats.ttest_1samp(gap, 0.0).confidence_interval(0.95)
    assert over_seeds(gap) == pytest.approx({"value": gap.mean(), "low": low, "high": high})
    assert np.isnan(over_seeds(gap[:1])["low"])


def test_the_table_pairs_seeds_and_chains_folds() -> None:
    rng = np.random.default_rng(0)

    def frames(seed: int, fold: int) -> dict[str, pd.DataFrame]:
        ic = pd.DataFrame(index=range(fold * 30, fold * 30 + 30))
        net = pd.DataFrame(index=range(fold * 60, fold * 60 + 60))
        base = rng.normal(0.02, 0.1, 30) + 0.1 * seed
        for arm, lift in (("none", 0.0), ("edit 0.3", 0.01), ("noise 0.3", -0.02)):
            ic[f"linear|{arm}|rank_ic"] = ic[f"linear|{arm}|weighted_ic"] = base + lift
            net[f"linear|{arm}|top"] = net[f"linear|{arm}|long_short"] = 0.001 + lift / 100
        return {"ic": ic, "net": net}

    pieces = {(seed, fold): frames(seed, fold) for seed in range(3) for fold in range(2)}
    rows = {r["arm"]: r for r in summary(pieces)}
    gap = rows["edit 0.3"]["against_none"]["rank_ic"]
    assert gap["value"] == pytest.approx(0.01)  # the same for every seed, however they differ
    assert gap["low"] == pytest.approx(0.01)
    assert gap["time_low"] == pytest.approx(0.01)
    assert rows["edit 0.3"]["against_noise"]["rank_ic"]["value"] == pytest.approx(0.03)
    assert rows["none"]["decisions"] == 60
    assert rows["none"]["top_return"] == pytest.approx(1.001**252 - 1)
    assert rows["edit 0.3"]["against_none"]["top_return"]["time_low"] == pytest.approx(1e-4 * 252)
    del pieces[2, 1]  # a seed that is not finished does not count
    assert sorted(joined(pieces, "ic")) == [0, 1]


def test_sectors_are_read_from_a_table(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("Symbol,Name,GICS Sector\nBRK.B,Berkshire,Financials\nXOM,Exxon,Energy\nQ,None,\n")
    assert read_sectors(file) == {"BRK-B": "Financials", "XOM": "Energy"}
    file.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="'GICS Sector'"):
        read_sectors(file)


def test_bad_plans_are_refused(market: Panel) -> None:
    with pytest.raises(ConfigError, match="strengths"):
        StudySpec(strengths=(0.0,))
    with pytest.raises(ConfigError, match="train_bars"):
        StudySpec(train_bars=10)
    with pytest.raises(ConfigError, match="fraction"):
        StudySpec(fraction=0.9)
    with pytest.raises(HistoryError, match="leave nothing to test"):
        folds_of(market, replace(SPEC, train_bars=1000))
    with pytest.raises(HistoryError, match="needed to train on"):
        folds_of(market, replace(SPEC, start="2018-02-01"))


def test_factors_follow_the_fields_of_the_panel(market: Panel) -> None:
    names = StudySpec().factors(market).names
    assert "volume_z" in names
    assert "log_range" not in names
