"""Known faults of diffusion code, each asked of both networks, beside the broken variant that must be caught."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from foliocast.models.diffusion.dit import DiT
from foliocast.models.diffusion.fitting import DiffusionLoss, WindowSamples
from foliocast.models.diffusion.generator import fit_denoiser
from foliocast.models.diffusion.innovations import N_STATE, RECENT, History
from foliocast.models.diffusion.preconditioning import EDM, WIENER, Context, GaussianPrior, Preconditioned
from foliocast.models.diffusion.process import cosine_sigmas, karras_sigmas
from foliocast.models.diffusion.samplers import SAMPLERS, Sampler, ddpm
from foliocast.models.diffusion.unet1d import UNet1D
from foliocast.models.training import Ema, TensorSamples, TrainingSpec, train

N, T, F = 3, 10, 2
COVARIANCE = torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.5, 0.4], [0.3, 0.4, 0.7]])
PRIOR = GaussianPrior.of(COVARIANCE)


def build(kind: str, n_assets: int = N, n_state: int = F, awake: bool = True, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net: nn.Module = (
            DiT(16, 1, 2, patch=5, n_state=n_state) if kind == "dit" else UNet1D(n_assets, (16, 24), n_state=n_state)
        )
        for p in net.parameters():
            if awake and p.abs().sum() == 0:
                nn.init.normal_(p, std=0.3)
    return net.eval()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["dit", "unet"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- 1: the law of the samplers, through the whole denoiser


def sampled(sampler: Sampler, kind: str, steps: int) -> torch.Tensor:
    denoiser = Preconditioned(build(kind, awake=False), WIENER)
    generator = torch.Generator().manual_seed(0)
    start = PRIOR.start(torch.randn(1500, T, N, generator=generator), 20.0)
    return sampler(denoiser, start, karras_sigmas(steps), Context(prior=PRIOR), generator).reshape(-1, N)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_fresh_network_samples_its_prior_exactly(kind: str, name: str, steps: int) -> None:
    assert torch.allclose(torch.cov(sampled(SAMPLERS[name], kind, steps).T), COVARIANCE, atol=0.07)


def test_forgetting_the_posterior_covariance_is_caught(kind: str) -> None:
    """Ancestral steps around the mean alone: what is lost is the variance, nearly all of it in few steps."""

    @torch.no_grad()
    def wrong(denoiser, x, sigmas, context, generator):  # type: ignore[no-untyped-def]
        for here, there in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
            keep = (there / here) ** 2
            mean = denoiser(x, here, context) * (1 - keep) + keep * x
            x = mean + there * (1 - keep) ** 0.5 * torch.randn(x.shape, generator=generator)
        return x

    assert torch.cov(sampled(wrong, kind, 5).T).diagonal().max() < 0.8 * COVARIANCE.diagonal().max()
    assert torch.cov(sampled(ddpm, kind, 5).T).diagonal().max() > 0.95 * COVARIANCE.diagonal().max()


# ---- 2: respacing


def test_the_last_steps_of_a_schedule_alone_are_caught(kind: str) -> None:
    """Starting the last 50 of 1000 steps from pure noise leaves the sample far too wide."""
    unit = GaussianPrior.of(torch.eye(N))
    denoiser, generator = Preconditioned(build(kind, awake=False), EDM), torch.Generator().manual_seed(0)
    noise = torch.randn(400, T, N, generator=generator)
    spread = {}
    for name, sigmas in {"whole": cosine_sigmas(50), "tail": cosine_sigmas(1000)[-51:]}.items():
        x = SAMPLERS["ddim"](denoiser, 20.0 * noise, sigmas, Context(), generator)
        spread[name] = x.std().item()
    assert spread["whole"] < 1.2 * unit.values.max().item()
    assert spread["tail"] > 5.0


# ---- 3: inpainting


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm"])
def test_inpainting_has_slope_one_through_the_network(kind: str, name: str) -> None:
    known = torch.zeros(T, N, dtype=torch.bool)
    known[:, 1] = True
    values = normal(800, T, N, seed=1) * known
    prior = PRIOR.given(known, values)
    denoiser, generator = Preconditioned(build(kind, awake=False), WIENER), torch.Generator().manual_seed(0)
    start = prior.start(torch.randn(800, T, N, generator=generator), 20.0)
    context = Context(known=known, values=values, prior=prior)
    x = SAMPLERS[name](denoiser, start, karras_sigmas(4), context, generator)
    assert torch.allclose(x[..., 1], values[..., 1], atol=1e-4)
    expected = 0.8 / 1.5 * values[..., 1]
    slope = (expected * x[..., 0]).mean() / expected.square().mean()
    assert slope.item() == pytest.approx(1.0, abs=0.05)
    assert (x[..., 0] - expected).var().item() == pytest.approx(1.0 - 0.8**2 / 1.5, abs=0.04)


@torch.no_grad()
def test_an_active_network_leaves_what_is_given_alone(kind: str) -> None:
    known = torch.zeros(T, N, dtype=torch.bool)
    known[:4, 2] = True
    values = normal(5, T, N, seed=1) * known
    context = Context(normal(1, N, F), known, values, PRIOR.given(known, values))
    out = Preconditioned(build(kind), WIENER)(normal(5, T, N), 0.7, context)
    assert torch.allclose(out[:, known], values[:, known], atol=1e-5)


# ---- 4: the average of the weights


def test_450_updates_leave_nothing_of_the_first_weights(kind: str) -> None:
    net = build(kind)
    first = {k: v.clone() for k, v in net.state_dict().items()}
    ema = Ema(net, 0.999)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1.0)
    for _ in range(450):
        ema.update(net)
    moved = [name for name, _ in net.named_parameters()]
    assert all((ema.shadow[k] - first[k] - 1.0).abs().max() < 1e-4 for k in moved)
    assert 0.999**450 > 0.6  # what a constant decay would have kept


# ---- 5: shape


@torch.no_grad()
@pytest.mark.parametrize("position", [0, 4, 5, 9, 13, 19])
def test_an_output_lies_where_its_input_lay(kind: str, position: int) -> None:
    moved = torch.zeros(20)
    for seed in range(12):
        net = build(kind, seed=seed)
        net.gate = _Silent()
        u = torch.zeros(1, 20, N)
        bumped = u.clone()
        bumped[0, position] += 1.0
        moved += (net(bumped, torch.tensor(1.0)) - net(u, torch.tensor(1.0))).abs().sum(dim=(0, 2))
    if kind == "dit":
        assert moved.reshape(4, 5).sum(1).argmax().item() == position // 5
    else:
        assert abs(moved.argmax().item() - position) <= 2


class _Silent(nn.Module):
    def forward(self, u: torch.Tensor, sigma: torch.Tensor, context: Context) -> torch.Tensor:
        return torch.zeros_like(u)


# ---- 6 and 7: what the output depends on


@torch.no_grad()
def test_near_noise_levels_give_near_outputs_and_far_ones_far(kind: str) -> None:
    net, u = build(kind), normal(4, T, N)
    net.gate = _Silent()
    at = {s: net(u, torch.tensor(s)) for s in (0.05, 0.7, 0.7002, 20.0)}
    near = (at[0.7002] - at[0.7]).norm()
    assert 0 < near < 0.05 * min((at[0.7] - at[s]).norm() for s in (0.05, 20.0))


@torch.no_grad()
def test_one_asset_and_one_patch_still_depend_on_everything(kind: str) -> None:
    """The softmax of a single key is one: attention alone would make a constant of the conditions."""
    net = build(kind, n_assets=1)
    u, state = normal(2, 5, 1), normal(1, 1, F)
    known = torch.zeros(5, 1, dtype=torch.bool)
    known[0] = True
    values = 0.4 * known[None].float()
    base = net(u, torch.tensor(0.7), Context(state, known, values))
    others = {
        "x": net(u + 0.5, torch.tensor(0.7), Context(state, known, values)),
        "sigma": net(u, torch.tensor(1.4), Context(state, known, values)),
        "state": net(u, torch.tensor(0.7), Context(state + 0.5, known, values)),
        "no state": net(u, torch.tensor(0.7), Context(None, known, values)),
        "values": net(u, torch.tensor(0.7), Context(state, known, 2 * values)),
        "mask": net(u, torch.tensor(0.7), Context(state)),
    }
    for name, out in others.items():
        assert (out - base).abs().max() > 1e-4, name


# ---- 8: tails


@torch.no_grad()
@pytest.mark.parametrize("name", SAMPLERS)
def test_tails_pass_through_denoiser_and_sampler(kind: str, name: str) -> None:
    denoiser = Preconditioned(build(kind, awake=False), WIENER)
    x = torch.full((2, T, N), 12.0)
    context = Context(prior=GaussianPrior.of(torch.eye(N)))
    out = SAMPLERS[name](denoiser, x, karras_sigmas(3, 0.001, 0.02), context, torch.Generator().manual_seed(0))
    assert out.min() > 11.8


# ---- 9: clipping under mixed precision


@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_the_clipped_gradient_has_the_norm_asked_for(kind: str, amp: str) -> None:
    denoiser = Preconditioned(build(kind), WIENER)
    x0, state = normal(16, T, N), normal(16, N, F, seed=1)
    prior = GaussianPrior.of(COVARIANCE.expand(16, N, N).clone())
    samples = TensorSamples(x0, state, prior.values, prior.vectors)
    spec = TrainingSpec(batch_size=16, epochs=1, clip=0.01, amp=amp)
    train(denoiser, samples, DiffusionLoss(patch=5), spec)
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in denoiser.parameters() if p.grad is not None))
    assert norm == pytest.approx(0.01, rel=0.02)


# ---- 10: windows that share bars


def history(n: int = 260) -> History:
    rng = np.random.default_rng(0)
    state = rng.normal(size=(n + 1, N, N_STATE)).astype(np.float32)
    return History(rng.normal(size=(n, N)), state, np.tile(np.eye(N), (n, 1, 1)))


def test_training_reads_no_bar_of_the_validation_windows(kind: str) -> None:
    """One epoch, so that validation chooses nothing: the weights must not know the held-out bars."""
    past = history()
    split = int(len(past.z) * 0.85)
    later = dataclasses.replace(past, z=np.where(np.arange(len(past.z))[:, None] >= split - 1, 3.0 * past.z, past.z))
    weights = []
    for record in (past, later):
        net = build(kind, n_state=N_STATE)
        denoiser = Preconditioned(net, WIENER)
        fit_denoiser(denoiser, record, 10, TrainingSpec(batch_size=64, epochs=1, ema=0.9))
        weights.append(torch.cat([p.detach().flatten() for p in denoiser.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert len(WindowSamples.of(past, 10, RECENT, split - 10)) > 0
