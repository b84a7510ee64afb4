"""End-to-end allocation beside two-step strategies and baselines, walked forward net of costs over several seeds.

    python benchmarks/bench_allocators.py [--config allocators] [--seeds 5] [--data NAME|PATH] [--out FILE.json]

Prints one Markdown table: Sharpe ratio as mean and range over seeds, its bootstrap interval for the first seed, and
means of the rest. What does not hang on a seed is run once. ``--out`` keeps what is finished, so that a second call
goes on. The audit and the ledger of trials belong to ``foliocast backtest allocators``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.base import clone

from foliocast.runtime.compute import one_thread
from foliocast.stats.bootstrap import headlines
from foliocast.trading.walkforward import decide_folds, fold_tasks, simulate
from foliocast.workflows.config import load_config
from foliocast.workflows.plan import Plan, adjusted, plan

COLUMNS = ("annual_return", "volatility", "max_drawdown", "turnover", "cost")


def main() -> None:
    """Run every strategy and seed that is not finished and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="allocators")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path)
    wish = parser.parse_args()
    one_thread()
    done: dict[str, Any] = json.loads(wish.out.read_text()) if wish.out and wish.out.exists() else {}
    for seed in range(wish.seeds):
        work = plan(adjusted(load_config(wish.config), wish.data, seed))
        for name, strategy in work.strategies.items():
            key = f"{name}/{seed}"
            if key in done or (seed > 0 and not seeded(strategy)):
                continue
            spent = time.process_time()
            done[key] = one(work, name, seed)
            print(f"{key}: Sharpe {done[key]['sharpe'][0]:.2f}, {time.process_time() - spent:.0f} CPU s", flush=True)
            if wish.out:
                partial = wish.out.with_suffix(".partial")
                partial.write_text(json.dumps(done))
                os.replace(partial, wish.out)
    print(markdown(done))


def seeded(strategy: Any) -> bool:
    """Whether a parameter of the strategy, or of what it is made of, is a seed."""
    return any(key.endswith("random_state") for key in clone(strategy).get_params(deep=True))


def one(work: Plan, name: str, seed: int) -> dict[str, list[float]]:
    """Headlines of one strategy: value and bounds of each."""
    tasks = fold_tasks(
        {name: work.strategies[name]}, work.panel, work.schedule, work.config.seed, execution=work.execution
    )
    result = simulate(decide_folds(tasks), work.panel, work.schedule, work.costs, work.limits, work.execution)
    flows = {key: getattr(result, key).iloc[1:].to_frame(name) for key in ("turnover", "cost")}
    found = headlines(result.returns.to_frame(name), flows=flows, rng=seed)[name]
    return {key: [interval.value, interval.low, interval.high] for key, interval in found.items()}


def markdown(done: dict[str, dict[str, list[float]]]) -> str:
    """One row a strategy, the highest mean Sharpe ratio first."""
    rows = [{"strategy": key.split("/")[0], **{k: v[0] for k, v in found.items()}} for key, found in done.items()]
    groups = pd.DataFrame(rows).groupby("strategy")
    mean = groups.mean()
    lines = [
        "| strategy | seeds | Sharpe | 95 % interval, seed 0 | return | volatility | drawdown | turnover | cost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in mean.sort_values("sharpe", ascending=False).index:
        own, (_, low, high) = groups.get_group(name)["sharpe"], done[f"{name}/0"]["sharpe"]
        spread = f" ({own.min():.2f} to {own.max():.2f})" if len(own) > 1 else ""
        r, v, d, turnover, cost = mean.loc[name, list(COLUMNS)]
        lines.append(
            f"| {name} | {len(own) if len(own) > 1 else '-'} | {own.mean():.2f}{spread} | {low:.2f} to {high:.2f} "
            f"| {r:.1%} | {v:.1%} | {d:.1%} | {turnover:.1f} | {cost:.2%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
