"""Simulated paths take their volatility from the filter, pooled and with ranges where there are any."""

from __future__ import annotations

import numpy as np
import pytest

from foliocast.core.panel import PRICE_FIELDS, Panel
from foliocast.models.linear import LinearForecaster
from foliocast.models.naive import NaiveForecaster
from foliocast.models.paths import Shocks
from foliocast.scenarios.fhs import FilteredHistoricalSimulation
from foliocast.stats.variances import bar_variance
from foliocast.stats.volatility import VolatilityFilter
from markets import make_panel

N = 700


@pytest.fixture(scope="module")
def market() -> Panel:
    return make_panel(N, 4, seed=3)


@pytest.mark.parametrize("kind", ["blend", "har", "gjr"])
def test_the_first_bar_has_the_filtered_volatility(market: Panel, kind: str) -> None:
    model = NaiveForecaster(n_paths=20_000, volatility=kind).fit(market)
    samples = np.log1p(model.forecast(market.asof(market.times[-1]), 1).samples[:, 0])
    x = np.diff(np.log(market.array("close")), axis=0)
    prices = {name: market.array(name)[1:] for name in PRICE_FIELDS} | {"previous": market.array("close")[:-1]}
    ranges = bar_variance(prices)
    fitted = VolatilityFilter(kind).fit(x, ranges)
    z = x / fitted.scale(x, ranges)
    expected = fitted.next_scale(x, ranges) * np.nanstd(z, axis=0)
    np.testing.assert_allclose(samples.std(axis=0), expected, rtol=0.03)


def test_ranges_are_used_where_there_are_any(market: Panel) -> None:
    closes = Panel({"close": market.array("close")}, market.times, market.assets)
    wide, plain = (NaiveForecaster(n_paths=4000).fit(p).forecast(p.asof(p.times[-1])) for p in (market, closes))
    assert not np.allclose(wide.samples.std(axis=0), plain.samples.std(axis=0), rtol=0.01)
    assert np.isnan(Shocks.from_history(closes, "blend").record.ranges).all()


def test_some_assets_of_a_pool_are_forecast_as_they_are_with_all(market: Panel) -> None:
    """The market's state is then theirs alone, which moves a volatility a little; the parameters are the pool's."""
    model = NaiveForecaster(n_paths=4000).fit(market)
    both = model.forecast(market.asof(market.times[-1]), 2).samples.std(axis=0)
    alone = model.forecast(market.select(["A2"]).asof(market.times[-1]), 2).samples.std(axis=0)
    np.testing.assert_allclose(alone[:, 0], both[:, 2], rtol=0.35)


def test_an_asset_with_gaps_keeps_a_filter_of_its_own(market: Panel) -> None:
    fields = {name: market.array(name).copy() for name in market.fields}
    for values in fields.values():
        values[:100, 1] = np.nan
        values[400, 2] = np.nan
    ragged = Panel(fields, market.times, market.assets)
    shocks = Shocks.from_history(ragged, "blend")
    assert [group.assets for group in shocks.groups] == [("A0", "A3"), ("A1",), ("A2",)]
    assert [group.filter.kind for group in shocks.groups] == ["blend", "gjr", "gjr"]
    assert np.isfinite(shocks.bank[0]).all()
    forecast = LinearForecaster(n_paths=200).fit(ragged).forecast(ragged.asof(ragged.times[-1]), 3)
    assert np.isfinite(forecast.samples).all()


def test_it_spreads_like_filtered_historical_simulation(market: Panel) -> None:
    """The same law but for the drift: quantiles over five bars agree."""
    closes = Panel({"close": market.array("close")}, market.times, market.assets)
    ours = NaiveForecaster("mean", n_paths=6000, volatility="gjr").fit(closes)
    fhs = FilteredHistoricalSimulation("gjr", drift="zero", random_state=0).fit(closes.returns())
    believed = ours.forecast(closes.asof(closes.times[-1]), 5).quantile([0.1, 0.9], cumulative=True)[:, -1]
    scenarios = fhs.simulate(closes.returns(), horizon=5, n_scenarios=6000, random_state=1).cumulative()
    gap = believed[1] - believed[0]
    np.testing.assert_allclose(gap, np.diff(np.quantile(scenarios, [0.1, 0.9], axis=0), axis=0)[0], rtol=0.05)


