"""Speed of the diffusion models, alone and against Hugging Face diffusers' ``UNet1DModel`` with 250 DDPM steps.

    python benchmarks/bench_diffusion.py
    python benchmarks/bench_diffusion.py memory

Prints one JSON line per measurement; with ``memory``, the largest resident set of 10,000 scenarios of 500 assets, each
model in a process of its own. The peer runs in the interpreter that FOLIOCAST_PEERS_PYTHON names (one with
torch and diffusers installed); without it the comparison is left out. Both sides train for the same CPU time on the
same windows and are scored by the energy score of held-out windows; times are CPU seconds of one thread.
"""

# ruff: noqa: E402
from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
import pandas as pd
import torch

from foliocast.core.scenario_base import read_bars
from foliocast.models.diffusion.fitting import DiffusionLoss, WindowSamples
from foliocast.models.diffusion.generator import TRAINING, DiffusionScenarios
from foliocast.models.diffusion.innovations import RECENT, History, innovations, own_scale, study
from foliocast.models.diffusion.paths import noise_levels
from foliocast.models.diffusion.preconditioning import Context, GaussianPrior, Preconditioned
from foliocast.models.diffusion.pretrained import PretrainedScenarios
from foliocast.models.diffusion.samplers import dpm_solver
from foliocast.models.diffusion.unet1d import UNet1D
from foliocast.models.training import train
from foliocast.scenarios.copula import StudentTCopula
from foliocast.scenarios.fhs import FilteredHistoricalSimulation
from foliocast.stats.correlation import CorrelationFilter
from foliocast.stats.scoring import energy_score
from foliocast.stats.volatility import VolatilityFilter

WINDOW, ASSETS, SCENARIOS = 64, 3, 100
PEER = """
import json, sys, time
import numpy as np, torch
from diffusers import DDPMScheduler, UNet1DModel
torch.set_num_threads(1)
torch.manual_seed(0)
data = np.load(sys.argv[1])
windows, seconds, n = torch.from_numpy(data["train"]).float(), float(data["seconds"]), int(data["n"])
net = UNet1DModel(
    sample_size=windows.shape[1], in_channels=windows.shape[2], out_channels=windows.shape[2], extra_in_channels=32,
    time_embedding_type="positional", block_out_channels=(32, 32, 64),
    down_block_types=("DownBlock1DNoSkip", "DownBlock1D", "AttnDownBlock1D"),
    up_block_types=("AttnUpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"))
scheduler = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", clip_sample=False)
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
start, steps = time.process_time(), 0
while time.process_time() - start < seconds:
    x = windows[torch.randint(len(windows), (64,))].transpose(1, 2)
    noise, t = torch.randn_like(x), torch.randint(1000, (64,))
    loss = ((net(scheduler.add_noise(x, noise, t), t).sample - noise) ** 2).mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step(); steps += 1
net.eval(); scheduler.set_timesteps(250)
start = time.process_time()
with torch.no_grad():
    x = torch.randn(n, windows.shape[2], windows.shape[1])
    for t in scheduler.timesteps:
        x = scheduler.step(net(x, t).sample, t, x).prev_sample
spent = time.process_time() - start
np.save(sys.argv[2], x.transpose(1, 2).numpy())
print(json.dumps({"parameters": sum(p.numel() for p in net.parameters()), "steps": steps, "seconds": spent}))
"""


def market(n_bars: int, n_assets: int, seed: int = 0) -> pd.DataFrame:
    """Heavy-tailed returns with common and own volatility clusters."""
    rng = np.random.default_rng(seed)
    common = 0.95 * rng.normal(0, 0.15, (n_bars, 1)).cumsum(axis=0) / np.sqrt(np.arange(1, n_bars + 1))[:, None]
    beta = rng.uniform(0.4, 0.8, n_assets)
    shock = rng.standard_t(5, (n_bars, 1)) * beta + rng.standard_t(4, (n_bars, n_assets)) * 0.7
    returns = np.clip(0.01 * np.exp(common) * shock, -0.5, 0.5)
    return pd.DataFrame(returns, pd.bdate_range("2000-01-03", periods=n_bars), [f"A{i}" for i in range(n_assets)])


def say(**fields: object) -> None:
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in fields.items()}), flush=True)


