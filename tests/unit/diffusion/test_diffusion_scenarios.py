"""The estimator: law on a market whose truth is known, conditions, seeds, skfolio."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from foliocast.core.errors import ConfigError
from foliocast.core.protocols import ScenarioModel
from foliocast.core.scenario_base import read_bars
from foliocast.models.checkpoint import load_model
from foliocast.models.diffusion.fitting import DiffusionLoss, WindowSamples, earned_shrinkage
from foliocast.models.diffusion.generator import TRAINING, DiffusionScenarios, build_network, fit_denoiser
from foliocast.models.diffusion.innovations import FARTHEST, RECENT, origin, state_now, study
from foliocast.models.diffusion.paths import PathSampler, Window
from foliocast.models.diffusion.preconditioning import WIENER, Context, GaussianPrior, Preconditioned
from foliocast.models.training import Ema, TrainingSpec, train
from foliocast.stats.correlation import CorrelationFilter
from foliocast.stats.volatility import VolatilityFilter

SHORT = dataclasses.replace(TRAINING, max_steps=60, epochs=8)
RHO = 0.6


@pytest.fixture(scope="module")
def returns() -> pd.DataFrame:
    """Three stocks: Student-t shocks, clustered volatility, the first two correlated."""
    rng = np.random.default_rng(0)
    n, shocks = 1200, np.empty((1200, 3))
    mix = np.linalg.cholesky(np.array([[1, RHO, 0.2], [RHO, 1, 0.2], [0.2, 0.2, 1]]))
    shocks = (rng.standard_t(4, (n, 3)) / np.sqrt(2)) @ mix.T
    variance, out = np.full(3, 1e-4), np.empty((n, 3))
    for t in range(n):
        out[t] = np.sqrt(variance) * shocks[t]
        variance = 3e-6 + 0.07 * out[t] ** 2 + 0.9 * variance
    return pd.DataFrame(np.expm1(out), pd.bdate_range("2015-01-01", periods=n), list("ABC"))


@pytest.fixture(scope="module", params=["dit", "unet"])
def model(request: pytest.FixtureRequest, returns: pd.DataFrame) -> DiffusionScenarios:
    return DiffusionScenarios(request.param, width=16, volatility="gjr", training=SHORT).fit(returns)


def test_is_a_scenario_model_and_a_clean_estimator(model: DiffusionScenarios) -> None:
    assert isinstance(model, ScenarioModel)
    twin = clone(model)
    assert twin.get_params()["width"] == 16
    assert not hasattr(twin, "denoiser_")


def test_shape_identity_and_knowledge(model: DiffusionScenarios, returns: pd.DataFrame) -> None:
    s = model.simulate(returns, horizon=23, n_scenarios=50, random_state=1)
    assert s.returns.shape == (50, 23, 3)
    assert s.assets == ("A", "B", "C")
    assert s.as_of == returns.index[-1] == s.knowledge_until
    assert model.sample(7).shape == (7, 3)


def test_law_of_the_next_bar(model: DiffusionScenarios, returns: pd.DataFrame) -> None:
    s = model.simulate(returns, 1, 6000, random_state=1).returns[:, 0]
    sigma = model.volatility_.next_scale(np.log1p(returns.to_numpy()))
    assert np.allclose(s.std(axis=0) / sigma, 1.0, atol=0.25)
    assert np.corrcoef(s.T)[0, 1] == pytest.approx(RHO, abs=0.12)
    assert np.abs(s.mean(axis=0) / sigma).max() < 0.08
    z = s / s.std(axis=0)
    assert (z**4).mean() > 3.3  # heavier than Gaussian, as the market is
    assert np.abs(z).max() > 4.0  # and not clipped


def test_volatility_of_the_paths_answers_to_the_state(model: DiffusionScenarios, returns: pd.DataFrame) -> None:
    wild = returns.copy()
    wild.iloc[-10:] *= 4.0
    calm = model.simulate(returns, 10, 500, random_state=1).returns.std()
    assert model.simulate(wild, 10, 500, random_state=1).returns.std() > 1.5 * calm


@pytest.mark.parametrize("jobs", [1, 2])
def test_same_seed_same_bits_whatever_the_threads(model: DiffusionScenarios, returns: pd.DataFrame, jobs: int) -> None:
    other = clone(model).set_params(n_jobs=jobs)
    other.__dict__.update({k: v for k, v in model.__dict__.items() if k.endswith("_")})
    base = model.simulate(returns, 5, 3500, random_state=3).returns
    assert np.array_equal(other.simulate(returns, 5, 3500, random_state=3).returns, base)
    assert not np.array_equal(other.simulate(returns, 5, 3500, random_state=4).returns, base)


def test_fitting_twice_gives_the_same_model(returns: pd.DataFrame) -> None:
    spec = dataclasses.replace(SHORT, max_steps=5)
    one, two = (DiffusionScenarios(width=16, training=spec, random_state=7).fit(returns) for _ in range(2))
    for a, b in zip(one.denoiser_.parameters(), two.denoiser_.parameters()):
        assert torch.equal(a, b)


def test_a_total_is_met_and_the_others_respond(model: DiffusionScenarios, returns: pd.DataFrame) -> None:
    free = model.simulate(returns, 10, 3000, random_state=1).cumulative()
    s = model.simulate(returns, 10, 3000, given={"A": -0.12}, random_state=1)
    total = s.cumulative()
    assert np.abs(total[:, 0] + 0.12).max() < 1e-9
    expected = np.cov(free.T)[0, 1] / free[:, 0].var() * -0.12
    assert total[:, 1].mean() == pytest.approx(expected, rel=0.35)
    assert s.returns[:, :, 0].std() > 0.003  # paths differ though their ends agree
    one = model.simulate(returns, 10, 1, given={"A": -0.12, "C": 0.05}, random_state=1).cumulative()
    assert np.allclose(one[0, [0, 2]], [-0.12, 0.05])


def test_a_path_is_met_and_the_slope_is_that_of_the_correlation(
    model: DiffusionScenarios, returns: pd.DataFrame
) -> None:
    start = origin(model.volatility_, model.correlation_, model.history_)
    sigma = start.volatility.sigma(start.state) * start.scale
    means = []
    for shock in (-1.5, 1.5):
        s = model.simulate(returns, 1, 3000, given={"A": float(np.expm1(shock * sigma[0]))}, random_state=1)
        means.append(np.log1p(s.returns[:, 0, 1]).mean() / sigma[1])
    slope = (means[1] - means[0]) / 3.0
    assert slope == pytest.approx(start.correlation[0, 1], abs=0.08)


def test_points_paths_and_totals_together(model: DiffusionScenarios, returns: pd.DataFrame) -> None:
    path = np.full(6, np.nan)
    path[2] = 0.03
    s = model.simulate(returns, 6, 200, given={"A": path, "B": 0.05, "C": np.full(6, 0.001)}, random_state=1)
    assert np.array_equal(s.returns[:, 2, 0], np.full(200, 0.03))
    assert np.abs(s.cumulative()[:, 1] - 0.05).max() < 1e-9
    assert np.allclose(s.returns[:, :, 2], 0.001)


def test_a_path_longer_than_a_window_is_drawn_window_by_window(
    model: DiffusionScenarios, returns: pd.DataFrame
) -> None:
    rng = np.random.default_rng(3)
    path = 0.01 * rng.normal(size=45)
    drawn = model.simulate(returns, 45, 300, given={"A": path}, random_state=1)
    assert np.array_equal(drawn.returns[:, :, 0], np.tile(path, (300, 1)))
    first = model.simulate(returns, 20, 300, given={"A": path[:20]}, random_state=1)
    assert np.array_equal(drawn.returns[:, :20], first.returns)
    follow = np.array(
        [np.corrcoef(path[k : k + 15], drawn.returns[:, k : k + 15, 1].mean(axis=0))[0, 1] for k in (0, 15, 30)]
    )
    assert follow.min() > 0.8


def test_the_level_scales_what_is_drawn_around_the_conditional_mean(
    model: DiffusionScenarios, returns: pd.DataFrame
) -> None:
    halved = copy.copy(model)
    halved.level_ = model.level_ / 2
    for given in ({"A": 0.03}, {"A": -0.1}):
        horizon = 1 if given["A"] > 0 else 4
        whole, half = (
            np.log1p(m.simulate(returns, horizon, 2000, given=given, random_state=1).returns[:, 0, 1])
            for m in (model, halved)
        )
        assert half.std() == pytest.approx(whole.std() / 2, rel=0.05)
        assert half.mean() == pytest.approx(whole.mean(), abs=0.1 * whole.std())


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_the_mean_of_the_sample_is_not_drawn(guidance: float, returns: pd.DataFrame) -> None:
    """A market that rose for the whole sample is not foretold to rise: paths drift by what is earned, no more."""
    rising = np.expm1(np.log1p(returns) + 0.15 * np.log1p(returns).std())
    spec = dataclasses.replace(SHORT, max_steps=400)
    model = DiffusionScenarios(width=16, volatility="gjr", guidance=guidance, training=spec).fit(rising)
    history = read_bars(rising)
    start = origin(model.volatility_, model.correlation_, history)
    drawn = np.log1p(model.simulate(rising, 10, 6000, random_state=1).returns)
    deviation = drawn.sum(axis=1).std(axis=0)
    assert np.abs((drawn.sum(axis=1).mean(axis=0) - 10 * start.drift) / deviation).max() < 0.1


class Lopsided(torch.nn.Module):
    """A network that has learnt that everything rises."""

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, context: Context) -> torch.Tensor:
        return torch.full_like(x, 0.3)


def test_a_mirrored_sampler_has_no_mean_and_meets_what_is_given() -> None:
    paths = PathSampler(Preconditioned(Lopsided(), WIENER))
    noise = torch.randn(6000, 10, 3, generator=torch.Generator().manual_seed(0))
    context = Context(prior=GaussianPrior.of(torch.eye(3)))
    known = torch.zeros(10, 3, dtype=torch.bool)
    known[4, 0] = True
    given = Window(10, known, 1.5 * known[None])

    def drawn(paths: PathSampler, window: Window) -> torch.Tensor:
        return paths.sampled(noise, context, window, torch.Generator().manual_seed(1))

    mirrored = dataclasses.replace(paths, mirrored=True)
    assert float(drawn(paths, Window(10)).mean((0, 1)).min()) > 0.2
    assert float(drawn(mirrored, Window(10)).mean((0, 1)).abs().max()) < 0.03
    assert torch.equal(drawn(mirrored, given)[:, 4, 0], torch.full((6000,), 1.5))


def test_guidance_and_samplers_run(model: DiffusionScenarios, returns: pd.DataFrame) -> None:
    for changes in ({"guidance": 1.5}, {"sampler": "ddpm", "steps": 3}, {"sampler": "heun"}, {"steps": 1}):
        other = clone(model).set_params(**changes)
        other.__dict__.update({k: v for k, v in model.__dict__.items() if k.endswith("_")})
        assert np.isfinite(other.simulate(returns, 3, 20).returns).all()


def test_states_and_windows_are_causal(returns: pd.DataFrame) -> None:
    """Rewriting the future of a history changes nothing that is known before (the filters' parameters held fixed)."""
    bars = read_bars(returns)
    volatility = VolatilityFilter("gjr").fit(bars.log_returns)
    correlation = CorrelationFilter(100.0, 0.3).fit(np.random.default_rng(0).normal(size=(500, 3)))
    changed = returns.copy()
    changed.iloc[901:] *= -2.0
    one, two = (study(volatility, correlation, read_bars(x)) for x in (returns, changed))
    ratio = one.z[:900] / two.z[:900]  # the assets' own scale, one number each, is the whole sample's
    inside = np.abs(one.z[:900]).max(axis=1) < FARTHEST
    assert np.allclose(ratio[inside], ratio[inside][0])
    level = slice(0, 2)
    assert np.array_equal(one.state[:901, :, level], two.state[:901, :, level])


def test_the_state_now_is_the_state_of_the_history(returns: pd.DataFrame) -> None:
    bars = read_bars(returns)
    volatility = VolatilityFilter("gjr").fit(bars.log_returns)
    correlation = CorrelationFilter(100.0, 0.3).fit(np.random.default_rng(0).normal(size=(500, 3)))
    cut = 25 * 21  # a bar at which the correlation of the windows is renewed
    start = origin(volatility, correlation, bars.tail(len(bars)).select(np.arange(3)))
    whole = study(volatility, correlation, bars)
    assert len(whole.z) > cut
    sigma = volatility.sigma(start.state)[None]
    now = state_now(start, sigma, start.recent[None])[0]
    longer = study(
        volatility, correlation, read_bars(pd.concat([returns, returns.tail(1).set_axis([pd.Timestamp("2030-01-01")])]))
    )
    keep = [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert np.allclose(now[:, keep], longer.state[-1][:, keep], atol=2e-2)
    assert len(start.recent) == RECENT


def test_a_network_that_learnt_noise_earns_nothing(returns: pd.DataFrame) -> None:
    bars = read_bars(returns)
    volatility = VolatilityFilter("gjr").fit(bars.log_returns)
    history = study(volatility, CorrelationFilter(100.0, 0.3).fit(np.eye(3).repeat(50, 0)), bars)
    samples = WindowSamples.of(history, 20, RECENT, 400)

    class Noise(torch.nn.Module):
        def forward(self, u, sigma, context):  # type: ignore[no-untyped-def]
            return torch.randn(u.shape, generator=torch.Generator().manual_seed(1))

    share, gain = earned_shrinkage(Preconditioned(Noise()), samples)
    assert share < 0.05
    assert gain < 0.002


@pytest.mark.parametrize("decay", [0.999])
def test_a_short_run_does_not_serve_initial_weights(decay: float) -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 100.0)
    ema = Ema(layer, decay)
    torch.nn.init.constant_(layer.weight, 1.0)
    for _ in range(450):
        ema.update(layer)
    assert abs(ema.shadow["weight"].item() - 1.0) < 0.01


@pytest.mark.parametrize("kind", ["dit", "unet"])
def test_training_lowers_the_loss_below_the_silent_network(kind: str, returns: pd.DataFrame) -> None:
    """On innovations as heavy-tailed as they are: sizes taken out, nothing is left to learn."""
    bars = read_bars(returns)
    volatility = VolatilityFilter("gjr").fit(bars.log_returns)
    history = study(volatility, CorrelationFilter(100.0, 0.3).fit(np.eye(3).repeat(50, 0)), bars)
    denoiser = Preconditioned(build_network(kind, 3, 16, 1, 0), WIENER)
    result, gain = fit_denoiser(denoiser, history, 20, SHORT)
    assert denoiser.shrinkage > 0.2
    assert gain > 0.0
    assert result.steps <= 60


def test_loss_ignores_what_is_given(returns: pd.DataFrame) -> None:
    bars = read_bars(returns)
    volatility = VolatilityFilter("gjr").fit(bars.log_returns)
    history = study(volatility, CorrelationFilter(100.0, 0.3).fit(np.eye(3).repeat(50, 0)), bars)
    samples = WindowSamples.of(history, 20, RECENT, 200)
    masked = DiffusionLoss(mask_rate=1.0, patch=10)

    class Zero(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Parameter(torch.zeros(1))

        def forward(self, u, sigma, context):  # type: ignore[no-untyped-def]
            assert context.known is not None
            return torch.zeros_like(u) + self.one + 100.0 * context.known

    value = masked(Preconditioned(Zero()), samples.batch(torch.arange(100)), torch.Generator().manual_seed(0))
    assert 0.3 < value.item() < 3.0
    train(Preconditioned(Zero()), samples, masked, TrainingSpec(epochs=1, batch_size=64))


def test_unknown_names_are_refused(returns: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="dit or unet"):
        DiffusionScenarios("gan").fit(returns)
    with pytest.raises(ConfigError, match="not fitted"):
        DiffusionScenarios().simulate(returns)


def test_skfolio_takes_the_model_as_its_prior(returns: pd.DataFrame) -> None:
    from skfolio import RiskMeasure
    from skfolio.optimization import MeanRisk
    from skfolio.prior import SyntheticData

    model = DiffusionScenarios(width=16, volatility="ewma", training=dataclasses.replace(SHORT, max_steps=10))
    prior = SyntheticData(distribution_estimator=model, n_samples=400)
    weights = MeanRisk(risk_measure=RiskMeasure.CVAR, prior_estimator=prior).fit(returns).weights_
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= -1e-6).all()
    stress = SyntheticData(model, n_samples=300, sample_args={"conditioning": {"A": -0.1}})
    drawn = stress.fit(returns).return_distribution_.returns
    assert np.allclose(drawn[:, 0], -0.1, atol=1e-5)  # skfolio adds jitter
    assert drawn[:, 1].mean() < 2 * drawn[:, 2].mean() < 0  # tied to A by 0.6 and by 0.2
    crash = MeanRisk(risk_measure=RiskMeasure.CVAR, prior_estimator=stress).fit(returns).weights_
    assert crash[0] < 0.01 < crash[2]


def test_a_saved_model_simulates_the_same_bits(
    model: DiffusionScenarios, returns: pd.DataFrame, tmp_path: Path
) -> None:
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert isinstance(again, DiffusionScenarios)
    assert again.knowledge_until_ == model.knowledge_until_
    for history in (None, returns.tail(900)):
        ours, theirs = (m.simulate(history, 4, 30, random_state=2) for m in (model, again))
        assert np.array_equal(ours.returns, theirs.returns)
        assert ours.as_of == theirs.as_of
