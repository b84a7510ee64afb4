"""The basket experiment: LSTM forecasts for five technology stocks, dynamic weights, every baseline, and the index.

    python benchmarks/bench_basket.py [--data NAME|PATH] [--out runs] [--jobs 1] [--test 63]
        [--resume RUN] [--figure FILE.svg]

Runs the packaged config lstm_basket on AAPL, MSFT, AMZN, GOOG and META (default: the embedded daily closes, 2013-2022)
and prints two Markdown tables: realised results net of costs with 95 % intervals, and forecast errors beside
persistence.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import foliocast as fc
from foliocast.core.errors import DataError
from foliocast.runtime.compute import one_thread
from foliocast.stats.bootstrap import headlines
from foliocast.workflows.backtest import resume, run
from foliocast.workflows.config import load_config

FIVE = ["AAPL", "MSFT", "AMZN", "GOOG", "META"]
SHOWN = ("sharpe", "annual_return", "volatility", "max_drawdown", "turnover", "cost")


def index_row(dates: pd.DatetimeIndex) -> dict[str, Any] | None:
    """The S&P 500 index bought at the first date and held, for 5 bps; None where the sample does not reach."""
    try:
        close = fc.load_panel("sample:index").between(dates[0], dates[-1]).close()
    except DataError:
        return None
    if len(close.index.intersection(dates)) < 0.99 * len(dates):
        return None
    weights = pd.DataFrame(1.0, close.index[:1], close.columns)
    held = fc.backtest(weights, close, fc.Costs(commission_bps=5.0), "same_close")
    returns = held.returns.to_frame("index")
    flows = {key: getattr(held, key).iloc[1:].to_frame("index") for key in ("turnover", "cost")}
    found = headlines(returns, flows=flows, rng=0)["index"]
    return {key: interval._asdict() for key, interval in found.items()}


def results(metrics: dict[str, Any]) -> str:
    """Realised results, the highest Sharpe ratio first."""
    lines = [
        "| strategy | Sharpe (95 % interval) | deflated | return a year | volatility | drawdown | turnover | cost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, m in sorted(metrics.items(), key=lambda item: -item[1]["sharpe"]["value"]):
        s, deflated = m["sharpe"], m.get("deflated_sharpe")
        r, v, d, turnover, cost = (m[key]["value"] for key in SHOWN[1:])
        low, high = m["annual_return"]["low"], m["annual_return"]["high"]
        lines.append(
            f"| {name} | {s['value']:.2f} ({s['low']:.2f} to {s['high']:.2f}) "
            f"| {'' if deflated is None else format(deflated, '.2f')} | {r:.1%} ({low:.1%} to {high:.1%}) | {v:.1%} "
            f"| {d:.1%} | {turnover:.1f} | {cost:.2%} |"
        )
    return "\n".join(lines)


def errors(found: dict[str, Any]) -> str:
    """Errors of the predicted next close, in dollars (MAPE as a fraction), beside those of "no change"."""
    lines = [
        "| forecaster | MAE | MSE | RMSE | MAPE | rank IC (s.e.) | n |",
        "|---|---|---|---|---|---|---|",
    ]
    persistence = next(iter(found.values()))["persistence"]
    rows = {"persistence": {**persistence, "rank_ic": None, "n": next(iter(found.values()))["n"]}, **found}
    for name, f in rows.items():
        ic = f["rank_ic"]
        text = "" if ic is None else f"{ic['value']:+.3f} ({ic['standard_error']:.3f})"
        lines.append(
            f"| {name} | {f['mae']:.4f} | {f['mse']:.4f} | {f['rmse']:.4f} | {f['mape']:.4%} | {text} | {f['n']} |"
        )
    return "\n".join(lines)


def figure(metrics: dict[str, Any]) -> str:
    """Sharpe ratios and their intervals as a self-contained SVG."""
    rows = sorted(metrics.items(), key=lambda item: -item[1]["sharpe"]["value"])
    low = min(0.0, *(m["sharpe"]["low"] for _, m in rows))
    high = max(m["sharpe"]["high"] for _, m in rows)
    height, left, width = 26 * len(rows) + 50, 170, 720

    def x(value: float) -> float:
        return left + (width - left - 20) * (value - low) / (high - low)

    parts = [f'<line x1="{x(0):.0f}" x2="{x(0):.0f}" y1="10" y2="{height - 30}" stroke="#888"/>']
    for tick in np.arange(np.ceil(low * 2) / 2, high, 0.5):
        parts.append(f'<text x="{x(tick):.0f}" y="{height - 12}" text-anchor="middle">{tick:.1f}</text>')
    for k, (name, m) in enumerate(rows):
        s, y = m["sharpe"], 24 + 26 * k
        colour = "#9aa3b2" if m.get("baseline", True) else "#4a74f5"
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{name}</text>')
        ends = f'x1="{x(s["low"]):.0f}" x2="{x(s["high"]):.0f}"'
        parts.append(f'<line {ends} y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<circle cx="{x(s["value"]):.0f}" cy="{y}" r="5" fill="{colour}"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="#fff"/><title>Annual Sharpe ratio net of costs, 95 % '
        f"intervals</title>{''.join(parts)}</svg>\n"
    )


def main() -> None:
    """Run the experiment and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample:all")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--test", type=int, default=63, help="bars between two fits")
    parser.add_argument("--resume", type=Path, help="go on with this run folder")
    parser.add_argument("--figure", type=Path)
    wish = parser.parse_args()
    one_thread()
    started = time.process_time()
    config = load_config("lstm_basket")
    data = config.data.model_copy(update={"source": wish.data, "assets": FIVE})
    schedule = config.schedule.model_copy(update={"test": wish.test})
    config = config.model_copy(update={"data": data, "schedule": schedule, "name": "basket"})
    if wish.resume is None:
        done = run(config, wish.out, jobs=wish.jobs)
    else:
        done = resume(wish.resume, wish.out, jobs=wish.jobs)
    metrics = dict(done.metrics["strategies"])
    index = index_row(pd.DatetimeIndex(pd.read_parquet(done.folder / "equity.parquet").index))
    if index is not None:
        metrics["index"] = index
    print(results(metrics), "\n")
    print(errors(done.metrics["forecasts"]), "\n")
    days = next(iter(done.metrics["strategies"].values()))["n_days"]
    print(
        f"{days} scored days; audit {'passed' if done.metrics['audit']['passed'] else 'FAILED'}; "
        f"{done.metrics['trials']} trials on these data; PBO {done.metrics['pbo']}; SPA {done.metrics['spa']}; "
        f"{time.process_time() - started:.0f} CPU seconds; {done.folder}"
    )
    if wish.figure is not None:
        wish.figure.write_text(figure(metrics), encoding="utf-8")


if __name__ == "__main__":
    main()
