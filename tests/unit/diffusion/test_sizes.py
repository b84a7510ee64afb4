"""Random sizes of bars, of the market's move and of single shocks: read off data, taken out, put back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from foliocast.models.diffusion.cards import sizes_from_json, sizes_to_json
from foliocast.models.diffusion.innovations import STRIDE, History
from foliocast.models.diffusion.paths import PathSampler, Window
from foliocast.models.diffusion.preconditioning import WIENER, Context, GaussianPrior, Preconditioned
from foliocast.models.diffusion.sizes import FAR, OWN, Mixture, Sizes
from foliocast.stats.correlation import matrix_power

N, ROWS = 12, 4000
CORRELATION = np.full((N, N), 0.4) + 0.6 * np.eye(N)


class Silent(torch.nn.Module):
    def forward(self, u, sigma, context):  # type: ignore[no-untyped-def]
        return torch.zeros_like(u)


def history(shocks: np.ndarray) -> History:
    """Uncorrelated shocks as a history of innovations with one correlation throughout."""
    matrices = np.repeat(CORRELATION[None], -(-len(shocks) // STRIDE), axis=0)
    return History(shocks @ matrix_power(CORRELATION, 0.5), np.zeros((len(shocks), N, 1)), matrices)


def wild(rng: np.random.Generator) -> History:
    """Bars of two sizes, own news one in fifty, crashes one in twenty-five."""
    size = np.where(rng.random((ROWS, 1)) < 0.15, 1.6, 0.85)
    y = size * 0.9 * rng.standard_normal((ROWS, N))
    move = np.where(rng.random((ROWS, 1)) < 0.04, -5.0, 0.2) + rng.standard_normal((ROWS, 1))
    move = (move - move.mean()) / move.std()
    y += (move - y.mean(axis=1, keepdims=True) * np.sqrt(N)) / np.sqrt(N)
    y += np.where(rng.random((ROWS, N)) < 0.02, 3.0, 0.0) * size * rng.standard_normal((ROWS, N))
    return history(y / y.std())


def drawn(sizes: Sizes, n: int = 1500, window: Window | None = None) -> np.ndarray:
    """Innovations of a silent network, (n * time, asset)."""
    paths = PathSampler(Preconditioned(Silent(), WIENER), sizes=sizes)
    window = Window(10) if window is None else window
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((n, window.length, N), generator=generator)
    prior = GaussianPrior.of(torch.from_numpy(CORRELATION).float())
    return paths.sampled(noise, Context(prior=prior), window, generator).numpy()


def kurtosis(values: np.ndarray) -> float:
    gap = values - values.mean(axis=0)
    return float(((gap**4).mean(axis=0) / (gap**2).mean(axis=0) ** 2).mean() - 3.0)


def skewness(values: np.ndarray) -> float:
    return float(((values - values.mean()) ** 3).mean() / values.std() ** 3)


@pytest.fixture(scope="module")
def data() -> History:
    return wild(np.random.default_rng(1))


@pytest.fixture(scope="module")
def sizes(data: History) -> Sizes:
    return Sizes.fit(data)


def test_what_is_drawn_has_the_law_of_the_sample(data: History, sizes: Sizes) -> None:
    found = drawn(sizes).reshape(-1, N)
    assert np.allclose(np.corrcoef(found.T), np.corrcoef(data.z.T), atol=0.08)
    assert found.std() == pytest.approx(data.z.std(), rel=0.03)
    assert kurtosis(found) == pytest.approx(kurtosis(data.z), rel=0.5)  # a few entries make it
    assert np.allclose(np.quantile(found, [0.001, 0.01, 0.99]), np.quantile(data.z, [0.001, 0.01, 0.99]), rtol=0.2)
    assert np.abs(found.mean(axis=0)).max() < 0.03


def test_the_market_leans_as_it_did(data: History, sizes: Sizes) -> None:
    real, found = skewness(data.z.mean(axis=1)), skewness(drawn(sizes, 4000).reshape(-1, N).mean(axis=1))
    assert real < -0.15
    assert found == pytest.approx(real, rel=0.4)


def test_falls_of_many_assets_at_once_are_falls_of_the_market() -> None:
    """Each is far from what the others say of it, as news is; the total leans as in the sample nevertheless."""
    rng = np.random.default_rng(4)
    hit = (rng.random((ROWS, 1)) < 0.02) & (rng.random((ROWS, N)) < 0.4)
    y = rng.standard_normal((ROWS, N)) - np.where(hit, 4.0, 0.0)
    y = (y - y.mean(axis=0)) / y.std()
    found = drawn(Sizes.fit(history(y)), 6000).reshape(-1, N) @ matrix_power(CORRELATION, -0.5)
    real, law = (skewness(v.sum(axis=1)) for v in (y, found))
    assert real < -0.7
    assert law == pytest.approx(real, rel=0.25)
    assert abs(found.mean()) < 0.01


def test_moments_of_a_mixture_are_its_integrals() -> None:
    share = np.where(np.arange(len(OWN)) > 6, 0.02, 0.0) + np.where(np.arange(len(OWN)) == 3, 0.92, 0.0)
    law = Mixture(share, np.linspace(-2.0, 3.0, len(OWN))).leant(-2.0)

    def mean(function: Callable[[float], float]) -> float:
        def weighted(y: float) -> float:
            return function(y) * float(share @ norm.pdf(y, law.lean, np.sqrt(OWN)))

        return quad(weighted, -60.0, 60.0, points=[-FAR, 0.0, FAR], limit=500)[0]

    def score(y: float) -> float:
        return float(norm.ppf(share @ norm.cdf(y, law.lean, np.sqrt(OWN))))

    def news(y: float, power: int) -> float:
        return float((score(y) + y - np.clip(y, -FAR, FAR)) ** power - score(y) ** power)

    assert mean(lambda y: y**3) == pytest.approx(-2.0, abs=1e-3)
    assert law.square() == pytest.approx(mean(lambda y: y**2), rel=1e-4)
    for power in (1, 2, 3):
        assert law.news(power) == pytest.approx(mean(partial(news, power=power)), rel=1e-3, abs=1e-4)
    places = [-8.0, -1.0, 0.3, 5.0]
    assert np.allclose(law.normal_score(torch.tensor(places)), [score(y) for y in places], atol=2e-3)


def test_news_of_one_asset_stays_its_own() -> None:
    """Rare falls of single assets: as far, as often, and neither the market's size nor its mean is moved by them."""
    rng = np.random.default_rng(5)
    falls = np.where(rng.random((ROWS, N)) < 0.01, 4.0 + rng.exponential(4.0, (ROWS, N)), 0.0)
    y = rng.standard_normal((ROWS, N)) - falls
    y = (y - y.mean(axis=0)) / y.std()
    found = drawn(Sizes.fit(history(y)), 6000).reshape(-1, N) @ matrix_power(CORRELATION, -0.5)
    for far in (5.0, 8.0):
        assert (found < -far).mean() == pytest.approx((y < -far).mean(), rel=0.25)
    assert (found > 5.0).mean() < 0.1 * (found < -5.0).mean()
    move = found.sum(axis=1) / np.sqrt(N)
    assert move.std() == pytest.approx(1.0, abs=0.04)
    assert abs(move.mean()) < 0.02


