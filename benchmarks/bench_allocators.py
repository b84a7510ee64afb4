"""End-to-end allocation beside two-step strategies and baselines, walked forward net of costs over several seeds.

    python benchmarks/bench_allocators.py [--config allocators] [--seeds 5] [--data NAME|PATH] [--jobs 1]

Prints one Markdown table: mean over seeds, standard deviation over seeds, and the bootstrap interval of the first seed.
The ledger of trials is that of the user: five seeds are five trials of each strategy that learns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd

from foliocast.runtime.compute import one_thread
from foliocast.workflows.backtest import run
from foliocast.workflows.config import load_config
from foliocast.workflows.plan import adjusted

COLUMNS = ("sharpe", "annual_return", "volatility", "max_drawdown", "turnover", "cost")


def main() -> None:
    """Run every seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="allocators")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data")
    parser.add_argument("--jobs", type=int, default=1)
    wish = parser.parse_args()
    one_thread()
    started = time.process_time()
    rows: list[dict[str, object]] = []
    for seed in range(wish.seeds):
        with tempfile.TemporaryDirectory() as folder:
            done = run(adjusted(load_config(wish.config), wish.data, seed), Path(folder), jobs=wish.jobs)
        print(f"seed {seed}: audit {done.metrics['audit']['passed']}, {done.metrics['trials']} trials", flush=True)
        for name, found in done.metrics["strategies"].items():
            values = {key: found[key]["value"] for key in COLUMNS}
            rows.append(
                {
                    "strategy": name,
                    "seed": seed,
                    **values,
                    "low": found["sharpe"]["low"],
                    "high": found["sharpe"]["high"],
                    "deflated": found["deflated_sharpe"],
                }
            )
        print(markdown(pd.DataFrame(rows)), flush=True)  # what is known so far
    table = pd.DataFrame(rows)
    print(f"{table['seed'].nunique()} seeds, {time.process_time() - started:.0f} CPU seconds")


def markdown(table: pd.DataFrame) -> str:
    """One row a strategy, the highest mean Sharpe ratio first."""
    groups = table.groupby("strategy")
    mean, spread, first = groups.mean(), groups["sharpe"].std(), groups.first()
    lines = [
        "| strategy | Sharpe, mean over seeds (sd) | 95 % interval, seed 0 | deflated | return | volatility "
        "| drawdown | turnover | cost |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in mean.sort_values("sharpe", ascending=False).index:
        m = mean.loc[name]
        lines.append(
            f"| {name} | {m['sharpe']:.2f} ({spread[name]:.2f}) | {first.loc[name, 'low']:.2f} to "
            f"{first.loc[name, 'high']:.2f} | {m['deflated']:.2f} | {m['annual_return']:.1%} | {m['volatility']:.1%} "
            f"| {m['max_drawdown']:.1%} | {m['turnover']:.1f} | {m['cost']:.2%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
