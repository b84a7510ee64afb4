"""The training loop: same bits after resumption, EMA warm-up, unscaled clipping, early stopping."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from foliocast.core.errors import ConfigError, DataError, HistoryError
from foliocast.models.training import (
    Ema,
    TensorSamples,
    TrainingSpec,
    chronological_split,
    seed_of,
    train,
)

SPEC = TrainingSpec(epochs=4, batch_size=16, lr=1e-2, seed=3)


def make(n: int = 100, seed: int = 0) -> tuple[nn.Module, TensorSamples]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=draw)
    y = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.1 * torch.randn(n, generator=draw)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))
    return net, TensorSamples(x, y)


def noisy_mse(module: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
    x, y = batch
    noise = 0.01 * torch.randn(x.shape, generator=generator)
    return ((module(x + noise)[:, 0] - y) ** 2).mean()


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


class Stopper:
    """Interrupts a run after some epochs, as a signal would."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, row: dict[str, float]) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_learns_and_is_deterministic_without_touching_global_state() -> None:
    before = torch.get_rng_state()
    (a, samples), (b, _) = make(), make()
    result = train(a, samples, noisy_mse, replace(SPEC, epochs=30))
    train(b, samples, noisy_mse, replace(SPEC, epochs=30))
    assert torch.equal(weights(a), weights(b))
    assert result.history[-1]["train_loss"] < 0.4 * result.history[0]["train_loss"]
    assert torch.equal(before, torch.get_rng_state())
    assert not a.training


def test_another_seed_gives_another_model() -> None:
    (a, samples), (b, _) = make(), make()
    train(a, samples, noisy_mse, SPEC)
    train(b, samples, noisy_mse, replace(SPEC, seed=4))
    assert not torch.equal(weights(a), weights(b))


@pytest.mark.parametrize("ema", [None, 0.99])
@pytest.mark.parametrize("save_every", [None, 3])
def test_resumed_run_ends_with_the_same_bits(tmp_path: Path, ema: float | None, save_every: int | None) -> None:
    spec = replace(SPEC, ema=ema, save_every=save_every, schedule="cosine", warmup_steps=5)
    whole, samples = make()
    _, valid = make(40, seed=9)
    expected = train(whole, samples, noisy_mse, spec, validation=valid)
    for after in (1, 2):
        state = tmp_path / f"run{after}.safetensors"
        with pytest.raises(KeyboardInterrupt):
            train(make()[0], samples, noisy_mse, spec, valid, state, Stopper(after))
        again, _ = make(seed=5)
        found = train(again, samples, noisy_mse, spec, valid, state)
        assert torch.equal(weights(whole), weights(again))
        assert found == expected


def test_resumes_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    spec = replace(SPEC, save_every=3)
    whole, samples = make()
    train(whole, samples, noisy_mse, spec)
    calls = []

    def dying(module: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return noisy_mse(module, batch, generator)

    with pytest.raises(KeyboardInterrupt):
        train(make()[0], samples, dying, spec, resume_path=tmp_path / "s")
    again, _ = make(seed=5)
    train(again, samples, noisy_mse, spec, resume_path=tmp_path / "s")
    assert torch.equal(weights(whole), weights(again))


def test_state_of_another_run_is_refused(tmp_path: Path) -> None:
    net, samples = make()
    train(net, samples, noisy_mse, SPEC, resume_path=tmp_path / "s")
    with pytest.raises(DataError, match="another run"):
        train(net, samples, noisy_mse, replace(SPEC, lr=1e-3), resume_path=tmp_path / "s")
    (tmp_path / "bad").write_bytes(b"not a state")
    with pytest.raises(DataError, match="no saved training state"):
        train(net, samples, noisy_mse, SPEC, resume_path=tmp_path / "bad")


def test_short_run_does_not_serve_initial_weights() -> None:
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1.0)
    ema = Ema(net, decay=0.999)
    with torch.no_grad():
        net.weight.fill_(0.0)
    for _ in range(450):
        ema.update(net)
    assert float(ema.shadow["weight"]) < 1e-6  # a constant decay would leave 0.999**450 = 0.64


def test_ema_is_what_is_served() -> None:
    (plain, samples), (averaged, _) = make(), make()
    train(plain, samples, noisy_mse, SPEC)
    train(averaged, samples, noisy_mse, replace(SPEC, ema=0.9))
    assert not torch.equal(weights(plain), weights(averaged))
    torch.testing.assert_close(weights(plain), weights(averaged), atol=0.3, rtol=0)


@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_clipped_gradient_has_the_norm_asked_for(amp: str) -> None:
    """In fp16 the loss is scaled by thousands: clipping before unscaling would leave a gradient of next to nothing."""
    net, samples = make()

    def loss(module: nn.Module, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        return 50 * noisy_mse(module, batch, generator)

    train(net, samples, loss, replace(SPEC, clip=0.5, amp=amp))
    last = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    assert float(last.norm()) == pytest.approx(0.5, rel=1e-3)


def test_mixed_precision_learns_the_same_thing() -> None:
    losses = {}
    for amp in ("none", "bf16", "fp16"):
        net, samples = make()
        losses[amp] = train(net, samples, noisy_mse, replace(SPEC, epochs=15, amp=amp)).history[-1]["train_loss"]
    assert losses["bf16"] == pytest.approx(losses["none"], rel=0.1)
    assert losses["fp16"] == pytest.approx(losses["none"], rel=0.15)


def test_stops_early_and_serves_the_best_weights() -> None:
    net, samples = make(32)
    x, y = samples.tensors
    opposite = TensorSamples(x, -y)  # the better the fit, the worse the validation
    result = train(net, samples, noisy_mse, replace(SPEC, epochs=50, patience=3), validation=opposite)
    assert result.stopped_early
    assert result.best_epoch == 1
    assert len(result.history) == 4
    first, _ = make(32)
    train(first, samples, noisy_mse, replace(SPEC, epochs=1))
    assert torch.equal(weights(first), weights(net))


def test_max_steps_ends_the_run() -> None:
    net, samples = make()
    assert train(net, samples, noisy_mse, replace(SPEC, max_steps=5)).steps == 5


def test_bad_input_is_named() -> None:
    net, _ = make()
    with pytest.raises(HistoryError, match="no sample"):
        train(net, TensorSamples(torch.zeros(0, 3), torch.zeros(0)), noisy_mse, SPEC)
    with pytest.raises(DataError, match="training loss became nan"):
        train(net, TensorSamples(torch.full((5, 3), np.nan), torch.zeros(5)), noisy_mse, SPEC)
    with pytest.raises(ConfigError, match="optimizer = 'sgd'"):
        TrainingSpec(optimizer="sgd")
    with pytest.raises(ConfigError, match="ema"):
        TrainingSpec(ema=1.5)
    with pytest.raises(DataError, match="common length"):
        TensorSamples(torch.zeros(3), torch.zeros(4))


def test_chronological_split_leaves_a_gap() -> None:
    positions = np.tile(np.arange(100, 500), 3)
    fit, valid = chronological_split(positions, 0.15, gap=61)
    assert positions[valid].min() == 440
    assert positions[fit].max() == 440 - 61 - 1
    assert set(positions[valid]) == set(range(440, 500))
    fit, valid = chronological_split(np.arange(70), 0.2, gap=61)  # too short to spare a tail: train on everything
    assert len(fit) == 70
    assert len(valid) == 0


def test_seeds_are_pure_and_distinct() -> None:
    assert seed_of(1, 2) == seed_of(1, 2)
    assert len({seed_of(a, b) for a in range(20) for b in range(20)}) == 400
