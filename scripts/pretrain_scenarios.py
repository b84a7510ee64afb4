"""Train the packaged scenario model: one denoiser over many stocks and universes of random size.

    python scripts/pretrain_scenarios.py PRICES.parquet --until 2019-12-31 --work runs/pretrain

PRICES is a long table (date, ticker, close). The run can be stopped and started again with the same arguments: it
continues from ``--work``. A fifth of the tickers and the last two years are held out: they choose the weights that
are served and the network's share.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from foliocast.models.checkpoint import ModelCard, kind_of, save_checkpoint
from foliocast.models.diffusion.cards import pooled_from_json, pooled_to_json
from foliocast.models.diffusion.departures import ScaleHead
from foliocast.models.diffusion.fitting import DiffusionLoss, earned_shrinkage
from foliocast.models.diffusion.generator import build_network
from foliocast.models.diffusion.paths import PATCH
from foliocast.models.diffusion.preconditioning import Preconditioned
from foliocast.models.diffusion.pretrained import WEIGHTS_FOLDER, PretrainedScenarios, load_pretrained
from foliocast.models.diffusion.pretraining import (
    UniverseLoss,
    UniverseSamples,
    common_departures,
    pooled_by_size,
)
from foliocast.models.training import TrainingSpec, train

HELD_OUT_YEARS = 2


def read_returns(path: Path, until: pd.Timestamp) -> pd.DataFrame:
    """Daily simple returns (time x asset) up to a date; jumps beyond fivefold are taken for faults of the data."""
    long = pd.read_parquet(path, columns=["date", "ticker", "close"])
    close = long[long["date"] <= until].pivot(index="date", columns="ticker", values="close").astype(float)
    returns = close.pct_change(fill_method=None).iloc[1:]
    return returns.where(returns.abs() < 4.0)


def filters(returns: pd.DataFrame, work: Path, seed: int) -> dict:
    """Pooled volatility filters by universe size, computed once a run."""
    file = work / "filters.json"
    if not file.exists():
        pooled = pooled_by_size(returns, np.random.default_rng(seed))
        file.write_text(json.dumps({size: pooled_to_json(p) for size, p in pooled.items()}))
    return {int(size): pooled_from_json(p) for size, p in json.loads(file.read_text()).items()}


def departures(returns: pd.DataFrame, pooled: dict, work: Path, seed: int) -> ScaleHead:
    """Departures of the scale, learnt once a run."""
    file = work / "head.safetensors"
    head = ScaleHead()
    if file.exists():
        head.load_state_dict(load_file(file))
        return head.eval()
    head = common_departures(returns, pooled, seed)
    save_file(head.state_dict(), file)
    return head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prices", type=Path)
    parser.add_argument("--until", default="2019-12-31")
    parser.add_argument("--work", type=Path, default=Path("runs/pretrain"))
    parser.add_argument("--out", type=Path, default=WEIGHTS_FOLDER)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--from", type=Path, dest="earlier", help="folder of an earlier model whose network goes on")
    parser.add_argument("--universes", type=int, default=400)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)

    until = pd.Timestamp(args.until)
    returns = read_returns(args.prices, until)
    held_out = np.random.default_rng(args.seed).permutation(returns.shape[1]) < returns.shape[1] // 5
    split = until - pd.DateOffset(years=HELD_OUT_YEARS)
    seen = returns.loc[:split, ~held_out]
    pooled = filters(seen, args.work, args.seed)
    head = departures(seen, pooled, args.work, args.seed + 2)
    samples = UniverseSamples.build(seen, pooled, args.universes, seed=args.seed, head=head)
    # The filters need a run-up of four years; only windows inside the held-out years are scored.
    late = returns.loc[split - pd.DateOffset(years=4) :, held_out]
    days = int((late.index > split).sum())
    validation = UniverseSamples.build(late, pooled, 24, bars=len(late), last=days, seed=args.seed + 1, head=head)

    denoiser = Preconditioned(build_network("dit", 0, args.width, args.depth, args.seed))
    if args.earlier is not None:
        denoiser.network.load_state_dict(load_pretrained(args.earlier).denoiser.network.state_dict())
    spec = TrainingSpec(
        optimizer="adamw",
        lr=1.5e-3 if args.earlier is None else 3e-4,
        weight_decay=1e-2,
        batch_size=1,
        epochs=1_000_000,
        max_steps=args.steps,
        ema=0.999,
        schedule="cosine",
        warmup_steps=100,
        save_every=150,
        seed=args.seed,
    )
    log = args.work / "log.jsonl"

    def note(row: dict[str, float]) -> None:
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")

    loss = UniverseLoss(DiffusionLoss(patch=PATCH))
    result = train(denoiser, samples, loss, spec, validation, args.work / "state.safetensors", note)
    shares = [earned_shrinkage(denoiser, part, conditional=False) for part in validation.pool]
    denoiser.shrinkage = float(np.mean([share for share, _ in shares]))
    state = {
        "width": args.width,
        "depth": args.depth,
        "shrinkage": denoiser.shrinkage,
        "gain": float(np.mean([gain for _, gain in shares])),
        "steps": result.steps,
        "assets": int((~held_out).sum()),
        "pooled": {str(size): pooled_to_json(p) for size, p in pooled.items()},
    }
    card = ModelCard(kind_of(PretrainedScenarios()), state=state, knowledge_until=until.isoformat())
    tensors = denoiser.network.state_dict() | {f"head/{key}": value for key, value in head.state_dict().items()}
    save_checkpoint(args.out, tensors, card)
    print(json.dumps({key: state[key] for key in ("shrinkage", "gain", "steps", "assets")}))


if __name__ == "__main__":
    main()
