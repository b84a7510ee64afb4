"""The attention LSTM: its equations, what it can learn, what it must not find, and that neighbours change no bit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from foliocast.core.errors import ConfigError, DataError
from foliocast.core.panel import Panel
from foliocast.models.linear import LinearForecaster
from foliocast.models.lstm import AttentionLSTM, AttentionLSTMNet, LSTMForecaster
from foliocast.models.transformer import PatchTransformer, TransformerForecaster
from foliocast.models.trees import TreesForecaster
from markets import make_panel


def planted(n: int = 750, n_assets: int = 6, strength: float = 0.5, seed: int = 0) -> Panel:
    """Tomorrow's return follows the sign of today's volume surprise: a share ``strength`` of its variance."""
    rng = np.random.default_rng(seed)
    surprise = rng.choice([-1.0, 1.0], (n, n_assets))
    noise = rng.standard_normal((n, n_assets))
    returns = np.zeros((n, n_assets))
    returns[1:] = 0.01 * (np.sqrt(strength) * surprise[:-1] + np.sqrt(1 - strength) * noise[1:])
    fields = {"close": 100 * np.cumprod(1 + returns, axis=0), "volume": np.exp(10 + 0.2 * surprise)}
    return Panel(fields, pd.bdate_range("2012-01-02", periods=n), [f"P{i}" for i in range(n_assets)])


def correlation(model: object, panel: Panel, start: int) -> float:
    """Of predictions and outcomes after training, over all assets and days."""
    expected = model.predict(panel, panel.times[start:-1]).to_numpy()  # type: ignore[attr-defined]
    return float(np.corrcoef(expected.ravel(), panel.return_array()[start + 1 :].ravel())[0, 1])


FAST = {"window": 10, "epochs": 6, "lr": 1e-2, "batch_size": 64, "n_paths": 10, "volatility": "ewma", "amp": "none"}
LEARNERS = {
    "attention_lstm": AttentionLSTM(hidden=16, layers=1, **FAST),
    "lstm": LSTMForecaster(hidden=16, layers=1, **FAST),
    "transformer": TransformerForecaster(patch=4, stride=2, width=16, heads=2, layers=1, **FAST),
    "linear": LinearForecaster(),
    "trees": TreesForecaster(min_samples=20),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_planted_signal_is_found(name: str) -> None:
    """The attainable correlation is sqrt(strength) = 0.71; each model reaches 85 % of it."""
    panel = planted()
    assert correlation(LEARNERS[name].fit(panel.rows(0, 450)), panel, 450) > 0.85 * np.sqrt(0.5)


@pytest.mark.parametrize("name", LEARNERS)
def test_nothing_is_found_in_noise(name: str) -> None:
    """Six assets over 300 days without signal: the correlation stays within 3.5 standard errors of zero."""
    panel = planted(strength=0.0, seed=3)
    assert abs(correlation(LEARNERS[name].fit(panel.rows(0, 450)), panel, 450)) < 3.5 / np.sqrt(6 * 299)


def test_attention_is_a_softmax_of_scores() -> None:
    net = AttentionLSTMNet(5, 16, 2)
    x = torch.randn(7, 12, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states, _ = net.lstm(x)
        scores = torch.einsum("h,bth->bt", net.score.weight[0], states)
        weights = scores.exp() / scores.exp().sum(1, keepdim=True)
        context = torch.einsum("bt,bth->bh", weights, states)
        expected = context @ net.head.weight[0] + net.head.bias
        found, attention = net.attend(x)
    torch.testing.assert_close(attention, weights)
    torch.testing.assert_close(found[:, 0], expected)


def test_default_shape_is_the_documented_one() -> None:
    net = AttentionLSTM()._network(5)
    assert sum(p.numel() for p in net.parameters()) == 4 * 64 * (5 + 64 + 2) + 4 * 64 * (64 + 64 + 2) + 64 + 65
    spec = AttentionLSTM()._spec(0)
    assert (spec.optimizer, spec.lr, spec.weight_decay, spec.batch_size, spec.epochs) == ("adam", 3e-4, 1e-4, 32, 15)
    assert AttentionLSTM().window == 60
    assert LSTMForecaster()._spec(0).optimizer == "adamw"
    assert (LSTMForecaster().hidden, LSTMForecaster().layers) == (32, 2)


def test_attention_weights_are_returned() -> None:
    panel = make_panel(140, 3)
    model = AttentionLSTM(hidden=8, layers=1, **FAST).fit(panel.rows(0, 120))
    table = model.attention(panel, panel.times[[100, 130]])
    assert list(table.index) == [(panel.times[t], a) for t in (100, 130) for a in panel.assets]
    assert list(table.columns) == list(range(-9, 1))
    np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-6)
    assert (table.to_numpy() > 0).all()


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    """Every asset and day alone, and all together, to the bit: batches are padded to one size."""
    panel = make_panel(160, 5)
    model = AttentionLSTM(hidden=16, layers=2, **FAST).fit(panel.rows(0, 120))
    together = model.predict(panel)
    for asset in panel.assets:
        alone = model.predict(panel.select([asset]), panel.times[120:])
        assert alone[asset].to_numpy().tobytes() == together[asset].loc[alone.index].to_numpy().tobytes()
    for day in panel.times[[50, 121, 159]]:
        np.testing.assert_array_equal(model.predict(panel, pd.DatetimeIndex([day])).loc[day], together.loc[day])


def test_per_asset_networks_are_those_of_single_fits() -> None:
    panel = make_panel(150, 2)
    both = AttentionLSTM(hidden=8, layers=1, pooled=False, **FAST).fit(panel)
    alone = AttentionLSTM(hidden=8, layers=1, pooled=False, **FAST).fit(panel.select(["A0"]))
    a, b = both.predict(panel)["A0"], alone.predict(panel.select(["A0"]))["A0"]
    assert a.to_numpy().tobytes() == b.to_numpy().tobytes()
    with pytest.raises(ConfigError, match="needs pooled"):
        AttentionLSTM(pooled=False, any_asset=True).fit(panel)


def test_a_pooled_network_may_serve_strangers_if_told_so() -> None:
    panel = make_panel(150, 4)
    model = AttentionLSTM(hidden=8, layers=1, any_asset=True, **FAST).fit(panel.select(["A0", "A1"]))
    assert np.isfinite(model.predict(panel, panel.times[-3:]).to_numpy()).all()
    assert model.forecast(panel.asof(panel.times[-1]), 3).samples is not None


def test_early_stopping_is_recorded() -> None:
    panel = make_panel(400, 3)
    model = AttentionLSTM(hidden=8, layers=1, **FAST | {"epochs": 12}, patience=2).fit(panel)
    result = model.training_["*"]
    assert result is not None
    assert result.best_epoch <= len(result.history)
    assert all("valid_loss" in row for row in result.history)
    full = AttentionLSTM(hidden=8, layers=1, **FAST | {"epochs": 2}, patience=None).fit(panel)
    assert all("valid_loss" not in row for row in full.training_["*"].history)  # type: ignore[union-attr]


def test_unscaled_inputs_do_not_matter() -> None:
    """Prices in another currency, volumes in other lots: the same predictions (up to rounding)."""
    panel = make_panel(150, 3)
    other = panel.replace({"close": panel.array("close") * 128.0, "volume": panel.array("volume") * 1024.0})
    a, b = (LinearForecaster().fit(p).predict(p).to_numpy() for p in (panel, other))
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12, equal_nan=True)


def test_ridge_solves_its_equations() -> None:
    panel = make_panel(300, 3)
    model = LinearForecaster(alpha=0.2).fit(panel)
    part = model.parts_["*"]
    raw, target = model.feature_set_(panel), model._target(panel)
    use = np.isfinite(raw).all(axis=2) & np.isfinite(target)
    x = part.scaling.features(raw)[use].astype(float)
    y = ((target[use] - part.scaling.location) / part.scaling.spread).astype(np.float32).astype(float)
    b = part.predictor.coefficients  # type: ignore[attr-defined]
    np.testing.assert_allclose(x.T @ (y - x @ b) / len(y), 0.2 * b, atol=1e-10)
    with pytest.raises(ConfigError, match="alpha = -1"):
        LinearForecaster(alpha=-1).fit(panel)


def test_patches_end_at_the_last_bar() -> None:
    net = PatchTransformer(2, 11, 4, 3, 8, 1, 2).eval()
    x = torch.zeros(1, 11, 2)
    with torch.no_grad():
        base, old, new = (
            net(x),
            net(x.index_fill(1, torch.tensor([0]), 5.0)),
            net(x.index_fill(1, torch.tensor([10]), 5.0)),
        )
    assert torch.equal(base, old)  # 11 = 4 + 2 * 3 + 1: the oldest bar fills no patch
    assert not torch.equal(base, new)
    with pytest.raises(ConfigError, match="heads divide width"):
        TransformerForecaster(width=10, heads=4, epochs=1).fit(make_panel(120, 2))


def test_a_model_of_another_class_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    panel = make_panel(120, 2)
    LSTMForecaster(hidden=8, layers=1, **FAST).fit(panel).save(tmp_path / "m")
    with pytest.raises(DataError, match="holds a LSTMForecaster, expected a AttentionLSTM"):
        AttentionLSTM.load(tmp_path / "m")
