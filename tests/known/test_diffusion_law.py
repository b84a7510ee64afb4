"""The law of samplers and of inpainting against closed forms, with the exact denoiser of a Gaussian."""

from __future__ import annotations

import pytest
import torch

from foliocast.core.errors import ConfigError
from foliocast.models.diffusion.guidance import ClassifierFree, Inpaint, path_total
from foliocast.models.diffusion.preconditioning import (
    EDM,
    EPSILON,
    NOTHING,
    WIENER,
    X0,
    Context,
    GaussianPrior,
    Scalar,
    V,
    gaussian_denoiser,
)
from foliocast.models.diffusion.process import (
    add_noise,
    angle_sigmas,
    cosine_alpha_bar,
    cosine_sigmas,
    karras_sigmas,
    sigma_of,
    training_sigmas,
)
from foliocast.models.diffusion.samplers import SAMPLERS, ddim, ddpm, dpm_solver, heun, resampled, sampler_named

N = 4
COVARIANCE = torch.tensor(
    [[1.0, 0.8, 0.3, 0.1], [0.8, 1.5, 0.4, 0.2], [0.3, 0.4, 0.7, -0.2], [0.1, 0.2, -0.2, 1.0]], dtype=torch.float64
)
MEAN = torch.tensor([0.5, -0.2, 0.0, 1.0], dtype=torch.float64).reshape(1, 1, N)
PRIOR = GaussianPrior.of(COVARIANCE, MEAN)
SCHEDULES = {"cosine": cosine_sigmas, "karras": karras_sigmas, "angle": angle_sigmas}


def exact(x, sigma, context):
    """The oracle, whatever the context says."""
    return PRIOR.wiener(x, sigma)


def moments(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    flat = rows.reshape(-1, N)
    return flat.mean(0), torch.cov(flat.T)


def draw(sampler, sigmas, context, n=40_000, seed=0, prior=PRIOR):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 1, N, generator=generator, dtype=torch.float64)
    return sampler(exact, prior.start(noise, float(sigmas[0])), sigmas, context, generator)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_law_is_exact_at_every_step_count(name: str, steps: int, schedule: str) -> None:
    sample = draw(SAMPLERS[name], SCHEDULES[schedule](steps), Context(prior=PRIOR))
    mean, covariance = moments(sample)
    assert torch.allclose(mean, MEAN.flatten(), atol=0.03)
    assert torch.allclose(covariance, COVARIANCE, atol=0.05)


@pytest.mark.parametrize(("sampler", "tolerance"), [(ddpm, 0.04), (ddim, 0.04), (dpm_solver, 0.03), (heun, 0.03)])
@pytest.mark.parametrize("schedule", ["cosine", "karras"])
def test_textbook_samplers_approach_the_law(sampler, tolerance: float, schedule: str) -> None:
    sample = draw(sampler, SCHEDULES[schedule](200), NOTHING)
    mean, covariance = moments(sample)
    assert torch.allclose(mean, MEAN.flatten(), atol=0.04)
    assert torch.allclose(covariance, COVARIANCE, atol=tolerance * 1.5)


def test_textbook_orders_of_convergence() -> None:
    """One deterministic map, so the error is exact: twice the steps halve it for DDIM, quarter it for the others."""
    x = torch.eye(N, dtype=torch.float64).reshape(N, 1, N) * 20
    truth = PRIOR.colour(PRIOR.whiten(x, 20.0), 0.0)

    def error(sampler, n):
        return (sampler(exact, x, karras_sigmas(n, 1e-3, 20.0), NOTHING) - truth).abs().max()

    assert 1.7 < error(ddim, 40) / error(ddim, 80) < 2.3
    assert error(dpm_solver, 40) / error(dpm_solver, 80) > 3.0
    assert error(heun, 40) / error(heun, 80) > 3.0