def test_what_is_left_is_gaussian(data: History, sizes: Sizes) -> None:
    left = sizes.taken_out(data, np.random.default_rng(0)).z
    assert kurtosis(data.z) > 2.0
    assert abs(kurtosis(left)) < 0.25
    assert np.allclose(np.cov(left.T), CORRELATION, atol=0.08)


def test_gaussian_data_stay_gaussian() -> None:
    plain = history(np.random.default_rng(2).standard_normal((ROWS, N)))
    found = drawn(Sizes.fit(plain)).reshape(-1, N)
    assert abs(kurtosis(found)) < 0.35
    assert found.std() == pytest.approx(1.0, abs=0.03)


def test_a_wild_known_move_loosens_the_others_and_is_met(sizes: Sizes) -> None:
    known = torch.zeros(10, N, dtype=torch.bool)
    known[0, :3] = True
    spread = []
    for value in (0.3, 5.0):
        values = torch.where(known, torch.full((1, 10, N), value), torch.zeros(1, 10, N))
        found = drawn(sizes, window=Window(10, known=known, values=values))
        assert np.allclose(found[:, 0, :3], value, atol=1e-4)
        spread.append(found[:, 0, 3:].std(axis=0).mean())
        expected = value * np.linalg.solve(CORRELATION[:3, :3], CORRELATION[:3, 3:]).sum(axis=0)
        assert np.allclose(found[:, 0, 3:].mean(axis=0), expected, atol=0.15)
    assert spread[1] > 1.15 * spread[0]


def test_the_law_survives_json(sizes: Sizes) -> None:
    twin = sizes_from_json(sizes_to_json(sizes))
    assert np.array_equal(drawn(twin, 20), drawn(sizes, 20))
