"""Clues, the departures learnt from them, and the pool: causal, silent without signal, finding what was planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from foliocast.core.scenario_base import Bars, read_bars
from foliocast.models.checkpoint import load_model
from foliocast.models.diffusion.clues import HORIZON, N_CLUES, N_OWN, QUARTERS, Priced, clues
from foliocast.models.diffusion.departures import SCALE_TRAINING, ScaleHead, Universe, adapted, fit_departures
from foliocast.models.diffusion.generator import TRAINING, DiffusionScenarios
from foliocast.models.diffusion.innovations import FADING, innovations, origin
from foliocast.models.diffusion.paths import _Walk
from foliocast.models.diffusion.pooling import common_filter, like_universes
from foliocast.stats.correlation import CorrelationFilter
from foliocast.stats.volatility import VolatilityFilter

QUICK = replace(SCALE_TRAINING, max_steps=150)
QUARTER = 63


def reporting(n_bars: int, n_assets: int, jump: float, seed: int = 0) -> pd.DataFrame:
    """Student-t returns; every 63rd bar, each asset on its own day, is ``jump`` times as wild."""
    rng = np.random.default_rng(seed)
    x = 0.01 * rng.standard_t(6, (n_bars, n_assets)) + 0.005 * rng.standard_t(6, (n_bars, 1))
    days = (np.arange(n_bars)[:, None] + rng.integers(QUARTER, size=n_assets)) % QUARTER == 0
    x = np.where(days, jump * x, x).clip(-0.6, 0.6)
    return pd.DataFrame(x, pd.bdate_range("2010-01-04", periods=n_bars), [f"A{i}" for i in range(n_assets)])


def priced(returns: pd.DataFrame, seed: int = 1) -> Bars:
    rng = np.random.default_rng(seed)
    bars = read_bars(returns)
    close = np.cumprod(1 + bars.returns, axis=0)
    previous = np.vstack([np.ones((1, close.shape[1])), close[:-1]])
    opened = previous * np.exp(0.003 * rng.standard_normal(close.shape))
    reach = np.exp(np.abs(0.004 * rng.standard_normal((2, *close.shape))))
    prices = {
        "open": opened,
        "high": np.maximum(opened, close) * reach[0],
        "low": np.minimum(opened, close) / reach[1],
        "close": close,
        "previous": previous,
        "volume": np.exp(10 + rng.standard_normal(close.shape)),
    }
    return Bars(bars.returns, bars.times, bars.assets, prices)


def standard(bars: Bars, rows: int) -> tuple[np.ndarray, np.ndarray]:
    x = bars.log_returns[-rows:]
    return x / 0.012, np.full((rows + 1, x.shape[1]), 0.012)


def test_clues_know_nothing_of_later_bars() -> None:
    bars = priced(reporting(420, 4, 3.0))
    z, sigma = standard(bars, 400)
    before = clues(z, sigma, bars.log_returns, Priced.of(bars))
    assert before.past.shape == (401, 4, N_OWN + 14)
    assert before.ahead(np.array([300]), np.array([5])).shape == (1, 4, N_CLUES)
    changed_z, changed = z.copy(), bars.returns.copy()
    changed_z[300:], changed[320:] = 9.0, 0.3
    prices = {key: v.copy() for key, v in (bars.prices or {}).items()}
    for v in prices.values():
        v[320:] *= 2.0
    prices["previous"][320] /= 2.0
    later = Bars(changed, bars.times, bars.assets, prices)
    after = clues(changed_z, sigma, later.log_returns, Priced.of(later))
    np.testing.assert_array_equal(before.past[:301], after.past[:301])
    np.testing.assert_array_equal(before.season[: 300 + HORIZON], after.season[: 300 + HORIZON])
    assert not np.array_equal(before.past[301], after.past[301])


def test_the_season_looks_back_a_quarter() -> None:
    bars = read_bars(reporting(420, 3, 1.0))
    z, sigma = np.zeros((400, 3)), np.full((401, 3), 0.01)
    z[350, 1] = -4.0
    known = clues(z, sigma, bars.log_returns, Priced.of(bars))
    exact = QUARTERS.index((63, 63))
    assert known.season[350 + 63, 1, exact] == 4.0
    assert known.season[:, 1, exact].sum() == 4.0
    np.testing.assert_array_equal(known.ahead(np.array([400]), np.array([14]))[0, 1, N_OWN + 14 + exact], 4.0)
    assert known.without_prices().past[:, :, N_OWN:].any() == np.False_


def test_states_of_many_rows_are_those_of_each() -> None:
    x = np.log1p(reporting(400, 3, 2.0).to_numpy())
    for kind in ("ewma", "gjr", "har", "blend"):
        f = VolatilityFilter(kind).fit(x)
        rows = np.array([200, 399])
        together = f.sigma(f.states(x, None, rows))
        np.testing.assert_allclose(together[0], f.next_scale(x[:200]), rtol=1e-10)
        np.testing.assert_allclose(together[1], f.next_scale(x[:399]), rtol=1e-10)


def test_departures_find_the_reports_and_stay_silent_without() -> None:
    wild, calm = (read_bars(reporting(2000, 12, jump)) for jump in (5.0, 1.0))
    heads = []
    for bars in (wild, calm):
        volatility = VolatilityFilter("ewma", 60.0).fit(bars.log_returns)
        heads.append((fit_departures([Universe.of(bars, volatility)], 0, QUICK), volatility))
    head, volatility = heads[0]
    assert float(head.share) > 0
    z, sigma, state = innovations(volatility, wild)
    known = clues(z, np.vstack([sigma, volatility.sigma(state)]), wild.log_returns)
    factor = np.exp(head.of_history(known))[300:]
    loud = np.abs(z[300:]) > np.quantile(np.abs(z[300:]), 0.99)
    assert factor[loud].mean() > 1.15 * factor[~loud].mean()
    quiet, filter_ = heads[1]
    z, sigma, state = innovations(filter_, calm)
    known = clues(z, np.vstack([sigma, filter_.sigma(state)]), calm.log_returns)
    assert quiet.of_history(known).std() < 0.5 * np.log(factor).std()


def test_a_head_is_adapted_to_assets_it_does_not_suit() -> None:
    wild, calm = (read_bars(reporting(1600, 8, jump)) for jump in (6.0, 1.0))
    volatility = VolatilityFilter("ewma", 60.0).fit(wild.log_returns)
    head = fit_departures([Universe.of(wild, volatility)], 0, QUICK)
    kept, dropped = adapted(head, volatility, wild), adapted(head, volatility, calm)
    assert float(dropped.share) < float(kept.share)
    assert float(head.offset.abs().sum()) == 0.0
    assert float(kept.offset[0]) == 0.0


def test_a_fresh_head_departs_from_nothing() -> None:
    bars = read_bars(reporting(500, 3, 2.0))
    volatility = VolatilityFilter("ewma").fit(bars.log_returns)
    plain, headed = innovations(volatility, bars), innovations(volatility, bars, ScaleHead())
    np.testing.assert_array_equal(plain[0], headed[0])
    np.testing.assert_array_equal(plain[1], headed[1])


def test_paths_walk_with_the_departure_of_each_bar() -> None:
    bars = read_bars(reporting(500, 3, 2.0))
    volatility = VolatilityFilter("ewma").fit(bars.log_returns)
    correlation = CorrelationFilter(100.0).fit(innovations(volatility, bars)[0])
    plain = origin(volatility, correlation, bars)
    bent = replace(plain, departure=np.array([[2.0] * 3, [0.5] * 3]))
    z = np.zeros((4, 3, 3))
    first, second = (_Walk.begin(o, 4).along(o, z, np.empty((4, 3, 3))) for o in (plain, bent))
    np.testing.assert_allclose(second[:, 0], 2.0 * first[:, 0])
    np.testing.assert_allclose(second[:, 1], 0.5 * first[:, 1])
    np.testing.assert_allclose(second[:, 2], 0.5**0.5 ** (1 / FADING) * first[:, 2])  # none is known: it fades
    assert bent.factor(2000) == pytest.approx(1.0)


def test_the_recursion_goes_on_without_the_departures() -> None:
    bars = read_bars(reporting(400, 3, 1.0))
    volatility = VolatilityFilter("ewma").fit(bars.log_returns)
    correlation = CorrelationFilter().fit(innovations(volatility, bars)[0])
    plain = replace(origin(volatility, correlation, bars), ceiling=np.full(3, 1e9))
    wide = replace(plain, departure=np.full((HORIZON, 3), 1.5))
    z = np.random.default_rng(0).standard_normal((50, 6, 3))
    paths = [np.empty_like(z), np.empty_like(z)]
    sigmas = [_Walk.begin(start, 50).along(start, z, out) for start, out in zip((plain, wide), paths)]
    assert np.allclose(sigmas[1], 1.5 * sigmas[0])
    assert np.allclose(paths[1] - plain.drift, 1.5 * (paths[0] - plain.drift))


def test_later_bars_have_a_share_of_their_own() -> None:
    head = ScaleHead()
    torch.nn.init.normal_(head.leave.weight, generator=torch.Generator().manual_seed(0))
    bars = priced(reporting(420, 3, 3.0))
    known = clues(*standard(bars, 400), bars.log_returns, Priced.of(bars))
    full = head.of_future(known)
    head.far = torch.tensor(0.0)
    near = head.of_future(known)
    assert np.array_equal(near[0], full[0])
    assert np.abs(full[1:]).max() > 0.0
    assert np.abs(near[1:]).max() == 0.0


def test_a_pool_is_cut_at_the_last_row_and_into_universes_alike() -> None:
    returns, pool = reporting(900, 4, 2.0), reporting(1100, 13, 2.0, seed=2)
    bars = read_bars(returns)
    others = like_universes(pool, bars, 0)
    assert [len(o.assets) for o in others] == [4, 4, 4]
    assert max(o.times[-1] for o in others) == bars.times[-1]
    assert len({a for o in others for a in o.assets}) == 12
    changed = pool.copy()
    changed.iloc[900:] = 0.5
    for one, two in zip(others, like_universes(changed, bars, 0)):
        np.testing.assert_array_equal(one.returns, two.returns)
    assert like_universes(pool.iloc[:300], bars, 0) == []
    filter_, universes = common_filter("har", bars, others)
    assert len(universes) == 4
    assert all(u.volatility.parameters_ is filter_.parameters_ for u in universes)


def test_a_model_learns_from_a_pool_and_is_saved_with_its_head(tmp_path: object) -> None:
    returns, pool = reporting(700, 4, 3.0), reporting(700, 9, 3.0, seed=2)
    short = replace(TRAINING, max_steps=10, epochs=1)
    model = DiffusionScenarios(pool=pool, width=16, training=short).fit(returns)
    assert model.head_ is not None
    model.save(tmp_path / "m")  # type: ignore[operator]
    again = load_model(tmp_path / "m")  # type: ignore[operator]
    one, two = (m.simulate(returns, 5, 40, random_state=3).returns for m in (model, again))
    np.testing.assert_array_equal(one, two)
    without = DiffusionScenarios(departures=False, width=16, training=short).fit(returns)
    assert without.head_ is None


def test_no_path_runs_away() -> None:
    short = replace(TRAINING, max_steps=10, epochs=1)
    model = DiffusionScenarios(width=16, training=short).fit(reporting(700, 3, 2.0))
    start = origin(model.volatility_, model.correlation_, model.history_, model.head_)
    walk, wild = _Walk.begin(start, 50), np.full((50, 30, 3), 9.0)  # thirty days of nine standard deviations
    sigma = walk.along(start, wild, np.empty(wild.shape))
    seen, _ = model.volatility_.filter(model.history_.log_returns, None)
    assert (sigma <= start.ceiling + 1e-12).all()
    assert (sigma[:, -1] == start.ceiling).all()
    assert (start.ceiling >= 1.5 * np.nanmax(seen, axis=0) * start.scale).all()


@pytest.mark.parametrize("rows", [300, 700])
def test_short_histories_do_without_departures(rows: int) -> None:
    short = replace(TRAINING, max_steps=2, epochs=1)
    model = DiffusionScenarios(width=16, training=short).fit(reporting(rows, 3, 2.0))
    assert model.head_ is None
    assert torch.isfinite(torch.from_numpy(model.simulate(horizon=3, n_scenarios=10).returns.copy())).all()