def test_a_quote_that_stood_still_does_not_explode_the_paths(market: Panel) -> None:
    """After weeks of one price the filter knows no volatility; the first move is no shock to draw again."""
    close = market.array("close").copy()
    close[:80, 0] = close[80, 0] / 3.0
    stuck = Panel({"close": close}, market.times, market.assets)
    model = NaiveForecaster(n_paths=2000).fit(stuck)
    assert np.abs(Shocks.from_history(stuck, "blend").bank[0]).max() < 26
    spread = model.forecast(stuck.asof(stuck.times[-1]), 5).samples.std(axis=0)
    usual = NaiveForecaster(n_paths=2000).fit(stuck.rows(100, N)).forecast(stuck.asof(stuck.times[-1]), 5)
    assert (spread[:, 0] < 3 * usual.samples.std(axis=0)[:, 0]).all()


def test_means_are_shrunk_by_as_much_as_the_years_cannot_tell(market: Panel) -> None:
    """Between assets that differ by luck alone nothing is left; what differs clearly stays apart."""
    many = make_panel(N, 20, seed=3)
    shrunk, own = (NaiveForecaster(kind).fit(many).mean_ for kind in ("shrunk", "mean"))
    assert np.ptp(shrunk) < 0.6 * np.ptp(own)
    close = market.array("close") * np.exp(0.02 * np.outer(np.arange(N), [-1.0, 0.0, 0.0, 1.0]))
    close[:50, 1] = np.nan
    apart = NaiveForecaster("shrunk").fit(Panel({"close": close}, market.times, market.assets)).mean_
    assert apart[3] - apart[0] > 0.03


@pytest.fixture(scope="module")
def noisy() -> Panel:
    """A long market whose loud days say nothing to a GARCH: every 63rd bar of each asset is five times as wide."""
    panel = make_panel(1500, 8, seed=4)
    x = np.random.default_rng(5).normal(0.0, 0.01, (1499, 8))
    for column in range(x.shape[1]):
        x[5 * column + 4 :: 63, column] *= 5.0
    close = 50.0 * np.exp(np.vstack([np.zeros((1, x.shape[1])), np.cumsum(x, axis=0)]))
    return Panel({"close": close}, panel.times, panel.assets)


@pytest.fixture(scope="module")
def departing(noisy: Panel) -> NaiveForecaster:
    return NaiveForecaster("shrunk", n_paths=4000, volatility="departures").fit(noisy.rows(0, 1300))


END = 5 + 63 * 22  # the wide bars of the first asset fall on rows 5 + 63 k


def test_departures_widen_the_bar_that_a_season_announces(noisy: Panel, departing: NaiveForecaster) -> None:
    """From the evening before, the first bar is wide and the next are not; a plain blend knows nothing of it."""
    view = noisy.rows(0, END).asof(noisy.times[END - 1])
    plain = NaiveForecaster("shrunk", n_paths=4000).fit(noisy.rows(0, 1300))
    wide, usual = (model.forecast(view, 3).samples.std(axis=0)[:, 0] for model in (departing, plain))
    ratio = wide / usual
    assert ratio[0] > 1.15 * max(ratio[1], ratio[2])


def test_departures_know_nothing_of_later_bars(noisy: Panel, departing: NaiveForecaster) -> None:
    close = noisy.array("close").copy()
    close[1300:] *= np.linspace(1.0, 9.0, len(close) - 1300)[:, None]
    other = Panel({"close": close}, noisy.times, noisy.assets)
    again = NaiveForecaster("shrunk", n_paths=4000, volatility="departures").fit(other.rows(0, 1300))
    now = noisy.times[1299]
    np.testing.assert_array_equal(
        departing.forecast(noisy.asof(now), 3).samples, again.forecast(other.asof(now), 3).samples
    )


def test_departures_need_years(market: Panel) -> None:
    short, plain = (NaiveForecaster(volatility=kind).fit(market) for kind in ("departures", "blend"))
    view = market.asof(market.times[-1])
    np.testing.assert_array_equal(short.forecast(view, 3).samples, plain.forecast(view, 3).samples)
    assert short.shocks_.groups[0].head is None


def test_what_is_saved_of_the_past_comes_back_and_older_models_lack_some_of_it(market: Panel) -> None:
    shocks = Shocks.from_history(market, "departures")
    tables = shocks.tables()
    again = Shocks.from_tables(market.assets, tables, "departures")
    assert all(np.array_equal(again.tables()[name], values, equal_nan=True) for name, values in tables.items())
    older = Shocks.from_tables(market.assets, {k: tables[k] for k in ("returns", "volume", "ranges")}, "blend")
    assert np.isnan(older.record.gaps).all()
    np.testing.assert_array_equal(older.bank[0], Shocks.from_history(market, "blend").bank[0])
