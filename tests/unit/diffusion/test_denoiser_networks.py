"""Both networks: shapes, what the output depends on, zero start, alignment, equivariance."""

from __future__ import annotations

import pytest
import torch

from foliocast.core.errors import ConfigError
from foliocast.models.diffusion.dit import DiT
from foliocast.models.diffusion.layers import ScaleGate, clock, sinusoidal
from foliocast.models.diffusion.preconditioning import Context, GaussianPrior, Preconditioned
from foliocast.models.diffusion.unet1d import UNet1D

N, T, F = 4, 20, 3


def build(kind: str, zeroed: bool = False, seed: int = 0) -> torch.nn.Module:
    """A network; unless zeroed, with its zero layers shaken awake so that dependences can be seen."""
    torch.manual_seed(seed)
    net = DiT(16, 2, 2, patch=5, n_state=F) if kind == "dit" else UNet1D(N, (16, 24, 32), n_state=F)
    if not zeroed:
        for p in net.parameters():
            if p.abs().sum() == 0:
                torch.nn.init.normal_(p, std=0.3)
    return net.eval()


@pytest.fixture(params=["dit", "unet"])
def net(request: pytest.FixtureRequest) -> torch.nn.Module:
    return build(request.param)


def window(batch: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, T, N, generator=torch.Generator().manual_seed(seed))


def full_context() -> Context:
    known = torch.zeros(T, N, dtype=torch.bool)
    known[:, 1] = True
    values = window(1, 5) * known
    return Context(torch.randn(1, N, F, generator=torch.Generator().manual_seed(2)), known, values)


@pytest.mark.parametrize("length", [1, 7, 20, 33])
def test_any_number_of_bars(net: torch.nn.Module, length: int) -> None:
    u = torch.randn(2, length, N, generator=torch.Generator().manual_seed(0))
    assert net(u, torch.tensor(1.0)).shape == u.shape
    assert net(u, torch.tensor([0.1, 3.0]), Context(state=torch.ones(2, N, F))).shape == u.shape


@pytest.mark.parametrize("kind", ["dit", "unet"])
def test_a_fresh_network_is_silent(kind: str) -> None:
    net = build(kind, zeroed=True)
    assert net(window(), torch.tensor(0.7), full_context()).abs().max() == 0


@torch.no_grad()
def test_the_output_depends_on_everything_it_is_given(net: torch.nn.Module) -> None:
    u, sigma, context = window(), torch.tensor(0.7), full_context()
    base = net(u, sigma, context)
    moved = u.clone()
    moved[:, 3, 2] += 1.0
    other_values = context.values + 0.5 * context.known
    other_mask = context.known.clone()
    other_mask[:, 2] = True
    variants = {
        "x": net(moved, sigma, context),
        "sigma": net(u, torch.tensor(0.9), context),
        "state": net(u, sigma, Context(context.state + 0.3, context.known, context.values)),
        "no state": net(u, sigma, Context(None, context.known, context.values)),
        "values": net(u, sigma, Context(context.state, context.known, other_values)),
        "mask": net(u, sigma, Context(context.state, other_mask, context.values)),
    }
    for name, out in variants.items():
        assert (out - base).abs().max() > 1e-4, name


@torch.no_grad()
def test_each_state_feature_of_each_asset_matters(net: torch.nn.Module) -> None:
    state = torch.zeros(1, N, F)
    base = net(window(), torch.tensor(1.0), Context(state=state))
    for asset in range(N):
        for feature in range(F):
            other = state.clone()
            other[0, asset, feature] = 1.0
            assert (net(window(), torch.tensor(1.0), Context(state=other)) - base).abs().max() > 1e-5


@torch.no_grad()
def test_a_batch_of_noise_levels_equals_one_by_one(net: torch.nn.Module) -> None:
    u, sigmas = window(), torch.tensor([0.1, 1.0, 5.0])
    together = net(u, sigmas, full_context())
    for k in range(3):
        assert torch.allclose(together[k : k + 1], net(u[k : k + 1], sigmas[k], full_context()), atol=1e-5)


