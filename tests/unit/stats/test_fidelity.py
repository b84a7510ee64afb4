from __future__ import annotations

import numpy as np
import pytest

from foliocast.core.errors import HistoryError
from foliocast.stats import fidelity


def garch_windows(n: int, seed: int, leverage: float = 0.15) -> np.ndarray:
    rng = np.random.default_rng(seed)
    variance, out = np.ones((n, 3)), np.empty((n, 250, 3))
    for t in range(250):
        shock = rng.standard_t(6, (n, 3)) * np.sqrt(2 / 3) * 0.7 + 0.7 * rng.standard_normal((n, 1))
        out[:, t] = np.sqrt(variance) * shock
        variance = 0.05 + (0.05 + leverage * (out[:, t] < 0)) * out[:, t] ** 2 + 0.82 * variance
    return 0.01 * out


def test_facts_of_noise_are_nil_and_those_of_markets_are_not() -> None:
    noise = fidelity.facts(np.random.default_rng(0).standard_normal((200, 250, 3))).mean()
    for name in ("skewness", "acf", "acf_abs", "acf_square", "leverage", "correlation"):
        assert abs(noise[name]) < 0.02, name
    assert noise["first_eigenvalue"] == pytest.approx(1 / 3, abs=0.05)
    assert noise["tail_dependence"] == pytest.approx(0.1, abs=0.02)
    market = fidelity.facts(garch_windows(200, 0)).mean()
    assert market["kurtosis"] > 0.8
    assert market["acf_abs"] > 0.04
    assert market["leverage"] < -0.02
    assert market["tail_index"] < noise["tail_index"]
    assert market["correlation"] > 0.3


def test_a_hill_index_is_recovered() -> None:
    x = np.random.default_rng(0).pareto(3.0, (20, 20_000, 1)) + 1
    assert fidelity.hill(x).mean() == pytest.approx(3.0, rel=0.03)


def test_the_same_law_lies_inside_the_band_and_noise_outside() -> None:
    real = garch_windows(60, 1)
    same = fidelity.compare_facts(real, garch_windows(400, 2))
    wrong = fidelity.compare_facts(real, 0.01 * np.random.default_rng(0).standard_normal((400, 250, 3)))
    assert same["inside"].mean() > 0.75
    assert not wrong.loc[["kurtosis", "acf_abs", "correlation", "tail_dependence"], "inside"].any()
    assert wrong.loc["acf_abs", "distance"] < -3
    with pytest.raises(HistoryError, match="same of both"):
        fidelity.compare_facts(real, real[:, :100])


def test_windows_keep_the_latest() -> None:
    x = np.arange(10.0)[:, None]
    np.testing.assert_array_equal(fidelity.windows(x, 4)[-1, :, 0], [6, 7, 8, 9])
    with pytest.raises(HistoryError, match="no window"):
        fidelity.windows(x, 11)


def test_collapse_is_seen() -> None:
    real, good = fidelity.path_features(garch_windows(150, 1)), fidelity.path_features(garch_windows(150, 2))
    healthy = fidelity.coverage_precision(real, good)
    collapsed = fidelity.coverage_precision(real, np.repeat(good[:3], 50, axis=0) + 1e-9)
    assert healthy["coverage"] > 0.85
    assert collapsed["coverage"] < 0.4
    assert collapsed["recall"] < 0.2 < 0.6 < healthy["recall"]
    with pytest.raises(HistoryError, match="too few"):
        fidelity.coverage_precision(real[:4], good)


def test_copies_are_seen() -> None:
    train, held_out, honest = (garch_windows(120, seed)[:, :20] for seed in (1, 2, 3))
    fair = fidelity.memorisation(train, held_out, honest)
    copied = fidelity.memorisation(train, held_out, train[:60] * 1.001)
    assert fair["p"] > 0.01
    assert 0.3 < fair["nearer"] < 0.7
    assert copied["copies"] == 1.0
    assert copied["p"] < 1e-6
