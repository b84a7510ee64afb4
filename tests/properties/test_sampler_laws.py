"""Whatever the covariance, the schedule and the number of steps: samplers and edits are exact for Gaussian data."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foliocast.models.diffusion.editing import edit, level_of
from foliocast.models.diffusion.preconditioning import Context, GaussianPrior, gaussian_denoiser
from foliocast.models.diffusion.process import angle_sigmas, cosine_sigmas, karras_sigmas
from foliocast.models.diffusion.samplers import SAMPLERS, ddpm

FLOWS = ("ddim", "dpm", "heun")
SCHEDULES = (cosine_sigmas, karras_sigmas, angle_sigmas)


@st.composite
def priors(draw: st.DrawFn) -> GaussianPrior:
    """Covariances from nearly singular to wide, any number of assets."""
    n = draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    root = torch.randn(n, n, generator=generator, dtype=torch.float64) * 10 ** draw(st.floats(-1, 1))
    mean = torch.randn(1, 1, n, generator=generator, dtype=torch.float64)
    return GaussianPrior.of(root @ root.T + 1e-3 * torch.eye(n, dtype=torch.float64), mean)


def noisy(prior: GaussianPrior, sigma: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(4, 3, prior.values.shape[-1], generator=generator, dtype=torch.float64)
    return prior.start(noise, sigma)


@settings(max_examples=40, deadline=None)
@given(priors(), st.sampled_from(FLOWS), st.sampled_from(SCHEDULES), st.integers(1, 12), st.integers(0, 99))
def test_a_flow_maps_every_draw_to_its_own_quantile(prior, name, schedule, steps, seed) -> None:
    """Not the moments alone: each draw lands where the flow of the Gaussian carries it, at any number of steps."""
    sigmas = schedule(steps)
    x = noisy(prior, float(sigmas[0]), seed)
    got = SAMPLERS[name](gaussian_denoiser, x, sigmas, Context(prior=prior))
    expected = prior.colour(prior.whiten(x, float(sigmas[0])), 0.0)
    assert torch.allclose(got, expected, atol=1e-6 * float(expected.abs().max()) + 1e-9)


@settings(max_examples=25, deadline=None)
@given(priors(), st.sampled_from(SCHEDULES), st.integers(1, 12), st.integers(0, 99))
def test_ancestral_steps_are_linear_with_the_right_gain(prior, schedule, steps, seed) -> None:
    """Two starts under the same noise: their difference shrinks by exactly W = C (C + s^2)^-1."""
    sigmas = schedule(steps)
    top = float(sigmas[0])
    x = noisy(prior, top, seed)
    y = x + 1.0

    def run(start: torch.Tensor) -> torch.Tensor:
        return ddpm(gaussian_denoiser, start, sigmas, Context(prior=prior), torch.Generator().manual_seed(seed))

    gain = prior.along(y - x, prior.values / (prior.values + top**2))
    assert torch.allclose(run(y) - run(x), gain, atol=1e-8 + 1e-6 * float(gain.abs().max()))


@settings(max_examples=25, deadline=None)
@given(priors(), st.floats(0.01, 1.0), st.sampled_from(sorted(SAMPLERS)), st.integers(1, 6), st.integers(0, 99))
def test_an_edit_keeps_no_more_than_its_strength_allows(prior, strength, name, steps, seed) -> None:
    """The same noise for two samples: what is left of their difference is W (ancestral) or its root (flow)."""
    x = noisy(prior, 0.0, seed)
    y = x + 1.0

    def run(start: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return edit(gaussian_denoiser, start, strength, Context(prior=prior), SAMPLERS[name], steps, generator)

    share = prior.values / (prior.values + level_of(strength) ** 2)
    left = prior.along(y - x, share if name == "ddpm" else share.sqrt())
    assert torch.allclose(run(y) - run(x), left, atol=1e-7 + 1e-5 * float(left.abs().max()))
    assert torch.equal(edit(gaussian_denoiser, x, 0.0, Context(prior=prior), SAMPLERS[name], steps, None), x)