@torch.no_grad()
def test_dit_commutes_with_permutations_of_the_assets() -> None:
    net, order = build("dit"), torch.tensor([2, 0, 3, 1])
    u, context = window(), full_context()
    covariance = torch.tensor([[1.0, 0.5, 0.2, 0.1], [0.5, 1, 0.3, 0], [0.2, 0.3, 1, 0.4], [0.1, 0, 0.4, 1.0]])
    denoiser = Preconditioned(net)

    def run(u: torch.Tensor, c: Context, cov: torch.Tensor) -> torch.Tensor:
        prior = GaussianPrior.of(cov).given(c.known, c.values)
        return denoiser(u, 0.8, Context(c.state, c.known, c.values, prior))

    shuffled = Context(context.state[:, order], context.known[:, order], context.values[..., order])
    there = run(u[..., order], shuffled, covariance[order][:, order])
    assert torch.allclose(there, run(u, context, covariance)[..., order], atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("n_assets", [1, 2, 11])
def test_dit_takes_any_number_of_assets(n_assets: int) -> None:
    u = torch.randn(2, T, n_assets, generator=torch.Generator().manual_seed(0))
    assert build("dit")(u, torch.tensor(1.0), Context(state=torch.ones(1, n_assets, F))).shape == u.shape


def test_unet_refuses_another_number_of_assets() -> None:
    with pytest.raises(ConfigError, match="use a DiT"):
        build("unet")(torch.zeros(1, T, N + 1), torch.tensor(1.0))


def test_unet_goes_up_as_often_as_down() -> None:
    net = build("unet")
    assert len(net.down) == len(net.up) == len(net.shrink) == len(net.grow) == 2


@torch.no_grad()
@pytest.mark.parametrize("position", range(0, T, 4))
def test_unet_bottleneck_is_aligned_with_the_input(position: int) -> None:
    """A bump at bar 4 i moves bottleneck position i most, on average over random weights; the output likewise."""
    middle, out = torch.zeros(T // 4), torch.zeros(T)
    for seed in range(16):
        net, seen = build("unet", seed=seed), []
        net.gate = _Silent()
        net.shrink[-1].register_forward_hook(lambda module, args, result, seen=seen: seen.append(result))
        u = torch.zeros(1, T, N)
        bumped = u.clone()
        bumped[0, position] += 1.0
        out += (net(bumped, torch.tensor(1.0)) - net(u, torch.tensor(1.0))).abs().sum(dim=(0, 2))
        middle += (seen[0] - seen[1]).abs().sum(dim=(0, 1))
    assert middle.argmax().item() == position // 4
    assert abs(out.argmax().item() - position) <= 2


class _Silent(torch.nn.Module):
    def forward(self, u: torch.Tensor, sigma: torch.Tensor, context: Context) -> torch.Tensor:
        return torch.zeros_like(u)


def test_time_embedding_frequencies_and_neighbours() -> None:
    wave = sinusoidal(torch.tensor([1.0]), 64)[0, 32:]
    frequency = torch.asin(wave[1:])
    assert torch.asin(wave[:1]).item() == pytest.approx(1.0, abs=1e-4)
    assert frequency[-1].item() == pytest.approx(1e-4, rel=1e-2)
    assert (frequency.diff() < 0).all()
    steps = sinusoidal(torch.arange(1000.0), 64)
    near = (steps[1:] - steps[:-1]).norm(dim=1).max()
    far = (steps[500:] - steps[:500]).norm(dim=1).min()
    assert near < 0.5 * far


def test_clock_runs_from_zero_to_a_thousand() -> None:
    assert clock(torch.tensor(0.0)).item() == 0
    assert clock(torch.tensor(1.0)).item() == pytest.approx(500.0, rel=1e-5)
    assert clock(torch.tensor(1e6)).item() == pytest.approx(1000.0, rel=1e-5)


@torch.no_grad()
def test_gate_is_odd_and_does_not_clip() -> None:
    torch.manual_seed(0)
    gate = ScaleGate()
    torch.nn.init.normal_(gate.leave.weight)
    u = window() * 10
    out = gate(u, torch.tensor(0.5), Context())
    assert torch.allclose(gate(-u, torch.tensor(0.5), Context()), -out)
    assert gate(u * 10, torch.tensor(0.5), Context()).abs().max() > 5 * out.abs().max()


@torch.no_grad()
def test_denoised_values_are_not_clipped(net: torch.nn.Module) -> None:
    denoiser = Preconditioned(net, shrinkage=0.0)
    x = torch.full((1, T, N), 40.0)
    context = Context(prior=GaussianPrior.of(torch.eye(N)))
    assert torch.allclose(denoiser(x, 0.1, context), x / 1.01)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of heads"):
        DiT(10, 1, 3)
    with pytest.raises(ConfigError, match="multiple of 8"):
        UNet1D(2, (10,))
