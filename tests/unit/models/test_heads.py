"""Distribution heads: the likelihood is the textbook's, quantiles never cross, and both learn a known law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm, t
from torch import nn

from foliocast.core.errors import ConfigError
from foliocast.models.heads import HEADS, QuantileHead, StudentTHead, head_of
from foliocast.models.lstm import LSTMForecaster
from foliocast.models.training import TensorSamples, TrainingSpec, train
from markets import make_panel

RAW = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))


def test_student_t_is_scipys() -> None:
    head, raw = StudentTHead(), RAW[:, :3]
    y = torch.linspace(-3, 3, 50)
    loc, scale, nu = (p.numpy() for p in head.parameters(raw))
    assert (nu > 2).all()
    assert float(head.loss(raw, y)) == pytest.approx(-t.logpdf(y.numpy(), nu, loc, scale).mean(), rel=1e-5)
    u = np.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(t.cdf(head.inverse(raw, u), nu, loc, scale), u, atol=1e-6)


def test_quantiles_never_cross_and_are_hit_at_their_levels() -> None:
    head = QuantileHead()
    q = head.quantiles(10 * RAW)
    assert (q.diff(dim=1) > 0).all()
    torch.testing.assert_close(q[:, 4], 10 * RAW[:, 0])
    for number, level in enumerate(head.levels):
        np.testing.assert_allclose(head.inverse(10 * RAW, np.full(50, level)), q[:, number], atol=1e-5)


def test_a_normal_law_is_carried_through_the_quantiles() -> None:
    """With quantiles of a normal law the inverse is the normal's everywhere, tails included; the mean is its mean."""
    head = QuantileHead()
    nodes = 1.5 + 2 * norm.ppf(head.levels)
    raw = torch.tensor([[nodes[4], *np.log(np.expm1(np.diff(nodes) - 1e-4))]])
    u = np.array([0.001, 0.02, 0.3, 0.5, 0.97, 0.9995])
    np.testing.assert_allclose(head.inverse(raw.repeat(6, 1), u), 1.5 + 2 * norm.ppf(u), atol=1e-6)
    np.testing.assert_allclose(float(head.mean(raw)[0]), 1.5, atol=1e-6)


@pytest.mark.parametrize("name", ["student_t", "quantile"])
def test_the_law_of_the_data_is_learnt(name: str) -> None:
    head = head_of(name)
    y = torch.from_numpy(0.5 + 2 * np.random.default_rng(0).standard_t(5, 6000)).float()
    net = nn.Linear(1, head.width)
    spec = TrainingSpec(lr=0.03, epochs=12, batch_size=256, weight_decay=0.0, clip=None)
    train(net, TensorSamples(torch.zeros(6000, 1), y), lambda m, b, g: head.loss(m(b[0]), b[1]), replace(spec, seed=1))
    u = np.array([0.02, 0.1, 0.5, 0.9, 0.98])
    with torch.no_grad():
        found = head.inverse(net(torch.zeros(5, 1)), u)
    np.testing.assert_allclose(found, 0.5 + 2 * t.ppf(u, 5), atol=0.45)


@pytest.mark.parametrize("name", ["student_t", "quantile"])
def test_paths_are_drawn_from_the_learnt_law(name: str) -> None:
    """The first simulated bar has the head's own quantiles, not those of the filter."""
    panel = make_panel(200, 2)
    model = LSTMForecaster(window=8, hidden=8, layers=1, epochs=2, n_paths=4000, volatility="ewma", head=name).fit(
        panel
    )
    view = panel.asof(panel.times[-1])
    part = model.parts_["*"]
    windows = part.scaling.features(model.feature_set_(panel)[-8:]).transpose(1, 0, 2)
    u = np.array([0.1, 0.5, 0.9])
    unit = panel_unit(model, panel)
    found = model.forecast(view, 1).quantile(u)[:, 0]
    for asset in (0, 1):
        z = part.predictor.draw(np.repeat(windows[[asset]], 3, axis=0), u)  # type: ignore[attr-defined]
        expected = unit[asset] * (part.scaling.location + part.scaling.spread * z)
        np.testing.assert_allclose(found[:, asset], expected, atol=0.15 * unit[asset])


def panel_unit(model: LSTMForecaster, panel) -> np.ndarray:  # type: ignore[no-untyped-def]
    return model.feature_set_(panel)[-1, :, model.feature_set_.names.index("volatility_30")]


def test_unknown_heads_are_refused() -> None:
    with pytest.raises(ConfigError, match="head = 'guess'"):
        LSTMForecaster(head="guess", epochs=1, window=8).fit(make_panel(120, 2))
    with pytest.raises(ConfigError, match="no distribution"):
        HEADS["point"].inverse(RAW[:, :1], np.full(50, 0.5))
