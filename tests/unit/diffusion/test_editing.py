"""Editing against closed forms: with the exact denoiser of a Gaussian the law of an edit is known."""

from __future__ import annotations

import math

import pytest
import torch

from foliocast.core.errors import ConfigError
from foliocast.models.diffusion.dit import DiT
from foliocast.models.diffusion.editing import SIGMA_MAX, RowNetwork, edit, edit_sigmas, level_of
from foliocast.models.diffusion.guidance import ClassifierFree
from foliocast.models.diffusion.preconditioning import Context, GaussianPrior, gaussian_denoiser
from foliocast.models.diffusion.process import cosine_alpha_bar, sigma_of
from foliocast.models.diffusion.samplers import SAMPLERS, ddpm, dpm_solver

N = 3
COVARIANCE = torch.tensor([[1.0, 0.7, -0.2], [0.7, 2.0, 0.1], [-0.2, 0.1, 0.5]], dtype=torch.float64)
MEAN = torch.tensor([0.4, -1.0, 0.0], dtype=torch.float64).reshape(1, 1, N)
PRIOR = GaussianPrior.of(COVARIANCE, MEAN)
CONTEXT = Context(prior=PRIOR)


def draws(n: int = 60_000, seed: int = 0) -> tuple[torch.Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    return PRIOR.start(torch.randn(n, 1, N, generator=generator, dtype=torch.float64), 0.0), generator


def wiener_matrix(strength: float) -> tuple[torch.Tensor, float]:
    s2 = math.tan(strength * math.pi / 2) ** 2
    return COVARIANCE @ torch.linalg.inv(COVARIANCE + s2 * torch.eye(N, dtype=torch.float64)), s2


@pytest.mark.parametrize("steps", [1, 4, 9])
@pytest.mark.parametrize("strength", [0.15, 0.5, 0.8])
def test_a_posterior_edit_has_the_closed_form_law(strength: float, steps: int) -> None:
    x, generator = draws()
    edited = edit(gaussian_denoiser, x, strength, CONTEXT, ddpm, steps, generator)[:, 0]
    w, s2 = wiener_matrix(strength)
    centred, moved = x[:, 0] - MEAN[0], edited - edited.mean(0)
    assert torch.allclose(edited.mean(0), MEAN[0, 0], atol=0.03)
    assert torch.allclose(moved.T @ moved / len(x), COVARIANCE, atol=0.05)
    assert torch.allclose(moved.T @ centred / len(x), w @ COVARIANCE, atol=0.05)
    left = moved - centred @ w.T
    assert torch.allclose(left.T @ left / len(x), w @ w.T * s2 + s2 * w, atol=0.05)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_keeps_the_law_of_the_data(name: str) -> None:
    x, generator = draws()
    edited = edit(gaussian_denoiser, x, 0.4, CONTEXT, SAMPLERS[name], 3, generator)[:, 0]
    assert torch.allclose(torch.cov(edited.T), COVARIANCE, atol=0.05)
    assert torch.allclose(edited.mean(0), MEAN[0, 0], atol=0.03)


def test_the_flow_keeps_more_of_the_sample_than_the_posterior() -> None:
    """Deterministic: x' = m + (C (C + s^2)^-1)^(1/2) (x_s - m), a correlation of sqrt(W) where ancestral keeps W."""
    x, generator = draws()
    edited = edit(gaussian_denoiser, x, 0.5, CONTEXT, dpm_solver, 4, generator)[:, 0] - MEAN[0]
    values, vectors = torch.linalg.eigh(wiener_matrix(0.5)[0])
    root = vectors @ torch.diag(values.sqrt()) @ vectors.T
    assert torch.allclose(edited.T @ (x[:, 0] - MEAN[0]) / len(x), root @ COVARIANCE, atol=0.05)


@pytest.mark.parametrize("name", SAMPLERS)
def test_nothing_is_edited_at_zero_and_nothing_is_kept_at_one(name: str) -> None:
    x, generator = draws(20_000)
    same = edit(gaussian_denoiser, x, 0.0, CONTEXT, SAMPLERS[name], 4, generator)
    assert torch.equal(same, x)
    assert same is not x
    new = edit(gaussian_denoiser, x, 1.0, CONTEXT, SAMPLERS[name], 4, generator)
    for i in range(N):
        assert abs(torch.corrcoef(torch.stack([new[:, 0, i], x[:, 0, i]]))[0, 1].item()) < 0.03


def test_strength_is_a_share_of_the_cosine_schedule() -> None:
    whole = sigma_of(cosine_alpha_bar(1000, offset=0.0))
    for share in (0.1, 0.35, 0.9):
        assert level_of(share) == pytest.approx(whole[int(share * 1000) - 1].item(), rel=1e-3)
    assert level_of(0.0) == 0.0
    assert level_of(1.0) == SIGMA_MAX


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_steps_are_even_in_the_angle_and_end_in_zero(steps: int) -> None:
    sigmas = edit_sigmas(0.35, steps)
    assert len(sigmas) == steps + 1
    angles = torch.atan(sigmas)
    assert torch.allclose(-angles.diff(), torch.full((steps,), 0.35 * math.pi / 2 / steps, dtype=torch.float64))
    assert sigmas[-1] == 0


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_wrong_requests_are_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match="0 \\(nothing is edited\\) to 1"):
        level_of(strength)
    with pytest.raises(ConfigError, match="at least one denoising step"):
        edit_sigmas(0.3, 0)


def test_guidance_scales_the_shift_between_two_means() -> None:
    """Two classes that differ in mean: the guided edit's fixed point is free + scale * (conditional - free)."""
    shifted = Context(state=torch.zeros(1), prior=GaussianPrior.of(COVARIANCE, MEAN + 1.0))
    x, _ = draws(5)
    for scale in (0.0, 1.0, 2.5):
        guided = ClassifierFree(gaussian_denoiser, scale, CONTEXT)(x, 1e6, shifted)
        assert torch.allclose(guided, (MEAN + scale).expand_as(guided), atol=1e-4)


@torch.no_grad()
def test_a_row_network_sees_the_window_and_which_factor_is_which() -> None:
    torch.manual_seed(0)
    dit = DiT(16, 1, 2, patch=4, n_state=2)
    for p in dit.parameters():
        if p.abs().sum() == 0:
            torch.nn.init.normal_(p, std=0.3)
    net = RowNetwork(dit, 4)
    u = torch.randn(5, 1, 8)
    state = torch.eye(2).expand(5, 2, 2)
    out = net(u, torch.tensor(0.7), Context(state=state))
    assert out.shape == u.shape
    assert torch.equal(out.reshape(5, 4, 2), dit(u.reshape(5, 4, 2), torch.tensor(0.7), Context(state=state)))
    swapped = net(u, torch.tensor(0.7), Context(state=state.flip(1)))
    assert (swapped - out).abs().max() > 1e-3
    assert (net(u, torch.tensor(0.9), Context(state=state)) - out).abs().max() > 1e-4