@pytest.mark.parametrize("steps", [10, 50])
def test_textbook_ancestral_sampling_keeps_the_variance_of_unit_data(steps: int) -> None:
    unit = GaussianPrior.of(torch.eye(N, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    start = unit.start(torch.randn(40_000, 1, N, generator=generator, dtype=torch.float64), 20.0)
    sample = ddpm(lambda x, s, c: unit.wiener(x, s), start, karras_sigmas(steps), NOTHING, generator)
    assert torch.allclose(moments(sample)[1], torch.eye(N, dtype=torch.float64), atol=0.03)


def test_respacing_spreads_steps_over_the_whole_schedule() -> None:
    whole = sigma_of(cosine_alpha_bar(1000))
    for n in (1, 10, 50, 250, 1000):
        sigmas = cosine_sigmas(n)
        assert len(sigmas) == n + 1
        assert sigmas[-1] == 0
        assert (sigmas.diff() < 0).all()
        assert torch.isclose(sigmas[0], whole[-1])
    assert torch.isclose(cosine_sigmas(50)[-2], whole[0])
    with pytest.raises(ConfigError, match="1 to 1000"):
        cosine_sigmas(2000)


def test_cosine_schedule_matches_its_formula() -> None:
    alpha_bar = cosine_alpha_bar(1000)
    middle = torch.tensor(0.508 / 1.008 * torch.pi / 2)
    first = torch.tensor(0.008 / 1.008 * torch.pi / 2)
    assert alpha_bar[499].item() == pytest.approx((middle.cos() ** 2 / first.cos() ** 2).item(), rel=1e-5)


def test_training_sigmas_cover_the_range() -> None:
    sigmas = training_sigmas(4096, torch.Generator().manual_seed(0), centre=-0.2, spread=1.3)
    assert sigmas.log().mean().item() == pytest.approx(-0.2, abs=0.02)
    assert sigmas.log().std().item() == pytest.approx(1.3, abs=0.02)


@pytest.mark.parametrize(
    "rule", [EPSILON, X0, V, EDM, WIENER, Scalar("edm", 0.5)], ids=lambda r: getattr(r, "kind", "w")
)
def test_leaving_the_target_restores_the_clean_window(rule) -> None:
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(8, 5, N, generator=generator, dtype=torch.float64)
    sigma = training_sigmas(8, generator).double()
    x = add_noise(x0, sigma, torch.randn(x0.shape, generator=generator, dtype=torch.float64))
    context = Context(prior=PRIOR)
    assert torch.allclose(rule.leave(x, rule.target(x, x0, sigma, context), sigma, context), x0, atol=1e-8)


def test_wiener_is_edm_and_minus_v_when_the_data_are_white() -> None:
    white = Context(prior=GaussianPrior.of(torch.eye(N, dtype=torch.float64)))
    x, f = torch.randn(2, 6, 3, N, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for sigma in (0.1, 1.0, 7.0):
        assert torch.allclose(WIENER.enter(x, sigma, white), EDM.enter(x, sigma, white))
        assert torch.allclose(WIENER.leave(x, f, sigma, white), EDM.leave(x, f, sigma, white))
        assert torch.allclose(WIENER.leave(x, f, sigma, white), V.leave(x, -f, sigma, white))


def test_input_and_target_have_unit_covariance_at_every_level() -> None:
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, 60_000, 1, N, generator=generator, dtype=torch.float64)
    x0 = PRIOR.start(noise[0], 0.0)
    context = Context(prior=PRIOR)
    for sigma in (0.05, 0.7, 10.0):
        x = x0 + sigma * noise[1]
        for rows in (WIENER.enter(x, sigma, context), WIENER.target(x, x0, sigma, context)):
            assert torch.allclose(moments(rows)[1], torch.eye(N, dtype=torch.float64), atol=0.03)


def closed_form(known: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    free = ~known
    slope = COVARIANCE[free][:, known] @ torch.linalg.inv(COVARIANCE[known][:, known])
    mean = MEAN.flatten()[free] + slope @ (value - MEAN.flatten()[known])
    return mean, COVARIANCE[free][:, free] - slope @ COVARIANCE[known][:, free]


@pytest.mark.parametrize("sampler", [ddpm, ddim, dpm_solver], ids=["ddpm", "ddim", "dpm"])
@pytest.mark.parametrize("steps", [1, 4, 20])
def test_inpainting_with_the_conditional_prior_has_the_closed_form_law(sampler, steps: int) -> None:
    known = torch.tensor([[True, False, False, True]])
    value = torch.tensor([1.7, -0.4], dtype=torch.float64)
    values = torch.zeros(1, 1, N, dtype=torch.float64)
    values[..., known[0]] = value
    prior = PRIOR.given(known, values)
    generator = torch.Generator().manual_seed(0)
    start = prior.start(torch.randn(40_000, 1, N, generator=generator, dtype=torch.float64), 20.0)
    sigmas = karras_sigmas(steps)
    sample = sampler(gaussian_denoiser, start, sigmas, Context(prior=prior), generator).reshape(-1, N)
    mean, covariance = closed_form(known[0], value)
    assert torch.allclose(sample[:, known[0]], value.expand(len(sample), -1), atol=1e-9)
    assert torch.allclose(sample[:, ~known[0]].mean(0), mean, atol=0.03)
    assert torch.allclose(torch.cov(sample[:, ~known[0]].T), covariance, atol=0.03)


@pytest.mark.parametrize("rounds", [1, 3])
def test_inpainting_a_denoiser_without_masks_has_slope_one(rounds: int) -> None:
    known = torch.tensor([[False, True, False, False]])
    generator = torch.Generator().manual_seed(0)
    values = torch.zeros(20_000, 1, N, dtype=torch.float64)
    values[:, 0, 1] = MEAN[0, 0, 1] + 1.5**0.5 * torch.randn(20_000, generator=generator, dtype=torch.float64)
    guided = Inpaint(exact, PRIOR, known, values)
    start = PRIOR.start(torch.randn(20_000, 1, N, generator=generator, dtype=torch.float64), 200.0)
    run = resampled(heun, rounds)
    sample = run(guided, start, karras_sigmas(40 * (4 - rounds), 0.01, 200.0), NOTHING, generator)[:, 0]
    expected = MEAN[0, 0, 0] + 0.8 / 1.5 * (values[:, 0, 1] - MEAN[0, 0, 1])
    slope = ((expected - expected.mean()) * sample[:, 0]).mean() / expected.var()
    assert slope.item() == pytest.approx(1.0, abs=0.03)
    assert (sample[:, 0] - expected).var().item() == pytest.approx(1.0 - 0.8**2 / 1.5, abs=0.04)
    assert torch.equal(sample[:, 1], values[:, 0, 1])


@pytest.mark.parametrize("steps", [1, 5])
def test_a_given_sum_over_time_has_the_closed_form_law(steps: int) -> None:
    n_time, weights = 6, torch.tensor([1.0, 1.0, 0.5, 2.0, 1.0, 1.0], dtype=torch.float64)
    assets = torch.tensor([True, False, False, False])
    total = torch.tensor([[5.0]], dtype=torch.float64)
    guided, context, back = path_total(exact, Context(prior=PRIOR), weights, assets, total)
    generator = torch.Generator().manual_seed(0)
    start = context.prior.start(torch.randn(30_000, n_time, N, generator=generator, dtype=torch.float64), 20.0)
    sample = back(dpm_solver(guided, start, karras_sigmas(steps), context, generator))
    sums = (sample * weights[:, None]).sum(1)
    assert torch.allclose(sums[:, 0], total.expand(len(sums), 1)[:, 0], atol=1e-9)
    response = (MEAN.flatten() * weights.sum())[1] + 0.8 * (5.0 - 0.5 * weights.sum())
    assert sums[:, 1].mean().item() == pytest.approx(response.item(), abs=0.05)
    assert sums[:, 1].var().item() == pytest.approx(((1.5 - 0.8**2) * (weights**2).sum()).item(), rel=0.04)
    assert torch.cov(sample[:, 0].T)[2, 2].item() == pytest.approx(0.7 - 0.3**2 / (weights**2).sum().item(), rel=0.04)


def test_guidance_moves_from_the_free_to_the_conditional_denoiser() -> None:
    def denoiser(x, sigma, context):
        return x if context.state is None else x + context.state.mean()

    x, context = torch.zeros(1, 2, 3), Context(state=torch.full((1, 3, 1), 2.0))
    for scale in (0.0, 1.0, 2.5):
        assert ClassifierFree(denoiser, scale)(x, 1.0, context).unique().item() == pytest.approx(2.0 * scale)


def test_names_of_samplers() -> None:
    assert sampler_named("dpm") is dpm_solver
    with pytest.raises(ConfigError, match="one of ddpm"):
        sampler_named("euler")
    with pytest.raises(ConfigError, match="at least 1"):
        resampled(ddim, 0)
