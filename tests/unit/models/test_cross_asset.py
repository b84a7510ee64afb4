"""Attention across assets, standardisation across a date, and ranking: their laws, and what they can learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from foliocast.core.errors import ConfigError
from foliocast.core.market import Universe
from foliocast.core.panel import Panel
from foliocast.features.cross_section import ranks_by_date, standardise_by_date
from foliocast.models.crossasset import CrossAssetNet, CrossAssetTransformer
from foliocast.models.linear import LinearForecaster
from foliocast.models.lstm import LSTMForecaster
from foliocast.models.network import list_loss
from foliocast.models.training import seed_of
from foliocast.stats.measures import rank_ic
from markets import make_panel

SMALL = {"window": 8, "patch": 4, "stride": 4, "width": 8, "heads": 2, "epochs": 1, "n_paths": 10, "volatility": "ewma"}


def net() -> CrossAssetNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(1))
        return CrossAssetNet((3, 8), (4, 2), (16, 1, 2, 4), 1).eval()


def windows(dates: int, assets: int) -> torch.Tensor:
    return torch.randn(dates, assets, 8, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("assets", [1, 2, 7, 31])
def test_any_number_of_assets_in_any_order(assets: int) -> None:
    x, order = windows(2, assets), torch.randperm(assets, generator=torch.Generator().manual_seed(1))
    everyone = torch.ones(2, assets, dtype=torch.bool)
    with torch.no_grad():
        straight, shuffled = net()(x, everyone), net()(x[:, order], everyone)
    torch.testing.assert_close(straight[:, order], shuffled)


def test_who_is_not_present_changes_nothing_for_anybody() -> None:
    x, present = windows(1, 5), torch.tensor([[True, True, False, True, False]])
    other = x.clone()
    other[:, [2, 4]] += 10.0
    with torch.no_grad():
        a, b, alone = net()(x, present), net()(other, present), net()(x[:, present[0]], present[:, present[0]])
    torch.testing.assert_close(a[present], b[present])
    torch.testing.assert_close(a[present], alone[0])
    assert not torch.allclose(a[0, 2], b[0, 2])


def test_the_others_are_looked_at() -> None:
    x = windows(1, 5)
    other = x.clone()
    other[:, 4] += 3.0
    everyone = torch.ones(1, 5, dtype=torch.bool)
    with torch.no_grad():
        assert not torch.allclose(net()(x, everyone)[0, 0], net()(other, everyone)[0, 0])


def test_an_asset_outside_the_universe_is_answered_but_not_looked_at() -> None:
    panel = make_panel(160, 4)
    mask = np.ones(panel.shape, dtype=bool)
    mask[:, 3] = False
    panel = panel.replace(universe=Universe(mask))
    model = CrossAssetTransformer(**SMALL, cross_section=True).fit(panel.rows(0, 120))
    assert model.trained_assets_ == ("A0", "A1", "A2")
    fields = {name: panel.array(name).copy() for name in panel.fields}
    for values in fields.values():
        values[:, 3] *= np.linspace(1, 3, len(values)) ** np.sin(np.arange(len(values)))
    a, b = (model.predict(p, p.times[120:]).to_numpy() for p in (panel, panel.replace(fields)))
    np.testing.assert_array_equal(a[:, :3], b[:, :3])
    with pytest.raises(ConfigError, match="no other asset to look at"):
        CrossAssetTransformer(**SMALL, pooled=False).fit(panel)


def test_a_date_is_standardised_by_its_members_alone() -> None:
    values = np.random.default_rng(0).normal(3, 2, (6, 5, 2))
    values[2, 1] = np.nan
    members = np.ones((6, 5), dtype=bool)
    members[:, 4] = False
    out = standardise_by_date(values, members)
    inside = np.where(members[..., None], out, np.nan)
    np.testing.assert_allclose(np.nanmean(inside, axis=1), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.nanstd(inside, axis=1), 1.0)
    assert np.isnan(out[2, 1]).all()
    changed = values.copy()
    changed[3:] = 7.0 * changed[3:] ** 2
    np.testing.assert_array_equal(standardise_by_date(changed, members)[:3], out[:3])
    np.testing.assert_array_equal(standardise_by_date(np.ones((2, 1, 1))), 0.0)
    assert np.isfinite(standardise_by_date(values, np.zeros((6, 5), dtype=bool))[0]).all()  # no member: all count


def test_ranks_become_normal_scores() -> None:
    scores = ranks_by_date(np.array([[3.0, -1.0, np.nan, 100.0]]))
    assert scores[0, 0] == 0.0
    assert scores[0, 1] == -scores[0, 3] == pytest.approx(-0.9674, abs=1e-4)
    assert np.isnan(scores[0, 2])


def test_the_list_loss_is_least_at_the_wanted_scores() -> None:
    """Cross-entropy: minimal, with the entropy as its value, where scores equal what is wanted up to a constant."""
    wanted = torch.tensor([[0.5, -1.0, 2.0, 9.0]])
    present = torch.tensor([[True, True, True, False]])
    share = torch.softmax(wanted[:, :3], dim=1)
    least = list_loss(wanted + 4.0, wanted, present)
    torch.testing.assert_close(least, -(share * share.log()).sum())
    scores = (wanted.clone() + 0.3).requires_grad_()
    list_loss(scores, wanted, present).backward()
    torch.testing.assert_close(scores.grad, torch.zeros_like(scores), atol=1e-6, rtol=0)
    for k in range(3):
        moved = wanted.clone()
        moved[0, k] += 0.5
        assert list_loss(moved, wanted, present) > least


def common(n: int = 600, assets: int = 8, seed: int = 0) -> Panel:
    """Every return is mostly one common shock; what differs follows yesterday's own volume surprise."""
    rng = np.random.default_rng(seed)
    surprise = rng.standard_normal((n, assets))
    returns = 0.02 * rng.standard_t(3, (n, 1)) + 0.002 * rng.standard_normal((n, assets))
    returns[1:] += 0.002 * surprise[:-1]
    fields = {"close": 100 * np.cumprod(1 + np.clip(returns, -0.4, 0.4), axis=0), "volume": np.exp(9 + 0.2 * surprise)}
    return Panel(fields, pd.bdate_range("2012-01-02", periods=n), [f"C{i}" for i in range(assets)])


