"""Backtest of given weights: this package beside vectorbt's ``Portfolio.from_orders``, same weights, same prices.

Runs ours here, and the peer in the interpreter named by FOLIOCAST_PEERS_PYTHON (default: this one). Both measure
process CPU time, the median of several warm runs on one thread; wall time is not compared. Says so if there is no peer.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

FEES = 5e-4
PEER = """
import json, statistics, sys, time
import numpy as np, pandas as pd
try:
    import vectorbt as vbt
except ImportError as error:
    print(json.dumps({"absent": str(error)})); raise SystemExit
data = np.load(sys.argv[1])
def frame(values):
    return pd.DataFrame(values, pd.bdate_range("1990-01-01", periods=len(values)))
def run(prices, weights):
    return vbt.Portfolio.from_orders(prices, size=weights, size_type="targetpercent", fees=float(data["fees"]),
        group_by=True, cash_sharing=True, call_seq="auto", freq="1D", init_cash=1.0)
out = {"version": vbt.__version__}
for name in ("sp20", "syn500"):
    prices, weights = frame(data[name + "_prices"]), frame(data[name + "_weights"])
    run(prices, weights)
    times = []
    for _ in range(int(data["repeats"])):
        start = time.process_time()
        portfolio = run(prices, weights)
        times.append(time.process_time() - start)
    out[name] = {"seconds": statistics.median(times), "final": float(np.squeeze(portfolio.final_value()))}
print(json.dumps(out))
"""


def momentum_weights(prices: pd.DataFrame, look: int = 20, scale: float = 8.0) -> np.ndarray:
    """Causal long-only momentum softmax, fully invested, new every day."""
    z = (scale * (prices / prices.shift(look) - 1.0)).fillna(0.0).to_numpy()
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def factor_prices(n_bars: int = 2520, n_assets: int = 500, seed: int = 1) -> pd.DataFrame:
    """Heavy-tailed factor model of daily returns."""
    rng = np.random.default_rng(seed)
    loads = rng.normal(0, 0.35, (n_assets, 8)) + np.r_[1.0, np.zeros(7)]
    factors = rng.standard_t(4, (n_bars, 8)) * 0.0057
    returns = 0.0004 + factors @ loads.T + rng.standard_t(4, (n_bars, n_assets)) * 0.009
    prices = 100 * np.cumprod(1 + np.clip(returns, -0.5, 0.5), axis=0)
    return pd.DataFrame(prices, pd.bdate_range("2013-01-01", periods=n_bars), [f"A{i:03d}" for i in range(n_assets)])


def slow_final(weights: np.ndarray, prices: np.ndarray) -> float:
    """Sequential self-financing loop: the definition."""
    equity, units, cash = 1.0, np.zeros(prices.shape[1]), 1.0
    for price, target in zip(prices, weights):
        held = units * price
        equity = cash + held.sum()
        k = 1.0
        for _ in range(12):
            k = 1.0 - FEES * np.abs(k * target - held / equity).sum()
        equity *= k
        units = target * equity / price
        cash = equity - (units * price).sum()
    return float(equity)


def cpu(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median process CPU time in seconds, and the last answer."""
    result, times = function(), []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return statistics.median(times), result


def peer(cases: dict[str, tuple[pd.DataFrame, np.ndarray]], repeats: int) -> dict[str, Any]:
    """The peer's times and final wealth, or why there are none."""
    python = os.environ.get("FOLIOCAST_PEERS_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases.npz"
        arrays = {f"{name}_prices": prices.to_numpy() for name, (prices, _) in cases.items()}
        arrays |= {f"{name}_weights": weights for name, (_, weights) in cases.items()}
        np.savez(path, fees=FEES, repeats=repeats, **arrays)
        done = subprocess.run([python, "-c", PEER, str(path)], capture_output=True, text=True)
    if done.returncode or not done.stdout.strip():
        return {"absent": (done.stderr.strip().splitlines() or ["no answer"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    from skfolio.datasets import load_sp500_dataset

    import foliocast as fc

    sp20 = load_sp500_dataset()
    cases = {"sp20": (sp20, momentum_weights(sp20))}
    syn = factor_prices()
    cases["syn500"] = (syn, momentum_weights(syn))
    repeats = int(os.environ.get("BENCH_REPEATS", "7"))
    other = peer(cases, repeats)
    for name, (prices, weights) in cases.items():
        frame = pd.DataFrame(weights, prices.index, prices.columns)
        seconds, result = cpu(lambda f=frame, p=prices: fc.backtest(f, p, fc.Costs(5), execution="same_close"), repeats)
        final = float(result.equity.iloc[-1])
        off = abs(final / slow_final(weights, prices.to_numpy()) - 1)
        line = f"backtest {prices.shape[0]}x{prices.shape[1]}: ours {1e3 * seconds:.2f} ms CPU, final {final:.6f} "
        line += f"(slow loop within {off:.0e})"
        if name in other:
            ratio = other[name]["seconds"] / seconds
            line += f"; vectorbt {other['version']} {1e3 * other[name]['seconds']:.1f} ms CPU, "
            line += f"final {other[name]['final']:.6f}; ratio {ratio:.1f}x"
        else:
            line += f"; vectorbt is absent, no ratio ({other['absent']}); name an interpreter in FOLIOCAST_PEERS_PYTHON"
        print(line)
    many = np.stack([momentum_weights(sp20.iloc[:2520], scale=s) for s in np.linspace(2, 12, 100)])
    seconds, _ = cpu(lambda: fc.backtest_many(many, sp20.iloc[:2520], execution="same_close"), 3)
    print(f"sweep 100 variants x 2520x20: ours {1e3 * seconds:.1f} ms CPU")


if __name__ == "__main__":
    main()
