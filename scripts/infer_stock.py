"""NVDA from GOOG + MSFT: the inpainted return, day by day and out of sample, beside regression and a t-copula.

    python scripts/infer_stock.py PRICES.parquet --start 2013-01-01 --out runs/inference

Prints one JSON line a model (CRPS in basis points, log score, slope of the actual on the inferred mean, coverage of the
90 % band, t of the Diebold-Mariano test of the diffusion model against it for both scores) and writes the inferred days
and the picture: the last quarter filled in at once, given the others' paths, and day by day. The pretrained model takes
part from the end of what it has seen.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import foliocast as fc
from foliocast.models.diffusion.inference import (
    calibration,
    cross_inference,
    inference_figure,
    inpainted_path,
    summary,
)
from foliocast.stats.volatility import VolatilityFilter


def regression_with_garch(
    returns: pd.DataFrame, target: str, given: list[str], times: pd.DatetimeIndex, train: int, refit: int, n: int
) -> pd.DataFrame:
    """Least squares on the others' returns of the day, GARCH(1,1) residuals resampled: the baseline to beat."""
    frame, rng, rows = returns[[target, *given]].dropna(), np.random.default_rng(0), {}
    for k, time in enumerate(times):
        t = frame.index.get_loc(time)
        past, today = frame.iloc[t - train : t], frame.iloc[t]
        design = np.column_stack([np.ones(len(past)), past[given].to_numpy()])
        if k % refit == 0:
            beta = np.linalg.lstsq(design, past[target].to_numpy(), rcond=None)[0]
            garch = VolatilityFilter("garch").fit((past[target].to_numpy() - design @ beta)[:, None])
        residual = (past[target].to_numpy() - design @ beta)[:, None]
        sigma, state = garch.filter(residual)
        draws = rng.choice(residual[:, 0] / sigma[:, 0], n) * garch.sigma(state)[0]
        mean = float(beta[0] + beta[1:] @ today[given].to_numpy())
        rows[time] = summary(mean + draws, float(today[target]))
    return pd.DataFrame.from_dict(rows, orient="index")


def diebold_mariano(a: pd.Series, b: pd.Series) -> float:
    """t of the mean difference of daily scores; negative where ``a`` is better, nan where they are the same."""
    gap = (a - b).to_numpy()
    spread = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else 0.0
    return float(gap.mean() / spread) if spread > 0 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="prices: a path or the name of a panel that holds the stocks")
    parser.add_argument("--target", default="NVDA")
    parser.add_argument("--given", default="GOOG,MSFT")
    parser.add_argument("--start", default="2013-01-01")
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--n", type=int, default=1000, help="scenarios a day")
    parser.add_argument("--window", type=int, default=63, help="last bars, filled in at once for the picture")
    parser.add_argument("--out", type=Path, default=Path("runs/inference"))
    args = parser.parse_args()
    given = args.given.split(",")
    returns = fc.load_panel(args.data).returns()[[args.target, *given]].dropna()
    models: dict[str, Any] = {
        "diffusion": fc.DiffusionScenarios(),
        "diffusion unet": fc.DiffusionScenarios("unet"),
        "FHS blend + correlation": fc.FilteredHistoricalSimulation("blend", "ewma"),
        "t copula": fc.StudentTCopula(),
    }
    walk = {"refit": 252, "train": args.train, "n_scenarios": args.n, "every": args.every}
    tables = {
        name: cross_inference(model, returns, args.target, given, args.start, **walk) for name, model in models.items()
    }
    times = tables["diffusion"].index
    refit = max(1, 252 // args.every)
    tables["regression + GARCH"] = regression_with_garch(returns, args.target, given, times, args.train, refit, args.n)
    report(tables)
    packaged = fc.PretrainedScenarios()
    unseen = times[times > packaged.knowledge_until_ + pd.Timedelta(days=5)]
    if len(unseen):
        alone = cross_inference(packaged, returns, args.target, given, unseen[0], **walk)
        report({"pretrained": alone} | {name: table.loc[alone.index] for name, table in tables.items()})
    args.out.mkdir(parents=True, exist_ok=True)
    tables["diffusion"].to_csv(args.out / "inference.csv")
    start = returns.index[-min(args.window, len(returns))]
    path = inpainted_path(models["diffusion"], returns, args.target, given, start, args.window, args.train, args.n)
    figure = inference_figure(tables["diffusion"], path, returns, args.target, given)
    figure.write_html(args.out / "inference.html", include_plotlyjs=True)


def report(tables: dict[str, pd.DataFrame]) -> None:
    """A JSON line for each model; the tests are of the first against it."""
    ours = next(iter(tables.values()))
    for name, table in tables.items():
        row = calibration(table)
        row |= {"crps_bps": 1e4 * row.pop("crps")}
        tests = {f"t_{key}": diebold_mariano(ours[key], table[key]) for key in ("crps", "log_score")}
        days = {"from": str(table.index[0].date()), "to": str(table.index[-1].date()), "days": len(table)}
        print(json.dumps({"model": name} | days | {k: round(v, 3) for k, v in (row | tests).items()}), flush=True)


if __name__ == "__main__":
    main()