def daily_ic(predicted: pd.DataFrame, panel: Panel) -> float:
    start = panel.times.get_loc(predicted.index[0])
    return float(rank_ic(predicted, panel.returns().iloc[start:].set_axis(predicted.index)).mean())


def share_of_attainable(model: object, panel: Panel, start: int = 400) -> float:
    """RankIC after training over that of whoever knows the surprise itself."""
    days = panel.times[start:-1]
    oracle = np.log(panel.frame("volume").loc[days])
    return daily_ic(model.predict(panel, days), panel) / daily_ic(oracle, panel)  # type: ignore[attr-defined]


def test_the_cross_section_hears_what_the_market_drowns() -> None:
    """The order of the day is half predictable; against the market's noise it is one part in a hundred."""
    panel = common()
    plain, relative = (LinearForecaster(cross_section=on).fit(panel.rows(0, 150)) for on in (False, True))
    assert share_of_attainable(relative, panel) > 0.9
    assert share_of_attainable(plain, panel) < 0.9 * share_of_attainable(relative, panel)


def test_a_ranking_loss_learns_the_order() -> None:
    fast = {"window": 5, "hidden": 8, "layers": 1, "epochs": 4, "lr": 1e-2, "batch_size": 16, "amp": "none"}
    panel = common(seed=1)
    ranked = LSTMForecaster(**fast, rank_weight=5.0).fit(panel.rows(0, 400))
    assert share_of_attainable(ranked, panel) > 0.9
    with pytest.raises(ConfigError, match="one asset has no cross-section"):
        LSTMForecaster(**fast, cross_section=True, pooled=False).fit(panel)


def test_labels_may_look_further_ahead_but_stay_inside_the_rows() -> None:
    panel = make_panel(200, 3)
    model = LinearForecaster(ahead=5)
    target = model._target(panel)
    close = panel.array("close")
    unit = pd.DataFrame(np.log(close)).diff().rolling(30).std().to_numpy()
    np.testing.assert_allclose(target[100], (close[105] / close[100] - 1) / 5 / unit[100], rtol=1e-10)
    assert np.isnan(target[-5:]).all()
    assert np.isfinite(target[-6]).all()
    assert np.isfinite(model.fit(panel).predict(panel, panel.times[-2:]).to_numpy()).all()