def clocked(task: object, *args: object, **options: object) -> tuple[object, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    out = task(*args, **options)  # type: ignore[operator]
    return out, time.perf_counter() - wall, time.process_time() - cpu


def alone() -> None:
    """Fit of one fold and 10,000 scenarios x 20 bars x 20 assets."""
    returns = market(2520, 20)
    model, wall, cpu = clocked(DiffusionScenarios().fit, returns)
    say(what="fit 2520 x 20", wall_s=wall, cpu_s=cpu, target_wall_s=120)
    for name, one in (
        ("DiffusionScenarios", model),
        ("PretrainedScenarios", PretrainedScenarios(allow_contaminated=True)),
    ):
        _, wall, cpu = clocked(one.simulate, returns, 20, 10_000, random_state=1)  # type: ignore[attr-defined]
        say(what=f"{name} 10,000 x 20 x 20", wall_s=wall, cpu_s=cpu, target_wall_s=5)


def classical() -> None:
    """The same of the filtered models, which the diffusion is measured against."""
    returns = market(2520, 20)
    models = {
        "FHS gjr": FilteredHistoricalSimulation("gjr"),
        "FHS blend + correlation": FilteredHistoricalSimulation("blend", "ewma"),
        "t-copula": StudentTCopula(),
    }
    for name, model in models.items():
        _, wall, cpu = clocked(model.fit, returns)
        say(what=f"{name} fit 2520 x 20", wall_s=wall, cpu_s=cpu, target_wall_s=2)
        _, wall, cpu = clocked(model.simulate, returns, 20, 10_000, random_state=1)
        say(what=f"{name} 10,000 x 20 x 20", wall_s=wall, cpu_s=cpu, target_wall_s=0.5)


def memory() -> None:
    """Each model in a process of its own, so that the peak is its own."""
    for name in LARGE:
        subprocess.run([sys.executable, __file__, "memory", name], check=True)


def memory_of(name: str) -> None:
    """Peak of 10,000 scenarios x 20 bars x 500 assets."""
    returns = market(1000, 500).set_axis(pd.bdate_range("2020-03-02", periods=1000))
    model = LARGE[name]()
    if name != "pretrained":
        model.fit(returns)  # type: ignore[attr-defined]
    _, wall, cpu = clocked(model.simulate, returns, 20, 10_000, random_state=1)  # type: ignore[attr-defined]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    say(what=f"{name} 10,000 x 20 x 500", wall_s=wall, cpu_s=cpu, peak_gib=peak, target_gib=4)


LARGE: dict[str, Callable[[], object]] = {
    "fhs": lambda: FilteredHistoricalSimulation("blend", "ewma"),
    "t-copula": lambda: StudentTCopula("blend"),
    "pretrained": PretrainedScenarios,
}


def split(history: History, share: float = 0.8) -> tuple[int, np.ndarray]:
    """First held-out window start, and held-out windows that do not overlap."""
    first = int(len(history.z) * share)
    starts = range(first, len(history.z) - WINDOW, WINDOW)
    return first, np.stack([history.z[s : s + WINDOW] for s in starts])


def energy(samples: np.ndarray, held_out: np.ndarray) -> float:
    """Mean energy score of whole windows."""
    flat = samples.reshape(len(samples), -1)
    return float(np.mean([energy_score(flat, window.ravel()) for window in held_out]))


def against_diffusers(interpreter: str, seconds: float = 60.0) -> None:
    """Per-window sampling time and energy score, both trained for the same CPU time at equal parameter count."""
    torch.set_num_threads(1)
    bars = read_bars(market(4000, ASSETS, seed=1))
    volatility = VolatilityFilter("har").fit(bars.log_returns)
    z, _, _ = innovations(volatility, bars)
    history = study(volatility, CorrelationFilter().fit(z / own_scale(z)), bars)
    first, held_out = split(history)
    with tempfile.TemporaryDirectory() as folder:
        windows = np.stack([history.z[s : s + WINDOW] for s in range(RECENT, first - WINDOW)])
        np.savez(Path(folder) / "in.npz", train=windows, seconds=seconds, n=SCENARIOS)
        (Path(folder) / "peer.py").write_text(PEER)
        command = [interpreter, "peer.py", "in.npz", "out.npy"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        peer = json.loads(done.stdout.strip().splitlines()[-1])
        theirs = energy(np.load(Path(folder) / "out.npy"), held_out)

    torch.manual_seed(0)
    denoiser = Preconditioned(UNet1D(ASSETS, (64, 96, 160)))
    samples = WindowSamples.of(history, WINDOW, RECENT, first - WINDOW)
    start = time.process_time()
    spec = replace(TRAINING, max_steps=max(25, int(seconds * 2)), patience=None)
    train(denoiser, samples, DiffusionLoss(patch=WINDOW, mask_rate=0.0, drop_rate=1.0), spec)
    spent = time.process_time() - start
    prior = GaussianPrior.of(torch.from_numpy(history.correlations[0]).float())
    levels, generator = noise_levels(5), torch.Generator().manual_seed(0)
    start = time.process_time()
    noise = torch.randn(SCENARIOS, WINDOW, ASSETS, generator=generator)
    x = dpm_solver(denoiser, prior.start(noise, float(levels[0])), levels, Context(prior=prior), generator)
    ours_s = time.process_time() - start
    ours = energy(x.numpy(), held_out)
    say(
        what="UNet1D, 5 steps / diffusers UNet1DModel, 250 DDPM steps",
        parameters=[sum(p.numel() for p in denoiser.parameters()), peer["parameters"]],
        training_cpu_s=[spent, seconds],
        window_ms=[1e3 * ours_s / SCENARIOS, 1e3 * peer["seconds"] / SCENARIOS],
        times_faster=peer["seconds"] / ours_s,
        energy=[ours, theirs],
        target="10 times faster at no worse energy",
    )


def main() -> None:
    if sys.argv[1:2] == ["memory"]:
        memory_of(sys.argv[2]) if sys.argv[2:] else memory()
        return
    classical()
    alone()
    peers = os.environ.get("FOLIOCAST_PEERS_PYTHON")
    if peers:
        against_diffusers(peers)
    else:
        print("FOLIOCAST_PEERS_PYTHON is not set: no comparison with diffusers", file=sys.stderr)


if __name__ == "__main__":
    main()
